//! Single steps. AMD-V has no monitor trap flag: RFLAGS.TF makes the processor stop, by #DB, behind
//! the instruction, and is hidden from the guest. An event takes TF away as it is delivered, so
//! that it cannot stop behind that: a pending interrupt of the host's does.

use super::Svm;
use crate::spec::{EVENT_SOFTWARE, EventField, exit_code};
use emulator::registers::{Dr6, Exception, Gpr, Gprs, Rflags};
use vmm_core::backend::Backend;
use vmm_core::backend::exit::INTERCEPTED_EXCEPTIONS;

/// RFLAGS.TF, in SFMASK and in R11 too.
const TRAP_FLAG: u64 = 1 << 8;
/// The causes of which a #DB of the guest's own has at least one.
const CAUSES: u64 =
    Dr6::new().with_breakpoints(0xf).with_general_detect(true).with_task_switch(true).into_bits();
const SINGLE_STEP: u64 = Dr6::new().with_single_step(true).into_bits();
/// All but NMI, which is no exception.
const ALL_EXCEPTIONS: u32 = !(1 << 2);
const DEBUG_EXCEPTION: u64 = exit_code::EXCEPTION_FIRST + Exception::Debug as u64;
const PAGE_FAULT: u64 = exit_code::EXCEPTION_FIRST + Exception::PageFault as u64;

/// How an instruction uses TF, which a step sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Plain,
    /// POPF, IRET: loads it.
    LoadsFlags,
    /// SYSCALL: saves it in R11, and masks it before the processor looks.
    Syscall,
    /// SYSRET: loads it from R11 before the processor looks.
    Sysret,
    /// INT n, INT3, INTO: saves it on the stack and clears it.
    SoftwareInterrupt { vector: u8, length_bytes: u64 },
    /// INT1: ends by a #DB that is the guest's.
    IceBreakpoint,
    /// MOV to a debug register: DR6 may be what it wrote.
    WritesDebugRegister,
}

impl Kind {
    fn of(instruction: &[u8], is_64_bit: bool, flags: Rflags) -> Self {
        let is_prefix = |byte: u8| {
            matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3)
                || is_64_bit && byte & 0xf0 == 0x40
        };
        let prefixes = instruction.iter().take_while(|&&byte| is_prefix(byte)).count();
        let software = |vector, opcode_bytes: usize| Self::SoftwareInterrupt {
            vector,
            length_bytes: (prefixes + opcode_bytes) as u64,
        };
        match instruction[prefixes..] {
            [0x9d | 0xcf, ..] => Self::LoadsFlags,
            [0x0f, 0x05, ..] => Self::Syscall,
            [0x0f, 0x07, ..] => Self::Sysret,
            [0xcd, vector, ..] if may_push_flags(flags) => software(vector, 2),
            [0xcc, ..] => software(Exception::Breakpoint as u8, 1),
            [0xce, ..] if !is_64_bit && flags.overflow() => software(Exception::Overflow as u8, 1),
            [0xf1, ..] => Self::IceBreakpoint,
            [0x0f, 0x23, ..] => Self::WritesDebugRegister,
            _ => Self::Plain,
        }
    }
}

/// An entry that is a step, with the changes to take back after it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// An event is delivered.
    IntoHandler,
    /// INT n at this address is.
    SoftwareInterrupt { rip: u64 },
    /// An instruction runs.
    TrapFlag(Saved),
}

/// The guest's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saved {
    kind: Kind,
    rip: u64,
    trap: bool,
    r11: u64,
    dr6: u64,
    sfmask: u64,
}

impl Svm {
    /// See [`Backend::begin_step`].
    pub(super) fn prepare_step(&mut self, gprs: &mut Gprs, instruction: &[u8]) {
        let step = match Kind::of(instruction, self.code_bits() == 64, self.rflags()) {
            _ if self.vmcb().control.event_injection.valid() => Step::IntoHandler,
            Kind::SoftwareInterrupt { vector, length_bytes } => {
                self.inject_software(vector, length_bytes)
            }
            kind => self.set_trap_flag(gprs, kind),
        };
        if !matches!(step, Step::TrapFlag(_)) {
            // It ends the run when the event is delivered.
            self.platform.interrupt_self();
        }
        self.step = Some(step);
    }

