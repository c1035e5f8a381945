//! Disks that come with the hypervisor, as boot modules.

use crate::host::owner::Owner;
use crate::host::platform::Platform;
use crate::vm::memory::OwnMemory;
use alloc::sync::{Arc, Weak};
use block::{
    Client, Completion, Error, Geometry, Gone, Medium, Op, Queue, Request, Submitted, User,
};
use devices::lock::{Ranked, rank};

/// Bytes that are copied in one turn, at most: another CPU may wait for its own.
const MAX_PIECE_BYTES: usize = 64 << 10;

/// A boot module that guests read and never write: a CD image.
pub struct ModuleImage(pub &'static [u8]);

impl ModuleImage {
    fn carry_out(&self, request: &mut Request) -> Result<(), Error> {
        self.geometry().check(request)?;
        if request.op != Op::Read {
            return Ok(());
        }
        // Both are within the length of the image.
        let (start, length) = (request.offset_bytes as usize, request.data.length_bytes() as usize);
        let range = self.0.get(start..).and_then(|rest| rest.get(..length));
        request.data.write(0, range.ok_or(Error::OutOfRange)?).map_err(|_| Error::Memory)
    }
}

impl Medium for ModuleImage {
    fn geometry(&self) -> Geometry {
        Geometry {
            size_bytes: self.0.len() as u64,
            sector_bytes: 1,
            physical_sector_bytes: 1,
            is_read_only: true,
            has_discard: false,
        }
    }

    fn open(self: Arc<Self>, _client: Weak<dyn Client>, _user: User) -> Arc<dyn Queue> {
        self
    }
}

impl Queue for ModuleImage {
    fn submit(&self, mut request: Request) -> Submitted {
        let result = self.carry_out(&mut request);
        Submitted::Done(Completion { request, result })
    }

    fn cancel(&self, _tag: u64) {}
}

/// A disk in memory that begins as a copy of a boot module; what is written to it lasts as long as
/// the hypervisor runs.
pub struct MemoryDisk {
    memory: Ranked<OwnMemory, { rank::MEDIUM }>,
    size_bytes: usize,
}

impl MemoryDisk {
    /// A disk that holds `image`; `None` if memory is short.
    pub fn new(platform: &'static dyn Platform, image: &[u8]) -> Option<Self> {
        let memory = Ranked::new(OwnMemory::new(platform, Owner::Hypervisor, image.len())?);
        let disk = Self { memory, size_bytes: image.len() };
        disk.each_piece(0, image.len(), |at, piece| {
            piece.copy_from_slice(image.get(at..at + piece.len()).ok_or(Gone)?);
            Ok(())
        })
        .ok()?;
        Some(disk)
    }

    /// Works on a range piece by piece, with the place of each in the range. Others get their turn
    /// in between.
    fn each_piece(
        &self,
        start: usize,
        length: usize,
        mut work: impl FnMut(usize, &mut [u8]) -> Result<(), Gone>,
    ) -> Result<(), Gone> {
        let mut done = 0;
        while done < length {
            let mut memory = self.memory.lock();
            let piece = memory.piece(start + done, (length - done).min(MAX_PIECE_BYTES));
            let piece = piece.ok_or(Gone)?;
            work(done, piece)?;
            done += piece.len();
        }
        Ok(())
    }

    fn carry_out(&self, request: &mut Request) -> Result<(), Error> {
        self.geometry().check(request)?;
        // Both are within the length of the disk.
        let (start, length) = (request.offset_bytes as usize, request.data.length_bytes() as usize);
        let data = &mut request.data;
        let done = match request.op {
            Op::Flush => Ok(()),
            Op::Read => self.each_piece(start, length, |at, piece| data.write(at, piece)),
            Op::Write { .. } => self.each_piece(start, length, |at, piece| data.read(at, piece)),
            Op::Discard | Op::WriteZeroes => self.each_piece(start, length, |_, piece| {
                piece.fill(0);
                Ok(())
            }),
        };
        done.map_err(|Gone| Error::Memory)
    }
}

impl Medium for MemoryDisk {
    fn geometry(&self) -> Geometry {
        Geometry {
            size_bytes: self.size_bytes as u64,
            sector_bytes: 1,
            physical_sector_bytes: 1,
            is_read_only: false,
            // Its memory stays its own.
            has_discard: false,
        }
    }

    fn open(self: Arc<Self>, _client: Weak<dyn Client>, _user: User) -> Arc<dyn Queue> {
        self
    }
}

impl Queue for MemoryDisk {
    fn submit(&self, mut request: Request) -> Submitted {
        let result = self.carry_out(&mut request);
        Submitted::Done(Completion { request, result })
    }

    fn cancel(&self, _tag: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_platform::TestPlatform;
    use alloc::vec;
    use alloc::vec::Vec;
    use block::{Data, NoClient};
    use proptest::prelude::*;

    fn submit(
        disk: &Arc<impl Medium + 'static>,
        op: Op,
        offset_bytes: u64,
        data: Data,
    ) -> (Vec<u8>, Result<(), Error>) {
        let queue = disk.clone().open(NoClient::weak(), User { id: 0, weight: 256 });
        let Submitted::Done(done) = queue.submit(Request { tag: 0, op, offset_bytes, data }) else {
            panic!("memory never waits")
        };
        (done.request.data.into_heap(), done.result)
    }

    #[test]
    fn a_memory_disk_keeps_what_is_written_and_ends_where_the_image_ends() {
        let disk = Arc::new(MemoryDisk::new(TestPlatform::leak(), &[7; 1024]).unwrap());
        assert_eq!(submit(&disk, Op::WRITE, 512, Data::Heap(vec![1; 512])).1, Ok(()));
        assert_eq!(submit(&disk, Op::Read, 510, Data::zeroed(4)), (vec![7, 7, 1, 1], Ok(())));
        assert_eq!(submit(&disk, Op::WriteZeroes, 511, Data::Length(2)).1, Ok(()));
        assert_eq!(submit(&disk, Op::Discard, 0, Data::Length(2)).1, Err(Error::NotSupported));
        assert_eq!(submit(&disk, Op::Read, 510, Data::zeroed(4)).0, [7, 0, 0, 1]);
        for (op, offset) in [(Op::WRITE, 1000), (Op::Read, u64::MAX), (Op::WriteZeroes, 513)] {
            let result = submit(&disk, op, offset, Data::zeroed(512)).1;
            assert_eq!(result, Err(Error::OutOfRange));
        }
        assert_eq!(submit(&disk, Op::WRITE, 0, Data::Length(4)).1, Err(Error::Memory));
    }

    #[test]
    fn a_module_image_is_read_only() {
        let disk = Arc::new(ModuleImage(b"0123456789"));
        assert_eq!(submit(&disk, Op::Read, 8, Data::zeroed(2)), (b"89".to_vec(), Ok(())));
        assert_eq!(submit(&disk, Op::Read, 9, Data::zeroed(2)).1, Err(Error::OutOfRange));
        assert_eq!(submit(&disk, Op::WRITE, 0, Data::zeroed(1)).1, Err(Error::ReadOnly));
        assert_eq!(submit(&disk, Op::Flush, 0, Data::NONE).1, Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// The pieces of a frame and of a turn are seen by nobody.
        #[test]
        fn a_memory_disk_is_as_a_vector(
            requests in prop::collection::vec((0usize..5 << 20, 0usize..300_000, any::<u8>()), 1..12),
        ) {
            let mut model: Vec<u8> = (0..5 << 20).map(|at| (at / 4099) as u8).collect();
            let disk = Arc::new(MemoryDisk::new(TestPlatform::leak(), &model).unwrap());
            for (start, length, byte) in requests {
                let length = length.min(model.len() - start);
                let range = start..start + length;
                if byte % 2 == 0 {
                    model[range].fill(byte);
                    let data = Data::Heap(vec![byte; length]);
                    prop_assert_eq!(submit(&disk, Op::WRITE, start as u64, data).1, Ok(()));
                } else {
                    let (found, result) = submit(&disk, Op::Read, start as u64, Data::zeroed(length));
                    prop_assert!(result == Ok(()) && found == model[range]);
                }
            }
        }
    }
}
