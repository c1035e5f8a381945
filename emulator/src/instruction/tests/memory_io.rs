//! Device accesses: each made once, with the instruction's own size.

use super::*;
use crate::instruction::fake::Access;
use crate::registers::Rflags;

const READ: fn(u64, u8) -> Access = |offset, size_bytes| Access::Read { offset, size_bytes };
const WRITE: fn(u64, u8, u64) -> Access =
    |offset, size_bytes, value| Access::Write { offset, size_bytes, value };

/// A 64-bit CPU with RBX at the device, which holds 80h, 81h, 82h, ...
fn at_device() -> FakeCpu {
    let mut cpu = FakeCpu::long();
    for (byte, value) in cpu.device.iter_mut().zip((0x80..=0xff).cycle()) {
        *byte = value;
    }
    cpu.set(Gpr::Rbx, MMIO_GPA);
    cpu.set(Gpr::Rax, 0x1111_2222_3333_4444);
    cpu
}

#[test]
fn each_form_touches_the_device_as_the_instruction_says() {
    let cases: &[(&[u8], &[Access])] = &[
        (&[0x8b, 0x03], &[READ(0, 4)]),                      // mov eax, [rbx]
        (&[0x48, 0x8b, 0x43, 0x08], &[READ(8, 8)]),          // mov rax, [rbx + 8]
        (&[0x88, 0x63, 0x01], &[WRITE(1, 1, 0x44)]),         // mov [rbx + 1], ah
        (&[0x66, 0x89, 0x43, 0x02], &[WRITE(2, 2, 0x4444)]), // mov [rbx + 2], ax
        (&[0xc7, 0x03, 0xfe, 0xff, 0xff, 0xff], &[WRITE(0, 4, 0xffff_fffe)]), // mov dword [rbx], -2
        (&[0x0f, 0xb6, 0x43, 0x10], &[READ(0x10, 1)]),       // movzx eax, byte [rbx + 10h]
        // or dword [rbx], 10000h
        (&[0x81, 0x0b, 0, 0, 1, 0], &[READ(0, 4), WRITE(0, 4, 0x8383_8180)]),
        (&[0xf6, 0x03, 0x40], &[READ(0, 1)]), // test byte [rbx], 40h
        // lock bts dword [rbx], 0
        (&[0xf0, 0x0f, 0xba, 0x2b, 0x00], &[READ(0, 4), WRITE(0, 4, 0x8382_8181)]),
        (&[0x87, 0x03], &[READ(0, 4), WRITE(0, 4, 0x3333_4444)]), // xchg [rbx], eax
        (&[0x0f, 0x11, 0x03], &[WRITE(0, 8, 0), WRITE(8, 8, 0)]), // movups [rbx], xmm0
        (&[0x0f, 0x94, 0x03], &[WRITE(0, 1, 0)]),                 // setz [rbx]
        (&[0x0f, 0x44, 0x03], &[READ(0, 4)]),                     // cmovz eax, [rbx]
        (&[0xd7], &[READ(0x44, 1)]),                              // xlat
        (&[0xa5], &[]),                                           // movsd in RAM
    ];
    for (instruction, expected) in cases {
        let mut cpu = at_device();
        cpu.complete(instruction);
        assert_eq!(&cpu.accesses, expected, "{instruction:02x?}");
    }
}

#[test]
fn registers_take_what_the_device_gave() {
    let mut cpu = at_device();
    cpu.complete(&[0x8b, 0x03]);
    assert_eq!(cpu.reg(Gpr::Rax), 0x8382_8180);
    cpu.complete(&[0x66, 0x8b, 0x53, 0x02]);
    assert_eq!(cpu.reg(Gpr::Rdx), 0x8382);
    cpu.complete(&[0x8a, 0x63, 0x04]);
    assert_eq!(cpu.reg(Gpr::Rax), 0x8382_8480);
}

#[test]
fn an_access_across_pages_is_split_at_the_page() {
    let mut cpu = at_device();
    cpu.map(0x40_0000, MMIO_GPA | 7);
    cpu.map(0x40_1000, (MMIO_GPA + 0x5000) | 7);
    cpu.set(Gpr::Rbx, 0x40_0ffd);
    cpu.complete(&[0x89, 0x03]);
    assert_eq!(
        cpu.accesses,
        [WRITE(0xffd, 2, 0x4444), WRITE(0xfff, 1, 0x33), WRITE(0x5000, 1, 0x33)]
    );
    cpu.accesses.clear();
    cpu.complete(&[0x8b, 0x13]);
    assert_eq!(cpu.reg(Gpr::Rdx), 0x3333_4444);
    assert_eq!(cpu.accesses.len(), 3);
}

