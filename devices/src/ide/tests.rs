//! The IDE function as firmware and operating systems use it.

use super::*;
use crate::irq::LineProbe;
use crate::memory::TestMemory;
use alloc::vec;
use block::HeapDisk;
use proptest::prelude::*;

mod discs;
mod slow;

const CD_SECTORS: usize = 200;
const DISK_SECTORS: usize = 4096;
const PRD_TABLE: u32 = 0x1000;
const BUFFER: u32 = 0x1_0000;
const USER: User = User { id: 1, weight: 256 };

fn cd_image() -> Vec<u8> {
    (0..CD_SECTORS * 2048).map(|index| (index / 2048 * 7 + index) as u8).collect()
}

fn disk_image() -> Vec<u8> {
    (0..DISK_SECTORS * 512).map(|index| (index / 512 * 3 + index) as u8).collect()
}

struct Pc {
    ide: Ide,
    irqs: [Arc<LineProbe>; 2],
    memory: Arc<TestMemory>,
}

impl Pc {
    /// A disk as primary device 0, a CD-ROM drive as secondary device 0.
    fn new() -> Self {
        Self::with(Drive::Disk(Arc::new(HeapDisk::new(disk_image(), false))))
    }

    fn with(disk: Drive) -> Self {
        let cdrom = Drive::Cdrom(Some(Arc::new(HeapDisk::new(cd_image(), true))));
        let memory = TestMemory::new(0x8_0000);
        let ((probe_0, line_0), (probe_1, line_1)) = (LineProbe::wired(), LineProbe::wired());
        let ide =
            Ide::new([Some(disk), None, Some(cdrom), None], [line_0, line_1], memory.clone(), USER);
        Self { ide, irqs: [probe_0, probe_1], memory }
    }

    fn access(port: u16, size_bytes: u8) -> Access {
        let (region, offset) = match port {
            0x1f0..=0x1f7 => (PRIMARY_COMMAND, port - 0x1f0),
            0x3f6 => (PRIMARY_CONTROL, 0),
            0x170..=0x177 => (SECONDARY_COMMAND, port - 0x170),
            0x376 => (SECONDARY_CONTROL, 0),
            _ => (BUS_MASTER, port - 0xc000),
        };
        Access { region, offset: offset.into(), size_bytes }
    }

    fn inb(&self, port: u16) -> u8 {
        self.ide.pio_read(Self::access(port, 1)).expect("a decoded port") as u8
    }

    fn outb(&self, port: u16, value: u8) {
        self.ide.pio_write(Self::access(port, 1), value.into());
    }

    fn outl(&self, port: u16, value: u32) {
        self.ide.pio_write(Self::access(port, 4), value);
    }

    fn insw(&self, port: u16, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        assert_eq!(self.ide.pio_read_string(Self::access(port, 2), &mut data), bytes);
        data
    }

    fn insl(&self, port: u16, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        assert_eq!(self.ide.pio_read_string(Self::access(port, 4), &mut data), bytes);
        data
    }

    fn outsw(&self, port: u16, data: &[u8]) {
        assert_eq!(self.ide.pio_write_string(Self::access(port, 2), data), data.len());
    }

    /// Writes the command block (features to device), then the command.
    fn command(&self, base: u16, registers: [u8; 6], code: u8) {
        for (port, value) in (base + 1..).zip(registers) {
            self.outb(port, value);
        }
        self.outb(base + 7, code);
    }

    /// A PACKET command whose data is moved by PIO in blocks of at most `limit`; returns the data.
    fn packet(&self, packet: &[u8], limit: u16) -> Result<Vec<u8>, u8> {
        let mut full = [0; 12];
        full[..packet.len()].copy_from_slice(packet);
        let [low, high] = limit.to_le_bytes();
        self.command(0x170, [0, 0, 0, low, high, 0xa0], 0xa0);
        assert_eq!((self.inb(0x177), self.inb(0x172) & 7), (0x58, 1));
        self.outsw(0x170, &full);
        let mut data = Vec::new();
        loop {
            let status = self.inb(0x376);
            assert_eq!(status & 0x80, 0, "busy");
            if status & 0x08 == 0 {
                assert_eq!(self.inb(0x172) & 7, 3);
                assert!(self.irqs[1].is_high());
                let status = self.inb(0x177);
                assert!(!self.irqs[1].is_high());
                return if status & 1 == 0 { Ok(data) } else { Err(self.inb(0x171)) };
            }
            assert_eq!(self.inb(0x172) & 7, 2);
            assert!(self.irqs[1].is_high());
            self.inb(0x177);
            let count = u16::from_le_bytes([self.inb(0x174), self.inb(0x175)]);
            assert!(count > 0 && count <= limit);
            data.extend(self.insw(0x170, count.into()));
        }
    }

