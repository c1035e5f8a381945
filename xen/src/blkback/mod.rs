//! blkback: PV disks, the back end of `xen-blkfront` and its like (`io/blkif.h`).
//!
//! A [`Vbd`] stands between a front end, which it finds in XenStore, and a disk. The guest's pages
//! that a request is about are held until it is over, and let go before it is answered; the medium
//! copies from and to them.
//!
//! Its owner calls [`Vbd::attend`] when the store has events for it, [`Vbd::serve`] when the guest
//! signals or idles, and [`Vbd::look`] when it was asked to; all may be called at any time.

mod entries;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod job;
mod pace;
mod pages;
pub mod spec;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod test_front;
#[cfg(test)]
mod tests;
mod xenbus;

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use block::{Client, Completion, Data, Op, Opened, Submitted, User};
use devices::lock::{Ranked, rank};

use entries::{Request, respond, take};
use job::{Geometry, Job};
use pace::Pace;
use pages::Pages;
use spec::{MAX_INDIRECT_SEGMENTS, Protocol, STATUS_ERROR, STATUS_OKAY};

use crate::guest::Guest;
use crate::ring::{BrokenRing, PAGE_BYTES, Ring};
use crate::store::xenbus::BackEndNodes;
use crate::store::{DomId, Local};

/// Data of the largest request.
const MAX_BYTES_A_REQUEST: usize = MAX_INDIRECT_SEGMENTS * PAGE_BYTES;

/// Data on its way for one disk, at most. Requests wait while the largest would pass it.
const MAX_BYTES_IN_FLIGHT: usize = 4 << 20;

/// No further request is taken in a go once those taken have so much data, which the last may
/// pass: the guest's CPU waits meanwhile.
const MAX_BYTES_A_GO: usize = 1 << 20;

/// The settings of a disk.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The guest.
    pub domain: DomId,
    /// Its part of the medium's time beside others.
    pub weight: u32,
    /// The device's number in the store: 51712 is xvda.
    pub id: u32,
    /// It is a CD-ROM drive.
    pub is_cdrom: bool,
    /// Rings, each with its event channel, at most: one a virtual CPU is enough.
    pub max_queues: u32,
}

impl Settings {
    const fn user(&self) -> User {
        User { id: self.domain as u32, weight: self.weight }
    }
}

/// A PV disk.
pub struct Vbd {
    settings: Settings,
    guest: Arc<dyn Guest>,
    local: Local,
    itself: Weak<Vbd>,
    inner: Ranked<Inner, { rank::PV_BACK_END }>,
}

/// The part that changes.
struct Inner {
    nodes: BackEndNodes,
    /// None in a CD-ROM drive without a disc.
    medium: Option<Opened>,
    /// The rings of a front end that is connected.
    queues: Vec<Queue>,
    is_broken: bool,
    /// The queue that is served first.
    first_queue: usize,
    /// Requests that the medium works on, by their tags.
    jobs: BTreeMap<u64, Job>,
    /// Data of these, and of barriers that wait.
    bytes_in_flight: usize,
    last_tag: u64,
    pace: Pace,
    /// [`Vbd::look`] will be called.
    will_look: bool,
}

/// A ring with its event channel.
struct Queue {
    guest: Arc<dyn Guest>,
    protocol: Protocol,
    ring: Ring,
    pages: Pages,
    port: u32,
    /// Its requests that are on their way.
    in_flight: usize,
    /// One of them is a barrier, which is then the only one.
    has_barrier: bool,
    /// A barrier that waits for the requests before it.
    waiting: Option<Job>,
}

impl Queue {
    fn new(guest: Arc<dyn Guest>, protocol: Protocol, ring: Ring, pages: Pages, port: u32) -> Self {
        let (in_flight, has_barrier, waiting) = (0, false, None);
        Self { guest, protocol, ring, pages, port, in_flight, has_barrier, waiting }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.guest.unbind(self.port);
    }
}

impl Inner {
    fn queue(&mut self, index: usize) -> Result<&mut Queue, BrokenRing> {
        self.queues.get_mut(index).ok_or(BrokenRing)
    }

    /// True if a further request of a queue may be on its way.
    fn has_room(&self, queue: usize) -> bool {
        let queue = self.queues.get(queue);
        let is_held_up = queue.is_none_or(|it| it.has_barrier || it.waiting.is_some());
        !is_held_up && self.bytes_in_flight <= MAX_BYTES_IN_FLIGHT - MAX_BYTES_A_REQUEST
    }

    fn answer(&mut self, job: Job, status: i16) -> Result<(), BrokenRing> {
        let Job { queue, id, operation, length_bytes, data, .. } = job;
        self.bytes_in_flight -= length_bytes;
        // Nothing of the guest's is in use when it is answered.
        drop(data);
        respond(&mut self.queue(queue)?.ring, id, operation, status)
    }
}

impl Vbd {
    /// Takes the requests that are in the rings. To be called when the guest signals, and when it
    /// has nothing to run.
    pub fn serve(&self) {
        self.pump(&mut self.inner.lock());
    }

    /// Looks by the clock, as was asked for by [`Guest::look_later`].
    pub fn look(&self) {
        let inner = &mut self.inner.lock();
        self.pump(inner);
        inner.pace.look();
        inner.will_look = false;
        // From now on the front end may have to tell of each.
        self.pump(inner);
    }

