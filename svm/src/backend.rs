//! One virtual CPU on AMD-V.

mod control_registers;
mod nmi;
mod step;
#[cfg(test)]
mod tests;

use crate::cpu::{Cpu, Features};
use crate::decode::decode;
use crate::events;
use crate::permission_maps::PermissionMaps;
use crate::running;
use crate::spec::{
    EventField, Intercept1, Intercept2, InterruptControl, TlbControl, Vmcb, VmcbSegment, exit_code,
};
use crate::world_switch::Switch;
use alloc::string::String;
use alloc::sync::Arc;
use config::CommandLine;
use control_registers::INTERCEPT_CR4_WRITE;
use core::fmt;
use devices::local_apic::RegisterPage;
use emulator::event::Event;
use emulator::registers::{
    Cr0, Cr4, Efer, Fault, Gpr, Gprs, Rflags, Segment, SegmentName, TableRegister,
};
use nmi::NmiState;
use step::Step;
use vmm_core::backend::address_tags::Tag;
use vmm_core::backend::exit::{Exit, INTERCEPTED_EXCEPTIONS};
use vmm_core::backend::extended_state::{self, ExtendedState};
use vmm_core::backend::reset;
use vmm_core::backend::speculation::{Barrier, Defences};
use vmm_core::backend::{Backend, PAUSE_GAP_TICKS, SystemRegister, Unsupported, VcpuSetup};
use vmm_core::backend::{NestedPaging, WriteTracking};
use vmm_core::host::owner::{GuestId, Owner};
use vmm_core::host::platform::{Frame, FrameSize, Platform};
use x86::msr::wrmsr;

/// Among the intercepts of control registers.
const INTERCEPT_CR8_WRITE: u32 = 1 << (16 + 8);

/// So many PAUSEs a guest runs before it exits: it spins for about a millisecond, longer than it
/// waits for itself.
const LONGEST_SPIN_PAUSES: u16 = u16::MAX;

/// A virtual CPU: its VMCB and what the hardware does not keep there.
pub struct Svm {
    platform: &'static dyn Platform,
    guest: GuestId,
    vmcb: Frame,
    /// With the CPU that it is loaded on.
    switch: Switch,
    features: Features,
    defences: Defences,
    asid: Tag,
    /// CR4.MCE as the guest sees it: it runs with the host's, as a machine check is always the
    /// hypervisor's, and without it ends in a shutdown.
    guest_mce: bool,
    /// EFER.LME is the guest's, and not the processor's yet: [`Svm::settle_long_mode`].
    lme_withheld: bool,
    nmi: NmiState,
    /// The class of the interrupt that waits for a window.
    window: Option<u8>,
    /// The task priority holds that interrupt back.
    window_is_held: bool,
    apic_page: Arc<RegisterPage>,
    /// The step that the next entry is, if it is one.
    step: Option<Step>,
}

impl Svm {
    fn vmcb(&self) -> &Vmcb {
        // SAFETY: the frame is a whole page, cleared in `new`, that this value owns alone; every
        // bit pattern that the processor writes is valid for the fields it writes to. The
        // processor accesses it only inside `enter`.
        unsafe { &*(self.vmcb.address as *const Vmcb) }
    }

    fn vmcb_mut(&mut self) -> &mut Vmcb {
        // SAFETY: as in `vmcb`, and `self` is borrowed exclusively.
        unsafe { &mut *(self.vmcb.address as *mut Vmcb) }
    }

    fn segment_slot(&mut self, name: SegmentName) -> &mut VmcbSegment {
        let save = &mut self.vmcb_mut().save;
        match name {
            SegmentName::Es => &mut save.es,
            SegmentName::Cs => &mut save.cs,
            SegmentName::Ss => &mut save.ss,
            SegmentName::Ds => &mut save.ds,
            SegmentName::Fs => &mut save.fs,
            SegmentName::Gs => &mut save.gs,
            SegmentName::Ldtr => &mut save.ldtr,
            SegmentName::Tr => &mut save.tr,
        }
    }

