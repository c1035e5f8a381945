//! Domains: what the units of one guest have in common.

use alloc::vec::Vec;

use super::UnitId;
use super::virtual_time::{DEFAULT_WEIGHT, MAX_WEIGHT};

/// A cap's period, as in Xen: 10 ms.
pub const CAP_PERIOD_NS: u64 = 10_000_000;

/// The least that a unit of a capped domain is let run at a time. The domain may owe as much.
const MIN_GRANT_NS: i64 = 100_000;

/// A guest's share of the machine: xl's `cpu_weight` and `cap`.
///
/// ```
/// use vmm_core::scheduler::DomainParams;
///
/// // Twice the default, and at most one and a half CPUs.
/// let params = DomainParams { weight: 512, cap_percent: 150 };
/// assert_eq!(DomainParams::default(), DomainParams { weight: 256, cap_percent: 0 });
/// # let _ = params;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainParams {
    /// 1 to 65535, each unit's own: one of twice the weight has twice the time of another that
    /// wants as much. A number out of range is brought into it.
    pub weight: u32,
    /// The time that all units together may use, in percent of one CPU. 0: no limit.
    pub cap_percent: u32,
}

impl Default for DomainParams {
    fn default() -> Self {
        Self { weight: DEFAULT_WEIGHT, cap_percent: 0 }
    }
}

/// A domain, and its budget if it is capped.
///
/// Units take what they may run from the pool beforehand, and put back what they have not used; so
/// the pool is never spent twice on two CPUs. Each period adds the cap's time, up to one period's.
#[derive(Debug)]
pub(super) struct Domain {
    pub params: DomainParams,
    pub units: Vec<UnitId>,
    /// Those that wait for budget. Has room for all units.
    pub parked: Vec<UnitId>,
    /// The CPU that looks after the next period while units are parked.
    pub keeper: Option<usize>,
    /// The last unit that goes takes the domain with it.
    pub dying: bool,
    pool_ns: i64,
    /// When the next period begins.
    pub period_end_ns: u64,
}

impl Domain {
    pub fn new(params: DomainParams) -> Self {
        let mut domain = Self {
            params: DomainParams::default(),
            units: Vec::new(),
            parked: Vec::new(),
            keeper: None,
            dying: false,
            pool_ns: 0,
            period_end_ns: 0,
        };
        domain.set_params(params);
        domain
    }

    /// Takes new parameters over; those that were parked have yet to be woken.
    pub fn set_params(&mut self, params: DomainParams) {
        let weight = params.weight.clamp(1, MAX_WEIGHT);
        self.params = DomainParams { weight, ..params };
        self.pool_ns = self.period_budget_ns();
    }

    pub fn is_capped(&self) -> bool {
        self.params.cap_percent != 0
    }

    fn period_budget_ns(&self) -> i64 {
        i64::from(self.params.cap_percent) * (CAP_PERIOD_NS / 100).cast_signed()
    }

    /// Begins the periods that are due.
    pub fn replenish(&mut self, now_ns: u64) {
        if now_ns < self.period_end_ns {
            return;
        }
        let periods = (now_ns - self.period_end_ns) / CAP_PERIOD_NS + 1;
        let budget_ns = self.period_budget_ns();
        let added_ns = budget_ns.saturating_mul(periods.try_into().unwrap_or(i64::MAX));
        self.pool_ns = self.pool_ns.saturating_add(added_ns).min(budget_ns);
        self.period_end_ns += periods * CAP_PERIOD_NS;
    }

    /// Whether a unit would be granted anything.
    pub fn has_budget(&self) -> bool {
        self.pool_ns > 0
    }

    /// Takes from the pool what one unit may run: its part, so that its siblings find some.
    pub fn grant(&mut self) -> Option<i64> {
        self.has_budget().then(|| {
            let part_ns = self.period_budget_ns() / (self.units.len().max(1) as i64);
            let granted_ns = self.pool_ns.min(part_ns.max(1_000_000)).max(MIN_GRANT_NS);
            self.pool_ns -= granted_ns;
            granted_ns
        })
    }

    /// Puts back what is left of a grant, or owed.
    pub fn give_back(&mut self, left_ns: i64) {
        self.pool_ns += left_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capped(cap_percent: u32) -> Domain {
        let mut domain = Domain::new(DomainParams { cap_percent, ..DomainParams::default() });
        domain.replenish(0);
        domain
    }

    #[test]
    fn a_period_s_budget_is_granted_once() {
        let mut domain = capped(35);
        let grants: Vec<_> = core::iter::from_fn(|| domain.grant()).collect();
        assert_eq!(grants, [3_500_000]);
        domain.replenish(9_999_999);
        assert_eq!(domain.grant(), None);
        domain.replenish(10_000_000);
        assert_eq!(domain.grant(), Some(3_500_000));
    }

    #[test]
    fn siblings_find_their_part() {
        let mut domain = capped(200);
        domain.units = (0..4).map(UnitId).collect();
        assert_eq!(core::iter::from_fn(|| domain.grant()).collect::<Vec<_>>(), [5_000_000; 4]);
    }

    #[test]
    fn debts_are_paid_and_savings_lost() {
        let mut domain = capped(10);
        assert_eq!(domain.grant(), Some(1_000_000));
        domain.give_back(-1_500_000);
        domain.replenish(10_000_000);
        assert!(!domain.has_budget());
        domain.replenish(20_000_000);
        assert_eq!(domain.grant(), Some(500_000));
        domain.replenish(1_000_000_000);
        assert_eq!(core::iter::from_fn(|| domain.grant()).sum::<i64>(), 1_000_000);
    }

    #[test]
    fn parameters_are_brought_into_range() {
        let weight = |weight| Domain::new(DomainParams { weight, cap_percent: 0 }).params.weight;
        assert_eq!([0, 1, 65_535, 65_536].map(weight), [1, 1, 65_535, 65_535]);
    }
}
