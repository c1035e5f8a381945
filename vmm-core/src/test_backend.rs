//! A backend for tests: registers in plain fields, and exits that the test chooses.

use crate::backend::exit::{DescriptorAccess, Exit};
use crate::backend::extended_state::{ExtendedState, SavedState};
use crate::backend::speculation::Barrier;
use crate::backend::{Backend, SystemRegister, Unsupported, VcpuSetup};
use crate::backend::{NestedPaging, WriteTracking};
use crate::host::platform::Platform;
use crate::vm::memory::GuestSpace;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use config::CommandLine;
use core::fmt;
use devices::local_apic::{Interface, RegisterPage};
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::registers::{
    Cr0, Cr4, Efer, Gprs, Rflags, Segment, SegmentAttributes, SegmentName, TableRegister,
};
use spin::Mutex;

/// A CPU, with the registers that stay live in it.
#[derive(Clone, Debug, Default)]
pub struct TestCpu(Arc<Mutex<Live>>);

/// Registers that stay live in a CPU: whoever is on it finds them as the last one left them.
#[derive(Clone, Copy, Debug, Default)]
struct Live {
    breakpoint_addresses: [u64; 4],
    xcr0: u64,
    vectors: [[u8; 32]; 16],
    x87_status: u16,
    cr2: u64,
    tsc_aux: u64,
    /// That of virtual CPUs that are made on it.
    exit: Option<Exit>,
}

impl TestCpu {
    /// Virtual CPUs that are made on it exit like this, time and again.
    pub fn with_exit(exit: Exit) -> Self {
        let cpu = Self::default();
        cpu.0.lock().exit = Some(exit);
        cpu
    }
}

/// An access of an instruction's in a step.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct StepAccess {
    pub gpa: u64,
    /// The bytes to be written; those that were read, if it is no write.
    pub data: Vec<u8>,
    pub write: bool,
    pub execute: bool,
    pub page_walk: bool,
}

/// The rest of what an instruction does in a step.
pub type StepEffect = fn(&mut TestBackend, &mut Gprs);

/// A virtual CPU that never runs an instruction: each entry ends at once with
/// [`TestBackend::exit`]. A step moves RIP on by a byte.
///
/// After INIT it is in 32-bit protected mode with flat segments, without paging, at CPL 0.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct TestBackend {
    /// The CPU that it is loaded on.
    cpu: Option<TestCpu>,
    /// The exit of the next entry.
    pub exit: Exit,
    /// Exits that come before it.
    pub exits_before: VecDeque<Exit>,
    /// Accesses to registers of descriptors exit, as the shared code last asked.
    pub descriptor_exits: bool,
    /// The instruction at this address makes one.
    pub descriptor_access: Option<(u64, DescriptorAccess)>,
    /// The instructions of the steps that were asked for.
    pub stepped: Vec<Vec<u8>>,
    /// Where the accesses of steps go, by way of the second-level tables.
    pub space: Option<Arc<GuestSpace>>,
    /// If there are some, they are made in each step that was asked for.
    pub step_accesses: Vec<StepAccess>,
    /// How such a step ends if all of them were allowed.
    pub step_exit: Exit,
    /// It does this then. [`Exit::Stepped`] moves RIP on by itself.
    pub step_effect: Option<StepEffect>,
    /// Another virtual CPU does this when the next such step has begun.
    pub sibling_effect: Option<fn(&GuestSpace)>,
    step_begun: bool,
    /// An event that was injected, and is not delivered if an access is refused.
    entering: Option<Event>,
    /// The events that were injected, oldest first.
    pub injected: Vec<Event>,
    /// The event that the next [`Backend::enter`] leaves as interrupted.
    pub interrupted: Option<Event>,
    pub rip: u64,
    pub next_rip: Option<u64>,
    pub rflags: Rflags,
    pub cr0: Cr0,
    pub cr4: Cr4,
    pub efer: Efer,
    pub system: [u64; SystemRegister::COUNT],
    /// The pointers that [`Backend::set_page_directory_pointers`] was given last.
    pub page_directory_pointers: [u64; 4],
    /// DR0 to DR3.
    pub breakpoint_addresses: [u64; 4],
    pub segments: [Segment; 8],
    pub tables: [TableRegister; 2],
    pub cpl: u8,
    pub interrupt_shadow: bool,
    /// It is one that delivers interrupts by itself; the test does so.
    pub delivers_interrupts: bool,
    /// How the guest reaches its local APIC.
    pub apic_interface: Option<Interface>,
    /// Calls of [`Backend::note_vectors`].
    pub noted_vectors: u64,
    /// The vectors that [`Backend::await_ends`] was last given.
    pub awaited_ends: [Option<u8>; 2],
    pub nmi_blocked: bool,
    pub pending_debug: bool,
    pub window: Option<u8>,
    pub nmi_window: bool,
    /// The processor has no windows for NMIs.
    pub needs_steps_for_nmis: bool,
    /// The local APIC's registers.
    pub apic_page: Arc<RegisterPage>,
    pub tsc_offset: u64,
    pub xcr0: u64,
    pub vectors: [[u8; 32]; 16],
    pub x87_status: u16,
    /// Entries whose cached translations were flushed.
    pub flushes: u64,
    /// The last barrier that the guest issued.
    pub barrier: Option<Barrier>,
    /// The pages that the processor logged as written.
    pub written_pages: Vec<u64>,
}

