//! The local APIC of a vCPU, in xAPIC and x2APIC mode.
//!
//! The vCPU owns its [`LocalApic`] and calls it without locks. All others (devices, other vCPUs)
//! reach it only through its [`ApicInbox`], which [`ApicBus`] finds by destination. Vectors in the
//! inbox move to the interrupt request register when the vCPU looks.
//!
//! Registers that the guest can read are in the [`RegisterPage`], their only copy. A processor that
//! delivers interrupts by itself works on the page while the guest runs; then
//! [`LocalApic::written`] and [`LocalApic::ended`] do what is left to do.
//!
//! The timer counts at 1 GHz (see [`spec::TIMER_HZ`]).

mod bus;
mod inbox;
mod lint;
mod page;
mod registers;
pub mod spec;
mod timer;
mod timer_interrupt;

#[cfg(test)]
mod tests;

pub use bus::{ApicBus, Destination, EoiListener, Message};
pub use inbox::{ApicInbox, Kick, Look, Routing};
pub use lint::LintPin;
pub use page::{PAGE_BYTES, RegisterPage, Vectors};
pub use registers::{GpFault, Interface};
pub use timer::MIN_PERIOD_NS;
pub use timer_interrupt::TimerInterrupt;

use crate::time::{Alarm, Clock, GuestTime};
use alloc::sync::Arc;
use core::fmt;
use spec::{
    ApicBase, DeliveryMode, Esr, FIRST_LEGAL_VECTOR, Lvt, LvtEntry, Svr, TimerMode, register,
};
use timer::Timer;

/// Volatile state that is not in the register page.
#[derive(Clone, Debug)]
struct State {
    base: ApicBase,
    /// A vector was requested at the last look. A processor that delivers interrupts by itself may
    /// have taken it, or requested one.
    maybe_requested: bool,
    /// Errors since the last write to the error status register.
    errors: Esr,
}

