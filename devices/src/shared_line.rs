//! One interrupt line shared by several drivers: high while any of them is.

use crate::irq::{IrqLine, LineTarget};
use crate::lock::{Ranked, rank};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

/// A wired OR of up to 64 sources, which leads to one input or more.
///
/// ```
/// use devices::irq::{LineProbe, LineTarget};
/// use devices::shared_line::SharedLine;
/// # use std::sync::Arc;
///
/// let controller = Arc::new(LineProbe::default());
/// let line = SharedLine::new([(controller.clone() as Arc<dyn LineTarget>, 11)]);
/// let (disk, network) = (line.source(0), line.source(1));
/// disk.set(true);
/// network.set(true);
/// disk.set(false);
/// assert!(controller.is_high());
/// network.set(false);
/// assert!(!controller.is_high());
/// ```
pub struct SharedLine {
    /// A bit for each source that is high.
    high_sources: Ranked<u64, { rank::LINE }>,
    /// With the number of the input.
    targets: Box<[(Arc<dyn LineTarget>, u32)]>,
}

impl SharedLine {
    /// A junction that drives an input of each target.
    pub fn new(targets: impl Into<Box<[(Arc<dyn LineTarget>, u32)]>>) -> Arc<Self> {
        Arc::new(Self { high_sources: Ranked::new(0), targets: targets.into() })
    }

    /// The wire of source `number`, below 64; each source has a number of its own.
    pub fn source(self: &Arc<Self>, number: u32) -> IrqLine {
        assert!(number < 64, "no such source: {number}");
        IrqLine::new(self.clone(), number)
    }
}

impl LineTarget for SharedLine {
    fn set_line(&self, input: u32, high: bool) {
        let bit = 1u64.wrapping_shl(input);
        let mut sources = self.high_sources.lock();
        let was_high = *sources != 0;
        *sources = if high { *sources | bit } else { *sources & !bit };
        if was_high != (*sources != 0) {
            for (target, input) in &self.targets {
                target.set_line(*input, !was_high);
            }
        }
    }

    fn strobe(&self, input: u32) {
        let bit = 1u64.wrapping_shl(input);
        let mut sources = self.high_sources.lock();
        *sources |= bit;
        if *sources == bit {
            for (target, input) in &self.targets {
                target.strobe(*input);
            }
        }
    }
}

impl fmt::Debug for SharedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedLine({:#b})", *self.high_sources.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::LineProbe;

    #[test]
    fn the_line_is_high_until_the_last_source_lets_go() {
        let probes = [0, 1].map(|_| Arc::new(LineProbe::default()));
        let junction = SharedLine::new(probes.clone().map(|probe| (probe as _, 0)));
        let (sci, disk) = (junction.source(0), junction.source(63));
        sci.set(true);
        disk.set(true);
        sci.set(false);
        assert!(probes.iter().all(|probe| probe.is_high()));
        disk.set(false);
        assert!(!probes.iter().any(|probe| probe.is_high()));
        assert_eq!(probes.map(|probe| probe.take_edges()), [1, 1]);
    }

    #[test]
    fn an_edge_is_seen_if_no_other_source_holds_the_line() {
        let probe = Arc::new(LineProbe::default());
        let junction = SharedLine::new([(probe.clone() as _, 0)]);
        let (timer, other) = (junction.source(1), junction.source(2));
        timer.strobe();
        assert!(probe.is_high());
        timer.strobe();
        assert_eq!(probe.take_edges(), 2);
        other.set(true);
        timer.strobe();
        assert_eq!(probe.take_edges(), 0);
        other.set(false);
        assert!(probe.is_high(), "the timer leaves it high");
    }
}