    fn settle_cdrom(&self) {
        assert_eq!(self.packet(&[0x00], 0), Err(0x60));
        assert_eq!(
            self.packet(&[0x03, 0, 0, 0, 18], 18).map(|sense| (sense[2], sense[12])),
            Ok((6, 0x29))
        );
        assert_eq!(self.packet(&[0x00], 0), Ok(vec![]));
    }

    fn prd(&self, entries: &[(u32, u32)]) {
        for (index, (gpa, length)) in entries.iter().enumerate() {
            let last = if index + 1 == entries.len() { 1 << 31 } else { 0 };
            let entry = u64::from(*gpa) | u64::from(length & 0xffff | last) << 32;
            let at = u64::from(PRD_TABLE) + index as u64 * 8;
            GuestMemory::write(&*self.memory, at, &entry.to_le_bytes()).expect("RAM");
        }
    }

    fn ram(&self, gpa: u32, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        GuestMemory::read(&*self.memory, gpa.into(), &mut data).expect("RAM");
        data
    }
}

fn words(page: &[u8]) -> Vec<u16> {
    page.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[test]
fn seabios_finds_a_cd_rom_drive_and_reads_by_pio() {
    let pc = Pc::new();
    // Software reset with interrupts off, as SeaBIOS does it.
    pc.outb(0x376, 0x0e);
    assert_eq!(pc.inb(0x376) & 0x80, 0x80);
    pc.outb(0x376, 0x0a);
    pc.outb(0x376, 0x08);
    pc.outb(0x176, 0xa0);
    assert_eq!(pc.inb(0x177), 0);
    pc.outb(0x172, 0x55);
    pc.outb(0x173, 0xaa);
    assert_eq!((pc.inb(0x172), pc.inb(0x173), pc.inb(0x176)), (0x55, 0xaa, 0xa0));
    pc.command(0x170, [0, 0, 0, 0, 0, 0xa0], 0xec);
    assert_eq!((pc.inb(0x177) & 0x89, pc.inb(0x174), pc.inb(0x175)), (1, 0x14, 0xeb));
    pc.command(0x170, [0, 0, 0, 0, 0, 0xa0], 0xa1);
    assert_eq!(pc.inb(0x172) & 3, 2, "data, to the host");
    assert_eq!(pc.inb(0x177), 0x58);
    let page = words(&pc.insl(0x170, 512));
    assert_eq!(page[0], 0x85c0);
    assert_eq!(page[27].to_be_bytes(), *b"BU");
    assert_eq!(pc.inb(0x177), 0x50);

    pc.settle_cdrom();
    let capacity = pc.packet(&[0x25], 8).expect("a medium");
    assert_eq!(capacity, [0, 0, 0, 199, 0, 0, 8, 0]);
    let image = cd_image();
    let data = pc.packet(&[0x28, 0, 0, 0, 0, 16, 0, 0, 40, 0], 2048).expect("data");
    assert_eq!(data, image[16 * 2048..56 * 2048]);
    let data = pc.packet(&[0xa8, 0, 0, 0, 0, 150, 0, 0, 0, 50], 0xffff).expect("data");
    assert_eq!(data, image[150 * 2048..]);
    assert_eq!(pc.packet(&[0x28, 0, 0, 0, 0, 199, 0, 0, 2, 0], 2048), Err(0x50));
    let sense = pc.packet(&[0x03, 0, 0, 0, 18], 18).expect("sense");
    assert_eq!((sense[2], sense[12]), (5, 0x21));
}

#[test]
fn an_absent_drive_reads_zeroes_and_an_empty_channel_floats() {
    let pc = Pc::new();
    pc.outb(0x1f6, 0xb0);
    assert_eq!((pc.inb(0x1f7), pc.inb(0x3f6), pc.inb(0x1f1)), (0, 0, 0));
    pc.outb(0x1f7, 0xec);
    assert_eq!(pc.inb(0x1f7), 0);
    assert_eq!(pc.irqs[0].take_edges(), 0);
    let memory = TestMemory::new(16);
    let empty = Ide::new(
        [None, None, None, None],
        [IrqLine::detached(), IrqLine::detached()],
        memory,
        USER,
    );
    empty.pio_write(Pc::access(0x1f2, 1), 0x55);
    for port in 0x1f1..=0x1f7 {
        assert_eq!(empty.pio_read(Pc::access(port, 1)).map(|value| value as u8), Some(0x7f));
    }
}

#[test]
fn linux_identifies_a_disk_and_reads_and_writes_by_dma() {
    let pc = Pc::new();
    // Device check, software reset, classification.
    pc.outb(0x1f6, 0xa0);
    pc.outb(0x1f2, 0x55);
    pc.outb(0x1f3, 0xaa);
    assert_eq!((pc.inb(0x1f2), pc.inb(0x1f3)), (0x55, 0xaa));
    for control in [0x08, 0x0c, 0x08] {
        pc.outb(0x3f6, control);
    }
    assert_eq!((pc.inb(0x1f1), pc.inb(0x1f2), pc.inb(0x1f3)), (1, 1, 1));
    assert_eq!((pc.inb(0x1f4), pc.inb(0x1f5), pc.inb(0x1f7)), (0, 0, 0x50));
    pc.command(0x1f0, [0, 0, 0, 0, 0, 0xa0], 0xec);
    assert!(pc.irqs[0].is_high());
    assert_eq!(pc.inb(0x1f7), 0x58);
    assert!(!pc.irqs[0].is_high());
    let page = words(&pc.insw(0x1f0, 512));
    assert_eq!(u64::from(page[60]) | u64::from(page[61]) << 16, DISK_SECTORS as u64);
    assert_eq!(page[83] & 0xc000, 0x4000);
    // Supported and enabled (ATA/ATAPI-7, IDENTIFY DEVICE): NOP, write cache; 48-bit addresses,
    // both flushes; writes with FUA.
    assert_eq!((page[82], page[83] & 0x3fff), (0x4020, 0x3400));
    assert_eq!((page[85], page[86]), (0x4020, 0x3400));
    assert_eq!((page[84], page[87]), (0x4040, 0x4040));
    assert_eq!(pc.inb(0x1f7), 0x50);
    pc.command(0x1f0, [0x03, 0x45, 0, 0, 0, 0xa0], 0xef);
    assert_eq!(pc.inb(0x1f7), 0x50);
    pc.command(0x1f0, [0, 0, 0, 0, 0, 0xa0], 0xec);
    assert_eq!(words(&pc.insw(0x1f0, 512))[88], 0x203f);
    pc.inb(0x1f7);

    // READ DMA EXT of 300 sectors from 1000 on, into three regions.
    pc.prd(&[(BUFFER, 0), (BUFFER + 0x1_0000, 0), (BUFFER + 0x2_0000, 300 * 512 - 0x2_0000)]);
    pc.outl(0xc004, PRD_TABLE);
    pc.outb(0xc000, 0x08);
    pc.outb(0xc002, 0x06);
    for (port, high, low) in [(0x1f2, 1, 44), (0x1f3, 0, 232), (0x1f4, 0, 3), (0x1f5, 0, 0)] {
        pc.outb(port, high);
        pc.outb(port, low);
    }
    pc.outb(0x1f6, 0xe0);
    pc.outb(0x1f7, 0x25);
    assert_eq!(pc.inb(0x3f6) & 0x80, 0x80);
    assert!(!pc.irqs[0].is_high());
    pc.outb(0xc000, 0x09);
    assert!(pc.irqs[0].is_high());
    assert_eq!(pc.inb(0xc002) & 7, 4);
    pc.outb(0xc000, 0x08);
    assert_eq!(pc.inb(0x1f7), 0x50);
    assert_eq!(pc.ram(BUFFER, 300 * 512), disk_image()[1000 * 512..1300 * 512]);

    // WRITE DMA of the same data to the start of the disk; then READ SECTORS.
    pc.outb(0xc002, 0x06);
    pc.command(0x1f0, [0, 2, 0, 0, 0, 0xe0], 0xca);
    pc.prd(&[(BUFFER, 1024)]);
    pc.outb(0xc000, 0x01);
    assert_eq!((pc.inb(0xc002) & 7, pc.inb(0x1f7)), (4, 0x50));
    pc.outb(0xc000, 0x00);
    pc.command(0x1f0, [0, 2, 1, 0, 0, 0xa0], 0x20);
    assert_eq!(pc.insw(0x1f0, 1024), disk_image()[1000 * 512..1002 * 512]);
}

#[test]
fn cd_rom_sectors_arrive_by_dma() {
    let pc = Pc::new();
    pc.settle_cdrom();
    pc.prd(&[(BUFFER, 0x8000), (BUFFER + 0x8000, 0x8000), (BUFFER + 0x1_0000, 0x4000)]);
    pc.outl(0xc00c, PRD_TABLE);
    pc.outb(0xc008, 0x08);
    pc.command(0x170, [1, 0, 0, 0, 0, 0xa0], 0xa0);
    pc.outsw(0x170, &[0x28, 0, 0, 0, 0, 3, 0, 0, 40, 0, 0, 0]);
    pc.outb(0xc008, 0x09);
    assert_eq!((pc.inb(0xc00a) & 7, pc.inb(0x177), pc.inb(0x172) & 7), (4, 0x50, 3));
    assert_eq!(pc.ram(BUFFER, 40 * 2048), cd_image()[3 * 2048..43 * 2048]);
}

#[test]
fn a_table_that_does_not_fit_ends_the_transfer() {
    let pc = Pc::new();
    pc.outl(0xc004, PRD_TABLE);
    // Too short: inactive, no interrupt.
    pc.prd(&[(BUFFER, 512)]);
    pc.command(0x1f0, [0, 2, 0, 0, 0, 0xe0], 0xc8);
    pc.outb(0xc000, 0x09);
    assert_eq!(pc.inb(0xc002) & 7, 0);
    assert!(!pc.irqs[0].is_high());
    pc.outb(0xc000, 0);
    // Too long: still active, interrupt.
    pc.prd(&[(BUFFER, 4096)]);
    pc.command(0x1f0, [0, 2, 0, 0, 0, 0xe0], 0xc8);
    pc.outb(0xc000, 0x09);
    assert_eq!(pc.inb(0xc002) & 7, 5);
    pc.outb(0xc000, 0);
    pc.outb(0xc002, 4);
    assert_eq!(pc.inb(0xc002) & 7, 0);
    // Nowhere: error and interrupt.
    pc.prd(&[(0xf000_0000, 1024)]);
    pc.command(0x1f0, [0, 2, 0, 0, 0, 0xe0], 0xc8);
    pc.outb(0xc000, 0x09);
    assert_eq!(pc.inb(0xc002) & 7, 6);
    assert_eq!((pc.inb(0x1f7), pc.inb(0x1f1)), (0x51, 4));
}

#[test]
fn multiple_sectors_are_written_and_read_back_with_chs() {
    let pc = Pc::new();
    pc.command(0x1f0, [0, 8, 0, 0, 0, 0xa0], 0xc6);
    let data: Vec<u8> = (0..20 * 512).map(|index| (index % 251) as u8).collect();
    pc.irqs[0].take_edges();
    // Cylinder 1, head 2, sector 5.
    pc.command(0x1f0, [0, 20, 5, 1, 0, 0xa2], 0xc5);
    assert_eq!(pc.irqs[0].take_edges(), 0);
    for (block, edges) in data.chunks(8 * 512).zip([1, 1, 1]) {
        assert_eq!(pc.inb(0x1f7), 0x58);
        pc.outsw(0x1f0, block);
        assert_eq!(pc.irqs[0].take_edges(), edges);
    }
    assert_eq!(pc.inb(0x1f7), 0x50);
    let lba = (16 + 2) * 63 + 4u32;
    let [low, mid, high, _] = lba.to_le_bytes();
    pc.command(0x1f0, [0, 20, low, mid, high, 0xe0], 0xc4);
    assert_eq!(pc.irqs[0].take_edges(), 1);
    assert_eq!(pc.insl(0x1f0, 20 * 512), data);
    pc.command(0x1f0, [0, 3, 0, 0, 0, 0xa0], 0xc6);
    assert_eq!((pc.inb(0x1f7), pc.inb(0x1f1)), (0x51, 4));
    pc.command(0x1f0, [0, 1, 0, 0x10, 0, 0xe0], 0x20);
    assert_eq!((pc.inb(0x1f7), pc.inb(0x1f1)), (0x51, 0x10));
}

#[test]
fn commands_without_data() {
    let pc = Pc::new();
    for code in [0x10, 0x70, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0xe7, 0xea] {
        pc.command(0x1f0, [0, 1, 1, 0, 0, 0xe0], code);
        assert!(pc.irqs[0].is_high());
        assert_eq!(pc.inb(0x1f7), 0x50);
    }
    pc.command(0x1f0, [0, 0, 0, 0, 0, 0xe0], 0xf8);
    assert_eq!((pc.inb(0x1f3), pc.inb(0x1f4), pc.inb(0x1f5), pc.inb(0x1f6)), (0xff, 0x0f, 0, 0xe0));
    pc.command(0x1f0, [0, 0, 0, 0, 0, 0xa0], 0x90);
    assert_eq!((pc.inb(0x1f1), pc.inb(0x1f7)), (1, 0x50));
    for code in [0x00, 0x08, 0xa0, 0xa1, 0xb0, 0xff] {
        pc.command(0x1f0, [0, 0, 0, 0, 0, 0xa0], code);
        assert_eq!((pc.inb(0x1f7), pc.inb(0x1f1)), (0x51, 4));
    }
    // With nIEN no interrupt comes.
    pc.irqs[0].take_edges();
    pc.outb(0x3f6, 0x0a);
    pc.outb(0x1f7, 0xe7);
    assert_eq!(pc.irqs[0].take_edges(), 0);
}

#[test]
fn installers_ask_the_drive_about_its_disc() {
    let pc = Pc::new();
    assert_eq!(pc.packet(&[0x12, 0, 0, 0, 36], 36).map(|inquiry| inquiry[0]), Ok(5));
    pc.settle_cdrom();
    let toc = pc.packet(&[0x43, 0, 0, 0, 0, 0, 0, 0, 100], 100).expect("a table of contents");
    assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0, 200]);
    let toc = pc.packet(&[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 12], 12).expect("a table of contents");
    assert_eq!(toc[4..], [0, 0x14, 0xaa, 0, 0, 0, 4, 50]);
    let capabilities = pc.packet(&[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128], 128).expect("a mode page");
    assert_eq!((capabilities.len(), capabilities[1], capabilities[8]), (30, 28, 0x2a));
    let configuration = pc.packet(&[0x46, 0, 0, 0, 0, 0, 0, 0, 255], 255).expect("a configuration");
    assert_eq!(configuration[6..8], [0, 8]);
    assert_eq!(usize::from(configuration[3]) + 4, configuration.len());
    let event = pc.packet(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], 8).expect("an event");
    assert_eq!(event, [0, 6, 4, 0x10, 0, 2, 0, 0]);
    assert_eq!(pc.packet(&[0x51, 0, 0, 0, 0, 0, 0, 0, 34], 34).map(|disc| disc.len()), Ok(34));
    assert_eq!(pc.packet(&[0x52, 1, 0, 0, 0, 1, 0, 0, 36], 36).map(|track| track[27]), Ok(200));
    // By an address it is the track that has it.
    let track_at = |sector| pc.packet(&[0x52, 0, 0, 0, 0, sector, 0, 0, 36], 36);
    assert_eq!(track_at(199).map(|track| track[2]), Ok(1));
    assert_eq!(track_at(200), Err(0x50));
    let raw = pc.packet(&[0xbe, 0, 0, 0, 0, 20, 0, 0, 40, 0xf8], 2352).expect("raw sectors");
    assert_eq!(raw.len(), 40 * 2352);
    for (index, sector) in raw.chunks(2352).enumerate() {
        assert_eq!(sector[12..16], [0, 2, 20 + index as u8, 1]);
        assert_eq!(sector[16..2064], cd_image()[(20 + index) * 2048..(21 + index) * 2048]);
    }
    assert_eq!(pc.packet(&[0xff], 0), Err(0x54));
    // No room for data: the command is aborted, not failed.
    pc.command(0x170, [0, 0, 0, 0, 0, 0xa0], 0xa0);
    pc.outsw(0x170, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((pc.inb(0x177) & 1, pc.inb(0x171)), (1, 4));
}

