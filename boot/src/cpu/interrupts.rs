//! The answer to each interrupt vector. All but the CPU's own work is registered by the modules
//! above: handlers do the least, they take bytes into rings and acknowledge.

use super::descriptors::TrapFrame;
use super::{lapic, machine_check, percpu};
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Once;

/// Where the legacy controllers' interrupts would arrive; they are masked, so only spurious ones
/// do.
pub const PIC_VECTORS: u8 = 0x20;
/// COM1, COM2, keyboard and mouse, through the I/O APIC.
pub const COM1_VECTOR: u8 = 0x40;
/// COM2.
pub const COM2_VECTOR: u8 = 0x41;
/// Keyboard.
pub const KEYBOARD_VECTOR: u8 = 0x42;
/// Mouse.
pub const MOUSE_VECTOR: u8 = 0x43;
/// The first of those that [`connect`] hands out.
const FIRST_FREE_VECTOR: u8 = 0x50;
/// The local APIC's timer.
pub const TIMER_VECTOR: u8 = 0xe0;
/// Another CPU's, to end whatever this one does.
pub const KICK_VECTOR: u8 = 0xe1;
/// Another CPU's, to make this one look at the interrupts that were posted to the guest which it
/// runs.
pub const NOTIFICATION_VECTOR: u8 = 0xe2;
/// The local APIC's spurious interrupt: the low four bits must be set.
pub const SPURIOUS_VECTOR: u8 = 0xff;

/// Vectors of devices: [`set_device`].
const DEVICE_VECTORS: usize = 4;
/// Vectors of [`connect`].
const FREE_VECTORS: usize = 32;

/// The answer to exceptions and NMIs, which is the crash report's.
#[derive(Clone, Copy)]
pub struct CrashHandlers {
    /// An exception in the hypervisor itself.
    pub exception: fn(u8, &TrapFrame) -> !,
    /// An NMI, by which a CPU that crashes stops the others.
    pub nmi: fn(&TrapFrame),
}

static CRASH_HANDLERS: Once<CrashHandlers> = Once::new();
static DEVICES: [Once<fn()>; DEVICE_VECTORS] = [const { Once::new() }; DEVICE_VECTORS];
static CONNECTED: [Once<Handler>; FREE_VECTORS] = [const { Once::new() }; FREE_VECTORS];
/// Of those above the first so many are handed out.
static CONNECTED_COUNT: AtomicUsize = AtomicUsize::new(0);

/// A handler that knows whose it is.
pub type Handler = &'static (dyn Fn() + Send + Sync);

/// Registers the answer to exceptions; to be called before there can be one. Only the first call
/// counts.
pub fn set_crash_handlers(handlers: CrashHandlers) {
    CRASH_HANDLERS.call_once(|| handlers);
}

/// Registers the handler of a device's interrupt. Only the first call for a vector counts.
///
/// # Panics
/// If `vector` is not from [`COM1_VECTOR`] to [`MOUSE_VECTOR`].
pub fn set_device(vector: u8, handler: fn()) {
    DEVICES[usize::from(vector - COM1_VECTOR)].call_once(|| handler);
}

/// Hands out a vector that `handler` answers, for good; `None` if all are taken.
pub fn connect(handler: Handler) -> Option<u8> {
    let index = CONNECTED_COUNT.fetch_add(1, Ordering::Relaxed);
    CONNECTED.get(index)?.call_once(|| handler);
    Some(FIRST_FREE_VECTOR + index as u8)
}

/// The hypervisor sets no breakpoints and never single-steps: what comes is a guest's, left behind
/// by an exit (Bochs's SVM does that).
const DEBUG: u8 = 1;
const NMI: u8 = 2;
const MACHINE_CHECK: u8 = 18;

/// Every interrupt and exception comes here.
pub extern "C" fn handle(frame: &mut TrapFrame) {
    match frame.vector as u8 {
        DEBUG => {}
        NMI => CRASH_HANDLERS.get().map_or((), |handlers| (handlers.nmi)(frame)),
        MACHINE_CHECK => machine_check::exception(frame),
        vector @ 0..32 => exception(vector, frame),
        vector => handle_vector(vector),
    }
}

/// An exception that nothing goes on from.
pub fn exception(vector: u8, frame: &TrapFrame) -> ! {
    match CRASH_HANDLERS.get() {
        Some(handlers) => (handlers.exception)(vector, frame),
        None => super::stop(),
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
    let device = || DEVICES.get(usize::from(vector.checked_sub(COM1_VECTOR)?))?.get();
    let connected = || CONNECTED.get(usize::from(vector.checked_sub(FIRST_FREE_VECTOR)?))?.get();
    match (vector, device(), connected()) {
        (TIMER_VECTOR, ..) => lapic::timer_expired(),
        (_, Some(handler), _) => handler(),
        (_, _, Some(handler)) => handler(),
        (_, None, None) => log::warn!("interrupt {vector:#x} that nobody asked for"),
    }
}
