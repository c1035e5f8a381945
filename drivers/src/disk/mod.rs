//! A disk of the machine's as a [`Medium`], whatever its controller: requests are cut into commands
//! that the controller takes, in an order that is fair to their users, and their data is copied
//! through memory of the controller's own. Disks behind one controller share its queue.
//!
//! A device submits on any CPU. Completions are taken on the boot CPU alone, outside of interrupt
//! handlers ([`Adapter::attend`]), and clients are called there with no lock held. The lock is the
//! innermost of all but those of guests' memory, and nothing waits with it held.

mod controller;
mod found;
mod job;
mod pages;
mod state;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use block::{Client, Completion, Error, Geometry, Medium, Op, Queue, Request, Submitted, User};
use spin::Mutex;

pub(crate) use controller::{Command, Controller, Limits, Taken, Unit};
pub(crate) use found::{Found, FoundDisk, Place};
use job::Job;
pub(crate) use pages::{MAX_PAGES, Pages};
use state::State;

use crate::hardware::{Bell, Hardware};

/// No time at all.
const NEVER_NS: u64 = u64::MAX;

/// A controller with its disks.
pub struct Adapter {
    hardware: &'static dyn Hardware,
    bell: Arc<Bell>,
    /// When it is to be attended to though its bell has not rung.
    due_ns: AtomicU64,
    next_queue: AtomicU64,
    state: Mutex<State>,
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter").field("due_ns", &self.due_ns).finish_non_exhaustive()
    }
}

impl Adapter {
    /// A controller that has been started, called `name`, with so many disks. `pages` are for data,
    /// `bell` is the one that its interrupt rings; if it has none, it is polled.
    pub(crate) fn new(
        hardware: &'static dyn Hardware,
        name: String,
        units: usize,
        controller: Box<dyn Controller>,
        pages: Pages,
        bell: Arc<Bell>,
    ) -> Arc<Self> {
        Arc::new(Self {
            hardware,
            bell,
            due_ns: AtomicU64::new(NEVER_NS),
            next_queue: AtomicU64::new(0),
            state: Mutex::new(State::new(name, units, controller, pages)),
        })
    }

    /// One of its disks.
    pub(crate) fn disk(self: &Arc<Self>, unit: Unit, geometry: Geometry) -> Arc<Disk> {
        Arc::new(Disk { adapter: self.clone(), unit, geometry })
    }

    /// Tells clients of what is complete, starts what waits, and looks whether the device still
    /// answers, if its bell has rung or it is time for that. Returns the host time at which to call
    /// this again without a ring, in nanoseconds. For the boot CPU, outside of handlers.
    pub(crate) fn attend(&self) -> u64 {
        let due_ns = self.due_ns.load(Ordering::Relaxed);
        let is_rung = self.bell.take();
        if !is_rung && due_ns == NEVER_NS {
            return NEVER_NS;
        }
        let now_ns = self.hardware.host_ns();
        if !is_rung && now_ns < due_ns {
            return due_ns;
        }
        let (due_ns, done) = {
            let mut state = self.state.lock();
            (state.attend(now_ns), state.take_done())
        };
        self.due_ns.store(due_ns, Ordering::Relaxed);
        for (client, completion) in done {
            if let Some(client) = client.upgrade() {
                client.complete(completion);
            }
        }
        due_ns
    }

    /// Tells the device that power may go; true when it is ready for that.
    pub(crate) fn shut_down(&self) -> bool {
        self.state.lock().shut_down()
    }

    fn submit(&self, job: Job) -> Submitted {
        let wants_attention = {
            let mut state = self.state.lock();
            match state.add(job, self.hardware.host_ns()) {
                Ok(wants_attention) => wants_attention,
                Err(completion) => return Submitted::Done(completion),
            }
        };
        if wants_attention {
            self.bell.ring();
            self.hardware.call_attendant();
        }
        Submitted::Pending
    }
}

/// A disk.
#[derive(Debug)]
pub struct Disk {
    adapter: Arc<Adapter>,
    unit: Unit,
    geometry: Geometry,
}

impl Medium for Disk {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn open(self: Arc<Self>, client: Weak<dyn Client>, user: User) -> Arc<dyn Queue> {
        let number = self.adapter.next_queue.fetch_add(1, Ordering::Relaxed);
        Arc::new(Opened { disk: self, client, user, number })
    }
}

/// A disk, opened by a device.
struct Opened {
    disk: Arc<Disk>,
    client: Weak<dyn Client>,
    user: User,
    number: u64,
}

impl Queue for Opened {
    fn submit(&self, request: Request) -> Submitted {
        let Disk { adapter, unit, geometry } = &*self.disk;
        let result = geometry.check(&request);
        let is_nothing = request.op != Op::Flush && request.data.length_bytes() == 0;
        if result.is_err() || is_nothing {
            return Submitted::Done(Completion { request, result });
        }
        adapter.submit(Job::new(request, self.client.clone(), self.user, *unit, self.number))
    }

    fn cancel(&self, tag: u64) {
        self.disk.adapter.state.lock().cancel(self.number, tag);
    }
}

/// The result of a request on a disk that is gone.
const GONE: Result<(), Error> = Err(Error::Gone);