    fn set_up_controls(&mut self, nested_root_hpa: u64) {
        let maps = PermissionMaps::get();
        let iopm_base_hpa = self.platform.hpa_of(maps.ports.as_ptr() as usize);
        let msrpm_base_hpa = self.platform.hpa_of(maps.msrs.as_ptr() as usize);
        let Features { pause_filter, pause_filter_threshold, .. } = self.features;
        let control = &mut self.vmcb_mut().control;
        control.intercept_cr = INTERCEPT_CR4_WRITE;
        control.intercept_exceptions = INTERCEPTED_EXCEPTIONS;
        control.intercept_1 = Intercept1::new()
            .with_intr(true)
            .with_nmi(true)
            .with_init(true)
            .with_rdpmc(true)
            .with_cpuid(true)
            .with_invd(true)
            .with_pause(pause_filter)
            .with_hlt(true)
            .with_invlpga(true)
            .with_ioio(true)
            .with_msr(true)
            .with_task_switch(true)
            .with_ferr_freeze(true)
            .with_shutdown(true);
        control.intercept_2 = Intercept2::new()
            .with_vmrun(true)
            .with_vmmcall(true)
            .with_vmload(true)
            .with_vmsave(true)
            .with_stgi(true)
            .with_clgi(true)
            .with_skinit(true)
            .with_wbinvd(true)
            .with_monitor(true)
            .with_mwait(true)
            .with_xsetbv(true)
            .with_rdpru(true);
        control.pause_filter_count = LONGEST_SPIN_PAUSES;
        control.pause_filter_threshold = if pause_filter_threshold { PAUSE_GAP_TICKS } else { 0 };
        control.iopm_base_hpa = iopm_base_hpa;
        control.msrpm_base_hpa = msrpm_base_hpa;
        control.interrupt_control = InterruptControl::new().with_masking(true);
        control.nested_control = 1;
        control.nested_cr3 = nested_root_hpa;
    }

    /// IA32_SPEC_CTRL of the guest. A processor that does not keep it apart has it written at
    /// entries and exits.
    fn set_spec_ctrl(&mut self, value: u64) {
        self.vmcb_mut().save.spec_ctrl = value;
        let switches = !self.features.virtual_spec_ctrl && self.defences.switches_control(value);
        let values = (self.defences.guest_control(value), self.defences.host_control);
        self.switch.set_control(switches.then_some(values));
    }

    #[cold]
    fn note_interrupted(&self, interrupted: &mut Option<Event>) {
        if let Some(event) = events::interrupted(self.vmcb().control.exit_interrupt_info) {
            *interrupted = Some(event);
        }
    }

    /// The interrupt that waits is held back by the task priority now, or no longer.
    #[cold]
    fn adapt_window(&mut self, priority_class: u8) {
        if self.window.is_some_and(|class| class <= priority_class) != self.window_is_held {
            self.apply_window(priority_class);
        }
    }

    /// Asks for an exit when the interrupt that waits can be taken: as soon as the guest takes
    /// interrupts, or, if the task priority of `priority_class` holds it back, when that
    /// changes. Meanwhile CR8 is not written without an exit.
    fn apply_window(&mut self, priority_class: u8) {
        self.window_is_held = self.window.is_some_and(|class| class <= priority_class);
        let (is_wanted, is_held) = (self.window.is_some(), self.window_is_held);
        let control = &mut self.vmcb_mut().control;
        set_bits(&mut control.intercept_cr, INTERCEPT_CR8_WRITE, is_wanted);
        control.intercept_1.set_vintr(is_wanted && !is_held);
        control.interrupt_control.set_irq(is_wanted && !is_held);
        control.interrupt_control.set_ignore_tpr(true);
    }
}

fn set_bits(word: &mut u32, bits: u32, on: bool) {
    *word = if on { *word | bits } else { *word & !bits };
}

impl Backend for Svm {
    const NAME: &'static str = "AMD-V";
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

    fn nested_paging(_: &Cpu) -> NestedPaging {
        // Every processor with nested paging has pages of 1 GiB, and sets accessed and dirty flags
        // (15.25.5).
        NestedPaging {
            format: ept::Format::Npt,
            largest_page: ept::PageSize::Size1G,
            tracking: Some(WriteTracking::Flags),
        }
    }

    fn defences(cpu: &Cpu) -> Defences {
        cpu.defences
    }

