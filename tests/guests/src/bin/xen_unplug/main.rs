//! The platform device and the ports by which a guest unplugs emulated devices: the magic number,
//! versions, each mask, the log (Xen's `docs/misc/hvm-emulated-unplug.pandoc`).
//!
//! A device that was unplugged comes back with the guest's next life: the guest restarts itself
//! after each mask, and finds on its disk how far it has come. Its disks are the first three IDE
//! drives, its CD-ROM the fourth.

#![no_std]
#![no_main]

use conformance::cpu::{inb, inl, inw, outb, outl, outw, peek};
use conformance::ide::{CONTROL, DATA_REQUEST, Drive, IDENTIFY};
use conformance::pci::Function;
use conformance::report::{check, equal};
use conformance::xen::bytes::Bytes;
use conformance::xen::mode::op;
use conformance::xen::{self, number};
use conformance::{cpu, name};

conformance::topic!(run);

const MAGIC: u16 = 0x10;
const VERSION: u16 = 0x12;
const PLATFORM_DEVICE: u32 = 0x0001_5853;
const IDE_FUNCTION: u16 = 0x0101;

/// The masks, in the order of lives, and the disks that each leaves.
const LIVES: [(u16, [bool; 3]); 6] = [
    // Nothing that there is: the emulated network card is none here, NVMe disks neither.
    (2, [true, true, true]),
    (8, [true, true, true]),
    // All but the first.
    (4, [true, false, false]),
    (1, [false, false, false]),
    (5, [false, false, false]),
    (0xffff, [false, false, false]),
];

/// Two sectors of the first disk on which nothing else is.
const NOTE_SECTOR: u8 = 9;
const NOTE: [u8; 8] = *b"unplug: ";

const IDENTIFY_PACKET: u8 = 0xa1;
const READ: u8 = 0x20;
const WRITE: u8 = 0x30;
const SECTOR_BYTES: usize = 512;

fn run() {
    xen::require();
    let life = life();
    if life == 0 {
        ports();
        device();
    }
    let (mask, left) = LIVES[usize::from(life)];
    equal(&name!("disks-before-{mask:x}"), disks(), [true; 3]);
    let is_last = usize::from(life) + 1 == LIVES.len();
    if !is_last {
        note(life + 1);
    }
    outw(MAGIC, mask);
    equal(&name!("disks-after-{mask:x}"), disks(), left);
    check(&name!("cd-rom-after-{mask:x}"), has_cd_rom());
    check(&name!("function-after-{mask:x}"), Function::find_class(IDE_FUNCTION).is_some());
    // For good: a mask of nothing brings nothing back.
    outw(MAGIC, 0);
    equal(&name!("disks-stay-{mask:x}"), disks(), left);
    if !is_last {
        const REBOOT: u32 = 1;
        op(number::SCHED_OP, 2, Bytes::new().u32(REBOOT));
        loop {
            cpu::hlt();
        }
    }
}

/// A drive by its letter.
fn drive(index: u8) -> Drive {
    let select = if index & 1 == 0 { 0xa0 } else { 0xb0 };
    match index {
        0 | 1 => Drive { command: 0x1f0, control: 0x3f6, irq: 14, select },
        _ => Drive { command: 0x170, control: 0x376, irq: 15, select },
    }
}

/// Whether a drive answers a command with data.
fn answers(drive: Drive, command: u8) -> bool {
    outb(drive.control, CONTROL);
    outb(drive.command + 6, drive.select);
    // A channel without drives reads as nothing, or as its pull-down resistor leaves it.
    if matches!(inb(drive.command + 7), 0 | 0x7f | 0xff) {
        return false;
    }
    let has_data = drive.command(command) & DATA_REQUEST != 0;
    if has_data {
        drive.read_words(&mut [0; SECTOR_BYTES]);
    }
    has_data
}

fn disks() -> [bool; 3] {
    [0, 1, 2].map(|index| answers(drive(index), IDENTIFY))
}

fn has_cd_rom() -> bool {
    answers(drive(3), IDENTIFY_PACKET)
}

fn at_note(command: u8) -> Drive {
    let drive = drive(0);
    outb(drive.control, CONTROL);
    outb(drive.command + 6, drive.select | 0x40);
    outb(drive.command + 2, 1);
    outb(drive.command + 3, NOTE_SECTOR);
    outb(drive.command + 4, 0);
    outb(drive.command + 5, 0);
    outb(drive.command + 7, command);
    drive.wait();
    drive
}

/// The number of this life, from 0.
fn life() -> u8 {
    let mut sector = [0; SECTOR_BYTES];
    at_note(READ).read_words(&mut sector);
    let is_note = sector[..8] == NOTE && usize::from(sector[8]) < LIVES.len();
    if is_note { sector[8] } else { 0 }
}

/// Writes the number of the next life.
fn note(life: u8) {
    let mut sector = [0; SECTOR_BYTES];
    sector[..8].copy_from_slice(&NOTE);
    sector[8] = life;
    let drive = at_note(WRITE);
    drive.write_words(&sector);
    drive.wait();
}

fn ports() {
    equal("magic", inw(MAGIC), 0x49d2);
    equal("version", inb(VERSION), 1);
    // Products and builds: Linux's, Windows' drivers', one that is experimental. None is refused.
    for (product, build) in [(3, 1), (1, 0x1234), (2, 5), (4, 9), (5, 9), (0xffff, 0x0009_0001)] {
        outw(VERSION, product);
        outl(MAGIC, build);
        equal(&name!("magic-after-product-{product:x}"), inw(MAGIC), 0x49d2);
    }
    equal("disks-after-products", disks(), [true; 3]);
    equal("flags", inb(MAGIC), 0);
    outb(MAGIC, 0xff);
    equal("flags-are-one-bit", inb(MAGIC), 1);
    outb(MAGIC, 0);
    equal("flags-off", inb(MAGIC), 0);
    for byte in *b"a line of the topic's\n" {
        outb(VERSION, byte);
    }
    equal("log-and-version", inb(VERSION), 1);
    equal("other-reads", (inl(MAGIC), inw(VERSION), inb(0x14)), (u32::MAX, u16::MAX, u8::MAX));
}

fn device() {
    let Some(device) = Function::find(PLATFORM_DEVICE) else {
        return check("device", false);
    };
    check("device", true);
    equal("device-class", device.read(8), 0xff80_0001);
    equal("device-subsystem", device.read(0x2c), 0x0001_5853);
    equal("device-pin", device.read8(0x3d), 1);
    equal("device-is-on", device.read16(4) & 3, 3);
    let (ports, memory) = (device.read(0x10), device.read(0x14));
    check("device-has-ports", ports & 1 == 1 && ports & !3 != 0);
    check("device-has-memory", memory & 0xf == 8 && memory & !0xf != 0);
    let size = |register, old| {
        device.write(register, u32::MAX);
        let size = device.read(register);
        device.write(register, old);
        size
    };
    equal("device-ports-size", size(0x10, ports), 0xffff_ff01);
    equal("device-memory-size", size(0x14, memory), 0xff00_0008);
    equal("device-others", [0x18, 0x1c, 0x20, 0x24].map(|register| size(register, 0)), [0; 4]);
    // The flags are at its own ports, too.
    let base = (ports & !3) as u16;
    outb(base, 1);
    equal("device-flags", (inb(base), inb(MAGIC)), (1, 1));
    outb(MAGIC, 0);
    outb(base + 8, b'\n');
    equal("device-memory-reads-0", peek::<u32>(u64::from(memory & !0xf) + 0x8000), 0);
}
