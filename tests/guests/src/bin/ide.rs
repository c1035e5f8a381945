//! The CD-ROM drive on IDE (ATA/ATAPI-6; MMC-3; SFF-8038i): identification, reads by PIO and by
//! bus-master DMA, errors, interrupts.

#![no_std]
#![no_main]

use conformance::clock::until;
use conformance::cpu::{inb, inl, inw, outb, outw, peek, poke};
use conformance::ide::{
    ABORTED, BUSY, BusMaster, CONTROL, DATA_REQUEST, Drive, ERROR, IDENTIFY, NO_INTERRUPTS,
};
use conformance::pic;
use conformance::report::{check, equal, fail};

conformance::topic!(run);

const SECTOR: usize = 2048;
/// The volume descriptor of an ISO 9660 file system.
const VOLUME_DESCRIPTOR: u32 = 16;

/// The signature that a packet device shows in the cylinder registers.
const SIGNATURE: [u8; 2] = [0x14, 0xeb];

const IDENTIFY_PACKET: u8 = 0xa1;
const PACKET: u8 = 0xa0;
const DEVICE_RESET: u8 = 0x08;

const TEST_UNIT_READY: [u8; 12] = [0; 12];

/// Where the bus master finds its descriptors, and where it puts a sector.
const TABLE: u32 = 0x20_0000;
const BUFFER: u32 = 0x21_0000;

/// The registers and commands of packet devices alone.
trait PacketDevice: Sized {
    fn interrupt_reason(self) -> u8;
    fn byte_count(self) -> u16;
    /// Sends a command packet; `feature` 1 asks for DMA.
    fn send_packet(self, packet: [u8; 12], limit: u16, feature: u8);
    /// A packet command that gives data, in blocks of at most `limit` bytes: the data's length, and
    /// the status at the end.
    fn read(self, packet: [u8; 12], limit: u16, into: &mut [u8]) -> (usize, u8);
    /// Lets it report what happened to it before, until it says that it is ready.
    fn settle(self);
    /// The sense key and the additional sense code of the last error.
    fn sense(self) -> (u8, u8);
}

impl PacketDevice for Drive {
    fn interrupt_reason(self) -> u8 {
        inb(self.command + 2) & 3
    }

    fn byte_count(self) -> u16 {
        u16::from_le_bytes([inb(self.command + 4), inb(self.command + 5)])
    }

    fn send_packet(self, packet: [u8; 12], limit: u16, feature: u8) {
        outb(self.command + 6, self.select);
        outb(self.command + 1, feature);
        let [low, high] = limit.to_le_bytes();
        outb(self.command + 4, low);
        outb(self.command + 5, high);
        outb(self.command + 7, PACKET);
        until(|| self.status() & (BUSY | DATA_REQUEST) == DATA_REQUEST);
        for pair in packet.chunks_exact(2) {
            outw(self.command, u16::from_le_bytes([pair[0], pair[1]]));
        }
    }

    fn read(self, packet: [u8; 12], limit: u16, into: &mut [u8]) -> (usize, u8) {
        self.send_packet(packet, limit, 0);
        let mut length = 0;
        loop {
            let status = self.wait();
            if status & DATA_REQUEST == 0 {
                return (length, status);
            }
            let block = usize::from(self.byte_count());
            for _ in 0..block / 2 {
                let word = inw(self.command).to_le_bytes();
                if let Some(place) = into.get_mut(length..length + 2) {
                    place.copy_from_slice(&word);
                }
                length += 2;
            }
        }
    }

    fn settle(self) {
        until(|| self.read(TEST_UNIT_READY, 512, &mut []).1 & ERROR == 0);
    }

    fn sense(self) -> (u8, u8) {
        let mut data = [0; 18];
        self.read([0x03, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0], 18, &mut data);
        (data[2] & 0xf, data[12])
    }
}

