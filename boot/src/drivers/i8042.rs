//! The machine's keyboard controller: keyboard (scan code set 1 by translation) and PS/2 mouse with
//! wheel.

use super::mouse::Packet;
use super::ring::ByteRing;
use crate::cpu::tsc;
use control::host::InputEvent;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;
use x86::io::{inb, outb};

const DATA: u16 = 0x60;
const STATUS: u16 = 0x64;
const COMMAND: u16 = 0x64;

const OUTPUT_FULL: u8 = 1 << 0;
const INPUT_FULL: u8 = 1 << 1;
const FROM_MOUSE: u8 = 1 << 5;

const READ_CONFIGURATION: u8 = 0x20;
const WRITE_CONFIGURATION: u8 = 0x60;
const DISABLE_MOUSE: u8 = 0xa7;
const ENABLE_MOUSE: u8 = 0xa8;
const DISABLE_KEYBOARD: u8 = 0xad;
const ENABLE_KEYBOARD: u8 = 0xae;
const TO_MOUSE: u8 = 0xd4;

const CONFIGURATION_KEYBOARD_INTERRUPT: u8 = 1 << 0;
const CONFIGURATION_MOUSE_INTERRUPT: u8 = 1 << 1;
const CONFIGURATION_KEYBOARD_OFF: u8 = 1 << 4;
const CONFIGURATION_MOUSE_OFF: u8 = 1 << 5;
const CONFIGURATION_TRANSLATE: u8 = 1 << 6;

const ACKNOWLEDGE: u8 = 0xfa;
const SET_RATE: u8 = 0xf3;
const GET_ID: u8 = 0xf2;
const ENABLE_REPORTS: u8 = 0xf4;
const SET_DEFAULTS: u8 = 0xf6;
const WHEEL_ID: u8 = 3;

/// ISA interrupt of the keyboard.
pub const KEYBOARD_IRQ: u8 = 1;
/// ISA interrupt of the mouse.
pub const MOUSE_IRQ: u8 = 12;

/// How long one answer may take.
const ANSWER_MS: u64 = 25;
/// Bytes handled in one interrupt.
const INTERRUPT_LIMIT: usize = 32;

static KEYBOARD: ByteRing<256> = ByteRing::new();
static MOUSE: ByteRing<1024> = ByteRing::new();
static WHEEL: AtomicBool = AtomicBool::new(false);
static PACKET: Mutex<Packet> = Mutex::new(Packet::new());

fn status() -> u8 {
    // SAFETY: reading the status has no side effect.
    unsafe { inb(STATUS) }
}

fn wait(mut done: impl FnMut() -> bool) -> Option<()> {
    let end = tsc::read().saturating_add(tsc::hz() / 1000 * ANSWER_MS);
    while !done() {
        if tsc::read() > end {
            return None;
        }
        core::hint::spin_loop();
    }
    Some(())
}

fn send(port: u16, byte: u8) -> Option<()> {
    wait(|| status() & INPUT_FULL == 0)?;
    // SAFETY: the controller is ready for the byte.
    unsafe { outb(port, byte) };
    Some(())
}

fn receive() -> Option<u8> {
    wait(|| status() & OUTPUT_FULL != 0)?;
    // SAFETY: a byte is there, and no interrupt handler takes it: interrupts are off.
    Some(unsafe { inb(DATA) })
}

fn flush() {
    for _ in 0..INTERRUPT_LIMIT {
        if status() & OUTPUT_FULL == 0 {
            return;
        }
        // SAFETY: throws away what nobody waits for.
        unsafe { inb(DATA) };
    }
}

fn mouse_command(byte: u8) -> Option<()> {
    send(COMMAND, TO_MOUSE)?;
    send(DATA, byte)?;
    (receive()? == ACKNOWLEDGE).then_some(())
}

/// Sets the mouse up to report movements; returns whether it has a wheel.
fn init_mouse() -> Option<bool> {
    mouse_command(SET_DEFAULTS)?;
    // These three rates in a row turn a wheel mouse's wheel on.
    for rate in [200, 100, 80] {
        mouse_command(SET_RATE)?;
        mouse_command(rate)?;
    }
    mouse_command(GET_ID)?;
    let wheel = receive()? == WHEEL_ID;
    mouse_command(ENABLE_REPORTS)?;
    Some(wheel)
}

/// Sets controller and mouse up; the text says what was found.
pub fn init() -> &'static str {
    if status() == 0xff {
        return "no PS/2 controller";
    }
    try_init().unwrap_or("the PS/2 controller does not answer")
}

fn try_init() -> Option<&'static str> {
    send(COMMAND, DISABLE_KEYBOARD)?;
    send(COMMAND, DISABLE_MOUSE)?;
    flush();
    send(COMMAND, READ_CONFIGURATION)?;
    let mut configuration = receive()?;
    configuration |=
        CONFIGURATION_KEYBOARD_INTERRUPT | CONFIGURATION_MOUSE_INTERRUPT | CONFIGURATION_TRANSLATE;
    configuration &= !(CONFIGURATION_KEYBOARD_OFF | CONFIGURATION_MOUSE_OFF);
    send(COMMAND, ENABLE_KEYBOARD)?;
    // The keyboard may not have been used by the firmware. One that is absent does not answer.
    send(DATA, ENABLE_REPORTS)?;
    let keyboard = receive() == Some(ACKNOWLEDGE);
    send(COMMAND, ENABLE_MOUSE)?;
    let mouse = init_mouse();
    WHEEL.store(mouse == Some(true), Ordering::Relaxed);
    flush();
    send(COMMAND, WRITE_CONFIGURATION)?;
    send(DATA, configuration)?;
    Some(match (keyboard, mouse) {
        (true, Some(true)) => "PS/2 keyboard and mouse with wheel",
        (true, Some(false)) => "PS/2 keyboard and mouse",
        (true, None) => "PS/2 keyboard, no PS/2 mouse",
        (false, Some(_)) => "no PS/2 keyboard, PS/2 mouse",
        (false, None) => "no PS/2 keyboard or mouse",
    })
}

/// The keyboard's and the mouse's interrupt.
pub fn interrupt() {
    for _ in 0..INTERRUPT_LIMIT {
        let status = status();
        if status & OUTPUT_FULL == 0 {
            return;
        }
        // SAFETY: a byte is there; only interrupts, which do not nest, take bytes after `init`.
        let byte = unsafe { inb(DATA) };
        // Bytes without room are lost.
        if status & FROM_MOUSE != 0 {
            MOUSE.push(byte);
        } else {
            KEYBOARD.push(byte);
        }
    }
}

/// Takes one event.
pub fn take_event() -> Option<InputEvent> {
    if let Some(byte) = KEYBOARD.pop() {
        return Some(InputEvent::KeyboardByte(byte));
    }
    let mut packet = PACKET.lock();
    while let Some(byte) = MOUSE.pop() {
        if let Some(movement) = packet.add(byte, WHEEL.load(Ordering::Relaxed)) {
            let super::mouse::Movement { dx, dy, dz, buttons } = movement;
            return Some(InputEvent::Mouse { dx, dy, dz, buttons });
        }
    }
    None
}
