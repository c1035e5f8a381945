//! One virtual CPU on VT-x.

use crate::checks;
use crate::control_registers::{SharedRegister, is_legal_cr0};
use crate::controls::PrimaryControls;
use crate::cpu::{Cpu, Features};
use crate::decode::{decode, has_instruction_length, may_interrupt_delivery};
use crate::events::{self, Window};
use crate::field::Field;
use crate::instructions::{self, Scope};
use crate::msr_bitmap::MSR_BITMAP;
use crate::spec::{
    CrQualification, EptPointer, ExitReason, Interruptibility, Interruption, PendingDebug,
    TaskSwitchQualification, cr_access, instruction_error, interruption, msr, reason, task_source,
};
use crate::vmcs::Vmcs;
use crate::{dump, guest_state, host_state, running, segments, world_switch};
use core::fmt;
use vmm_core::address_tags::Tag;
use vmm_core::backend::{Backend, Event, SystemRegister, Unsupported, VcpuSetup};
use vmm_core::exit::Exit;
use vmm_core::platform::{Frame, FrameSize, Platform};
use vmm_core::registers::{
    Cr0, Cr4, Efer, Exception, Fault, Gpr, Gprs, Rflags, Segment, SegmentName, TableRegister,
};
use vmm_core::task_switch::{Source, TaskSwitch};
use x86::msr::{rdmsr, wrmsr};

/// A virtual CPU: its VMCS and what the hardware does not keep there.
///
/// DR0 to DR3, DR6, the registers of SYSCALL and KernelGSbase stay live in the physical CPU, as the vector registers
/// do: the hypervisor uses none of them.
pub struct Vmx {
    vmcs: Vmcs,
    /// Where the processor keeps the task priority (25.6.8).
    virtual_apic: Frame,
    features: Features,
    physical_address_bits: u8,
    vpid: Tag,
    platform: &'static dyn Platform,
    ept_pointer: u64,
    cr2: u64,
    /// What was last written to the host-RSP field.
    host_rsp: u64,
    /// Basic reason of the last exit.
    basic_reason: u16,
    interrupted: Option<Event>,
    /// Priority class of the interrupt that waits.
    wanted: Option<u8>,
    /// `wanted` or the task priority changed.
    window_changed: bool,
    /// Translations of the second-level tables must go before the next entry.
    flush_nested: bool,
    /// The guest's own translations must go before the next entry.
    flush_guest: bool,
    /// The first entry was checked.
    checked: bool,
}

/// Exceptions that exit: see the same list of the AMD-V backend. #DB and #AC, because their delivery can raise them again
/// for ever; #MC, because it is the host's.
const INTERCEPTED_EXCEPTIONS: u64 =
    1 << Exception::Debug as u8 | 1 << Exception::AlignmentCheck as u8 | 1 << Exception::MachineCheck as u8;
/// Host interrupts wait no longer than this for a guest that runs. Rare enough to cost nothing.
const LONGEST_RUN_MS: u64 = 4;
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_ALWAYS_ONE: u64 = 0x400;
/// DR6: B0 to B3.
const DR6_BREAKPOINTS: u64 = 0xf;
/// DR6: B0 to B3, BD, BS.
const DR6_CAUSES: u64 = 0x600f;
const DEBUG_CTL_BTF: u64 = 2;
/// LBR and BTF: what the guest may set of DEBUGCTL.
const DEBUG_CTL_GUEST: u64 = 3;
/// EPT tables in write-back memory.
const WRITE_BACK: u8 = 6;
/// Where the task priority register is in the virtual-APIC page.
const TPR_OFFSET: usize = 0x80;
const TWO_TO_32: u64 = 1 << 32;

impl Vmx {
    /// The task-priority byte of the virtual-APIC page.
    fn tpr(&self) -> *mut u8 {
        (self.virtual_apic.address + TPR_OFFSET) as *mut u8
    }

