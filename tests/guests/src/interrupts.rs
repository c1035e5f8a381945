//! Exceptions and interrupts of 64-bit mode: caught, or handled by the topic.

use core::arch::{asm, global_asm};
use core::fmt;
use core::mem::MaybeUninit;

use crate::descriptors::{self, CODE64, DOUBLE_FAULT_IST, TablePointer};
use crate::global::Global;
use crate::{apic, cpu, report};

/// The vector of an event, and its error code if it has one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub vector: u8,
    /// Zero for those without.
    pub error: u32,
}

/// Divide error.
pub const DE: Event = Event::plain(0);
/// Debug.
pub const DB: Event = Event::plain(1);
/// Non-maskable interrupt.
pub const NMI: Event = Event::plain(2);
/// Breakpoint.
pub const BP: Event = Event::plain(3);
/// Overflow.
pub const OF: Event = Event::plain(4);
/// Bound range exceeded.
pub const BR: Event = Event::plain(5);
/// Invalid opcode.
pub const UD: Event = Event::plain(6);
/// Device not available.
pub const NM: Event = Event::plain(7);
/// Double fault.
pub const DF: Event = Event::plain(8);
/// x87 error.
pub const MF: Event = Event::plain(16);
/// Alignment check.
pub const AC: Event = Event::plain(17);
/// SIMD floating-point.
pub const XM: Event = Event::plain(19);

/// Invalid TSS.
pub const fn ts(error: u32) -> Event {
    Event { vector: 10, error }
}

/// Segment not present.
pub const fn np(error: u32) -> Event {
    Event { vector: 11, error }
}

/// Stack fault.
pub const fn ss(error: u32) -> Event {
    Event { vector: 12, error }
}

/// General protection.
pub const fn gp(error: u32) -> Event {
    Event { vector: 13, error }
}

/// Page fault.
pub const fn pf(error: u32) -> Event {
    Event { vector: 14, error }
}

impl Event {
    /// Without an error code, or with a zero.
    pub const fn plain(vector: u8) -> Self {
        Self { vector, error: 0 }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 22] = [
            "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "#9", "#TS", "#NP",
            "#SS", "#GP", "#PF", "#15", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
        ];
        match NAMES.get(usize::from(self.vector)) {
            Some(name) if matches!(self.vector, 8 | 10..=14 | 17) => {
                write!(formatter, "{name}({:x}h)", self.error)
            }
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "interrupt {:x}h", self.vector),
        }
    }
}

/// An event as it was delivered.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The event.
    pub event: Event,
    /// The address that it would have returned to.
    pub rip: u64,
    /// The code segment interrupted.
    pub cs: u16,
    /// The flags saved.
    pub rflags: u64,
    /// The stack pointer saved.
    pub rsp: u64,
    /// The stack segment saved.
    pub ss: u16,
    /// CR2 after it.
    pub cr2: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {:x}:{:x}", self.event, self.cs, self.rip)?;
        match self.event.vector {
            14 => write!(formatter, " for {:x}", self.cr2),
            _ => Ok(()),
        }
    }
}

/// The interrupted program's registers, on the stack, as a handler sees and may change them.
#[repr(C)]
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// A gate of the interrupt descriptor table (Intel SDM volume 3, section 6.14.1).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    offset_low: u16,
    /// The handler's code segment.
    pub selector: u16,
    /// The interrupt stack table's entry, or 0.
    pub ist: u8,
    /// Type, DPL and P.
    pub access: u8,
    offset_middle: u16,
    offset_high: u32,
    _reserved: u32,
}

const INTERRUPT_GATE: u8 = 0x8e;
const ENTRY_SIZE: u64 = 16;

impl Gate {
    /// With another type, DPL and P.
    pub const fn with_access(self, access: u8) -> Self {
        Self { access, ..self }
    }

    /// With another code segment.
    pub const fn with_selector(self, selector: u16) -> Self {
        Self { selector, ..self }
    }

    const ABSENT: Self = Self {
        offset_low: 0,
        selector: 0,
        ist: 0,
        access: 0,
        offset_middle: 0,
        offset_high: 0,
        _reserved: 0,
    };

    fn to(offset: u64) -> Self {
        Self {
            offset_low: offset as u16,
            selector: CODE64,
            access: INTERRUPT_GATE,
            offset_middle: (offset >> 16) as u16,
            offset_high: (offset >> 32) as u32,
            ..Self::ABSENT
        }
    }
}

