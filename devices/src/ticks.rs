//! Ticks of a periodic timer on their way to a guest that does not always run.
//!
//! The host's timer is late, or not asked for each tick of a fast timer: then ticks are owed.
//! Systems count them, and some wait for a number of them within a time that their processor's
//! clock tells; others look at their count now and then, and want to see each number. So a tick
//! that is owed follows when the guest has taken the one before, and some time after it.

use crate::irq::Ticks;
use crate::time::GuestTime;

/// The least time between two interrupts of the host for one timer. A timer that is faster sends
/// several ticks for each.
pub const MIN_SPACING_NS: u64 = 100_000;
/// The same while the guest is behind with the ticks of the one before: it has no time to lose to
/// interrupts of the host's, and none of its own in which it would miss a tick.
pub const MIN_SPACING_BEHIND_NS: u64 = 4 * MIN_SPACING_NS;
/// Of a timer that is faster than this, several ticks are one.
const MIN_PERIOD_NS: u64 = 10_000;
/// The time whose ticks are owed at the most, so that a guest whose handler takes longer than a
/// period still gets on ...
const DEBT_NS: u64 = 16_000_000;
/// ... but never less than these, of timers so slow that a system waits for a few.
const DEBT_TICKS: u64 = 16;
/// The part of a period by which a tick that is owed keeps away from the one before.
const SHARE: u64 = 16;
/// A tick that is late by less does not mean that the guest stood still.
const STOOD_NS: u64 = 1_000_000;
/// After this time a tick that the guest has not taken is taken for lost: it was sent while its
/// input was masked.
const LOST_NS: u64 = 10_000_000;

/// The ticks of a timer that are owed at the most.
pub(crate) fn most_owed(period_ns: u64) -> u64 {
    (DEBT_NS / period_ns.max(1)).max(DEBT_TICKS)
}

/// The time by which a tick that is owed keeps away from the one before.
pub(crate) fn spacing_ns(period_ns: u64) -> u64 {
    (period_ns / SHARE).max(MIN_SPACING_NS)
}

/// The ticks of one timer: when each is sent.
#[derive(Clone, Debug, Default)]
pub struct TickPacer {
    /// 0: it does not tick.
    period_ns: u64,
    owed: u64,
    /// When the tick was sent that the guest has yet to take. Known only while
    /// [`TickPacer::is_watching`].
    sent: Option<GuestTime>,
    not_before: GuestTime,
    /// The guest stood still when the one that is next was to be sent: it has been put off, once.
    put_off: bool,
}

impl TickPacer {
    /// A timer that does not tick.
    pub const fn new() -> Self {
        Self { period_ns: 0, owed: 0, sent: None, not_before: GuestTime::ZERO, put_off: false }
    }

    /// The time between one tick and the next that is owed; 0 if it is too short for a timer of the
    /// host: then the guest runs at least one instruction of its own between.
    fn spacing_ns(&self) -> u64 {
        if self.period_ns < 2 * MIN_SPACING_NS { 0 } else { spacing_ns(self.period_ns) }
    }

    /// Ticks are owed. Of a timer too fast for the host's, a guest that does not keep up is let off
    /// all of them, so that what its handler interrupts gets on.
    fn owe(&mut self, count: u64) {
        let limit = most_owed(self.period_ns);
        let owed = self.owed.saturating_add(count);
        self.owed = match owed {
            _ if owed <= limit => owed,
            _ if self.spacing_ns() == 0 && self.owed != 0 && count < limit => 0,
            _ => limit,
        };
    }

    /// True if the guest has yet to be sent ticks of a timer too fast for the host's.
    pub fn is_behind(&self) -> bool {
        self.owed != 0 && self.spacing_ns() == 0
    }

    /// Ticks are due. True if one is to be sent now. Those that are due while the guest does not
    /// take one that was sent are none, as at an interrupt controller, unless they are late:
    /// then the guest stood still.
    pub fn tick(&mut self, now: GuestTime, ticks: Ticks) -> bool {
        self.period_ns = ticks.period_ns.max(MIN_PERIOD_NS);
        // No guest takes all of a faster timer's.
        let count = (ticks.count.saturating_mul(ticks.period_ns) / self.period_ns).max(1);
        let spacing_ns = self.spacing_ns();
        let is_late = self.is_late(count, ticks);
        if let Some(sent) = self.sent
            && !is_late
            && now.since(sent) >= spacing_ns.max(MIN_SPACING_NS)
        {
            if now.since(sent) < LOST_NS {
                return false;
            }
            self.sent = None;
        }
        let is_first = self.owed == 0 && self.sent.is_none();
        if is_first && is_late && spacing_ns != 0 {
            self.not_before = now + spacing_ns;
        }
        self.owe(count);
        if !is_first || now < self.not_before {
            return false;
        }
        self.owed -= 1;
        // Of a slow timer nobody asks when a tick that came in its time is taken.
        self.sent = (spacing_ns == 0).then_some(now);
        true
    }

    /// True if `count` ticks come so late that the guest must have stood still.
    fn is_late(&self, count: u64, ticks: Ticks) -> bool {
        let distance_ns = if self.is_behind() { MIN_SPACING_BEHIND_NS } else { MIN_SPACING_NS };
        let at_once = if self.spacing_ns() == 0 { 2 * distance_ns / self.period_ns + 2 } else { 1 };
        count > at_once || has_stood(ticks.late_ns)
    }

    /// The guest has taken a tick.
    pub fn taken(&mut self, now: GuestTime) {
        if self.sent.take().is_some() {
            self.not_before = now + self.spacing_ns();
        }
    }

