//! What happens at each interrupt vector. Handlers do the least: they take bytes into rings and acknowledge.

use super::descriptors::TrapFrame;
use super::{lapic, machine_check, percpu};
use crate::drivers::{i8042, serial};
use crate::panic;
use core::sync::atomic::Ordering;

/// Where the legacy controllers' interrupts would arrive; they are masked, so only spurious ones do.
pub const PIC_VECTORS: u8 = 0x20;
/// COM1, COM2, keyboard and mouse, through the I/O APIC.
pub const COM1_VECTOR: u8 = 0x40;
/// COM2.
pub const COM2_VECTOR: u8 = 0x41;
/// Keyboard.
pub const KEYBOARD_VECTOR: u8 = 0x42;
/// Mouse.
pub const MOUSE_VECTOR: u8 = 0x43;
/// The local APIC's timer.
pub const TIMER_VECTOR: u8 = 0xe0;
/// Another CPU's, to end whatever this one does.
pub const KICK_VECTOR: u8 = 0xe1;
/// Another CPU's, to make this one look at the interrupts that were posted to the guest which it runs.
pub const NOTIFICATION_VECTOR: u8 = 0xe2;
/// The local APIC's spurious interrupt: the low four bits must be set.
pub const SPURIOUS_VECTOR: u8 = 0xff;

/// The hypervisor sets no breakpoints and never single-steps: what comes is a guest's, left behind by an exit (Bochs's SVM does that).
const DEBUG: u8 = 1;
const NMI: u8 = 2;
const MACHINE_CHECK: u8 = 18;

/// Every interrupt and exception comes here.
pub extern "C" fn handle(frame: &mut TrapFrame) {
    match frame.vector as u8 {
        DEBUG => {}
        NMI => panic::stop_if_another_crashes(),
        MACHINE_CHECK => machine_check::exception(frame),
        vector @ 0..32 => panic::exception(vector, frame),
        vector => handle_vector(vector),
    }
}

/// An interrupt, which may have ended a guest's run and been acknowledged by that.
pub fn handle_vector(vector: u8) {
    match vector {
        // That this CPU is interrupted is all there is to it.
        KICK_VECTOR | NOTIFICATION_VECTOR => lapic::end_of_interrupt(),
        SPURIOUS_VECTOR | PIC_VECTORS..0x30 => {}
        _ => {
            work(vector);
            percpu::current().work.fetch_add(1, Ordering::Relaxed);
            lapic::end_of_interrupt();
        }
    }
}

fn work(vector: u8) {
    match vector {
        TIMER_VECTOR => lapic::timer_expired(),
        COM1_VECTOR => serial::COM1.interrupt(),
        COM2_VECTOR => serial::COM2.interrupt(),
        KEYBOARD_VECTOR | MOUSE_VECTOR => i8042::interrupt(),
        _ => log::warn!("interrupt {vector:#x} that nobody asked for"),
    }
}
