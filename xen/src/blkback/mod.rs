//! blkback: PV disks, the back end of `xen-blkfront` and its like (`io/blkif.h`).
//!
//! A [`Vbd`] stands between a front end, which it finds in XenStore, and a disk. It never holds a
//! page of the guest's while the disk works: a page is held for the moment in which data is copied,
//! so that nothing of the guest's is in use when its request is answered.
//!
//! Its owner calls [`Vbd::attend`] when the store has events for it, and [`Vbd::serve`] when the
//! guest signals; both may be called at any time.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod guest;
mod job;
mod pages;
mod ring;
pub mod spec;
#[cfg(any(test, feature = "fuzzing"))]
mod test_front;
#[cfg(test)]
mod tests;
mod xenbus;

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;

use devices::block::{
    BlockBackend, BlockClient, BlockCompletion, BlockOp, BlockRequest, Submitted,
};
use spin::Mutex;

pub use guest::{BadGrant, Guest, Held};
use job::{Geometry, Job};
use pages::Pages;
use ring::{BrokenRing, Request, Ring};
use spec::{STATUS_ERROR, STATUS_OKAY};

use crate::store::xenbus::State;
use crate::store::{DomId, Local};

/// Data on its way for one disk. A request that would pass it waits, if it is not the only one.
const MAX_BYTES_IN_FLIGHT: usize = 4 << 20;

/// Data of the requests that are taken in one go, at most: the guest's CPU waits meanwhile.
const MAX_BYTES_A_GO: usize = 1 << 20;

/// The settings of a disk.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The guest.
    pub domain: DomId,
    /// The device's number in the store: 51712 is xvda.
    pub id: u32,
    /// Size of the disk's sectors, 512 or 4096 bytes.
    pub sector_bytes: u32,
    /// It is a CD-ROM drive.
    pub is_cdrom: bool,
    /// Grants that last as long as the connection are offered (`feature-persistent`): they save
    /// the back end some work, and cost the front end a copy.
    pub offers_persistent_grants: bool,
}

/// A PV disk.
pub struct Vbd {
    settings: Settings,
    medium: Arc<dyn BlockBackend>,
    guest: Arc<dyn Guest>,
    local: Local,
    itself: Weak<Vbd>,
    inner: Mutex<Inner>,
}

/// The part that changes.
struct Inner {
    state: State,
    link: Option<Link>,
    jobs: BTreeMap<u64, Job>,
    bytes_in_flight: usize,
    last_tag: u64,
    /// A buffer for the next request.
    spare: Vec<u8>,
}

/// A front end that is connected.
struct Link {
    guest: Arc<dyn Guest>,
    ring: Ring,
    pages: Pages,
    port: u32,
    /// A barrier that waits for the requests before it.
    waiting: Option<Job>,
    is_broken: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.guest.unbind(self.port);
    }
}

impl Vbd {
    /// Takes the requests that are in the ring. To be called when the guest signals.
    pub fn serve(&self) {
        self.pump(&mut self.inner.lock());
    }

    /// Takes requests, as many as the ring has entries: the guest may go on adding some, and is
    /// served again after others.
    fn pump(&self, inner: &mut Inner) {
        if inner.link.as_ref().is_none_or(|link| link.is_broken) {
            return;
        }
        let result = self.take_requests(inner);
        self.publish(inner, result);
    }

    fn take_requests(&self, inner: &mut Inner) -> Result<(), BrokenRing> {
        let mut turns = inner.link.as_ref().map_or(0, |link| link.ring.entries());
        let mut bytes = 0;
        while self.has_room(inner) {
            if turns == 0 || bytes >= MAX_BYTES_A_GO {
                if let Some(link) = &mut inner.link
                    && link.ring.ask_for_event()?
                {
                    self.guest.call_back(self.settings.id);
                }
                break;
            }
            turns -= 1;
            match self.turn(inner)? {
                Some(taken) => bytes += taken,
                None => break,
            }
        }
        Ok(())
    }

    /// Takes one request, and returns the length of its data. None if there is no request, and the
    /// front end will signal the next.
    fn turn(&self, inner: &mut Inner) -> Result<Option<usize>, BrokenRing> {
        let Some(link) = &mut inner.link else { return Ok(None) };
        match link.ring.take()? {
            Some(request) => self.begin(inner, &request).map(Some),
            None => Ok(link.ring.ask_for_event()?.then_some(0)),
        }
    }

    /// True if a further request may be on its way.
    fn has_room(&self, inner: &Inner) -> bool {
        let is_held_up = inner.link.as_ref().is_none_or(|link| link.waiting.is_some())
            || inner.jobs.values().any(|job| job.is_barrier);
        !is_held_up && (inner.jobs.is_empty() || inner.bytes_in_flight < MAX_BYTES_IN_FLIGHT)
    }

