//! A disk that takes its time, for tests.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::{
    Client, Completion, Error, Geometry, HeapDisk, Medium, NoClient, Op, Queue, Request, Submitted,
    User,
};

/// A disk in the hypervisor's own heap, for tests: each request waits until it is told to end.
pub struct SlowDisk {
    disk: Arc<dyn Queue>,
    geometry: Geometry,
    state: spin::Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    waiting: Vec<(Weak<dyn Client>, Request)>,
    cancelled: Vec<u64>,
}

impl SlowDisk {
    /// A disk that holds `content`, of any length.
    pub fn new(content: Vec<u8>, is_read_only: bool) -> Arc<Self> {
        let disk = Arc::new(HeapDisk::new(content, is_read_only));
        let geometry = disk.geometry();
        let disk = disk.open(NoClient::weak(), User { id: 0, weight: 1 });
        Arc::new(Self { disk, geometry, state: spin::Mutex::default() })
    }

    /// The operations that wait, the oldest first.
    pub fn waiting(&self) -> Vec<Op> {
        self.state.lock().waiting.iter().map(|(_, request)| request.op).collect()
    }

    /// The tags of requests that a client lost its interest in, since the last call.
    pub fn cancelled(&self) -> Vec<u64> {
        core::mem::take(&mut self.state.lock().cancelled)
    }

    /// Carries out the request at a place among those that wait, or fails it. False if none is
    /// there.
    pub fn complete(&self, place: usize, result: Result<(), Error>) -> bool {
        let mut state = self.state.lock();
        if place >= state.waiting.len() {
            return false;
        }
        let (client, request) = state.waiting.remove(place);
        drop(state);
        let completion = match result {
            Err(_) => Completion { request, result },
            Ok(()) => match self.disk.submit(request) {
                Submitted::Done(completion) => completion,
                Submitted::Pending => unreachable!("a heap disk never waits"),
            },
        };
        if let Some(client) = client.upgrade() {
            client.complete(completion);
        }
        true
    }

    /// Carries out all requests, and those that come meanwhile.
    pub fn complete_all(&self) {
        while self.complete(0, Ok(())) {}
    }
}

impl Medium for SlowDisk {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn open(self: Arc<Self>, client: Weak<dyn Client>, _user: User) -> Arc<dyn Queue> {
        Arc::new(SlowQueue { disk: self, client })
    }
}

/// One client's way to it.
struct SlowQueue {
    disk: Arc<SlowDisk>,
    client: Weak<dyn Client>,
}

impl Queue for SlowQueue {
    fn submit(&self, request: Request) -> Submitted {
        self.disk.state.lock().waiting.push((self.client.clone(), request));
        Submitted::Pending
    }

    fn cancel(&self, tag: u64) {
        self.disk.state.lock().cancelled.push(tag);
    }
}