    fn set_up_controls(&mut self) {
        let controls = self.features.controls;
        let msr_bitmap_hpa = self.platform.hpa_of(&raw const MSR_BITMAP as usize);
        let fields = [
            (Field::PinControls, controls.pin.bits().into()),
            (Field::PrimaryControls, controls.primary.bits().into()),
            (Field::SecondaryControls, controls.secondary.bits().into()),
            (Field::ExitControls, controls.exit.bits().into()),
            (Field::EntryControls, controls.entry.bits().into()),
            (Field::ExceptionBitmap, INTERCEPTED_EXCEPTIONS),
            (Field::PageFaultMask, 0),
            (Field::PageFaultMatch, 0),
            (Field::Cr3TargetCount, 0),
            (Field::ExitMsrStoreCount, 0),
            (Field::ExitMsrLoadCount, 0),
            (Field::EntryMsrLoadCount, 0),
            (Field::MsrBitmap, msr_bitmap_hpa),
            (Field::EptPointer, self.ept_pointer),
            (Field::TscOffset, 0),
            (Field::Cr0Mask, self.features.cr0.mask),
            (Field::Cr4Mask, self.features.cr4.mask),
        ];
        for (field, value) in fields {
            self.vmcs.write(field, value);
        }
        if controls.has_vpid() {
            self.vmcs.write(Field::Vpid, self.vpid.number().into());
        }
        if controls.has_tpr_shadow() {
            self.vmcs.write(Field::VirtualApicPage, self.virtual_apic.hpa);
            self.vmcs.write(Field::TprThreshold, 0);
        }
        // SAFETY: this is the CPU that will run the guest, and the hypervisor's tables and bases stay as they are.
        unsafe { host_state::write(&mut self.vmcs) };
    }

    fn set_primary(&mut self, control: PrimaryControls, on: bool) {
        let mut controls = PrimaryControls::from_bits_retain(self.vmcs.read(Field::PrimaryControls) as u32);
        controls.set(control, on);
        self.vmcs.write(Field::PrimaryControls, controls.bits().into());
    }

    fn interruptibility(&self) -> Interruptibility {
        Interruptibility::from(self.vmcs.read(Field::GuestInterruptibility) as u32)
    }

    fn set_interruptibility(&mut self, state: Interruptibility) {
        self.vmcs.write(Field::GuestInterruptibility, state.into_bits().into());
    }

    /// What changed since the last exit and concerns the next entry.
    #[inline]
    fn before_entry(&mut self, gprs: &Gprs) {
        self.vmcs.write(Field::GuestRsp, gprs.get(Gpr::Rsp));
        if self.window_changed {
            self.apply_window();
        }
        if self.flush_guest || self.flush_nested || self.vpid.is_shared() {
            self.flush();
        }
    }

    fn apply_window(&mut self) {
        self.window_changed = false;
        let Window { exiting, tpr_threshold } = events::window(self.wanted, self.cr8());
        self.set_primary(PrimaryControls::INTERRUPT_WINDOW, exiting);
        if self.features.controls.has_tpr_shadow() {
            self.vmcs.write(Field::TprThreshold, tpr_threshold.into());
        }
    }

    #[cold]
    fn flush(&mut self) {
        let ept = self.features.capabilities.ept_vpid;
        if self.flush_nested {
            let scope = if ept.invept_single() { Scope::Single } else { Scope::All };
            // SAFETY: VMX operation is on, and the processor has the scope (`Controls::new`).
            if let Err(error) = unsafe { instructions::invept(scope, self.ept_pointer) } {
                log::error!("INVEPT failed: {error:?}");
            }
        }
        // Without VPIDs every entry and exit flushes.
        if (self.flush_guest || self.vpid.is_shared()) && self.features.controls.has_vpid() {
            let scope = if ept.invvpid_single() { Scope::Single } else { Scope::All };
            // SAFETY: as above.
            if let Err(error) = unsafe { instructions::invvpid(scope, self.vpid.number() as u16) } {
                log::error!("INVVPID failed: {error:?}");
            }
        }
        (self.flush_nested, self.flush_guest) = (false, false);
    }

    /// Prints the rules of entry that do not hold; true if there are none.
    #[cold]
    fn keeps_rules(&self) -> bool {
        let violations = checks::check(&self.vmcs, &self.features.capabilities, self.physical_address_bits);
        for violation in &violations {
            log::error!("VM entry: {violation}");
        }
        violations.is_empty()
    }

