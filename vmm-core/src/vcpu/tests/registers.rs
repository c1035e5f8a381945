//! Control and model-specific registers.

use super::{APIC_BASE, machine, next_event, write_msr};
use crate::backend::exit::Exit;
use crate::backend::speculation::{
    Barrier, MSR_ARCH_CAPABILITIES, MSR_FLUSH_CMD, MSR_PRED_CMD, MSR_SPEC_CTRL,
};
use crate::fuzzing::{Hardware, Machine};
use crate::test_platform::TestPlatform;
use emulator::event::Event;
use emulator::registers::{Fault, Gpr};
use raw_cpuid::CpuIdResult;

const EFER: u32 = 0xc000_0080;

#[test]
fn efer_takes_nothing_that_the_processor_refuses_at_entry() {
    // Reserved bits, SVME, LMSLE, TCE.
    for value in [1 << 1, 1 << 7, 1 << 9, 1 << 12, 1 << 13, 1 << 15, 1 << 16, 1 << 63] {
        let mut machine = machine();
        write_msr(&mut machine, EFER, value);
        assert_eq!(next_event(&mut machine), Some(Event::Fault(Fault::PROTECTION)), "{value:#x}");
        assert_eq!(u64::from(machine.vcpu.registers_mut().0.efer), 0);
    }
    let mut machine = machine();
    write_msr(&mut machine, EFER, 0x4901);
    assert_eq!(next_event(&mut machine), None);
    assert_eq!(u64::from(machine.vcpu.registers_mut().0.efer), 0x4901, "FFXSR, NX, LME, SYSCALL");
}

#[test]
fn performance_counters_that_no_cpuid_bit_tells_of_take_writes_and_absent_registers_fault() {
    let mut machine = machine();
    for index in [0x186, 0xc1] {
        write_msr(&mut machine, index, 0);
        assert_eq!(next_event(&mut machine), None, "{index:#x}");
    }
    // AMD's, those of machine-check banks that MCG_CAP does not name, and one of nobody's.
    for index in [0xc001_0000, 0xc001_0015, 0x413, 0x400, 0x188] {
        write_msr(&mut machine, index, 0);
        assert_eq!(next_event(&mut machine), Some(Event::Fault(Fault::PROTECTION)), "{index:#x}");
        assert_eq!(machine.vcpu.read_msr(index), Err(Fault::PROTECTION));
    }
}

#[test]
fn registers_with_nothing_behind_them_keep_what_is_written_or_not_or_refuse_it() {
    const FEATURE_CONTROL: u32 = 0x3a;
    const MICROCODE_UPDATE: u32 = 0x79;
    const PERF_CTL: u32 = 0x199;
    const MISC_ENABLE: u32 = 0x1a0;
    let mut machine = machine();
    let fast_strings = machine.vcpu.read_msr(MISC_ENABLE).unwrap();
    assert_eq!(fast_strings & 1, 1);
    for value in [0x40_0001, 1 << 34] {
        assert_eq!(machine.vcpu.write_msr(MISC_ENABLE, value), Ok(()));
        assert_eq!(machine.vcpu.read_msr(MISC_ENABLE), Ok(value));
    }
    assert_eq!(machine.vcpu.write_msr(PERF_CTL, 0x1500), Ok(()));
    assert_eq!(machine.vcpu.read_msr(PERF_CTL), Ok(0));
    assert_eq!(machine.vcpu.read_msr(FEATURE_CONTROL), Ok(1), "locked");
    assert_eq!(machine.vcpu.write_msr(FEATURE_CONTROL, 5), Err(Fault::PROTECTION));
    assert_eq!(machine.vcpu.write_msr(MICROCODE_UPDATE, 0x1000), Ok(()));
    assert_eq!(machine.vcpu.read_msr(MICROCODE_UPDATE), Err(Fault::PROTECTION), "write-only");
    assert_eq!(machine.vcpu.read_msr(0x35), Ok(0x1_0001), "cores and threads");
}

