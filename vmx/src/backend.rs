//! One virtual CPU on VT-x.

mod apic;
mod control_fields;
mod entry;
mod exit;
mod system_registers;

use crate::control_bits::{EntryControls, PrimaryControls, SecondaryControls};
use crate::cpu::{Cpu, Features};
use crate::events;
use crate::field::Field;
use crate::msr_lists::MsrLists;
use crate::page_log::PageLog;
use crate::spec::{EptPointer, Interruptibility, PendingDebug};
use crate::vmcs::Vmcs;
use crate::world_switch::Switch;
use crate::{dump, running, segments};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use bitflags::bitflags;
use config::CommandLine;
use core::fmt;
use devices::local_apic::{ApicInbox, Interface, RegisterPage};
use emulator::event::Event;
use emulator::registers::{
    Cr0, Cr4, Efer, Exception, Fault, Gprs, Rflags, Segment, SegmentAttributes, SegmentName,
    TableRegister,
};
use system_registers::LIVE_REGISTERS;
use vmm_core::backend::NestedPaging;
use vmm_core::backend::address_tags::Tag;
use vmm_core::backend::exit::Exit;
use vmm_core::backend::extended_state::ExtendedState;
use vmm_core::backend::reset;
use vmm_core::backend::speculation::{Barrier, Defences};
use vmm_core::backend::{Backend, SystemRegister, Unsupported, VcpuSetup, Withheld};
use vmm_core::host::owner::GuestId;
use vmm_core::host::platform::Platform;
use x86::msr::wrmsr;

/// A virtual CPU: its VMCS and what the hardware does not keep there.
///
/// While it is loaded, CR2, DR0 to DR3, DR6, the registers of SYSCALL and KernelGSbase stay live in
/// the physical CPU, as the vector registers do: the hypervisor uses none of them.
pub struct Vmx {
    vmcs: Vmcs,
    /// The local APIC's registers: the processor's virtual-APIC page (25.6.8).
    apic_page: Arc<RegisterPage>,
    /// Where others post interrupts: the processor's posted-interrupt descriptor (30.6).
    apic_inbox: Arc<ApicInbox>,
    apic_access_hpa: u64,
    features: Features,
    physical_address_bits: u8,
    vpid: Tag,
    platform: &'static dyn Platform,
    ept_pointer: u64,
    page_log: Option<PageLog>,
    switch: Switch,
    guest: GuestId,
    defences: Defences,
    /// IA32_SPEC_CTRL as the guest wrote it.
    spec_ctrl: u64,
    msr_lists: Box<MsrLists>,
    interrupted: Option<Event>,
    /// Vectors whose end is to be told, beside the level-triggered ones.
    awaited_ends: [Option<u8>; 2],
    /// Priority class of the interrupt that waits.
    wanted: Option<u8>,
    /// An NMI waits for the end of STI's shadow.
    nmi_in_shadow: bool,
    /// The value of the TPR-threshold field.
    tpr_threshold: u8,
    /// The guest has touched its debug registers: DR7 has to be looked at.
    has_debug_registers: bool,
    before_entry: BeforeEntry,
    /// The CPU on which its state was checked last before an entry.
    checked_on: Option<usize>,
}

bitflags! {
    /// The work before the next entry: nothing, most of the time.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct BeforeEntry: u8 {
        /// Another interrupt waits, or none.
        const WINDOW = 1;
        /// The vectors of the register page changed.
        const VECTORS = 2;
        /// Translations of the second-level tables must go.
        const FLUSH_NESTED = 4;
        /// The guest's own translations must go.
        const FLUSH_GUEST = 8;
        /// It is the first entry since it moved to this CPU: the guest's state and the host's are
        /// checked.
        const CHECK = 16;
        /// This entry is a step, by the monitor trap flag.
        const STEP = 32;
        /// The last entry was a step.
        const STEPPED = 64;
    }
}

/// The fields with a guest's unfinished work, which a reset clears.
const PENDING_STATE: [Field; 8] = [
    Field::GuestPdpte0,
    Field::GuestPdpte1,
    Field::GuestPdpte2,
    Field::GuestPdpte3,
    Field::GuestInterruptibility,
    Field::GuestActivity,
    Field::GuestPendingDebug,
    Field::EntryInterruption,
];
/// EPT tables in write-back memory.
const WRITE_BACK: u8 = 6;
const TWO_TO_32: u64 = 1 << 32;

