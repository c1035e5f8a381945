//! The script by which the firmware places the tables: QEMU's table loader (`etc/table-loader`).
//! SeaBIOS (src/fw/romfile_loader.c) allocates memory for files, adds the addresses of files to
//! pointers, and corrects checksums.

use alloc::vec::Vec;

const ENTRY_BYTES: usize = 128;
const FILE_NAME_BYTES: usize = 56;

const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;

/// Where the firmware puts a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Zone {
    /// Reserved memory below 4 GiB.
    High = 1,
    /// Between F0000h and FFFFFh, where systems look for anchors.
    FSegment = 2,
}

/// A script under construction: commands run in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Script(Vec<u8>);

impl Script {
    /// Loads `file` into `zone`; `align` is a power of two.
    pub fn allocate(&mut self, file: &str, align: u32, zone: Zone) {
        self.command(ALLOCATE, &[name(file).as_slice(), &align.to_le_bytes(), &[zone as u8]]);
    }

    /// Adds the address of `source` to the little-endian pointer of `size_bytes` (4 or 8) at
    /// `offset` in `file`.
    pub fn add_pointer(&mut self, file: &str, offset: u32, size_bytes: u8, source: &str) {
        let names = [name(file), name(source)];
        self.command(ADD_POINTER, &[names.as_flattened(), &offset.to_le_bytes(), &[size_bytes]]);
    }

    /// Corrects the byte at `offset` in `file` so that the `length` bytes from `start` sum to zero.
    pub fn add_checksum(&mut self, file: &str, offset: u32, start: u32, length: u32) {
        let numbers = [offset, start, length].map(u32::to_le_bytes);
        self.command(ADD_CHECKSUM, &[name(file).as_slice(), numbers.as_flattened()]);
    }

    /// The script's file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn command(&mut self, command: u32, fields: &[&[u8]]) {
        let end = self.0.len() + ENTRY_BYTES;
        self.0.extend_from_slice(&command.to_le_bytes());
        for field in fields {
            self.0.extend_from_slice(field);
        }
        self.0.resize(end, 0);
    }
}

fn name(file: &str) -> [u8; FILE_NAME_BYTES] {
    assert!(file.len() < FILE_NAME_BYTES, "file name {file} is too long");
    let mut field = [0; FILE_NAME_BYTES];
    field[..file.len()].copy_from_slice(file.as_bytes());
    field
}
