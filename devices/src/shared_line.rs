//! One interrupt input shared by several drivers: high while any of them is.

use crate::irq::{IrqLine, LineTarget};
use alloc::sync::Arc;
use spin::Mutex;

/// A wired OR of up to 64 sources.
#[derive(Debug)]
pub struct SharedLine {
    /// A bit for each source that is high.
    high_sources: Mutex<u64>,
    output: IrqLine,
}

impl SharedLine {
    /// A junction that drives `output`.
    pub fn new(output: IrqLine) -> Arc<Self> {
        Arc::new(Self { high_sources: Mutex::new(0), output })
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
        *sources = if high { *sources | bit } else { *sources & !bit };
        self.output.set(*sources != 0);
    }

    fn strobe(&self, input: u32) {
        let bit = 1u64.wrapping_shl(input);
        let mut sources = self.high_sources.lock();
        *sources |= bit;
        if *sources == bit {
            self.output.strobe();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::LineProbe;

    #[test]
    fn the_line_is_high_until_the_last_source_lets_go() {
        let (probe, output) = LineProbe::wired();
        let junction = SharedLine::new(output);
        let (sci, disk) = (junction.source(0), junction.source(63));
        sci.set(true);
        disk.set(true);
        sci.set(false);
        assert!(probe.is_high());
        disk.set(false);
        assert!(!probe.is_high());
        assert_eq!(probe.take_edges(), 1);
    }
}