    /// True while it has to be told of each tick that the guest takes.
    pub const fn is_watching(&self) -> bool {
        self.owed != 0
            || self.sent.is_some()
            || (self.period_ns != 0 && self.period_ns < 2 * MIN_SPACING_NS)
    }

    /// True if one is owed that follows as soon as the guest has run an instruction of what the
    /// last one interrupted.
    pub fn follows_at_once(&self) -> bool {
        self.is_behind() && self.sent.is_none()
    }

    /// When to call [`TickPacer::send_next`] for one that follows after some time.
    pub fn next(&self) -> Option<GuestTime> {
        (self.owed != 0 && self.spacing_ns() != 0).then(|| {
            self.sent.map_or(self.not_before, |sent| sent + LOST_NS.max(self.spacing_ns()))
        })
    }

    /// True if one that is owed is to be sent now.
    pub fn send_next(&mut self, now: GuestTime) -> bool {
        let is_free = self.sent.is_none_or(|sent| now.since(sent) >= LOST_NS);
        if self.owed == 0 || !is_free || now < self.not_before {
            return false;
        }
        let spacing_ns = self.spacing_ns();
        if spacing_ns != 0
            && self.sent.is_none()
            && has_stood(now.since(self.not_before))
            && !self.put_off
        {
            self.put_off = true;
            self.not_before = now + spacing_ns;
            return false;
        }
        self.put_off = false;
        self.owed -= 1;
        self.sent = Some(now);
        true
    }

    /// The timer was set anew: it owes nothing.
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

/// True if what is late by `late_ns` is so because the guest stood still, and has not looked at the
/// ticks before either.
const fn has_stood(late_ns: u64) -> bool {
    late_ns >= STOOD_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ns: u64) -> GuestTime {
        GuestTime::from_ns(ns)
    }

    fn ticks(count: u64, period_ns: u64, late_ns: u64) -> Ticks {
        Ticks { count, period_ns, late_ns }
    }

    #[test]
    fn a_tick_in_its_time_is_sent_and_nobody_asks_for_more() {
        let mut pacer = TickPacer::new();
        for number in 1..100 {
            assert!(pacer.tick(at(number * 55 * MS), ticks(1, 55 * MS, 10_000)));
            assert!(!pacer.is_watching() && pacer.next().is_none());
        }
    }

    /// The host's timer rings each 100 us for a timer of 10 us, and may be late by as much again:
    /// 22 ticks at once are none for a guest that has not taken the one before, and 23 are owed.
    #[test]
    fn more_ticks_at_once_than_the_hosts_timer_gives_are_late() {
        for (count, is_owed) in [(22, false), (23, true)] {
            let mut pacer = TickPacer::new();
            assert!(pacer.tick(at(0), ticks(1, 10_000, 0)));
            assert!(!pacer.tick(at(220_000), ticks(count, 10_000, 0)));
            assert_eq!(pacer.is_behind(), is_owed, "{count} ticks");
        }
    }

    /// A guest that looks at its count each 3 ms sees each number, though the host stands still now
    /// and then. Only if it does so twice between two looks, or until just after a tick is due,
    /// two can come between.
    #[test]
    fn a_guest_that_looks_between_two_ticks_sees_each() {
        const PERIOD_NS: u64 = 55 * MS;
        const LOOK_NS: u64 = 3 * MS;
        let mut pacer = TickPacer::new();
        let (mut now, mut due, mut seen, mut count, mut missed) = (0, 1, 0, 0, 0);
        let mut random = 1_u64;
        for step in 0..200_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if step % 64 == 0 {
                // It stands still for up to 0.3 s, at any moment.
                now += (random >> 33) % (300 * MS);
            }
            let elapsed = now / PERIOD_NS;
            let mut sent = false;
            if elapsed >= due {
                sent = pacer.tick(at(now), ticks(elapsed + 1 - due, PERIOD_NS, now % PERIOD_NS));
                due = elapsed + 1;
            } else if pacer.next().is_some_and(|next| next <= at(now)) {
                sent = pacer.send_next(at(now));
            }
            if sent {
                pacer.taken(at(now));
                count += 1;
                missed += u64::from(count > seen + 1);
            }
            if step % 6 == 0 {
                seen = count;
            }
            now += LOOK_NS / 6;
        }
        assert!(missed < count / 10_000, "{missed} of {count}");
        assert!(now / PERIOD_NS - count <= DEBT_TICKS, "{count} of {}", now / PERIOD_NS);
    }

    #[test]
    fn what_is_owed_has_a_limit_in_time_and_a_slow_timer_some_ticks() {
        for (period_ns, limit) in [(45_000, 355), (MS, 16), (4 * MS, 16), (55 * MS, 16)] {
            let mut pacer = TickPacer::new();
            let mut now = 0;
            let mut sent = u64::from(pacer.tick(at(now), ticks(1_000_000, period_ns, 0)));
            while pacer.owed != 0 {
                pacer.taken(at(now));
                now += pacer.spacing_ns();
                sent += u64::from(pacer.send_next(at(now)));
            }
            assert_eq!(sent, limit, "{period_ns}");
        }
    }

    #[test]
    fn a_guest_that_does_not_keep_up_is_let_off() {
        let mut pacer = TickPacer::new();
        pacer.tick(at(0), ticks(1, 45_000, 0));
        let mut free = 0;
        for round in 1..10_000 {
            // It takes one where three are due.
            pacer.taken(at(round * 135_000));
            pacer.send_next(at(round * 135_000));
            pacer.tick(at(round * 135_000), ticks(3, 45_000, 0));
            assert!(pacer.owed <= DEBT_NS / 45_000);
            free += u64::from(pacer.owed == 0);
        }
        assert!(free > 10);
    }
}