    /// The processor did not enter the guest.
    #[cold]
    fn refused(&mut self, why: &str) -> Exit {
        log::error!("VM entry failed: {why}");
        if self.keeps_rules() {
            log::error!("VM entry: every rule that Bulkhead knows holds");
        }
        Exit::EntryFailure
    }

    /// What the exit says about an event that was being delivered, and about NMIs.
    fn note_interrupted(&mut self) {
        let vectoring = Interruption::from(self.vmcs.read(Field::VectoringInfo) as u32);
        if vectoring.valid() {
            let error_code = self.vmcs.read(Field::VectoringErrorCode) as u32;
            self.interrupted = events::interrupted(vectoring, error_code);
            return;
        }
        // An IRET unblocked NMIs and then could not finish (28.2.3): it will run again, still in the NMI's handler.
        const NMI_UNBLOCKED: u64 = 1 << 12;
        let field = match self.basic_reason {
            reason::EXCEPTION_OR_NMI => Field::ExitInterruption,
            _ => Field::ExitQualification,
        };
        if self.basic_reason != reason::TASK_SWITCH && self.vmcs.read(field) & NMI_UNBLOCKED != 0 {
            self.set_interruptibility(self.interruptibility().with_by_nmi(true));
        }
    }

    /// The part of an exit that the shared code need not know.
    #[inline]
    fn after_exit(&mut self, gprs: &mut Gprs) -> Exit {
        match self.basic_reason {
            reason::CONTROL_REGISTER => return self.control_register(gprs),
            reason::TASK_SWITCH => return self.task_switch(),
            reason::NMI_WINDOW => self.set_primary(PrimaryControls::NMI_WINDOW, false),
            _ => {}
        }
        let exit = decode(self.basic_reason, &self.vmcs);
        match exit {
            // The host's interrupts are about to be handled.
            Exit::ExternalInterrupt => self.restart_timer(),
            // SAFETY: runs the handler of the NMI that ended the guest's run; its IRET unblocks NMIs again.
            Exit::HostNmi => unsafe { core::arch::asm!("int 2") },
            Exit::Exception(Exception::Debug) => self.debug_exception(),
            _ => {}
        }
        exit
    }

    /// However the guest runs, it ends after [`LONGEST_RUN_MS`]. A processor ends it for each interrupt of the host's anyway;
    /// Bochs 3.0 does not if the interrupt was pending at an entry with the guest's interrupts off.
    fn restart_timer(&mut self) {
        if self.features.controls.has_preemption_timer() {
            let ticks = self.platform.tsc_hz() * LONGEST_RUN_MS / 1000;
            let shift = self.features.capabilities.misc.preemption_timer_shift();
            let count = u32::try_from(ticks >> shift).unwrap_or(u32::MAX);
            self.vmcs.write(Field::GuestPreemptionTimer, count.into());
        }
    }

    /// A hardware task switch: in VMX operation they all exit before they begin (26.4.2). An event that caused it by a task
    /// gate in the IDT is delivered by the switch itself.
    #[cold]
    fn task_switch(&mut self) -> Exit {
        let info = TaskSwitchQualification::from(self.vmcs.read(Field::ExitQualification));
        let vectoring = Interruption::from(self.vmcs.read(Field::VectoringInfo) as u32);
        let interrupted = self.interrupted.take();
        let source = match info.source() {
            task_source::CALL => Source::Call,
            task_source::IRET => Source::Iret,
            task_source::JUMP => Source::Jump,
            _ => Source::Gate,
        };
        // An interrupted task goes on where it was, one that used an instruction goes on behind it.
        let by_instruction = source != Source::Gate || interrupted.is_none() && vectoring.valid();
        let length = if by_instruction { self.vmcs.read(Field::ExitInstructionLength) } else { 0 };
        let resume_rip = self.wrap_rip(self.rip().wrapping_add(length));
        let error_code = match interrupted {
            Some(Event::Fault(fault)) if source == Source::Gate => fault.error_code,
            _ => None,
        };
        match (source, interrupted) {
            (Source::Gate, Some(Event::Nmi)) => {
                self.set_interruptibility(self.interruptibility().with_by_nmi(true));
                self.set_primary(PrimaryControls::NMI_WINDOW, true);
            }
            (Source::Iret, _) => self.set_interruptibility(self.interruptibility().with_by_nmi(false)),
            _ => {}
        }
        Exit::TaskSwitch(TaskSwitch { selector: info.selector(), source, resume_rip, error_code })
    }

