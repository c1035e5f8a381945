//! Buttons, triggers and the way to shut a guest down.

use super::drivers::with_drivers;
use super::*;
use core::sync::atomic::Ordering;

#[test]
fn a_guest_with_pv_drivers_is_asked_by_them_to_shut_down() {
    let (mut bench, drivers, _) = with_drivers();
    bench.types(SWITCH);
    bench.types(SWITCH);
    answers(&mut bench, "shutdown one");
    assert_eq!(drivers.shut_down.load(Ordering::Relaxed), 1);
}

/// The buttons in the status register of PM1.
fn pm1_status(bench: &Several, index: usize) -> u32 {
    let access = Access { region: 0, offset: 0, size_bytes: 2 };
    bench.guests[index].0.ports.power.pio_read(access).unwrap() & 0x300
}

#[test]
fn buttons_are_pressed_and_signals_sent_as_xl_does() {
    const NO_DRIVER: &str = "Shutting down domain 2\r\n\
        PV control interface not available: external graceful shutdown not possible.\r\n\
        Use \"-F\" to fallback to ACPI power event.\r\n\
        shutdown failed (rc=-10)\r\n";
    const BY_BUTTON: &str = "Shutting down domain 2\r\n\
        PV control interface not available: sending ACPI power button event.\r\n";
    const USAGE: &str = "Usage: trigger DOM TRIGGER [VCPU]\r\n";
    let mut bench = Several::at_prompt(2);
    for (command, answer) in [
        ("trigger two nmi 1", ""),
        ("trigger two nmi 2", "Domain 2:Send trigger 'nmi' failed: Invalid argument\r\n"),
        ("trigger two nmi x", USAGE),
        ("trigger", USAGE),
        ("trigger two s3resume", ""),
        ("trigger two reset", ""),
        ("trigger two off", "Invalid trigger \"off\"\r\n"),
        ("trigger power", "several guests run, say which: one (1), two (2)\r\n"),
        ("trigger three power", "three is an invalid domain identifier (rc=-6)\r\n"),
        ("button-press two reset", "reset is an invalid button identifier\r\n"),
        ("shutdown two", NO_DRIVER),
        ("shutdown -a two", "Usage: shutdown [-F] -a|DOM\r\n"),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
    }
    assert_eq!((pm1_status(&bench, 0), pm1_status(&bench, 1)), (0, 0));
    let has_nmi = |bench: &Several, index: usize| {
        let processors = &bench.guests[index].0.ports.processors;
        [0, 1].map(|vcpu| processors.inbox(vcpu).unwrap().has_pending())
    };
    assert_eq!((has_nmi(&bench, 0), has_nmi(&bench, 1)), ([false; 2], [false, true]));
    assert_eq!((bench.guests[0].1.resets, bench.guests[1].1.resets), (0, 1));
    let warning = "WARNING: \"button-press\" is deprecated. Please use \"trigger\"\r\n";
    assert_eq!(answers(&mut bench, "button-press two sleep"), warning);
    assert_eq!(pm1_status(&bench, 1), 0x200);
    assert_eq!(answers(&mut bench, "shutdown -F two"), BY_BUTTON);
    assert_eq!((pm1_status(&bench, 0), pm1_status(&bench, 1)), (0, 0x300));
    assert_eq!(answers(&mut bench, "shutdown -aF").lines().count(), 4);
    assert_eq!(pm1_status(&bench, 0), 0x100);
    bench.end(1);
    bench.run_ms(2);
    answers(&mut bench, "trigger nmi 1");
    assert_eq!(has_nmi(&bench, 0), [false, true], "the only guest need not be named");
}

#[test]
fn triggers_are_sent_by_the_management_port() {
    let mut bench = Several::new(2);
    let two = |more: Value| {
        let mut params = json!({"guest": 2});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let wrong = bench.call("guest.trigger", two(json!({"trigger": "off"})));
    assert_eq!(wrong, "there is no such trigger");
    let wrong = bench.call("guest.trigger", two(json!({"trigger": "init", "vcpu": 2})));
    assert_eq!(wrong, "Domain 2:Send trigger 'init' failed: Invalid argument");
    let wrong = bench.call("guest.shutdown", two(json!({})));
    assert!(wrong.as_str().unwrap().ends_with("shutdown failed (rc=-10)"), "{wrong}");
    assert_eq!(pm1_status(&bench, 1), 0);
    assert_eq!(bench.call("guest.trigger", two(json!({"trigger": "power"}))), json!({}));
    assert_eq!(bench.call("guest.button_press", two(json!({"button": "sleep"}))), json!({}));
    assert_eq!((pm1_status(&bench, 0), pm1_status(&bench, 1)), (0, 0x300));
    assert_eq!(bench.call("guest.shutdown", json!({"all": true, "fallback": true})), json!({}));
    assert_eq!(pm1_status(&bench, 0), 0x100);
}
