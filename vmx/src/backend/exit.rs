//! Exits that concern VT-x alone.

use super::{TWO_TO_32, Vmx};
use crate::control_bits::PrimaryControls;
use crate::control_registers::SharedRegister;
use crate::decode::{decode, task_switch};
use crate::events;
use crate::field::Field;
use crate::spec::{
    CrQualification, EptQualification, Interruption, cr_access, interruption, reason,
};
use emulator::breakpoints;
use emulator::control_registers::Mode;
use emulator::event::Event;
use emulator::registers::{Dr6, Exception, Gprs, SegmentName};
use emulator::task_switch::{Source, TaskSwitch};
use vmm_core::backend::exit::Exit;
use vmm_core::backend::{Backend, SystemRegister};

impl Vmx {
    /// Notes the event that was being delivered at the exit, and, if the instruction at RIP runs
    /// again, how NMIs stand.
    #[inline]
    fn note_interrupted(&mut self, runs_again: Option<EptQualification>) {
        let vectoring = Interruption::from(self.vmcs.read(Field::VectoringInfo) as u32);
        if vectoring.valid() {
            self.note_event(vectoring);
        } else if runs_again.is_some_and(|qualification| qualification.nmi_unblocked_by_iret()) {
            self.block_nmis_again();
        }
    }

    #[cold]
    fn note_event(&mut self, vectoring: Interruption) {
        let error_code = self.vmcs.read(Field::VectoringErrorCode) as u32;
        self.interrupted = events::interrupted(vectoring, error_code);
    }

    /// An IRET unblocked NMIs and then could not finish (28.2.3): it will run again, still in the
    /// NMI's handler. One that raised an exception does not, and NMIs stay unblocked.
    #[cold]
    fn block_nmis_again(&mut self) {
        self.set_interruptibility(self.interruptibility().with_by_nmi(true));
    }

    /// The part of an exit that the shared code need not know.
    #[inline]
    pub(super) fn after_exit(&mut self, basic: u16, gprs: &mut Gprs) -> Exit {
        let exit = decode(basic, &self.vmcs);
        match exit {
            // Memory, a full log and exceptions may come while the processor delivers an event to
            // the guest. The qualification of an APIC access says nothing about NMIs.
            Exit::Memory(_) if basic == reason::APIC_ACCESS => self.note_interrupted(None),
            Exit::Memory(_) | Exit::WriteLogFull => {
                self.note_interrupted(Some(self.vmcs.read(Field::ExitQualification).into()));
            }
            Exit::Exception(exception) => {
                self.note_interrupted(None);
                if exception == Exception::Debug {
                    self.debug_exception();
                }
            }
            Exit::Fault { exception, .. } => self.note_fault(exception),
            Exit::HostNmi => {
                self.note_interrupted(None);
                // SAFETY: runs the handler of the NMI that ended the guest's run; its IRET unblocks
                // NMIs again.
                unsafe { core::arch::asm!("int 2") };
            }
            // The host's interrupts are about to be handled.
            Exit::ExternalInterrupt => {
                self.restart_timer();
                self.handle_acknowledged(basic);
            }
            Exit::NmiWindow => self.set_primary(PrimaryControls::NMI_WINDOW, false),
            Exit::Unknown(_) => return self.own_exit(basic, gprs),
            _ => {}
        }
        exit
    }

    /// An exception of a step. That of a page exited before it changed CR2: its address is in the
    /// exit qualification.
    #[cold]
    fn note_fault(&mut self, exception: Exception) {
        self.note_interrupted(None);
        if exception == Exception::PageFault {
            let address = self.vmcs.read(Field::ExitQualification);
            self.set_system_register(SystemRegister::Cr2, address);
        }
    }

    /// The interrupt that ended the guest's run is not pending any more if the processor has
    /// acknowledged it.
    fn handle_acknowledged(&self, basic: u16) {
        if basic == reason::EXTERNAL_INTERRUPT && self.features.controls.has_posted_interrupts() {
            let info = Interruption::from(self.vmcs.read(Field::ExitInterruption) as u32);
            self.platform.handle_interrupt(info.vector());
        }
    }

