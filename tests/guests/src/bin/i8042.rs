//! The keyboard controller, its keyboard and its mouse (IBM PS/2 technical reference), port 92h,
//! and the ports for diagnostics.

#![no_std]
#![no_main]

use conformance::clock::{self, until};
use conformance::cpu::{inb, outb};
use conformance::pic;
use conformance::report::{check, equal};

conformance::topic!(run);

const DATA: u16 = 0x60;
const COMMAND: u16 = 0x64;

const OUTPUT_FULL: u8 = 1;
const INPUT_FULL: u8 = 2;
const FROM_MOUSE: u8 = 0x20;

const READ_CONFIGURATION: u8 = 0x20;
const WRITE_CONFIGURATION: u8 = 0x60;
const DISABLE_MOUSE: u8 = 0xa7;
const ENABLE_MOUSE: u8 = 0xa8;
const TEST_MOUSE_PORT: u8 = 0xa9;
const SELF_TEST: u8 = 0xaa;
const TEST_KEYBOARD_PORT: u8 = 0xab;
const DISABLE_KEYBOARD: u8 = 0xad;
const ENABLE_KEYBOARD: u8 = 0xae;
const READ_OUTPUT_PORT: u8 = 0xd0;
const LOOP_KEYBOARD: u8 = 0xd2;
const LOOP_MOUSE: u8 = 0xd3;
const TO_MOUSE: u8 = 0xd4;

/// Configuration: interrupts 1 and 12, translation of scan codes.
const INTERRUPTS: u8 = 3;
const TRANSLATION: u8 = 0x40;

const ACKNOWLEDGED: u8 = 0xfa;
const SELF_TEST_PASSED: u8 = 0xaa;

fn run() {
    pic::set_up();
    controller();
    keyboard();
    mouse();
    interrupts();
    outputs();
    diagnostics();
}

fn command(command: u8) {
    until(|| inb(COMMAND) & INPUT_FULL == 0);
    outb(COMMAND, command);
}

fn write(byte: u8) {
    until(|| inb(COMMAND) & INPUT_FULL == 0);
    outb(DATA, byte);
}

/// The next byte, and whether it is the mouse's.
fn next() -> Option<(u8, bool)> {
    until(|| inb(COMMAND) & OUTPUT_FULL != 0).then(|| {
        let from_mouse = inb(COMMAND) & FROM_MOUSE != 0;
        (inb(DATA), from_mouse)
    })
}

fn byte() -> Option<u8> {
    next().map(|(byte, _)| byte)
}

/// Takes whatever is there.
fn flush() {
    for _ in 0..32 {
        clock::wait(clock::HZ / 5000);
        if inb(COMMAND) & OUTPUT_FULL != 0 {
            inb(DATA);
        }
    }
}

fn configure(configuration: u8) {
    command(WRITE_CONFIGURATION);
    write(configuration);
}

fn configuration() -> Option<u8> {
    command(READ_CONFIGURATION);
    byte()
}

fn controller() {
    command(DISABLE_KEYBOARD);
    command(DISABLE_MOUSE);
    flush();
    command(SELF_TEST);
    equal("self-test", byte(), Some(0x55));
    command(TEST_KEYBOARD_PORT);
    equal("keyboard-port-test", byte(), Some(0));
    command(TEST_MOUSE_PORT);
    equal("mouse-port-test", byte(), Some(0));
    configure(0x34);
    equal("configuration-both-disabled", configuration(), Some(0x34));
    command(ENABLE_KEYBOARD);
    equal("configuration-keyboard-enabled", configuration(), Some(0x24));
    command(ENABLE_MOUSE);
    equal("configuration-mouse-enabled", configuration(), Some(0x04));
    configure(TRANSLATION | 0x04);
    equal("configuration-translation", configuration(), Some(TRANSLATION | 0x04));
    command(LOOP_KEYBOARD);
    write(0x5a);
    equal("loop-as-keyboard", next(), Some((0x5a, false)));
    command(LOOP_MOUSE);
    write(0xa5);
    equal("loop-as-mouse", next(), Some((0xa5, true)));
    check("empty-after-it", inb(COMMAND) & OUTPUT_FULL == 0);
}

