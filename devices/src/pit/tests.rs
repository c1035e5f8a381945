use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::hpet::LegacyRoute;
use crate::irq::LineProbe;
use crate::time::{Deadlines, TestClock};

struct Bench {
    clock: Arc<TestClock>,
    deadlines: Arc<Deadlines>,
    irq0: Arc<LineProbe>,
    pit: Pit,
    tick: u64,
}

impl Bench {
    fn new() -> Self {
        let clock = TestClock::new();
        let deadlines = Deadlines::new(1);
        let (irq0, line) = LineProbe::wired();
        let pit = Pit::new(clock.clone(), deadlines.alarm(0), line);
        Self { clock, deadlines, irq0, pit, tick: 0 }
    }

    /// Moves the clock on without serving the alarm, to the start of a tick.
    fn skip(&mut self, ticks: u64) {
        self.tick += ticks;
        self.clock.advance_ns(ticks_to_ns(self.tick, PIT_HZ) - self.clock.now().as_ns());
    }

    /// Moves the clock on, serving the alarm at its deadlines; returns the ticks at which IRQ 0
    /// rose.
    fn run(&mut self, ticks: u64) -> Vec<u64> {
        let end = self.tick + ticks;
        let end_ns = ticks_to_ns(end, PIT_HZ);
        let mut edges = Vec::new();
        while let Some(deadline) =
            self.deadlines.earliest().filter(|deadline| deadline.as_ns() <= end_ns)
        {
            self.clock.advance_ns(deadline - self.clock.now());
            self.ring();
            if self.irq0.take_edges() > 0 {
                edges.push(ns_to_ticks(deadline.as_ns(), PIT_HZ));
            }
        }
        self.tick = end;
        self.clock.advance_ns(end_ns - self.clock.now().as_ns());
        edges
    }

    fn ring(&self) {
        while self.deadlines.take_expired(self.clock.now()).is_some() {
            self.pit.expired(self.clock.now());
        }
    }

    fn access(port: u64) -> Access {
        if port == PORT_61 {
            Access { region: REGION_PORT_61, offset: 0, size_bytes: 1 }
        } else {
            Access { region: REGION_COUNTERS, offset: port - COUNTER_BASE, size_bytes: 1 }
        }
    }

    fn out(&self, port: u64, value: u8) {
        self.pit.pio_write(Self::access(port), value.into());
    }

    fn inb(&self, port: u64) -> u8 {
        self.pit.pio_read(Self::access(port)).unwrap() as u8
    }

    /// Programs a counter, low byte first.
    fn program(&self, counter: u64, mode: u8, count: u16) {
        self.out(0x43, (counter as u8) << 6 | 0x30 | mode << 1);
        self.count(counter, count);
    }

    fn count(&self, counter: u64, count: u16) {
        let [low, high] = count.to_le_bytes();
        self.out(0x40 + counter, low);
        self.out(0x40 + counter, high);
    }

    fn read(&self, counter: u64) -> u16 {
        u16::from_le_bytes([self.inb(0x40 + counter), self.inb(0x40 + counter)])
    }

    fn output2(&self) -> bool {
        Port61::from(self.inb(PORT_61)).timer2_output()
    }

    /// OUT of counter 2 in each of the next ticks, `#` for high.
    fn trace2(&mut self, ticks: u64) -> alloc::string::String {
        (0..ticks)
            .map(|_| {
                self.skip(1);
                if self.output2() { '#' } else { '_' }
            })
            .collect()
    }
}

#[test]
fn mode_0_rises_n_plus_1_clocks_after_the_write_and_counts_on() {
    let mut bench = Bench::new();
    bench.out(PORT_61, 1);
    bench.program(2, 0, 3);
    assert_eq!(bench.trace2(6), "___###");
    assert_eq!(bench.read(2), 0xfffe);
    // A gate that goes low stops the count and leaves OUT alone.
    bench.program(2, 0, 3);
    bench.skip(2);
    bench.out(PORT_61, 0);
    assert_eq!(bench.trace2(5), "_____");
    assert_eq!(bench.read(2), 2);
    bench.out(PORT_61, 1);
    assert_eq!(bench.trace2(3), "_##");
}

