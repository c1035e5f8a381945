//! Interrupts that arrived, in their order.

use core::arch::asm;

use crate::global::Global;
use crate::interrupts::Frame;
use crate::{apic, clock, pic};

const CAPACITY: usize = 15;

/// Vectors in the order of their arrival; more than fit are counted only.
#[derive(Clone, Copy)]
pub struct Arrivals {
    vectors: [u8; CAPACITY],
    count: u8,
}

impl Arrivals {
    const NONE: Self = Self { vectors: [0; CAPACITY], count: 0 };

    /// The vectors.
    pub fn vectors(&self) -> &[u8] {
        &self.vectors[..usize::from(self.count).min(CAPACITY)]
    }
}

static ARRIVALS: Global<Arrivals> = Global::new(Arrivals::NONE);

/// How many arrived since the last [`take`].
pub fn count() -> u8 {
    ARRIVALS.get().count
}

/// The vectors that arrived since the last call.
#[inline(never)]
pub fn take() -> Arrivals {
    let arrivals = ARRIVALS.get();
    ARRIVALS.set(Arrivals::NONE);
    arrivals
}

/// Lets pending interrupts in for a moment, and returns what has arrived since the last [`take`].
#[inline(never)]
pub fn let_in() -> Arrivals {
    open_for_a_moment();
    take()
}

fn open_for_a_moment() {
    // No PAUSE: QEMU prolongs the shadow of STI by it.
    unsafe { asm!("sti", ".rept 8", "nop", ".endr", "cli") };
}

/// Waits with interrupts on until something arrives, and returns what has arrived since the last
/// [`take`]: nothing, if nothing does in good time.
pub fn wait() -> Arrivals {
    clock::until(|| {
        open_for_a_moment();
        count() != 0
    });
    take()
}

/// A handler that notes the vector and acknowledges nothing.
pub fn note(frame: &mut Frame) {
    let mut arrivals = ARRIVALS.get();
    if let Some(place) = arrivals.vectors.get_mut(usize::from(arrivals.count)) {
        *place = frame.vector as u8;
    }
    arrivals.count = arrivals.count.saturating_add(1);
    ARRIVALS.set(arrivals);
}

/// A handler that notes the vector and ends the interrupt at the local APIC.
pub fn note_and_end(frame: &mut Frame) {
    note(frame);
    apic::end_of_interrupt();
}

/// A handler that notes the vector and ends the interrupt at the 8259 pair.
pub fn note_and_end_irq(frame: &mut Frame) {
    note(frame);
    pic::end_of_interrupt(frame.vector as u8 - pic::FIRST_VECTOR);
}