    /// Takes back what [`Svm::prepare_step`] did, and makes the exit one of a step that is done if
    /// it is.
    #[cold]
    pub(super) fn end_step(&mut self, gprs: &mut Gprs) {
        let Some(step) = self.step.take() else { return };
        let control = &self.vmcb().control;
        let (exit_code, interrupted) = (control.exit_code, control.exit_interrupt_info);
        let is_done = match step {
            Step::TrapFlag(saved) => self.clear_trap_flag(gprs, saved),
            Step::SoftwareInterrupt { rip } => {
                self.vmcb_mut().control.intercept_exceptions = INTERCEPTED_EXCEPTIONS;
                self.note_fault_address();
                if interrupted.valid() && interrupted.kind() == EVENT_SOFTWARE {
                    // It runs again from the instruction, or faults there.
                    self.set_rip(rip);
                }
                exit_code == exit_code::INTR && !interrupted.valid()
            }
            Step::IntoHandler => exit_code == exit_code::INTR && !interrupted.valid(),
        };
        if is_done {
            self.vmcb_mut().control.exit_code = exit_code::STEPPED;
        }
    }

    /// INT n is injected. It returns to the next instruction's address: a processor takes that from
    /// the field of its own if it has one (APM volume 2, 15.20), QEMU and Bochs from RIP. A fault
    /// meanwhile exits, since it returns to INT n.
    fn inject_software(&mut self, vector: u8, length_bytes: u64) -> Step {
        let rip = self.rip();
        let next_rip = rip.wrapping_add(length_bytes);
        let vmcb = self.vmcb_mut();
        vmcb.control.event_injection =
            EventField::new().with_valid(true).with_kind(EVENT_SOFTWARE).with_vector(vector);
        vmcb.control.intercept_exceptions = ALL_EXCEPTIONS;
        (vmcb.control.next_rip, vmcb.save.rip) = (next_rip, next_rip);
        Step::SoftwareInterrupt { rip }
    }

    /// A page fault that exits has its address in the VMCB.
    fn note_fault_address(&mut self) {
        let vmcb = self.vmcb_mut();
        if vmcb.control.exit_code == PAGE_FAULT {
            vmcb.save.cr2 = vmcb.control.exit_info_2;
        }
    }

    fn set_trap_flag(&mut self, gprs: &mut Gprs, kind: Kind) -> Step {
        let flags = self.rflags();
        let vmcb = self.vmcb_mut();
        let saved = Saved {
            kind,
            rip: vmcb.save.rip,
            trap: flags.trap(),
            r11: gprs.get(Gpr::R11),
            dr6: vmcb.save.dr6,
            sfmask: vmcb.save.sfmask,
        };
        vmcb.save.rflags |= TRAP_FLAG;
        vmcb.control.intercept_exceptions = ALL_EXCEPTIONS;
        vmcb.control.intercept_1.set_pushf(may_push_flags(flags));
        match kind {
            Kind::Syscall => vmcb.save.sfmask &= !TRAP_FLAG,
            Kind::Sysret => gprs.set(Gpr::R11, saved.r11 | TRAP_FLAG),
            _ => {}
        }
        Step::TrapFlag(saved)
    }

    /// True if the instruction is done, and nothing of the guest's own is left to do about it.
    fn clear_trap_flag(&mut self, gprs: &mut Gprs, saved: Saved) -> bool {
        let vmcb = self.vmcb_mut();
        vmcb.control.intercept_exceptions = INTERCEPTED_EXCEPTIONS;
        vmcb.control.intercept_1.set_pushf(false);
        // A breakpoint on the instruction is a fault.
        let is_trap = vmcb.control.exit_code == DEBUG_EXCEPTION;
        let is_done = is_trap && vmcb.save.rip != saved.rip;
        let trap = match saved.kind {
            Kind::LoadsFlags if is_done => vmcb.save.rflags & TRAP_FLAG != 0,
            Kind::Syscall if is_done => saved.trap && saved.sfmask & TRAP_FLAG == 0,
            Kind::Sysret if is_done => saved.r11 & TRAP_FLAG != 0,
            _ => saved.trap,
        };
        vmcb.save.rflags = Rflags::from(vmcb.save.rflags).with_trap(trap).into();
        let is_stepped = is_done || is_trap && vmcb.save.dr6 & SINGLE_STEP != 0;
        match saved.kind {
            Kind::Syscall => {
                vmcb.save.sfmask = saved.sfmask;
                if is_done && !saved.trap {
                    gprs.set(Gpr::R11, gprs.get(Gpr::R11) & !TRAP_FLAG);
                }
            }
            Kind::Sysret => gprs.set(Gpr::R11, saved.r11),
            _ => {}
        }
        self.note_fault_address();
        if is_stepped {
            self.pass_iret(saved.rip);
        }
        is_trap && self.is_trap_of_the_step(saved)
    }

    /// #DB: by the step alone, or by something of the guest's own too, whose single step also ends
    /// now.
    fn is_trap_of_the_step(&mut self, saved: Saved) -> bool {
        let Saved { kind, trap, dr6, .. } = saved;
        let save = &mut self.vmcb_mut().save;
        let is_guests = save.dr6 & !dr6 & CAUSES != 0 || trap || kind == Kind::IceBreakpoint;
        if is_guests {
            if !trap {
                save.dr6 = save.dr6 & !SINGLE_STEP | dr6 & SINGLE_STEP;
            }
            return false;
        }
        save.dr6 = match kind {
            Kind::WritesDebugRegister => save.dr6 & !SINGLE_STEP,
            _ => dr6,
        };
        true
    }
}