#[test]
fn mode_0_first_byte_stops_the_count() {
    let mut bench = Bench::new();
    bench.out(PORT_61, 1);
    bench.program(2, 0, 3);
    bench.skip(2);
    bench.out(0x42, 2);
    assert_eq!(bench.trace2(5), "_____");
    bench.out(0x42, 0);
    assert_eq!(bench.trace2(4), "__##");
}

#[test]
fn mode_1_is_triggered_by_the_gate() {
    let mut bench = Bench::new();
    bench.program(2, 1, 3);
    assert_eq!(bench.trace2(3), "###");
    bench.out(PORT_61, 1);
    assert_eq!(bench.trace2(5), "___##");
    bench.out(PORT_61, 0);
    bench.out(PORT_61, 1);
    assert_eq!(bench.trace2(2), "__");
    bench.out(PORT_61, 0);
    bench.out(PORT_61, 1);
    assert_eq!(bench.trace2(1), "_");
    assert_eq!(bench.read(2), 3, "loaded anew");
}

#[test]
fn mode_2_is_low_for_one_clock_a_period() {
    let mut bench = Bench::new();
    bench.out(PORT_61, 1);
    bench.program(2, 2, 4);
    assert_eq!(bench.trace2(9), "###_###_#");
    // A new count waits for the end of the period.
    bench.count(2, 2);
    assert_eq!(bench.trace2(7), "##_#_#_");
    bench.out(PORT_61, 0);
    assert_eq!(bench.trace2(3), "###");
    bench.out(PORT_61, 1);
    assert_eq!(bench.trace2(4), "#_#_");
}

#[test]
fn a_closed_gate_keeps_a_new_period_waiting() {
    for mode in [2, 3] {
        let mut bench = Bench::new();
        bench.out(PORT_61, 1);
        bench.program(2, mode, 1000);
        bench.skip(100);
        bench.count(2, 600);
        bench.out(PORT_61, 0);
        let stopped = bench.read(2);
        bench.skip(5000);
        bench.out(0x43, 0xe8);
        assert_eq!(bench.inb(0x42) & 0xc0, 0xc0, "mode {mode}: output high, null count");
        assert_eq!(bench.read(2), stopped, "mode {mode}");
        bench.out(PORT_61, 1);
        bench.skip(1);
        assert_eq!(bench.read(2), 600, "mode {mode}");
    }
}

#[test]
fn mode_3_is_high_for_the_larger_half() {
    let mut bench = Bench::new();
    bench.out(PORT_61, 1);
    bench.program(2, 3, 5);
    assert_eq!(bench.trace2(11), "###__###__#");
    // A new count waits for the end of the half.
    bench.count(2, 2);
    assert_eq!(bench.trace2(7), "##_#_#_");
    bench.program(2, 3, 6);
    let values: Vec<u16> = (0..7)
        .map(|_| {
            bench.skip(1);
            bench.read(2)
        })
        .collect();
    assert_eq!(values, [6, 4, 2, 6, 4, 2, 6]);
    bench.program(2, 3, 5);
    let values: Vec<u16> = (0..6)
        .map(|_| {
            bench.skip(1);
            bench.read(2)
        })
        .collect();
    assert_eq!(values, [4, 2, 0, 4, 2, 4]);
}

#[test]
fn modes_4_and_5_strobe_once() {
    let mut bench = Bench::new();
    bench.out(PORT_61, 1);
    bench.program(2, 4, 3);
    assert_eq!(bench.trace2(6), "###_##");
    bench.program(2, 5, 3);
    assert_eq!(bench.trace2(6), "######");
    bench.out(PORT_61, 0);
    bench.out(PORT_61, 1);
    assert_eq!(bench.trace2(6), "###_##");
}

#[test]
fn bcd_counts_in_decades() {
    let mut bench = Bench::new();
    bench.out(PORT_61, 1);
    bench.out(0x43, 0xb1);
    bench.count(2, 0x1000);
    bench.skip(2);
    assert_eq!(bench.read(2), 0x0999);
    bench.skip(1000);
    assert_eq!(bench.read(2), 0x9999);
    bench.out(0x43, 0xb1);
    bench.count(2, 0);
    bench.skip(10_001);
    assert!(bench.output2());
    assert_eq!(bench.read(2), 0);
}