fn keyboard() {
    configure(0x24);
    write(0xf5);
    equal("keyboard-stops", next(), Some((ACKNOWLEDGED, false)));
    write(0xee);
    equal("echo", byte(), Some(0xee));
    write(0xf2);
    equal(
        "keyboard-identity",
        [byte(), byte(), byte()],
        [Some(ACKNOWLEDGED), Some(0xab), Some(0x83)],
    );
    write(0xed);
    let first = byte();
    write(0x07);
    equal("keyboard-lights", [first, byte()], [Some(ACKNOWLEDGED); 2]);
    write(0xf0);
    let first = byte();
    write(0);
    equal(
        "keyboard-scan-code-set",
        [first, byte(), byte()],
        [Some(ACKNOWLEDGED), Some(ACKNOWLEDGED), Some(2)],
    );
    for (set, name) in [(1, "keyboard-scan-code-set-1"), (3, "keyboard-scan-code-set-3")] {
        let replies = [0xf0, set, 0xf0].map(|written| {
            write(written);
            byte()
        });
        write(0);
        equal(
            name,
            (replies, byte(), byte()),
            ([Some(ACKNOWLEDGED); 3], Some(ACKNOWLEDGED), Some(set)),
        );
    }
    write(0xf3);
    let first = byte();
    write(0x20);
    equal("keyboard-rate", [first, byte()], [Some(ACKNOWLEDGED); 2]);
    write(0xff);
    equal("keyboard-reset", [byte(), byte()], [Some(ACKNOWLEDGED), Some(SELF_TEST_PASSED)]);
    configure(0x24 | TRANSLATION);
    write(0xf2);
    equal(
        "keyboard-identity-translated",
        [byte(), byte(), byte()],
        [Some(ACKNOWLEDGED), Some(0xab), Some(0x41)],
    );
    write(0xf4);
    equal("keyboard-starts", byte(), Some(ACKNOWLEDGED));
}

fn to_mouse(byte: u8) -> Option<(u8, bool)> {
    command(TO_MOUSE);
    write(byte);
    next()
}

fn mouse() {
    const FROM_IT: Option<(u8, bool)> = Some((ACKNOWLEDGED, true));
    configure(0x14);
    equal("mouse-reset", to_mouse(0xff), FROM_IT);
    equal("mouse-after-reset", [next(), next()], [Some((SELF_TEST_PASSED, true)), Some((0, true))]);
    equal("mouse-identity", [to_mouse(0xf2), next()], [FROM_IT, Some((0, true))]);
    equal("mouse-rate", [to_mouse(0xf3), to_mouse(40)], [FROM_IT; 2]);
    equal("mouse-resolution", [to_mouse(0xe8), to_mouse(1)], [FROM_IT; 2]);
    equal("mouse-status", to_mouse(0xe9), FROM_IT);
    equal("mouse-status-bytes", [byte(), byte(), byte()], [Some(0), Some(1), Some(40)]);
    equal("mouse-remote-mode", to_mouse(0xf0), FROM_IT);
    equal("mouse-read", to_mouse(0xeb), FROM_IT);
    equal("mouse-packet-at-rest", [byte(), byte(), byte()], [Some(8), Some(0), Some(0)]);
    equal("mouse-defaults", to_mouse(0xf6), FROM_IT);
}

fn interrupts() {
    let requested = |irq: u8| pic::requested() >> irq & 1 != 0;
    flush();
    configure(INTERRUPTS | 0x04);
    pic::set_up();
    command(LOOP_KEYBOARD);
    write(0x11);
    check("keyboard-is-irq-1", until(|| requested(1)));
    check("keyboard-is-not-irq-12", !requested(12));
    inb(DATA);
    pic::set_up();
    command(LOOP_MOUSE);
    write(0x22);
    check("mouse-is-irq-12", until(|| requested(12)));
    check("mouse-is-not-irq-1", !requested(1));
    inb(DATA);
    pic::set_up();
    configure(0x04);
    command(LOOP_KEYBOARD);
    write(0x33);
    until(|| inb(COMMAND) & OUTPUT_FULL != 0);
    check("no-interrupt-when-not-configured", !requested(1));
    inb(DATA);
}

/// The A20 gate and the reset line: in the controller's output port, and in port 92h.
fn outputs() {
    command(READ_OUTPUT_PORT);
    equal("output-port-a20-on-and-no-reset", byte().map(|port| port & 3), Some(3));
    let port92 = inb(0x92);
    equal("port-92h-a20-on-and-no-reset", port92 & 3, 2);
    outb(0x92, port92 & !3);
    equal("port-92h-a20-off", inb(0x92) & 2, 0);
    outb(0x92, port92);
    // A pulse of no line.
    command(0xff);
    equal("pulse-of-none", configuration(), Some(0x04));
}

fn diagnostics() {
    outb(0x80, 0x5a);
    // A debug port that is there reads as its own number; one that is not floats.
    check("debug-port-e9h", matches!(inb(0xe9), 0xe9 | 0xff));
}
