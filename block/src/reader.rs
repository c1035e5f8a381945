//! Reads that wait for the medium: for the start of the machine, when nothing else has to go on.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::{
    Client, Completion, Data, Error, Geometry, Medium, Op, Queue, Request, Submitted, User,
};

/// A medium that is read piece by piece. Each read is waited for.
pub struct Reader<'a> {
    queue: Arc<dyn Queue>,
    inbox: Arc<Inbox>,
    geometry: Geometry,
    last_tag: u64,
    wait: &'a mut dyn FnMut() -> bool,
}

impl<'a> Reader<'a> {
    /// Opens `medium` for the hypervisor. `wait` lets the machine's disks work for a moment, and is
    /// false once that has lasted too long.
    pub fn open(medium: &Arc<dyn Medium>, wait: &'a mut dyn FnMut() -> bool) -> Self {
        let inbox = Arc::new(Inbox::default());
        let client = Arc::downgrade(&inbox);
        let queue = medium.clone().open(client, User { id: 0, weight: 256 });
        Self { queue, inbox, geometry: medium.geometry(), last_tag: 0, wait }
    }

    /// Size and sectors of the medium, as they were when it was opened.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The length of its logical blocks, in which tables count: 512 on memory.
    pub fn block_bytes(&self) -> u64 {
        self.geometry.sector_bytes.max(512).into()
    }

    /// Reads so many bytes from any place.
    ///
    /// # Errors
    /// Why they could not be read; [`Error::Io`] if it took too long.
    pub fn read(&mut self, offset_bytes: u64, length_bytes: usize) -> Result<Vec<u8>, Error> {
        let sector = u64::from(self.geometry.sector_bytes);
        let end = offset_bytes.checked_add(length_bytes as u64).ok_or(Error::OutOfRange)?;
        let start = offset_bytes - offset_bytes % sector;
        let end = end.checked_next_multiple_of(sector).ok_or(Error::OutOfRange)?;
        if end > self.geometry.size_bytes {
            return Err(Error::OutOfRange);
        }
        let mut bytes = self.read_sectors(start, (end - start) as usize)?;
        bytes.drain(..(offset_bytes - start) as usize);
        bytes.truncate(length_bytes);
        Ok(bytes)
    }

    fn read_sectors(&mut self, offset_bytes: u64, length_bytes: usize) -> Result<Vec<u8>, Error> {
        self.last_tag += 1;
        let tag = self.last_tag;
        let data = Data::zeroed(length_bytes);
        let mut done = match self.queue.submit(Request { tag, op: Op::Read, offset_bytes, data }) {
            Submitted::Done(done) => Some(done),
            Submitted::Pending => None,
        };
        loop {
            // The answer to a read that was given up may come late.
            if let Some(done) = done.filter(|done| done.request.tag == tag) {
                return done.result.map(|()| done.request.data.into_heap());
            }
            if !(self.wait)() {
                self.queue.cancel(tag);
                return Err(Error::Io);
            }
            done = self.inbox.0.lock().take();
        }
    }
}

/// The last answer.
#[derive(Default)]
struct Inbox(spin::Mutex<Option<Completion>>);

impl Client for Inbox {
    fn complete(&self, completion: Completion) {
        *self.0.lock() = Some(completion);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_disk::TestDisk;
    use crate::{HeapDisk, SlowDisk};
    use alloc::vec;

    #[test]
    fn reads_are_made_of_whole_sectors() {
        let disk = TestDisk::new((0..=255).cycle().take(8192).collect(), 4096);
        let disk: Arc<dyn Medium> = Arc::new(disk);
        let mut wait = || false;
        let mut reader = Reader::open(&disk, &mut wait);
        assert_eq!(reader.read(4094, 4), Ok(vec![254, 255, 0, 1]));
        assert_eq!(reader.read(8190, 2), Ok(vec![254, 255]));
        assert_eq!(reader.read(8190, 3), Err(Error::OutOfRange));
        assert_eq!(reader.read(u64::MAX, 3), Err(Error::OutOfRange));
        assert_eq!(reader.read(u64::MAX - 3, 2), Err(Error::OutOfRange));
    }

    #[test]
    fn an_answer_that_comes_later_is_waited_for_and_one_that_does_not_is_given_up() {
        let disk = SlowDisk::new((0..=255).cycle().take(1024).collect(), true);
        let medium: Arc<dyn Medium> = disk.clone();
        let turns = core::cell::Cell::new(0);
        let mut wait = || {
            turns.set(turns.get() + 1);
            if turns.get() % 3 == 0 {
                disk.complete_all();
            }
            turns.get() < 7
        };
        let mut reader = Reader::open(&medium, &mut wait);
        assert_eq!(reader.read(1, 2), Ok(vec![1, 2]));
        assert_eq!(reader.read(513, 1), Ok(vec![1]));
        assert_eq!(reader.read(514, 1), Err(Error::Io));
        // The late answer is none to the next question.
        disk.complete_all();
        turns.set(0);
        assert_eq!(reader.read(515, 1), Ok(vec![3]));
    }

    #[test]
    fn memory_is_read_by_the_byte() {
        let disk: Arc<dyn Medium> = Arc::new(HeapDisk::new(vec![1, 2, 3], true));
        let mut wait = || false;
        let mut reader = Reader::open(&disk, &mut wait);
        assert_eq!((reader.read(1, 2), reader.block_bytes()), (Ok(vec![2, 3]), 512));
    }
}
