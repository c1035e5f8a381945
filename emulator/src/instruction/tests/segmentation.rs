//! Segment bases, limits and types; 16-bit addresses; canonical addresses.

use super::*;
use crate::registers::{Segment, SegmentAttributes};

const STACK_FAULT: Fault =
    Fault { exception: Exception::StackFault, error_code: Some(0), address: None };

#[test]
fn real_mode_adds_the_base_and_stops_at_the_limit() {
    let mut cpu = FakeCpu::real();
    *cpu.segment_mut(SegmentName::Ds) =
        Segment { selector: 0xffff, base: 0xf_fff0, limit: 0xffff, ..Segment::default() };
    cpu.set(Gpr::Rbx, 0x20);
    cpu.complete(&[0x89, 0x07]); // mov [bx], ax: 1_0010h, beyond the first MiB
    assert_eq!(cpu.accesses, [fake::Access::Write { offset: 0x10, size_bytes: 2, value: 0 }]);
    cpu.set(Gpr::Rbx, 0xffff);
    assert_eq!(cpu.run(&[0x8b, 0x07]), Outcome::Fault(Fault::PROTECTION));
    cpu.complete(&[0x8a, 0x07]);
    cpu.set(Gpr::Rbp, 0xffff);
    assert_eq!(cpu.run(&[0x8b, 0x46, 0x00]), Outcome::Fault(STACK_FAULT)); // mov ax, [bp]
}

#[test]
fn sixteen_bit_addresses_wrap_inside_the_segment() {
    let mut cpu = FakeCpu::real();
    cpu.put(0x0010, &[0xcd, 0xab]);
    cpu.set(Gpr::Rbx, 0xffff_fff0);
    cpu.set(Gpr::Rsi, 0x0010);
    cpu.complete(&[0x8b, 0x40, 0x10]); // mov ax, [bx + si + 10h]
    assert_eq!(cpu.reg(Gpr::Rax), 0xabcd);
    // A 32-bit address in 16-bit code does not wrap.
    assert_eq!(cpu.run(&[0x67, 0x8b, 0x03]), Outcome::Fault(Fault::PROTECTION));
}

#[test]
fn unreal_mode_reaches_all_memory() {
    let mut cpu = FakeCpu::real();
    cpu.segment_mut(SegmentName::Ds).limit = u32::MAX;
    cpu.set(Gpr::Rbx, MMIO_GPA);
    cpu.complete(&[0x67, 0x66, 0x8b, 0x03]); // mov eax, [ebx]
    assert_eq!(cpu.accesses, [fake::Access::Read { offset: 0, size_bytes: 4 }]);
}

#[test]
fn protected_mode_checks_type_presence_and_limit() {
    let mut cpu = FakeCpu::protected();
    cpu.set(Gpr::Rbx, 0x9000);
    let read = [0x8b, 0x03];
    let write = [0x89, 0x03];
    let data = cpu.segments[SegmentName::Ds as usize];
    let mut with = |attributes: SegmentAttributes, limit, instruction: &[u8]| {
        cpu.rip = 0x8000;
        *cpu.segment_mut(SegmentName::Ds) = Segment { attributes, limit, ..data };
        cpu.run(instruction)
    };
    let done = Outcome::Done { trap: false };
    let refused = Outcome::Fault(Fault::PROTECTION);
    let attributes = data.attributes;
    assert_eq!(with(attributes, 0x9003, &write), done);
    assert_eq!(with(attributes, 0x9002, &write), refused);
    assert_eq!(with(attributes.with_present(false), u32::MAX, &read), refused);
    let (read_only, execute_only, readable_code, expand_down) = (1, 9, 0xb, 7);
    assert_eq!(with(attributes.with_kind(read_only), u32::MAX, &read), done);
    assert_eq!(with(attributes.with_kind(read_only), u32::MAX, &write), refused);
    assert_eq!(with(attributes.with_kind(execute_only), u32::MAX, &read), refused);
    assert_eq!(with(attributes.with_kind(readable_code), u32::MAX, &read), done);
    assert_eq!(with(attributes.with_kind(readable_code), u32::MAX, &write), refused);
    assert_eq!(with(attributes.with_kind(expand_down), 0x8fff, &write), done);
    assert_eq!(with(attributes.with_kind(expand_down), 0x9000, &write), refused);
}

#[test]
fn segment_overrides_and_fs_bases_are_followed() {
    let mut cpu = FakeCpu::long();
    cpu.segment_mut(SegmentName::Gs).base = MMIO_GPA;
    cpu.segment_mut(SegmentName::Ds).base = 0x123;
    cpu.put(0x9000, &[0x55]);
    cpu.complete(&[0x65, 0x8a, 0x04, 0x25, 0x30, 0, 0, 0]); // mov al, gs:[30h]
    assert_eq!(cpu.accesses, [fake::Access::Read { offset: 0x30, size_bytes: 1 }]);
    // In 64-bit mode DS has no base.
    cpu.set(Gpr::Rbx, 0x9000);
    cpu.complete(&[0x3e, 0x8a, 0x03]);
    assert_eq!(cpu.reg(Gpr::Rax), 0x55);
}

#[test]
fn addresses_that_are_not_canonical_are_refused() {
    let mut cpu = FakeCpu::long();
    cpu.set(Gpr::Rbx, 0x0000_7fff_ffff_fffe);
    cpu.set(Gpr::Rbp, 0x8000_0000_0000_0000);
    assert_eq!(cpu.run(&[0x8b, 0x03]), Outcome::Fault(Fault::PROTECTION));
    assert_eq!(cpu.run(&[0x8b, 0x45, 0x00]), Outcome::Fault(STACK_FAULT));
}

#[test]
fn offsets_as_immediates_have_the_address_size() {
    let mut cpu = FakeCpu::long();
    let mut moffs = vec![0xa0];
    moffs.extend((MMIO_GPA + 5).to_le_bytes());
    cpu.complete(&moffs);
    assert_eq!(cpu.accesses, [fake::Access::Read { offset: 5, size_bytes: 1 }]);
    cpu.accesses.clear();
    cpu.complete(&[0x67, 0xa3, 0x07, 0x00, 0x10, 0x00]); // mov [dword 100007h], eax
    assert_eq!(cpu.accesses, [fake::Access::Write { offset: 7, size_bytes: 4, value: 0 }]);

    let mut cpu = FakeCpu::real();
    cpu.put(0x1234, &[0x99]);
    cpu.complete(&[0xa0, 0x34, 0x12]);
    assert_eq!(cpu.reg(Gpr::Rax), 0x99);
}

#[test]
fn stack_instructions_follow_the_stack_segment_and_jumps_the_code_segment() {
    let mut cpu = FakeCpu::real();
    cpu.put(0x9000, &[0x34, 0x12]);
    cpu.set(Gpr::Rbx, 0x9000);
    cpu.set(Gpr::Rsp, 0x5555_0000);
    cpu.complete(&[0xff, 0x37]); // push word [bx]: SP wraps
    assert_eq!(cpu.reg(Gpr::Rsp), 0x5555_fffe);
    assert_eq!(cpu.get(0xfffe, 2), [0x34, 0x12]);
    assert_eq!(cpu.run(&[0xff, 0x17]), Outcome::Done { trap: false }); // call [bx]
    assert_eq!(cpu.rip, 0x1234);
    assert_eq!(cpu.get(0xfffc, 2), [0x04, 0x80]);
    cpu.segment_mut(SegmentName::Cs).limit = 0x1233;
    assert_eq!(cpu.run(&[0xff, 0x27]), Outcome::Fault(Fault::PROTECTION)); // jmp [bx]
}