    fn new(
        cpu: &Cpu,
        platform: &'static dyn Platform,
        setup: &VcpuSetup,
    ) -> Result<Self, Unsupported> {
        let vmcb = platform
            .allocate_frame(FrameSize::Small, Owner::Hypervisor)
            .ok_or(Unsupported("too little memory for a VMCB"))?;
        // SAFETY: the frame is a page of our own that nobody refers to yet.
        unsafe { core::ptr::write_bytes(vmcb.address as *mut u8, 0, size_of::<Vmcb>()) };
        let switch = Switch::new(vmcb.hpa, cpu.host_state.hpa, &cpu.defences);
        let mut vcpu = Self {
            platform,
            guest: setup.guest,
            vmcb,
            switch,
            features: cpu.features,
            defences: cpu.defences,
            asid: Tag::default(),
            guest_mce: false,
            lme_withheld: false,
            nmi: NmiState::Open,
            window: None,
            window_is_held: false,
            apic_page: setup.apic_page.clone(),
            step: None,
        };
        vcpu.set_up_controls(setup.nested_root_hpa);
        Ok(vcpu)
    }

    fn init(&mut self, gprs: &mut Gprs) {
        *gprs = Gprs::default();
        self.open_nmis();
        (self.window, self.window_is_held) = (None, false);
        let control = &mut self.vmcb_mut().control;
        set_bits(&mut control.intercept_cr, INTERCEPT_CR8_WRITE, false);
        control.interrupt_control = InterruptControl::new().with_masking(true);
        control.interrupt_shadow = 0;
        control.event_injection = EventField::new();
        control.exit_interrupt_info = EventField::new();
        control.intercept_1.set_vintr(false);
        control.tlb_control = TlbControl::FlushAll;
        reset::init(self);
    }

    fn load(&mut self, cpu: &Cpu, gprs: &Gprs) {
        running::note(self.platform.cpu(), self.vmcb.address, gprs);
        if cpu.last_guest.turn_to(self.guest) && cpu.defences.guest_barrier {
            self.issue_barrier(Barrier::BranchPredictors);
        }
        self.switch.host_hpa = cpu.host_state.hpa;
        self.asid = cpu.asids.take();
        let asid = self.asid.number();
        let control = &mut self.vmcb_mut().control;
        control.asid = asid;
        control.tlb_control = TlbControl::FlushAll;
    }

    fn unload(&mut self) {
        running::forget(self.platform.cpu());
        self.asid = Tag::default();
    }

    /// VMLOAD and VMSAVE swap the others.
    const LIVE_REGISTERS: &'static [SystemRegister] = &[SystemRegister::TscAux];

    #[inline(always)]
    fn tsc(_: &dyn Platform) -> u64 {
        // SAFETY: every 64-bit CPU has it, and the hypervisor runs at privilege level 0.
        unsafe { x86::time::rdtsc() }
    }

    // A step on bounce pages enters too, and must not lengthen all others.
    #[inline(always)]
    fn enter(&mut self, gprs: &mut Gprs, interrupted: &mut Option<Event>) -> Exit {
        let flush_always = self.asid.is_shared();
        let priority_class = self.apic_page.tpr() >> 4;
        if self.window.is_some() {
            self.adapt_window(priority_class);
        }
        let vmcb = self.vmcb_mut();
        if flush_always {
            vmcb.control.tlb_control = TlbControl::FlushAll;
        }
        vmcb.save.rax = gprs.get(Gpr::Rax);
        vmcb.save.rsp = gprs.get(Gpr::Rsp);
        vmcb.control.interrupt_control.set_tpr(priority_class);
        // SAFETY: `Cpu::enable` turned virtualisation on and filled the host state page; the VMCB
        // was set up in `new` and `reset`, its nested tables hold the guest's own memory
        // only (condition on the shared code); interrupts are off (condition of
        // `Backend::enter`).
        unsafe { self.switch.run(gprs) };
        if self.step.is_some() {
            self.end_step(gprs);
        }
        let vmcb = self.vmcb_mut();
        gprs.set(Gpr::Rax, vmcb.save.rax);
        gprs.set(Gpr::Rsp, vmcb.save.rsp);
        vmcb.control.event_injection = EventField::new();
        vmcb.control.tlb_control = TlbControl::Keep;
        let new_class = vmcb.control.interrupt_control.tpr() & 0xf;
        if new_class != priority_class {
            self.apic_page.set_tpr(new_class << 4);
        }
        if self.vmcb().control.exit_interrupt_info.valid() {
            self.note_interrupted(interrupted);
        }
        // Last, so that each exit leads straight to its answer.
        let exit = decode(&self.vmcb().control);
        if exit == Exit::NmiWindow {
            self.reach_iret();
        }
        exit
    }

