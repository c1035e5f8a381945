use proptest::prelude::*;

use super::spec::*;
use super::*;
use crate::irq::LineProbe;
use crate::ram_layout::RamLayout;
use crate::time::{Deadlines, TestClock};

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;
/// 2026-02-28 23:59:57 UTC, a Saturday.
const START_S: u64 = 1_772_323_197;

struct Bench {
    clock: Arc<TestClock>,
    deadlines: Arc<Deadlines>,
    irq8: Arc<LineProbe>,
    rtc: Rtc,
}

impl Bench {
    fn with(contents: &CmosContents) -> Self {
        Self::going_on(Battery::new(START_S), contents)
    }

    fn going_on(battery: Battery, contents: &CmosContents) -> Self {
        let clock = TestClock::new();
        let deadlines = Deadlines::new(1);
        let (irq8, line) = LineProbe::wired();
        let rtc = Rtc::new(clock.clone(), deadlines.alarm(0), line, battery, contents);
        Self { clock, deadlines, irq8, rtc }
    }

    fn new() -> Self {
        Self::with(&CmosContents::new())
    }

    fn out(&self, port: u64, value: u8) {
        self.rtc.pio_write(Access::new(port - PORT_BASE, 1), value.into());
    }

    fn read(&self, index: u8) -> u8 {
        self.out(0x70, index);
        self.rtc.pio_read(Access::new(1, 1)).unwrap() as u8
    }

    fn write(&self, index: u8, value: u8) {
        self.out(0x70, index);
        self.out(0x71, value);
    }

    /// Century, year, month, day, weekday, hours, minutes, seconds.
    fn time(&self) -> [u8; 8] {
        [CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS].map(|index| self.read(index))
    }

    /// Moves on, serving the alarm; returns the times (ns) at which IRQ 8 rose. Reads register C
    /// each time if `acknowledge`.
    fn run(&self, ns: u64, acknowledge: bool) -> Vec<u64> {
        let end = self.clock.now() + ns;
        let mut edges = Vec::new();
        while let Some(deadline) = self.deadlines.earliest().filter(|&deadline| deadline <= end) {
            self.clock.advance_ns(deadline - self.clock.now());
            while self.deadlines.take_expired(self.clock.now()).is_some() {
                self.rtc.expired(self.clock.now());
            }
            if self.irq8.take_edges() > 0 {
                edges.push(deadline.as_ns());
            }
            if acknowledge {
                self.read(REGISTER_C);
            }
        }
        self.clock.advance_ns(end - self.clock.now());
        edges
    }
}

#[test]
fn time_in_bcd_rolls_over() {
    let bench = Bench::new();
    assert_eq!(bench.time(), [0x20, 0x26, 0x02, 0x28, 7, 0x23, 0x59, 0x57]);
    bench.clock.advance_ns(3 * S);
    assert_eq!(bench.time(), [0x20, 0x26, 0x03, 0x01, 1, 0x00, 0x00, 0x00]);
    assert_eq!(bench.read(REGISTER_D), 0x80);
    assert_eq!(bench.deadlines.earliest(), None, "nobody wants an interrupt");
}

#[test]
fn binary_and_twelve_hours() {
    let bench = Bench::new();
    bench.write(REGISTER_B, 0x04);
    assert_eq!(bench.time(), [20, 26, 2, 28, 7, 11 | 0x80, 59, 57]);
    bench.clock.advance_ns(3 * S);
    assert_eq!(bench.time(), [20, 26, 3, 1, 1, 12, 0, 0]);
}

#[test]
fn update_in_progress_precedes_the_change() {
    let bench = Bench::new();
    bench.clock.advance_ns(S - 2_228_001);
    assert_eq!(bench.read(REGISTER_A), 0x26);
    bench.clock.advance_ns(1);
    assert_eq!(bench.read(REGISTER_A), 0xa6);
    bench.clock.advance_ns(2_227_999);
    assert_eq!((bench.read(REGISTER_A), bench.read(SECONDS)), (0xa6, 0x57));
    bench.clock.advance_ns(1);
    assert_eq!((bench.read(REGISTER_A), bench.read(SECONDS)), (0x26, 0x58));
}