    /// A #DB exited before its delivery: what that would have done to DR6 is in the exit qualification (table 28-1).
    #[cold]
    fn debug_exception(&mut self) {
        let causes = self.vmcs.read(Field::ExitQualification) & DR6_CAUSES;
        let dr6 = self.system_register(SystemRegister::Dr6) & !DR6_BREAKPOINTS;
        self.set_system_register(SystemRegister::Dr6, dr6 | causes);
        let info = Interruption::from(self.vmcs.read(Field::ExitInterruption) as u32);
        if info.kind() == interruption::PRIVILEGED_SOFTWARE_EXCEPTION {
            // INT1: RIP still points to it, although it is a trap.
            self.skip_instruction();
        }
    }

    /// While STI or MOV SS protects an instruction, an entry demands that a single step is pending exactly if it is
    /// switched on (27.3.1.5).
    fn settle_single_step(&mut self, state: Interruptibility) {
        if state.by_sti() || state.by_mov_ss() {
            let branches_only = self.vmcs.read(Field::GuestDebugCtl) & DEBUG_CTL_BTF != 0;
            let pending = PendingDebug::from(self.vmcs.read(Field::GuestPendingDebug))
                .with_single_step(self.rflags().trap() && !branches_only);
            self.vmcs.write(Field::GuestPendingDebug, pending.into());
        }
    }

    /// A control-register access that exited (28.2.1, table 28-3).
    #[cold]
    fn control_register(&mut self, gprs: &mut Gprs) -> Exit {
        let access = CrQualification::from(self.vmcs.read(Field::ExitQualification));
        let operand = gprs.0[usize::from(access.gpr())];
        let value = if self.is_64_bit_code() { operand } else { operand % TWO_TO_32 };
        let (cr0, cr4) = (self.features.cr0, self.features.cr4);
        match (access.access(), access.register()) {
            (cr_access::TO_CR, 0) if is_legal_cr0(value) => self.share(Field::Cr0Shadow, cr0, value),
            (cr_access::TO_CR, 4) => self.share(Field::Cr4Shadow, cr4, value),
            (cr_access::TO_CR, 8) if value < 16 => {
                self.set_cr8(value as u8);
                self.skip_instruction()
            }
            (cr_access::TO_CR, 0 | 8) => Exit::Forbidden,
            (cr_access::FROM_CR, 8) => {
                gprs.0[usize::from(access.gpr())] = self.cr8().into();
                self.skip_instruction()
            }
            _ => Exit::Unknown(reason::CONTROL_REGISTER.into()),
        }
    }

    /// Gives the guest the bits that it asked for in the shadow, so that the instruction can run without an exit.
    fn share(&mut self, shadow: Field, register: SharedRegister, value: u64) -> Exit {
        match register.shadow_for(value) {
            Some(bits) if bits != self.vmcs.read(shadow) => {
                self.vmcs.write(shadow, bits);
                Exit::ControlRegister
            }
            // The shadow is not why it exited: it would exit for ever.
            Some(_) => Exit::Unknown(reason::CONTROL_REGISTER.into()),
            None => Exit::Forbidden,
        }
    }

    fn skip_instruction(&mut self) -> Exit {
        let length = self.vmcs.read(Field::ExitInstructionLength);
        self.complete_instruction(self.rip().wrapping_add(length));
        Exit::ControlRegister
    }

    fn is_64_bit_code(&self) -> bool {
        self.efer().long_mode_active() && self.segment(SegmentName::Cs).attributes.long()
    }

    /// RIP has 32 bits outside 64-bit code; an entry demands it.
    fn wrap_rip(&self, rip: u64) -> u64 {
        if rip < TWO_TO_32 || self.is_64_bit_code() { rip } else { rip % TWO_TO_32 }
    }
}

