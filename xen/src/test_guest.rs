//! A guest and a machine that are none, for tests and fuzz targets.

use crate::backends::{
    BackEnds, ConsoleOutput, DiskSettings, OwnedBackEnds, Settings, SharedStore,
};
#[cfg(test)]
use crate::grants::NoGrant;
use crate::hypercall::{Answer, Call, Outcome};
use crate::machine::{
    BadPointer, Caller, EventLine, MAX_PAGES_A_GO, Machine, ShownPages, ShutdownReason,
};
use crate::platform::{Identity, PvPlatform, PvVcpu};
use crate::width::Width;
use block::HeapDisk;
use devices::memory::{GuestMemory, NotRam, TestMemory};
use devices::time::GuestTime;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub const RAM_BYTES: u64 = 1 << 20;
/// Addresses from here on show what is put there.
pub const FREE_GPA: u64 = 0xf000_0000;

/// A call that reached the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Interrupt { vcpu: usize, vector: u8 },
    Look { vcpu: usize },
    WorkIn(u64),
    Line { line: EventLine, high: bool },
    Timer { vcpu: usize, at_ns: Option<u64> },
    ShutDown(ShutdownReason),
}

/// A machine that keeps what reaches it.
pub struct TestMachine {
    pub ram: Arc<TestMemory>,
    pub pages: Arc<TestMemory>,
    pub now_ns: Mutex<u64>,
    pub shown: Mutex<Vec<ShownPages>>,
    /// Pages of RAM that are not there.
    pub holes: Mutex<BTreeSet<u64>>,
    /// Pages that the host has for the guest's holes.
    pub host_pages: Mutex<u64>,
    /// The guest has to come again before pages go back for the so manieth time from now on; never
    /// if 0.
    pub waits_at: AtomicUsize,
    told: Mutex<Vec<Told>>,
}

impl TestMachine {
    /// No hole is in a range of a few pages.
    fn check(&self, gpa: u64, length: usize) -> Result<(), NotRam> {
        let last = gpa.saturating_add(length as u64).saturating_sub(1);
        let is_there = length == 0 || (gpa / 4096..=last / 4096).all(|gfn| self.is_ram(gfn * 4096));
        is_there.then_some(()).ok_or(NotRam { gpa })
    }

    fn tell(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }
}

/// RAM, but for its holes.
impl GuestMemory for TestMachine {
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NotRam> {
        self.check(gpa, data.len())?;
        GuestMemory::read(&*self.ram, gpa, data)
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), NotRam> {
        self.check(gpa, data.len())?;
        GuestMemory::write(&*self.ram, gpa, data)
    }
}

impl Machine for TestMachine {
    fn memory(&self) -> &dyn GuestMemory {
        self
    }

    fn pages(&self) -> &dyn GuestMemory {
        &*self.pages
    }

    fn is_ram(&self, gpa: u64) -> bool {
        gpa < RAM_BYTES && !self.holes.lock().unwrap().contains(&(gpa / 4096))
    }

    fn is_free(&self, gpa: u64) -> bool {
        (FREE_GPA..1 << 32).contains(&gpa)
    }

    fn show(&self, pages: &[ShownPages]) {
        *self.shown.lock().unwrap() = pages.to_vec();
    }

    fn ram_pages(&self) -> u64 {
        RAM_BYTES / 4096 - self.holes.lock().unwrap().len() as u64
    }

    fn ram_ranges(&self) -> Vec<Range<u64>> {
        core::iter::once(0..RAM_BYTES).collect()
    }

    fn give_back(&self, gfns: &[u64]) -> Option<usize> {
        assert!(gfns.len() <= MAX_PAGES_A_GO);
        let left = self.waits_at.load(Ordering::Relaxed);
        self.waits_at.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1 {
            return None;
        }
        let mut holes = self.holes.lock().unwrap();
        let is_given = |gfn: &&u64| **gfn < RAM_BYTES / 4096 && holes.insert(**gfn);
        Some(gfns.iter().take_while(is_given).count())
    }

    fn take_again(&self, gfns: &[u64], most: u64) -> usize {
        let (mut holes, mut left) = (self.holes.lock().unwrap(), self.host_pages.lock().unwrap());
        let is_taken = |gfn: &&u64| {
            let may = *left > 0 && RAM_BYTES / 4096 - (holes.len() as u64) < most;
            let is_taken = may && holes.remove(*gfn);
            *left -= u64::from(is_taken);
            if is_taken {
                GuestMemory::write(&*self.ram, **gfn * 4096, &[0; 4096]).unwrap();
            }
            is_taken
        };
        gfns.iter().take_while(is_taken).count()
    }

