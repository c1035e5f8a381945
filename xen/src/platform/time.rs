//! Time and timers, and what guests read of them without an exit.

use super::{PvPlatform, PvVcpu, State, watchdog};
use crate::events::VIRQ_TIMER;
use crate::machine::Caller;
use crate::pages;
use crate::time::RunTimes;
use crate::width::Width;
use devices::time::GuestTime;
use zerocopy::IntoBytes;

/// In `vcpu_info`.
const TIME_OFFSET: u64 = 32;
/// A timer that is set for later than this rings sooner: an overflow of the guest's (Xen's
/// `do_set_timer_op`).
const FARTHEST_NS: u64 = 1 << 50;
const SOONER_NS: u64 = 100_000_000;
const NS_PER_S: u64 = 1_000_000_000;

impl PvPlatform {
    /// Writes a virtual CPU's time, if it has a place for it.
    pub(super) fn write_time(&self, state: &mut State, vcpu: usize) {
        let own = &mut state.vcpus[vcpu];
        own.time_version = own.time_version.wrapping_add(2);
        let (version, scale) = (own.time_version, own.scale);
        if let Some(info) = self.vcpu_info(state, vcpu) {
            // Places that are no memory any more are the guest's own fault.
            let time = info.from(TIME_OFFSET);
            let being_written = scale.info(version.wrapping_sub(1));
            let _ = time.write(0, being_written.as_bytes());
            let _ = time.write(0, &version.to_le_bytes());
        }
    }

    /// The bytes of a virtual CPU's time.
    pub fn time_info(&self, vcpu: usize) -> [u8; 32] {
        let state = self.state.lock();
        let own = &state.vcpus[vcpu];
        let mut bytes = [0; 32];
        bytes.copy_from_slice(own.scale.info(own.time_version).as_bytes());
        bytes
    }

    /// The guest has set the time stamp counter of virtual CPU `vcpu`: it was `zero_tsc` at guest
    /// time 0.
    pub fn set_zero_tsc(&self, vcpu: usize, zero_tsc: u64) {
        let mut state = self.state.lock();
        if state.vcpus[vcpu].scale.zero_tsc == zero_tsc {
            return;
        }
        state.vcpus[vcpu].scale.zero_tsc = zero_tsc;
        let is_stable = state.vcpus.iter().all(|other| other.scale.zero_tsc == zero_tsc);
        for vcpu in 0..state.vcpus.len() {
            state.vcpus[vcpu].scale.stable = is_stable;
            self.write_time(&mut state, vcpu);
        }
    }

    /// Writes UTC at guest time 0 into the shared info.
    pub(super) fn write_wall_clock(&self, state: &mut State) {
        let (start, above) = match state.width {
            Width::Bits32 => (2304, 2340),
            Width::Bits64 => (3072, 3084),
        };
        state.wall_version = state.wall_version.wrapping_add(2);
        let shared_info = state.pages.at(&*self.machine, pages::SHARED_INFO);
        let utc_start_ns = self.identity.utc_start_ns;
        let seconds = utc_start_ns / NS_PER_S;
        let write = |offset, value: u32| {
            let _ = shared_info.write(offset, &value.to_le_bytes());
        };
        write(start, state.wall_version.wrapping_sub(1));
        write(start + 4, seconds as u32);
        write(start + 8, (utc_start_ns % NS_PER_S) as u32);
        write(above, (seconds >> 32) as u32);
        write(start, state.wall_version);
    }

    pub(super) fn arm(&self, state: &State, vcpu: usize) {
        let mut at = state.vcpus[vcpu].next_alarm();
        if vcpu == watchdog::VCPU {
            at = [at, state.watchdogs.due()].into_iter().flatten().min();
        }
        self.machine.set_timer(vcpu, at);
    }

    /// Sets the timer of virtual CPU `vcpu` to a moment of guest time, or off.
    pub fn set_single_shot(&self, vcpu: usize, at_ns: Option<u64>) {
        let now = self.machine.now();
        let at = at_ns.map(|at| match at.saturating_sub(now.as_ns()) {
            FARTHEST_NS.. => now + SOONER_NS,
            _ => GuestTime::from_ns(at),
        });
        let mut state = self.state.lock();
        state.vcpus[vcpu].single_shot = at;
        self.arm(&state, vcpu);
    }

    /// Lets the timer of virtual CPU `vcpu` ring each `period_ns`, or no more.
    pub fn set_periodic(&self, vcpu: usize, period_ns: Option<u64>) {
        let now = self.machine.now();
        let mut state = self.state.lock();
        state.vcpus[vcpu].periodic = period_ns.map(|period_ns| (period_ns, now + period_ns));
        self.arm(&state, vcpu);
    }

    /// The moment has come that [`Machine::set_timer`](crate::machine::Machine::set_timer) was
    /// told.
    pub fn timer_expired(&self, vcpu: usize, now: GuestTime) {
        let mut state = self.state.lock();
        let own = &mut state.vcpus[vcpu];
        let mut rings = false;
        if own.single_shot.is_some_and(|at| at <= now) {
            own.single_shot = None;
            rings = true;
        }
        if let Some((period_ns, at)) = own.periodic
            && at <= now
        {
            let missed = now.since(at) / period_ns.max(1);
            own.periodic = Some((period_ns, at + (missed + 1).saturating_mul(period_ns)));
            rings = true;
        }
        let poll_is_over = own.poll_until.is_some_and(|at| at <= now);
        if poll_is_over {
            own.poll_until = None;
        }
        if vcpu == watchdog::VCPU {
            self.look_at_watchdogs(&mut state, now);
        }
        self.arm(&state, vcpu);
        drop(state);
        if poll_is_over {
            self.machine.look_for_events(vcpu);
        }
        if rings {
            self.with_ports(|ports, words| ports.raise_virq(words, VIRQ_TIMER, vcpu));
        }
    }

    /// Shows the guest the run state of the virtual CPU that calls, if it has asked for that.
    pub fn write_run_state(&self, own: &mut PvVcpu, caller: &mut dyn Caller) {
        self.forget_old_areas(own);
        let Some(linear) = own.run_state_area else { return };
        let (width, marks) = self.run_state_layout();
        let (bytes, length) = own.times.bytes(width, marks);
        let entry = RunTimes::entry_offset(width);
        // An address that leads nowhere now may lead somewhere later.
        if marks {
            let top = linear.wrapping_add(entry + 7);
            let _ = caller.write(top, &bytes[entry as usize + 7..entry as usize + 8]);
        }
        if caller.write(linear, &bytes[..length]).is_ok() && marks {
            let top = linear.wrapping_add(entry + 7);
            let _ = caller.write(top, &[bytes[entry as usize + 7] & 0x7f]);
        }
    }

    /// Shows the guest the time of the virtual CPU that calls, if it has asked for another copy.
    pub fn write_time_area(&self, own: &PvVcpu, caller: &mut dyn Caller) {
        if let Some(linear) = own.time_area {
            let _ = caller.write(linear, &self.time_info(caller.vcpu()));
        }
    }
}
