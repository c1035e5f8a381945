use proptest::prelude::*;
use spin::Mutex;

use super::*;
use crate::irq::LineProbe;
use crate::local_apic::{ApicInbox, Kick, LocalApic};
use crate::time::{Deadlines, TestClock};

const US: u64 = 1000;
const MS: u64 = 1000 * US;

const ENABLE: u64 = 1;
const LEGACY: u64 = 2;
const T_LEVEL: u64 = 2;
const T_ENABLE: u64 = 4;
const T_PERIODIC: u64 = 8;
const T_SET: u64 = 0x40;
const T_32: u64 = 0x100;
const T_FSB: u64 = 0x4000;

struct NoKick;

impl Kick for NoKick {
    fn kick(&self) {}
}

struct Bench {
    clock: Arc<TestClock>,
    deadlines: Arc<Deadlines>,
    irq0: Arc<LineProbe>,
    irq8: Arc<LineProbe>,
    routed: Vec<Arc<LineProbe>>,
    pit: IrqLine,
    route: Arc<LegacyRoute>,
    apic: Mutex<LocalApic>,
    hpet: Hpet,
}

impl Bench {
    fn new() -> Self {
        let clock = TestClock::new();
        clock.advance_ns(12_345);
        let deadlines = Deadlines::new(2);
        let (irq0, irq0_line) = LineProbe::wired();
        let (irq8, irq8_line) = LineProbe::wired();
        let alarm = deadlines.alarm(1);
        let route =
            LegacyRoute::new(clock.clone(), alarm, irq0_line, irq8_line, IrqLine::detached());
        let mut routed = Vec::new();
        let lines = core::array::from_fn(|_| {
            let (probe, line) = LineProbe::wired();
            routed.push(probe);
            line
        });
        let inbox = ApicInbox::new(Arc::new(NoKick));
        let bus = ApicBus::new([inbox.clone()].into());
        let alarm = Alarm::detached();
        let mut apic = LocalApic::new(0, inbox, bus.clone(), clock.clone(), alarm);
        // Enabled in the spurious interrupt vector register.
        apic.mmio_write(0xf0, 0x1ff);
        let lines = HpetLines::new(&route, lines, bus);
        let hpet = Hpet::new(clock.clone(), deadlines.alarm(0), lines);
        Self {
            clock,
            deadlines,
            irq0,
            irq8,
            routed,
            pit: route.wire(LegacyRoute::PIT),
            route,
            apic: Mutex::new(apic),
            hpet,
        }
    }

    /// The vector that the local APIC would deliver next, which is taken and ended.
    fn take_vector(&self) -> Option<u8> {
        let mut apic = self.apic.lock();
        let vector = apic.highest_pending()?;
        apic.acknowledge(vector);
        apic.mmio_write(0xb0, 0);
        Some(vector)
    }

    fn readl(&self, offset: u64) -> u64 {
        self.hpet.mmio_read(Access::new(offset, 4)).unwrap() & 0xffff_ffff
    }

    fn readq(&self, offset: u64) -> u64 {
        self.hpet.mmio_read(Access::new(offset, 8)).unwrap()
    }

    fn writel(&self, offset: u64, value: u64) {
        self.hpet.mmio_write(Access::new(offset, 4), value);
    }

    fn writeq(&self, offset: u64, value: u64) {
        self.hpet.mmio_write(Access::new(offset, 8), value);
    }

    /// Moves on, serving the alarm; returns how often it rang.
    fn run(&self, ns: u64) -> u32 {
        let end = self.clock.now() + ns;
        let mut rings = 0;
        while let Some(deadline) = self.deadlines.earliest().filter(|&deadline| deadline <= end) {
            self.clock.advance_ns(deadline - self.clock.now());
            while let Some(slot) = self.deadlines.take_expired(self.clock.now()) {
                match slot {
                    0 => self.hpet.expired(self.clock.now()),
                    _ => self.route.expired(self.clock.now()),
                }
                self.route.irq0_taken();
                rings += 1;
            }
        }
        self.clock.advance_ns(end - self.clock.now());
        rings
    }
}

fn timer(number: u64, register: u64) -> u64 {
    TIMERS + number * TIMER_STRIDE + register
}

const CMP0: u64 = TIMERS + TIMER_COMPARATOR;

#[test]
fn capabilities() {
    let bench = Bench::new();
    assert_eq!(bench.readq(0), 0x0098_9680_8086_a201);
    assert_eq!(bench.readl(4), 10_000_000);
    assert_eq!(bench.readq(TIMERS), 0x00ff_0000_0000_8030);
    assert_eq!(bench.hpet.mmio_read(Access::new(2, 2)), Some(0x0098_9680_8086));
    assert_eq!(bench.readq(TIMERS + 3 * TIMER_STRIDE), 0, "no fourth timer");
}

