//! From the VMCB's exit fields to an [`Exit`].

use crate::spec::{ControlArea, IoInfo, NestedFaultInfo, TaskSwitchInfo, exit_code};
use emulator::MemoryAccess;
use emulator::registers::Exception;
use emulator::task_switch::Source;
use vmm_core::backend::exit::{
    DescriptorAccess, DescriptorRegister, Direction, Exit, INTERCEPTED_EXCEPTIONS, PortAccess,
};

/// Decodes the exit that the control area reports. In line, so that what is done about an exit
/// follows at once.
#[inline(always)]
pub fn decode(control: &ControlArea) -> Exit {
    match control.exit_code {
        exit_code::IOIO => Exit::Port(port_access(control)),
        exit_code::NESTED_PAGE_FAULT => {
            let info = NestedFaultInfo::from(control.exit_info_1);
            Exit::Memory(MemoryAccess {
                gpa: control.exit_info_2,
                write: info.write(),
                execute: info.execute(),
                page_walk: info.page_walk(),
            })
        }
        exit_code::MSR if control.exit_info_1 == 0 => Exit::ReadMsr,
        exit_code::MSR => Exit::WriteMsr,
        exit_code::CPUID => Exit::Cpuid,
        exit_code::HLT => Exit::Halt,
        exit_code::PAUSE => Exit::Pause,
        exit_code::INTR | exit_code::INIT => Exit::ExternalInterrupt,
        exit_code::NMI => Exit::HostNmi,
        exit_code::SELECTIVE_CR0_WRITE => Exit::WriteCr0,
        exit_code::WRITE_CR4 => Exit::WriteCr4,
        exit_code::READ_CR4 => Exit::ReadCr4,
        exit_code::WRITE_CR8 => Exit::WriteCr8,
        exit_code::VINTR => Exit::InterruptWindow,
        exit_code::IRET => Exit::NmiWindow,
        exit_code::VMMCALL => Exit::Hypercall,
        exit_code::XSETBV => Exit::Xsetbv,
        exit_code::INVD | exit_code::WBINVD => Exit::CacheInvalidate,
        exit_code::PUSHF => Exit::PushFlags,
        exit_code::RDPMC => Exit::Forbidden,
        exit_code::VMRUN
        | exit_code::VMLOAD..=exit_code::SKINIT
        | exit_code::INVLPGA
        | exit_code::MONITOR..=exit_code::MWAIT_ARMED
        | exit_code::RDPRU => Exit::Undefined,
        code @ exit_code::IDTR_READ..=exit_code::TR_WRITE => {
            Exit::Descriptor(descriptor_access(code))
        }
        exit_code::TASK_SWITCH => task_switch(control),
        exit_code::STEPPED => Exit::Stepped,
        exit_code::SHUTDOWN => Exit::TripleFault,
        // It waits where it would raise #MF, were CR0.NE set.
        exit_code::FERR_FREEZE => Exit::Exception(Exception::X87),
        exit_code::INVALID | exit_code::INVALID_32 => Exit::EntryFailure,
        code @ exit_code::EXCEPTION_FIRST..=exit_code::EXCEPTION_LAST => {
            exception(control).unwrap_or(Exit::Unknown(code))
        }
        code => Exit::Unknown(code),
    }
}

fn descriptor_access(code: u64) -> DescriptorAccess {
    let register = match code {
        exit_code::IDTR_READ | exit_code::IDTR_WRITE => DescriptorRegister::Idtr,
        exit_code::GDTR_READ | exit_code::GDTR_WRITE => DescriptorRegister::Gdtr,
        exit_code::LDTR_READ | exit_code::LDTR_WRITE => DescriptorRegister::Ldtr,
        _ => DescriptorRegister::Tr,
    };
    DescriptorAccess { register, load: code >= exit_code::IDTR_WRITE }
}

/// A task switch that an event causes says so by nothing but the event.
#[cold]
fn task_switch(control: &ControlArea) -> Exit {
    let info = TaskSwitchInfo::from(control.exit_info_2);
    let source = match (info.iret(), info.jump()) {
        (true, _) => Source::Iret,
        (_, true) => Source::Jump,
        _ if control.exit_interrupt_info.valid() => Source::Gate,
        _ => Source::Call,
    };
    Exit::TaskSwitchAhead { selector: control.exit_info_1 as u16, source }
}

fn port_access(control: &ControlArea) -> PortAccess {
    let info = IoInfo::from(control.exit_info_1);
    PortAccess {
        port: info.port(),
        size_bytes: info.size_bits(),
        direction: if info.input() { Direction::In } else { Direction::Out },
        string: info.string(),
    }
}

/// An exception that exits always, or only in a step.
fn exception(control: &ControlArea) -> Option<Exit> {
    let exception = Exception::from_vector((control.exit_code - exit_code::EXCEPTION_FIRST) as u8)?;
    if INTERCEPTED_EXCEPTIONS & 1 << exception as u8 != 0 {
        return Some(Exit::Exception(exception));
    }
    let error_code = exception.has_error_code().then_some(control.exit_info_1 as u32);
    Some(Exit::Fault { exception, error_code })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{EVENT_INTERRUPT, EventField};
    use DescriptorRegister::{Gdtr, Idtr, Ldtr, Tr};

    #[test]
    fn a_freeze_by_an_x87_error_is_that_exception() {
        // SAFETY: the control area is plain data, of which zeroes are a value.
        let mut control: ControlArea = unsafe { core::mem::zeroed() };
        control.exit_code = exit_code::FERR_FREEZE;
        assert_eq!(decode(&control), Exit::Exception(Exception::X87));
    }

    #[test]
    fn what_switches_tasks_is_told_by_the_second_word_or_an_event() {
        let event = EventField::new().with_valid(true).with_kind(EVENT_INTERRUPT);
        for (info, event, source) in [
            (1 << 36, EventField::new(), Source::Iret),
            (1 << 38, EventField::new(), Source::Jump),
            (0, EventField::new(), Source::Call),
            (1 << 44 | 0x18, event, Source::Gate),
        ] {
            // SAFETY: the control area is plain data, of which zeroes are a value.
            let mut control: ControlArea = unsafe { core::mem::zeroed() };
            (control.exit_code, control.exit_info_1) = (exit_code::TASK_SWITCH, 0x28);
            (control.exit_info_2, control.exit_interrupt_info) = (info, event);
            assert_eq!(decode(&control), Exit::TaskSwitchAhead { selector: 0x28, source });
        }
    }

    #[test]
    fn accesses_to_registers_of_descriptors() {
        for (code, load) in [(exit_code::IDTR_READ, false), (exit_code::IDTR_WRITE, true)] {
            for (code, register) in (code..).zip([Idtr, Gdtr, Ldtr, Tr]) {
                assert_eq!(
                    descriptor_access(code),
                    DescriptorAccess { register, load },
                    "{code:#x}"
                );
            }
        }
    }
}