#[test]
fn cr4_takes_what_cpuid_tells_of_and_the_mode_allows() {
    const WRITE: &[u8] = &[0x0f, 0x22, 0xe3]; // mov cr4, ebx
    const READ: &[u8] = &[0x0f, 0x20, 0xe3]; // mov ebx, cr4
    const PROTECTION: Option<Event> = Some(Event::Fault(Fault::PROTECTION));
    let write = |machine: &mut Machine, value| {
        machine.put_instruction(WRITE);
        machine.vcpu.registers_mut().1.set(Gpr::Rbx, value);
        machine.exit(Exit::WriteCr4);
        next_event(machine)
    };
    let mut machine = machine();
    // The high half does not count outside 64-bit code.
    assert_eq!(write(&mut machine, 1 << 40 | 0xa0), None);
    assert_eq!(machine.vcpu.backend.cr4.into_bits(), 0xa0);
    // LA57, VMXE, SMXE, CET, and bits that have no name; PCIDE outside long mode.
    for bit in [12, 13, 14, 15, 19, 23, 31, 17] {
        assert_eq!(write(&mut machine, 0xa0 | 1 << bit), PROTECTION, "bit {bit}");
        assert_eq!(machine.vcpu.backend.cr4.into_bits(), 0xa0);
    }
    machine.vcpu.backend.efer.set_long_mode_active(true);
    assert_eq!(write(&mut machine, 0x80), PROTECTION, "PAE in long mode");
    assert_eq!(write(&mut machine, 1 << 17 | 0x20), None);
    machine.put_instruction(READ);
    machine.exit(Exit::ReadCr4);
    assert_eq!(machine.vcpu.gprs.get(Gpr::Rbx), 1 << 17 | 0x20);
}

#[test]
fn paging_without_pae_is_refused_where_long_mode_is_enabled() {
    let mut machine = machine();
    machine.vcpu.backend.efer.set_long_mode_enable(true);
    for (instruction, value, cr0, event) in [
        // MOV CR0, EBX.
        (&[0x0f, 0x22, 0xc3], 0x8000_0011, 1, Some(Event::Fault(Fault::PROTECTION))),
        (&[0x0f, 0x22, 0xc3], 0x0001_0031, 0x1_0031, None),
        // LMSW BX runs by itself.
        (&[0x0f, 0x01, 0xf3], 9, 0x1_0031, None),
    ] {
        machine.put_instruction(instruction);
        machine.vcpu.registers_mut().1.set(Gpr::Rbx, value);
        machine.exit(Exit::WriteCr0);
        assert_eq!(next_event(&mut machine), event, "{value:#x}");
        assert_eq!(machine.vcpu.backend.cr0.into_bits(), cr0, "{value:#x}");
    }
}

#[test]
fn the_base_of_the_local_apic_is_a_physical_address() {
    let mut machine = machine();
    let bits = machine.vcpu.vm().cpuid.physical_address_bits();
    for (bit, event) in [(bits - 1, None), (bits, Some(Event::Fault(Fault::PROTECTION)))] {
        write_msr(&mut machine, APIC_BASE, 0xfee0_0900 | 1 << bit);
        assert_eq!(next_event(&mut machine), event, "bit {bit}");
    }
}

#[test]
fn steps_by_the_branch_are_not_offered() {
    let mut machine = machine();
    write_msr(&mut machine, 0x1d9, 3);
    assert_eq!(next_event(&mut machine), None);
    assert_eq!(machine.vcpu.read_msr(0x1d9), Ok(0));
}