    /// Serves each queue, in turn the first.
    fn pump(&self, inner: &mut Inner) {
        let queues = inner.queues.len();
        inner.first_queue = inner.first_queue.wrapping_add(1);
        for index in 0..queues {
            if inner.is_broken {
                return;
            }
            let queue = inner.first_queue.wrapping_add(index) % queues;
            let result = self.take_requests(inner, queue);
            self.publish(inner, queue, result);
        }
        if inner.pace.gathers() && !inner.will_look {
            inner.will_look = true;
            self.guest.look_later(self.settings.id);
        }
    }

    /// Takes requests, as many as the ring has entries: the guest may go on adding some, and is
    /// served again after others.
    fn take_requests(&self, inner: &mut Inner, queue: usize) -> Result<(), BrokenRing> {
        let mut turns = inner.queue(queue)?.ring.entries();
        let (mut bytes, mut is_first) = (0, true);
        while inner.has_room(queue) {
            if turns == 0 || bytes >= MAX_BYTES_A_GO {
                if inner.queue(queue)?.ring.ask_for_event(1)? > 0 {
                    self.guest.call_back(self.settings.id);
                }
                break;
            }
            turns -= 1;
            let link = inner.queues.get_mut(queue).ok_or(BrokenRing)?;
            match take(&mut link.ring, link.protocol)? {
                Some(request) => {
                    inner.pace.count(is_first);
                    is_first = false;
                    bytes += self.begin(inner, queue, &request)?;
                }
                None if link.ring.ask_for_event(inner.pace.awaited(link.ring.entries()))? > 0 => {}
                None => break,
            }
        }
        Ok(())
    }

    /// Begins with a request, and returns the length of its data.
    fn begin(
        &self,
        inner: &mut Inner,
        queue: usize,
        request: &Request,
    ) -> Result<usize, BrokenRing> {
        let geometry = self.geometry(inner);
        let link = inner.queues.get_mut(queue).ok_or(BrokenRing)?;
        let job = inner
            .medium
            .as_ref()
            .ok_or(STATUS_ERROR)
            .and_then(|medium| Job::new(&medium.queue, queue, request, geometry, &link.pages));
        let job = match job {
            Ok(job) => job,
            Err(status) => {
                respond(&mut link.ring, request.id, request.answered_operation(), status)?;
                return Ok(0);
            }
        };
        let bytes = job.length_bytes;
        inner.bytes_in_flight += bytes;
        if job.is_barrier && link.in_flight > 0 {
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
            let data = match op {
                Op::Flush => Data::NONE,
                _ => core::mem::replace(&mut job.data, Data::NONE),
            };
            let request = block::Request { tag, op, offset_bytes: job.offset_bytes, data };
            match job.disk.submit(request) {
                Submitted::Done(completion) => {
                    if let Err(status) = job.finish_step(completion) {
                        return inner.answer(job, status);
                    }
                }
                Submitted::Pending => {
                    let queue = inner.queue(job.queue)?;
                    queue.in_flight += 1;
                    queue.has_barrier = job.is_barrier;
                    inner.jobs.insert(tag, job);
                    return Ok(());
                }
            }
        }
        inner.answer(job, STATUS_OKAY)
    }

    /// A step of a request that took its time is done.
    fn go_on(
        &self,
        inner: &mut Inner,
        mut job: Job,
        completion: Completion,
    ) -> Result<(), BrokenRing> {
        let index = job.queue;
        let queue = inner.queue(index)?;
        queue.in_flight -= 1;
        queue.has_barrier = false;
        match job.finish_step(completion) {
            Ok(()) => self.advance(inner, job)?,
            Err(status) => inner.answer(job, status)?,
        }
        let queue = inner.queue(index)?;
        match queue.waiting.take_if(|_| queue.in_flight == 0) {
            Some(barrier) => self.advance(inner, barrier),
            None => Ok(()),
        }
    }

    /// Shows the front end the responses, or gives it up if it broke its ring.
    fn publish(&self, inner: &mut Inner, queue: usize, result: Result<(), BrokenRing>) {
        let Ok(link) = inner.queue(queue) else { return };
        match result.and_then(|()| link.ring.publish()) {
            Ok(true) => self.guest.notify(link.port),
            Ok(false) => {}
            Err(BrokenRing) => {
                inner.is_broken = true;
                self.guest.call_back(self.settings.id);
            }
        }
    }

    fn geometry(&self, inner: &Inner) -> Geometry {
        Geometry::new(inner.medium.as_ref().map(|it| it.medium.geometry()), self.settings.is_cdrom)
    }
}

impl Client for Vbd {
    fn complete(&self, completion: Completion) {
        let inner = &mut self.inner.lock();
        let Some(job) = inner.jobs.remove(&completion.request.tag) else { return };
        if job.is_orphan {
            // The guest's pages first.
            drop(completion);
            inner.bytes_in_flight -= job.length_bytes;
            if inner.jobs.is_empty() {
                // The state of the back end waits for this.
                self.guest.call_back(self.settings.id);
            }
            return;
        }
        let queue = job.queue;
        let result = self.go_on(inner, job, completion);
        self.publish(inner, queue, result);
        self.pump(inner);
    }
}
