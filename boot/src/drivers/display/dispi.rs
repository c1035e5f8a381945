//! The Bochs DISPI interface of the standard VGA of Bochs and QEMU: graphics modes with a linear
//! framebuffer.

use super::framebuffer::{self, Surface};
use crate::drivers::pci;
use handover::Framebuffer;
use x86::io::{inw, outw};

const INDEX_PORT: u16 = 0x1ce;
const DATA_PORT: u16 = 0x1cf;

const VENDOR: u16 = 0x1234;
const DEVICE: u16 = 0x1111;

#[derive(Clone, Copy)]
#[repr(u16)]
enum Index {
    Id = 0,
    Width = 1,
    Height = 2,
    BitsPerPixel = 3,
    Enable = 4,
    VideoMemory64K = 10,
}

const ID_FIRST: u16 = 0xb0c0;
/// The first version that tells the size of its memory.
const ID_WITH_MEMORY_SIZE: u16 = 0xb0c5;
const ID_LAST: u16 = 0xb0cf;

const ENABLED: u16 = 1 << 0;
const LINEAR_FRAMEBUFFER: u16 = 1 << 6;

const BYTES_PER_PIXEL: u64 = 4;
const OLD_MEMORY_BYTES: u64 = 4 << 20;

/// The card.
pub struct Dispi {
    framebuffer: u64,
    memory_bytes: u64,
}

fn read(index: Index) -> u16 {
    // SAFETY: the card's own ports, which `find` has made sure of.
    unsafe {
        outw(INDEX_PORT, index as u16);
        inw(DATA_PORT)
    }
}

fn write(index: Index, value: u16) {
    // SAFETY: as above.
    unsafe {
        outw(INDEX_PORT, index as u16);
        outw(DATA_PORT, value);
    }
}

impl Dispi {
    /// Looks for the card, and maps all its memory: the guest chooses when modes are set and how
    /// large they are, and must not grow the page tables by that.
    pub fn find() -> Option<Self> {
        let framebuffer = pci::find(VENDOR, DEVICE)?.memory_bar(0)?.address;
        let id = read(Index::Id);
        if !(ID_FIRST..=ID_LAST).contains(&id) {
            return None;
        }
        let memory_bytes = match read(Index::VideoMemory64K) {
            blocks @ 1..=0x4000 if id >= ID_WITH_MEMORY_SIZE => u64::from(blocks) << 16,
            _ => OLD_MEMORY_BYTES,
        };
        framebuffer::map(framebuffer, memory_bytes).then_some(Self { framebuffer, memory_bytes })
    }

    /// True if a mode fits the card.
    pub fn can_show(&self, width: u16, height: u16) -> bool {
        let bytes = u64::from(width) * u64::from(height) * BYTES_PER_PIXEL;
        width >= 8 && height >= 1 && bytes <= self.memory_bytes
    }

    /// Sets a mode with 32 bits a pixel, and clears the screen. The card may round the width.
    pub fn set_mode(&self, width: u16, height: u16) -> Surface {
        write(Index::Enable, 0);
        write(Index::Width, width.next_multiple_of(8));
        write(Index::Height, height);
        write(Index::BitsPerPixel, 32);
        write(Index::Enable, ENABLED | LINEAR_FRAMEBUFFER);
        let (width, height) = (u32::from(read(Index::Width)), u32::from(read(Index::Height)));
        let pitch_bytes = width * BYTES_PER_PIXEL as u32;
        // A width that the card rounded up may be too much for its memory, of which no more is
        // mapped.
        let rows = self.memory_bytes.checked_div(pitch_bytes.into()).unwrap_or(0);
        Surface::mapped(Framebuffer {
            address: self.framebuffer,
            pitch_bytes,
            width,
            height: height.min(rows as u32),
            bits_per_pixel: 32,
            fields: [(16, 8), (8, 8), (0, 8)],
        })
    }

    /// Back to what the VGA registers say.
    pub fn disable(&self) {
        write(Index::Enable, 0);
    }
}
