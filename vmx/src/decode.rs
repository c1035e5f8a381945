//! From the exit fields of a VMCS to an [`Exit`].

use crate::events;
use crate::field::Field;
use crate::spec::{
    ApicAccessQualification, DescriptorInstruction, EptQualification, Interruption,
    PortQualification, TaskSwitchQualification, apic_access, interruption, reason, task_source,
};
use crate::vmcs::Fields;
use devices::local_apic::spec::DEFAULT_BASE;
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::registers::Exception;
use emulator::task_switch::{Source, TaskSwitch};
use vmm_core::backend::exit::{
    DescriptorAccess, DescriptorRegister, Direction, Exit, INTERCEPTED_EXCEPTIONS, PortAccess,
};

const APIC_PAGE_BYTES: u16 = 4096;

/// Decodes an exit with basic reason `basic`. Those that are answered in this backend are unknown
/// here.
#[inline]
pub fn decode(basic: u16, fields: &impl Fields) -> Exit {
    match basic {
        reason::PORT => port(fields),
        reason::EPT_VIOLATION => memory(fields),
        reason::EPT_MISCONFIGURATION => {
            Exit::TableMisconfigured { gpa: fields.get(Field::GuestPhysicalAddress) }
        }
        reason::APIC_ACCESS => apic(fields),
        reason::APIC_WRITE => Exit::ApicWrite {
            offset: fields.get(Field::ExitQualification) as u16 % APIC_PAGE_BYTES,
        },
        reason::VIRTUAL_EOI => {
            Exit::EndOfInterrupt { vector: fields.get(Field::ExitQualification) as u8 }
        }
        reason::PAGE_LOG_FULL => Exit::WriteLogFull,
        reason::CPUID => Exit::Cpuid,
        reason::RDMSR => Exit::ReadMsr,
        reason::WRMSR => Exit::WriteMsr,
        reason::HLT => Exit::Halt,
        reason::PAUSE => Exit::Pause,
        reason::EXTERNAL_INTERRUPT | reason::INIT | reason::PREEMPTION_TIMER => {
            Exit::ExternalInterrupt
        }
        reason::INTERRUPT_WINDOW | reason::TPR_BELOW_THRESHOLD => Exit::InterruptWindow,
        reason::NMI_WINDOW => Exit::NmiWindow,
        reason::EXCEPTION_OR_NMI => exception(fields),
        reason::VMCALL => Exit::Hypercall,
        reason::XSETBV => Exit::Xsetbv,
        reason::INVD | reason::WBINVD => Exit::CacheInvalidate,
        reason::GDTR_IDTR => {
            descriptor(fields, [DescriptorRegister::Gdtr, DescriptorRegister::Idtr])
        }
        reason::LDTR_TR => descriptor(fields, [DescriptorRegister::Ldtr, DescriptorRegister::Tr]),
        reason::MONITOR_TRAP => Exit::Stepped,
        reason::TRIPLE_FAULT => Exit::TripleFault,
        // Instructions that the guest's CPUID denies.
        reason::GETSEC
        | reason::VMCLEAR..=reason::VMXON
        | reason::MWAIT
        | reason::MONITOR
        | reason::INVEPT
        | reason::INVVPID
        | reason::VMFUNC => Exit::Undefined,
        // There are no performance counters.
        reason::RDPMC => Exit::Forbidden,
        other => Exit::Unknown(other.into()),
    }
}

fn port(fields: &impl Fields) -> Exit {
    let info = PortQualification::from(fields.get(Field::ExitQualification));
    Exit::Port(PortAccess {
        port: info.port(),
        size_bytes: info.size_less_one() + 1,
        direction: if info.input() { Direction::In } else { Direction::Out },
        string: info.string(),
    })
}

fn descriptor(fields: &impl Fields, registers: [DescriptorRegister; 2]) -> Exit {
    let info = DescriptorInstruction::from(fields.get(Field::ExitInstructionInfo) as u32);
    let register = registers[usize::from(info.second_register())];
    Exit::Descriptor(DescriptorAccess { register, load: info.load() })
}

fn memory(fields: &impl Fields) -> Exit {
    let info = EptQualification::from(fields.get(Field::ExitQualification));
    Exit::Memory(MemoryAccess {
        gpa: fields.get(Field::GuestPhysicalAddress),
        write: info.write(),
        execute: info.execute(),
        // Without a linear address the processor was loading page-directory pointers.
        page_walk: !(info.linear_valid() && info.final_access()),
    })
}

