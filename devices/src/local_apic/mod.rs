//! The local APIC of a vCPU, in xAPIC and x2APIC mode.
//!
//! The vCPU owns its [`LocalApic`] and calls it without locks. All others (devices, other vCPUs) reach it only
//! through its [`ApicInbox`], which [`ApicBus`] finds by destination. The interrupt request register lives in the
//! inbox; the in-service register and everything else live here.
//!
//! The timer counts at 1 GHz (see [`spec::TIMER_HZ`]).

mod bus;
mod inbox;
mod registers;
pub mod spec;
mod timer;
mod vectors;

#[cfg(test)]
mod tests;

pub use bus::{ApicBus, Destination, EoiListener, Message};
pub use inbox::{ApicInbox, Kick, Routing};
pub use registers::GpFault;
pub use timer::MIN_PERIOD_NS;

use crate::time::{Alarm, Clock, GuestTime};
use alloc::sync::Arc;
use core::fmt;
use spec::{ApicBase, DeliveryMode, Esr, FIRST_LEGAL_VECTOR, Icr, Lvt, LvtEntry, Svr, TimerMode};
use timer::Timer;
use vectors::VectorSet;

/// A local interrupt pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LintPin {
    /// LINT0: the 8259 pair's INTR.
    Lint0,
    /// LINT1: NMI.
    Lint1,
}

/// Volatile state.
#[derive(Clone, Debug)]
struct State {
    base: ApicBase,
    /// The physical ID: fixed in x2APIC mode, writable in xAPIC mode.
    id: u32,
    tpr: u8,
    /// Processor priority, kept up to date with `tpr` and `isr`.
    ppr: u8,
    isr: VectorSet,
    ldr: u8,
    dfr: u32,
    svr: Svr,
    icr: Icr,
    lvt: [Lvt; 6],
    timer: Timer,
    /// Errors since the last write to the error status register, and what that write made readable.
    errors: Esr,
    esr: Esr,
    /// Levels of LINT0 and LINT1.
    lint_high: [bool; 2],
}

impl State {
    fn new(id: u32, base: ApicBase) -> Self {
        Self {
            base,
            id,
            tpr: 0,
            ppr: 0,
            isr: VectorSet::default(),
            ldr: 0,
            dfr: u32::MAX,
            svr: Svr::new().with_vector(0xff),
            icr: Icr::new(),
            lvt: [Lvt::new().with_masked(true); 6],
            timer: Timer::new(),
            errors: Esr::new(),
            esr: Esr::new(),
            lint_high: [false; 2],
        }
    }

    fn lvt(&self, entry: LvtEntry) -> Lvt {
        self.lvt[entry as usize]
    }
}

/// The local APIC of one vCPU.
pub struct LocalApic {
    // Configuration.
    initial_id: u32,
    // Wiring.
    inbox: Arc<ApicInbox>,
    bus: Arc<ApicBus>,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    // Volatile state.
    state: State,
}

