//! LINT0 and LINT1.

use super::*;

/// The wires to APIC 0's pins.
fn pins(machine: &Machine) -> [IrqLine; 2] {
    [0, 1].map(|input| IrqLine::new(machine.apics[0].inbox().clone(), input))
}

#[test]
fn lint1_is_nmi_as_the_bios_programs_it() {
    let mut machine = Machine::enabled(1);
    let [_, nmi] = pins(&machine);
    nmi.pulse();
    assert!(!machine.apics[0].take_nmi(), "masked");
    // Whether level or edge: an NMI is an edge.
    for entry in [0x400, 0x8400] {
        write(&mut machine.apics[0], 0x36, entry);
        nmi.set(true);
        assert!(machine.apics[0].take_nmi());
        assert!(!machine.apics[0].take_nmi());
        nmi.set(false);
    }
    machine.apics[0].set_apic_base(0xfee0_0000).unwrap();
    nmi.pulse();
    assert!(machine.apics[0].take_nmi(), "disabled altogether: LINT1 is NMI");
}

#[test]
fn intr_arrives_as_lint0_says() {
    let mut machine = Machine::enabled(1);
    let [intr, _] = pins(&machine);
    // Masked, as fixed interrupt, NMI, INIT, ExtINT, SMI.
    for (entry, vector, nmi, init) in [
        (0x1_0041, None, false, false),
        (0x41, Some(0x41), false, false),
        (0x400, None, true, false),
        (0x500, None, false, true),
        (0x700, None, false, false),
        (0x200, None, false, false),
    ] {
        write(&mut machine.apics[0], LVT_LINT0, entry);
        machine.kicks[0].take();
        intr.set(true);
        let apic = &mut machine.apics[0];
        assert_eq!(serve(apic), vector, "{entry:#x}");
        assert_eq!(serve(apic), None, "an edge comes once");
        assert_eq!((apic.take_nmi(), apic.take_init()), (nmi, init), "{entry:#x}");
        let is_extint = entry == 0x700;
        assert_eq!(apic.accepts_extint(), is_extint);
        assert_eq!(machine.kicks[0].take() != 0, nmi || init || is_extint, "{entry:#x}");
        intr.set(false);
    }
    // An illegal vector is an error.
    write(&mut machine.apics[0], LVT_LINT0, 5);
    intr.pulse();
    assert_eq!(machine.apics[0].highest_pending(), None);
    write(&mut machine.apics[0], register::ESR, 0);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 1 << 6);
}

#[test]
fn a_level_of_lint0_comes_again_until_it_falls() {
    const REMOTE_IRR: u32 = 1 << 14;
    let mut machine = Machine::enabled(1);
    let [intr, _] = pins(&machine);
    intr.set(true);
    let apic = &mut machine.apics[0];
    assert_eq!(apic.highest_pending(), None, "masked");
    write(apic, LVT_LINT0, 0x8041);
    for _ in 0..3 {
        assert_eq!(apic.highest_pending(), Some(0x41));
        assert_eq!(read(apic, LVT_LINT0), 0x8041 | REMOTE_IRR);
        apic.acknowledge(0x41);
        assert_eq!(apic.highest_pending(), None);
        write(apic, register::EOI, 0);
    }
    assert_eq!(apic.highest_pending(), Some(0x41));
    intr.set(false);
    apic.acknowledge(0x41);
    write(apic, register::EOI, 0);
    assert_eq!((apic.highest_pending(), read(apic, LVT_LINT0)), (None, 0x8041));
    // Disabled and enabled again, it is masked.
    write(apic, register::SVR, 0xff);
    intr.set(true);
    write(apic, register::SVR, 0x1ff);
    assert_eq!((apic.highest_pending(), read(apic, LVT_LINT0)), (None, 0x1_8041));
}

#[test]
fn virtual_wire_mode_outlives_init() {
    let mut machine = Machine::enabled(1);
    let [intr, _] = pins(&machine);
    write(&mut machine.apics[0], LVT_LINT0, 0x700);
    machine.apics[0].init();
    assert!(machine.apics[0].accepts_extint());
    assert_eq!(read(&mut machine.apics[0], LVT_LINT0), 0x700);
    machine.kicks[0].take();
    intr.set(true);
    assert_eq!(machine.kicks[0].take(), 1, "the vCPU looks at the 8259 pair");
    // Any other entry is masked.
    write(&mut machine.apics[0], register::SVR, 0x1ff);
    write(&mut machine.apics[0], LVT_LINT0, 0x41);
    machine.apics[0].init();
    assert_eq!(read(&mut machine.apics[0], LVT_LINT0), 0x1_0000);
}