#[test]
fn linux_reads_the_time_outside_updates() {
    // mc146818_avoid_UIP: seconds, wait for no UIP, the rest, UIP and seconds again.
    let bench = Bench::new();
    for start_ns in [0, S - 3 * MS, S - MS, S] {
        bench.clock.advance_ns(start_ns);
        let date = loop {
            let seconds = bench.read(SECONDS);
            if bench.read(REGISTER_A) & 0x80 != 0 {
                bench.clock.advance_ns(MS);
                continue;
            }
            bench.clock.advance_ns(20_000);
            let rest =
                (bench.read(MINUTES), bench.read(HOURS), bench.read(DAY), bench.read(REGISTER_B));
            if bench.read(REGISTER_A) & 0x80 == 0 && bench.read(SECONDS) == seconds {
                break (seconds, rest);
            }
        };
        let expected =
            calendar::DateTime::from_unix((START_S + bench.clock.now().as_ns() / S) as i64);
        let bcd = |value: i64| (value / 10 * 16 + value % 10) as u8;
        assert_eq!(date.0, bcd(expected.second));
        assert_eq!(date.1, (bcd(expected.minute), bcd(expected.hour), bcd(expected.day), 0x02));
    }
}

#[test]
fn linux_sets_the_time() {
    // mc146818_set_time: SET, divider held, the fields, SET off, divider on; then half a second to
    // the update.
    let bench = Bench::new();
    bench.clock.advance_ns(300 * MS);
    bench.write(REGISTER_B, 0x82);
    bench.write(REGISTER_A, 0x76);
    bench.clock.advance_ns(5 * S);
    assert_eq!(bench.read(SECONDS), 0x57, "stopped");
    for (index, value) in
        [(YEAR, 0x99), (MONTH, 0x12), (DAY, 0x31), (HOURS, 0x23), (MINUTES, 0x59), (SECONDS, 0x59)]
    {
        bench.write(index, value);
    }
    bench.write(CENTURY, 0x19);
    bench.write(REGISTER_B, 0x02);
    bench.clock.advance_ns(S);
    bench.write(REGISTER_A, 0x26);
    bench.clock.advance_ns(500 * MS - 1);
    assert_eq!(bench.time(), [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59]);
    bench.clock.advance_ns(1);
    assert_eq!(bench.time(), [0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0]);
}

#[test]
fn setting_keeps_the_phase_of_the_second() {
    let bench = Bench::new();
    bench.clock.advance_ns(700 * MS);
    bench.write(REGISTER_B, 0x82);
    bench.write(SECONDS, 0x10);
    bench.write(REGISTER_B, 0x02);
    bench.clock.advance_ns(299 * MS);
    assert_eq!(bench.read(SECONDS), 0x10);
    bench.clock.advance_ns(MS);
    assert_eq!(bench.read(SECONDS), 0x11);
    // Written while running: at once.
    bench.write(HOURS, 0x05);
    assert_eq!(bench.time()[5..], [0x05, 0x59, 0x11]);
}

#[test]
fn periodic_interrupts_keep_their_rate() {
    let bench = Bench::new();
    bench.write(REGISTER_B, 0x42);
    let edges = bench.run(S, true);
    assert_eq!(edges.len(), 1024);
    assert_eq!(edges.last(), Some(&S));
    assert_eq!(edges[0], 976_563);
    // Unacknowledged: one, and no alarm until register C is read.
    assert_eq!(bench.run(S, false).len(), 1);
    assert_eq!(bench.deadlines.earliest(), None);
    assert_eq!(bench.read(REGISTER_C) & 0xc0, 0xc0);
    assert!(!bench.irq8.is_high());
    assert!(bench.deadlines.earliest().is_some());
    bench.write(REGISTER_A, 0x2f);
    assert_eq!(bench.run(3 * S, true).len(), 6);
}

#[test]
fn flags_are_set_without_interrupts() {
    let bench = Bench::new();
    bench.clock.advance_ns(1500 * MS);
    assert_eq!(bench.read(REGISTER_C), 0x50);
    assert_eq!(bench.read(REGISTER_C), 0x00);
    bench.write(REGISTER_A, 0x20);
    bench.clock.advance_ns(S);
    assert_eq!(bench.read(REGISTER_C), 0x10);
}