fn read_10(sector: u32, count: u8) -> [u8; 12] {
    let [a, b, c, d] = sector.to_be_bytes();
    [0x28, 0, a, b, c, d, 0, 0, count, 0, 0, 0]
}

fn run() {
    pic::set_up();
    let Some(drive) = Drive::find(SIGNATURE) else {
        return fail("cdrom-drive", "none found");
    };
    identify(drive);
    errors(drive);
    information(drive);
    pio(drive);
    dma(drive);
    interrupts(drive);
}

fn identify(drive: Drive) {
    let status = drive.command(IDENTIFY);
    check("identify-is-for-disks", status & ERROR != 0 && drive.error() & ABORTED != 0);
    equal("signature-after-it", drive.signature(), SIGNATURE);
    let status = drive.command(IDENTIFY_PACKET);
    equal("identify-packet", status & (ERROR | DATA_REQUEST), DATA_REQUEST);
    let mut data = [0; 512];
    drive.read_words(&mut data);
    equal("identify-packet-is-one-block", drive.wait() & DATA_REQUEST, 0);
    let word = |index: usize| u16::from_le_bytes([data[2 * index], data[2 * index + 1]]);
    equal("identify-cdrom", word(0) & 0xdf03, 0x8500);
    equal("identify-lba-and-dma", word(49) & 0x300, 0x300);
    check("identify-model", data[54..94].iter().all(|byte| (b' '..=b'~').contains(byte)));
}

