//! The two layouts of structures.

/// The mode whose layout structures have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Width {
    /// Real mode, and 16-bit and 32-bit code.
    #[default]
    Bits32,
    /// 64-bit code.
    Bits64,
}

impl Width {
    /// The bytes of an `unsigned long` and of a pointer.
    pub const fn long_bytes(self) -> usize {
        match self {
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }

    /// `long_bytes` in `bytes` at `offset`; zero past the end.
    pub fn long(self, bytes: &[u8], offset: usize) -> u64 {
        let mut value = [0; 8];
        let length = self.long_bytes();
        if let Some(found) = bytes.get(offset..offset + length) {
            value[..length].copy_from_slice(found);
        }
        u64::from_le_bytes(value)
    }
}