impl Vmx {
    #[inline]
    fn interruptibility(&self) -> Interruptibility {
        Interruptibility::from(self.vmcs.read(Field::GuestInterruptibility) as u32)
    }

    fn set_interruptibility(&mut self, state: Interruptibility) {
        self.vmcs.write(Field::GuestInterruptibility, state.into_bits().into());
    }

    /// An entry refuses a shadow of STI with interrupts off.
    #[cold]
    fn settle_shadow(&mut self, rflags: Rflags) {
        let state = self.interruptibility();
        let state = state.with_by_sti(state.by_sti() && rflags.interrupt());
        self.set_interruptibility(state);
        self.settle_single_step(state);
    }

    /// While STI or MOV SS protects an instruction, an entry demands that a single step is pending
    /// exactly if it is switched on (27.3.1.5). DEBUGCTL.BTF is always clear.
    fn settle_single_step(&mut self, state: Interruptibility) {
        if state.by_sti() || state.by_mov_ss() {
            let pending = self.pending_debug().with_single_step(self.rflags().trap());
            self.vmcs.write(Field::GuestPendingDebug, pending.into());
        }
    }

    fn pending_debug(&self) -> PendingDebug {
        self.vmcs.read(Field::GuestPendingDebug).into()
    }

    /// A #DB that is injected leaves no other pending (27.7.3): it tells of the breakpoints that
    /// the one would have told of.
    fn take_pending_breakpoints(&mut self) {
        let breakpoints = u64::from(self.pending_debug().breakpoints());
        if breakpoints != 0 {
            let dr6 = self.system_register(SystemRegister::Dr6);
            self.set_system_register(SystemRegister::Dr6, dr6 | breakpoints);
        }
    }

    #[cold]
    fn is_64_bit_code(&self) -> bool {
        self.code_bits() == 64
    }

    /// RIP has 32 bits outside 64-bit code; an entry demands it.
    #[inline]
    fn wrap_rip(&self, rip: u64) -> u64 {
        // If it has more now, this is 64-bit code.
        if rip < TWO_TO_32 || self.rip() >= TWO_TO_32 || self.is_64_bit_code() {
            rip
        } else {
            rip % TWO_TO_32
        }
    }
}

impl Backend for Vmx {
    const NAME: &'static str = "VT-x";
    type Cpu = Cpu;

    fn enable_cpu(
        platform: &'static dyn Platform,
        options: &CommandLine,
    ) -> Result<Cpu, Unsupported> {
        Cpu::enable(platform, options)
    }

    fn describe(cpu: &Cpu) -> String {
        cpu.describe()
    }

    fn nested_paging(cpu: &Cpu) -> NestedPaging {
        cpu.nested_paging()
    }

    fn takes_posted_interrupts(cpu: &Cpu) -> bool {
        cpu.features.controls.has_posted_interrupts()
    }

    fn withheld(cpu: &Cpu) -> Withheld {
        cpu.features.controls.withheld()
    }

    fn defences(cpu: &Cpu) -> Defences {
        cpu.defences
    }

    fn new(
        cpu: &Cpu,
        platform: &'static dyn Platform,
        setup: &VcpuSetup,
    ) -> Result<Self, Unsupported> {
        let revision = cpu.features.capabilities.basic.revision();
        // SAFETY: `cpu` is in VMX operation.
        let vmcs = unsafe { Vmcs::new(platform, cpu.current.clone(), revision)? };
        let has_page_log = cpu.features.controls.has_page_log();
        let ept_pointer = EptPointer::new()
            .with_memory_type(WRITE_BACK)
            .with_walk_length_less_one(3)
            .with_accessed_dirty(cpu.features.capabilities.ept_vpid.accessed_dirty())
            .with_frame(setup.nested_root_hpa >> 12);
        let mut vcpu = Self {
            vmcs,
            apic_page: setup.apic_page.clone(),
            apic_inbox: setup.apic_inbox.clone(),
            apic_access_hpa: setup.apic_access_hpa,
            features: cpu.features,
            physical_address_bits: cpu.physical_address_bits,
            vpid: Tag::default(),
            platform,
            ept_pointer: ept_pointer.into(),
            page_log: has_page_log.then(|| PageLog::new(platform)).transpose()?,
            switch: Switch::new(&cpu.defences),
            guest: setup.guest,
            defences: cpu.defences,
            spec_ctrl: 0,
            msr_lists: MsrLists::new(),
            interrupted: None,
            awaited_ends: [None; 2],
            wanted: None,
            nmi_in_shadow: false,
            tpr_threshold: 0,
            has_debug_registers: true,
            before_entry: BeforeEntry::empty(),
            checked_on: None,
        };
        vcpu.set_up_controls();
        vcpu.restart_timer();
        vcpu.vmcs.unload();
        Ok(vcpu)
    }