#[test]
fn latches_hold_until_read() {
    let mut bench = Bench::new();
    bench.program(0, 2, 1000);
    bench.skip(1);
    bench.out(0x43, 0x00);
    bench.skip(10);
    bench.out(0x43, 0x00);
    assert_eq!(bench.read(0), 1000, "the second latch command is ignored");
    assert_eq!(bench.read(0), 990);
    // Read-back of status and count: the status comes first.
    bench.out(0x43, 0xc2);
    bench.skip(10);
    assert_eq!(bench.inb(0x40), 0xb4);
    assert_eq!(bench.read(0), 990);
    assert_eq!(bench.read(0), 980);
    // Null count until the next clock loads it.
    bench.program(0, 2, 500);
    bench.out(0x43, 0xe2);
    assert_eq!(bench.inb(0x40), 0xf4);
    bench.skip(1);
    bench.out(0x43, 0xe2);
    assert_eq!(bench.inb(0x40), 0xb4);
}

#[test]
fn single_byte_access() {
    let mut bench = Bench::new();
    bench.out(0x43, 0x14);
    bench.out(0x40, 0x12);
    bench.skip(1);
    assert_eq!((bench.inb(0x40), bench.inb(0x40)), (0x12, 0x12));
    bench.out(0x43, 0x24);
    bench.out(0x40, 0x34);
    bench.skip(1);
    assert_eq!((bench.inb(0x40), bench.inb(0x40)), (0x34, 0x34));
}

#[test]
fn counter_0_interrupts_at_exact_ticks_for_hours() {
    let mut bench = Bench::new();
    bench.program(0, 2, 0);
    bench.irq0.take_edges();
    let edges = bench.run(PIT_HZ * 60);
    let expected: Vec<u64> = (1..=PIT_HZ * 60 / 65_536).map(|n| 1 + n * 65_536).collect();
    assert_eq!(edges, expected);
    // Four hours on, still in phase.
    bench.skip(PIT_HZ * 4 * 3600);
    bench.ring();
    assert_eq!(bench.irq0.take_edges(), 1, "missed ticks are coalesced");
    let edges = bench.run(200_000);
    assert_eq!(edges.len(), 3);
    assert!(edges.iter().all(|edge| (edge - 1) % 65_536 == 0));
}

/// A PIT whose counter 0 drives IRQ 0 through the switch that keeps what it owes.
struct SystemTimer {
    clock: Arc<TestClock>,
    deadlines: Arc<Deadlines>,
    irq0: Arc<LineProbe>,
    route: Arc<LegacyRoute>,
    pit: Pit,
}

impl SystemTimer {
    fn new() -> Self {
        let (clock, deadlines) = (TestClock::new(), Deadlines::new(2));
        let (irq0, line) = LineProbe::wired();
        let wires = (line, IrqLine::detached(), IrqLine::detached());
        let route = LegacyRoute::new(clock.clone(), deadlines.alarm(1), wires.0, wires.1, wires.2);
        let pit = Pit::new(clock.clone(), deadlines.alarm(0), route.wire(LegacyRoute::PIT));
        Self { clock, deadlines, irq0, route, pit }
    }

    fn start(&self, mode: u8, count: u16) {
        let [low, high] = count.to_le_bytes();
        self.pit.pio_write(Bench::access(0x43), (0x30 | mode << 1).into());
        self.pit.pio_write(Bench::access(0x40), low.into());
        self.pit.pio_write(Bench::access(0x40), high.into());
        self.irq0.take_edges();
    }

    /// Time passes, for which nobody serves the alarms.
    fn stand_still(&self, us: u64) {
        self.clock.advance_ns(us * 1000);
    }

    /// The alarms that have come are served; returns the ticks that were sent.
    fn serve(&self) -> u32 {
        while let Some(slot) = self.deadlines.take_expired(self.clock.now()) {
            let now = self.clock.now();
            if slot == 0 { self.pit.expired(now) } else { self.route.expired(now) }
        }
        self.irq0.take_edges()
    }

