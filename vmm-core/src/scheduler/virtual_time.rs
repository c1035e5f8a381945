//! Time as a weight sees it: the measure in which credit is burnt.

/// The weight of a domain that names none, as in Xen.
pub const DEFAULT_WEIGHT: u32 = 256;

/// The largest weight, as in Xen. The smallest is 1.
pub const MAX_WEIGHT: u32 = 65_535;

/// The longest run that is charged as a whole: 2.1 s.
const MAX_RUN_NS: u64 = 1 << 31;

/// Sixteenths of a nanosecond that a unit of the default weight has run; that of twice the weight
/// ages half as fast. The number wraps; two of them compare right if less than half of its range is
/// between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VirtualTime(pub u64);

impl VirtualTime {
    /// A length of virtual time, of nanoseconds at the default weight.
    pub const fn from_ns(ns: i64) -> i64 {
        ns * 16
    }

    /// How far this is behind `other` in time, negative if before it.
    pub fn since(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// A moment later, or earlier.
    pub fn plus(self, length: i64) -> Self {
        Self(self.0.wrapping_add_signed(length))
    }

    /// The later of the two.
    pub fn max(self, other: Self) -> Self {
        if self.since(other) < 0 { other } else { self }
    }

    /// The earlier of the two.
    pub fn min(self, other: Self) -> Self {
        if self.since(other) < 0 { self } else { other }
    }
}

/// How fast a weight burns credit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    weight: u32,
    /// Virtual time of a nanosecond, times 2^20: 256 times 16 times 2^20 by the weight.
    factor: u64,
}

impl Rate {
    /// Of a weight, which is brought into its range.
    pub fn new(weight: u32) -> Self {
        let weight = weight.clamp(1, MAX_WEIGHT);
        Self { weight, factor: (1 << 32) / u64::from(weight) }
    }

    /// The cost of a run in virtual time.
    pub fn burnt(self, run_ns: u64) -> i64 {
        ((run_ns.min(MAX_RUN_NS) * self.factor) >> 20).cast_signed()
    }

    /// How long a unit may run until that much has been burnt: nothing, if it is negative.
    pub fn run_ns(self, length: i64) -> u64 {
        (length.max(0).cast_unsigned().min(1 << 47) * u64::from(self.weight)) >> 12
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_weight_burns_a_nanosecond_each() {
        let rate = Rate::new(DEFAULT_WEIGHT);
        assert_eq!(rate.burnt(1_000), VirtualTime::from_ns(1_000));
        assert_eq!(Rate::new(512).burnt(1_000), VirtualTime::from_ns(500));
        assert_eq!(Rate::new(1).burnt(1_000), VirtualTime::from_ns(256_000));
    }

    #[test]
    fn time_wraps() {
        let late = VirtualTime(u64::MAX - 1);
        let later = late.plus(10);
        assert_eq!((later.since(late), late.since(later)), (10, -10));
        assert_eq!((later.max(late), later.min(late)), (later, late));
    }

    proptest! {
        #[test]
        fn what_is_burnt_lasts_as_long(weight in 1..=MAX_WEIGHT, run_ns in 1_u64..1_000_000_000) {
            let rate = Rate::new(weight);
            let back = rate.run_ns(rate.burnt(run_ns));
            prop_assert!(back <= run_ns);
            // The factor's last place, and one of virtual time.
            prop_assert!(run_ns - back <= run_ns / 60_000 + 17);
        }

        #[test]
        fn no_number_overflows(weight in any::<u32>(), run_ns in any::<u64>(), length: i64) {
            let rate = Rate::new(weight);
            prop_assert!(rate.burnt(run_ns) >= 0);
            rate.run_ns(length);
        }
    }
}