/// A block that is not the last has an even length (ATA/ATAPI-4, PACKET), and here whole sectors.
#[test]
fn blocks_of_a_packet_command_end_with_a_sector() {
    let pc = Pc::new();
    pc.settle_cdrom();
    let thousands: [u16; 9] = [1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 192];
    for (limit, expected) in [(5000_u16, &[4096, 4096][..]), (1001, &thousands), (8192, &[8192])] {
        let [low, high] = limit.to_le_bytes();
        pc.command(0x170, [0, 0, 0, low, high, 0xa0], 0xa0);
        pc.outsw(0x170, &[0x28, 0, 0, 0, 0, 3, 0, 0, 4, 0, 0, 0]);
        for count in expected {
            assert_eq!(u16::from_le_bytes([pc.inb(0x174), pc.inb(0x175)]), *count, "of {limit}");
            pc.insw(0x170, (*count).into());
        }
    }
}

#[test]
fn a_tray_can_be_locked_opened_and_closed() {
    let pc = Pc::new();
    pc.settle_cdrom();
    assert_eq!(pc.packet(&[0x1e, 0, 0, 0, 1], 0), Ok(vec![]));
    assert_eq!(pc.packet(&[0x1b, 0, 0, 0, 2], 0), Err(0x50));
    assert_eq!(pc.packet(&[0x1e, 0, 0, 0, 0], 0), Ok(vec![]));
    assert_eq!(pc.packet(&[0x1b, 0, 0, 0, 2], 0), Ok(vec![]));
    assert_eq!(pc.packet(&[0x00], 0), Err(0x20));
    assert_eq!(pc.packet(&[0x25], 8), Err(0x20));
    assert_eq!(pc.packet(&[0x1b, 0, 0, 0, 3], 0), Ok(vec![]));
    assert_eq!(pc.packet(&[0x00], 0), Err(0x60));
    assert_eq!(pc.packet(&[0x00], 0), Ok(vec![]));
}