/// An access to the local APIC that the processor did not answer. The access page is shown at the
/// default address only.
fn apic(fields: &impl Fields) -> Exit {
    let info = ApicAccessQualification::from(fields.get(Field::ExitQualification));
    Exit::Memory(MemoryAccess {
        gpa: DEFAULT_BASE + u64::from(info.offset()),
        write: info.kind() == apic_access::WRITE,
        execute: info.kind() == apic_access::FETCH,
        page_walk: info.kind() >= apic_access::PHYSICAL,
    })
}

fn exception(fields: &impl Fields) -> Exit {
    let info = Interruption::from(fields.get(Field::ExitInterruption) as u32);
    if info.kind() == interruption::NMI {
        return Exit::HostNmi;
    }
    match Exception::from_vector(info.vector()) {
        None => Exit::Unknown(reason::EXCEPTION_OR_NMI.into()),
        Some(exception) if INTERCEPTED_EXCEPTIONS & 1 << exception as u8 != 0 => {
            Exit::Exception(exception)
        }
        Some(exception) => {
            let error_code = info.has_error_code();
            let error_code = error_code.then(|| fields.get(Field::ExitErrorCode) as u32);
            Exit::Fault { exception, error_code }
        }
    }
}

/// A hardware task switch, during the delivery of `event` perhaps. Where the old task goes on has
/// 64 bits here.
#[cold]
pub fn task_switch(fields: &impl Fields, event: Option<Event>) -> TaskSwitch {
    let info = TaskSwitchQualification::from(fields.get(Field::ExitQualification));
    let vectoring = Interruption::from(fields.get(Field::VectoringInfo) as u32);
    let source = match info.source() {
        task_source::CALL => Source::Call,
        task_source::IRET => Source::Iret,
        task_source::JUMP => Source::Jump,
        _ => Source::Gate,
    };
    // An interrupted task goes on where it was, one that used an instruction goes on behind it.
    let by_instruction = source != Source::Gate || event.is_none() && vectoring.valid();
    let length = if by_instruction { fields.get(Field::ExitInstructionLength) } else { 0 };
    let resume_rip = fields.get(Field::GuestRip).wrapping_add(length);
    TaskSwitch { selector: info.selector(), source, resume_rip, event }
}

