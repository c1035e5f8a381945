//! Page faults: the right error code, and no side effects.

use super::*;

const ABSENT: u64 = 0x50_0000;
const READ_ONLY: u64 = 0x51_0000;

fn cpu() -> FakeCpu {
    let mut cpu = FakeCpu::long();
    cpu.map(READ_ONLY, MMIO_GPA | 5);
    cpu
}

#[test]
fn reads_and_writes_of_absent_pages_name_address_and_kind() {
    let mut cpu = cpu();
    cpu.set(Gpr::Rbx, ABSENT + 8);
    assert_eq!(cpu.run(&[0x8b, 0x03]), Outcome::Fault(Fault::page(0, ABSENT + 8)));
    assert_eq!(cpu.run(&[0x89, 0x03]), Outcome::Fault(Fault::page(2, ABSENT + 8)));
    cpu.cpl = 3;
    assert_eq!(cpu.run(&[0x89, 0x03]), Outcome::Fault(Fault::page(6, ABSENT + 8)));
    assert_eq!(cpu.rip, 0x8000);
}

#[test]
fn a_read_modify_write_of_a_read_only_page_faults_before_it_reads() {
    let mut cpu = cpu();
    cpu.set(Gpr::Rbx, READ_ONLY);
    for instruction in [
        &[0x01, 0x03][..],
        &[0x87, 0x03],
        &[0x0f, 0xc1, 0x03],
        &[0xff, 0x03],
        &[0xf0, 0x0f, 0xb1, 0x0b],
    ] {
        assert_eq!(
            cpu.run(instruction),
            Outcome::Fault(Fault::page(3, READ_ONLY)),
            "{instruction:02x?}"
        );
    }
    assert!(cpu.accesses.is_empty());
}

#[test]
fn the_bus_is_locked_for_all_of_an_instruction_with_lock_and_no_longer() {
    let mut cpu = cpu();
    cpu.map(ABSENT - 0x1000, MMIO_GPA | 7);
    cpu.set(Gpr::Rbx, ABSENT - 0x800);
    // INC, INC and XADD with LOCK, XCHG, MOV.
    let instructions: [(&[u8], bool); 5] = [
        (&[0xff, 0x03], false),
        (&[0xf0, 0xff, 0x03], true),
        (&[0xf0, 0x0f, 0xc1, 0x0b], true),
        (&[0x87, 0x0b], true),
        (&[0x89, 0x0b], false),
    ];
    for (instruction, locks) in instructions {
        cpu.accesses.clear();
        cpu.bus.clear();
        assert_eq!(cpu.run(instruction), Outcome::Done { trap: false });
        let expected: &[_] = if locks { &[(true, 0), (false, 2)] } else { &[] };
        assert_eq!(cpu.bus, expected, "{instruction:02x?}");
    }
    cpu.set(Gpr::Rbx, ABSENT);
    cpu.bus.clear();
    assert_eq!(cpu.run(&[0xf0, 0xff, 0x03]), Outcome::Fault(Fault::page(2, ABSENT)));
    let count = cpu.accesses.len();
    assert_eq!(cpu.bus, [(true, count), (false, count)]);
}

#[test]
fn the_second_page_of_a_crossing_access_faults_at_its_start() {
    let mut cpu = cpu();
    cpu.map(ABSENT - 0x1000, MMIO_GPA | 7);
    cpu.set(Gpr::Rbx, ABSENT - 2);
    assert_eq!(cpu.run(&[0x89, 0x03]), Outcome::Fault(Fault::page(2, ABSENT)));
    assert!(cpu.accesses.is_empty());
}

#[test]
fn an_instruction_across_pages_is_fetched_from_both() {
    let mut cpu = cpu();
    cpu.map(0x60_0000, 0x2_0000 | 7);
    cpu.map(0x60_1000, 0x3_0000 | 7);
    cpu.put(0x2_0fff, &[0x8b]);
    cpu.put(0x3_0000, &[0x03]);
    cpu.rip = 0x60_0fff;
    cpu.set(Gpr::Rbx, MMIO_GPA);
    assert_eq!(step(&mut cpu, None), Outcome::Done { trap: false });
    assert_eq!(cpu.rip, 0x60_1001);

    cpu.map(0x60_1000, 0);
    cpu.rip = 0x60_0fff;
    assert_eq!(step(&mut cpu, None), Outcome::Fault(Fault::page(0, 0x60_1000)));
}