    fn last_ram_page(&self) -> u64 {
        RAM_BYTES / 4096 - 1
    }

    fn now(&self) -> GuestTime {
        GuestTime::from_ns(*self.now_ns.lock().unwrap())
    }

    fn set_timer(&self, vcpu: usize, at: Option<GuestTime>) {
        self.tell(Told::Timer { vcpu, at_ns: at.map(GuestTime::as_ns) });
    }

    fn interrupt(&self, vcpu: usize, vector: u8) {
        self.tell(Told::Interrupt { vcpu, vector });
    }

    fn look_for_events(&self, vcpu: usize) {
        self.tell(Told::Look { vcpu });
    }

    fn work_in(&self, delay_ns: u64) {
        self.tell(Told::WorkIn(delay_ns));
    }

    fn set_line(&self, line: EventLine, high: bool) {
        self.tell(Told::Line { line, high });
    }

    fn shut_down(&self, reason: ShutdownReason) {
        self.tell(Told::ShutDown(reason));
    }
}

/// A virtual CPU whose linear addresses are physical ones.
pub struct TestVcpu<'a> {
    pub number: usize,
    pub width: Width,
    pub ram: &'a TestMemory,
}

impl Caller for TestVcpu<'_> {
    fn vcpu(&self) -> usize {
        self.number
    }

    fn width(&self) -> Width {
        self.width
    }

    fn read(&self, linear: u64, data: &mut [u8]) -> Result<(), BadPointer> {
        GuestMemory::read(self.ram, linear, data).map_err(|_| BadPointer)
    }

    fn write(&mut self, linear: u64, data: &[u8]) -> Result<(), BadPointer> {
        GuestMemory::write(self.ram, linear, data).map_err(|_| BadPointer)
    }
}

/// A guest with its platform.
pub struct Guest {
    pub machine: Arc<TestMachine>,
    pub platform: Arc<PvPlatform>,
    pub width: Width,
    pub own: Vec<PvVcpu>,
}

/// A console that takes as much as it has room for.
#[derive(Default)]
pub struct Screen {
    pub text: Mutex<Vec<u8>>,
    pub room: Mutex<usize>,
}

impl ConsoleOutput for Screen {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut room = self.room.lock().unwrap();
        let count = bytes.len().min(*room);
        *room -= count;
        self.text.lock().unwrap().extend(&bytes[..count]);
        count
    }
}

/// The number of xvda.
pub const XVDA: u32 = 51712;
/// Where arguments are put.
pub const ARGUMENT: u64 = 0x8_0000;
pub const DOMAIN: u16 = 5;
/// DOMID_SELF.
pub const SELF: u16 = 0x7ff0;

impl Guest {
    pub fn new(width: Width, vcpus: usize) -> Self {
        let machine = Arc::new(TestMachine {
            ram: TestMemory::new(RAM_BYTES as usize),
            pages: TestMemory::new(crate::pages::COUNT * 4096),
            now_ns: Mutex::new(0),
            shown: Mutex::default(),
            holes: Mutex::default(),
            host_pages: Mutex::new(u64::MAX),
            waits_at: AtomicUsize::new(0),
            told: Mutex::default(),
        });
        let identity = Identity {
            domain: DOMAIN,
            vcpus,
            uuid: [7; 16],
            ns_per_tick_q32: 1 << 31,
            utc_start_ns: (1 << 32 | 2) * 1_000_000_000 + 3,
        };
        let platform = Arc::new(PvPlatform::new(machine.clone(), identity));
        let own = (0..vcpus).map(|_| PvVcpu::default()).collect();
        Self { machine, platform, width, own }
    }

    /// Back ends with a disk, xvda, which holds `content`.
    pub fn back_ends(
        &self,
        shared: &Arc<SharedStore>,
        screen: &Arc<Screen>,
        content: Vec<u8>,
    ) -> OwnedBackEnds {
        let disk = DiskSettings {
            id: XVDA,
            name: "xvda".into(),
            target: "disk.img".into(),
            is_cdrom: false,
            medium: Some(Arc::new(HeapDisk::new(content, false))),
        };
        let settings = Settings {
            name: "pv".into(),
            weight: 256,
            static_max_kib: RAM_BYTES / 1024,
            target_kib: RAM_BYTES / 1024,
            video_kib: 0,
            max_vcpus: self.own.len() as u32,
            vcpus: 1,
            disks: vec![disk],
            cards: vec![],
            console: screen.clone(),
        };
        BackEnds::connect(&self.platform, shared, settings).unwrap()
    }