/// An entry that failed for `basic`: a machine check came during it (27.9), of which nothing is
/// left but the host's state, so that what was to be injected still is. `None` if the processor
/// refuses the guest's state.
#[cold]
pub fn failed_entry(basic: u16, fields: &impl Fields) -> Option<(Exit, Option<Event>)> {
    if basic != reason::MACHINE_CHECK_AT_ENTRY {
        return None;
    }
    let field = Interruption::from(fields.get(Field::EntryInterruption) as u32);
    let event = events::interrupted(field, fields.get(Field::EntryErrorCode) as u32);
    Some((Exit::Exception(Exception::MachineCheck), event))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::spec::ExitReason;
    use emulator::registers::Fault;

    /// A VMCS in a table.
    #[derive(Clone)]
    pub struct Table([u64; Field::COUNT]);

    impl Table {
        pub const fn new() -> Self {
            Self([0; Field::COUNT])
        }

        pub const fn with(mut self, field: Field, value: u64) -> Self {
            self.0[field as usize] = value;
            self
        }
    }

    impl Fields for Table {
        fn get(&self, field: Field) -> u64 {
            self.0[field as usize]
        }
    }

    #[test]
    fn a_machine_check_at_an_entry_leaves_the_event_to_be_injected_again() {
        // SDM volume 3, table 26-1: bit 31 for a failed entry; appendix C: 41.
        let reason = ExitReason::from(0x8000_0029);
        assert!(reason.entry_failure());
        let page_fault =
            Fault { exception: Exception::PageFault, error_code: Some(2), address: None };
        let events = [Event::Interrupt(0x30), Event::Nmi, Event::Fault(page_fault)].map(Some);
        for event in events.into_iter().chain([None]) {
            let (field, error_code) = event.map_or_else(Default::default, events::injection);
            let table = Table::new()
                .with(Field::EntryInterruption, u32::from(field).into())
                .with(Field::EntryErrorCode, error_code.into());
            let found = failed_entry(reason.basic(), &table);
            assert_eq!(found, Some((Exit::Exception(Exception::MachineCheck), event)));
        }
        for refused in [33, 34] {
            assert_eq!(failed_entry(refused, &Table::new()), None);
        }
    }

    #[test]
    fn port_accesses() {
        // REP INSW from port 1F0h, and OUT DX, AL to port 3F8h.
        let insw = Table::new().with(Field::ExitQualification, 0x01f0_0039);
        let expected =
            PortAccess { port: 0x1f0, size_bytes: 2, direction: Direction::In, string: true };
        assert_eq!(decode(reason::PORT, &insw), Exit::Port(expected));
        let out = Table::new().with(Field::ExitQualification, 0x03f8_0000);
        let expected =
            PortAccess { port: 0x3f8, size_bytes: 1, direction: Direction::Out, string: false };
        assert_eq!(decode(reason::PORT, &out), Exit::Port(expected));
    }

    #[test]
    fn memory_accesses() {
        let access = |qualification| {
            let table = Table::new()
                .with(Field::GuestPhysicalAddress, 0xfee0_0300)
                .with(Field::ExitQualification, qualification);
            match decode(reason::EPT_VIOLATION, &table) {
                Exit::Memory(access) => {
                    (access.gpa, access.write, access.execute, access.page_walk)
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(access(0x182), (0xfee0_0300, true, false, false));
        assert_eq!(access(0x184), (0xfee0_0300, false, true, false));
        assert_eq!(access(0x081), (0xfee0_0300, false, false, true), "page table");
        assert_eq!(access(0x001), (0xfee0_0300, false, false, true), "page-directory pointers");
    }

    #[test]
    fn accesses_to_registers_of_descriptors() {
        use DescriptorRegister::{Gdtr, Idtr, Ldtr, Tr};
        // In the order of the instruction identity, in bits 29:28; what else is there is the
        // operand.
        let in_memory = [(Gdtr, false), (Idtr, false), (Gdtr, true), (Idtr, true)];
        let selectors = [(Ldtr, false), (Tr, false), (Ldtr, true), (Tr, true)];
        for (basic, accesses) in [(reason::GDTR_IDTR, in_memory), (reason::LDTR_TR, selectors)] {
            for (identity, (register, load)) in (0..).zip(accesses) {
                let info = 0xc7c7_8b82 | identity << 28;
                let table = Table::new().with(Field::ExitInstructionInfo, info);
                assert_eq!(
                    decode(basic, &table),
                    Exit::Descriptor(DescriptorAccess { register, load })
                );
            }
        }
    }

    #[test]
    fn a_misconfigured_table_is_named_with_its_address() {
        let table = Table::new().with(Field::GuestPhysicalAddress, 0x1234_5000);
        let expected = Exit::TableMisconfigured { gpa: 0x1234_5000 };
        assert_eq!(decode(reason::EPT_MISCONFIGURATION, &table), expected);
    }

    #[test]
    fn local_apic() {
        let decoded = |basic, qualification| {
            decode(basic, &Table::new().with(Field::ExitQualification, qualification))
        };
        let memory = |offset: u64, write, execute, page_walk| {
            Exit::Memory(MemoryAccess { gpa: 0xfee0_0000 + offset, write, execute, page_walk })
        };
        assert_eq!(decoded(reason::APIC_ACCESS, 0x0390), memory(0x390, false, false, false));
        assert_eq!(decoded(reason::APIC_ACCESS, 0x1310), memory(0x310, true, false, false));
        assert_eq!(decoded(reason::APIC_ACCESS, 0x2000), memory(0, false, true, false));
        assert_eq!(decoded(reason::APIC_ACCESS, 0xf010), memory(0x10, false, false, true));
        assert_eq!(decoded(reason::APIC_WRITE, 0x320), Exit::ApicWrite { offset: 0x320 });
        assert_eq!(decoded(reason::VIRTUAL_EOI, 0x59), Exit::EndOfInterrupt { vector: 0x59 });
    }

    /// Exits that the instruction at RIP is the reason for, so that its length is known (28.2.5).
    const fn has_instruction_length(basic: u16) -> bool {
        matches!(
            basic,
            reason::TASK_SWITCH..=reason::CONTROL_REGISTER
                | reason::PORT..=reason::WRMSR
                | reason::MWAIT
                | reason::MONITOR
                | reason::INVEPT
                | reason::INVVPID..=reason::XSETBV
                | reason::VMFUNC
        )
    }

    #[test]
    fn every_reason_is_answered_without_a_panic() {
        for basic in 0..=u16::MAX {
            let exit = decode(basic, &Table::new());
            let instruction = matches!(
                exit,
                Exit::Port(_)
                    | Exit::Cpuid
                    | Exit::ReadMsr
                    | Exit::WriteMsr
                    | Exit::Halt
                    | Exit::Hypercall
                    | Exit::Xsetbv
                    | Exit::CacheInvalidate
            );
            assert!(
                !instruction || has_instruction_length(basic),
                "{basic} moves on by its length"
            );
        }
    }
}