/// The MSR that holds a register which the hypervisor does not use.
const fn live_msr(register: SystemRegister) -> Option<u32> {
    match register {
        SystemRegister::Star => Some(msr::STAR),
        SystemRegister::LStar => Some(msr::LSTAR),
        SystemRegister::CStar => Some(msr::CSTAR),
        SystemRegister::SfMask => Some(msr::SFMASK),
        SystemRegister::KernelGsBase => Some(msr::KERNEL_GS_BASE),
        _ => None,
    }
}

const LIVE_REGISTERS: [SystemRegister; 5] = [
    SystemRegister::Star,
    SystemRegister::LStar,
    SystemRegister::CStar,
    SystemRegister::SfMask,
    SystemRegister::KernelGsBase,
];

const fn field_of(register: SystemRegister) -> Option<Field> {
    match register {
        SystemRegister::Cr3 => Some(Field::GuestCr3),
        SystemRegister::Dr7 => Some(Field::GuestDr7),
        SystemRegister::Pat => Some(Field::GuestPat),
        SystemRegister::SysenterCs => Some(Field::GuestSysenterCs),
        SystemRegister::SysenterEsp => Some(Field::GuestSysenterEsp),
        SystemRegister::SysenterEip => Some(Field::GuestSysenterEip),
        SystemRegister::DebugCtl => Some(Field::GuestDebugCtl),
        _ => None,
    }
}

impl Backend for Vmx {
    const NAME: &'static str = "VT-x";
    const NESTED_FORMAT: ept::Format = ept::Format::Ept;
    type Cpu = Cpu;

    fn enable_cpu(platform: &'static dyn Platform) -> Result<Cpu, Unsupported> {
        Cpu::enable(platform)
    }

    fn largest_page(cpu: &Cpu) -> ept::PageSize {
        cpu.largest_page()
    }

    fn new(cpu: &Cpu, platform: &'static dyn Platform, setup: &VcpuSetup) -> Result<Self, Unsupported> {
        let virtual_apic = platform
            .allocate_frame(FrameSize::Small)
            .ok_or(Unsupported("too little memory for a virtual-APIC page"))?;
        // SAFETY: the frame is a page of our own that nobody refers to yet.
        unsafe {
            core::ptr::write_bytes(virtual_apic.address as *mut u8, 0, FrameSize::Small.bytes() as usize)
        };
        let revision = cpu.features.capabilities.basic.revision();
        // SAFETY: `cpu` is in VMX operation.
        let vmcs = unsafe { Vmcs::new(platform, cpu.current.clone(), revision)? };
        let ept_pointer = EptPointer::new()
            .with_memory_type(WRITE_BACK)
            .with_walk_length_less_one(3)
            .with_frame(setup.nested_root_hpa >> 12);
        let mut vcpu = Self {
            vmcs,
            virtual_apic,
            features: cpu.features,
            physical_address_bits: cpu.physical_address_bits,
            vpid: cpu.vpids.take(),
            platform,
            ept_pointer: ept_pointer.into(),
            cr2: 0,
            host_rsp: 0,
            basic_reason: 0,
            interrupted: None,
            wanted: None,
            window_changed: false,
            flush_nested: true,
            flush_guest: true,
            checked: false,
        };
        vcpu.set_up_controls();
        vcpu.restart_timer();
        Ok(vcpu)
    }

    fn reset(&mut self, gprs: &mut Gprs) {
        *gprs = Gprs::default();
        guest_state::reset(&mut self.vmcs);
        self.set_cr0(guest_state::cr0());
        self.set_cr4(Cr4::new());
        self.set_primary(PrimaryControls::NMI_WINDOW, false);
        self.set_interrupt_window(None);
        self.interrupted = None;
        self.cr2 = 0;
        self.flush_guest = true;
        self.set_system_register(SystemRegister::Dr6, DR6_RESET);
        for register in LIVE_REGISTERS {
            self.set_system_register(register, 0);
        }
    }