fn errors(drive: Drive) {
    let status = drive.command(0xff);
    check("unknown-command-is-aborted", status & ERROR != 0 && drive.error() & ABORTED != 0);
    drive.settle();
    let (length, status) = drive.read([0xd7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 512, &mut []);
    equal("unknown-packet-has-no-data", length, 0);
    equal("unknown-packet-is-an-error", status & ERROR, ERROR);
    equal("unknown-packet-sense-in-the-error-register", drive.error() >> 4, 5);
    equal("unknown-packet-sense", drive.sense(), (5, 0x20));
    let (_, status) = drive.read(read_10(0x00ff_ffff, 1), 2048, &mut []);
    equal("read-beyond-the-end-is-an-error", status & ERROR, ERROR);
    equal("read-beyond-the-end-sense", drive.sense(), (5, 0x21));
    let (_, status) = drive.read(TEST_UNIT_READY, 512, &mut []);
    equal("unit-is-ready", status & ERROR, 0);
    drive.command(DEVICE_RESET);
    equal("device-reset-leaves-the-signature", drive.signature(), SIGNATURE);
    drive.settle();
}

fn information(drive: Drive) {
    let mut inquiry = [0; 36];
    let (length, _) = drive.read([0x12, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0], 36, &mut inquiry);
    equal("inquiry-length", length, 36);
    equal("inquiry-of-a-removable-cdrom", [inquiry[0] & 0x1f, inquiry[1] & 0x80], [5, 0x80]);
    let mut capacity = [0; 8];
    drive.read([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8, &mut capacity);
    equal("block-length", &capacity[4..], &[0, 0, 8, 0]);
    let last = u32::from_be_bytes([capacity[0], capacity[1], capacity[2], capacity[3]]);
    let mut sector = [0; SECTOR];
    equal("last-block-can-be-read", drive.read(read_10(last, 1), 2048, &mut sector).1 & ERROR, 0);
    let (_, status) = drive.read(read_10(last + 1, 1), 2048, &mut sector);
    equal("block-after-it-cannot", status & ERROR, ERROR);
    drive.sense();
    let mut toc = [0; 20];
    drive.read([0x43, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0], 20, &mut toc);
    equal("toc-of-one-track", [toc[2], toc[3], toc[6], toc[14]], [1, 1, 1, 0xaa]);
    equal("toc-data-track", toc[5] & 0xf, 4);
}

fn pio(drive: Drive) {
    let mut sector = [0; SECTOR];
    let (length, status) = drive.read(read_10(VOLUME_DESCRIPTOR, 1), 2048, &mut sector);
    equal("pio-read", (length, status & ERROR), (SECTOR, 0));
    equal("pio-volume-descriptor", &sector[..6], b"\x01CD001");
    let mut again = [0; SECTOR];
    let (length, _) = drive.read(read_10(VOLUME_DESCRIPTOR, 1), 512, &mut again);
    equal("pio-read-in-small-blocks", length, SECTOR);
    check("pio-small-blocks-are-the-same", sector == again);
    drive.send_packet(read_10(VOLUME_DESCRIPTOR, 1), 512, 0);
    let status = drive.wait();
    equal(
        "pio-block-is-for-the-host",
        (status & DATA_REQUEST, drive.interrupt_reason()),
        (DATA_REQUEST, 2),
    );
    check("pio-block-within-the-limit", (2..=512).contains(&drive.byte_count()));
    let (mut left, mut blocks) = (SECTOR, 0);
    while drive.status() & DATA_REQUEST != 0 && blocks < SECTOR {
        let mut block = usize::from(drive.byte_count()).min(left);
        left -= block;
        blocks += 1;
        // Double words take words in turn.
        while block >= 4 {
            inl(drive.command);
            block -= 4;
        }
        drive.wait();
    }
    equal("pio-double-words", left, 0);
    equal("pio-command-is-over", drive.interrupt_reason(), 3);
}

fn dma(drive: Drive) {
    let Some(bus_master) = BusMaster::of(drive) else { return fail("bus-master", "there is none") };
    for index in 0..SECTOR as u64 {
        poke(u64::from(BUFFER) + index, 0xee_u8);
    }
    bus_master.prepare(TABLE, &[(BUFFER, 512), (BUFFER + 512, 1536)]);
    equal("descriptor-address-reads-back", inl(bus_master.port + 4), TABLE);
    equal("bus-master-at-rest", bus_master.status(), 0);
    outb(drive.control, CONTROL);
    drive.send_packet(read_10(VOLUME_DESCRIPTOR, 1), 2048, 1);
    bus_master.start(true);
    check("dma-interrupts", until(|| bus_master.status() & BusMaster::INTERRUPT != 0));
    let status = drive.wait();
    equal("dma-ends-without-error", status & (ERROR | DATA_REQUEST), 0);
    equal(
        "dma-bus-master-is-done",
        bus_master.status() & (BusMaster::ACTIVE | BusMaster::FAILED),
        0,
    );
    bus_master.stop();
    bus_master.clear();
    equal("dma-interrupt-cleared-by-a-one", bus_master.status() & BusMaster::INTERRUPT, 0);
    let mut sector = [0; SECTOR];
    drive.read(read_10(VOLUME_DESCRIPTOR, 1), 2048, &mut sector);
    let same = |(index, byte): (u64, &u8)| peek::<u8>(u64::from(BUFFER) + index) == *byte;
    check("dma-reads-what-pio-reads", (0..).zip(&sector).all(same));
}

fn interrupts(drive: Drive) {
    let requested = || drive.has_interrupt();
    drive.wait();
    pic::set_up();
    check("no-interrupt-at-rest", !requested());
    drive.send_packet(read_10(VOLUME_DESCRIPTOR, 1), 2048, 0);
    check("interrupt-when-data-is-ready", until(requested));
    // Reading the status lowers the line: without that the controllers, begun anew, would see no
    // edge.
    inb(drive.command + 7);
    pic::set_up();
    let mut sector = [0; SECTOR];
    drive.read_words(&mut sector);
    check("interrupt-when-the-command-is-over", until(requested));
    inb(drive.control);
    check("alternate-status-acknowledges-nothing", requested());
    drive.wait();
    outb(drive.control, NO_INTERRUPTS);
    drive.command(0xff);
    pic::set_up();
    drive.command(0xff);
    check("disabled-interrupts", !requested());
    outb(drive.control, CONTROL);
}
