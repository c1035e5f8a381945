//! Interrupts that arrived, in their order.

use core::arch::asm;

use crate::apic;
use crate::global::Global;
use crate::interrupts::Frame;

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

/// What arrived since the last call.
#[inline(never)]
pub fn take() -> Arrivals {
    let arrivals = ARRIVALS.get();
    ARRIVALS.set(Arrivals::NONE);
    arrivals
}

/// Lets pending interrupts in for a moment, and returns what has arrived since the last [`take`].
#[inline(never)]
pub fn let_in() -> Arrivals {
    // No PAUSE: QEMU prolongs the shadow of STI by it.
    unsafe { asm!("sti", ".rept 8", "nop", ".endr", "cli") };
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
