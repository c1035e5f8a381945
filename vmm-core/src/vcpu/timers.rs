//! The timers that a virtual CPU serves with the host's timer: its local APIC's and those of the
//! devices, unless somebody else keeps them.

use super::Vcpu;
use crate::backend::Backend;
use crate::host::timekeeper::Timekeeper;
use crate::host::timers::{TimerQueue, TimerServer};
use alloc::sync::Arc;
use core::fmt;

/// The timers, as the virtual CPU sees them.
pub(super) struct Timers {
    queue: Arc<TimerQueue>,
    /// Its own service to them, unless a keeper does it.
    server: Option<TimerServer>,
    /// The keeper of the timers, if it is another CPU.
    keeper: Option<&'static Timekeeper>,
    /// The moment that the host's timer is set to; `u64::MAX` if it is not.
    armed_tsc: u64,
    /// When the CPU has other work to do.
    others_due_tsc: u64,
    /// A guest that runs is not held up for the consoles before.
    attend_from_tsc: u64,
}

/// A guest that is interrupted more often than this is not held up for the consoles each time.
const MIN_ATTENDANCE_US: u64 = 1_000;

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers")
            .field("queue", &self.queue)
            .field("armed_tsc", &self.armed_tsc)
            .finish_non_exhaustive()
    }
}

impl Timers {
    /// The timers of `queue`; `keeper` keeps them, if there is one.
    pub(super) fn new(queue: Arc<TimerQueue>, keeper: Option<&'static Timekeeper>) -> Self {
        Self {
            server: keeper.is_none().then(|| TimerServer::new(queue.clone())),
            queue,
            keeper,
            armed_tsc: u64::MAX,
            others_due_tsc: u64::MAX,
            attend_from_tsc: 0,
        }
    }

    /// The deadlines.
    #[cfg(test)]
    pub(super) const fn queue(&self) -> &Arc<TimerQueue> {
        &self.queue
    }

    /// True if a deadline changed since the last call.
    #[inline]
    pub(super) fn take_changed(&self) -> bool {
        self.queue.take_changed()
    }

    /// The guest runs on this CPU from now on, whose timer may be set to anything.
    pub(super) fn begin(&mut self) {
        self.armed_tsc = u64::MAX;
        self.others_due_tsc = u64::MAX;
        if let Some(keeper) = self.keeper {
            keeper.keep(&self.queue);
        }
    }

    /// The guest runs no more: none of its timers rings after this.
    pub(super) fn end(&self) {
        if let Some(keeper) = self.keeper {
            keeper.release(&self.queue);
        }
    }
}

impl<B: Backend> Vcpu<B> {
    /// Sets the host's timer to the earliest deadline. One that is already set to an earlier moment
    /// stays: its interrupt is early by a little.
    #[inline(never)]
    pub(super) fn arm_host_timer(&mut self) {
        if let Some(keeper) = self.timers.keeper {
            keeper.notice(&self.timers.queue);
        }
        let due_tsc = self.timers.server.as_ref().map_or(u64::MAX, TimerServer::due_tsc);
        self.set_host_timer(due_tsc.min(self.timers.others_due_tsc));
    }

    /// The CPU has other work to do at `tsc`, and the consoles at `attend_tsc`, and none before.
    pub(super) fn set_others_due(&mut self, tsc: u64, attend_tsc: u64) {
        self.timers.others_due_tsc = tsc.min(attend_tsc.max(self.timers.attend_from_tsc));
        self.set_host_timer(self.timers.others_due_tsc);
    }

    /// Others have to wait until they are asked again: their time, which may have come, interrupts
    /// the guest no more.
    pub(super) fn put_off_others(&mut self) {
        self.timers.others_due_tsc = u64::MAX;
    }

    fn set_host_timer(&mut self, deadline_tsc: u64) {
        if deadline_tsc < self.timers.armed_tsc {
            self.timers.armed_tsc = deadline_tsc;
            self.platform.set_timer(deadline_tsc);
        }
    }

    /// The moment that the host's timer is set to has come. Its interrupt is pending or on its way:
    /// to serve it with the exit that the guest made anyway saves another one, and no interrupt
    /// that is late can hold a deadline back.
    #[inline]
    pub(super) fn is_host_timer_due(&self) -> bool {
        B::tsc(self.platform) >= self.timers.armed_tsc
    }

    /// Sets the host's timer to `tsc`, or to the earliest deadline if that is earlier.
    pub(super) fn set_host_timer_by(&mut self, tsc: u64) {
        self.arm_host_timer();
        self.set_host_timer(tsc);
    }

    /// True if the consoles are to be attended to while the guest runs. If they were a moment ago,
    /// the host's timer is set to the time from which they will be.
    pub(super) fn is_attendance_due(&mut self) -> bool {
        let now_tsc = B::tsc(self.platform);
        let from_tsc = self.timers.attend_from_tsc;
        if now_tsc < from_tsc {
            self.set_host_timer(from_tsc);
            return false;
        }
        let spacing_ticks = self.platform.tsc_hz() / 1_000_000 * MIN_ATTENDANCE_US;
        self.timers.attend_from_tsc = now_tsc.saturating_add(spacing_ticks);
        true
    }

    /// A physical interrupt ended the guest's run or the sleep, or is about to: lets it be handled,
    /// and tells whose time has come.
    pub(super) fn after_host_interrupt(&mut self) {
        self.platform.handle_interrupts();
        // It may have been the timer's, even if it came a little early: either way it is set anew.
        self.timers.armed_tsc = u64::MAX;
        if let Some(server) = &mut self.timers.server {
            server.serve(self.platform.tsc());
        }
        self.reopen_tick_gate();
        self.await_ends_of_ticks();
        // Timers that have just rung set their next deadline: the turn that follows need not look.
        self.timers.take_changed();
        self.arm_host_timer();
    }
}