    /// A guest runs for `us`, takes each tick at once and follows it up; returns the moments, in
    /// microseconds, and the rings of the alarms.
    fn run(&self, us: u64) -> (Vec<u64>, u32) {
        let (mut ticks, mut rings) = (Vec::new(), 0);
        let start = self.clock.now();
        let end = start + us * 1000;
        loop {
            let deadline = self.deadlines.earliest().filter(|&deadline| deadline <= end);
            self.clock.advance_ns(deadline.unwrap_or(end) - self.clock.now());
            let mut sent = self.serve();
            rings += 1;
            while sent != 0 {
                assert_eq!(sent, 1, "each is taken before the next is sent");
                ticks.push((self.clock.now() - start) / 1000);
                self.route.irq0_taken();
                self.route.follow();
                sent = self.irq0.take_edges();
            }
            if deadline.is_none() {
                return (ticks, rings);
            }
        }
    }
}

#[test]
fn missed_ticks_follow_when_the_one_before_was_taken_and_some_time_after() {
    for mode in [2, 3] {
        let timer = SystemTimer::new();
        // 10 ms.
        timer.start(mode, 11_932);
        timer.stand_still(35_000);
        assert_eq!(timer.serve(), 0, "the guest has to look at what came before");
        let (ticks, _) = timer.run(4_900);
        assert_eq!(ticks, [625, 1250, 1875], "mode {mode}");
        // Those that are due meanwhile wait in the row.
        timer.stand_still(35_000);
        assert_eq!(timer.run(11_000).0, [625, 1250, 1875, 2500, 5102], "mode {mode}");
        timer.stand_still(30_000);
        timer.start(mode, 11_932);
        assert_eq!(timer.run(9_000).0, [], "what was missed before the count was written anew");
    }
}

/// It may be because the tick was sent to a masked input, or because the guest does not take
/// interrupts.
#[test]
fn a_tick_that_is_not_taken_does_not_stop_the_others() {
    let timer = SystemTimer::new();
    timer.start(2, 11_932);
    timer.stand_still(35_000);
    timer.serve();
    let mut sent = 0;
    for _ in 0..1000 {
        timer.stand_still(1_000);
        sent += timer.serve();
    }
    assert!((60..=100).contains(&sent), "{sent}");
    assert!(timer.run(100_000).0.len() <= 11, "nothing was owed: the guest ran");
}

/// The host's timer rings 10,000 times a second at the most; the guest gets all ticks of a faster
/// timer.
#[test]
fn fast_ticks_come_by_the_alarms_and_between_them() {
    for (count, expected) in [(119, 20_053_u32), (72, 33_143), (54, 44_191), (26, 91_783)] {
        let timer = SystemTimer::new();
        timer.start(2, count);
        let (ticks, rings) = timer.run(2_000_000);
        assert!(
            (ticks.len() as u32).abs_diff(expected) <= expected / 1000,
            "{count}: {}",
            ticks.len()
        );
        assert!(rings <= 20_001, "{count}: {rings}");
        timer.stand_still(8_000);
        let owed = timer.run(100).0.len() as u32;
        assert!(owed.abs_diff(expected * 81 / 20_000) <= 5, "{count}: {owed} after 8 ms");
        timer.stand_still(800_000);
        let owed = timer.run(100).0.len() as u32;
        assert!(owed.abs_diff(expected * 16 / 2000) <= 10, "{count}: {owed} after 800 ms");
    }
}

/// The host's timer leaves more time to a guest that has yet to take the ticks of its last ring.
#[test]
fn a_guest_that_is_behind_with_fast_ticks_is_interrupted_less() {
    let timer = SystemTimer::new();
    timer.start(2, 54);
    let (_, rings) = timer.run(100_000);
    assert!((700..760).contains(&rings), "{rings} rings");
    let (mut rings, mut sent, mut taken) = (0, 0, 0_u32);
    let mut free_at = timer.clock.now();
    for _ in 0..20_000 {
        timer.stand_still(5);
        let now = timer.clock.now();
        rings += u32::from(timer.deadlines.earliest().is_some_and(|ring| ring <= now));
        sent += timer.serve();
        if sent != 0 && now >= free_at {
            // It takes 50 us for each.
            free_at = now + 50_000;
            taken += 1;
            timer.route.irq0_taken();
            timer.route.follow();
            sent = timer.irq0.take_edges();
        }
    }
    assert!((240..270).contains(&rings), "{rings} rings");
    while sent != 0 {
        taken += 1;
        timer.route.irq0_taken();
        timer.route.follow();
        sent = timer.irq0.take_edges();
    }
    assert!(taken.abs_diff(100_000_000 / 45_257) <= 10, "{taken} in all");
}

