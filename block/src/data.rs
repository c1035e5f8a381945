//! The memory that a request is about.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// The memory is not there any more: its guest gave it back, or put something else in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Memory of a guest's, in one piece or scattered. The guest may change it at any moment, so values
/// are copied, never borrowed. An access that passes the end fails.
pub trait Buffer: Send + Sync {
    /// Its length in bytes.
    fn length_bytes(&self) -> usize;
    /// Copies from `offset` on.
    ///
    /// # Errors
    /// [`Gone`]; what `data` then holds is unspecified.
    fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), Gone>;
    /// Copies to `offset` on.
    ///
    /// # Errors
    /// [`Gone`]; a part may have been written.
    fn write(&self, offset: usize, data: &[u8]) -> Result<(), Gone>;
}

/// The memory that a request is about.
pub enum Data {
    /// The hypervisor's own.
    Heap(Vec<u8>),
    /// A guest's.
    Guest(Box<dyn Buffer>),
    /// None: the request is about so many bytes of the medium alone.
    Length(u64),
}

impl Data {
    /// None at all, for a flush.
    pub const NONE: Self = Self::Length(0);

    /// So many zeroes of the hypervisor's.
    pub fn zeroed(length_bytes: usize) -> Self {
        Self::Heap(vec![0; length_bytes])
    }

    /// The length of the range that the request is about, in bytes.
    pub fn length_bytes(&self) -> u64 {
        match self {
            Self::Heap(bytes) => bytes.len() as u64,
            Self::Guest(buffer) => buffer.length_bytes() as u64,
            Self::Length(bytes) => *bytes,
        }
    }

    /// Copies from `offset` on.
    ///
    /// # Errors
    /// [`Gone`], also past the end.
    pub fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), Gone> {
        match self {
            Self::Heap(bytes) => {
                let rest = bytes.get(offset..).ok_or(Gone)?;
                data.copy_from_slice(rest.get(..data.len()).ok_or(Gone)?);
                Ok(())
            }
            Self::Guest(buffer) => buffer.read(offset, data),
            Self::Length(_) => Err(Gone),
        }
    }

    /// Copies to `offset` on.
    ///
    /// # Errors
    /// [`Gone`], also past the end.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Result<(), Gone> {
        match self {
            Self::Heap(bytes) => {
                let rest = bytes.get_mut(offset..).ok_or(Gone)?;
                rest.get_mut(..data.len()).ok_or(Gone)?.copy_from_slice(data);
                Ok(())
            }
            Self::Guest(buffer) => buffer.write(offset, data),
            Self::Length(_) => Err(Gone),
        }
    }

    /// The bytes, if they are the hypervisor's; else none.
    pub fn heap(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Guest(_) | Self::Length(_) => &[],
        }
    }

    /// The same, to keep.
    pub fn into_heap(self) -> Vec<u8> {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Guest(_) | Self::Length(_) => Vec::new(),
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Heap(_) => "Heap",
            Self::Guest(_) => "Guest",
            Self::Length(_) => "Length",
        };
        f.debug_tuple(kind).field(&self.length_bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_beyond_the_end_are_refused() {
        let mut data = Data::Heap(b"0123".to_vec());
        let mut two = [0; 2];
        assert_eq!((data.read(2, &mut two), two), (Ok(()), *b"23"));
        assert_eq!(data.read(3, &mut two), Err(Gone));
        assert_eq!(data.read(usize::MAX, &mut two), Err(Gone));
        assert_eq!(data.write(3, b"xy"), Err(Gone));
        assert_eq!(data.write(1, b"xy"), Ok(()));
        assert_eq!(data.into_heap(), b"0xy3");
        assert_eq!(Data::Length(4).read(0, &mut two), Err(Gone));
    }
}