    const STEPS_BY_TRAP: bool = true;

    fn begin_step(&mut self, gprs: &mut Gprs, instruction: &[u8]) {
        self.prepare_step(gprs, instruction);
    }

    fn set_descriptor_exits(&mut self, on: bool) -> bool {
        let control = &mut self.vmcb_mut().control;
        control.intercept_1 = control.intercept_1.with_descriptor_tables(on);
        true
    }

    fn rip(&self) -> u64 {
        self.vmcb().save.rip
    }

    fn set_rip(&mut self, rip: u64) {
        self.vmcb_mut().save.rip = rip;
    }

    fn complete_instruction(&mut self, next_rip: u64) {
        let vmcb = self.vmcb_mut();
        vmcb.save.rip = next_rip;
        vmcb.control.interrupt_shadow = 0;
    }

    fn next_rip(&self) -> Option<u64> {
        let control = &self.vmcb().control;
        // EXITINFO2 of an IOIO exit is the address of the next instruction (15.10.2), on every
        // processor.
        if control.exit_code == exit_code::IOIO {
            return Some(control.exit_info_2);
        }
        (self.features.next_rip && control.next_rip != 0).then_some(control.next_rip)
    }

    fn control_register_operand(&self) -> Option<Gpr> {
        self.accessing_register()
    }

    fn let_cr0_be_written(&mut self) {
        self.vmcb_mut().control.intercept_1.set_cr0_selective(false);
    }

    fn instruction_bytes(&self) -> Option<&[u8]> {
        let control = &self.vmcb().control;
        let count = usize::from(control.fetched_count).min(control.fetched_bytes.len());
        (self.features.decode_assists && count > 0).then(|| &control.fetched_bytes[..count])
    }

    fn rflags(&self) -> Rflags {
        self.vmcb().save.rflags.into()
    }

    fn set_rflags(&mut self, rflags: Rflags) {
        self.vmcb_mut().save.rflags = rflags.into();
    }

    fn cr0(&self) -> Cr0 {
        self.vmcb().save.cr0.into()
    }

    fn cr4(&self) -> Cr4 {
        Cr4::from(self.vmcb().save.cr4).with_mce(self.guest_mce)
    }

    fn efer(&self) -> Efer {
        let efer = Efer::from(self.vmcb().save.efer).with_svme(false);
        efer.with_long_mode_enable(efer.long_mode_enable() || self.lme_withheld)
    }

    fn set_cr0(&mut self, cr0: Cr0) {
        self.write_cr0(cr0);
    }

    fn set_cr4(&mut self, cr4: Cr4) {
        self.write_cr4(cr4);
    }

    fn set_efer(&mut self, efer: Efer) {
        self.write_efer(efer);
    }

    fn system_register(&self, register: SystemRegister) -> u64 {
        let save = &self.vmcb().save;
        match register {
            SystemRegister::Cr2 => save.cr2,
            SystemRegister::Cr3 => save.cr3,
            SystemRegister::Dr6 => save.dr6,
            SystemRegister::Dr7 => save.dr7,
            SystemRegister::Pat => save.pat,
            SystemRegister::Star => save.star,
            SystemRegister::LStar => save.lstar,
            SystemRegister::CStar => save.cstar,
            SystemRegister::SfMask => save.sfmask,
            SystemRegister::KernelGsBase => save.kernel_gs_base,
            SystemRegister::SysenterCs => save.sysenter_cs,
            SystemRegister::SysenterEsp => save.sysenter_esp,
            SystemRegister::SysenterEip => save.sysenter_eip,
            SystemRegister::TscAux => extended_state::tsc_aux(),
            SystemRegister::SpecCtrl => save.spec_ctrl,
        }
    }

