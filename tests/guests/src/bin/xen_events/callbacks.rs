//! The four ways in which virtual CPUs are told of events.

use core::sync::atomic::{AtomicU32, Ordering};

use conformance::apic::{self, MASKED, io, register};
use conformance::cpu::{cr8, inb, outb, set_cr8};
use conformance::interrupts::{Frame, handle};
use conformance::pci::Function;
use conformance::report::{check, equal};
use conformance::xen::event::{
    bind_ipi, close, has_upcall, send, set_callback, set_masked, set_upcall_vector, take_pending,
    take_upcall,
};
use conformance::xen::{CPUS, PLATFORM_DEVICE};
use conformance::{name, pic, smp};

pub const VECTOR: u8 = 0x51;
const LEVEL: u32 = 1 << 15;
const REMOTE_IRR: u32 = 1 << 14;
/// An input of the I/O APIC that nothing else uses, and one that the 8259 pair has as well.
const GSI: u8 = 20;
const IRQ: u8 = 5;

const TYPE_PCI: u64 = 1 << 56;
const TYPE_VECTOR: u64 = 2 << 56;
const TYPE_UNKNOWN: u64 = 3 << 56;

const INTERRUPT_LINE: u8 = 0x3c;

/// Upcalls told to each virtual CPU.
static TOLD: [AtomicU32; CPUS] = [const { AtomicU32::new(0) }; CPUS];
/// So many times an upcall is told before it is taken.
static KEPT: AtomicU32 = AtomicU32::new(0);
/// The handler found the vector in service at the local APIC.
static IN_SERVICE: AtomicU32 = AtomicU32::new(0);

/// Notes an upcall and takes it; `end` acknowledges the interrupt.
fn upcall(frame: &mut Frame, end: fn()) {
    let index = smp::index();
    TOLD[index].fetch_add(1, Ordering::SeqCst);
    let is_in_service = apic::is_set(register::ISR, frame.vector as u8);
    IN_SERVICE.store(is_in_service.into(), Ordering::SeqCst);
    match KEPT.load(Ordering::SeqCst) {
        0 => {
            take_upcall(index as u32);
            // The line falls when the virtual CPU exits next.
            inb(0x80);
        }
        kept => KEPT.store(kept - 1, Ordering::SeqCst),
    }
    end();
}

fn upcall_at_apic(frame: &mut Frame) {
    upcall(frame, apic::end_of_interrupt);
}

fn upcall_at_pic(frame: &mut Frame) {
    upcall(frame, || pic::end_of_interrupt(IRQ));
}

fn upcall_past_all(frame: &mut Frame) {
    upcall(frame, || {});
}

/// Upcalls told to each virtual CPU since the last call.
fn told() -> [u32; CPUS] {
    for index in 0..CPUS {
        let _ = smp::call(index, |_| smp::let_in(), 0);
    }
    [0, 1].map(|index: usize| TOLD[index].swap(0, Ordering::SeqCst))
}

/// A port of each virtual CPU, unmasked.
fn ports() -> [u32; CPUS] {
    [0, 1].map(|vcpu| {
        let port = bind_ipi(vcpu).unwrap_or(0);
        set_masked(port, false);
        port
    })
}

/// Sends by a port whose event has been taken, and returns which virtual CPUs were told.
fn sent(port: u32) -> [u32; CPUS] {
    take_pending(port);
    let result = send(port);
    assert_eq!(result, 0);
    told()
}

fn end(ports: [u32; CPUS]) {
    for (vcpu, port) in ports.into_iter().enumerate() {
        set_masked(port, true);
        close(port);
        take_upcall(vcpu as u32);
    }
}

/// Lines tell of the first virtual CPU's events.
pub fn lines() {
    let ports = ports();
    handle(VECTOR, Some(upcall_at_apic));
    equal("no-callback", (set_callback(0), sent(ports[0])), (0, [0, 0]));
    take_upcall(0);
    line("gsi", u64::from(GSI), GSI, ports);
    let device = Function::find(PLATFORM_DEVICE);
    check("platform-device", device.is_some());
    if let Some(device) = device {
        let number = u64::from(device.device) << 11;
        line("pci", TYPE_PCI | number, device.read8(INTERRUPT_LINE), ports);
    }
    by_pic(ports);
    // A line that is up when another callback is set falls.
    io::route(GSI, u32::from(VECTOR) | LEVEL | MASKED, 0);
    set_callback(GSI.into());
    take_pending(ports[0]);
    send(ports[0]);
    equal("callback-off", set_callback(TYPE_UNKNOWN), 0);
    io::route(GSI, u32::from(VECTOR) | LEVEL, 0);
    equal("callback-off-is-silent", told(), [0, 0]);
    // One that is set while an upcall is pending tells of it.
    check("upcall-is-pending", has_upcall(0));
    equal("callback-while-pending", (set_callback(GSI.into()), told()), (0, [1, 0]));
    io::write(io::entry(GSI), MASKED);
    set_callback(0);
    end(ports);
}