    fn enter(&mut self, gprs: &mut Gprs) -> Exit {
        self.before_entry(gprs);
        if !self.checked {
            self.checked = true;
            if !self.keeps_rules() {
                return Exit::EntryFailure;
            }
        }
        let launched = self.vmcs.before_entry();
        running::note(gprs);
        // SAFETY: reads and writes CR2, which the hypervisor does not use.
        unsafe {
            if x86::controlregs::cr2() as u64 != self.cr2 {
                x86::controlregs::cr2_write(self.cr2);
            }
        }
        // SAFETY: this VMCS is current (`before_entry`), its host state was written by `host_state` on this CPU, and its
        // EPT holds the guest's own memory only (condition on the shared code). `host_rsp` is written by this call
        // only. Interrupts are off (condition of `Backend::enter`).
        let outcome = unsafe { world_switch::run_guest(gprs, launched, &raw mut self.host_rsp) };
        // SAFETY: reads a register.
        self.cr2 = unsafe { x86::controlregs::cr2() } as u64;
        self.vmcs.forget();
        match outcome {
            world_switch::EXITED => {}
            world_switch::FAILED_INVALID => return self.refused("no current VMCS"),
            _ => return self.refused(instruction_error(self.vmcs.read(Field::InstructionError))),
        }
        let exit_reason = ExitReason::from(self.vmcs.read(Field::ExitReason) as u32);
        self.basic_reason = exit_reason.basic();
        if exit_reason.entry_failure() {
            return self.refused(reason::name(self.basic_reason));
        }
        self.vmcs.note_launched();
        gprs.set(Gpr::Rsp, self.vmcs.read(Field::GuestRsp));
        if may_interrupt_delivery(self.basic_reason) {
            self.note_interrupted();
        }
        self.after_exit(gprs)
    }

    fn rip(&self) -> u64 {
        self.vmcs.read(Field::GuestRip)
    }

    fn set_rip(&mut self, rip: u64) {
        let rip = self.wrap_rip(rip);
        self.vmcs.write(Field::GuestRip, rip);
    }

    fn complete_instruction(&mut self, next_rip: u64) {
        self.set_rip(next_rip);
        let state = self.interruptibility();
        self.set_interruptibility(state.with_by_sti(false).with_by_mov_ss(false));
    }

    fn next_rip(&self) -> Option<u64> {
        has_instruction_length(self.basic_reason)
            .then(|| self.rip().wrapping_add(self.vmcs.read(Field::ExitInstructionLength)))
    }

    fn instruction_bytes(&self) -> Option<&[u8]> {
        None
    }

    fn rflags(&self) -> Rflags {
        self.vmcs.read(Field::GuestRflags).into()
    }

    fn set_rflags(&mut self, rflags: Rflags) {
        self.vmcs.write(Field::GuestRflags, rflags.into());
        let state = self.interruptibility();
        let state = state.with_by_sti(state.by_sti() && rflags.interrupt());
        self.set_interruptibility(state);
        self.settle_single_step(state);
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
        self.flush_guest = true;
    }

    fn set_cr4(&mut self, cr4: Cr4) {
        self.vmcs.write(Field::GuestCr4, self.features.cr4.register(cr4.into()));
        self.vmcs.write(Field::Cr4Shadow, cr4.into());
        self.flush_guest = true;
    }

    fn set_page_directory_pointers(&mut self, pointers: [u64; 4]) {
        let fields = [Field::GuestPdpte0, Field::GuestPdpte1, Field::GuestPdpte2, Field::GuestPdpte3];
        for (field, pointer) in fields.into_iter().zip(pointers) {
            self.vmcs.write(field, pointer);
        }
    }

    fn set_efer(&mut self, efer: Efer) {
        self.vmcs.write(Field::GuestEfer, efer.into());
        guest_state::set_64_bit_at_entry(&mut self.vmcs, efer.long_mode_active());
        self.flush_guest = true;
    }

    fn system_register(&self, register: SystemRegister) -> u64 {
        if let Some(field) = field_of(register) {
            return self.vmcs.read(field);
        }
        match (register, live_msr(register)) {
            (SystemRegister::Cr2, _) => self.cr2,
            // SAFETY: reads a register that holds the guest's value.
            (SystemRegister::Dr6, _) => unsafe { x86::debugregs::dr6().bits() as u64 },
            // SAFETY: the register exists on every processor with long mode.
            (_, Some(index)) => unsafe { rdmsr(index) },
            (_, None) => 0,
        }
    }