impl State {
    const fn new(base: ApicBase) -> Self {
        Self { base, maybe_requested: false, errors: Esr::new() }
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
    // Volatile state.
    page: Arc<RegisterPage>,
    timer: Arc<TimerInterrupt>,
    state: State,
}

impl fmt::Debug for LocalApic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalApic")
            .field("inbox", &self.inbox)
            .field("page", &self.page)
            .field("timer", &self.timer)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl LocalApic {
    /// The local APIC with ID `apic_id`, after power-on. ID 0 is the bootstrap processor's.
    ///
    /// `inbox` must be the one that `bus` holds for this vCPU; `alarm` rings for
    /// [`LocalApic::timer`].
    pub fn new(
        apic_id: u32,
        inbox: Arc<ApicInbox>,
        bus: Arc<ApicBus>,
        clock: Arc<dyn Clock>,
        alarm: Alarm,
    ) -> Self {
        let base = Self::base_at_power_on(apic_id);
        let (page, state) = (RegisterPage::new(), State::new(base));
        let timer = TimerInterrupt::new(inbox.clone(), clock.clone(), alarm);
        let mut apic = Self { initial_id: apic_id, inbox, bus, clock, page, timer, state };
        apic.start_over(base, apic_id);
        apic
    }

    /// INIT: as after reset, but IA32_APIC_BASE and the ID stay (SDM 11.4.7.3). NMI, INIT and
    /// start-up messages that wait are not touched.
    ///
    /// Virtual wire mode stays too, where it was: what a PC's BIOS does behind the reset vector
    /// before it resumes what reset the processor to get back to real mode (Multiprocessor
    /// Specification 1.4, 3.6.2.2). SeaBIOS does it only when it boots.
    pub fn init(&mut self) {
        let is_virtual_wire = self.state.base.enabled() && self.accepts_extint();
        self.start_over(self.state.base, self.id());
        if is_virtual_wire {
            let lint0 = Lvt::new().with_mode(DeliveryMode::ExtInt);
            self.page.set(LvtEntry::Lint0.register(), lint0.into());
            self.configure_pins();
        }
    }

    /// After power-on.
    pub fn power_on(&mut self) {
        self.start_over(Self::base_at_power_on(self.initial_id), self.initial_id);
    }

    const fn base_at_power_on(apic_id: u32) -> ApicBase {
        ApicBase::new()
            .with_bootstrap(apic_id == 0)
            .with_enabled(true)
            .with_page(spec::DEFAULT_BASE >> 12)
    }

    fn start_over(&mut self, base: ApicBase, id: u32) {
        self.state = State::new(base);
        self.page.reset();
        self.set_id(id);
        self.timer.reset();
        self.publish();
        self.inbox.clear_vectors();
    }

    /// The physical ID: fixed in x2APIC mode, writable in xAPIC mode.
    fn id(&self) -> u32 {
        let register = self.page.get(register::ID);
        if self.is_x2apic() { register } else { register >> 24 }
    }

    /// Sets the ID and, in x2APIC mode, the logical ID that follows from it.
    fn set_id(&self, id: u32) {
        if self.is_x2apic() {
            self.page.set(register::ID, id);
            self.page.set(register::LDR, spec::x2apic_logical_id(id));
        } else {
            self.page.set(register::ID, id << 24);
        }
    }

    fn svr(&self) -> Svr {
        self.page.get(register::SVR).into()
    }

    fn lvt(&self, entry: LvtEntry) -> Lvt {
        self.page.get(entry.register()).into()
    }

    /// Tells the others what they must know to address this APIC.
    fn publish(&self) {
        let base = self.state.base;
        self.inbox.publish(
            Routing::new()
                .with_id(self.id())
                .with_logical_id((self.page.get(register::LDR) >> 24) as u8)
                .with_cluster(self.page.get(register::DFR) >> 28 != 0xf)
                .with_x2apic(base.x2apic())
                .with_enabled(base.enabled())
                .with_software_enabled(self.svr().enabled()),
        );
        self.configure_pins();
    }

    /// Tells what becomes of the pins.
    fn configure_pins(&self) {
        for (pin, entry) in [(LintPin::Lint0, LvtEntry::Lint0), (LintPin::Lint1, LvtEntry::Lint1)] {
            self.inbox.configure_pin(pin, self.lvt(entry), self.state.base.enabled());
        }
    }

    /// The register page, for the processor.
    pub const fn page(&self) -> &Arc<RegisterPage> {
        &self.page
    }

    /// The inbox, for those who need to post to this vCPU directly.
    pub fn inbox(&self) -> &Arc<ApicInbox> {
        &self.inbox
    }

    // Interrupts, as the vCPU sees them.

    /// True if something has arrived since the last look at what is pending. One load.
    #[inline]
    pub fn has_arrivals(&self) -> bool {
        self.inbox.has_pending()
    }

    /// The same but for what is told past the local APIC.
    pub fn has_messages(&self) -> bool {
        self.inbox.has_messages()
    }

    /// Once after [`ApicInbox::post_look`] or [`LocalApic::keep_look`].
    pub fn take_look(&self) -> Option<Look> {
        self.inbox.take_look()
    }

    /// [`LocalApic::take_look`] is to answer once more: what was found must wait.
    pub fn keep_look(&self) {
        self.inbox.keep_look();
    }

    /// True if anything at all may wait, masked by priority or not, as far as the processor does
    /// not work on the page.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.inbox.has_pending() || self.state.maybe_requested
    }

    /// The vector to inject next: the highest requested one, if its class is above the processor
    /// priority.
    #[inline]
    pub fn highest_pending(&mut self) -> Option<u8> {
        self.highest_requested().filter(|vector| vector >> 4 > self.page.processor_priority() >> 4)
    }

    /// The highest vector requested, whatever the processor priority: to choose a TPR threshold.
    #[inline]
    pub fn highest_requested(&mut self) -> Option<u8> {
        self.collect();
        let highest = self.page.highest(Vectors::Requested);
        self.state.maybe_requested = highest.is_some();
        highest
    }

    /// Moves what waits in the inbox to the registers.
    #[inline]
    fn collect(&mut self) {
        if self.inbox.has_pending() {
            self.collect_arrivals();
        }
    }

    fn collect_arrivals(&mut self) {
        if self.inbox.take_error() {
            self.report(Esr::new().with_receive_illegal_vector(true));
        }
        let (page, requested) = (&*self.page, &mut self.state.maybe_requested);
        self.inbox.take_vectors(|word, edge, level| {
            let requests = page.vectors(Vectors::Requested, word) | edge | level;
            page.set_vectors(Vectors::Requested, word, requests);
            page.set_vectors(
                Vectors::Level,
                word,
                page.vectors(Vectors::Level, word) & !edge | level,
            );
            *requested = true;
        });
    }