#[test]
fn the_hint_saves_the_walk_and_is_used_for_its_own_access_only() {
    let mut cpu = at_device();
    cpu.map(0x40_0000, MMIO_GPA | 7);
    cpu.set(Gpr::Rbx, 0x40_0010);
    let access = |gpa, write| MemoryAccess { gpa, write, execute: false, page_walk: false };
    let mut run = |instruction: &[u8], access| {
        cpu.put(cpu.rip, instruction);
        cpu.accesses.clear();
        assert_eq!(step(&mut cpu, Some(access)), Outcome::Done { trap: false });
        cpu.accesses.clone()
    };
    assert_eq!(run(&[0x8b, 0x03], access(MMIO_GPA + 0x2010, false)), [READ(0x2010, 4)]);
    // Another page offset, or a write where the hardware saw a read: the tables decide.
    assert_eq!(run(&[0x8b, 0x03], access(MMIO_GPA + 0x2014, false)), [READ(0x10, 4)]);
    assert_eq!(run(&[0x88, 0x03], access(MMIO_GPA + 0x2010, false)), [WRITE(0x10, 1, 0x90)]);
    assert_eq!(run(&[0x88, 0x03], access(MMIO_GPA + 0x2010, true)), [WRITE(0x2010, 1, 0x90)]);
}

#[test]
fn a_bit_number_in_a_register_reaches_beyond_the_operand() {
    let mut cpu = at_device();
    cpu.set(Gpr::Rbx, MMIO_GPA + 0x100);
    cpu.set(Gpr::Rcx, (-33i64) as u64);
    cpu.complete(&[0x0f, 0xab, 0x0b]); // bts [rbx], ecx
    assert_eq!(cpu.accesses[0], READ(0x100 - 8, 4));
}

#[test]
fn single_stepping_is_reported_and_resume_flag_cleared() {
    let mut cpu = at_device();
    cpu.rflags = Rflags::new().with_trap(true).with_resume(true);
    assert_eq!(cpu.run(&[0x8b, 0x03]), Outcome::Done { trap: true });
    assert!(!cpu.rflags.resume());
    // A repeated instruction traps after each element.
    cpu.set(Gpr::Rcx, 3);
    cpu.set(Gpr::Rdi, MMIO_GPA);
    let rip = cpu.rip;
    assert_eq!(cpu.run(&[0xf3, 0xaa]), Outcome::Done { trap: true });
    assert_eq!((cpu.rip, cpu.reg(Gpr::Rcx)), (rip, 2));
    assert!(cpu.rflags.resume(), "the trap comes in its middle");
    cpu.run(&[0xf3, 0xaa]);
    assert_eq!(cpu.run(&[0xf3, 0xaa]), Outcome::Done { trap: true });
    assert_eq!((cpu.rip, cpu.reg(Gpr::Rcx)), (rip + 2, 0));
    assert!(!cpu.rflags.resume());
}

#[test]
fn what_is_not_supported_changes_nothing_and_is_named() {
    let mut cpu = at_device();
    let instruction = [0xd9, 0x03]; // fld dword [rbx]
    let Outcome::Unsupported(bytes) = cpu.run(&instruction) else { panic!("supported") };
    assert_eq!(bytes[..2], instruction);
    assert_eq!(cpu.rip, 0x8000);
    assert!(cpu.accesses.is_empty());
}

#[test]
fn segment_registers_on_a_stack_are_the_processors_business() {
    for instruction in [&[0x0f, 0xa0][..], &[0x0f, 0xa1], &[0x66, 0x0f, 0xa8]] {
        let mut cpu = at_device();
        cpu.set(Gpr::Rsp, MMIO_GPA + 0x80);
        assert!(matches!(cpu.run(instruction), Outcome::Unsupported(_)), "{instruction:02x?}");
        assert!(cpu.accesses.is_empty());
    }
}

#[test]
fn the_index_of_xlat_is_a_byte_without_a_sign() {
    let mut cpu = at_device();
    cpu.set(Gpr::Rax, 0x1111_2222_3333_44e7);
    cpu.complete(&[0xd7]);
    assert_eq!(cpu.accesses, [READ(0xe7, 1)]);
}

#[test]
fn hints_touch_no_device() {
    // CLFLUSH, CLFLUSHOPT and CLWB of [RBX], NOP [RBX].
    for code in [
        &[0x0f, 0xae, 0x3b][..],
        &[0x66, 0x0f, 0xae, 0x3b],
        &[0x66, 0x0f, 0xae, 0x33],
        &[0x0f, 0x1f, 0x03],
    ] {
        let mut cpu = at_device();
        let start = cpu.rip;
        cpu.complete(code);
        assert_eq!((cpu.rip - start, &cpu.accesses[..]), (code.len() as u64, &[][..]), "{code:x?}");
    }
}