#[test]
fn a_guest_that_takes_no_fast_ticks_is_not_drowned_in_them_later() {
    let timer = SystemTimer::new();
    timer.start(2, 54);
    for _ in 0..10_000 {
        timer.stand_still(100);
        timer.serve();
    }
    assert!(timer.run(100).0.len() <= 5);
}

#[test]
fn mode_0_on_counter_0_interrupts_once() {
    let mut bench = Bench::new();
    bench.program(0, 0, 1000);
    assert_eq!(bench.run(10_000), [1001]);
    assert_eq!(bench.deadlines.earliest(), None);
    // Linux stops the timer so: mode 0, count 0; one last edge comes.
    bench.program(0, 0, 0);
    assert!(!bench.irq0.is_high());
    assert_eq!(bench.run(100_000).len(), 1);
}

#[test]
fn a_new_period_starts_at_the_end_of_the_old_one() {
    for mode in [2, 3] {
        let mut bench = Bench::new();
        bench.program(0, mode, 1000);
        bench.irq0.take_edges();
        assert_eq!(bench.run(1501), [1001]);
        if mode == 2 {
            bench.count(0, 400);
            assert_eq!(bench.run(1500), [2001, 2401, 2801]);
        } else {
            // 501 into the period: the low half ends at 2001.
            bench.count(0, 400);
            assert_eq!(bench.run(1500), [2001, 2401, 2801]);
        }
    }
    // In the high half, the new low half follows.
    let mut bench = Bench::new();
    bench.program(0, 3, 1000);
    bench.irq0.take_edges();
    assert_eq!(bench.run(1101), [1001]);
    bench.count(0, 400);
    assert_eq!(bench.run(1000), [1701, 2101]);
}

#[test]
fn tiny_periods_do_not_storm_and_counts_stay_exact() {
    for (mode, count) in [(2, 2), (3, 2), (2, 3), (3, 7), (2, 1), (3, 1)] {
        let mut bench = Bench::new();
        bench.program(0, mode, count);
        bench.irq0.take_edges();
        let edges = bench.run(PIT_HZ / 100);
        assert!(edges.len() <= 100, "{} edges in 10 ms", edges.len());
        assert_eq!(edges.len() > 90, count > 1);
        assert!(edges.iter().all(|edge| (edge - 1) % u64::from(count) == 0));
    }
    let mut bench = Bench::new();
    bench.program(0, 2, 3);
    let values: Vec<u16> = (0..6)
        .map(|_| {
            bench.skip(1);
            bench.read(0)
        })
        .collect();
    assert_eq!(values, [3, 2, 1, 3, 2, 1]);
}

#[test]
fn linux_calibrates_through_port_61() {
    // pit_calibrate_tsc: 50 ms in mode 0, polling OUT2.
    let bench = Bench::new();
    bench.out(PORT_61, bench.inb(PORT_61) & !2 | 1);
    let latch = (PIT_HZ / 20) as u16;
    bench.program(2, 0, latch);
    let start_ns = bench.clock.now().as_ns();
    while !bench.output2() {
        bench.clock.advance_ns(500);
    }
    let error_ns = (bench.clock.now().as_ns() - start_ns).abs_diff(50_000_000);
    assert!(error_ns < 3_000, "{error_ns} ns");
}

#[test]
fn linux_quick_calibration_sees_each_msb_for_256_ticks() {
    // quick_pit_calibrate: counts down from ffffh, reads LSB and MSB without latching.
    let mut bench = Bench::new();
    bench.out(PORT_61, bench.inb(PORT_61) & !2 | 1);
    bench.program(2, 0, 0xffff);
    bench.skip(1);
    let mut read_msb = |skip| {
        bench.skip(skip);
        let _low = bench.inb(0x42);
        bench.inb(0x42)
    };
    let mut msb = read_msb(0);
    for expected in (0xf0..=0xff_u8).rev() {
        let mut ticks = 0;
        while msb == expected {
            ticks += 1;
            msb = read_msb(1);
        }
        assert_eq!(ticks, 256, "MSB {expected:#x}");
    }
}