#[test]
fn what_the_hardware_saved_is_completed_from_memory() {
    let mut cpu = cpu();
    cpu.map(0x60_0000, 0x2_0000 | 7);
    cpu.map(0x60_1000, 0x3_0000 | 7);
    // or dword [rbx], 1, four of its bytes in the first page, of which the hardware saved two.
    cpu.put(0x2_0ffc, &[0x81, 0x0b, 0x01, 0x00]);
    cpu.put(0x3_0000, &[0x00, 0x00]);
    cpu.rip = 0x60_0ffc;
    cpu.set(Gpr::Rbx, MMIO_GPA);
    cpu.saved_bytes = Some([0x81, 0x0b].into_iter().collect());
    assert_eq!(step(&mut cpu, None), Outcome::Done { trap: false });
    assert_eq!((cpu.rip, cpu.device[0]), (0x60_1002, 1));
}

#[test]
fn push_and_pop_leave_the_stack_pointer_if_they_fault() {
    let mut cpu = cpu();
    cpu.set(Gpr::Rsp, ABSENT + 8);
    cpu.set(Gpr::Rbx, MMIO_GPA);
    assert_eq!(cpu.run(&[0xff, 0x33]), Outcome::Fault(Fault::page(2, ABSENT)));
    cpu.set(Gpr::Rsp, 0x9000);
    cpu.set(Gpr::Rbx, READ_ONLY);
    assert_eq!(cpu.run(&[0x8f, 0x03]), Outcome::Fault(Fault::page(3, READ_ONLY)));
    assert_eq!(cpu.reg(Gpr::Rsp), 0x9000);
}

#[test]
fn a_repeated_instruction_stops_at_the_page_that_faults() {
    let mut cpu = cpu();
    cpu.map(ABSENT - 0x1000, MMIO_GPA | 7);
    cpu.set(Gpr::Rdi, ABSENT - 0x20);
    cpu.set(Gpr::Rcx, 0x10);
    cpu.set(Gpr::Rax, 0x1234_5678);
    assert_eq!(cpu.run(&[0xf3, 0xab]), Outcome::Fault(Fault::page(2, ABSENT)));
    assert_eq!((cpu.reg(Gpr::Rdi), cpu.reg(Gpr::Rcx), cpu.rip), (ABSENT, 8, 0x8000));
    assert_eq!(cpu.accesses.len(), 8);

    // INS takes nothing from the port for the page that is not there.
    cpu.set(Gpr::Rdi, ABSENT - 0x20);
    cpu.set(Gpr::Rcx, 0x20);
    cpu.set(Gpr::Rdx, 0x1f0);
    assert_eq!(cpu.run(&[0xf3, 0x66, 0x6d]), Outcome::Fault(Fault::page(2, ABSENT)));
    assert_eq!(cpu.port_reads, [(0x1f0, 0x10)]);
    assert_eq!(cpu.reg(Gpr::Rcx), 0x10);
}

#[test]
fn misaligned_aligned_moves_are_refused() {
    let mut cpu = cpu();
    cpu.set(Gpr::Rbx, MMIO_GPA + 8);
    assert_eq!(cpu.run(&[0x0f, 0x29, 0x03]), Outcome::Fault(Fault::PROTECTION));
    assert!(cpu.accesses.is_empty());
}

#[test]
fn division_by_zero_is_a_divide_error() {
    let mut cpu = cpu();
    cpu.set(Gpr::Rbx, MMIO_GPA);
    let fault = Fault { exception: Exception::DivideError, error_code: None, address: None };
    assert_eq!(cpu.run(&[0xf7, 0x33]), Outcome::Fault(fault));
}