    fn load(&mut self, cpu: &Cpu, gprs: &Gprs) {
        // A notification that is pending is for the virtual CPU that was here before.
        if self.features.controls.has_posted_interrupts() && self.platform.handle_interrupts() {
            self.platform.interrupt_self();
        }
        running::note(self.platform.cpu(), gprs);
        self.vmcs.load_on(&cpu.current);
        self.vpid = cpu.vpids.take();
        if cpu.last_guest.turn_to(self.guest) && cpu.defences.guest_barrier {
            self.issue_barrier(Barrier::BranchPredictors);
        }
        self.follow_cpu();
        self.before_entry |= BeforeEntry::FLUSH_NESTED | BeforeEntry::FLUSH_GUEST;
        if self.checked_on.replace(self.platform.cpu()) != Some(self.platform.cpu()) {
            self.before_entry |= BeforeEntry::CHECK;
        }
    }

    fn unload(&mut self) {
        running::forget(self.platform.cpu());
        self.vmcs.unload();
        self.vpid = Tag::default();
    }

    const LIVE_REGISTERS: &'static [SystemRegister] = &LIVE_REGISTERS;

    #[inline(always)]
    fn tsc(_: &dyn Platform) -> u64 {
        // SAFETY: every 64-bit CPU has it, and the hypervisor runs at privilege level 0.
        unsafe { x86::time::rdtsc() }
    }

    fn init(&mut self, gprs: &mut Gprs) {
        *gprs = Gprs::default();
        for field in PENDING_STATE {
            self.vmcs.write(field, 0);
        }
        (self.interrupted, self.nmi_in_shadow) = (None, false);
        self.set_primary(PrimaryControls::NMI_WINDOW, false);
        self.set_interrupt_window(None);
        reset::init(self);
    }

    // A step on bounce pages enters too, and must not lengthen all others.
    #[inline(always)]
    fn enter(&mut self, gprs: &mut Gprs, interrupted: &mut Option<Event>) -> Exit {
        let exit = self.run(gprs);
        if let Some(event) = self.interrupted.take() {
            *interrupted = Some(event);
        }
        exit
    }

    fn can_step(&self) -> bool {
        self.features.controls.has_monitor_trap()
    }

    fn begin_step(&mut self, _gprs: &mut Gprs, _instruction: &[u8]) {
        self.before_entry |= BeforeEntry::STEP;
    }

    fn set_descriptor_exits(&mut self, on: bool) -> bool {
        let possible = self.features.controls.may_watch_descriptors();
        if possible {
            self.set_secondary(SecondaryControls::DESCRIPTOR_TABLES, on);
        }
        possible
    }

    #[inline]
    fn rip(&self) -> u64 {
        self.vmcs.read(Field::GuestRip)
    }

    #[inline]
    fn set_rip(&mut self, rip: u64) {
        let rip = self.wrap_rip(rip);
        self.vmcs.write(Field::GuestRip, rip);
    }

    #[inline(always)]
    fn complete_instruction(&mut self, next_rip: u64) {
        self.set_rip(next_rip);
        if self.interrupt_shadow() {
            let state = self.interruptibility();
            self.set_interruptibility(state.with_by_sti(false).with_by_mov_ss(false));
        }
    }

    #[inline]
    fn next_rip(&self) -> Option<u64> {
        Some(self.rip().wrapping_add(self.vmcs.read(Field::ExitInstructionLength)))
    }

    fn instruction_bytes(&self) -> Option<&[u8]> {
        None
    }

    #[inline]
    fn rflags(&self) -> Rflags {
        self.vmcs.read(Field::GuestRflags).into()
    }

