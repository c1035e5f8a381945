//! A guest, its front end, and a disk that takes its time, for tests and fuzz targets.
#![cfg_attr(not(test), allow(dead_code, reason = "tests use more than fuzz targets"))]

use spin::Mutex;

use super::spec::Protocol;
use super::*;
use crate::store::xenbus::{self, State};
use crate::store::{Store, tree};
use crate::test_grants::{PORT, TestGuest};
use crate::width::Width;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use block::{Error, Medium};

/// xvda.
pub const XVDA: u32 = 51712;
/// References of the ring's pages.
pub const RING: u32 = 100;
/// References of pages for data.
pub const DATA: u32 = 1000;

/// A disk that completes at once, or when it is told.
pub struct TestDisk {
    pub data: Mutex<Vec<u8>>,
    /// Data that has reached the medium.
    pub durable: Mutex<Vec<u8>>,
    pub is_slow: bool,
    pub is_read_only: bool,
    pub has_discard: bool,
    pub sector_bytes: u32,
    pub failure: Mutex<Option<Error>>,
    /// Requests of clients, the oldest first.
    pub queue: Mutex<VecDeque<(Weak<dyn Client>, block::Request)>>,
    pub log: Mutex<Vec<(Op, u64, u64)>>,
}

impl TestDisk {
    pub fn new(sectors: usize, is_slow: bool) -> Self {
        let data: Vec<u8> = (0..sectors * 512).map(|place| (place / 512) as u8).collect();
        Self {
            durable: Mutex::new(data.clone()),
            data: Mutex::new(data),
            is_slow,
            is_read_only: false,
            has_discard: false,
            sector_bytes: 512,
            failure: Mutex::default(),
            queue: Mutex::default(),
            log: Mutex::default(),
        }
    }

    fn perform(&self, mut request: block::Request) -> Completion {
        if let Some(error) = *self.failure.lock() {
            return Completion { request, result: Err(error) };
        }
        let mut data = self.data.lock();
        let start = request.offset_bytes as usize;
        let range = &mut data[start..][..request.data.length_bytes() as usize];
        let result = match request.op {
            Op::Read => request.data.write(0, range),
            Op::Write { .. } => request.data.read(0, range),
            Op::Flush => {
                self.durable.lock().clone_from(&data);
                Ok(())
            }
            Op::Discard => {
                range.fill(0);
                Ok(())
            }
            Op::WriteZeroes => panic!("no front end asks for it"),
        };
        Completion { request, result: result.map_err(|_| Error::Memory) }
    }

    /// Completes the oldest request. Returns false if there is none.
    pub fn complete_one(&self) -> bool {
        let Some((client, request)) = self.queue.lock().pop_front() else { return false };
        let completion = self.perform(request);
        if let Some(client) = client.upgrade() {
            client.complete(completion);
        }
        true
    }

    pub fn complete_all(&self) {
        while self.complete_one() {}
    }
}

impl Medium for TestDisk {
    fn geometry(&self) -> block::Geometry {
        block::Geometry {
            size_bytes: self.data.lock().len() as u64,
            sector_bytes: self.sector_bytes,
            physical_sector_bytes: self.sector_bytes,
            is_read_only: self.is_read_only,
            has_discard: self.has_discard,
        }
    }

    fn open(self: Arc<Self>, client: Weak<dyn Client>, user: User) -> Arc<dyn block::Queue> {
        assert_eq!(user.weight, 256);
        Arc::new(TestQueue { disk: self, client })
    }
}

struct TestQueue {
    disk: Arc<TestDisk>,
    client: Weak<dyn Client>,
}

impl block::Queue for TestQueue {
    fn submit(&self, request: block::Request) -> Submitted {
        let disk = &*self.disk;
        let length = request.data.length_bytes();
        disk.log.lock().push((request.op, request.offset_bytes, length));
        if disk.is_slow {
            disk.queue.lock().push_back((self.client.clone(), request));
            return Submitted::Pending;
        }
        Submitted::Done(disk.perform(request))
    }

    fn cancel(&self, _tag: u64) {}
}

/// A front end with its disk.
pub struct Front {
    pub store: Store,
    pub guest: Arc<TestGuest>,
    pub disk: Arc<TestDisk>,
    pub vbd: Arc<Vbd>,
    pub protocol: Protocol,
    pub pages: usize,
    ring: u32,
    req_prod: u32,
    rsp_cons: u32,
}

