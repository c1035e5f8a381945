//! Registers, modes and errors.

use super::*;

#[test]
fn registers_after_reset() {
    let mut machine = Machine::new(2);
    let apic = &mut machine.apics[1];
    assert_eq!(read(apic, register::ID), 1 << 24);
    assert_eq!(read(apic, register::VERSION), 0x50014);
    assert_eq!(read(apic, register::SVR), 0xff);
    assert_eq!(read(apic, register::DFR), u32::MAX);
    for entry in register::LVT_TIMER..=register::LVT_ERROR {
        assert_eq!(read(apic, entry), 0x10000);
    }
    assert_eq!(apic.apic_base(), 0xfee0_0800);
    assert_eq!(machine.apics[0].apic_base(), 0xfee0_0900);
    assert_eq!(machine.apics[0].mmio_base(), Some(0xfee0_0000));
    assert!(!machine.apics[0].accepts_extint());
}

/// Linux 2.4, and kernels for processors before the Pentium Pro until 3.16: every write is an XCHG
/// (`apic_write_around`), so that every register is read as well. The order is that of
/// `clear_local_APIC`, `setup_local_APIC`, `__setup_APIC_LVTT` and `ack_APIC_irq`.
#[test]
fn kernels_that_write_by_xchg_see_no_errors() {
    const LVT_PERFORMANCE: u8 = 0x34;
    const LVT_LINT1: u8 = 0x36;
    const ERROR_VECTOR: u32 = 0xfe;
    let exchange = |apic: &mut LocalApic, number: u8, value: u32| {
        let old = read(apic, number);
        write(apic, number, value);
        old
    };
    let mut machine = Machine::new(1);
    let apic = &mut machine.apics[0];
    for (number, value) in [
        (register::LVT_ERROR, 0x1_0000 | ERROR_VECTOR),
        (register::LVT_TIMER, 0x1_0000),
        (LVT_LINT0, 0x1_0000),
        (LVT_LINT1, 0x1_0000),
        (LVT_PERFORMANCE, 0x1_0000),
        (register::LVT_ERROR, 0x1_0000),
        (register::ESR, 0),
        (register::DFR, u32::MAX),
        (register::LDR, 1 << 24),
        (register::TPR, 0),
        (register::SVR, 0x1ff),
        (LVT_LINT0, 0x700),
        (LVT_LINT1, 0x400),
        (register::LVT_ERROR, ERROR_VECTOR),
        (register::ESR, 0),
        (register::ICR_HIGH, 0),
        // INIT level de-assert to all: arbitration IDs.
        (register::ICR_LOW, 0x8_8500),
        (register::LVT_TIMER, 0x2_00ef),
        (register::DIVIDE, 3),
        (register::INITIAL_COUNT, 1_000_000 / 16),
    ] {
        exchange(apic, number, value);
    }
    machine.run_ns(1_000_001);
    let apic = &mut machine.apics[0];
    assert_eq!(apic.highest_pending(), Some(0xef), "the timer, and no error");
    apic.acknowledge(0xef);
    assert_eq!(exchange(apic, register::EOI, 0), 0);
    assert_eq!(apic.highest_pending(), None);
    // The other registers that can only be read, or only be written.
    for number in [
        register::VERSION,
        register::APR,
        register::PPR,
        register::REMOTE_READ,
        register::CURRENT_COUNT,
    ]
    .into_iter()
    .chain(register::ISR_FIRST..=register::IRR_LAST)
    {
        exchange(apic, number, u32::MAX);
    }
    exchange(apic, register::ESR, 0);
    assert_eq!(read(apic, register::ESR), 0);
    assert_eq!(apic.highest_pending(), None);
}

#[test]
fn a_read_of_the_end_of_interrupt_register_faults_in_x2apic_mode() {
    let mut machine = Machine::x2apic(1);
    let apic = &mut machine.apics[0];
    for number in
        [register::EOI, register::SELF_IPI, register::REMOTE_READ, register::APR, register::DFR]
    {
        assert_eq!(apic.read_msr(0x800 + u32::from(number)), Err(GpFault), "{number:#x}");
    }
    for number in [register::VERSION, register::PPR, register::CURRENT_COUNT, register::ISR_FIRST] {
        assert_eq!(apic.write_msr(0x800 + u32::from(number), 0), Err(GpFault), "{number:#x}");
    }
}

#[test]
fn software_disabled_takes_no_vectors_and_masks_its_entries() {
    let mut machine = Machine::enabled(2);
    write(&mut machine.apics[0], LVT_LINT0, 0x700);
    write(&mut machine.apics[0], register::SVR, 0xff);
    assert_eq!(read(&mut machine.apics[0], LVT_LINT0), 0x10700);
    assert!(!machine.apics[0].accepts_extint());
    write(&mut machine.apics[0], LVT_LINT0, 0x700);
    assert_eq!(read(&mut machine.apics[0], LVT_LINT0), 0x10700);
    send(&mut machine.apics[1], 0, 0x4041);
    assert_eq!(machine.pending(), [None, None]);
    machine.apics[0].set_apic_base(0xfee0_0000).unwrap();
    assert!(machine.apics[0].accepts_extint(), "disabled altogether: LINT0 is INTR");
}

