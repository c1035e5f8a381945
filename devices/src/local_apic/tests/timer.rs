//! The timer and its ticks.

use super::*;

#[test]
fn linux_boots_and_calibrates() {
    let mut machine = Machine::new(1);
    // setup_local_APIC: SeaBIOS's virtual wire first.
    let apic = &mut machine.apics[0];
    let svr = read(apic, register::SVR);
    write(apic, register::SVR, svr | 0x100);
    write(apic, LVT_LINT0, 0x8700);
    assert!(apic.accepts_extint());
    write(apic, register::DFR, u32::MAX);
    write(apic, register::LDR, 1 << 24);
    write(apic, register::TPR, 0x10);
    assert_eq!(read(apic, register::LDR), 1 << 24);
    // calibrate_APIC_clock: one-shot from the top, divided by 16, against 100 ms of another clock.
    write(apic, register::LVT_TIMER, 0x100ec);
    write(apic, register::DIVIDE, 3);
    write(apic, register::INITIAL_COUNT, u32::MAX);
    let before = read(apic, register::CURRENT_COUNT);
    assert_eq!(machine.run_ns(100_000_000), 0, "a masked timer wakes nobody");
    let apic = &mut machine.apics[0];
    assert_eq!(before - read(apic, register::CURRENT_COUNT), 100_000_000 / 16);
    // Periodic at 250 Hz.
    write(apic, register::LVT_TIMER, 0x200ec);
    write(apic, register::DIVIDE, 3);
    write(apic, register::INITIAL_COUNT, 4_000_000 / 16);
    let mut ticks = 0;
    for _ in 0..1000 {
        machine.run_ns(1_000_000);
        ticks += u32::from(serve(&mut machine.apics[0]).is_some());
    }
    assert_eq!(ticks, 250);
}

#[test]
fn one_shot_fires_once_at_its_nanosecond() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x40);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1000);
    machine.run_ns(999);
    assert_eq!(read(&mut machine.apics[0], register::CURRENT_COUNT), 1);
    assert_eq!(machine.pending(), [None]);
    machine.run_ns(1);
    assert_eq!(serve(&mut machine.apics[0]), Some(0x40));
    assert_eq!(read(&mut machine.apics[0], register::CURRENT_COUNT), 0);
    machine.run_ns(1_000_000);
    assert_eq!(machine.pending(), [None]);
    assert_eq!(machine.deadlines.earliest(), None);
}

#[test]
fn one_shot_is_not_held_back_by_ticks_before_it() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x20040);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 100_000);
    machine.run_ns(100_000);
    assert_eq!(serve(&mut machine.apics[0]), Some(0x40));
    write(&mut machine.apics[0], register::LVT_TIMER, 0x41);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1000);
    machine.run_ns(1000);
    assert_eq!(serve(&mut machine.apics[0]), Some(0x41));
}

#[test]
fn storm_of_a_short_period_is_held_back() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x20040);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1);
    let woken = machine.run_ns(100 * MIN_PERIOD_NS);
    assert!((90..=101).contains(&woken), "{woken}");
}

/// Takes what is pending, and tells the timer.
fn take_tick(apic: &mut LocalApic) -> bool {
    let Some(vector) = serve(apic) else { return false };
    apic.timer().taken(vector);
    true
}

#[test]
fn missed_ticks_follow_each_other_and_keep_the_phase() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x20040);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1_000_000);
    machine.clock.advance_ns(10_300_000);
    machine.run_ns(0);
    assert!(!take_tick(&mut machine.apics[0]), "the guest looks around first");
    for number in 0..11 {
        // Ten, and the one that is due meanwhile.
        machine.run_ns(100_000);
        assert!(take_tick(&mut machine.apics[0]), "tick {number}");
        assert!(!take_tick(&mut machine.apics[0]), "after {number}");
    }
    machine.run_ns(500_000);
    assert!(!take_tick(&mut machine.apics[0]));
    machine.run_ns(100_000);
    assert!(take_tick(&mut machine.apics[0]), "at 12 ms");
    // A timer that was set anew owes nothing of before.
    machine.clock.advance_ns(10_000_000);
    machine.run_ns(0);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1_000_000);
    machine.run_ns(900_000);
    assert!(!take_tick(&mut machine.apics[0]));
}

#[test]
fn ticks_of_a_fast_timer_follow_at_once() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x20040);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 20_000);
    let mut taken = 0;
    for _ in 0..1000 {
        machine.run_ns(100_000);
        while take_tick(&mut machine.apics[0]) {
            taken += 1;
            assert!(!take_tick(&mut machine.apics[0]), "the handler ends first");
            if machine.apics[0].timer().follows_at_once() {
                machine.apics[0].timer().follow();
            }
        }
    }
    assert!((4_950..=5_000).contains(&taken), "{taken}");
}

#[test]
fn unmasking_does_not_bring_back_what_expired_under_the_mask() {
    for by_processor in [false, true] {
        let mut machine = Machine::enabled(1);
        write(&mut machine.apics[0], register::LVT_TIMER, 0x10040);
        write(&mut machine.apics[0], register::DIVIDE, 0xb);
        write(&mut machine.apics[0], register::INITIAL_COUNT, 1000);
        machine.run_ns(2000);
        if by_processor {
            machine.apics[0].page().set(register::LVT_TIMER, 0x40);
            machine.apics[0].written(u16::from(register::LVT_TIMER) << 4);
        } else {
            write(&mut machine.apics[0], register::LVT_TIMER, 0x40);
        }
        machine.run_ns(2000);
        assert_eq!(machine.pending(), [None], "by the processor: {by_processor}");
    }
}

#[test]
fn dividing_differently_keeps_the_count() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x40);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1000);
    machine.run_ns(400);
    write(&mut machine.apics[0], register::DIVIDE, 0xa); // by 128
    assert_eq!(read(&mut machine.apics[0], register::CURRENT_COUNT), 600);
    machine.run_ns(599 * 128);
    assert_eq!(machine.pending(), [None]);
    machine.run_ns(128);
    assert_eq!(machine.pending(), [Some(0x40)]);
}

#[test]
fn tsc_deadline_mode() {
    let mut machine = Machine::enabled(1);
    machine.apics[0].set_tsc_deadline(Some(GuestTime::from_ns(500)), 12345);
    assert_eq!(machine.apics[0].tsc_deadline(), 0, "ignored outside its mode");
    write(&mut machine.apics[0], register::LVT_TIMER, 0x40041);
    assert!(machine.apics[0].in_tsc_deadline_mode());
    machine.apics[0].set_tsc_deadline(Some(GuestTime::from_ns(500)), 12345);
    assert_eq!(machine.apics[0].tsc_deadline(), 12345);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 7);
    assert_eq!(read(&mut machine.apics[0], register::CURRENT_COUNT), 0);
    machine.run_ns(499);
    assert_eq!(machine.pending(), [None]);
    machine.run_ns(1);
    assert_eq!(machine.pending(), [Some(0x41)]);
    assert_eq!(machine.apics[0].tsc_deadline(), 0);
    machine.apics[0].set_tsc_deadline(Some(GuestTime::from_ns(900)), 99);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x41);
    assert_eq!(machine.deadlines.earliest(), None, "leaving the mode disarms");
}