#[test]
fn the_counter_counts_10_ns_while_enabled() {
    let bench = Bench::new();
    assert_eq!(bench.readq(COUNTER), 0);
    bench.clock.advance_ns(MS);
    assert_eq!(bench.readq(COUNTER), 0);
    bench.writeq(COUNTER, 0xffff_fff0);
    bench.writel(CONFIGURATION, ENABLE);
    bench.clock.advance_ns(160);
    assert_eq!((bench.readl(COUNTER), bench.readl(COUNTER + 4)), (0, 1));
    bench.writel(CONFIGURATION, 0);
    bench.clock.advance_ns(MS);
    assert_eq!(bench.readq(COUNTER), 0x1_0000_0000);
    assert_eq!(bench.hpet.mmio_read(Access::new(COUNTER + 4, 1)).unwrap() as u8, 1);
}

#[test]
fn linux_periodic_tick_in_legacy_mode() {
    let bench = Bench::new();
    // hpet_enable: configuration off, legacy off; counter from 0; it must be seen to count.
    assert_ne!(bench.readl(CONFIGURATION), 0xffff_ffff);
    bench.writel(CONFIGURATION, 0);
    for number in 0..3 {
        bench.writel(timer(number, 0), bench.readl(timer(number, 0)) & !(T_ENABLE | T_LEVEL));
    }
    bench.writel(COUNTER, 0);
    bench.writel(COUNTER + 4, 0);
    bench.writel(CONFIGURATION, ENABLE);
    bench.clock.advance_ns(100);
    assert_ne!(bench.readl(COUNTER), 0);
    bench.writel(CONFIGURATION, ENABLE | LEGACY);
    // hpet_clkevt_set_state_periodic at 250 Hz.
    bench.writel(CONFIGURATION, LEGACY);
    let now = bench.readl(COUNTER);
    let delta = 4 * MS / TICK_NS;
    bench.writel(TIMERS, T_ENABLE | T_PERIODIC | T_SET | T_32);
    bench.writel(CMP0, now + delta);
    bench.clock.advance_ns(US);
    bench.writel(CMP0, delta);
    bench.writel(CONFIGURATION, ENABLE | LEGACY);
    bench.pit.pulse();
    assert_eq!(bench.irq0.take_edges(), 0, "the PIT is cut off");
    bench.run(1000 * MS);
    assert_eq!(bench.irq0.take_edges(), 250);
    assert_eq!(bench.readl(CMP0), now + 251 * delta);
    // The guest does not run for ten periods: as many interrupts, one by one, and the phase stays.
    bench.clock.advance_ns(41 * MS);
    bench.run(0);
    assert_eq!(bench.irq0.take_edges(), 0, "it looks around first");
    bench.run(260 * US);
    assert_eq!(bench.irq0.take_edges(), 1);
    bench.run(2700 * US);
    assert_eq!(bench.irq0.take_edges(), 9);
    assert_eq!((bench.readl(CMP0) - now) % delta, 0);
    assert!(bench.readl(CMP0) > bench.readl(COUNTER));
    // Back to the PIT.
    bench.writel(TIMERS, 0);
    bench.writel(CONFIGURATION, ENABLE);
    assert_eq!(bench.deadlines.earliest(), None);
    bench.pit.pulse();
    assert_eq!(bench.irq0.take_edges(), 1);
}

#[test]
fn linux_one_shot_events() {
    let bench = Bench::new();
    bench.writel(CONFIGURATION, ENABLE | LEGACY);
    bench.writel(TIMERS, T_ENABLE | T_32);
    bench.irq0.take_edges();
    for delta in [128, 1000, 100_000, 0x7fff_ffff] {
        bench.writel(CMP0, bench.readl(COUNTER).wrapping_add(delta));
        bench.run(delta * TICK_NS - TICK_NS);
        assert_eq!(bench.irq0.take_edges(), 0);
        bench.run(TICK_NS);
        assert_eq!(bench.irq0.take_edges(), 1, "{delta}");
    }
    // Written too late: at once.
    bench.writel(CMP0, bench.readl(COUNTER).wrapping_sub(50));
    assert_eq!(bench.irq0.take_edges(), 1);
    // The counter's low half comes round.
    bench.run((1 << 32) * TICK_NS);
    assert_eq!(bench.irq0.take_edges(), 1);
}

