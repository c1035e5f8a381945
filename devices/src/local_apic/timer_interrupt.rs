//! The local APIC's timer with the interrupt that it raises.
//!
//! Its alarm may ring on another CPU than the one that runs the vCPU: what the two share is behind
//! a lock, and the interrupt goes through the inbox as one from outside does.

use super::inbox::ApicInbox;
use super::spec::{DeliveryMode, FIRST_LEGAL_VECTOR, Lvt};
use super::timer::{Expiries, Timer};
use crate::lock::{Ranked, rank};
use crate::ticks::TickPacer;
use crate::time::{Alarm, Clock, GuestTime, Timed};
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

/// The timer and its entry of the local vector table.
#[derive(Clone, Debug)]
struct State {
    timer: Timer,
    /// The entry as it was last written: what is due was due by this one. A processor that writes
    /// registers by itself has put another into the register page already when it tells of it.
    entry: Lvt,
    /// The periodic mode's ticks.
    ticks: TickPacer,
}

impl State {
    const fn new() -> Self {
        Self { timer: Timer::new(), entry: Lvt::new().with_masked(true), ticks: TickPacer::new() }
    }
}

/// The timer of a local APIC. When its alarm rings, [`Timed::expired`] raises the interrupt.
pub struct TimerInterrupt {
    inbox: Arc<ApicInbox>,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    state: Ranked<State, { rank::TICKS }>,
    /// The pacer's answers, in words that are read at each interrupt.
    is_watching: AtomicBool,
    follows_at_once: AtomicBool,
}

impl TimerInterrupt {
    /// A timer that stands still, its entry masked.
    pub(super) fn new(inbox: Arc<ApicInbox>, clock: Arc<dyn Clock>, alarm: Alarm) -> Arc<Self> {
        Arc::new(Self {
            inbox,
            clock,
            alarm,
            state: Ranked::new(State::new()),
            is_watching: AtomicBool::new(false),
            follows_at_once: AtomicBool::new(false),
        })
    }

    pub(super) fn reset(&self) {
        let mut state = self.state.lock();
        *state = State::new();
        self.arm(&state, GuestTime::ZERO);
    }

    /// Raises the interrupt if it is due.
    fn run(&self, state: &mut State, now: GuestTime) {
        let sends = match state.timer.expire(now) {
            None => false,
            Some(Expiries::One) => true,
            Some(Expiries::Periodic(ticks)) => state.ticks.tick(now, ticks),
        };
        if sends {
            self.raise(state.entry);
        }
    }

    fn raise(&self, entry: Lvt) {
        if entry.masked() {
            return;
        }
        match entry.mode() {
            DeliveryMode::Fixed if entry.vector() < FIRST_LEGAL_VECTOR => {
                self.inbox.post_illegal_vector()
            }
            DeliveryMode::Fixed => self.inbox.post(entry.vector(), false),
            DeliveryMode::Nmi => self.inbox.post_nmi(),
            DeliveryMode::Init => self.inbox.post_init(),
            _ => {}
        }
    }

    fn arm(&self, state: &State, now: GuestTime) {
        // A masked timer counts, but nobody needs to be woken for it.
        let next = if state.entry.masked() { None } else { state.timer.next_deadline(now) };
        self.alarm.set(next.into_iter().chain(state.ticks.next()).min());
        self.follows_at_once.store(state.ticks.follows_at_once(), Ordering::Relaxed);
        let is_watching = state.ticks.is_watching();
        if !self.is_watching.swap(is_watching, Ordering::Relaxed) && is_watching {
            self.inbox.kick();
        }
    }

    /// Changes the timer at the moment `now`, after what is due was raised; returns what it is
    /// then.
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
        state.ticks.clear();
        change(&mut state);
        self.arm(&state, now);
        state.timer.clone()
    }

    /// The current count register.
    pub(super) fn current_count(&self, now: GuestTime) -> u32 {
        self.state.lock().timer.current_count(now)
    }

    /// The guest's last write to IA32_TSC_DEADLINE, 0 once that moment has come.
    pub(super) fn raw_deadline(&self, now: GuestTime) -> u64 {
        let mut state = self.state.lock();
        if state.timer.raw_deadline() != 0 {
            self.run(&mut state, now);
        }
        state.timer.raw_deadline()
    }

    /// The vector of the ticks, while [`TimerInterrupt::taken`] is to be called for it.
    pub fn watched_vector(&self) -> Option<u8> {
        self.is_watching.load(Ordering::Relaxed).then(|| self.state.lock().entry.vector())
    }

    /// True if a tick is owed that follows as soon as the guest has run an instruction of what the
    /// last one interrupted.
    pub fn follows_at_once(&self) -> bool {
        self.follows_at_once.load(Ordering::Relaxed)
    }

    /// The guest took `vector`: if it was a tick and another one is owed, that one may follow.
    #[inline]
    pub fn taken(&self, vector: u8) {
        if self.is_watching.load(Ordering::Relaxed) {
            self.note_taken(vector);
        }
    }

    #[cold]
    fn note_taken(&self, vector: u8) {
        let mut state = self.state.lock();
        if state.entry.vector() == vector {
            let now = self.clock.now();
            state.ticks.taken(now);
            self.arm(&state, now);
        }
    }

    /// The guest has run an instruction of what the last tick interrupted.
    pub fn follow(&self) {
        let mut state = self.state.lock();
        let now = self.clock.now();
        self.send_next(&mut state, now);
        self.arm(&state, now);
    }

    fn send_next(&self, state: &mut State, now: GuestTime) {
        if state.ticks.send_next(now) {
            self.raise(state.entry);
        }
    }
}

impl Timed for TimerInterrupt {
    fn expired(&self, now: GuestTime) {
        let mut state = self.state.lock();
        self.run(&mut state, now);
        self.send_next(&mut state, now);
        self.arm(&state, now);
    }
}

impl fmt::Debug for TimerInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerInterrupt")
            .field("alarm", &self.alarm)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