#[test]
fn update_ended_interrupts_come_with_the_second() {
    let bench = Bench::new();
    bench.clock.advance_ns(400 * MS);
    bench.write(REGISTER_B, 0x12);
    assert_eq!(bench.run(3 * S, true), [S, 2 * S, 3 * S]);
    // SET clears the enable.
    bench.write(REGISTER_B, 0x92);
    assert_eq!(bench.read(REGISTER_B), 0x82);
}

#[test]
fn alarms_with_and_without_wildcards() {
    let bench = Bench::new();
    // 00:00:05, 8 s from now, and once a day.
    for (index, value) in [(HOURS_ALARM, 0x00), (MINUTES_ALARM, 0x00), (SECONDS_ALARM, 0x05)] {
        bench.write(index, value);
    }
    bench.write(REGISTER_B, 0x22);
    assert_eq!(bench.run(2 * 86_400 * S, true), [8 * S, (86_400 + 8) * S]);
    // Every minute at second 5, in binary with 12 hours.
    let bench = Bench::new();
    bench.write(REGISTER_B, 0x04);
    for (index, value) in [(HOURS_ALARM, 0xff), (MINUTES_ALARM, 0xc0), (SECONDS_ALARM, 5)] {
        bench.write(index, value);
    }
    bench.write(REGISTER_B, 0x24);
    assert_eq!(bench.run(130 * S, true), [8 * S, 68 * S, 128 * S]);
    bench.write(SECONDS_ALARM, 77);
    assert_eq!(bench.deadlines.earliest(), None, "never matches");
}

#[test]
fn an_alarm_missed_while_the_guest_did_not_run_rings_once() {
    let bench = Bench::new();
    bench.write(SECONDS_ALARM, 0xff);
    bench.write(MINUTES_ALARM, 0x30);
    bench.write(HOURS_ALARM, 0xff);
    bench.write(REGISTER_B, 0x22);
    bench.clock.advance_ns(7 * 86_400 * S);
    assert_eq!(bench.run(0, false).len(), 1);
    assert_eq!(bench.read(REGISTER_C) & 0xa0, 0xa0);
}

#[test]
fn memory_survives_reset_and_interrupts_do_not() {
    let bench = Bench::new();
    bench.write(0x0f, 0x05);
    bench.write(REGISTER_B, 0x42);
    bench.run(10 * MS, false);
    assert!(bench.irq8.is_high());
    let bench = Bench::going_on(bench.rtc.battery(), &CmosContents::new());
    assert!(!bench.irq8.is_high());
    assert_eq!(bench.deadlines.earliest(), None);
    assert_eq!((bench.read(0x0f), bench.read(REGISTER_B), bench.read(REGISTER_C)), (0x05, 0x02, 0));
    bench.clock.advance_ns(S);
    assert_eq!(bench.read(SECONDS), 0x58);
}

#[test]
fn seabios_finds_memory_and_boot_order() {
    const GIB: u64 = 1 << 30;
    let contents = CmosContents::new()
        .memory(&RamLayout::new(8 * GIB))
        .cpus(4)
        .boot_order([BootDevice::Cdrom, BootDevice::Disk, BootDevice::None])
        .floppies(1)
        .byte(0x05, 0xff);
    let bench = Bench::with(&contents);
    let word = |index: u8| u32::from(bench.read(index)) | u32::from(bench.read(index + 1)) << 8;
    assert_eq!(word(0x15), 640);
    assert_eq!((word(0x17), word(0x30)), (0xffff, 0xffff));
    assert_eq!(u64::from(word(0x34)) * 65_536 + (16 << 20), 3 * GIB);
    assert_eq!((u64::from(word(0x5b)) | u64::from(bench.read(0x5d)) << 16) * 65_536, 5 * GIB);
    assert_eq!((bench.read(0x5f), bench.read(0x3d), bench.read(0x38)), (3, 0x23, 0x01));
    assert_eq!((bench.read(0x10), bench.read(0x14)), (0x40, 0x07));
    let sum: u32 = (0x10..=0x2d).map(|index| u32::from(bench.read(index))).sum();
    assert_eq!(u32::from(bench.read(0x2e)) << 8 | u32::from(bench.read(0x2f)), sum);
}