    /// A hypercall of virtual CPU `vcpu`.
    pub fn call_on(&mut self, vcpu: usize, number: u64, arguments: &[u64]) -> Answer {
        let mut all = [0; 5];
        all[..arguments.len()].copy_from_slice(arguments);
        let ram = self.machine.ram.clone();
        let mut caller = TestVcpu { number: vcpu, width: self.width, ram: &ram };
        let call = Call { number, arguments: all };
        self.platform.hypercall(&mut self.own[vcpu], &mut caller, &call)
    }

    /// A hypercall of the first one, which is done in one go, and its result.
    pub fn call(&mut self, number: u64, arguments: &[u64]) -> i64 {
        match self.call_on(0, number, arguments).outcome {
            Outcome::Done(result) => result,
            outcome => panic!("{outcome:?}"),
        }
    }

    /// A hypercall with a command and a structure, which is returned as it was left.
    pub fn op<const N: usize>(
        &mut self,
        number: u64,
        command: u64,
        mut bytes: [u8; N],
    ) -> (i64, [u8; N]) {
        self.poke(ARGUMENT, &bytes);
        let result = self.call(number, &[command, ARGUMENT, 1]);
        self.peek(ARGUMENT, &mut bytes);
        (result, bytes)
    }

    pub fn poke(&self, gpa: u64, bytes: &[u8]) {
        GuestMemory::write(&*self.machine.ram, gpa, bytes).unwrap();
    }

    pub fn peek(&self, gpa: u64, bytes: &mut [u8]) {
        GuestMemory::read(&*self.machine.ram, gpa, bytes).unwrap();
    }

    pub fn u32_at(&self, gpa: u64) -> u32 {
        let mut bytes = [0; 4];
        self.peek(gpa, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub fn u64_at(&self, gpa: u64) -> u64 {
        let mut bytes = [0; 8];
        self.peek(gpa, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// All that has reached the machine since the last call.
    pub fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.machine.told.lock().unwrap())
    }

    /// `XENMEM_add_to_physmap`.
    pub fn put(&mut self, space: u32, index: u32, gfn: u32) -> i64 {
        let mut bytes = [0; 24];
        bytes[..2].copy_from_slice(&SELF.to_le_bytes());
        bytes[4..8].copy_from_slice(&space.to_le_bytes());
        bytes[8..12].copy_from_slice(&index.to_le_bytes());
        let at = if self.width == Width::Bits64 { 16 } else { 12 };
        bytes[at..at + 4].copy_from_slice(&gfn.to_le_bytes());
        self.op(12, 7, bytes).0
    }

    /// `HVMOP_set_param`, or `HVMOP_get_param` without a value.
    pub fn param(&mut self, index: u32, value: Option<u64>) -> Result<u64, i64> {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&SELF.to_le_bytes());
        bytes[4..8].copy_from_slice(&index.to_le_bytes());
        bytes[8..].copy_from_slice(&value.unwrap_or(0).to_le_bytes());
        let (result, bytes) = self.op(34, u64::from(value.is_none()), bytes);
        match result {
            0 => Ok(u64::from_le_bytes(bytes[8..].try_into().unwrap())),
            error => Err(error),
        }
    }

    /// An event channel operation on words: its result and the words.
    pub fn event<const N: usize>(&mut self, command: u64, words: [u32; N]) -> (i64, [u32; N]) {
        for (at, word) in (ARGUMENT..).step_by(4).zip(words) {
            self.poke(at, &word.to_le_bytes());
        }
        let result = self.call(32, &[command, ARGUMENT]);
        (result, core::array::from_fn(|at| self.u32_at(ARGUMENT + 4 * at as u64)))
    }
}

#[cfg(test)]
impl PvPlatform {
    /// Holds one granted page, and returns its address.
    pub fn hold_one(&self, reference: u32, is_writable: bool) -> Result<u64, NoGrant> {
        let mut found = Err(NoGrant);
        self.hold_grants([reference], is_writable, |_, gpa| found = Ok(gpa))?;
        found
    }
}