pub const SETTINGS: Settings =
    Settings { domain: 1, weight: 256, id: XVDA, is_cdrom: false, max_queues: 2 };

impl Front {
    /// A disk that has just been added; the front end has done nothing yet.
    pub fn new(settings: Settings, disk: TestDisk) -> Self {
        let mut store = Store::default();
        let front = [("virtual-device", "51712"), ("device-type", "disk")];
        let device = tree::Device { class: "vbd", id: XVDA, front: &front, back: &[] };
        tree::add_device(&mut store, 1, &device).unwrap();
        let guest = Arc::new(TestGuest::new(Width::Bits64, XVDA));
        let disk = Arc::new(disk);
        let vbd = {
            let (disk, guest) = (Arc::clone(&disk), Arc::clone(&guest));
            Vbd::new(&mut store, settings, Some(disk), guest).unwrap()
        };
        let protocol = Protocol::X86_64;
        Self { store, guest, disk, vbd, protocol, pages: 1, ring: RING, req_prod: 0, rsp_cons: 0 }
    }

    /// One that is connected.
    pub fn connected(disk: TestDisk) -> Self {
        let mut front = Self::new(SETTINGS, disk);
        front.connect(Protocol::X86_64, 1);
        front
    }

    pub fn set(&mut self, name: &str, value: &str) {
        let path = format!("/local/domain/1/device/vbd/{XVDA}/{name}");
        self.store.write(&path, value.as_bytes()).unwrap();
        self.vbd.attend(&mut self.store).unwrap();
    }

    pub fn remove(&mut self, name: &str) {
        self.store.rm(&format!("/local/domain/1/device/vbd/{XVDA}/{name}")).unwrap();
    }

    pub fn back(&self) -> State {
        xenbus::state(&self.store, &tree::back_path(1, "vbd", XVDA))
    }

    pub fn back_node(&self, name: &str) -> Option<String> {
        xenbus::text(&self.store, &tree::back_path(1, "vbd", XVDA), name)
    }

    /// As Linux connects: keys, then state 3; the back end answers with 4, and so does the front.
    pub fn connect(&mut self, protocol: Protocol, pages: usize) {
        assert_eq!(self.back(), State::InitWait);
        (self.protocol, self.pages, self.req_prod, self.rsp_cons) = (protocol, pages, 0, 0);
        for page in 0..pages as u32 {
            self.guest.grant(RING + page, false);
        }
        for offset in [4, 12] {
            self.set_index(offset, 1);
        }
        if pages == 1 {
            self.set("ring-ref", &RING.to_string());
        } else {
            self.set("ring-page-order", &pages.ilog2().to_string());
            for page in 0..pages {
                self.set(&format!("ring-ref{page}"), &(RING as usize + page).to_string());
            }
        }
        self.set("event-channel", &PORT.to_string());
        let name = if protocol == Protocol::X86_32 { "x86_32-abi" } else { "x86_64-abi" };
        self.set("protocol", name);
        self.set("state", "3");
        assert_eq!(self.back(), State::Connected);
        self.set("state", "4");
    }

