//! Multiboot 1 information (Multiboot Specification 0.6.96, section 3.3), as QEMU's `-kernel`
//! passes it.

use super::area::{MemoryMap, Stride};
use super::bytes::{text, u32_at};
use super::{LoadedModule, LoaderMemory};
use core::ops::Range;

/// The loader passes it in EAX.
pub const MAGIC: u32 = 0x2bad_b002;

const INFORMATION_BYTES: usize = 68;
const MODULE_BYTES: usize = 16;

/// Bits of the field at 0 that say which others are valid.
mod present {
    pub const COMMAND_LINE: u32 = 1 << 2;
    pub const MODULES: u32 = 1 << 3;
    pub const MEMORY_MAP: u32 = 1 << 6;
    pub const LOADER_NAME: u32 = 1 << 9;
}

/// Offsets of the fields.
mod field {
    pub const COMMAND_LINE: usize = 16;
    pub const MODULE_COUNT: usize = 20;
    pub const MODULES: usize = 24;
    pub const MAP_BYTES: usize = 44;
    pub const MAP: usize = 48;
    pub const LOADER_NAME: usize = 64;
}

/// The information structure, and what it points to.
#[derive(Clone, Copy)]
pub struct Information<'a> {
    memory: &'a dyn LoaderMemory,
    address: u32,
    bytes: &'a [u8],
    modules: &'a [u8],
}

/// A piece of memory.
type Piece = Range<u64>;

const fn piece(address: u32, length_bytes: usize) -> Piece {
    address as u64..address as u64 + length_bytes as u64
}

impl<'a> Information<'a> {
    /// The structure at `address`; `None` if it or its list of modules cannot be read.
    pub fn read(address: u32, memory: &'a dyn LoaderMemory) -> Option<Self> {
        let bytes = memory.bytes(address, INFORMATION_BYTES)?;
        let mut information = Self { memory, address, bytes, modules: &[] };
        if information.has(present::MODULES) {
            let count = information.field(field::MODULE_COUNT) as usize;
            if count != 0 {
                let length_bytes = count.checked_mul(MODULE_BYTES)?;
                information.modules =
                    memory.bytes(information.field(field::MODULES), length_bytes)?;
            }
        }
        Some(information)
    }

    fn field(&self, offset: usize) -> u32 {
        u32_at(self.bytes, offset).unwrap_or(0)
    }

    fn has(&self, flag: u32) -> bool {
        self.field(0) & flag != 0
    }

    /// The memory map, if there is one that can be read.
    pub fn map(&self) -> Option<MemoryMap<'a>> {
        let bytes = self.has(present::MEMORY_MAP).then(|| {
            self.memory.bytes(self.field(field::MAP), self.field(field::MAP_BYTES) as usize)
        });
        Some(MemoryMap::new(bytes??, Stride::Before))
    }

    /// The string at `address`, without its zero, and the memory that it is in.
    fn string(&self, address: u32) -> (&'a str, Piece) {
        const NONE: (&str, Piece) = ("", 0..0);
        let is_letter = |&offset: &u32| {
            let byte =
                address.checked_add(offset).and_then(|address| self.memory.bytes(address, 1));
            byte.is_some_and(|byte| byte != [0])
        };
        if address == 0 {
            return NONE;
        }
        let length_bytes = (0..u32::MAX).take_while(is_letter).count();
        let bytes = self.memory.bytes(address, length_bytes);
        bytes.map_or(NONE, |bytes| (text(bytes), piece(address, length_bytes + 1)))
    }

    fn optional_string(&self, flag: u32, field: usize) -> (&'a str, Piece) {
        self.string(if self.has(flag) { self.field(field) } else { 0 })
    }

    /// The loader's own name.
    pub fn loader(&self) -> &'a str {
        self.optional_string(present::LOADER_NAME, field::LOADER_NAME).0
    }

    /// The command line without the file's name. GRUB 2 leaves it out, the others put it first.
    pub fn command_line(&self) -> &'a str {
        let line = self.optional_string(present::COMMAND_LINE, field::COMMAND_LINE).0;
        let named = !self.loader().starts_with("GRUB 2");
        if named { line.split_once(' ').map_or("", |(_, rest)| rest) } else { line }
    }

    /// Where the loader put each module, and the address of its string.
    fn loaded(&self) -> impl Iterator<Item = (Range<u64>, u32)> + Clone + use<'a> {
        self.modules.chunks_exact(MODULE_BYTES).filter_map(|module| {
            let (start, end) = (u32_at(module, 0)?, u32_at(module, 4)?);
            Some((u64::from(start)..u64::from(end), u32_at(module, 8)?))
        })
    }

    /// The modules.
    pub fn modules(self) -> impl Iterator<Item = LoadedModule<'a>> + Clone + use<'a> {
        self.loaded()
            .map(move |(range, string)| LoadedModule { range, command_line: self.string(string).0 })
    }

    /// The memory that the information is in, without the modules.
    pub fn occupied(self) -> impl Iterator<Item = Piece> + Clone + use<'a> {
        let map =
            if self.has(present::MEMORY_MAP) { self.field(field::MAP_BYTES) as usize } else { 0 };
        let own = [
            piece(self.address, INFORMATION_BYTES),
            piece(self.field(field::MODULES), self.modules.len()),
            piece(self.field(field::MAP), map),
            self.optional_string(present::LOADER_NAME, field::LOADER_NAME).1,
            self.optional_string(present::COMMAND_LINE, field::COMMAND_LINE).1,
        ];
        own.into_iter().chain(self.loaded().map(move |(_, string)| self.string(string).1))
    }
}
