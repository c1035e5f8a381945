//! The timer queue of a virtual CPU: its local APIC's timer and, for the first one, those of the devices.

use super::Vcpu;
use crate::backend::Backend;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use devices::time::{Alarm, Clock, Deadlines, Timed};

const APIC_SLOT: usize = 0;
/// Alarms that one host interrupt serves at the most: a device that keeps asking for the past cannot keep the CPU.
const MAX_EXPIRIES: usize = 64;

/// What the guest runs at the least between two expiries: however many timers it sets however fast, together they cannot
/// take all of its CPU, nor keep the host busy with nothing else.
const MIN_RUN_US: u64 = 20;

/// The deadlines, and whom to tell.
pub struct TimerQueue {
    deadlines: Arc<Deadlines>,
    /// By slot; the local APIC's is empty.
    timed: Vec<Option<Arc<dyn Timed>>>,
    /// What the host's timer is set to; `u64::MAX` if it is not.
    armed_tsc: u64,
    /// The host's timer is set to this moment at the earliest.
    not_before_tsc: u64,
}

impl fmt::Debug for TimerQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerQueue")
            .field("deadlines", &self.deadlines)
            .field("armed_tsc", &self.armed_tsc)
            .finish_non_exhaustive()
    }
}

impl TimerQueue {
    /// A queue for the local APIC and `device_slots` devices.
    pub fn new(device_slots: usize) -> Self {
        let slots = APIC_SLOT + 1 + device_slots;
        Self {
            deadlines: Deadlines::new(slots),
            timed: (0..slots).map(|_| None).collect(),
            armed_tsc: u64::MAX,
            not_before_tsc: 0,
        }
    }

    /// The local APIC's alarm.
    pub fn apic_alarm(&self) -> Alarm {
        self.deadlines.alarm(APIC_SLOT)
    }

    /// The alarm of device slot `slot`.
    pub fn device_alarm(&self, slot: usize) -> Alarm {
        self.deadlines.alarm(APIC_SLOT + 1 + slot)
    }

    /// Names the device of slot `slot`, once it is built.
    pub fn connect(&mut self, slot: usize, device: Arc<dyn Timed>) {
        if let Some(entry) = self.timed.get_mut(APIC_SLOT + 1 + slot) {
            *entry = Some(device);
        }
    }

    /// True if a deadline changed since the last call.
    #[inline]
    pub fn take_changed(&self) -> bool {
        self.deadlines.take_changed()
    }
}

impl<B: Backend> Vcpu<B> {
    /// Sets the host's timer to the earliest deadline. One that is already set to an earlier moment stays: its
    /// interrupt is early by a little.
    pub(super) fn arm_host_timer(&mut self) {
        let Some(earliest) = self.timers.deadlines.earliest() else { return };
        let deadline_tsc = self.vm.clock.tsc_at(earliest).max(self.timers.not_before_tsc);
        if deadline_tsc < self.timers.armed_tsc {
            self.timers.armed_tsc = deadline_tsc;
            self.platform.set_timer(deadline_tsc);
        }
    }

    /// The moment that the host's timer is set to has come. Its interrupt is pending or on its way: to serve it with the
    /// exit that the guest made anyway saves another one, and no interrupt that is late can hold a deadline back.
    #[inline]
    pub(super) fn is_host_timer_due(&self) -> bool {
        self.platform.tsc() >= self.timers.armed_tsc
    }

    /// Sets the host's timer to `tsc`, or to the earliest deadline if that is earlier.
    pub(super) fn set_host_timer_by(&mut self, tsc: u64) {
        self.arm_host_timer();
        if tsc < self.timers.armed_tsc {
            self.timers.armed_tsc = tsc;
            self.platform.set_timer(tsc);
        }
    }

    /// A physical interrupt ended the guest's run or the sleep, or is about to: lets it be handled, and tells whose time
    /// has come.
    pub(super) fn after_host_interrupt(&mut self) {
        self.platform.handle_interrupts();
        // It may have been the timer's, even if it came a little early: either way it is set anew.
        self.timers.armed_tsc = u64::MAX;
        self.run_timers();
    }

    fn run_timers(&mut self) {
        let now = self.vm.clock.now();
        let mut expired = false;
        for _ in 0..MAX_EXPIRIES {
            let Some(slot) = self.timers.deadlines.take_expired(now) else { break };
            expired = true;
            if slot == APIC_SLOT {
                self.apic.timer().expired(now);
            } else if let Some(Some(device)) = self.timers.timed.get(slot) {
                device.expired(now);
            }
        }
        if expired {
            let min_run = self.vm.clock.tsc_hz() / 1_000_000 * MIN_RUN_US;
            self.timers.not_before_tsc = self.platform.tsc().saturating_add(min_run);
        }
        self.arm_host_timer();
    }
}