    pub fn index(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.guest.bytes(self.ring)[offset..offset + 4].try_into().unwrap())
    }

    pub fn set_index(&self, offset: usize, value: u32) {
        self.guest.fill(self.ring, offset, &value.to_le_bytes());
    }

    fn entry(&self, index: u32) -> usize {
        let (stride, entries) = (self.protocol.stride_bytes(), self.protocol.entries(self.pages));
        64 + (index % entries) as usize * stride
    }

    /// Writes an entry into the ring without telling.
    pub fn put(&mut self, bytes: &[u8]) {
        for (place, byte) in (self.entry(self.req_prod)..).zip(bytes) {
            self.guest.fill(self.ring + (place / 4096) as u32, place % 4096, &[*byte]);
        }
        self.req_prod = self.req_prod.wrapping_add(1);
    }

    /// Tells of what was put. Returns true if the back end wanted the signal.
    pub fn push(&mut self) -> bool {
        let old = self.index(0);
        self.set_index(0, self.req_prod);
        let event = self.index(4);
        let is_wanted = self.req_prod.wrapping_sub(event) < self.req_prod.wrapping_sub(old);
        if is_wanted {
            self.vbd.serve();
        }
        is_wanted
    }

    /// Takes the responses: identifier, operation, status.
    pub fn responses(&mut self) -> Vec<(u64, u8, i16)> {
        let mut responses = vec![];
        while self.rsp_cons != self.index(8) {
            let start = self.entry(self.rsp_cons);
            let bytes: Vec<u8> = (start..start + 12)
                .map(|place| self.guest.bytes(self.ring + (place / 4096) as u32)[place % 4096])
                .collect();
            let id = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let status = i16::from_le_bytes(bytes[10..12].try_into().unwrap());
            responses.push((id, bytes[8], status));
            self.rsp_cons = self.rsp_cons.wrapping_add(1);
        }
        self.set_index(12, self.rsp_cons.wrapping_add(1));
        responses
    }

    /// Goes to another queue: the reference of its ring, and its indices.
    pub fn switch(&mut self, other: &mut (u32, u32, u32)) {
        let own = (self.ring, self.req_prod, self.rsp_cons);
        (self.ring, self.req_prod, self.rsp_cons) = core::mem::replace(other, own);
    }

    /// Leaves out the responses, whatever they are.
    pub fn skip_responses(&mut self) {
        self.rsp_cons = self.index(8);
        self.set_index(12, self.rsp_cons.wrapping_add(1));
    }

    /// A request with segments `(reference, first, last)`.
    pub fn entry_of(&self, op: u8, id: u64, sector: u64, segments: &[(u32, u8, u8)]) -> Vec<u8> {
        let mut bytes = vec![op, segments.len() as u8, 0, 0];
        if self.protocol == Protocol::X86_64 {
            bytes.extend([0; 4]);
        }
        bytes.extend(id.to_le_bytes());
        bytes.extend(sector.to_le_bytes());
        bytes.extend(segment_bytes(segments));
        bytes.resize(self.protocol.stride_bytes().max(bytes.len()), 0);
        bytes
    }

    /// One request on its own.
    pub fn ask(&mut self, op: u8, sector: u64, segments: &[(u32, u8, u8)]) -> i16 {
        let entry = self.entry_of(op, 0x1122_3344_5566_7788, sector, segments);
        self.put(&entry);
        assert!(self.push());
        self.disk.complete_all();
        let responses = self.responses();
        let [(0x1122_3344_5566_7788, answered, status)] = responses[..] else {
            panic!("{responses:?}");
        };
        assert_eq!(answered, op);
        status
    }

    /// One discard on its own.
    pub fn ask_discard(&mut self, flag: u8, sector: u64, sectors: u64) -> i16 {
        let mut bytes = vec![5, flag, 0, 0];
        if self.protocol == Protocol::X86_64 {
            bytes.extend([0; 4]);
        }
        bytes.extend([7, sector, sectors].map(u64::to_le_bytes).concat());
        self.put(&bytes);
        assert!(self.push());
        self.disk.complete_all();
        let responses = self.responses();
        let [(7, 5, status)] = responses[..] else { panic!("{responses:?}") };
        status
    }

    /// Puts an indirect request, whose segments are on the pages `lists`.
    pub fn put_indirect(&mut self, op: u8, id: u64, sector: u64, count: u16, lists: &[u32]) {
        let mut bytes = vec![6, op];
        bytes.extend(count.to_le_bytes());
        if self.protocol == Protocol::X86_64 {
            bytes.extend([0; 4]);
        }
        bytes.extend(id.to_le_bytes());
        bytes.extend(sector.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(lists.iter().flat_map(|list| list.to_le_bytes()));
        self.put(&bytes);
    }

    /// One indirect request on its own. Its response names the operation that it is about.
    pub fn ask_indirect(&mut self, op: u8, sector: u64, count: u16, lists: &[u32]) -> i16 {
        self.put_indirect(op, 7, sector, count, lists);
        assert!(self.push());
        self.disk.complete_all();
        let responses = self.responses();
        let [(7, answered, status)] = responses[..] else { panic!("{responses:?}") };
        assert_eq!(answered, op);
        status
    }
}

pub fn segment_bytes(segments: &[(u32, u8, u8)]) -> Vec<u8> {
    let bytes = |&(reference, first, last): &(u32, u8, u8)| {
        [&reference.to_le_bytes()[..], &[first, last, 0, 0]].concat()
    };
    segments.iter().flat_map(bytes).collect()
}