/// A line that leads to `input` of the I/O APIC.
fn line(case: &str, callback: u64, input: u8, ports: [u32; CPUS]) {
    io::route(input, u32::from(VECTOR) | LEVEL, 0);
    equal(&name!("{case}-callback"), set_callback(callback), 0);
    equal(&name!("{case}-tells"), sent(ports[0]), [1, 0]);
    equal(&name!("{case}-is-in-service"), IN_SERVICE.load(Ordering::SeqCst), 1);
    equal(&name!("{case}-tells-again"), sent(ports[0]), [1, 0]);
    // A level: it comes again while the upcall is pending.
    KEPT.store(3, Ordering::SeqCst);
    equal(&name!("{case}-is-a-level"), sent(ports[0]), [4, 0]);
    equal(&name!("{case}-is-not-the-second's"), sent(ports[1]), [0, 0]);
    take_upcall(1);
    io::write(io::entry(input), MASKED);
    set_callback(0);
}

/// A GSI below 16 is an input of the 8259 pair, too.
fn by_pic(ports: [u32; CPUS]) {
    const LEVELS: u16 = 0x4d0;
    let levels = inb(LEVELS);
    outb(LEVELS, levels | 1 << IRQ);
    handle(pic::FIRST_VECTOR + IRQ, Some(upcall_at_pic));
    pic::set_masks(!(1 << IRQ));
    equal("irq-callback", set_callback(IRQ.into()), 0);
    equal("irq-tells", sent(ports[0]), [1, 0]);
    KEPT.store(1, Ordering::SeqCst);
    equal("irq-is-a-level", sent(ports[0]), [2, 0]);
    pic::set_masks(0xffff);
    outb(LEVELS, levels);
    set_callback(0);
}

/// One vector for all virtual CPUs, past their local APICs.
pub fn past_the_apic() {
    let ports = ports();
    handle(VECTOR, Some(upcall_past_all));
    equal("vector-callback", set_callback(TYPE_VECTOR | u64::from(VECTOR)), 0);
    equal("vector-tells-the-first", sent(ports[0]), [1, 0]);
    equal("vector-is-not-in-service", IN_SERVICE.load(Ordering::SeqCst), 0);
    equal("vector-tells-the-second", sent(ports[1]), [0, 1]);
    KEPT.store(3, Ordering::SeqCst);
    equal("vector-is-a-level", sent(ports[0]), [4, 0]);
    KEPT.store(3, Ordering::SeqCst);
    equal("vector-is-a-level-of-the-second", sent(ports[1]), [0, 4]);
    let priority = cr8();
    set_cr8(15);
    equal("vector-has-no-priority", sent(ports[0])[0], 1);
    set_cr8(priority);
    // It waits for interrupts to be on.
    take_pending(ports[0]);
    send(ports[0]);
    equal("vector-waits", TOLD[0].load(Ordering::SeqCst), 0);
    equal("vector-comes-then", told(), [1, 0]);
    // An upcall that is taken before tells of nothing.
    take_pending(ports[0]);
    send(ports[0]);
    take_upcall(0);
    equal("vector-of-a-taken-upcall", told(), [0, 0]);
    end(ports);
    crate::timers::blocks("vector");
    set_callback(0);
}

/// A vector of each virtual CPU, in its local APIC.
pub fn vectors_of_their_own() {
    let ports = ports();
    handle(VECTOR, Some(upcall_at_apic));
    let set = [0, 1].map(|vcpu| set_upcall_vector(vcpu, VECTOR));
    equal("own-vectors", set, [0, 0]);
    // One upcall may come for what was before.
    let _ = told();
    equal("own-vector-of-the-first", sent(ports[0]), [1, 0]);
    equal("own-vector-is-in-service", IN_SERVICE.load(Ordering::SeqCst), 1);
    equal("own-vector-of-the-second", sent(ports[1]), [0, 1]);
    // An edge: an upcall that stays pending tells nothing more.
    KEPT.store(1, Ordering::SeqCst);
    equal("own-vector-is-an-edge", sent(ports[0]), [1, 0]);
    check("own-vector-stays-pending", has_upcall(0));
    equal("own-vector-while-pending", sent(ports[0]), [0, 0]);
    take_upcall(0);
    equal("own-vector-again", sent(ports[0]), [1, 0]);
    let priority = cr8();
    set_cr8(15);
    take_pending(ports[0]);
    send(ports[0]);
    smp::let_in();
    equal("own-vector-has-a-priority", TOLD[0].load(Ordering::SeqCst), 0);
    set_cr8(priority);
    equal("own-vector-comes-then", told(), [1, 0]);
    // The parameter that says "there are drivers" raises no line, nor is another way taken.
    io::route(1, u32::from(VECTOR) | LEVEL, 0);
    equal("own-vector-and-gsi-1", (set_callback(1), told()), (0, [0, 0]));
    equal("own-vector-before-the-line", sent(ports[0]), [1, 0]);
    check("own-vector-raises-no-line", io::read(io::entry(1)) & REMOTE_IRR == 0);
    io::write(io::entry(1), MASKED);
    end(ports);
    crate::timers::blocks("own-vector");
    // Upcalls that were taken with interrupts off.
    let _ = told();
}