impl TestBackend {
    fn flat(apic_page: Arc<RegisterPage>) -> Self {
        let attributes = SegmentAttributes::new()
            .with_kind(3)
            .with_code_or_data(true)
            .with_present(true)
            .with_default_big(true)
            .with_granularity(true);
        let data = Segment { selector: 0x10, attributes, limit: u32::MAX, base: 0 };
        let mut segments = [data; 8];
        segments[SegmentName::Cs as usize] =
            Segment { attributes: attributes.with_kind(0xb), ..data };
        Self {
            cpu: None,
            exit: Exit::Cpuid,
            exits_before: VecDeque::new(),
            descriptor_exits: false,
            descriptor_access: None,
            stepped: Vec::new(),
            space: None,
            step_accesses: Vec::new(),
            step_exit: Exit::Stepped,
            step_effect: None,
            sibling_effect: None,
            step_begun: false,
            entering: None,
            injected: Vec::new(),
            interrupted: None,
            rip: 0x8000,
            next_rip: None,
            rflags: Rflags::new(),
            cr0: Cr0::new().with_protection(true),
            cr4: Cr4::new(),
            efer: Efer::new(),
            system: [0; SystemRegister::COUNT],
            page_directory_pointers: [0; 4],
            breakpoint_addresses: [0; 4],
            segments,
            tables: [TableRegister::default(); 2],
            cpl: 0,
            interrupt_shadow: false,
            delivers_interrupts: false,
            apic_interface: None,
            noted_vectors: 0,
            awaited_ends: [None; 2],
            nmi_blocked: false,
            pending_debug: false,
            window: None,
            nmi_window: false,
            needs_steps_for_nmis: false,
            apic_page,
            tsc_offset: 0,
            xcr0: 0,
            vectors: [[0; 32]; 16],
            x87_status: 0,
            flushes: 0,
            barrier: None,
            written_pages: Vec::new(),
        }
    }
}

impl TestBackend {
    /// Exchanges the live registers for those that the CPU holds.
    fn swap_live(&mut self, cpu: &TestCpu) {
        let mut live = cpu.0.lock();
        let [cr2, tsc_aux] =
            [SystemRegister::Cr2, SystemRegister::TscAux].map(|register| register as usize);
        let mine = Live {
            breakpoint_addresses: self.breakpoint_addresses,
            xcr0: self.xcr0,
            vectors: self.vectors,
            x87_status: self.x87_status,
            cr2: self.system[cr2],
            tsc_aux: self.system[tsc_aux],
            exit: live.exit,
        };
        let found = core::mem::replace(&mut *live, mine);
        self.breakpoint_addresses = found.breakpoint_addresses;
        (self.xcr0, self.vectors, self.x87_status) = (found.xcr0, found.vectors, found.x87_status);
        (self.system[cr2], self.system[tsc_aux]) = (found.cr2, found.tsc_aux);
    }

    fn run(&mut self, gprs: &mut Gprs) -> Exit {
        assert!(self.cpu.is_some(), "it is on no CPU");
        if let Some(exit) = self.exits_before.pop_front() {
            return exit;
        }
        if let Some((rip, access)) = self.descriptor_access
            && self.descriptor_exits
            && rip == self.rip
        {
            return Exit::Descriptor(access);
        }
        let mut exit = self.exit;
        let entering = self.entering.take();
        if core::mem::take(&mut self.step_begun) && !self.step_accesses.is_empty() {
            exit = self.step(gprs);
            self.interrupted = entering.filter(|_| matches!(exit, Exit::Memory(_)));
        }
        self.rip += u64::from(exit == Exit::Stepped);
        exit
    }

    fn step(&mut self, gprs: &mut Gprs) -> Exit {
        let Some(space) = &self.space else { return self.step_exit };
        if let Some(effect) = self.sibling_effect.take() {
            effect(space);
        }
        for access in &mut self.step_accesses {
            let StepAccess { gpa, write, execute, page_walk, .. } = *access;
            if !space.access_as_processor(gpa, &mut access.data, write, execute) {
                return Exit::Memory(MemoryAccess { gpa, write, execute, page_walk });
            }
        }
        if let Some(effect) = self.step_effect {
            effect(self, gprs);
        }
        self.step_exit
    }
}

