//! String instructions: what they move, in which pieces, and where they stop.

use super::*;
use fake::Access;

#[test]
fn rep_ins_reads_many_elements_at_once() {
    // A BIOS reads a CD sector in protected and in real mode.
    for (mut cpu, instruction) in
        [(FakeCpu::protected(), &[0xf3, 0x66, 0x6d][..]), (FakeCpu::real(), &[0xf3, 0x6d][..])]
    {
        cpu.set(Gpr::Rcx, 1024);
        cpu.set(Gpr::Rdx, 0x170);
        cpu.set(Gpr::Rdi, 0x9000);
        assert_eq!(cpu.run(instruction), Outcome::Done { trap: false });
        assert_eq!(cpu.port_reads, [(0x170, 1024)]);
        assert_eq!((cpu.reg(Gpr::Rcx), cpu.reg(Gpr::Rdi)), (0, 0x9800));
        let expected: Vec<u8> = (0..1024u16).flat_map(u16::to_le_bytes).collect();
        assert_eq!(cpu.get(0x9000, 2048), expected);
    }
}

#[test]
fn long_runs_are_done_in_batches() {
    let mut cpu = FakeCpu::protected();
    cpu.set(Gpr::Rcx, 5000);
    cpu.set(Gpr::Rdi, 0x9010);
    cpu.set(Gpr::Rdx, 0x1f0);
    let mut batches = 0;
    while cpu.run(&[0xf3, 0x6d]) == Outcome::Continue {
        batches += 1;
        assert_eq!(cpu.rip, 0x8000);
        assert_eq!(cpu.reg(Gpr::Rdi) - 0x9010, 4 * (5000 - cpu.reg(Gpr::Rcx)));
    }
    assert_eq!(batches, 4);
    assert_eq!(cpu.get(0x9010 + 4999 * 4, 4), 4999u32.to_le_bytes());
}

