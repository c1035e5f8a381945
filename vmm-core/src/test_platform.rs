//! A machine for tests: memory from the host's heap, and consoles, a clock among them, that the
//! test scripts.

use crate::host::machine_check::Registers;
use crate::host::owner::Owner;
use crate::host::owner_map::OwnerMap;
use crate::host::platform::{CpuInterrupt, CrashDump, Frame, FrameSize, Platform};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use control::host::{Display, Host, InputEvent, SerialPort};
use control::test_host::TestHost;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use spin::{Mutex, Once};
use std::alloc::Layout;

/// The machine. Leaked, as the hypervisor's platform lives for ever.
#[derive(Default)]
pub struct TestPlatform {
    host: TestHost,
    timer_tsc: AtomicU64,
    allocated: AtomicU64,
    owners: OwnerMap,
    breakpoints_cleared: AtomicU64,
    cpu: AtomicUsize,
    interrupts: Mutex<Vec<(usize, CpuInterrupt)>>,
    handled_vectors: Mutex<Vec<u8>>,
    in_window: Mutex<Option<InWindow>>,
    self_interrupts: AtomicU64,
    /// Frames that are still handed out, if they are limited.
    frames_left: Mutex<Option<u64>>,
    /// There are none of more than 4 KiB.
    is_fragmented: AtomicBool,
    /// Frames of 4 KiB and 2 MiB that were given back, with what they held: the next owner has to
    /// clear them.
    spare: [Mutex<Vec<Frame>>; 2],
    /// Frames that were split, by address, with the bytes of them that are not back on the heap.
    split: Mutex<BTreeMap<usize, (FrameSize, u64)>>,
    machine_checks: Once<Box<dyn Registers + Send + Sync>>,
    machine_check: AtomicBool,
}

type InWindow = Box<dyn FnOnce() -> bool + Send>;

impl TestPlatform {
    /// A machine with a TSC of 1 GHz that stands still.
    pub fn leak() -> &'static Self {
        Box::leak(Box::default())
    }

    /// The moment that the timer was last set to.
    pub fn timer_tsc(&self) -> u64 {
        self.timer_tsc.load(Ordering::Relaxed)
    }

    /// Calls from now on are calls on CPU `cpu`.
    pub fn be_cpu(&self, cpu: usize) {
        self.cpu.store(cpu, Ordering::Relaxed);
    }

    /// How often CPU `cpu` was interrupted so since the last call.
    pub fn take_interrupts(&self, cpu: usize, interrupt: CpuInterrupt) -> u64 {
        self.interrupts.lock().extract_if(.., |sent| *sent == (cpu, interrupt)).count() as u64
    }

    /// The acknowledged interrupts that were to be handled since the last call.
    pub fn take_handled_vectors(&self) -> Vec<u8> {
        core::mem::take(&mut self.handled_vectors.lock())
    }

    /// An event while interrupts are handled the next time; true if there is work among them.
    pub fn in_next_window(&self, happens: impl FnOnce() -> bool + Send + 'static) {
        *self.in_window.lock() = Some(Box::new(happens));
    }

    /// How often this CPU interrupted itself since the last call.
    pub fn take_self_interrupts(&self) -> u64 {
        self.self_interrupts.swap(0, Ordering::Relaxed)
    }

    /// How often the breakpoints' addresses were cleared.
    pub fn breakpoints_cleared(&self) -> u64 {
        self.breakpoints_cleared.load(Ordering::Relaxed)
    }

    /// Gives its CPU machine-check registers, once.
    pub fn set_machine_checks(&self, registers: impl Registers + Send + Sync + 'static) {
        self.machine_checks.call_once(|| Box::new(registers));
    }

    /// A #MC came while the hypervisor ran.
    pub fn note_machine_check(&self) {
        self.machine_check.store(true, Ordering::Relaxed);
    }

    /// From now on only so many frames are handed out.
    pub fn limit_frames(&self, count: Option<u64>) {
        *self.frames_left.lock() = count;
    }

    /// From now on there are frames of 4 KiB alone.
    pub fn fragment(&self) {
        self.is_fragmented.store(true, Ordering::Relaxed);
    }

    /// Gives a frame back to the heap, or notes it until the whole that it was a part of can be.
    #[allow(unsafe_code)]
    fn deallocate(&self, frame: &Frame) {
        let mut whole = (frame.address, frame.size);
        let mut split = self.split.lock();
        if let Some((&start, (size, left))) = split.range_mut(..=frame.address).next_back()
            && frame.address - start < size.bytes() as usize
        {
            *left -= frame.size.bytes();
            if *left > 0 {
                return;
            }
            whole = (start, *size);
            split.remove(&start);
        }
        let (address, size) = whole;
        // SAFETY: `allocate_frame` made it with this layout, and its owners have given it back.
        unsafe { std::alloc::dealloc(address as *mut u8, layout(size)) };
    }

    fn owned(&self, frame: Frame, owner: Owner) -> Frame {
        if let Err(violation) = self.owners.hand_out(frame.hpa, frame.size.bytes(), owner) {
            panic!("{violation}");
        }
        frame
    }

    /// Bytes that are handed out now.
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }
}

fn layout(size: FrameSize) -> Layout {
    Layout::from_size_align(size.bytes() as usize, size.bytes() as usize).unwrap()
}

impl Deref for TestPlatform {
    type Target = TestHost;

    fn deref(&self) -> &TestHost {
        &self.host
    }
}

impl Host for TestPlatform {
    fn tsc(&self) -> u64 {
        self.host.tsc()
    }