#[test]
fn refresh_toggles_every_15_us() {
    let mut bench = Bench::new();
    let mut toggles = 0;
    let mut last = bench.inb(PORT_61) & 0x10;
    for _ in 0..1800 {
        bench.skip(1);
        let now = bench.inb(PORT_61) & 0x10;
        toggles += u32::from(now != last);
        last = now;
    }
    assert_eq!(toggles, 100);
    assert_eq!(bench.inb(PORT_61) & 0xc0, 0);
}

/// The counter of the datasheet, stepped clock by clock: what the computed one is compared with.
struct Stepped {
    mode: u8,
    count: u16,
    element: u32,
    output: bool,
    loaded: bool,
    expired: bool,
}

impl Stepped {
    fn new(mode: u8, count: u16) -> Self {
        Self { mode, count, element: 0, output: mode != 0, loaded: false, expired: false }
    }

    fn reload(&self) -> u32 {
        if self.count == 0 { 65_536 } else { self.count.into() }
    }

    fn clock(&mut self) {
        if !self.loaded {
            self.loaded = true;
            self.element = if self.mode == 3 { self.reload() & !1 } else { self.reload() };
            return;
        }
        match self.mode {
            0 | 4 => {
                self.element = self.element.wrapping_sub(1) & 0xffff;
                let at_zero = self.element == 0 && !self.expired;
                self.expired |= at_zero;
                self.output = if self.mode == 0 { self.expired } else { !at_zero };
            }
            2 => {
                self.element = if self.element == 1 { self.reload() } else { self.element - 1 };
                self.output = self.element != 1;
            }
            _ => {
                // Odd counts: the high half passes through 0, the low half ends at 2.
                let last = if self.output && self.reload() % 2 == 1 { 0 } else { 2 };
                if self.element == last {
                    self.output = !self.output;
                    self.element = self.reload() & !1;
                } else {
                    self.element -= 2;
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn computed_counters_equal_stepped_ones(
        mode in prop::sample::select(vec![0u8, 2, 3, 4]),
        count in prop_oneof![2u16..40, any::<u16>().prop_filter("2 or more, or 0", |&count| count != 1)],
        steps in prop::collection::vec(1u64..3000, 1..20),
    ) {
        let mut bench = Bench::new();
        bench.out(PORT_61, 1);
        bench.program(2, mode, count);
        let mut stepped = Stepped::new(mode, count);
        for step in steps {
            bench.skip(step);
            (0..step).for_each(|_| stepped.clock());
            prop_assert_eq!(bench.read(2), stepped.element as u16);
            prop_assert_eq!(bench.output2(), stepped.output);
        }
    }

    #[test]
    fn random_accesses_never_storm(
        steps in prop::collection::vec((0u64..8, any::<u8>(), 0u64..3_000_000), 1..200),
    ) {
        let bench = Bench::new();
        for (what, value, ns) in steps {
            match what {
                0..4 => bench.out(0x40 + what, value),
                4 => bench.out(PORT_61, value),
                5 => { bench.pit.pio_read(Access { region: value & 1, offset: (value >> 4).into(), size_bytes: 4 }); }
                6 => bench.pit.pio_write(Access { region: value & 1, offset: (value >> 4).into(), size_bytes: 4 }, ns as u32),
                _ => {
                    let end = bench.clock.now() + ns;
                    let mut rings = 0;
                    while let Some(deadline) = bench.deadlines.earliest().filter(|&deadline| deadline <= end) {
                        prop_assert!(deadline > bench.clock.now(), "an alarm in the past");
                        bench.clock.advance_ns(deadline - bench.clock.now());
                        bench.ring();
                        rings += 1;
                    }
                    prop_assert!(rings <= ns / 100_000 + 3, "{} rings in {} ns", rings, ns);
                    bench.clock.advance_ns(end - bench.clock.now());
                }
            }
        }
    }
}
