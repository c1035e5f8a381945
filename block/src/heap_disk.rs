//! A disk in the hypervisor's own heap.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::{Client, Completion, Error, Geometry, Medium, Op, Queue, Request, Submitted, User};

/// A disk in the hypervisor's own heap, for tests. It completes each request at once.
#[derive(Debug)]
pub struct HeapDisk {
    content: spin::Mutex<Vec<u8>>,
    geometry: Geometry,
}

impl HeapDisk {
    /// A disk that holds `content`, of any length.
    pub fn new(content: Vec<u8>, is_read_only: bool) -> Self {
        let geometry = Geometry {
            size_bytes: content.len() as u64,
            sector_bytes: 1,
            physical_sector_bytes: 1,
            is_read_only,
            has_discard: !is_read_only,
        };
        Self { content: spin::Mutex::new(content), geometry }
    }

    fn carry_out(&self, request: &mut Request) -> Result<(), Error> {
        self.geometry.check(request)?;
        let mut content = self.content.lock();
        // Both are within the length of a Vec.
        let start = request.offset_bytes as usize;
        let length = request.data.length_bytes() as usize;
        let range = content.get_mut(start..).and_then(|rest| rest.get_mut(..length));
        let range = range.ok_or(Error::OutOfRange)?;
        match request.op {
            Op::Read => request.data.write(0, range).map_err(|_| Error::Memory),
            Op::Write { .. } => request.data.read(0, range).map_err(|_| Error::Memory),
            Op::Discard | Op::WriteZeroes => {
                range.fill(0);
                Ok(())
            }
            Op::Flush => Ok(()),
        }
    }
}

impl Medium for HeapDisk {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn open(self: Arc<Self>, _client: Weak<dyn Client>, _user: User) -> Arc<dyn Queue> {
        self
    }
}

impl Queue for HeapDisk {
    fn submit(&self, mut request: Request) -> Submitted {
        let result = if request.op == Op::Flush { Ok(()) } else { self.carry_out(&mut request) };
        Submitted::Done(Completion { request, result })
    }

    fn cancel(&self, _tag: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Data, NoClient};
    use alloc::vec;

    fn run(
        disk: &Arc<HeapDisk>,
        op: Op,
        offset_bytes: u64,
        data: Data,
    ) -> (Vec<u8>, Result<(), Error>) {
        let queue = disk.clone().open(NoClient::weak(), User { id: 0, weight: 256 });
        let Submitted::Done(done) = queue.submit(Request { tag: 0, op, offset_bytes, data }) else {
            panic!("a heap disk never waits")
        };
        (done.request.data.into_heap(), done.result)
    }

    #[test]
    fn what_is_written_is_read_until_it_is_cleared() {
        let disk = Arc::new(HeapDisk::new(vec![7; 1024], false));
        assert_eq!(run(&disk, Op::WRITE, 511, Data::Heap(vec![1; 2])).1, Ok(()));
        assert_eq!(run(&disk, Op::Read, 510, Data::zeroed(4)), (vec![7, 1, 1, 7], Ok(())));
        assert_eq!(run(&disk, Op::WriteZeroes, 512, Data::Length(512)).1, Ok(()));
        assert_eq!(run(&disk, Op::Read, 510, Data::zeroed(4)), (vec![7, 1, 0, 0], Ok(())));
        assert_eq!(run(&disk, Op::Flush, 0, Data::NONE).1, Ok(()));
    }

    #[test]
    fn ranges_that_pass_the_end_and_changes_of_what_is_read_only_fail() {
        let disk = Arc::new(HeapDisk::new(vec![7; 1024], true));
        assert_eq!(run(&disk, Op::Read, 1023, Data::zeroed(2)).1, Err(Error::OutOfRange));
        assert_eq!(run(&disk, Op::Read, u64::MAX, Data::zeroed(2)).1, Err(Error::OutOfRange));
        assert_eq!(run(&disk, Op::WRITE, 0, Data::zeroed(2)).1, Err(Error::ReadOnly));
        assert_eq!(run(&disk, Op::Discard, 0, Data::Length(1)).1, Err(Error::ReadOnly));
    }
}
