//! Media that take their time, fail, or go away.

use super::*;
use block::{Error, Op, SlowDisk};

fn with_slow_disk() -> (Arc<SlowDisk>, Pc) {
    let disk = SlowDisk::new(disk_image(), false);
    (disk.clone(), Pc::with(Drive::Disk(disk)))
}

impl Pc {
    /// A command with one sector, whose address may have 48 bits.
    fn start(&self, code: u8) {
        (0x1f2..=0x1f5).for_each(|port| self.outb(port, 0));
        self.command(0x1f0, [0, 1, 0, 0, 0, 0xe0], code);
    }

    /// One that moves its data by DMA.
    fn start_dma(&self, code: u8) {
        self.prd(&[(BUFFER, 512)]);
        self.outl(0xc004, PRD_TABLE);
        self.outb(0xc002, 0x06);
        self.start(code);
        self.outb(0xc000, if code == 0xc8 { 0x09 } else { 0x01 });
    }
}

#[test]
fn a_slow_medium_keeps_the_device_busy() {
    let (disk, pc) = with_slow_disk();
    pc.command(0x1f0, [0, 1, 3, 0, 0, 0xe0], 0x20);
    assert_eq!(pc.inb(0x1f7), 0xd0);
    pc.outb(0x1f2, 77);
    assert_eq!(pc.inb(0x1f2), 1);
    assert!(disk.complete(0, Ok(())));
    assert_eq!(pc.inb(0x1f7), 0x58);
    assert_eq!(pc.insw(0x1f0, 512), disk_image()[3 * 512..4 * 512]);
    pc.outb(0x1f7, 0xe7);
    assert_eq!(pc.inb(0x1f7), 0xd0);
    assert!(disk.complete(0, Ok(())));
    assert_eq!(pc.inb(0x1f7), 0x50);
}

#[test]
fn a_late_answer_to_what_a_reset_ended_changes_nothing() {
    let (disk, pc) = with_slow_disk();
    pc.start_dma(0xc8);
    assert_eq!(pc.inb(0xc002) & 7, 1);
    pc.outb(0x3f6, 0x0c);
    pc.outb(0x3f6, 0x08);
    assert_eq!(disk.cancelled().len(), 1);
    assert!(disk.complete(0, Ok(())));
    assert_eq!((pc.inb(0x1f7), pc.ram(BUFFER, 1)), (0x50, vec![0]));
}

/// The medium may carry out what is on its way in any order.
#[test]
fn a_write_waits_for_one_that_a_reset_ended() {
    let (disk, pc) = with_slow_disk();
    for byte in [0xaa, 0xbb] {
        pc.command(0x1f0, [0, 1, 9, 0, 0, 0xe0], 0x30);
        pc.outsw(0x1f0, &[byte; 512]);
        assert_eq!(disk.waiting(), [Op::WRITE]);
        if byte == 0xaa {
            pc.outb(0x3f6, 0x0c);
            pc.outb(0x3f6, 0x08);
        }
    }
    assert!(disk.complete(0, Ok(())));
    assert_eq!((pc.inb(0x1f7), disk.waiting()), (0xd0, vec![Op::WRITE]));
    assert!(disk.complete(0, Ok(())));
    assert_eq!(pc.inb(0x1f7), 0x50);
    pc.command(0x1f0, [0, 1, 9, 0, 0, 0xe0], 0x20);
    assert!(disk.complete(0, Ok(())));
    assert_eq!(pc.insw(0x1f0, 512), [0xbb; 512]);
}

#[test]
fn errors_of_the_medium_are_the_devices() {
    // The command, an error, and the error register (ATA/ATAPI-6, 7.9): UNC, IDNF or ABRT.
    for (code, error, register) in [
        (0xc8, Error::Io, 0x40),
        (0xca, Error::Io, 0x04),
        (0xe7, Error::Io, 0x04),
        (0xc8, Error::OutOfRange, 0x10),
        (0xca, Error::ReadOnly, 0x04),
        (0xc8, Error::Gone, 0x04),
        (0xca, Error::Cancelled, 0x04),
        (0xca, Error::NotSupported, 0x04),
    ] {
        let (disk, pc) = with_slow_disk();
        pc.start_dma(code);
        assert!(disk.complete(0, Err(error)));
        assert!(pc.irqs[0].is_high());
        assert_eq!((pc.inb(0x1f7), pc.inb(0x1f1)), (0x51, register), "{code:#x} {error}");
        assert_eq!(pc.ram(BUFFER, 1), [0]);
        // The next command succeeds.
        pc.outb(0xc000, 0);
        pc.start_dma(0xc8);
        assert!(disk.complete(0, Ok(())));
        assert_eq!((pc.inb(0xc002) & 7, pc.inb(0x1f7)), (4, 0x50));
    }
}

#[test]
fn errors_of_a_disc_are_senses() {
    // Sense key and code (MMC-5, annex F).
    for (error, sense) in
        [(Error::Io, (3, 0x11)), (Error::OutOfRange, (5, 0x21)), (Error::Gone, (2, 0x3a))]
    {
        let pc = Pc::new();
        pc.settle_cdrom();
        let disc = SlowDisk::new(cd_image(), true);
        pc.ide.change_disc(2, Some(disc.clone())).unwrap();
        let _ = (pc.packet(&[0x00], 0), pc.packet(&[0x00], 0));
        pc.command(0x170, [0, 0, 0, 0, 8, 0xa0], 0xa0);
        pc.outsw(0x170, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(pc.inb(0x177) & 0x80, 0x80);
        assert!(disc.complete(0, Err(error)));
        assert_eq!((pc.inb(0x177) & 0x89, pc.inb(0x171) >> 4), (1, sense.0));
        let data = pc.packet(&[0x03, 0, 0, 0, 18], 18).unwrap();
        assert_eq!((data[2], data[12]), sense);
    }
}

#[test]
fn durable_writes_reach_the_medium_as_such() {
    const DURABLE: Op = Op::Write { is_durable: true };
    let (disk, pc) = with_slow_disk();
    // WRITE DMA EXT, and with FUA; WRITE MULTIPLE FUA EXT.
    for (code, op) in [(0x35, Op::WRITE), (0x3d, DURABLE)] {
        pc.start_dma(code);
        assert_eq!(disk.waiting(), [op]);
        disk.complete_all();
        assert_eq!((pc.inb(0xc002) & 7, pc.inb(0x1f7)), (4, 0x50));
        pc.outb(0xc000, 0);
    }
    pc.start(0xce);
    pc.outsw(0x1f0, &[1; 512]);
    assert_eq!(disk.waiting(), [DURABLE]);
    disk.complete_all();
    // Without a write cache every write is; to switch it off is to flush.
    pc.command(0x1f0, [0x82, 0, 0, 0, 0, 0xa0], 0xef);
    assert_eq!((disk.waiting(), pc.inb(0x1f7)), (vec![Op::Flush], 0xd0));
    disk.complete_all();
    pc.start_dma(0x35);
    assert_eq!(disk.waiting(), [DURABLE]);
    disk.complete_all();
    pc.command(0x1f0, [0x02, 0, 0, 0, 0, 0xa0], 0xef);
    pc.outb(0xc000, 0);
    pc.start_dma(0x35);
    assert_eq!(disk.waiting(), [Op::WRITE]);
}