/// In virtual-8086 mode INT n and PUSHF are the monitor's below I/O privilege level 3.
const fn may_push_flags(flags: Rflags) -> bool {
    !flags.virtual_8086() || flags.iopl() == 3
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cpu, vcpu};
    use super::*;
    use vmm_core::test_platform::TestPlatform;

    #[test]
    fn what_has_to_do_with_tf_is_told_from_the_rest() {
        let flags = Rflags::new();
        let kind = |bytes: &[u8]| Kind::of(bytes, true, flags);
        let software = |vector, length_bytes| Kind::SoftwareInterrupt { vector, length_bytes };
        assert_eq!(kind(&[0x48, 0x0f, 0x07]), Kind::Sysret);
        assert_eq!(kind(&[0x0f, 0x05]), Kind::Syscall);
        assert_eq!(kind(&[0x48, 0xcf]), Kind::LoadsFlags);
        assert_eq!(kind(&[0x66, 0x9d]), Kind::LoadsFlags);
        assert_eq!(kind(&[0xcd, 0x80]), software(0x80, 2));
        assert_eq!(kind(&[0xf3, 0xcc]), software(3, 2));
        assert_eq!(kind(&[0x0f, 0x23, 0xf0]), Kind::WritesDebugRegister);
        for plain in [&[][..], &[0x0f], &[0x9c], &[0x48], &[0xcd], &[0xce], &[0x0f, 0xa2]] {
            assert_eq!(kind(plain), Kind::Plain, "{plain:x?}");
        }
    }

    /// INT n that is injected, and the exit that ends the entry, with what is left of the event.
    fn end_of_int_n(exit_code: u64, left: EventField) -> Svm {
        let platform = TestPlatform::leak();
        let mut vcpu = vcpu(&cpu(platform), platform);
        let mut gprs = Gprs::default();
        vcpu.init(&mut gprs);
        vcpu.set_rip(0x1000);
        vcpu.begin_step(&mut gprs, &[0xcd, 0x80]);
        assert_eq!(vcpu.rip(), 0x1002, "what it returns to");
        let control = &mut vcpu.vmcb_mut().control;
        assert_eq!((control.next_rip, control.intercept_exceptions), (0x1002, ALL_EXCEPTIONS));
        (control.exit_code, control.exit_interrupt_info, control.exit_info_2) =
            (exit_code, left, 0x5000);
        vcpu.end_step(&mut gprs);
        assert_eq!(vcpu.vmcb().control.intercept_exceptions, INTERCEPTED_EXCEPTIONS);
        vcpu
    }

    #[test]
    fn an_int_n_that_was_not_delivered_stands_before_itself_again() {
        let undelivered =
            EventField::new().with_valid(true).with_kind(EVENT_SOFTWARE).with_vector(0x80);
        for exit_code in [PAGE_FAULT, exit_code::NESTED_PAGE_FAULT] {
            let vcpu = end_of_int_n(exit_code, undelivered);
            assert_eq!((vcpu.rip(), vcpu.vmcb().control.exit_code), (0x1000, exit_code));
            let faults = exit_code == PAGE_FAULT;
            assert_eq!(vcpu.vmcb().save.cr2, if faults { 0x5000 } else { 0 });
        }
        let vcpu = end_of_int_n(exit_code::INTR, EventField::new());
        assert_eq!((vcpu.rip(), vcpu.vmcb().control.exit_code), (0x1002, exit_code::STEPPED));
    }

    #[test]
    fn into_interrupts_after_an_overflow_and_int_n_not_in_the_monitors_place() {
        let kind = |bytes: &[u8], flags| Kind::of(bytes, false, flags);
        assert_eq!(kind(&[0xce], Rflags::new()), Kind::Plain);
        let overflow = Kind::SoftwareInterrupt { vector: 4, length_bytes: 1 };
        assert_eq!(kind(&[0xce], Rflags::new().with_overflow(true)), overflow);
        let v86 = Rflags::new().with_virtual_8086(true);
        assert_eq!(kind(&[0xcd, 0x21], v86), Kind::Plain);
        assert_ne!(kind(&[0xcd, 0x21], v86.with_iopl(3)), Kind::Plain);
        assert_ne!(kind(&[0xcc], v86), Kind::Plain);
        assert_eq!(kind(&[0x40, 0x0f, 0x05], v86), Kind::Plain, "INC, not REX");
    }
}