#[test]
fn a_slow_port_does_not_keep_the_host() {
    let mut cpu = FakeCpu::protected();
    let bytes: Vec<u8> = (0..=255).collect();
    cpu.put(0x9f80, &bytes);
    cpu.set(Gpr::Rcx, 256);
    cpu.set(Gpr::Rdx, 0x92);
    cpu.set(Gpr::Rsi, 0x9f80);
    cpu.patience = Some(10);
    assert_eq!(cpu.run(&[0xf3, 0x6e]), Outcome::Continue);
    assert_eq!((cpu.reg(Gpr::Rcx), cpu.reg(Gpr::Rsi), cpu.rip), (246, 0x9f8a, 0x8000));
    // The rest, two elements at a step.
    while cpu.rip == 0x8000 {
        cpu.patience = Some(2);
        cpu.run(&[0xf3, 0x6e]);
    }
    let written: Vec<u8> = cpu.port_writes.iter().flat_map(|(_, data)| data.clone()).collect();
    assert_eq!(written, bytes);

    let mut cpu = FakeCpu::protected();
    cpu.set(Gpr::Rcx, 100);
    cpu.set(Gpr::Rdi, 0x9000);
    cpu.patience = Some(7);
    assert_eq!(cpu.run(&[0xf3, 0x6d]), Outcome::Continue);
    assert_eq!((cpu.reg(Gpr::Rcx), cpu.reg(Gpr::Rdi)), (93, 0x901c));
    assert_eq!(cpu.get(0x9000 + 4 * 6, 8), [6, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_slow_device_does_not_keep_the_host() {
    for (instruction, elements) in
        [(&[0xf3, 0xab][..], 512), (&[0xf3, 0xad], 3), (&[0xf3, 0xa5], 512)]
    {
        let mut cpu = FakeCpu::protected();
        cpu.set(Gpr::Rcx, 1000);
        cpu.set(Gpr::Rdi, MMIO_GPA);
        cpu.set(Gpr::Rsi, MMIO_GPA + 0x8000);
        cpu.patience = Some(if elements == 3 { 3 } else { 1 });
        assert_eq!(cpu.run(instruction), Outcome::Continue);
        assert_eq!(cpu.reg(Gpr::Rcx), 1000 - elements, "{instruction:02x?}");
    }
}

#[test]
fn rep_outs_writes_what_lies_in_memory() {
    let mut cpu = FakeCpu::protected();
    let bytes: Vec<u8> = (0..=255).collect();
    cpu.put(0x9f80, &bytes);
    cpu.set(Gpr::Rcx, 256);
    cpu.set(Gpr::Rdx, 0x402);
    cpu.set(Gpr::Rsi, 0x9f80);
    cpu.complete(&[0xf3, 0x6e]);
    let written: Vec<u8> = cpu.port_writes.iter().flat_map(|(_, data)| data.clone()).collect();
    assert_eq!(written, bytes);
    assert_eq!(cpu.port_writes.len(), 2, "one run a page");
}

/// Another CPU of the guest's exchanges the instruction that exited: nobody has checked whether it
/// may use the port.
#[test]
fn port_instructions_do_not_come_from_memory_exits() {
    let access = MemoryAccess { gpa: MMIO_GPA, write: false, execute: false, page_walk: false };
    for instruction in [&[0x6e][..], &[0xf3, 0x6d]] {
        let mut cpu = FakeCpu::protected();
        cpu.set(Gpr::Rcx, 3);
        cpu.set(Gpr::Rsi, MMIO_GPA);
        cpu.set(Gpr::Rdi, 0x9000);
        cpu.put(0x8000, instruction);
        assert_eq!(step(&mut cpu, Some(access)), Outcome::Continue);
        assert_eq!(cpu.rip, 0x8000);
        assert!(cpu.port_writes.is_empty() && cpu.port_reads.is_empty() && cpu.accesses.is_empty());
    }
}

#[test]
fn no_count_means_no_work() {
    let mut cpu = FakeCpu::long();
    cpu.set(Gpr::Rdi, MMIO_GPA);
    for instruction in [&[0xf3, 0xab][..], &[0xf3, 0xa4], &[0xf3, 0x6d], &[0xf3, 0xae]] {
        cpu.complete(instruction);
    }
    assert!(cpu.accesses.is_empty() && cpu.port_reads.is_empty());
}

#[test]
fn sixteen_bit_counts_and_pointers_leave_the_upper_halves() {
    let mut cpu = FakeCpu::real();
    cpu.set(Gpr::Rcx, 0xaaaa_0003);
    cpu.set(Gpr::Rdi, 0xbbbb_fffe);
    cpu.set(Gpr::Rax, 0x77);
    cpu.complete(&[0xf3, 0xaa]);
    assert_eq!((cpu.reg(Gpr::Rcx), cpu.reg(Gpr::Rdi)), (0xaaaa_0000, 0xbbbb_0001));
    assert_eq!((cpu.get(0xfffe, 2), cpu.get(0, 1)), (vec![0x77, 0x77], vec![0x77]));
}

#[test]
fn addresses_of_32_bits_in_64_bit_code_clear_the_upper_halves() {
    let mut cpu = FakeCpu::long();
    cpu.set(Gpr::Rcx, 0xffff_ffff_0000_0002);
    cpu.set(Gpr::Rdi, 0xffff_ffff_0000_9000);
    cpu.complete(&[0x67, 0xf3, 0xab]);
    assert_eq!((cpu.reg(Gpr::Rcx), cpu.reg(Gpr::Rdi)), (0, 0x9008));
}

#[test]
fn a_copy_onto_itself_further_up_repeats_the_pattern() {
    for width in [1, 2, 4] {
        let mut cpu = FakeCpu::protected();
        cpu.put(0x9000, &[1, 2, 3, 4, 5, 6, 7, 8]);
        cpu.set(Gpr::Rsi, 0x9000);
        cpu.set(Gpr::Rdi, 0x9003);
        cpu.set(Gpr::Rcx, 24 / width);
        let mut expected = cpu.get(0x9000, 64);
        let size = width as usize;
        for start in (0..24).step_by(size) {
            let element: Vec<u8> = expected[start..start + size].to_vec();
            expected[start + 3..start + 3 + size].copy_from_slice(&element);
        }
        let instruction: &[u8] = match width {
            1 => &[0xf3, 0xa4],
            2 => &[0xf3, 0x66, 0xa5],
            _ => &[0xf3, 0xa5],
        };
        cpu.complete(instruction);
        assert_eq!(cpu.get(0x9000, 64), expected, "{width}");
    }
}

#[test]
fn downwards_each_element_goes_alone() {
    let mut cpu = FakeCpu::protected();
    cpu.rflags.set_direction(true);
    cpu.put(0x9000, &[1, 2, 3, 4]);
    cpu.set(Gpr::Rsi, 0x9003);
    cpu.set(Gpr::Rdi, MMIO_GPA + 3);
    cpu.set(Gpr::Rcx, 4);
    cpu.complete(&[0xf3, 0xa4]);
    assert_eq!(cpu.device[..4], [1, 2, 3, 4]);
    assert_eq!(cpu.accesses[0], Access::Write { offset: 3, size_bytes: 1, value: 4 });
    assert_eq!((cpu.reg(Gpr::Rsi), cpu.reg(Gpr::Rdi)), (0x8fff, MMIO_GPA - 1));
}

#[test]
fn between_devices_reads_and_writes_alternate() {
    let mut cpu = FakeCpu::protected();
    cpu.set(Gpr::Rsi, MMIO_GPA + 0x100);
    cpu.set(Gpr::Rdi, MMIO_GPA);
    cpu.set(Gpr::Rcx, 3);
    cpu.complete(&[0xf3, 0xa4]);
    let expected: Vec<Access> = (0..3)
        .flat_map(|offset| {
            [
                Access::Read { offset: 0x100 + offset, size_bytes: 1 },
                Access::Write { offset, size_bytes: 1, value: 0 },
            ]
        })
        .collect();
    assert_eq!(cpu.accesses, expected);
}

#[test]
fn comparing_stops_where_the_condition_ends() {
    let mut cpu = FakeCpu::protected();
    cpu.put(0x9000, b"hello\0");
    cpu.set(Gpr::Rdi, 0x9000);
    cpu.set(Gpr::Rcx, u64::from(u32::MAX));
    cpu.complete(&[0xf2, 0xae]); // repne scasb: strlen
    assert_eq!(cpu.reg(Gpr::Rdi), 0x9006);
    assert!(cpu.rflags.zero());

    cpu.put(0x9100, b"hellx");
    cpu.set(Gpr::Rsi, 0x9000);
    cpu.set(Gpr::Rdi, 0x9100);
    cpu.set(Gpr::Rcx, 5);
    cpu.complete(&[0xf3, 0xa6]); // repe cmpsb
    assert_eq!((cpu.reg(Gpr::Rcx), cpu.rflags.zero(), cpu.rflags.carry()), (0, false, true));
}