impl fmt::Debug for LocalApic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalApic")
            .field("inbox", &self.inbox)
            .field("alarm", &self.alarm)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl LocalApic {
    /// The local APIC with ID `apic_id`, after power-on. ID 0 is the bootstrap processor's.
    ///
    /// `inbox` must be the one that `bus` holds for this vCPU; `alarm` rings for [`LocalApic::timer_expired`].
    pub fn new(
        apic_id: u32,
        inbox: Arc<ApicInbox>,
        bus: Arc<ApicBus>,
        clock: Arc<dyn Clock>,
        alarm: Alarm,
    ) -> Self {
        let base = ApicBase::new()
            .with_bootstrap(apic_id == 0)
            .with_enabled(true)
            .with_page(spec::DEFAULT_BASE >> 12);
        let apic = Self { initial_id: apic_id, inbox, bus, clock, alarm, state: State::new(apic_id, base) };
        apic.publish();
        apic
    }

    /// Power-on or hard reset: xAPIC mode at the default address, nothing pending.
    pub fn reset(&mut self) {
        self.inbox.clear_events();
        self.start_over(
            ApicBase::new()
                .with_bootstrap(self.state.base.bootstrap())
                .with_enabled(true)
                .with_page(spec::DEFAULT_BASE >> 12),
            self.initial_id,
        );
    }

    /// INIT: as after reset, but IA32_APIC_BASE and the ID stay (SDM 11.4.7.3). NMI, INIT and start-up messages
    /// that wait are not touched.
    pub fn init(&mut self) {
        self.start_over(self.state.base, self.state.id);
    }

    fn start_over(&mut self, base: ApicBase, id: u32) {
        let lint_high = self.state.lint_high;
        self.state = State { lint_high, ..State::new(id, base) };
        self.alarm.set(None);
        self.publish();
        self.inbox.clear_vectors();
    }

    /// Tells the others what they must know to address this APIC.
    fn publish(&self) {
        let state = &self.state;
        self.inbox.publish(
            Routing::new()
                .with_id(state.id)
                .with_logical_id(state.ldr)
                .with_cluster(state.dfr >> 28 != 0xf)
                .with_x2apic(state.base.x2apic())
                .with_enabled(state.base.enabled())
                .with_software_enabled(state.svr.enabled()),
        );
    }

    /// The inbox, for those who need to post to this vCPU directly.
    pub fn inbox(&self) -> &Arc<ApicInbox> {
        &self.inbox
    }

    // Interrupts, as the vCPU sees them.

    /// True if anything at all waits in the inbox, masked by priority or not. One load.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.inbox.has_pending()
    }

    /// The vector to inject next: the highest requested one, if its class is above the processor priority.
    #[inline]
    pub fn highest_pending(&mut self) -> Option<u8> {
        if !self.inbox.has_pending() {
            return None;
        }
        self.highest_requested().filter(|vector| vector >> 4 > self.state.ppr >> 4)
    }

    /// The highest vector requested, whatever the processor priority: to choose a TPR threshold.
    pub fn highest_requested(&mut self) -> Option<u8> {
        if self.inbox.take_error() {
            self.report(Esr::new().with_receive_illegal_vector(true));
        }
        self.inbox.highest()
    }

    /// The processor took `vector`: it goes from requested to in service.
    pub fn acknowledge(&mut self, vector: u8) {
        self.inbox.withdraw(vector);
        self.state.isr.insert(vector);
        self.update_priority();
    }

    /// End of interrupt: the highest vector in service is done.
    pub fn end_of_interrupt(&mut self) {
        let Some(vector) = self.state.isr.highest() else { return };
        self.state.isr.remove(vector);
        self.update_priority();
        if self.inbox.is_level(vector) {
            self.bus.eoi(vector);
        }
    }

    /// The task priority register; CR8 is its upper half.
    pub fn tpr(&self) -> u8 {
        self.state.tpr
    }

    /// Sets the task priority register; for CR8, shift left by four.
    pub fn set_tpr(&mut self, tpr: u8) {
        self.state.tpr = tpr;
        self.update_priority();
    }

    fn update_priority(&mut self) {
        let serviced = self.state.isr.highest().unwrap_or(0) & 0xf0;
        let tpr = self.state.tpr;
        self.state.ppr = if tpr >> 4 >= serviced >> 4 { tpr } else { serviced };
    }

    /// True if an interrupt of the 8259 pair reaches the processor: LINT0 is an unmasked ExtINT, or the APIC is
    /// disabled in IA32_APIC_BASE and LINT0 is the INTR pin.
    #[inline]
    pub fn accepts_extint(&self) -> bool {
        let lint0 = self.state.lvt(LvtEntry::Lint0);
        !self.state.base.enabled() || !lint0.masked() && lint0.mode() == DeliveryMode::ExtInt
    }

    /// A local interrupt pin has become high or low. ExtINT is not handled here: ask
    /// [`LocalApic::accepts_extint`].
    pub fn set_lint(&mut self, pin: LintPin, high: bool) {
        let level = &mut self.state.lint_high[pin as usize];
        let rising = high && !*level;
        *level = high;
        if !rising {
            return;
        }
        if !self.state.base.enabled() {
            if pin == LintPin::Lint1 {
                self.inbox.post_nmi();
            }
            return;
        }
        self.raise(if pin == LintPin::Lint0 { LvtEntry::Lint0 } else { LvtEntry::Lint1 });
    }

    /// Takes a pending NMI.
    #[inline]
    pub fn take_nmi(&mut self) -> bool {
        self.inbox.take_nmi()
    }

    /// Takes a pending INIT. The vCPU then calls [`LocalApic::init`] and waits for a start-up message.
    #[inline]
    pub fn take_init(&mut self) -> bool {
        self.inbox.take_init()
    }

    /// Takes a pending start-up message: the page to start at. A vCPU that does not wait for one drops it.
    #[inline]
    pub fn take_sipi(&mut self) -> Option<u8> {
        self.inbox.take_sipi()
    }

    /// A local source fires.
    fn raise(&mut self, entry: LvtEntry) {
        let lvt = self.state.lvt(entry);
        if lvt.masked() {
            return;
        }
        match lvt.mode() {
            DeliveryMode::Fixed if lvt.vector() < FIRST_LEGAL_VECTOR => {
                // An illegal vector of the error entry itself must not report again.
                self.state.errors.set_receive_illegal_vector(true);
                if entry != LvtEntry::Error {
                    self.raise(LvtEntry::Error);
                }
            }
            DeliveryMode::Fixed => {
                self.inbox.request(lvt.vector(), false);
            }
            DeliveryMode::Nmi => self.inbox.post_nmi(),
            DeliveryMode::Init => self.inbox.post_init(),
            _ => {}
        }
    }

    fn report(&mut self, errors: Esr) {
        self.state.errors = Esr::from_bits(self.state.errors.into_bits() | errors.into_bits());
        self.raise(LvtEntry::Error);
    }

    // The timer.

    /// The alarm rang: the timer's deadline is not after `now`.
    pub fn timer_expired(&mut self, now: GuestTime) {
        self.run_timer(now);
        self.arm_timer(now);
    }

    /// Raises the timer's interrupt if it is due.
    fn run_timer(&mut self, now: GuestTime) {
        if self.state.timer.expire(now) {
            self.raise(LvtEntry::Timer);
        }
    }

    fn arm_timer(&mut self, now: GuestTime) {
        // A masked timer counts, but nobody needs to be woken for it.
        let masked = self.state.lvt(LvtEntry::Timer).masked();
        self.alarm.set(if masked { None } else { self.state.timer.next_deadline(now) });
    }

    /// Changes the timer at the present moment, after what is due was raised.
    fn change_timer(&mut self, change: impl FnOnce(&mut State, GuestTime)) {
        let now = self.clock.now();
        self.run_timer(now);
        change(&mut self.state, now);
        self.arm_timer(now);
    }

    /// IA32_TSC_DEADLINE: the TSC value that the timer waits for, 0 if it does not.
    pub fn tsc_deadline(&mut self) -> u64 {
        if self.state.timer.raw_deadline() != 0 {
            self.run_timer(self.clock.now());
        }
        self.state.timer.raw_deadline()
    }

    /// Writes IA32_TSC_DEADLINE: `raw` is the TSC value, `deadline` the moment when the guest's TSC has it. A `raw`
    /// of 0 disarms; outside TSC-deadline mode the write is ignored.
    pub fn set_tsc_deadline(&mut self, deadline: Option<GuestTime>, raw: u64) {
        self.change_timer(|state, _| {
            state.timer.set_tsc_deadline(deadline, raw);
        });
    }

    /// True if the timer is in TSC-deadline mode.
    pub fn in_tsc_deadline_mode(&self) -> bool {
        self.state.lvt(LvtEntry::Timer).timer_mode() == TimerMode::TscDeadline
    }
}