    fn set_system_register(&mut self, register: SystemRegister, value: u64) {
        let value = match register {
            SystemRegister::Dr7 => (value % TWO_TO_32) | DR7_ALWAYS_ONE,
            SystemRegister::DebugCtl => value & DEBUG_CTL_GUEST,
            _ => value,
        };
        if let Some(field) = field_of(register) {
            self.vmcs.write(field, value);
            self.flush_guest |= register == SystemRegister::Cr3;
            return;
        }
        match (register, live_msr(register)) {
            (SystemRegister::Cr2, _) => self.cr2 = value,
            (SystemRegister::Dr6, _) => {
                // SAFETY: the hypervisor does not use debug registers; the high half must be zero.
                unsafe {
                    core::arch::asm!("mov dr6, {}", in(reg) value % TWO_TO_32, options(nomem, nostack))
                };
            }
            // SAFETY: the hypervisor does not use these registers; a value that is not canonical would fault here.
            (_, Some(index)) if is_canonical(value) => unsafe { wrmsr(index, value) },
            _ => {}
        }
    }

    fn cpl(&self) -> u8 {
        // The privilege level of SS is the CPL, whether SS is usable or not.
        segments::attributes((self.vmcs.read(Field::GuestSsRights) as u32).into()).dpl()
    }

    fn segment(&self, name: SegmentName) -> Segment {
        let fields = segments::fields(name);
        Segment {
            selector: self.vmcs.read(fields.selector) as u16,
            attributes: segments::attributes((self.vmcs.read(fields.rights) as u32).into()),
            limit: self.vmcs.read(fields.limit) as u32,
            base: self.vmcs.read(fields.base),
        }
    }

    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        guest_state::write_segment(&mut self.vmcs, name, segment);
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

    fn interrupt_shadow(&self) -> bool {
        let state = self.interruptibility();
        state.by_sti() || state.by_mov_ss()
    }

    fn nmi_blocked(&self) -> bool {
        self.interruptibility().by_nmi()
    }

    fn take_interrupted_event(&mut self) -> Option<Event> {
        self.interrupted.take()
    }

    fn inject(&mut self, event: Event) {
        let (field, error_code) = events::injection(event, self.cr0().protection());
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
            Event::Fault(Fault { address: Some(address), .. }) => self.cr2 = address,
            Event::Fault(Fault { exception: Exception::Debug, .. }) => {
                self.settle_single_step(self.interruptibility());
            }
            _ => {}
        }
    }

    fn set_interrupt_window(&mut self, priority: Option<u8>) {
        self.wanted = priority;
        self.window_changed = true;
    }

    fn cr8(&self) -> u8 {
        // SAFETY: the page is ours alone while the guest does not run.
        unsafe { self.tpr().read_volatile() >> 4 }
    }

    fn set_cr8(&mut self, cr8: u8) {
        // SAFETY: as above.
        unsafe { self.tpr().write_volatile(cr8 << 4) };
        self.window_changed = true;
    }

    fn tsc_offset(&self) -> u64 {
        self.vmcs.read(Field::TscOffset)
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcs.write(Field::TscOffset, offset);
    }

    fn xcr0(&self) -> u64 {
        self.features.extended_state.xcr0()
    }

    fn set_xcr0(&mut self, xcr0: u64) {
        self.features.extended_state.set_xcr0(xcr0);
    }

    fn vector_register(&self, index: u8) -> [u8; 32] {
        self.features.extended_state.vector_register(index)
    }

    fn set_vector_register(&mut self, index: u8, bytes: &[u8]) {
        self.features.extended_state.set_vector_register(index, bytes);
    }

    fn flush_nested(&mut self) {
        self.flush_nested = true;
    }

    fn dump(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        dump::dump(|field| self.vmcs.read_now(field), f)
    }
}

impl Drop for Vmx {
    fn drop(&mut self) {
        running::forget();
        // The VMCS, which names the page, is cleared after this, but never entered again.
        let Frame { address, hpa, size } = self.virtual_apic;
        self.platform.free_frame(Frame { address, hpa, size });
    }
}

/// All bits from 47 up are the same.
const fn is_canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}