    /// An exit that is answered here, or by nobody.
    #[cold]
    fn own_exit(&mut self, basic: u16, gprs: &mut Gprs) -> Exit {
        match basic {
            reason::CONTROL_REGISTER => self.control_register(gprs),
            reason::TASK_SWITCH => self.task_switch(),
            reason::MOV_DR => self.release_debug_registers(),
            _ => Exit::Unknown(basic.into()),
        }
    }

    /// A hardware task switch: in VMX operation they all exit before they begin (26.4.2). An event
    /// that caused it by a task gate in the IDT is delivered by the switch itself.
    #[cold]
    fn task_switch(&mut self) -> Exit {
        self.note_interrupted(None);
        let event = self.interrupted.take();
        let task = task_switch(&self.vmcs, event);
        let resume_rip = self.wrap_rip(task.resume_rip);
        match (task.source, event) {
            (Source::Gate, Some(Event::Nmi)) => {
                self.set_interruptibility(self.interruptibility().with_by_nmi(true));
                self.set_primary(PrimaryControls::NMI_WINDOW, true);
            }
            (Source::Iret, _) => {
                self.set_interruptibility(self.interruptibility().with_by_nmi(false))
            }
            _ => {}
        }
        Exit::TaskSwitch(TaskSwitch { resume_rip, ..task })
    }

    /// The guest may enable breakpoints from now on: it has its debug registers to itself until
    /// none is enabled.
    #[cold]
    fn release_debug_registers(&mut self) -> Exit {
        self.has_debug_registers = true;
        self.set_primary(PrimaryControls::MOV_DR, false);
        Exit::ControlRegister
    }

    /// DR7, of which nothing need be known while the guest does not touch debug registers.
    #[cold]
    pub(super) fn used_breakpoint_control(&mut self) -> u64 {
        let control = self.vmcs.read(Field::GuestDr7);
        if control & breakpoints::ENABLES == 0 && self.features.controls.may_watch_debug_registers()
        {
            self.has_debug_registers = false;
            self.set_primary(PrimaryControls::MOV_DR, true);
        }
        control
    }

    /// A #DB exited before its delivery: what that would have done to DR6 is in the exit
    /// qualification (table 28-1).
    #[cold]
    fn debug_exception(&mut self) {
        let causes = Dr6::from(self.vmcs.read(Field::ExitQualification));
        let dr6 = Dr6::from(self.system_register(SystemRegister::Dr6));
        let dr6 = dr6
            .with_breakpoints(causes.breakpoints())
            .with_general_detect(dr6.general_detect() || causes.general_detect())
            .with_single_step(dr6.single_step() || causes.single_step());
        self.set_system_register(SystemRegister::Dr6, dr6.into());
        let info = Interruption::from(self.vmcs.read(Field::ExitInterruption) as u32);
        if info.kind() == interruption::PRIVILEGED_SOFTWARE_EXCEPTION {
            // INT1: RIP still points to it, although it is a trap.
            let length = self.vmcs.read(Field::ExitInstructionLength);
            self.complete_instruction(self.rip().wrapping_add(length));
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
            (cr_access::TO_CR, 0) if self.mode().takes_cr0(value) => {
                self.share(Field::Cr0Shadow, cr0, value)
            }
            (cr_access::TO_CR, 4) if self.mode().takes_cr4(value) => {
                self.share(Field::Cr4Shadow, cr4, value)
            }
            (cr_access::TO_CR, 8) if value < 16 => {
                self.apic_page.set_tpr((value as u8) << 4);
                Exit::AccessedCr8
            }
            (cr_access::TO_CR, 0 | 4 | 8) => Exit::Forbidden,
            (cr_access::FROM_CR, 8) => {
                gprs.0[usize::from(access.gpr())] = (self.apic_page.tpr() >> 4).into();
                Exit::AccessedCr8
            }
            _ => Exit::Unknown(reason::CONTROL_REGISTER.into()),
        }
    }

    fn mode(&self) -> Mode {
        Mode {
            cr0: self.cr0(),
            cr3: self.vmcs.read(Field::GuestCr3),
            cr4: self.cr4(),
            efer: self.efer(),
            is_64_bit_code: self.is_64_bit_code(),
            task: self.segment_attributes(SegmentName::Tr),
        }
    }

    /// Gives the guest the bits that it asked for in the shadow, so that the instruction can run
    /// without an exit.
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
}
