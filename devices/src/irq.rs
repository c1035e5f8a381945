//! Interrupt wires. A device is handed an [`IrqLine`] and never knows the number at its other end.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

/// Ticks of a timer that are due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    /// How many.
    pub count: u64,
    /// The time from one to the next.
    pub period_ns: u64,
    /// The time since the last of them was due.
    pub late_ns: u64,
}

/// The end of a wire: an interrupt controller's inputs, a splitter, or a test.
pub trait LineTarget: Send + Sync {
    /// The level of input `input` has become `high`. Called on changes only, from any CPU, possibly
    /// while the driving device holds its own lock.
    fn set_line(&self, input: u32, high: bool);

    /// Input `input` falls, if it is high, and rises: one edge, and nobody sees the level between.
    fn strobe(&self, input: u32) {
        self.set_line(input, false);
        self.set_line(input, true);
    }

    /// The periodic timer at input `input` gives ticks: rising edges, after which the level is
    /// high. Most targets take several for one; [`TickPacer`](crate::ticks::TickPacer) is what
    /// becomes of those of the system timer. True if the guest is still behind with fast ticks from
    /// before: the next ones may come later.
    fn tick(&self, input: u32, _ticks: Ticks) -> bool {
        self.strobe(input);
        false
    }

    /// The ticks that input `_input` still owes mean nothing any more: its source was set anew.
    fn forgive(&self, _input: u32) {}
}

/// A wire that a device drives. It remembers its level, so that the target sees changes only.
///
/// ```
/// use devices::irq::LineProbe;
///
/// let (probe, wire) = LineProbe::wired();
/// wire.set(true);
/// wire.set(true);
/// assert!(probe.is_high());
/// assert_eq!(probe.take_edges(), 1);
/// ```
pub struct IrqLine {
    target: Option<Arc<dyn LineTarget>>,
    input: u32,
    high: AtomicBool,
}

impl IrqLine {
    /// A wire to input `input` of `target`, low.
    pub fn new(target: Arc<dyn LineTarget>, input: u32) -> Self {
        Self { target: Some(target), input, high: AtomicBool::new(false) }
    }

    /// A wire that leads nowhere.
    pub fn detached() -> Self {
        Self { target: None, input: 0, high: AtomicBool::new(false) }
    }

    /// Drives the wire to a level.
    pub fn set(&self, high: bool) {
        if self.high.load(Ordering::Relaxed) == high {
            return;
        }
        self.high.store(high, Ordering::Relaxed);
        if let Some(target) = &self.target {
            target.set_line(self.input, high);
        }
    }

    /// A low-high-low pulse: one edge.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }

    /// Falls, if it is high, and rises: one edge.
    pub fn strobe(&self) {
        self.high.store(true, Ordering::Relaxed);
        if let Some(target) = &self.target {
            target.strobe(self.input);
        }
    }

    /// Gives ticks of a periodic timer, and leaves the wire high. As [`LineTarget::tick`].
    pub fn tick(&self, ticks: Ticks) -> bool {
        self.high.store(true, Ordering::Relaxed);
        self.target.as_ref().is_some_and(|target| target.tick(self.input, ticks))
    }

    /// Tells that ticks that were owed are no more.
    pub fn forgive(&self) {
        if let Some(target) = &self.target {
            target.forgive(self.input);
        }
    }

    /// The level last driven.
    pub fn is_high(&self) -> bool {
        self.high.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IrqLine({}, {})", self.input, if self.is_high() { "high" } else { "low" })
    }
}

/// A [`LineTarget`] for tests: counts rising edges and shows the level of one input.
#[derive(Debug, Default)]
pub struct LineProbe {
    high: AtomicBool,
    rising_edges: core::sync::atomic::AtomicU32,
}

impl LineProbe {
    /// A probe and a wire to it.
    pub fn wired() -> (Arc<Self>, IrqLine) {
        let probe = Arc::new(Self::default());
        let line = IrqLine::new(probe.clone(), 0);
        (probe, line)
    }

    /// The level now.
    pub fn is_high(&self) -> bool {
        self.high.load(Ordering::Relaxed)
    }

    /// Rising edges since the last call.
    pub fn take_edges(&self) -> u32 {
        self.rising_edges.swap(0, Ordering::Relaxed)
    }
}

impl LineTarget for LineProbe {
    fn set_line(&self, _input: u32, high: bool) {
        self.high.store(high, Ordering::Relaxed);
        if high {
            self.rising_edges.fetch_add(1, Ordering::Relaxed);
        }
    }
}
