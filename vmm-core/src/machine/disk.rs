//! Disks that come with the hypervisor, as boot modules.

use crate::host::owner::Owner;
use crate::host::platform::Platform;
use crate::vm::memory::FrameMemory;
use alloc::sync::Weak;
use devices::block::{BlockBackend, BlockClient, BlockError, BlockOp, BlockRequest, Submitted};

/// A boot module that guests read and never write: a CD image.
pub struct ModuleImage(pub &'static [u8]);

impl ModuleImage {
    fn transfer(&self, request: &mut BlockRequest) -> Result<(), BlockError> {
        match request.op {
            BlockOp::Flush => Ok(()),
            BlockOp::Write => Err(BlockError::ReadOnly),
            BlockOp::Read => {
                let start =
                    usize::try_from(request.offset_bytes).map_err(|_| BlockError::OutOfRange)?;
                let rest = self.0.get(start..).ok_or(BlockError::OutOfRange)?;
                let data = rest.get(..request.buffer.len()).ok_or(BlockError::OutOfRange)?;
                request.buffer.copy_from_slice(data);
                Ok(())
            }
        }
    }
}

impl BlockBackend for ModuleImage {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn connect(&self, _client: Weak<dyn BlockClient>) {}

    fn submit(&self, mut request: BlockRequest) -> Submitted {
        let result = self.transfer(&mut request);
        Submitted::Done((request, result))
    }
}

/// A disk in memory that begins as a copy of a boot module; what is written to it lasts as long as
/// the hypervisor runs.
pub struct MemoryDisk {
    memory: FrameMemory,
    size_bytes: usize,
}

impl MemoryDisk {
    /// A disk that holds `image`; `None` if memory is short.
    pub fn new(platform: &'static dyn Platform, image: &[u8]) -> Option<Self> {
        let memory = FrameMemory::new(platform, Owner::Hypervisor, image.len())?;
        memory.write(0, image);
        Some(Self { memory, size_bytes: image.len() })
    }

    fn transfer(&self, request: &mut BlockRequest) -> Result<(), BlockError> {
        let start = usize::try_from(request.offset_bytes).map_err(|_| BlockError::OutOfRange)?;
        let end = start.checked_add(request.buffer.len()).ok_or(BlockError::OutOfRange)?;
        let done = match request.op {
            BlockOp::Flush => true,
            _ if end > self.size_bytes => false,
            BlockOp::Read => self.memory.read(start, &mut request.buffer),
            BlockOp::Write => self.memory.write(start, &request.buffer),
        };
        if done { Ok(()) } else { Err(BlockError::OutOfRange) }
    }
}

impl BlockBackend for MemoryDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes as u64
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn connect(&self, _client: Weak<dyn BlockClient>) {}

    fn submit(&self, mut request: BlockRequest) -> Submitted {
        let result = self.transfer(&mut request);
        Submitted::Done((request, result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_platform::TestPlatform;
    use alloc::vec;

    fn submit(
        disk: &dyn BlockBackend,
        op: BlockOp,
        offset_bytes: u64,
        buffer: &[u8],
    ) -> (vec::Vec<u8>, bool) {
        let request = BlockRequest { tag: 0, op, offset_bytes, buffer: buffer.to_vec() };
        let Submitted::Done((request, result)) = disk.submit(request) else {
            panic!("memory never waits")
        };
        (request.buffer, result.is_ok())
    }

    #[test]
    fn a_memory_disk_keeps_what_is_written_and_ends_where_the_image_ends() {
        let disk = MemoryDisk::new(TestPlatform::leak(), &[7; 1024]).unwrap();
        assert!(submit(&disk, BlockOp::Write, 512, &[1; 512]).1);
        assert_eq!(submit(&disk, BlockOp::Read, 510, &[0; 4]), (vec![7, 7, 1, 1], true));
        assert!(!submit(&disk, BlockOp::Write, 1000, &[1; 512]).1);
        assert!(!submit(&disk, BlockOp::Read, u64::MAX, &[1; 512]).1);
    }

    #[test]
    fn a_module_image_is_read_only() {
        let disk = ModuleImage(b"0123456789");
        assert_eq!(submit(&disk, BlockOp::Read, 8, b"..").0, b"89");
        assert!(!submit(&disk, BlockOp::Read, 9, b"..").1);
        assert!(!submit(&disk, BlockOp::Write, 0, b"..").1);
    }
}