    fn set_rflags(&mut self, rflags: Rflags) {
        self.vmcs.write(Field::GuestRflags, rflags.into());
        if self.interrupt_shadow() {
            self.settle_shadow(rflags);
        }
    }

    fn cr0(&self) -> Cr0 {
        let shadow = self.vmcs.read(Field::Cr0Shadow);
        self.features.cr0.guest_view(self.vmcs.read(Field::GuestCr0), shadow).into()
    }

    fn cr4(&self) -> Cr4 {
        let shadow = self.vmcs.read(Field::Cr4Shadow);
        self.features.cr4.guest_view(self.vmcs.read(Field::GuestCr4), shadow).into()
    }

    fn efer(&self) -> Efer {
        self.vmcs.read(Field::GuestEfer).into()
    }

    fn set_cr0(&mut self, cr0: Cr0) {
        self.vmcs.write(Field::GuestCr0, self.features.cr0.register(cr0.into()));
        self.vmcs.write(Field::Cr0Shadow, cr0.into());
        self.before_entry |= BeforeEntry::FLUSH_GUEST;
    }

    fn set_cr4(&mut self, cr4: Cr4) {
        self.vmcs.write(Field::GuestCr4, self.features.cr4.register(cr4.into()));
        self.vmcs.write(Field::Cr4Shadow, cr4.into());
        self.before_entry |= BeforeEntry::FLUSH_GUEST;
    }

    fn set_page_directory_pointers(&mut self, pointers: [u64; 4]) {
        let fields =
            [Field::GuestPdpte0, Field::GuestPdpte1, Field::GuestPdpte2, Field::GuestPdpte3];
        for (field, pointer) in fields.into_iter().zip(pointers) {
            self.vmcs.write(field, pointer);
        }
    }

    fn set_efer(&mut self, efer: Efer) {
        self.vmcs.write(Field::GuestEfer, efer.into());
        // Whether the next entry is to long mode.
        let mut controls =
            EntryControls::from_bits_retain(self.vmcs.read(Field::EntryControls) as u32);
        controls.set(EntryControls::GUEST_64_BIT, efer.long_mode_active());
        self.vmcs.write(Field::EntryControls, controls.bits().into());
        self.before_entry |= BeforeEntry::FLUSH_GUEST;
    }

    fn breakpoint_control(&mut self) -> u64 {
        if self.has_debug_registers { self.used_breakpoint_control() } else { 0 }
    }

    fn cpl(&self) -> u8 {
        // The privilege level of SS is the CPL, whether SS is usable or not.
        self.segment_attributes(SegmentName::Ss).dpl()
    }

    fn segment(&self, name: SegmentName) -> Segment {
        let fields = segments::fields(name);
        Segment {
            selector: self.vmcs.read(fields.selector) as u16,
            attributes: self.segment_attributes(name),
            limit: self.vmcs.read(fields.limit) as u32,
            base: self.vmcs.read(fields.base),
        }
    }

    fn segment_attributes(&self, name: SegmentName) -> SegmentAttributes {
        segments::attributes((self.vmcs.read(segments::fields(name).rights) as u32).into())
    }

