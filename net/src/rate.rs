//! How much a port may send in a time: the `rate=` of a network card.

const NS_PER_US: u64 = 1000;

/// A card may always send so much at once that the longest frame is not in its way for ever.
const MIN_BURST_BYTES: u64 = 128 << 10;

/// A limit: so many bytes in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes in an interval.
    pub interval_bytes: u64,
    /// The interval, in microseconds.
    pub interval_us: u32,
}

/// The credit that is left under a [`Rate`], as Xen's netback counts it: at the end of each
/// interval its bytes are added, up to a burst.
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    rate: Rate,
    left_bytes: u64,
    interval_end_ns: u64,
}

impl Credit {
    /// The credit of one interval, which begins now.
    pub const fn new(rate: Rate, now_ns: u64) -> Self {
        let interval_end_ns = now_ns.saturating_add(rate.interval_us as u64 * NS_PER_US);
        Self { rate, left_bytes: rate.interval_bytes, interval_end_ns }
    }

    /// Takes a frame's bytes from the credit; false if it has to wait.
    pub fn take(&mut self, bytes: u64, now_ns: u64) -> bool {
        if bytes > self.left_bytes && now_ns >= self.interval_end_ns {
            let most = self.rate.interval_bytes.max(MIN_BURST_BYTES);
            let left = self.left_bytes.saturating_add(self.rate.interval_bytes).min(most);
            *self = Self { left_bytes: left, ..Self::new(self.rate, now_ns) };
        }
        match self.left_bytes.checked_sub(bytes) {
            Some(left) => {
                self.left_bytes = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 10 Mb/s in intervals of 50 ms.
    const RATE: Rate = Rate { interval_bytes: 62_500, interval_us: 50_000 };
    const INTERVAL_NS: u64 = 50_000_000;

    #[test]
    fn a_frame_waits_for_the_end_of_the_interval() {
        let mut credit = Credit::new(RATE, 7);
        assert!(credit.take(62_000, 7));
        assert!(!credit.take(1500, 8) && !credit.take(501, INTERVAL_NS + 6));
        assert!(credit.take(500, INTERVAL_NS + 6));
        assert!(credit.take(1500, INTERVAL_NS + 7));
        // The next interval ends so much later than the frame that began it.
        assert!(!credit.take(61_500, 2 * INTERVAL_NS + 6));
        assert!(credit.take(61_500, 2 * INTERVAL_NS + 7));
    }

    #[test]
    fn a_frame_longer_than_an_interval_passes_after_some() {
        let rate = Rate { interval_bytes: 1000, interval_us: 1000 };
        let mut credit = Credit::new(rate, 0);
        let ms = (0..).find(|ms| credit.take(65_535, ms * 1_000_000)).unwrap();
        assert_eq!(ms, 65);
    }

    proptest! {
        #[test]
        fn no_more_passes_than_the_rate_and_a_burst(
            frames in prop::collection::vec((14_u64..65_536, 0_u64..200_000_000), 1..200),
        ) {
            let mut credit = Credit::new(RATE, 0);
            let (mut now, mut passed) = (0, 0);
            for (bytes, pause) in frames {
                now += pause;
                if credit.take(bytes, now) {
                    passed += bytes;
                }
                let intervals = now / INTERVAL_NS + 1;
                prop_assert!(passed <= intervals * RATE.interval_bytes + MIN_BURST_BYTES);
            }
        }
    }
}