const PORTS: [u16; 34] = [
    0x1f0, 0x1f1, 0x1f2, 0x1f3, 0x1f4, 0x1f5, 0x1f6, 0x1f7, 0x3f6, 0x170, 0x171, 0x172, 0x173,
    0x174, 0x175, 0x176, 0x177, 0x376, 0xc000, 0xc001, 0xc002, 0xc003, 0xc004, 0xc005, 0xc006,
    0xc007, 0xc008, 0xc009, 0xc00a, 0xc00b, 0xc00c, 0xc00d, 0xc00e, 0xc00f,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any writes of a guest, a software reset brings the devices back, and a sector reads
    /// true.
    #[test]
    fn no_sequence_of_accesses_breaks_the_devices(
        accesses in prop::collection::vec((0..PORTS.len(), 0u8..3, any::<u32>(), 0u8..3), 0..400),
        commands in prop::collection::vec((0usize..400, any::<u8>()), 0..40),
    ) {
        let pc = Pc::new();
        let commands: alloc::collections::BTreeMap<usize, u8> = commands.into_iter().collect();
        for (index, (port, size, value, kind)) in accesses.into_iter().enumerate() {
            let access = Pc::access(PORTS[port], 1 << size);
            match kind {
                0 => {
                    pc.ide.pio_read(access);
                }
                1 => pc.ide.pio_write(access, value),
                _ => {
                    let mut data = vec![value as u8; (value as usize >> 8) % 1100];
                    pc.ide.pio_write_string(access, &data);
                    pc.ide.pio_read_string(access, &mut data);
                }
            }
            if let Some(&code) = commands.get(&index) {
                let base = if code & 1 == 0 { 0x1f0 } else { 0x170 };
                pc.outb(base + 7, if value & 1 == 0 { 0xa0 } else { code });
            }
        }
        for control in [0x3f6, 0x376] {
            pc.outb(control, 0x00);
            pc.outb(control, 0x04);
            pc.outb(control, 0x00);
        }
        assert_eq!((pc.inb(0x1f7), pc.inb(0x177)), (0x50, 0x00));
        assert_eq!((pc.inb(0x174), pc.inb(0x175)), (0x14, 0xeb));
        pc.command(0x1f0, [0, 1, 9, 0, 0, 0xe0], 0x30);
        pc.outsw(0x1f0, &[0x77; 512]);
        pc.command(0x1f0, [0, 1, 9, 0, 0, 0xe0], 0x20);
        assert_eq!(pc.insw(0x1f0, 512), [0x77; 512]);
        let _ = pc.packet(&[0x03, 0, 0, 0, 18], 18);
        let _ = pc.packet(&[0x1b, 0, 0, 0, 3], 0);
        let _ = pc.packet(&[0x03, 0, 0, 0, 18], 18);
        assert_eq!(pc.packet(&[0x28, 0, 0, 0, 0, 7, 0, 0, 1, 0], 2048).expect("data"), cd_image()[7 * 2048..8 * 2048]);
    }
}