#[test]
fn errors_latch_on_write() {
    let mut machine = Machine::enabled(2);
    write(&mut machine.apics[0], register::LVT_ERROR, 0xfe);
    send(&mut machine.apics[0], 0x0100_0000, 0x4005);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 0);
    write(&mut machine.apics[0], register::ESR, 0);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 1 << 5);
    write(&mut machine.apics[0], register::ESR, 0);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 0);
    assert_eq!(serve(&mut machine.apics[0]), Some(0xfe));
    // A message with an illegal vector from outside.
    machine.bus.deliver_msi(0xfee0_0000, 3);
    assert_eq!(serve(&mut machine.apics[0]), Some(0xfe));
    write(&mut machine.apics[0], register::ESR, 0);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 1 << 6);
    // A register that does not exist.
    write(&mut machine.apics[0], 0x3d, 0);
    write(&mut machine.apics[0], register::ESR, 0);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 1 << 7);
}

#[test]
fn apic_base_transitions() {
    const OFF: u64 = 0xfee0_0900 & !0x800;
    const XAPIC: u64 = 0xfee0_0900;
    const X2APIC: u64 = 0xfee0_0d00;
    let mut machine = Machine::new(1);
    let apic = &mut machine.apics[0];
    assert_eq!(apic.read_msr(0x803), Err(GpFault), "no MSRs in xAPIC mode");
    assert_eq!(apic.set_apic_base(OFF | 0x400), Err(GpFault));
    assert_eq!(apic.set_apic_base(XAPIC | 1), Err(GpFault));
    assert_eq!(apic.set_apic_base(XAPIC | 1 << 52), Err(GpFault));
    apic.set_apic_base(X2APIC).unwrap();
    assert_eq!(apic.mmio_base(), None);
    assert_eq!(apic.set_apic_base(XAPIC), Err(GpFault));
    apic.set_apic_base(OFF).unwrap();
    assert_eq!(apic.set_apic_base(X2APIC), Err(GpFault));
    apic.set_apic_base(0xfec8_0800).unwrap();
    assert_eq!(apic.mmio_base(), Some(0xfec8_0000));
    assert_eq!(apic.apic_base(), 0xfec8_0900, "the bootstrap flag stays");
}

#[test]
fn x2apic_registers() {
    let mut machine = Machine::x2apic(20);
    let apic = &mut machine.apics[17];
    assert_eq!(apic.read_msr(0x802), Ok(17));
    assert_eq!(apic.read_msr(0x80d), Ok(0x1_0002));
    assert_eq!(apic.read_msr(0x803), Ok(0x50014));
    for absent in [0x800, 0x801, 0x809, 0x80b, 0x80e, 0x831, 0x83f, 0x840, 0x7ff] {
        assert_eq!(apic.read_msr(absent), Err(GpFault), "{absent:x}");
    }
    for (index, value) in
        [(0x802, 1), (0x803, 0), (0x80b, 1), (0x80d, 0), (0x80e, 0), (0x828, 1), (0x831, 0)]
    {
        assert_eq!(apic.write_msr(index, value), Err(GpFault), "{index:x}");
    }
    assert_eq!(apic.write_msr(0x80f, 0x11ff), Err(GpFault));
    assert_eq!(apic.write_msr(0x808, 0x100), Err(GpFault));
    apic.write_msr(0x83f, 0x77).unwrap();
    assert_eq!(apic.highest_pending(), Some(0x77));
    apic.acknowledge(0x77);
    apic.write_msr(0x80b, 0).unwrap();
    // Logical: member 1 of cluster 1; physical; broadcast.
    machine.apics[0].write_msr(0x830, 0x0001_0002_0000_0841).unwrap();
    assert_eq!(machine.apics.iter_mut().filter_map(LocalApic::highest_pending).count(), 1);
    assert_eq!(serve_x2(&mut machine.apics[17]), Some(0x41));
    machine.apics[0].write_msr(0x830, 0x12_0000_0042).unwrap();
    assert_eq!(serve_x2(&mut machine.apics[18]), Some(0x42));
    machine.apics[0].write_msr(0x830, 0xffff_ffff_0000_0043).unwrap();
    assert!(machine.pending().iter().all(|pending| *pending == Some(0x43)));
}

fn serve_x2(apic: &mut LocalApic) -> Option<u8> {
    let vector = apic.highest_pending()?;
    apic.acknowledge(vector);
    apic.write_msr(0x80b, 0).unwrap();
    Some(vector)
}
