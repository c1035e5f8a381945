//! The VGA's memory in a planar mode, as bytes that a hypervisor cannot map.

use crate::cpu::outb;
use crate::legacy::{Registers, bios};

/// Where it is: 64 KiB.
pub const PLANES: u64 = 0xa_0000;

/// 640 x 480 with 16 colours.
const VIDEO_MODE: u32 = 0x12;
const TEXT_MODE: u32 = 3;

/// Sets up the mode. All planes are written and one is read: bytes read back as written.
pub fn set_up() {
    bios(0x10, &mut Registers { eax: VIDEO_MODE, ..Registers::default() });
    for (index, value) in [(2, 0xf), (4, 6)] {
        outb(0x3c4, index);
        outb(0x3c5, value);
    }
    for (index, value) in [(0, 0), (1, 0), (3, 0), (4, 0), (5, 0), (6, 5), (8, 0xff)] {
        outb(0x3ce, index);
        outb(0x3cf, value);
    }
}

/// The screen as the BIOS had it.
pub fn leave() {
    bios(0x10, &mut Registers { eax: TEXT_MODE, ..Registers::default() });
}
