//! A part of a medium.

use alloc::sync::{Arc, Weak};
use core::ops::Range;

use crate::{Client, Completion, Geometry, Medium, Op, Queue, Request, Submitted, User};

/// A range of another medium, such as a partition, perhaps read-only. It costs nothing at
/// completion: the client of who opens it is told by the medium below.
pub struct Part {
    below: Arc<dyn Medium>,
    range: Range<u64>,
    is_read_only: bool,
}

impl Part {
    /// These bytes of `below`. Both ends are multiples of its sector; what is not there fails as
    /// `below` lets it fail. With `is_read_only` changes fail, even if `below` has them.
    pub const fn new(below: Arc<dyn Medium>, range: Range<u64>, is_read_only: bool) -> Self {
        Self { below, range, is_read_only }
    }
}

impl Medium for Part {
    fn geometry(&self) -> Geometry {
        let below = self.below.geometry();
        Geometry {
            size_bytes: self.range.end.saturating_sub(self.range.start),
            is_read_only: self.is_read_only || below.is_read_only,
            has_discard: !self.is_read_only && below.has_discard,
            ..below
        }
    }

    fn open(self: Arc<Self>, client: Weak<dyn Client>, user: User) -> Arc<dyn Queue> {
        let below = self.below.clone().open(client, user);
        Arc::new(PartQueue { below, part: self })
    }
}

struct PartQueue {
    below: Arc<dyn Queue>,
    part: Arc<Part>,
}

impl Queue for PartQueue {
    fn submit(&self, mut request: Request) -> Submitted {
        if let Err(error) = self.part.geometry().check(&request) {
            return Submitted::Done(Completion { request, result: Err(error) });
        }
        if request.op != Op::Flush {
            request.offset_bytes += self.part.range.start;
        }
        self.below.submit(request)
    }

    fn cancel(&self, tag: u64) {
        self.below.cancel(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Data, Error, HeapDisk, NoClient};
    use alloc::vec;
    use alloc::vec::Vec;

    fn run(medium: Arc<dyn Medium>, op: Op, offset_bytes: u64, data: Data) -> Completion {
        let queue = medium.open(NoClient::weak(), User { id: 1, weight: 256 });
        let Submitted::Done(done) = queue.submit(Request { tag: 3, op, offset_bytes, data }) else {
            panic!("a heap disk never waits")
        };
        done
    }

    #[test]
    fn a_part_reaches_its_own_bytes_and_no_others() {
        let disk: Arc<dyn Medium> = Arc::new(HeapDisk::new((0..=255).collect(), false));
        let part: Arc<dyn Medium> = Arc::new(Part::new(disk.clone(), 16..32, false));
        assert_eq!(part.geometry(), Geometry { size_bytes: 16, ..disk.geometry() });
        let read = |medium: &Arc<dyn Medium>, offset, length| -> Result<Vec<u8>, Error> {
            let done = run(medium.clone(), Op::Read, offset, Data::zeroed(length));
            assert_eq!(done.request.tag, 3);
            done.result.map(|()| done.request.data.into_heap())
        };
        assert_eq!(read(&part, 14, 2), Ok(vec![30, 31]));
        assert_eq!(read(&part, 15, 2), Err(Error::OutOfRange));
        assert_eq!(read(&part, u64::MAX - 15, 16), Err(Error::OutOfRange));
        assert_eq!(run(part.clone(), Op::WRITE, 0, Data::Heap(vec![7; 16])).result, Ok(()));
        assert_eq!(
            run(part.clone(), Op::Discard, 16, Data::Length(1)).result,
            Err(Error::OutOfRange)
        );
        assert_eq!(run(part.clone(), Op::Flush, 0, Data::NONE).result, Ok(()));
        assert_eq!(read(&disk, 15, 18), Ok([&[15][..], &[7; 16], &[32]].concat()));
        // A part of a part, which passes the end of what it is a part of.
        let beyond: Arc<dyn Medium> = Arc::new(Part::new(part, 8..24, true));
        assert_eq!(
            (read(&beyond, 0, 8), read(&beyond, 8, 1)),
            (Ok(vec![7; 8]), Err(Error::OutOfRange))
        );
        let written = run(beyond, Op::WRITE, 0, Data::zeroed(1));
        assert_eq!(written.result, Err(Error::ReadOnly));
    }
}