#[test]
fn a_comparator_after_reset_does_not_match() {
    let bench = Bench::new();
    bench.writel(CONFIGURATION, ENABLE | LEGACY);
    bench.writel(TIMERS, T_ENABLE);
    bench.run(3_600_000 * MS);
    assert_eq!(bench.irq0.take_edges(), 0);
}

#[test]
fn level_interrupts_stay_until_cleared() {
    let bench = Bench::new();
    bench.writel(CONFIGURATION, ENABLE);
    let config = timer(2, 0);
    bench.writel(config, 3 << 9);
    assert_eq!(bench.readl(config) >> 9 & 0x1f, 0, "input 3 is not offered");
    bench.writel(config, (19 << 9) | T_LEVEL | T_ENABLE | T_PERIODIC | T_SET);
    assert_eq!(bench.readl(config) >> 9 & 0x1f, 19);
    bench.writeq(config + TIMER_COMPARATOR, bench.readq(COUNTER) + 100_000);
    bench.writeq(config + TIMER_COMPARATOR, 100_000);
    assert_eq!(bench.run(10 * MS), 1, "no alarm while asserted");
    assert!(bench.routed[3].is_high());
    assert_eq!(bench.readl(STATUS), 4);
    bench.writel(STATUS, 3);
    assert!(bench.routed[3].is_high());
    bench.writel(STATUS, 4);
    assert!(!bench.routed[3].is_high());
    bench.run(MS);
    assert!(bench.routed[3].is_high());
    bench.writel(CONFIGURATION, 0);
    assert!(!bench.routed[3].is_high(), "interrupts are off with the counter");
}

#[test]
fn timer_1_replaces_the_rtc_until_the_legacy_route_is_off() {
    let bench = Bench::new();
    bench.writel(CONFIGURATION, ENABLE | LEGACY);
    bench.writel(timer(1, 0), T_ENABLE | T_LEVEL);
    bench.writeq(timer(1, TIMER_COMPARATOR), bench.readq(COUNTER) + 10);
    bench.run(US);
    assert!(bench.irq8.is_high() && !bench.irq0.is_high());
    bench.pit.set(true);
    assert!(!bench.irq0.is_high());
    bench.writel(CONFIGURATION, 0);
    assert!(!bench.irq8.is_high());
    assert!(bench.irq0.is_high(), "the PIT's level shows again");
    assert_eq!(bench.deadlines.earliest(), None);
}

#[test]
fn timer_1_ticks_in_the_place_of_the_rtc() {
    let bench = Bench::new();
    bench.writel(CONFIGURATION, ENABLE | LEGACY);
    bench.writel(timer(1, 0), T_ENABLE | T_PERIODIC | T_SET);
    bench.writeq(timer(1, TIMER_COMPARATOR), bench.readq(COUNTER) + 100_000);
    bench.writeq(timer(1, TIMER_COMPARATOR), 100_000);
    bench.run(10 * MS);
    assert_eq!((bench.irq8.take_edges(), bench.irq0.take_edges()), (10, 0));
    bench.clock.advance_ns(5 * MS);
    bench.run(0);
    assert_eq!(bench.irq8.take_edges(), 1, "of IRQ 8 no tick is owed");
}

#[test]
fn ticks_of_timer_0_are_owed_whatever_is_done_to_the_others() {
    let ticks_after = |offset: u64| {
        let bench = Bench::new();
        bench.writel(CONFIGURATION, ENABLE | LEGACY);
        bench.writel(TIMERS, T_ENABLE | T_PERIODIC | T_SET);
        bench.writeq(CMP0, bench.readq(COUNTER) + 100_000);
        bench.writeq(CMP0, 100_000);
        bench.clock.advance_ns(5 * MS);
        bench.run(0);
        bench.writel(offset, bench.readl(offset));
        bench.irq0.take_edges();
        bench.route.irq0_taken();
        bench.run(MS - 1);
        bench.irq0.take_edges()
    };
    let forgiven = ticks_after(CONFIGURATION);
    assert!(ticks_after(timer(2, TIMER_COMPARATOR)) > forgiven);
    assert!(ticks_after(STATUS) > forgiven);
}

#[test]
fn tiny_periods_do_not_storm() {
    let bench = Bench::new();
    bench.writel(CONFIGURATION, ENABLE | LEGACY);
    bench.writel(TIMERS, T_ENABLE | T_PERIODIC | T_SET);
    bench.writeq(CMP0, bench.readq(COUNTER) + 1);
    bench.writeq(CMP0, 1);
    let rings = bench.run(100 * MS);
    assert!((990..=1001).contains(&rings), "{rings}");
    assert_eq!(bench.readq(CMP0), bench.readq(COUNTER) + 1);
}