#[test]
fn ports() {
    let bench = Bench::new();
    bench.out(0x70, 0x8f);
    assert!(bench.rtc.is_nmi_masked());
    assert_eq!(bench.rtc.pio_read(Access::new(0, 1)), None, "write only");
    // A word write sets index and data.
    bench.rtc.pio_write(Access::new(0, 2), 0x5a40);
    assert_eq!(bench.read(0x40), 0x5a);
    bench.out(0x72, 0x40);
    bench.out(0x73, 0xa5);
    assert_eq!(bench.rtc.pio_read(Access::new(3, 1)), Some(0xffff_ffa5));
    assert_eq!(bench.read(0x40), 0x5a);
}

proptest! {
    #[test]
    fn random_accesses_keep_alarm_and_wire_consistent(
        steps in prop::collection::vec((0u8..7, any::<u8>(), any::<u8>(), 0u64..5_000_000_000), 1..150),
    ) {
        let bench = Bench::new();
        for (what, index, value, ns) in steps {
            match what {
                0 => bench.write(index % 14, value),
                1 => bench.write(index, value),
                2 => { bench.read(index); }
                3 => { bench.read(REGISTER_C); prop_assert!(!bench.irq8.is_high()); }
                4 => bench.rtc.pio_write(Access::new((index & 7).into(), 1 << (value & 1)), ns as u32),
                5 => { bench.rtc.pio_read(Access::new((index & 7).into(), 4)); }
                _ => { bench.run(ns, false); }
            }
            if let Some(deadline) = bench.deadlines.earliest() {
                prop_assert!(deadline > bench.clock.now());
                prop_assert!(!bench.irq8.is_high(), "no alarm while the interrupt is asserted");
            }
        }
    }
}

#[test]
fn the_battery_keeps_time_and_memory_but_not_what_describes_the_machine() {
    let contents = CmosContents::new().cpus(2);
    let bench = Bench::with(&contents);
    for (index, value) in
        [(0x6e, 0xa5), (0x0f, 0x0a), (0x5f, 77), (SECONDS_ALARM, 0x30), (SECONDS, 0x10)]
    {
        bench.write(index, value);
    }
    bench.out(0x72, 0x20);
    bench.out(0x73, 0x5a);
    bench.write(REGISTER_B, 0x72);
    bench.clock.advance_ns(3 * S + S / 2);
    let next = Bench::going_on(bench.rtc.battery().after_ns(S), &contents);
    assert_eq!(
        [0x6e, 0x0f, 0x5f, SECONDS_ALARM].map(|index| next.read(index)),
        [0xa5, 0x0a, 1, 0x30]
    );
    next.out(0x72, 0x20);
    assert_eq!(next.rtc.pio_read(Access::new(3, 1)).map(|value| value as u8), Some(0x5a));
    assert_eq!(next.read(SECONDS), 0x14, "4.5 s later");
    assert_eq!((next.read(REGISTER_B), next.read(REGISTER_C)), (0x02, 0));
    assert!(!next.irq8.is_high() && next.deadlines.earliest().is_none());
    next.clock.advance_ns(S / 2);
    assert_eq!(next.read(SECONDS), 0x15);
}

/// At 8192 Hz, too: each follows when the one before has been taken, by a read of register C.
#[test]
fn periodic_interrupts_that_the_host_missed_follow_one_by_one() {
    for (rate, period_ns) in [(3, 122_071), (6, 976_563), (15, 500 * MS)] {
        let bench = Bench::new();
        bench.write(REGISTER_A, 0x20 | rate);
        bench.write(REGISTER_B, 0x42);
        bench.run(period_ns, true);
        // For ten periods nobody serves the alarm.
        bench.clock.advance_ns(10 * period_ns);
        let edges = bench.run(40 * period_ns, true);
        assert!((49..=51).contains(&edges.len()), "{} at rate {rate}", edges.len());
        assert!(
            edges.windows(2).filter(|pair| pair[1] - pair[0] < 100_000).count() <= 11,
            "rate {rate}"
        );
        assert_eq!(
            bench.run(10 * period_ns, true).len(),
            10,
            "rate {rate}: nothing is owed any more"
        );
        // An interrupt that the guest does not take is lost, as with the chip.
        bench.run(20 * period_ns, false);
        assert!(bench.run(10 * period_ns, true).len() <= 10);
        // Another rate ends the debt.
        bench.clock.advance_ns(10 * period_ns);
        bench.run(0, true);
        bench.write(REGISTER_A, 0x20 | 7);
        assert!(bench.run(3_900_000, true).len() <= 2);
    }
}
