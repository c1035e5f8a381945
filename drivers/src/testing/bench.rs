//! A disk with a client, for tests.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use block::{Client, Completion, Data, Error, HostDisk, Op, Queue, Request, Submitted, User};
use spin::Mutex;

use super::{FakeFunction, FakeMachine};
use crate::Disks;

/// A device that keeps what it is told.
#[derive(Default)]
pub struct Keeper(pub Mutex<Vec<Completion>>);

impl Client for Keeper {
    fn complete(&self, completion: Completion) {
        self.0.lock().push(completion);
    }
}

/// The result of a request, with its data if that is the hypervisor's.
pub type Outcome = (Result<(), Error>, Vec<u8>);

/// A machine with its disks started, and a device that uses the first one.
pub struct Bench {
    pub machine: &'static FakeMachine,
    pub disks: Disks,
    pub client: Arc<Keeper>,
    pub queue: Arc<dyn Queue>,
}

impl Bench {
    /// The first disk of a machine with such functions.
    ///
    /// # Panics
    /// It has none.
    pub fn new(functions: Vec<FakeFunction>) -> Self {
        let machine = FakeMachine::leak(functions);
        let disks = Disks::find(machine);
        let client = Arc::new(Keeper::default());
        let user = User { id: 1, weight: 256 };
        let queue = disks.list()[0].medium.clone().open(Self::weak(&client), user);
        Self { machine, disks, client, queue }
    }

    fn weak(client: &Arc<Keeper>) -> Weak<dyn Client> {
        let weak: Weak<Keeper> = Arc::downgrade(client);
        weak
    }

    /// Opens the first disk for another user.
    pub fn open(&self, user: User) -> (Arc<Keeper>, Arc<dyn Queue>) {
        let client = Arc::new(Keeper::default());
        let queue = self.disk().medium.clone().open(Self::weak(&client), user);
        (client, queue)
    }

    pub fn disk(&self) -> &HostDisk {
        &self.disks.list()[0]
    }

    /// Submits a request.
    pub fn submit(&self, tag: u64, op: Op, offset_bytes: u64, data: Data) -> Submitted {
        self.queue.submit(Request { tag, op, offset_bytes, data })
    }

    /// Lets a millisecond pass, interrupts, and attends to the disks.
    pub fn attend(&self) -> u64 {
        self.machine.pass(1_000_000);
        self.machine.interrupt();
        self.disks.attend()
    }

    /// Takes what the client was told, in the order of tags.
    pub fn take(&self) -> Vec<(u64, Result<(), Error>)> {
        let mut told: Vec<_> = core::mem::take(&mut *self.client.0.lock())
            .into_iter()
            .map(|completion| (completion.request.tag, completion.result))
            .collect();
        told.sort_unstable_by_key(|&(tag, _)| tag);
        told
    }

    /// Carries out one request to its end, with the device's help.
    ///
    /// # Panics
    /// It takes for ever.
    pub fn run(&self, op: Op, offset_bytes: u64, data: Data) -> Outcome {
        let done = match self.submit(9, op, offset_bytes, data) {
            Submitted::Done(done) => done,
            Submitted::Pending => {
                let mut told = None;
                for _ in 0..10_000 {
                    self.attend();
                    told = self.client.0.lock().pop();
                    if told.is_some() {
                        break;
                    }
                }
                told.expect("it is never complete")
            }
        };
        (done.result, done.request.data.into_heap())
    }
}