static IDT: Global<[Gate; 256]> = Global::new([Gate::ABSENT; 256]);

type Handler = fn(&mut Frame);
static HANDLERS: Global<[Option<Handler>; 256]> = Global::new([None; 256]);

/// The event that [`catch`] caught last.
static CAUGHT: Global<Option<Fault>> = Global::new(None);

/// The stack pointer of the innermost [`catch`]; zero without one.
static CATCH_RSP: Global<u64> = Global::new(0);

pub(crate) fn set_up() {
    for vector in 0..=255 {
        set_gate(
            vector,
            Gate::to(&raw const interrupt_entries as u64 + u64::from(vector) * ENTRY_SIZE),
        );
    }
    set_gate(8, Gate { ist: DOUBLE_FAULT_IST, ..gate(8) });
    descriptors::load_task_state();
    load_table();
}

/// Loads the interrupt descriptor table of 64-bit mode. To be called again after another one was
/// loaded.
pub fn load_table() {
    let pointer =
        TablePointer { limit: (size_of::<[Gate; 256]>() - 1) as u16, base: IDT.address() as u64 };
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer) };
}

/// The gate of `vector`.
pub fn gate(vector: u8) -> Gate {
    unsafe { IDT.address().cast::<Gate>().add(usize::from(vector)).read_volatile() }
}

/// Replaces the gate of `vector`.
pub fn set_gate(vector: u8, gate: Gate) {
    unsafe { IDT.address().cast::<Gate>().add(usize::from(vector)).write_volatile(gate) };
}

/// From now on `handler` runs for `vector`, and what was interrupted goes on after it; with `None`
/// the event is caught or ends the topic, as at first. Interrupts of controllers need their
/// acknowledgement: the handler's business.
pub fn handle(vector: u8, handler: Option<Handler>) {
    unsafe {
        HANDLERS
            .address()
            .cast::<Option<Handler>>()
            .add(usize::from(vector))
            .write_volatile(handler)
    };
}

/// Runs `body`; an event without a handler ends it and is returned. Flags, stack and segment
/// registers are restored, nothing else.
///
/// # Errors
/// The event.
pub fn catch<R>(body: impl FnOnce() -> R) -> Result<R, Fault> {
    struct Call<F, R> {
        body: Option<F>,
        result: MaybeUninit<R>,
    }
    extern "C" fn perform<F: FnOnce() -> R, R>(call: &mut Call<F, R>) {
        if let Some(body) = call.body.take() {
            call.result.write(body());
        }
    }
    fn performer<F: FnOnce() -> R, R>(_: &Call<F, R>) -> extern "C" fn(&mut Call<F, R>) {
        perform::<F, R>
    }
    let mut call = Call { body: Some(body), result: MaybeUninit::uninit() };
    let function = performer(&call) as usize;
    match unsafe { catch_call(function, (&raw mut call).cast()) } {
        0 => Ok(unsafe { call.result.assume_init_read() }),
        _ => Err(CAUGHT.get().unwrap_or_else(|| unreachable!())),
    }
}

extern "C" fn interrupt(frame: &mut Frame) {
    let vector = frame.vector as u8;
    let handler = unsafe {
        HANDLERS.address().cast::<Option<Handler>>().add(usize::from(vector)).read_volatile()
    };
    if let Some(handler) = handler {
        return handler(frame);
    }
    let fault = Fault {
        event: Event { vector, error: frame.error as u32 },
        rip: frame.rip,
        cs: frame.cs as u16,
        rflags: frame.rflags,
        rsp: frame.rsp,
        ss: frame.ss as u16,
        cr2: cpu::cr2(),
    };
    // Only the first processor catches events.
    if CATCH_RSP.get() == 0 || !apic::is_bootstrap_processor() {
        report::fail("unexpected-event", fault);
        report::end();
    }
    CAUGHT.set(Some(fault));
    unsafe { catch_leave() }
}

unsafe extern "C" {
    static interrupt_entries: u8;
    fn catch_call(function: usize, data: *mut u8) -> u64;
    fn catch_leave() -> !;
}

global_asm!(
    include_str!("interrupts.s"),
    interrupt = sym interrupt,
    CATCH_RSP = sym CATCH_RSP,
    DATA = const descriptors::DATA,
);
