//! The local APIC's timer with the interrupt that it raises.
//!
//! Its alarm may ring on another CPU than the one that runs the vCPU: what the two share is behind a lock, and the
//! interrupt goes through the inbox as one from outside does.

use super::inbox::ApicInbox;
use super::spec::{DeliveryMode, FIRST_LEGAL_VECTOR, Lvt};
use super::timer::Timer;
use crate::time::{Alarm, GuestTime, TickDebt, Timed};
use alloc::sync::Arc;
use core::fmt;
use spin::Mutex;

/// The timer and its entry of the local vector table.
#[derive(Clone, Debug)]
struct State {
    timer: Timer,
    /// The entry as it was last written: what is due was due by this one. A processor that writes registers by itself has
    /// put another into the register page already when it tells of it.
    entry: Lvt,
}

impl State {
    const fn new() -> Self {
        Self { timer: Timer::new(), entry: Lvt::new().with_masked(true) }
    }
}

/// The timer of a local APIC. When its alarm rings, [`Timed::expired`] raises the interrupt.
pub struct TimerInterrupt {
    inbox: Arc<ApicInbox>,
    alarm: Alarm,
    state: Mutex<State>,
    /// Ticks that the guest missed.
    debt: TickDebt,
}

impl TimerInterrupt {
    /// A timer that stands still, its entry masked.
    pub(super) fn new(inbox: Arc<ApicInbox>, alarm: Alarm) -> Arc<Self> {
        Arc::new(Self { inbox, alarm, state: Mutex::new(State::new()), debt: TickDebt::new() })
    }

    pub(super) fn reset(&self) {
        let mut state = self.state.lock();
        *state = State::new();
        self.debt.clear();
        self.alarm.set(None);
    }

    /// Raises the interrupt if it is due.
    fn run(&self, state: &mut State, now: GuestTime) {
        let expiries = state.timer.expire(now);
        if expiries != 0 {
            self.debt.add(expiries - 1);
            self.raise(state.entry);
        }
    }

    fn raise(&self, entry: Lvt) {
        if entry.masked() {
            return;
        }
        match entry.mode() {
            DeliveryMode::Fixed if entry.vector() < FIRST_LEGAL_VECTOR => self.inbox.post_illegal_vector(),
            DeliveryMode::Fixed => self.inbox.post(entry.vector(), false),
            DeliveryMode::Nmi => self.inbox.post_nmi(),
            DeliveryMode::Init => self.inbox.post_init(),
            _ => {}
        }
    }

    fn arm(&self, state: &State, now: GuestTime) {
        // A masked timer counts, but nobody needs to be woken for it.
        self.alarm.set(if state.entry.masked() { None } else { state.timer.next_deadline(now) });
    }

    /// Changes the timer at the moment `now`, after what is due was raised; returns what it is then.
    pub(super) fn change(&self, now: GuestTime, change: impl FnOnce(&mut Timer)) -> Timer {
        self.change_state(now, |state| change(&mut state.timer))
    }

    /// The entry has another value: what is due is still raised by the old one.
    pub(super) fn set_entry(&self, now: GuestTime, entry: Lvt) -> Timer {
        self.change_state(now, |state| {
            state.entry = entry;
            state.timer.set_mode(entry.timer_mode(), now);
        })
    }

    fn change_state(&self, now: GuestTime, change: impl FnOnce(&mut State)) -> Timer {
        let mut state = self.state.lock();
        self.run(&mut state, now);
        self.debt.clear();
        change(&mut state);
        self.arm(&state, now);
        state.timer.clone()
    }

    /// The current count register.
    pub(super) fn current_count(&self, now: GuestTime) -> u32 {
        self.state.lock().timer.current_count(now)
    }

    /// What the guest wrote to IA32_TSC_DEADLINE, 0 once that moment has come.
    pub(super) fn raw_deadline(&self, now: GuestTime) -> u64 {
        let mut state = self.state.lock();
        if state.timer.raw_deadline() != 0 {
            self.run(&mut state, now);
        }
        state.timer.raw_deadline()
    }

    /// The vector of ticks of which one is owed.
    pub fn owed_vector(&self) -> Option<u8> {
        self.debt.is_owing().then(|| self.state.lock().entry.vector())
    }

    /// The guest took `vector`: if it was a tick and another one is owed, that one follows.
    #[inline]
    pub fn taken(&self, vector: u8) {
        if self.debt.is_owing() {
            self.pay(vector);
        }
    }

    #[cold]
    fn pay(&self, vector: u8) {
        let state = self.state.lock();
        if state.entry.vector() == vector && self.debt.pay() {
            self.raise(state.entry);
        }
    }
}

impl Timed for TimerInterrupt {
    fn expired(&self, now: GuestTime) {
        let mut state = self.state.lock();
        self.run(&mut state, now);
        self.arm(&state, now);
    }
}

impl fmt::Debug for TimerInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerInterrupt")
            .field("alarm", &self.alarm)
            .field("state", &self.state)
            .field("debt", &self.debt)
            .finish_non_exhaustive()
    }
}