    fn set_system_register(&mut self, register: SystemRegister, value: u64) {
        let save = &mut self.vmcb_mut().save;
        let field = match register {
            SystemRegister::Cr2 => &mut save.cr2,
            SystemRegister::Cr3 => &mut save.cr3,
            SystemRegister::Dr6 => &mut save.dr6,
            SystemRegister::Dr7 => &mut save.dr7,
            SystemRegister::Pat => &mut save.pat,
            SystemRegister::Star => &mut save.star,
            SystemRegister::LStar => &mut save.lstar,
            SystemRegister::CStar => &mut save.cstar,
            SystemRegister::SfMask => &mut save.sfmask,
            SystemRegister::KernelGsBase => &mut save.kernel_gs_base,
            SystemRegister::SysenterCs => &mut save.sysenter_cs,
            SystemRegister::SysenterEsp => &mut save.sysenter_esp,
            SystemRegister::SysenterEip => &mut save.sysenter_eip,
            SystemRegister::TscAux => return extended_state::set_tsc_aux(value),
            SystemRegister::SpecCtrl => return self.set_spec_ctrl(value),
        };
        *field = value;
    }

    fn cpl(&self) -> u8 {
        self.vmcb().save.cpl
    }

    fn segment(&self, name: SegmentName) -> Segment {
        let save = &self.vmcb().save;
        let segment = match name {
            SegmentName::Es => save.es,
            SegmentName::Cs => save.cs,
            SegmentName::Ss => save.ss,
            SegmentName::Ds => save.ds,
            SegmentName::Fs => save.fs,
            SegmentName::Gs => save.gs,
            SegmentName::Ldtr => save.ldtr,
            SegmentName::Tr => save.tr,
        };
        segment.into()
    }

    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        *self.segment_slot(name) = segment.into();
        if name == SegmentName::Ss {
            self.vmcb_mut().save.cpl = segment.attributes.dpl();
        }
    }

    fn gdtr(&self) -> TableRegister {
        let gdtr = self.vmcb().save.gdtr;
        TableRegister { base: gdtr.base, limit: gdtr.limit as u16 }
    }

    fn idtr(&self) -> TableRegister {
        let idtr = self.vmcb().save.idtr;
        TableRegister { base: idtr.base, limit: idtr.limit as u16 }
    }

    fn set_gdtr(&mut self, gdtr: TableRegister) {
        let slot = &mut self.vmcb_mut().save.gdtr;
        (slot.base, slot.limit) = (gdtr.base, gdtr.limit.into());
    }

    fn set_idtr(&mut self, idtr: TableRegister) {
        let slot = &mut self.vmcb_mut().save.idtr;
        (slot.base, slot.limit) = (idtr.base, idtr.limit.into());
    }

    fn interrupt_shadow(&self) -> bool {
        self.vmcb().control.interrupt_shadow & 1 != 0
    }

    fn set_interrupt_shadow(&mut self) {
        self.vmcb_mut().control.interrupt_shadow |= 1;
    }

    fn nmi_blocked(&self) -> bool {
        self.are_nmis_blocked()
    }

    fn unblock_nmis(&mut self) {
        self.open_nmis();
    }

    fn inject(&mut self, event: Event) {
        match event {
            Event::Nmi => self.block_nmis(),
            _ => self.hold_nmis(),
        }
        let vmcb = self.vmcb_mut();
        vmcb.control.event_injection = events::injection(event);
        if let Event::Fault(Fault { address: Some(address), .. }) = event {
            vmcb.save.cr2 = address;
        }
    }

    fn set_interrupt_window(&mut self, priority: Option<u8>) {
        self.window = priority;
        self.apply_window(self.apic_page.tpr() >> 4);
    }

    fn set_nmi_window(&mut self) -> bool {
        self.await_nmi_window()
    }

    fn tsc_offset(&self) -> u64 {
        self.vmcb().control.tsc_offset
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcb_mut().control.tsc_offset = offset;
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
        let by_asid = self.features.flush_by_asid;
        self.vmcb_mut().control.tlb_control =
            if by_asid { TlbControl::FlushGuest } else { TlbControl::FlushAll };
    }

    fn dump(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        crate::dump::dump(self.vmcb(), f)
    }
}

impl Drop for Svm {
    fn drop(&mut self) {
        let Frame { address, hpa, size } = self.vmcb;
        self.platform.free_frame(Frame { address, hpa, size });
    }
}