/// SDM volume 3, 16.5: bit 10 of MCG_CAP tells of CMCI, which has an entry of the local vector
/// table and a register a bank; CPUID tells of machine checks alone.
#[test]
fn corrected_errors_interrupt_nobody_and_no_register_says_so() {
    const MCG_CAP: u32 = 0x179;
    const MCG_CTL: u32 = 0x17b;
    const MC0_CTL2: u32 = 0x280;
    const X2APIC_VERSION: u32 = 0x803;
    const X2APIC_CMCI: u32 = 0x82f;
    let mut machine = machine();
    assert_eq!(machine.vcpu.read_msr(MCG_CAP), Ok(0), "no banks, no MCG_CTL, no CMCI");
    let base = machine.vcpu.read_msr(APIC_BASE).unwrap();
    write_msr(&mut machine, APIC_BASE, base | 1 << 10);
    assert_eq!(next_event(&mut machine), None, "x2APIC mode");
    let version = machine.vcpu.read_msr(X2APIC_VERSION).unwrap();
    assert_eq!(version >> 16 & 0xff, 5, "six entries, of which CMCI would be the seventh");
    for index in [MCG_CTL, MC0_CTL2, X2APIC_CMCI] {
        assert_eq!(machine.vcpu.read_msr(index), Err(Fault::PROTECTION), "{index:#x}");
        write_msr(&mut machine, index, 0);
        assert_eq!(next_event(&mut machine), Some(Event::Fault(Fault::PROTECTION)), "{index:#x}");
    }
}

/// The guest of these tests has the means of a processor with all of Intel's.
#[test]
fn registers_against_speculation_take_the_bits_that_cpuid_shows() {
    let mut machine = machine();
    assert_eq!(machine.vcpu.read_msr(MSR_SPEC_CTRL), Ok(0));
    for (value, outcome) in
        [(7, Ok(())), (0x80, Err(Fault::PROTECTION)), (1 << 10, Err(Fault::PROTECTION))]
    {
        assert_eq!(machine.vcpu.write_msr(MSR_SPEC_CTRL, value), outcome, "{value:#x}");
        assert_eq!(machine.vcpu.read_msr(MSR_SPEC_CTRL), Ok(7));
    }
    let capabilities = machine.vcpu.read_msr(MSR_ARCH_CAPABILITIES).unwrap();
    assert_eq!(capabilities & 0xfff, 0x17f, "without TSX_CTRL, and what asks for registers");
    assert_eq!(machine.vcpu.write_msr(MSR_ARCH_CAPABILITIES, capabilities), Err(Fault::PROTECTION));
    for (msr, barrier) in
        [(MSR_PRED_CMD, Barrier::BranchPredictors), (MSR_FLUSH_CMD, Barrier::L1Data)]
    {
        assert_eq!(machine.vcpu.read_msr(msr), Err(Fault::PROTECTION), "write-only");
        assert_eq!(machine.vcpu.write_msr(msr, 2), Err(Fault::PROTECTION));
        assert_eq!(machine.vcpu.write_msr(msr, 0), Ok(()));
        assert_ne!(machine.vcpu.registers_mut().0.barrier, Some(barrier));
        assert_eq!(machine.vcpu.write_msr(msr, 1), Ok(()));
        assert_eq!(machine.vcpu.registers_mut().0.barrier, Some(barrier));
    }
}

#[test]
fn a_guest_without_means_against_speculation_has_no_registers_for_them() {
    let nothing = |leaf, _| match leaf {
        0 => CpuIdResult { eax: 0xd, ebx: 0, ecx: 0, edx: 0 },
        _ => CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 },
    };
    let hardware = Hardware { cpuid: nothing, ..Hardware::default() };
    let mut machine = Machine::with(TestPlatform::leak(), hardware).unwrap();
    for msr in [MSR_SPEC_CTRL, MSR_PRED_CMD, MSR_FLUSH_CMD, MSR_ARCH_CAPABILITIES] {
        assert_eq!(machine.vcpu.read_msr(msr), Err(Fault::PROTECTION), "{msr:#x}");
        assert_eq!(machine.vcpu.write_msr(msr, 0), Err(Fault::PROTECTION), "{msr:#x}");
    }
}