impl Backend for TestBackend {
    const NAME: &'static str = "test";
    const STEPS_BY_TRAP: bool = true;
    type Cpu = TestCpu;
    const LIVE_REGISTERS: &'static [SystemRegister] =
        &[SystemRegister::Cr2, SystemRegister::TscAux];

    fn enable_cpu(
        _platform: &'static dyn Platform,
        _options: &CommandLine,
    ) -> Result<TestCpu, Unsupported> {
        Ok(TestCpu::default())
    }

    fn describe(_: &TestCpu) -> String {
        String::new()
    }

    fn nested_paging(_: &TestCpu) -> NestedPaging {
        NestedPaging {
            format: ept::Format::Npt,
            largest_page: ept::PageSize::Size1G,
            tracking: Some(WriteTracking::Log),
        }
    }

    fn new(
        cpu: &TestCpu,
        _platform: &'static dyn Platform,
        setup: &VcpuSetup,
    ) -> Result<Self, Unsupported> {
        let flat = Self::flat(setup.apic_page.clone());
        Ok(Self { exit: cpu.0.lock().exit.unwrap_or(flat.exit), ..flat })
    }

    fn load(&mut self, cpu: &TestCpu, _gprs: &Gprs) {
        assert!(self.cpu.is_none(), "it is on a CPU already");
        self.swap_live(cpu);
        self.cpu = Some(cpu.clone());
    }

    fn unload(&mut self) {
        let cpu = self.cpu.take().expect("it is on a CPU");
        self.swap_live(&cpu);
    }

    fn init(&mut self, gprs: &mut Gprs) {
        *gprs = Gprs::default();
        let (injected, flushes, tsc_offset) =
            (core::mem::take(&mut self.injected), self.flushes, self.tsc_offset);
        let mut system = self.system;
        system[..SystemRegister::Pat as usize].fill(0);
        *self = Self {
            cpu: self.cpu.take(),
            system,
            xcr0: self.xcr0,
            vectors: self.vectors,
            x87_status: self.x87_status,
            injected,
            flushes,
            tsc_offset,
            exit: self.exit,
            space: self.space.take(),
            step_accesses: core::mem::take(&mut self.step_accesses),
            step_exit: self.step_exit,
            descriptor_exits: self.descriptor_exits,
            delivers_interrupts: self.delivers_interrupts,
            apic_interface: self.apic_interface,
            ..Self::flat(self.apic_page.clone())
        };
    }

    fn enter(&mut self, gprs: &mut Gprs, interrupted: &mut Option<Event>) -> Exit {
        let exit = self.run(gprs);
        if let Some(event) = self.interrupted.take() {
            *interrupted = Some(event);
        }
        exit
    }

    fn begin_step(&mut self, _gprs: &mut Gprs, instruction: &[u8]) {
        self.stepped.push(instruction.to_vec());
        self.step_begun = true;
    }

    fn set_descriptor_exits(&mut self, on: bool) -> bool {
        self.descriptor_exits = on;
        true
    }

    fn rip(&self) -> u64 {
        self.rip
    }

    fn set_rip(&mut self, rip: u64) {
        self.rip = rip;
    }

    fn complete_instruction(&mut self, next_rip: u64) {
        self.rip = next_rip;
        self.interrupt_shadow = false;
    }

    fn next_rip(&self) -> Option<u64> {
        self.next_rip
    }

    fn instruction_bytes(&self) -> Option<&[u8]> {
        None
    }

    fn rflags(&self) -> Rflags {
        self.rflags
    }

    fn set_rflags(&mut self, rflags: Rflags) {
        self.rflags = rflags;
    }

    fn cr0(&self) -> Cr0 {
        self.cr0
    }

    fn cr4(&self) -> Cr4 {
        self.cr4
    }

    fn efer(&self) -> Efer {
        self.efer
    }

    fn set_cr0(&mut self, cr0: Cr0) {
        self.cr0 = cr0;
    }

    fn set_cr4(&mut self, cr4: Cr4) {
        self.cr4 = cr4;
    }

    fn set_page_directory_pointers(&mut self, pointers: [u64; 4]) {
        self.page_directory_pointers = pointers;
    }

    fn set_efer(&mut self, efer: Efer) {
        self.efer = efer;
    }

    fn system_register(&self, register: SystemRegister) -> u64 {
        self.system[register as usize]
    }

    fn set_system_register(&mut self, register: SystemRegister, value: u64) {
        self.system[register as usize] = value;
    }

