//! The boot loader's information in one form, whichever protocol it came by.
//!
//! It is read where the loader left it, each time that it is asked for: nothing is copied, so that
//! it may have any number of modules and memory ranges before there is a heap.
//!
//! ```
//! use handover::{AreaKind, Handover, LoaderMemory};
//!
//! /// Information of multiboot 2 at address 0.
//! struct Memory(Vec<u8>);
//!
//! impl LoaderMemory for Memory {
//!     fn bytes(&self, address: u32, length_bytes: usize) -> Option<&[u8]> {
//!         self.0.get(address as usize..)?.get(..length_bytes)
//!     }
//! }
//!
//! // Its length; a tag for a map of one range, with the length of its records; the last tag.
//! let words = [56u32, 0, 6, 40, 24, 0, 0x10_0000, 0, 0x700_0000, 0, 1, 0, 0, 8];
//! let memory = Memory(words.iter().flat_map(|word| word.to_le_bytes()).collect());
//! let handover = Handover::read(0x36d7_6289, 0, &memory).expect("information");
//! let area = handover.areas().next().expect("an area");
//! assert_eq!((area.kind, area.range), (AreaKind::Ram, 0x10_0000..0x710_0000));
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "fuzzing"))]
extern crate std;

mod area;
mod bytes;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod multiboot1;
mod multiboot2;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "fuzzing"))]
mod told;

use area::MemoryMap;
pub use area::{Area, AreaKind};
use core::ops::Range;

/// The physical memory that the loader's information is in.
pub trait LoaderMemory {
    /// The bytes there, if all of them can be read. They never change.
    fn bytes(&self, address: u32, length_bytes: usize) -> Option<&[u8]>;
}

/// A boot module where the loader put it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedModule<'a> {
    /// Physical addresses; of an empty module any.
    pub range: Range<u64>,
    /// Name and arguments.
    pub command_line: &'a str,
}

/// A framebuffer that the loader set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    /// Physical address.
    pub address: u64,
    /// Bytes a row.
    pub pitch_bytes: u32,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 15, 16, 24 or 32.
    pub bits_per_pixel: u8,
    /// Lowest bit and number of bits of red, green and blue.
    pub fields: [(u8, u8); 3],
}

/// The machine's display as the loader left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// VGA text mode.
    Text,
    /// Pixels.
    Framebuffer(Framebuffer),
    /// The loader says nothing.
    Unknown,
}

/// The information as the protocol has it.
#[derive(Clone, Copy)]
enum Information<'a> {
    One(multiboot1::Information<'a>),
    Two(multiboot2::Information<'a>),
}

/// Everything that the loader hands over. Strings and tables stay where the loader put them;
/// [`Handover::occupied`] names the places.
#[derive(Clone, Copy)]
pub struct Handover<'a> {
    information: Information<'a>,
    map: MemoryMap<'a>,
}

impl<'a> Handover<'a> {
    /// Reads the information that the loader left in `memory`: `magic` and `address` are what it
    /// passed in EAX and EBX.
    ///
    /// # Errors
    /// A text that names the fault.
    pub fn read(
        magic: u32,
        address: u32,
        memory: &'a dyn LoaderMemory,
    ) -> Result<Self, &'static str> {
        const NO_MAP: &str =
            "the boot loader gives no memory map; load the image with GRUB 2 or QEMU";
        const BROKEN: &str =
            "the boot loader's information is broken; load the image with another version of GRUB";
        let information = match magic {
            multiboot1::MAGIC => {
                Information::One(multiboot1::Information::read(address, memory).ok_or(BROKEN)?)
            }
            multiboot2::MAGIC => {
                Information::Two(multiboot2::Information::read(address, memory).ok_or(BROKEN)?)
            }
            _ => {
                return Err(
                    "the image was not loaded by a multiboot loader; load it with GRUB's `multiboot2` command",
                );
            }
        };
        let map = match &information {
            Information::One(information) => information.map(),
            Information::Two(information) => information.map(),
        };
        Ok(Self { information, map: map.ok_or(NO_MAP)? })
    }

    /// "multiboot 1" or "multiboot 2".
    pub const fn protocol(&self) -> &'static str {
        match self.information {
            Information::One(_) => "multiboot 1",
            Information::Two(_) => "multiboot 2",
        }
    }

    /// The loader's own name.
    pub fn loader(&self) -> &'a str {
        match &self.information {
            Information::One(information) => information.loader(),
            Information::Two(information) => information.loader(),
        }
    }

    /// The image's command line, without its file name.
    pub fn command_line(&self) -> &'a str {
        match &self.information {
            Information::One(information) => information.command_line(),
            Information::Two(information) => information.command_line(),
        }
    }

    /// The memory map, in the loader's order.
    pub fn areas(&self) -> impl Iterator<Item = Area> + Clone + use<'a> {
        self.map
    }

    /// Boot modules.
    pub fn modules(&self) -> impl Iterator<Item = LoadedModule<'a>> + Clone + use<'a> {
        let (one, two) = match self.information {
            Information::One(information) => (Some(information.modules()), None),
            Information::Two(information) => (None, Some(information.modules())),
        };
        one.into_iter().flatten().chain(two.into_iter().flatten())
    }

    /// The memory that holds the loader's information and the modules.
    pub fn occupied(&self) -> impl Iterator<Item = Range<u64>> + Clone + use<'a> {
        let (one, two) = match self.information {
            Information::One(information) => (Some(information.occupied()), None),
            Information::Two(information) => (None, Some(information.occupied())),
        };
        let modules = self.modules().map(|module| module.range);
        one.into_iter().flatten().chain(two).chain(modules).filter(|range| !range.is_empty())
    }

    /// The display.
    pub fn screen(&self) -> Screen {
        match &self.information {
            Information::One(_) => Screen::Unknown,
            Information::Two(information) => information.screen(),
        }
    }

    /// Physical address of the ACPI root pointer, if the loader gives it.
    pub fn rsdp(&self) -> Option<u64> {
        match &self.information {
            Information::One(_) => None,
            Information::Two(information) => information.rsdp(),
        }
    }

    /// The number of a page of free RAM below 640 KiB, where a CPU can start in real mode. Those of
    /// the BIOS's own data are left alone.
    pub fn real_mode_page(&self) -> Option<u8> {
        const PAGES: Range<u64> = 0x8..0xa0;
        const PAGE_BYTES: u64 = 4096;
        let touches = |page: &Range<u64>, range: &Range<u64>| {
            range.start < page.end && page.start < range.end
        };
        let is_free = |page: &Range<u64>| {
            let is_ram = |area: Area| {
                area.kind == AreaKind::Ram
                    && area.range.start <= page.start
                    && page.end <= area.range.end
            };
            let is_reserved = |area: Area| area.kind != AreaKind::Ram && touches(page, &area.range);
            self.areas().any(is_ram)
                && !self.areas().any(is_reserved)
                && !self.occupied().any(|range| touches(page, &range))
        };
        PAGES
            .rev()
            .find(|number| is_free(&(number * PAGE_BYTES..(number + 1) * PAGE_BYTES)))
            .map(|number| number as u8)
    }
}