    fn segment_base(&self, name: SegmentName) -> u64 {
        self.vmcs.read(segments::fields(name).base)
    }

    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        let fields = segments::fields(name);
        self.vmcs.write(fields.selector, segment.selector.into());
        self.vmcs.write(fields.base, segment.base);
        self.vmcs.write(fields.limit, segment.limit.into());
        self.vmcs
            .write(fields.rights, segments::rights(name, segment.attributes).into_bits().into());
    }

    fn gdtr(&self) -> TableRegister {
        TableRegister {
            base: self.vmcs.read(Field::GuestGdtrBase),
            limit: self.vmcs.read(Field::GuestGdtrLimit) as u16,
        }
    }

    fn idtr(&self) -> TableRegister {
        TableRegister {
            base: self.vmcs.read(Field::GuestIdtrBase),
            limit: self.vmcs.read(Field::GuestIdtrLimit) as u16,
        }
    }

    fn set_gdtr(&mut self, gdtr: TableRegister) {
        self.vmcs.write(Field::GuestGdtrBase, gdtr.base);
        self.vmcs.write(Field::GuestGdtrLimit, gdtr.limit.into());
    }

    fn set_idtr(&mut self, idtr: TableRegister) {
        self.vmcs.write(Field::GuestIdtrBase, idtr.base);
        self.vmcs.write(Field::GuestIdtrLimit, idtr.limit.into());
    }

    #[inline]
    fn interrupt_shadow(&self) -> bool {
        let state = self.interruptibility();
        state.by_sti() || state.by_mov_ss()
    }

    fn set_interrupt_shadow(&mut self) {
        self.set_interruptibility(self.interruptibility().with_by_sti(true));
    }

    fn nmi_blocked(&self) -> bool {
        self.interruptibility().by_nmi()
    }

    fn has_pending_debug(&self) -> bool {
        events::is_debug_due(self.pending_debug(), self.interruptibility())
    }

    fn inject(&mut self, event: Event) {
        let (field, error_code) = events::injection(event);
        self.vmcs.write(Field::EntryInterruption, field.into_bits().into());
        if field.has_error_code() {
            self.vmcs.write(Field::EntryErrorCode, error_code.into());
        }
        match event {
            Event::Nmi => {
                // One whose delivery was interrupted has blocked NMIs already.
                self.set_interruptibility(self.interruptibility().with_by_nmi(false));
                self.set_primary(PrimaryControls::NMI_WINDOW, true);
            }
            Event::Fault(Fault { address: Some(address), .. }) => {
                self.set_system_register(SystemRegister::Cr2, address);
            }
            Event::Fault(Fault { exception: Exception::Debug, .. }) => {
                self.take_pending_breakpoints();
                self.settle_single_step(self.interruptibility());
            }
            _ => {}
        }
    }

    fn set_interrupt_window(&mut self, priority: Option<u8>) {
        self.wanted = priority;
        self.before_entry |= BeforeEntry::WINDOW;
    }

    fn set_nmi_window(&mut self) -> bool {
        // In the shadow of STI a processor may open the window and yet refuse the NMI (27.3.1.5,
        // 27.7.6): the exit would come for ever. Interrupts are on there, and their window
        // opens behind the shadow.
        if self.interruptibility().by_sti() {
            self.nmi_in_shadow = true;
            self.before_entry |= BeforeEntry::WINDOW;
        } else {
            self.set_primary(PrimaryControls::NMI_WINDOW, true);
        }
        true
    }

    fn delivers_interrupts(&self) -> bool {
        self.features.controls.has_virtual_interrupts()
    }

    fn note_vectors(&mut self) {
        self.before_entry
            .set(BeforeEntry::VECTORS, self.features.controls.has_virtual_interrupts());
    }

    fn await_ends(&mut self, vectors: [Option<u8>; 2]) {
        if vectors != self.awaited_ends {
            self.awaited_ends = vectors;
            self.note_vectors();
        }
    }

    fn set_apic_interface(&mut self, interface: Interface) -> bool {
        self.apply_apic_interface(interface)
    }

    fn tsc_offset(&self) -> u64 {
        self.vmcs.read(Field::TscOffset)
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcs.write(Field::TscOffset, offset);
    }

    fn system_register(&self, register: SystemRegister) -> u64 {
        self.read_system_register(register)
    }

    fn set_system_register(&mut self, register: SystemRegister, value: u64) {
        self.write_system_register(register, value);
    }

    fn extended_state(&self) -> ExtendedState {
        self.features.extended_state
    }

    fn issue_barrier(&mut self, barrier: Barrier) {
        // SAFETY: the CPU has the register (`Defences::new`), and forgets what it has predicted or
        // cached.
        unsafe { wrmsr(barrier.msr(), Barrier::COMMAND) };
    }

    fn flush_nested(&mut self) {
        self.before_entry |= BeforeEntry::FLUSH_NESTED;
    }

    fn take_written_pages(&mut self, written: impl FnMut(u64)) {
        let Some(log) = &self.page_log else { return };
        let index = self.vmcs.read(Field::GuestPageLogIndex) as u16;
        if index != PageLog::EMPTY {
            log.logged(index).for_each(written);
            self.vmcs.write(Field::GuestPageLogIndex, PageLog::EMPTY.into());
        }
    }

    fn dump(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        dump::dump(|field| self.vmcs.read_now(field), f)
    }
}