    fn breakpoint_address(&self, number: u8) -> u64 {
        self.breakpoint_addresses[usize::from(number)]
    }

    fn set_breakpoint_address(&mut self, number: u8, address: u64) {
        self.breakpoint_addresses[usize::from(number)] = address;
    }

    fn cpl(&self) -> u8 {
        self.cpl
    }

    fn segment(&self, name: SegmentName) -> Segment {
        self.segments[name as usize]
    }

    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        self.segments[name as usize] = segment;
    }

    fn gdtr(&self) -> TableRegister {
        self.tables[0]
    }

    fn idtr(&self) -> TableRegister {
        self.tables[1]
    }

    fn set_gdtr(&mut self, gdtr: TableRegister) {
        self.tables[0] = gdtr;
    }

    fn set_idtr(&mut self, idtr: TableRegister) {
        self.tables[1] = idtr;
    }

    fn interrupt_shadow(&self) -> bool {
        self.interrupt_shadow
    }

    fn set_interrupt_shadow(&mut self) {
        self.interrupt_shadow = true;
    }

    fn nmi_blocked(&self) -> bool {
        self.nmi_blocked
    }

    fn unblock_nmis(&mut self) {
        self.nmi_blocked = false;
    }

    fn has_pending_debug(&self) -> bool {
        self.pending_debug
    }

    fn inject(&mut self, event: Event) {
        self.injected.push(event);
        self.entering = Some(event);
    }

    fn set_interrupt_window(&mut self, priority: Option<u8>) {
        self.window = priority;
    }

    fn set_nmi_window(&mut self) -> bool {
        self.nmi_window = true;
        !self.needs_steps_for_nmis
    }

    fn delivers_interrupts(&self) -> bool {
        self.delivers_interrupts
    }

    fn await_ends(&mut self, vectors: [Option<u8>; 2]) {
        self.awaited_ends = vectors;
    }

    fn note_vectors(&mut self) {
        self.noted_vectors += 1;
    }

    fn set_apic_interface(&mut self, interface: Interface) -> bool {
        self.apic_interface = Some(interface);
        false
    }

    fn tsc_offset(&self) -> u64 {
        self.tsc_offset
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.tsc_offset = offset;
    }

    fn extended_state(&self) -> ExtendedState {
        unreachable!("its registers are not the CPU's")
    }

    fn save_extended_state(&self, to: &mut SavedState) {
        let state = self.xcr0.to_le_bytes().into_iter().chain(self.x87_status.to_le_bytes());
        let bytes = self.vectors.into_iter().flatten().chain(state);
        to.set_bytes(bytes);
    }

    fn load_extended_state(&mut self, from: &SavedState) {
        let mut bytes = from.bytes();
        self.vectors.as_flattened_mut().fill_with(|| bytes.next().unwrap_or(0));
        self.xcr0 = u64::from_le_bytes(core::array::from_fn(|_| bytes.next().unwrap_or(0)));
        self.x87_status = u16::from_le_bytes(core::array::from_fn(|_| bytes.next().unwrap_or(0)));
    }

    fn xcr0(&self) -> u64 {
        self.xcr0
    }

    fn clear_extended_state(&mut self) {
        (self.vectors, self.x87_status) = Default::default();
    }

    fn set_xcr0(&mut self, xcr0: u64) {
        self.xcr0 = xcr0;
    }

    fn x87_status(&self) -> u16 {
        self.x87_status
    }

    fn set_x87_errors(&mut self, errors: u16) {
        /// No exception is masked.
        const SUMMARY: u16 = 1 << 7;
        let summary = if errors == 0 { 0 } else { SUMMARY };
        self.x87_status = self.x87_status & !0xff | errors | summary;
    }

    fn vector_register(&self, index: u8) -> [u8; 32] {
        self.vectors[usize::from(index)]
    }

    fn wide_register(&self, index: u8) -> [u8; 64] {
        let mut bytes = [0; 64];
        if let Some(low) = self.vectors.get(usize::from(index)) {
            bytes[..32].copy_from_slice(low);
        }
        bytes
    }

    fn mask_register(&self, _index: u8) -> u16 {
        0b1010_0000_0000_0101
    }

    fn set_vector_register(&mut self, index: u8, bytes: &[u8]) {
        self.vectors[usize::from(index)][..bytes.len()].copy_from_slice(bytes);
    }

    fn issue_barrier(&mut self, barrier: Barrier) {
        self.barrier = Some(barrier);
    }

    fn flush_nested(&mut self) {
        self.flushes += 1;
    }

    fn take_written_pages(&mut self, written: impl FnMut(u64)) {
        self.written_pages.drain(..).for_each(written);
    }

    fn dump(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(f, "rip {:#x}, injected {:?}", self.rip, self.injected)
    }
}
