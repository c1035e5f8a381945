mod delivery;
mod messages;
mod pins;
mod properties;
mod registers;
mod timer;

use super::spec::register;
use super::*;
use crate::bus::{Access, MmioDevice};
use crate::io_apic::IoApic;
use crate::irq::IrqLine;
use crate::time::{Deadlines, TestClock, Timed};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

#[derive(Default)]
struct CountKicks {
    kicks: AtomicU32,
    notifications: AtomicU32,
}

impl Kick for CountKicks {
    fn kick(&self) {
        self.kicks.fetch_add(1, Ordering::Relaxed);
    }

    fn notify(&self) {
        self.notifications.fetch_add(1, Ordering::Relaxed);
    }
}

impl CountKicks {
    fn take(&self) -> u32 {
        self.kicks.swap(0, Ordering::Relaxed)
    }

    fn take_notifications(&self) -> u32 {
        self.notifications.swap(0, Ordering::Relaxed)
    }
}

/// A machine of `count` APICs on one bus.
struct Machine {
    apics: Vec<LocalApic>,
    kicks: Vec<Arc<CountKicks>>,
    bus: Arc<ApicBus>,
    clock: Arc<TestClock>,
    deadlines: Arc<Deadlines>,
}

impl Machine {
    fn new(count: usize) -> Self {
        let clock = TestClock::new();
        let deadlines = Deadlines::new(count);
        let kicks: Vec<_> = (0..count).map(|_| Arc::new(CountKicks::default())).collect();
        let inboxes: Vec<_> = kicks.iter().map(|kick| ApicInbox::new(kick.clone())).collect();
        let bus = ApicBus::new(inboxes.clone());
        let apics = inboxes
            .into_iter()
            .enumerate()
            .map(|(n, inbox)| {
                LocalApic::new(n as u32, inbox, bus.clone(), clock.clone(), deadlines.alarm(n))
            })
            .collect();
        Self { apics, kicks, bus, clock, deadlines }
    }

    /// All APICs enabled in their SVR.
    fn enabled(count: usize) -> Self {
        let mut machine = Self::new(count);
        for apic in &mut machine.apics {
            write(apic, register::SVR, 0x1ff);
        }
        machine
    }

    fn x2apic(count: usize) -> Self {
        let mut machine = Self::enabled(count);
        for apic in &mut machine.apics {
            apic.set_apic_base(apic.apic_base() | 1 << 10).unwrap();
        }
        machine
    }

    /// Lets time pass, ringing the alarms on their way; returns how often APIC 0 was woken.
    fn run_ns(&mut self, ns: u64) -> u32 {
        let end = self.clock.now() + ns;
        let mut woken = 0;
        while let Some(next) = self.deadlines.earliest().filter(|next| *next <= end) {
            self.clock.advance_ns(next - self.clock.now());
            while let Some(slot) = self.deadlines.take_expired(self.clock.now()) {
                self.apics[slot].timer().expired(self.clock.now());
                woken += u32::from(slot == 0);
            }
        }
        self.clock.advance_ns(end - self.clock.now());
        woken
    }

    fn pending(&mut self) -> Vec<Option<u8>> {
        self.apics.iter_mut().map(LocalApic::highest_pending).collect()
    }
}

fn read(apic: &mut LocalApic, number: u8) -> u32 {
    apic.mmio_read(u16::from(number) << 4)
}

fn write(apic: &mut LocalApic, number: u8, value: u32) {
    apic.mmio_write(u16::from(number) << 4, value);
}

fn send(apic: &mut LocalApic, high: u32, low: u32) {
    write(apic, register::ICR_HIGH, high);
    write(apic, register::ICR_LOW, low);
}

const LVT_LINT0: u8 = 0x35;

/// Takes the interrupt that is due and ends it.
fn serve(apic: &mut LocalApic) -> Option<u8> {
    let vector = apic.highest_pending()?;
    apic.acknowledge(vector);
    write(apic, register::EOI, 0);
    Some(vector)
}
