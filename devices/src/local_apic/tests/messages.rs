//! Messages between local APICs: destinations, shorthands, start-up.

use super::*;

#[test]
fn flat_cluster_and_physical_destinations() {
    let mut machine = Machine::enabled(3);
    for n in 0..3 {
        write(&mut machine.apics[n], register::LDR, 1 << (24 + n));
    }
    let (a, b, c) = (Some(0x41), Some(0x42), Some(0x43));
    send(&mut machine.apics[0], 0x0600_0000, 0x841);
    assert_eq!(machine.pending(), [None, a, a]);
    send(&mut machine.apics[0], 0x0100_0000, 0x042);
    assert_eq!(machine.pending(), [None, b, a]);
    send(&mut machine.apics[0], 0xff00_0000, 0x043);
    assert_eq!(machine.pending(), [c, c, c]);
    // Clusters: APIC n is member 0 of cluster n.
    for n in 0..3 {
        write(&mut machine.apics[n], register::DFR, 0x0fff_ffff);
        write(&mut machine.apics[n], register::LDR, (n as u32) << 28 | 1 << 24);
    }
    send(&mut machine.apics[0], 0x2100_0000, 0x851);
    send(&mut machine.apics[0], 0x2200_0000, 0x852);
    assert_eq!(machine.pending(), [c, c, Some(0x51)]);
    send(&mut machine.apics[0], 0xf100_0000, 0x853);
    assert_eq!(machine.pending(), [Some(0x53); 3]);
}

#[test]
fn shorthands() {
    let mut machine = Machine::enabled(3);
    send(&mut machine.apics[1], 0, 0x40060);
    assert_eq!(machine.pending(), [None, Some(0x60), None]);
    send(&mut machine.apics[1], 0, 0xc0061);
    assert_eq!(machine.pending(), [Some(0x61), Some(0x60), Some(0x61)]);
    send(&mut machine.apics[1], 0, 0x80062);
    assert_eq!(machine.pending(), [Some(0x62); 3]);
}

#[test]
fn only_fixed_interrupts_go_to_the_sender_by_shorthand() {
    const TO_SELF: u32 = 1 << 18;
    const ALL: u32 = 2 << 18;
    const OTHERS: u32 = 3 << 18;
    // Lowest priority, SMI, NMI, INIT, start-up, ExtINT.
    for mode in [1, 2, 4, 5, 6, 7] {
        for shorthand in [TO_SELF, ALL] {
            let mut machine = Machine::enabled(2);
            send(&mut machine.apics[0], 0, shorthand | mode << 8 | 0x4041);
            assert_eq!(machine.pending(), [None; 2], "mode {mode}");
            for apic in &mut machine.apics {
                assert!(
                    !apic.take_nmi() && !apic.take_init() && apic.take_sipi().is_none(),
                    "mode {mode}"
                );
            }
        }
    }
    let mut machine = Machine::enabled(2);
    send(&mut machine.apics[0], 0, OTHERS | 0x4400);
    assert_eq!(
        machine.apics.iter_mut().map(LocalApic::take_nmi).collect::<Vec<_>>(),
        [false, true]
    );
    let mut machine = Machine::x2apic(1);
    machine.apics[0].write_msr(0x830, u64::from(TO_SELF | 0x4400)).unwrap();
    assert!(!machine.apics[0].take_nmi());
}

#[test]
fn lowest_priority_goes_to_one_and_takes_turns() {
    let mut machine = Machine::enabled(2);
    let message = Message {
        destination: Destination::All,
        mode: DeliveryMode::LowestPriority,
        vector: 0x70,
        level: false,
    };
    let mut hits = [0; 2];
    for _ in 0..10 {
        assert!(machine.bus.deliver(&message));
        let takers: Vec<_> = (0..2).filter(|n| serve(&mut machine.apics[*n]).is_some()).collect();
        assert_eq!(takers.len(), 1);
        hits[takers[0]] += 1;
    }
    assert_eq!(hits, [5, 5]);
}

#[test]
fn startup_sequence_of_a_second_processor() {
    let mut machine = Machine::new(2);
    write(&mut machine.apics[0], register::SVR, 0x1ff);
    // INIT, INIT level de-assert, two start-up messages: SVR of the target need not be enabled.
    send(&mut machine.apics[0], 0x0100_0000, 0xc500);
    send(&mut machine.apics[0], 0x0100_0000, 0x8500);
    send(&mut machine.apics[0], 0x0100_0000, 0x469a);
    assert!(machine.kicks[1].take() >= 2);
    let apic = &mut machine.apics[1];
    assert!(apic.take_init());
    apic.init();
    assert!(!apic.take_init());
    assert_eq!(apic.take_sipi(), Some(0x9a));
    assert_eq!(apic.take_sipi(), None);
    assert_eq!(read(apic, register::ID), 1 << 24);
    send(&mut machine.apics[0], 0x0100_0000, 0x4400);
    assert!(machine.apics[1].has_nmi() && machine.apics[1].take_nmi());
    assert!(!machine.apics[1].has_nmi() && !machine.apics[1].take_nmi());
}