    fn begin(&self, inner: &mut Inner, request: &Request) -> Result<usize, BrokenRing> {
        let geometry = self.geometry();
        let Inner { link: Some(link), spare, jobs, .. } = inner else { return Ok(0) };
        let job = match Job::new(request, geometry, &mut link.pages, spare) {
            Ok(job) => job,
            Err(status) => {
                link.ring.respond(request.id, request.operation, status)?;
                return Ok(0);
            }
        };
        let bytes = job.buffer.len();
        if job.is_barrier && !jobs.is_empty() {
            link.waiting = Some(job);
        } else {
            self.advance(inner, job)?;
        }
        Ok(bytes)
    }

    /// Goes on with a request until it is answered, or the medium takes its time.
    fn advance(&self, inner: &mut Inner, mut job: Job) -> Result<(), BrokenRing> {
        while let Some(op) = job.next_step() {
            inner.last_tag += 1;
            let tag = inner.last_tag;
            let buffer = match op {
                BlockOp::Flush => vec![],
                BlockOp::Read | BlockOp::Write => core::mem::take(&mut job.buffer),
            };
            let bytes = buffer.len();
            let request = BlockRequest { tag, op, offset_bytes: job.offset_bytes, buffer };
            match self.medium.submit(request) {
                Submitted::Done(completion) => {
                    if !finish_step(inner, &mut job, completion) {
                        return answer(inner, job, STATUS_ERROR);
                    }
                }
                Submitted::Pending => {
                    inner.bytes_in_flight += bytes;
                    inner.jobs.insert(tag, job);
                    return Ok(());
                }
            }
        }
        answer(inner, job, STATUS_OKAY)
    }

    /// A step of a request that took its time is done.
    fn go_on(&self, inner: &mut Inner, completion: BlockCompletion) -> Result<(), BrokenRing> {
        let Some(mut job) = inner.jobs.remove(&completion.0.tag) else { return Ok(()) };
        inner.bytes_in_flight -= completion.0.buffer.len();
        if job.is_orphan {
            if inner.jobs.is_empty() {
                // The state of the back end waits for this.
                self.guest.call_back(self.settings.id);
            }
            return Ok(());
        }
        if finish_step(inner, &mut job, completion) {
            self.advance(inner, job)?;
        } else {
            answer(inner, job, STATUS_ERROR)?;
        }
        let is_idle = inner.jobs.is_empty();
        match inner.link.as_mut().and_then(|link| link.waiting.take_if(|_| is_idle)) {
            Some(barrier) => self.advance(inner, barrier),
            None => Ok(()),
        }
    }

    /// Shows the front end the responses, or gives it up if it broke its ring.
    fn publish(&self, inner: &mut Inner, result: Result<(), BrokenRing>) {
        let Some(link) = &mut inner.link else { return };
        match result.and_then(|()| link.ring.publish()) {
            Ok(true) => self.guest.notify(link.port),
            Ok(false) => {}
            Err(BrokenRing) => {
                link.is_broken = true;
                self.guest.call_back(self.settings.id);
            }
        }
    }

    fn geometry(&self) -> Geometry {
        let sector_bytes = u64::from(self.settings.sector_bytes);
        let size_bytes = self.medium.size_bytes();
        let is_read_only = self.medium.is_read_only() || self.settings.is_cdrom;
        Geometry { size_bytes: size_bytes - size_bytes % sector_bytes, sector_bytes, is_read_only }
    }
}

impl BlockClient for Vbd {
    fn complete(&self, completion: BlockCompletion) {
        let inner = &mut self.inner.lock();
        let result = self.go_on(inner, completion);
        self.publish(inner, result);
        self.pump(inner);
    }
}

/// Takes a step's result, and copies data that was read. Returns false if it failed.
fn finish_step(inner: &mut Inner, job: &mut Job, (request, result): BlockCompletion) -> bool {
    if request.op != BlockOp::Flush {
        job.buffer = request.buffer;
    }
    if result.is_err() || request.op != BlockOp::Read {
        return result.is_ok();
    }
    let link = inner.link.as_mut();
    link.is_some_and(|link| link.pages.scatter(&job.segments, &job.buffer).is_ok())
}

fn answer(inner: &mut Inner, job: Job, status: i16) -> Result<(), BrokenRing> {
    inner.spare = job.buffer;
    match &mut inner.link {
        Some(link) => link.ring.respond(job.id, job.operation, status),
        None => Ok(()),
    }
}