    fn tsc_hz(&self) -> u64 {
        self.host.tsc_hz()
    }

    fn free_bytes(&self) -> u64 {
        self.host.free_bytes()
    }

    fn heap_bytes(&self) -> u64 {
        self.host.heap_bytes()
    }

    fn reserve_heap(&self, bytes: u64) -> bool {
        self.host.reserve_heap(bytes)
    }

    fn return_heap(&self, bytes: u64) {
        self.host.return_heap(bytes);
    }

    fn drain_log(&self) -> bool {
        self.host.drain_log()
    }

    fn serial_write(&self, port: SerialPort, bytes: &[u8]) -> usize {
        self.host.serial_write(port, bytes)
    }

    fn serial_read(&self, port: SerialPort) -> Option<u8> {
        self.host.serial_read(port)
    }

    fn take_input(&self) -> Option<InputEvent> {
        self.host.take_input()
    }

    fn display(&self) -> Option<&dyn Display> {
        self.host.display()
    }

    fn log_text(&self) -> Vec<u8> {
        self.host.log_text()
    }

    fn log_bytes(&self) -> u64 {
        self.host.log_bytes()
    }

    fn call_attendant(&self) {
        self.host.call_attendant();
    }

    fn power_off(&self) {
        self.host.power_off();
    }

    fn reboot(&self) -> ! {
        self.host.reboot()
    }
}

impl Platform for TestPlatform {
    fn boot_time_unix_s(&self) -> u64 {
        1_700_000_000
    }

    fn boot_tsc(&self) -> u64 {
        0
    }

    #[allow(unsafe_code)]
    fn allocate_frame(&self, size: FrameSize, owner: Owner) -> Option<Frame> {
        if size != FrameSize::Small && self.is_fragmented.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(left) = &mut *self.frames_left.lock() {
            *left = left.checked_sub(1)?;
        }
        self.allocated.fetch_add(size.bytes(), Ordering::Relaxed);
        if let Some(frame) = self.spare.get(size as usize).and_then(|spare| spare.lock().pop()) {
            return Some(self.owned(frame, owner));
        }
        // SAFETY: the layout is not empty.
        let pointer = unsafe { std::alloc::alloc(layout(size)) };
        assert!(!pointer.is_null(), "the development host is out of memory");
        Some(self.owned(Frame { address: pointer as usize, hpa: pointer as u64, size }, owner))
    }

    fn free_frame(&self, frame: Frame) {
        const MAX_SPARE: [usize; 2] = [256, 32];
        if let Err(violation) = self.owners.take_back(frame.hpa, frame.size.bytes()) {
            panic!("{violation}");
        }
        self.allocated.fetch_sub(frame.size.bytes(), Ordering::Relaxed);
        if let Some((kept, most)) = self.spare.iter().zip(MAX_SPARE).nth(frame.size as usize) {
            let mut kept = kept.lock();
            if kept.len() < most {
                return kept.push(frame);
            }
        }
        self.deallocate(&frame);
    }

    fn split_frame(&self, hpa: u64, size: FrameSize) {
        if let Err(violation) = self.owners.split(hpa, size.bytes()) {
            panic!("{violation}");
        }
        let mut split = self.split.lock();
        let is_part = split
            .range(..=hpa as usize)
            .next_back()
            .is_some_and(|(start, (size, _))| hpa as usize - start < size.bytes() as usize);
        if !is_part {
            split.insert(hpa as usize, (size, size.bytes()));
        }
    }

    fn address_of(&self, hpa: u64) -> usize {
        hpa as usize
    }

    fn owners(&self) -> &OwnerMap {
        &self.owners
    }

    fn hpa_of(&self, address: usize) -> u64 {
        address as u64
    }

    fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed)
    }

    fn start_cpus(&self, _main: &'static (dyn Fn() + Sync)) -> usize {
        0
    }

    fn interrupt_cpu(&self, cpu: usize, interrupt: CpuInterrupt) {
        self.interrupts.lock().push((cpu, interrupt));
    }

    fn notification_vector(&self) -> u8 {
        0xf2
    }

    fn handle_interrupt(&self, vector: u8) {
        self.handled_vectors.lock().push(vector);
    }

    fn set_timer(&self, deadline_tsc: u64) {
        self.timer_tsc.store(deadline_tsc, Ordering::Relaxed);
    }

    /// Time passes until the timer rings, or a second.
    fn idle(&self) {
        const LONGEST: u64 = 1_000_000_000;
        let now = self.tsc();
        let until = self.timer_tsc.swap(u64::MAX, Ordering::Relaxed);
        self.host.set_tsc(until.clamp(now, now.saturating_add(LONGEST)));
    }

    fn handle_interrupts(&self) -> bool {
        let happens = self.in_window.lock().take();
        happens.is_some_and(|happens| happens())
    }

    fn interrupt_self(&self) {
        self.self_interrupts.fetch_add(1, Ordering::Relaxed);
    }

    fn machine_check_registers(&self) -> Option<&dyn Registers> {
        self.machine_checks.get().map(|registers| &**registers as &dyn Registers)
    }

    fn take_machine_check(&self) -> bool {
        self.machine_check.swap(false, Ordering::Relaxed)
    }

    fn clear_breakpoints(&self) {
        self.breakpoints_cleared.fetch_add(1, Ordering::Relaxed);
    }

    fn report_hang(&self, cpu: usize) -> ! {
        panic!("CPU {cpu} hangs")
    }

    fn set_crash_dump(&self, _dump: CrashDump) {}
}
