//! A disk with sectors of a length, which counts its requests, for tests.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    Client, Completion, Geometry, HeapDisk, Medium, NoClient, Queue, Request, Submitted, User,
};

/// A disk of the hypervisor's heap in sectors.
pub struct TestDisk {
    memory: Arc<HeapDisk>,
    sector_bytes: u32,
    requests: AtomicUsize,
}

impl TestDisk {
    /// A disk that holds `content`, whole sectors.
    pub fn new(content: Vec<u8>, sector_bytes: u32) -> Self {
        assert!(content.len().is_multiple_of(sector_bytes as usize));
        let memory = Arc::new(HeapDisk::new(content, false));
        Self { memory, sector_bytes, requests: AtomicUsize::new(0) }
    }

    /// How many requests there were.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Medium for TestDisk {
    fn geometry(&self) -> Geometry {
        let sector_bytes = self.sector_bytes;
        let physical_sector_bytes = sector_bytes;
        Geometry { sector_bytes, physical_sector_bytes, ..self.memory.geometry() }
    }

    fn open(self: Arc<Self>, _client: Weak<dyn Client>, user: User) -> Arc<dyn Queue> {
        let memory = self.memory.clone().open(NoClient::weak(), user);
        Arc::new(TestQueue { disk: self, memory })
    }
}

struct TestQueue {
    disk: Arc<TestDisk>,
    memory: Arc<dyn Queue>,
}

impl Queue for TestQueue {
    fn submit(&self, request: Request) -> Submitted {
        self.disk.requests.fetch_add(1, Ordering::Relaxed);
        match self.disk.geometry().check(&request) {
            Ok(()) => self.memory.submit(request),
            Err(error) => Submitted::Done(Completion { request, result: Err(error) }),
        }
    }

    fn cancel(&self, _tag: u64) {}
}
