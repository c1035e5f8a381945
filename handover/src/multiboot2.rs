//! Multiboot 2 information (Multiboot2 Specification 2.0, section 3.6), as GRUB passes it on BIOS
//! and UEFI machines.

use super::area::{MemoryMap, Stride};
use super::bytes::{text, u32_at, u64_at};
use super::{Framebuffer, LoadedModule, LoaderMemory, Screen};
use core::ops::Range;

/// The loader passes it in EAX.
pub const MAGIC: u32 = 0x36d7_6289;

/// The total size and a reserved field.
const HEADER_BYTES: usize = 8;
/// Type and size.
const TAG_HEADER_BYTES: usize = 8;
/// Tags begin at multiples of it.
const TAG_ALIGNMENT: usize = 8;

/// Types of tags.
mod tag {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const LOADER_NAME: u32 = 2;
    pub const MODULE: u32 = 3;
    pub const MEMORY_MAP: u32 = 6;
    pub const FRAMEBUFFER: u32 = 8;
    pub const ACPI_OLD: u32 = 14;
    pub const ACPI_NEW: u32 = 15;
}

/// The information, with its header.
#[derive(Clone, Copy)]
pub struct Information<'a> {
    address: u32,
    bytes: &'a [u8],
}

/// The tags from an offset on.
#[derive(Clone, Copy)]
struct Tags<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Tags<'a> {
    /// A tag's type, where its content begins, and the content.
    type Item = (u32, usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.offset..)?;
        let (kind, length_bytes) = (u32_at(rest, 0)?, u32_at(rest, 4)? as usize);
        if kind == tag::END {
            return None;
        }
        let content = rest.get(TAG_HEADER_BYTES..length_bytes)?;
        let at = self.offset + TAG_HEADER_BYTES;
        self.offset += length_bytes.next_multiple_of(TAG_ALIGNMENT);
        Some((kind, at, content))
    }
}

impl<'a> Information<'a> {
    /// The information at `address`; `None` if it cannot be read.
    pub fn read(address: u32, memory: &'a dyn LoaderMemory) -> Option<Self> {
        let length_bytes = u32_at(memory.bytes(address, HEADER_BYTES)?, 0)? as usize;
        Some(Self { address, bytes: memory.bytes(address, length_bytes)? })
    }

    const fn tags(&self) -> Tags<'a> {
        Tags { bytes: self.bytes, offset: HEADER_BYTES }
    }

    /// The content of the first tag of a type.
    fn find(&self, wanted: u32) -> Option<&'a [u8]> {
        self.tags().find(|&(kind, ..)| kind == wanted).map(|(.., content)| content)
    }

    /// The memory map, if there is one.
    pub fn map(&self) -> Option<MemoryMap<'a>> {
        const VERSION_BYTES: usize = 8;
        let content = self.find(tag::MEMORY_MAP)?;
        let stride = Stride::Fixed(u32_at(content, 0)? as usize);
        Some(MemoryMap::new(content.get(VERSION_BYTES..)?, stride))
    }

    /// The loader's own name.
    pub fn loader(&self) -> &'a str {
        self.find(tag::LOADER_NAME).map_or("", text)
    }

    /// The command line; GRUB leaves the file's name out.
    pub fn command_line(&self) -> &'a str {
        self.find(tag::COMMAND_LINE).map_or("", text)
    }

    /// The modules.
    pub fn modules(self) -> impl Iterator<Item = LoadedModule<'a>> + Clone + use<'a> {
        self.tags().filter(|&(kind, ..)| kind == tag::MODULE).filter_map(|(.., content)| {
            let (start, end) = (u32_at(content, 0)?, u32_at(content, 4)?);
            let command_line = text(content.get(8..)?);
            Some(LoadedModule { range: start.into()..end.into(), command_line })
        })
    }

    /// The memory that the information is in, without the modules.
    pub fn occupied(self) -> Range<u64> {
        let start = u64::from(self.address);
        start..start + self.bytes.len() as u64
    }

    /// The display as the loader left it.
    pub fn screen(&self) -> Screen {
        self.find(tag::FRAMEBUFFER).and_then(framebuffer).unwrap_or(Screen::Unknown)
    }

    /// Physical address of the copy of the ACPI root pointer, the newer one if there are two.
    pub fn rsdp(&self) -> Option<u64> {
        let find = |wanted| self.tags().find(|&(kind, ..)| kind == wanted);
        let (_, at, _) = find(tag::ACPI_NEW).or_else(|| find(tag::ACPI_OLD))?;
        Some(u64::from(self.address) + at as u64)
    }
}

fn framebuffer(content: &[u8]) -> Option<Screen> {
    const RGB: u8 = 1;
    const EGA_TEXT: u8 = 2;
    let field = |offset: usize| Some((*content.get(offset)?, *content.get(offset + 1)?));
    match *content.get(21)? {
        EGA_TEXT => Some(Screen::Text),
        RGB => Some(Screen::Framebuffer(Framebuffer {
            address: u64_at(content, 0)?,
            pitch_bytes: u32_at(content, 8)?,
            width: u32_at(content, 12)?,
            height: u32_at(content, 16)?,
            bits_per_pixel: *content.get(20)?,
            fields: [field(24)?, field(26)?, field(28)?],
        })),
        _ => None,
    }
}