    /// The processor took `vector`: it goes from requested to in service.
    pub fn acknowledge(&mut self, vector: u8) {
        self.page.remove(Vectors::Requested, vector);
        self.page.insert(Vectors::InService, vector);
    }

    /// End of interrupt: the highest vector in service is done.
    pub fn end_of_interrupt(&mut self) {
        let Some(vector) = self.page.highest(Vectors::InService) else { return };
        self.page.remove(Vectors::InService, vector);
        self.ended(vector);
    }

    /// `vector` is in service no more: the I/O APIC hears of it if it was level-triggered.
    pub fn ended(&self, vector: u8) {
        if self.page.has(Vectors::Level, vector) {
            self.inbox.end_level(vector);
            self.bus.eoi(vector);
        }
    }

    /// The task priority register; CR8 is its upper half.
    pub fn tpr(&self) -> u8 {
        self.page.tpr()
    }

    /// Sets the task priority register; for CR8, shift left by four.
    pub fn set_tpr(&mut self, tpr: u8) {
        self.page.set_tpr(tpr);
    }

    /// True if an interrupt of the 8259 pair reaches the processor: LINT0 is an unmasked ExtINT, or
    /// the APIC is disabled in IA32_APIC_BASE and LINT0 is the INTR pin.
    #[inline]
    pub fn accepts_extint(&self) -> bool {
        let lint0 = self.lvt(LvtEntry::Lint0);
        !self.state.base.enabled() || !lint0.masked() && lint0.mode() == DeliveryMode::ExtInt
    }

    /// An NMI is pending.
    #[inline]
    pub fn has_nmi(&self) -> bool {
        self.inbox.has_nmi()
    }

    /// Takes a pending NMI.
    #[inline]
    pub fn take_nmi(&mut self) -> bool {
        self.inbox.take_nmi()
    }

    /// Takes a pending INIT. The vCPU then calls [`LocalApic::init`] and waits for a start-up
    /// message.
    #[inline]
    pub fn take_init(&mut self) -> bool {
        self.inbox.take_init()
    }

    /// True if INIT came because the vCPU was removed: everything begins anew.
    pub fn take_reset(&mut self) -> bool {
        self.inbox.take_reset()
    }

    /// Takes a pending start-up message: the page to start at. A vCPU that does not wait for one
    /// drops it.
    #[inline]
    pub fn take_sipi(&mut self) -> Option<u8> {
        self.inbox.take_sipi()
    }

    /// A local source other than the timer fires.
    fn raise(&mut self, entry: LvtEntry) {
        let lvt = self.lvt(entry);
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
            DeliveryMode::Fixed => self.inbox.post(lvt.vector(), false),
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

    /// The timer, whose alarm may ring on any CPU.
    pub const fn timer(&self) -> &Arc<TimerInterrupt> {
        &self.timer
    }

    /// Changes the timer at the present moment.
    fn change_timer(&self, change: impl FnOnce(&mut Timer, GuestTime)) {
        let now = self.clock.now();
        self.show_timer(&self.timer.change(now, |timer| change(timer, now)));
    }

    /// The timer's registers are what its change made of them.
    fn show_timer(&self, timer: &Timer) {
        self.page.set(register::INITIAL_COUNT, timer.initial_count());
        self.page.set(register::DIVIDE, timer.divide().into());
    }

    /// IA32_TSC_DEADLINE: the TSC value that the timer waits for, 0 if it does not.
    pub fn tsc_deadline(&self) -> u64 {
        self.timer.raw_deadline(self.clock.now())
    }

    /// Writes IA32_TSC_DEADLINE: `raw` is the TSC value, `deadline` the moment when the guest's TSC
    /// has it. A `raw` of 0 disarms; outside TSC-deadline mode the write is ignored.
    pub fn set_tsc_deadline(&self, deadline: Option<GuestTime>, raw: u64) {
        self.change_timer(|timer, _| {
            timer.set_tsc_deadline(deadline, raw);
        });
    }

    /// True if the timer is in TSC-deadline mode.
    pub fn in_tsc_deadline_mode(&self) -> bool {
        self.lvt(LvtEntry::Timer).timer_mode() == TimerMode::TscDeadline
    }
}