/// A message to the local APIC with ID 0.
const fn message(vector: u64) -> u64 {
    0xfee0_0000 << 32 | vector
}

#[test]
fn messages_go_to_the_local_apic_and_to_no_line() {
    let bench = Bench::new();
    let (config, route) = (timer(2, TIMER_CONFIGURATION), timer(2, TIMER_MESSAGE));
    bench.writel(route, 0x51);
    bench.writel(route + 4, 0xfee0_0000);
    assert_eq!(bench.readq(route), message(0x51));
    bench.writel(config, T_ENABLE | T_FSB | 20 << 9);
    bench.writeq(timer(2, TIMER_COMPARATOR), 1000);
    bench.writel(CONFIGURATION, ENABLE);
    assert_eq!(bench.take_vector(), None);
    assert_eq!(bench.run(20 * US), 1);
    assert_eq!((bench.take_vector(), bench.take_vector()), (Some(0x51), None));
    // Level triggering does not count.
    bench.writel(config, T_ENABLE | T_FSB | T_LEVEL | 20 << 9);
    bench.writeq(timer(2, TIMER_COMPARATOR), bench.readl(COUNTER) + 1000);
    assert_eq!(bench.run(20 * US), 1);
    assert_eq!((bench.take_vector(), bench.readl(STATUS)), (Some(0x51), 0));
    assert!(bench.routed.iter().all(|line| line.take_edges() == 0 && !line.is_high()));
    // Without it the line has its turn again.
    bench.writel(config, T_ENABLE | 20 << 9);
    bench.writeq(timer(2, TIMER_COMPARATOR), bench.readl(COUNTER) + 1000);
    bench.run(20 * US);
    assert_eq!((bench.take_vector(), bench.routed[4].take_edges()), (None, 1));
}

#[test]
fn a_periodic_timer_sends_a_message_each_time_also_in_legacy_replacement_mode() {
    let bench = Bench::new();
    bench.writeq(timer(0, TIMER_MESSAGE), message(0x52));
    bench.writel(TIMERS, T_ENABLE | T_PERIODIC | T_SET | T_FSB);
    bench.writeq(CMP0, 100_000);
    bench.writeq(CMP0, 100_000);
    bench.writel(CONFIGURATION, ENABLE | LEGACY);
    for _ in 0..3 {
        bench.run(MS);
        assert_eq!((bench.take_vector(), bench.take_vector()), (Some(0x52), None));
    }
    assert!(!bench.irq0.is_high());
    // A message elsewhere is lost.
    bench.writeq(timer(0, TIMER_MESSAGE), 0x1000 << 32 | 0x52);
    bench.run(MS);
    assert_eq!(bench.take_vector(), None);
}

proptest! {
    #[test]
    fn random_accesses_keep_alarm_and_wires_consistent(
        steps in prop::collection::vec((0u8..8, 0u64..0x180, any::<u64>(), 0u64..10_000_000), 1..150),
    ) {
        let bench = Bench::new();
        for (what, offset, value, ns) in steps {
            let size_bytes = 1 << (value >> 60 & 3);
            match what {
                0 => bench.hpet.mmio_write(Access::new(offset, size_bytes), value),
                1 => { bench.hpet.mmio_read(Access::new(offset, size_bytes)); }
                2 => bench.writel(CONFIGURATION, value),
                3 => bench.writel(timer(value >> 32 & 3, 0), value | T_ENABLE),
                4 => bench.writeq(timer(offset & 3, TIMER_COMPARATOR), value & 0xffff),
                5 => bench.writel(timer(offset & 3, TIMER_COMPARATOR), bench.readl(COUNTER) + (value & 0xffff)),
                _ => {
                    let rings = u64::from(bench.run(ns));
                    prop_assert!(rings <= 3 * (ns / 100_000 + 3), "{} rings in {} ns", rings, ns);
                }
            }
            if let Some(deadline) = bench.deadlines.earliest() {
                prop_assert!(deadline > bench.clock.now() || what >= 6);
            }
            let state = bench.hpet.state.lock().clone();
            let asserted: Vec<_> = state
                .timers
                .iter()
                .enumerate()
                .filter(|&(number, timer)| Hpet::is_asserted(&state, number, timer))
                .filter_map(|(number, timer)| bench.hpet.line(number, &state, timer))
                .collect();
            prop_assert!(asserted.iter().all(|line| line.is_high()));
            for line in bench.hpet.lines.routed.iter().filter(|line| line.is_high()) {
                prop_assert!(asserted.iter().any(|driven| core::ptr::eq(*driven, line)));
            }
        }
    }
}
