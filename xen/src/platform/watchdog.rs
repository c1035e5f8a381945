//! Watchdogs of the guest's: one that is not set anew in time ends it (`SCHEDOP_watchdog`).

use super::{PvPlatform, State};
use crate::errno::Errno;
use crate::machine::ShutdownReason;
use devices::time::GuestTime;

const NS_PER_S: u64 = 1_000_000_000;
/// The virtual CPU by whose timer they are told.
pub(super) const VCPU: usize = 0;

/// The watchdogs (`NR_DOMAIN_WATCHDOG_TIMERS`), and when each ends the guest if it is in use.
#[derive(Default)]
pub(super) struct Watchdogs([Option<GuestTime>; 2]);

impl Watchdogs {
    /// The next moment at which one ends the guest.
    pub fn due(&self) -> Option<GuestTime> {
        self.0.into_iter().flatten().min()
    }

    /// Takes one into use, without an `id`, sets it anew, or with 0 seconds gives it up. Returns
    /// its `id` if it is new, or 0.
    fn set(&mut self, id: u32, timeout_s: u32, now: GuestTime) -> Result<i64, Errno> {
        let due = now + u64::from(timeout_s) * NS_PER_S;
        let Some(index) = id.checked_sub(1) else {
            let free = self.0.iter().position(Option::is_none).ok_or(Errno::NoSpc)?;
            self.0[free] = Some(due);
            return Ok(free as i64 + 1);
        };
        let watchdog = self.0.get_mut(index as usize).ok_or(Errno::Inval)?;
        if watchdog.is_none() {
            return Err(Errno::Inval);
        }
        *watchdog = (timeout_s != 0).then_some(due);
        Ok(0)
    }
}

impl PvPlatform {
    /// Sets a watchdog, or takes one into use if `id` is 0.
    pub(crate) fn set_watchdog(&self, id: u32, timeout_s: u32) -> Result<i64, Errno> {
        let now = self.machine.now();
        let mut state = self.state.lock();
        let result = state.watchdogs.set(id, timeout_s, now)?;
        self.arm(&state, VCPU);
        Ok(result)
    }

    /// Ends the guest if one was not set anew in time.
    pub(super) fn look_at_watchdogs(&self, state: &mut State, now: GuestTime) {
        if state.watchdogs.due().is_some_and(|due| due <= now) {
            state.watchdogs = Watchdogs::default();
            self.machine.shut_down(ShutdownReason::Watchdog);
        }
    }
}
