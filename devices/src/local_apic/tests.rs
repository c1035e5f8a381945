mod properties;

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

#[test]
fn registers_after_reset() {
    let mut machine = Machine::new(2);
    let apic = &mut machine.apics[1];
    assert_eq!(read(apic, register::ID), 1 << 24);
    assert_eq!(read(apic, register::VERSION), 0x50014);
    assert_eq!(read(apic, register::SVR), 0xff);
    assert_eq!(read(apic, register::DFR), u32::MAX);
    for entry in register::LVT_TIMER..=register::LVT_ERROR {
        assert_eq!(read(apic, entry), 0x10000);
    }
    assert_eq!(apic.apic_base(), 0xfee0_0800);
    assert_eq!(machine.apics[0].apic_base(), 0xfee0_0900);
    assert_eq!(machine.apics[0].mmio_base(), Some(0xfee0_0000));
    assert!(!machine.apics[0].accepts_extint());
}

#[test]
fn linux_boots_and_calibrates() {
    let mut machine = Machine::new(1);
    // setup_local_APIC: SeaBIOS's virtual wire first.
    let apic = &mut machine.apics[0];
    let svr = read(apic, register::SVR);
    write(apic, register::SVR, svr | 0x100);
    write(apic, LVT_LINT0, 0x8700);
    assert!(apic.accepts_extint());
    write(apic, register::DFR, u32::MAX);
    write(apic, register::LDR, 1 << 24);
    write(apic, register::TPR, 0x10);
    assert_eq!(read(apic, register::LDR), 1 << 24);
    // calibrate_APIC_clock: one-shot from the top, divided by 16, against 100 ms of another clock.
    write(apic, register::LVT_TIMER, 0x100ec);
    write(apic, register::DIVIDE, 3);
    write(apic, register::INITIAL_COUNT, u32::MAX);
    let before = read(apic, register::CURRENT_COUNT);
    assert_eq!(machine.run_ns(100_000_000), 0, "a masked timer wakes nobody");
    let apic = &mut machine.apics[0];
    assert_eq!(before - read(apic, register::CURRENT_COUNT), 100_000_000 / 16);
    // Periodic at 250 Hz.
    write(apic, register::LVT_TIMER, 0x200ec);
    write(apic, register::DIVIDE, 3);
    write(apic, register::INITIAL_COUNT, 4_000_000 / 16);
    let mut ticks = 0;
    for _ in 0..1000 {
        machine.run_ns(1_000_000);
        ticks += u32::from(serve(&mut machine.apics[0]).is_some());
    }
    assert_eq!(ticks, 250);
}

/// Linux 2.4, and kernels for processors before the Pentium Pro until 3.16: every write is an XCHG
/// (`apic_write_around`), so that every register is read as well. The order is that of
/// `clear_local_APIC`, `setup_local_APIC`, `__setup_APIC_LVTT` and `ack_APIC_irq`.
#[test]
fn kernels_that_write_by_xchg_see_no_errors() {
    const LVT_PERFORMANCE: u8 = 0x34;
    const LVT_LINT1: u8 = 0x36;
    const ERROR_VECTOR: u32 = 0xfe;
    let exchange = |apic: &mut LocalApic, number: u8, value: u32| {
        let old = read(apic, number);
        write(apic, number, value);
        old
    };
    let mut machine = Machine::new(1);
    let apic = &mut machine.apics[0];
    for (number, value) in [
        (register::LVT_ERROR, 0x1_0000 | ERROR_VECTOR),
        (register::LVT_TIMER, 0x1_0000),
        (LVT_LINT0, 0x1_0000),
        (LVT_LINT1, 0x1_0000),
        (LVT_PERFORMANCE, 0x1_0000),
        (register::LVT_ERROR, 0x1_0000),
        (register::ESR, 0),
        (register::DFR, u32::MAX),
        (register::LDR, 1 << 24),
        (register::TPR, 0),
        (register::SVR, 0x1ff),
        (LVT_LINT0, 0x700),
        (LVT_LINT1, 0x400),
        (register::LVT_ERROR, ERROR_VECTOR),
        (register::ESR, 0),
        (register::ICR_HIGH, 0),
        // INIT level de-assert to all: arbitration IDs.
        (register::ICR_LOW, 0x8_8500),
        (register::LVT_TIMER, 0x2_00ef),
        (register::DIVIDE, 3),
        (register::INITIAL_COUNT, 1_000_000 / 16),
    ] {
        exchange(apic, number, value);
    }
    machine.run_ns(1_000_001);
    let apic = &mut machine.apics[0];
    assert_eq!(apic.highest_pending(), Some(0xef), "the timer, and no error");
    apic.acknowledge(0xef);
    assert_eq!(exchange(apic, register::EOI, 0), 0);
    assert_eq!(apic.highest_pending(), None);
    // What else can only be read, or only be written.
    for number in [
        register::VERSION,
        register::APR,
        register::PPR,
        register::REMOTE_READ,
        register::CURRENT_COUNT,
    ]
    .into_iter()
    .chain(register::ISR_FIRST..=register::IRR_LAST)
    {
        exchange(apic, number, u32::MAX);
    }
    exchange(apic, register::ESR, 0);
    assert_eq!(read(apic, register::ESR), 0);
    assert_eq!(apic.highest_pending(), None);
}

#[test]
fn a_read_of_the_end_of_interrupt_register_faults_in_x2apic_mode() {
    let mut machine = Machine::x2apic(1);
    let apic = &mut machine.apics[0];
    for number in
        [register::EOI, register::SELF_IPI, register::REMOTE_READ, register::APR, register::DFR]
    {
        assert_eq!(apic.read_msr(0x800 + u32::from(number)), Err(GpFault), "{number:#x}");
    }
    for number in [register::VERSION, register::PPR, register::CURRENT_COUNT, register::ISR_FIRST] {
        assert_eq!(apic.write_msr(0x800 + u32::from(number), 0), Err(GpFault), "{number:#x}");
    }
}

#[test]
fn one_shot_fires_once_at_its_nanosecond() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x40);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1000);
    machine.run_ns(999);
    assert_eq!(read(&mut machine.apics[0], register::CURRENT_COUNT), 1);
    assert_eq!(machine.pending(), [None]);
    machine.run_ns(1);
    assert_eq!(serve(&mut machine.apics[0]), Some(0x40));
    assert_eq!(read(&mut machine.apics[0], register::CURRENT_COUNT), 0);
    machine.run_ns(1_000_000);
    assert_eq!(machine.pending(), [None]);
    assert_eq!(machine.deadlines.earliest(), None);
}

#[test]
fn storm_of_a_short_period_is_held_back() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x20040);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1);
    let woken = machine.run_ns(100 * MIN_PERIOD_NS);
    assert!((90..=101).contains(&woken), "{woken}");
}

/// Takes what is pending, and tells the timer.
fn take_tick(apic: &mut LocalApic) -> bool {
    let Some(vector) = serve(apic) else { return false };
    apic.timer().taken(vector);
    true
}

#[test]
fn missed_ticks_follow_each_other_and_keep_the_phase() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x20040);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1_000_000);
    machine.clock.advance_ns(10_300_000);
    machine.run_ns(0);
    assert!(!take_tick(&mut machine.apics[0]), "the guest looks around first");
    for number in 0..11 {
        // Ten, and the one that is due meanwhile.
        machine.run_ns(100_000);
        assert!(take_tick(&mut machine.apics[0]), "tick {number}");
        assert!(!take_tick(&mut machine.apics[0]), "after {number}");
    }
    machine.run_ns(500_000);
    assert!(!take_tick(&mut machine.apics[0]));
    machine.run_ns(100_000);
    assert!(take_tick(&mut machine.apics[0]), "at 12 ms");
    // A timer that was set anew owes nothing of before.
    machine.clock.advance_ns(10_000_000);
    machine.run_ns(0);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1_000_000);
    machine.run_ns(900_000);
    assert!(!take_tick(&mut machine.apics[0]));
}

#[test]
fn ticks_of_a_fast_timer_follow_at_once() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x20040);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 20_000);
    let mut taken = 0;
    for _ in 0..1000 {
        machine.run_ns(100_000);
        while take_tick(&mut machine.apics[0]) {
            taken += 1;
            assert!(!take_tick(&mut machine.apics[0]), "the handler ends first");
            if machine.apics[0].timer().follows_at_once() {
                machine.apics[0].timer().follow();
            }
        }
    }
    assert!((4_950..=5_000).contains(&taken), "{taken}");
}

#[test]
fn unmasking_does_not_bring_back_what_expired_under_the_mask() {
    for by_processor in [false, true] {
        let mut machine = Machine::enabled(1);
        write(&mut machine.apics[0], register::LVT_TIMER, 0x10040);
        write(&mut machine.apics[0], register::DIVIDE, 0xb);
        write(&mut machine.apics[0], register::INITIAL_COUNT, 1000);
        machine.run_ns(2000);
        if by_processor {
            machine.apics[0].page().set(register::LVT_TIMER, 0x40);
            machine.apics[0].written(u16::from(register::LVT_TIMER) << 4);
        } else {
            write(&mut machine.apics[0], register::LVT_TIMER, 0x40);
        }
        machine.run_ns(2000);
        assert_eq!(machine.pending(), [None], "by the processor: {by_processor}");
    }
}

#[test]
fn dividing_differently_keeps_the_count() {
    let mut machine = Machine::enabled(1);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x40);
    write(&mut machine.apics[0], register::DIVIDE, 0xb);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 1000);
    machine.run_ns(400);
    write(&mut machine.apics[0], register::DIVIDE, 0xa); // by 128
    assert_eq!(read(&mut machine.apics[0], register::CURRENT_COUNT), 600);
    machine.run_ns(599 * 128);
    assert_eq!(machine.pending(), [None]);
    machine.run_ns(128);
    assert_eq!(machine.pending(), [Some(0x40)]);
}

#[test]
fn tsc_deadline_mode() {
    let mut machine = Machine::enabled(1);
    machine.apics[0].set_tsc_deadline(Some(GuestTime::from_ns(500)), 12345);
    assert_eq!(machine.apics[0].tsc_deadline(), 0, "ignored outside its mode");
    write(&mut machine.apics[0], register::LVT_TIMER, 0x40041);
    assert!(machine.apics[0].in_tsc_deadline_mode());
    machine.apics[0].set_tsc_deadline(Some(GuestTime::from_ns(500)), 12345);
    assert_eq!(machine.apics[0].tsc_deadline(), 12345);
    write(&mut machine.apics[0], register::INITIAL_COUNT, 7);
    assert_eq!(read(&mut machine.apics[0], register::CURRENT_COUNT), 0);
    machine.run_ns(499);
    assert_eq!(machine.pending(), [None]);
    machine.run_ns(1);
    assert_eq!(machine.pending(), [Some(0x41)]);
    assert_eq!(machine.apics[0].tsc_deadline(), 0);
    machine.apics[0].set_tsc_deadline(Some(GuestTime::from_ns(900)), 99);
    write(&mut machine.apics[0], register::LVT_TIMER, 0x41);
    assert_eq!(machine.deadlines.earliest(), None, "leaving the mode disarms");
}

#[test]
fn priorities_nest_and_unwind() {
    let mut machine = Machine::enabled(1);
    let inbox = machine.apics[0].inbox().clone();
    let apic = &mut machine.apics[0];
    inbox.post_vector(0x31, false);
    assert_eq!(apic.highest_pending(), Some(0x31));
    apic.acknowledge(0x31);
    inbox.post_vector(0x35, false);
    assert_eq!(apic.highest_pending(), None, "same class");
    inbox.post_vector(0x80, false);
    assert_eq!(apic.highest_pending(), Some(0x80));
    apic.acknowledge(0x80);
    assert_eq!(read(apic, register::PPR), 0x80);
    assert_eq!(read(apic, register::ISR_FIRST + 1), 1 << 0x11);
    assert_eq!(read(apic, register::IRR_FIRST + 1), 1 << 0x15);
    write(apic, register::EOI, 0);
    assert_eq!(read(apic, register::PPR), 0x30);
    write(apic, register::EOI, 0);
    assert_eq!(apic.highest_pending(), Some(0x35));
    apic.set_tpr(0x30);
    assert_eq!(apic.highest_pending(), None);
    assert_eq!(apic.highest_requested(), Some(0x35));
    apic.set_tpr(0x2f);
    assert_eq!(serve(apic), Some(0x35));
    assert_eq!(apic.highest_requested(), None);
    assert!(!apic.has_pending());
}

#[test]
fn a_request_notifies_once_until_taken() {
    let mut machine = Machine::enabled(1);
    let inbox = machine.apics[0].inbox().clone();
    machine.kicks[0].take_notifications();
    assert!(inbox.post_vector(0x50, false));
    assert!(inbox.post_vector(0x50, false));
    assert_eq!(machine.kicks[0].take_notifications(), 1);
    assert_eq!(machine.apics[0].highest_pending(), Some(0x50));
    machine.apics[0].acknowledge(0x50);
    assert!(inbox.post_vector(0x50, false));
    assert_eq!(machine.kicks[0].take_notifications(), 1);
}

#[test]
fn flat_cluster_and_physical_destinations() {
    let mut machine = Machine::enabled(3);
    for n in 0..3 {
        write(&mut machine.apics[n], register::LDR, 1 << (24 + n));
    }
    let (a, b, c) = (Some(0x41), Some(0x42), Some(0x43));
    send(&mut machine.apics[0], 0x0600_0000, 0x841);
    assert_eq!(machine.pending(), [None, a, a]);
    send(&mut machine.apics[0], 0x0100_0000, 0x042);
    assert_eq!(machine.pending(), [None, b, a]);
    send(&mut machine.apics[0], 0xff00_0000, 0x043);
    assert_eq!(machine.pending(), [c, c, c]);
    // Clusters: APIC n is member 0 of cluster n.
    for n in 0..3 {
        write(&mut machine.apics[n], register::DFR, 0x0fff_ffff);
        write(&mut machine.apics[n], register::LDR, (n as u32) << 28 | 1 << 24);
    }
    send(&mut machine.apics[0], 0x2100_0000, 0x851);
    send(&mut machine.apics[0], 0x2200_0000, 0x852);
    assert_eq!(machine.pending(), [c, c, Some(0x51)]);
    send(&mut machine.apics[0], 0xf100_0000, 0x853);
    assert_eq!(machine.pending(), [Some(0x53); 3]);
}

#[test]
fn shorthands() {
    let mut machine = Machine::enabled(3);
    send(&mut machine.apics[1], 0, 0x40060);
    assert_eq!(machine.pending(), [None, Some(0x60), None]);
    send(&mut machine.apics[1], 0, 0xc0061);
    assert_eq!(machine.pending(), [Some(0x61), Some(0x60), Some(0x61)]);
    send(&mut machine.apics[1], 0, 0x80062);
    assert_eq!(machine.pending(), [Some(0x62); 3]);
}

#[test]
fn only_fixed_interrupts_go_to_the_sender_by_shorthand() {
    const TO_SELF: u32 = 1 << 18;
    const ALL: u32 = 2 << 18;
    const OTHERS: u32 = 3 << 18;
    // Lowest priority, SMI, NMI, INIT, start-up, ExtINT.
    for mode in [1, 2, 4, 5, 6, 7] {
        for shorthand in [TO_SELF, ALL] {
            let mut machine = Machine::enabled(2);
            send(&mut machine.apics[0], 0, shorthand | mode << 8 | 0x4041);
            assert_eq!(machine.pending(), [None; 2], "mode {mode}");
            for apic in &mut machine.apics {
                assert!(
                    !apic.take_nmi() && !apic.take_init() && apic.take_sipi().is_none(),
                    "mode {mode}"
                );
            }
        }
    }
    let mut machine = Machine::enabled(2);
    send(&mut machine.apics[0], 0, OTHERS | 0x4400);
    assert_eq!(
        machine.apics.iter_mut().map(LocalApic::take_nmi).collect::<Vec<_>>(),
        [false, true]
    );
    let mut machine = Machine::x2apic(1);
    machine.apics[0].write_msr(0x830, u64::from(TO_SELF | 0x4400)).unwrap();
    assert!(!machine.apics[0].take_nmi());
}

#[test]
fn lowest_priority_goes_to_one_and_takes_turns() {
    let mut machine = Machine::enabled(2);
    let message = Message {
        destination: Destination::All,
        mode: DeliveryMode::LowestPriority,
        vector: 0x70,
        level: false,
    };
    let mut hits = [0; 2];
    for _ in 0..10 {
        assert!(machine.bus.deliver(&message));
        let takers: Vec<_> = (0..2).filter(|n| serve(&mut machine.apics[*n]).is_some()).collect();
        assert_eq!(takers.len(), 1);
        hits[takers[0]] += 1;
    }
    assert_eq!(hits, [5, 5]);
}

#[test]
fn startup_sequence_of_a_second_processor() {
    let mut machine = Machine::new(2);
    write(&mut machine.apics[0], register::SVR, 0x1ff);
    // INIT, INIT level de-assert, two start-up messages: SVR of the target need not be enabled.
    send(&mut machine.apics[0], 0x0100_0000, 0xc500);
    send(&mut machine.apics[0], 0x0100_0000, 0x8500);
    send(&mut machine.apics[0], 0x0100_0000, 0x469a);
    assert!(machine.kicks[1].take() >= 2);
    let apic = &mut machine.apics[1];
    assert!(apic.take_init());
    apic.init();
    assert!(!apic.take_init());
    assert_eq!(apic.take_sipi(), Some(0x9a));
    assert_eq!(apic.take_sipi(), None);
    assert_eq!(read(apic, register::ID), 1 << 24);
    send(&mut machine.apics[0], 0x0100_0000, 0x4400);
    assert!(machine.apics[1].has_nmi() && machine.apics[1].take_nmi());
    assert!(!machine.apics[1].has_nmi() && !machine.apics[1].take_nmi());
}

#[test]
fn software_disabled_takes_no_vectors_and_masks_its_entries() {
    let mut machine = Machine::enabled(2);
    write(&mut machine.apics[0], LVT_LINT0, 0x700);
    write(&mut machine.apics[0], register::SVR, 0xff);
    assert_eq!(read(&mut machine.apics[0], LVT_LINT0), 0x10700);
    assert!(!machine.apics[0].accepts_extint());
    write(&mut machine.apics[0], LVT_LINT0, 0x700);
    assert_eq!(read(&mut machine.apics[0], LVT_LINT0), 0x10700);
    send(&mut machine.apics[1], 0, 0x4041);
    assert_eq!(machine.pending(), [None, None]);
    machine.apics[0].set_apic_base(0xfee0_0000).unwrap();
    assert!(machine.apics[0].accepts_extint(), "disabled altogether: LINT0 is INTR");
}

#[test]
fn errors_latch_on_write() {
    let mut machine = Machine::enabled(2);
    write(&mut machine.apics[0], register::LVT_ERROR, 0xfe);
    send(&mut machine.apics[0], 0x0100_0000, 0x4005);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 0);
    write(&mut machine.apics[0], register::ESR, 0);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 1 << 5);
    write(&mut machine.apics[0], register::ESR, 0);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 0);
    assert_eq!(serve(&mut machine.apics[0]), Some(0xfe));
    // A message with an illegal vector from outside.
    machine.bus.deliver_msi(0xfee0_0000, 3);
    assert_eq!(serve(&mut machine.apics[0]), Some(0xfe));
    write(&mut machine.apics[0], register::ESR, 0);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 1 << 6);
    // A register that does not exist.
    write(&mut machine.apics[0], 0x3d, 0);
    write(&mut machine.apics[0], register::ESR, 0);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 1 << 7);
}

#[test]
fn apic_base_transitions() {
    const OFF: u64 = 0xfee0_0900 & !0x800;
    const XAPIC: u64 = 0xfee0_0900;
    const X2APIC: u64 = 0xfee0_0d00;
    let mut machine = Machine::new(1);
    let apic = &mut machine.apics[0];
    assert_eq!(apic.read_msr(0x803), Err(GpFault), "no MSRs in xAPIC mode");
    assert_eq!(apic.set_apic_base(OFF | 0x400), Err(GpFault));
    assert_eq!(apic.set_apic_base(XAPIC | 1), Err(GpFault));
    assert_eq!(apic.set_apic_base(XAPIC | 1 << 52), Err(GpFault));
    apic.set_apic_base(X2APIC).unwrap();
    assert_eq!(apic.mmio_base(), None);
    assert_eq!(apic.set_apic_base(XAPIC), Err(GpFault));
    apic.set_apic_base(OFF).unwrap();
    assert_eq!(apic.set_apic_base(X2APIC), Err(GpFault));
    apic.set_apic_base(0xfec8_0800).unwrap();
    assert_eq!(apic.mmio_base(), Some(0xfec8_0000));
    assert_eq!(apic.apic_base(), 0xfec8_0900, "the bootstrap flag stays");
}

#[test]
fn x2apic_registers() {
    let mut machine = Machine::x2apic(20);
    let apic = &mut machine.apics[17];
    assert_eq!(apic.read_msr(0x802), Ok(17));
    assert_eq!(apic.read_msr(0x80d), Ok(0x1_0002));
    assert_eq!(apic.read_msr(0x803), Ok(0x50014));
    for absent in [0x800, 0x801, 0x809, 0x80b, 0x80e, 0x831, 0x83f, 0x840, 0x7ff] {
        assert_eq!(apic.read_msr(absent), Err(GpFault), "{absent:x}");
    }
    for (index, value) in
        [(0x802, 1), (0x803, 0), (0x80b, 1), (0x80d, 0), (0x80e, 0), (0x828, 1), (0x831, 0)]
    {
        assert_eq!(apic.write_msr(index, value), Err(GpFault), "{index:x}");
    }
    assert_eq!(apic.write_msr(0x80f, 0x11ff), Err(GpFault));
    assert_eq!(apic.write_msr(0x808, 0x100), Err(GpFault));
    apic.write_msr(0x83f, 0x77).unwrap();
    assert_eq!(apic.highest_pending(), Some(0x77));
    apic.acknowledge(0x77);
    apic.write_msr(0x80b, 0).unwrap();
    // Logical: member 1 of cluster 1; physical; broadcast.
    machine.apics[0].write_msr(0x830, 0x0001_0002_0000_0841).unwrap();
    assert_eq!(machine.apics.iter_mut().filter_map(LocalApic::highest_pending).count(), 1);
    assert_eq!(serve_x2(&mut machine.apics[17]), Some(0x41));
    machine.apics[0].write_msr(0x830, 0x12_0000_0042).unwrap();
    assert_eq!(serve_x2(&mut machine.apics[18]), Some(0x42));
    machine.apics[0].write_msr(0x830, 0xffff_ffff_0000_0043).unwrap();
    assert!(machine.pending().iter().all(|pending| *pending == Some(0x43)));
}

fn serve_x2(apic: &mut LocalApic) -> Option<u8> {
    let vector = apic.highest_pending()?;
    apic.acknowledge(vector);
    apic.write_msr(0x80b, 0).unwrap();
    Some(vector)
}

#[test]
fn level_interrupts_come_back_until_the_line_falls() {
    let mut machine = Machine::enabled(1);
    let io_apic = IoApic::new(machine.bus.clone());
    let line = IrqLine::new(io_apic.clone(), 11);
    io_apic.mmio_write(Access::new(0, 4), 0x10 + 22);
    io_apic.mmio_write(Access::new(0x10, 4), 0xa059);
    line.set(true);
    assert_eq!(read(&mut machine.apics[0], register::TMR_FIRST + 2), 1 << 0x19);
    assert_eq!(serve(&mut machine.apics[0]), Some(0x59));
    assert_eq!(machine.apics[0].highest_pending(), Some(0x59), "still asserted");
    machine.apics[0].acknowledge(0x59);
    line.set(false);
    write(&mut machine.apics[0], register::EOI, 0);
    assert_eq!(machine.apics[0].highest_pending(), None);
}

/// The wires to APIC 0's pins.
fn pins(machine: &Machine) -> [IrqLine; 2] {
    [0, 1].map(|input| IrqLine::new(machine.apics[0].inbox().clone(), input))
}

#[test]
fn lint1_is_nmi_as_the_bios_programs_it() {
    let mut machine = Machine::enabled(1);
    let [_, nmi] = pins(&machine);
    nmi.pulse();
    assert!(!machine.apics[0].take_nmi(), "masked");
    // Whether level or edge: an NMI is an edge.
    for entry in [0x400, 0x8400] {
        write(&mut machine.apics[0], 0x36, entry);
        nmi.set(true);
        assert!(machine.apics[0].take_nmi());
        assert!(!machine.apics[0].take_nmi());
        nmi.set(false);
    }
    machine.apics[0].set_apic_base(0xfee0_0000).unwrap();
    nmi.pulse();
    assert!(machine.apics[0].take_nmi(), "disabled altogether: LINT1 is NMI");
}

#[test]
fn intr_arrives_as_lint0_says() {
    let mut machine = Machine::enabled(1);
    let [intr, _] = pins(&machine);
    // Masked, as fixed interrupt, NMI, INIT, ExtINT, SMI.
    for (entry, vector, nmi, init) in [
        (0x1_0041, None, false, false),
        (0x41, Some(0x41), false, false),
        (0x400, None, true, false),
        (0x500, None, false, true),
        (0x700, None, false, false),
        (0x200, None, false, false),
    ] {
        write(&mut machine.apics[0], LVT_LINT0, entry);
        machine.kicks[0].take();
        intr.set(true);
        let apic = &mut machine.apics[0];
        assert_eq!(serve(apic), vector, "{entry:#x}");
        assert_eq!(serve(apic), None, "an edge comes once");
        assert_eq!((apic.take_nmi(), apic.take_init()), (nmi, init), "{entry:#x}");
        let is_extint = entry == 0x700;
        assert_eq!(apic.accepts_extint(), is_extint);
        assert_eq!(machine.kicks[0].take() != 0, nmi || init || is_extint, "{entry:#x}");
        intr.set(false);
    }
    // An illegal vector is an error.
    write(&mut machine.apics[0], LVT_LINT0, 5);
    intr.pulse();
    assert_eq!(machine.apics[0].highest_pending(), None);
    write(&mut machine.apics[0], register::ESR, 0);
    assert_eq!(read(&mut machine.apics[0], register::ESR), 1 << 6);
}

#[test]
fn a_level_of_lint0_comes_again_until_it_falls() {
    const REMOTE_IRR: u32 = 1 << 14;
    let mut machine = Machine::enabled(1);
    let [intr, _] = pins(&machine);
    intr.set(true);
    let apic = &mut machine.apics[0];
    assert_eq!(apic.highest_pending(), None, "masked");
    write(apic, LVT_LINT0, 0x8041);
    for _ in 0..3 {
        assert_eq!(apic.highest_pending(), Some(0x41));
        assert_eq!(read(apic, LVT_LINT0), 0x8041 | REMOTE_IRR);
        apic.acknowledge(0x41);
        assert_eq!(apic.highest_pending(), None);
        write(apic, register::EOI, 0);
    }
    assert_eq!(apic.highest_pending(), Some(0x41));
    intr.set(false);
    apic.acknowledge(0x41);
    write(apic, register::EOI, 0);
    assert_eq!((apic.highest_pending(), read(apic, LVT_LINT0)), (None, 0x8041));
    // Disabled and enabled again, it is masked.
    write(apic, register::SVR, 0xff);
    intr.set(true);
    write(apic, register::SVR, 0x1ff);
    assert_eq!((apic.highest_pending(), read(apic, LVT_LINT0)), (None, 0x1_8041));
}

#[test]
fn posts_from_other_threads_are_never_lost() {
    extern crate std;
    const ROUNDS: u32 = 2000;
    let machine = Machine::enabled(1);
    let inbox = machine.apics[0].inbox().clone();
    let mut apic = machine.apics.into_iter().next().unwrap();
    let barrier = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                barrier.wait();
                inbox.post(0x41, false);
                inbox.post(0x52, true);
                barrier.wait();
            }
        });
        for round in 0..ROUNDS {
            barrier.wait();
            // While they are posted, and when they were.
            let early = apic.highest_pending();
            barrier.wait();
            assert_eq!(apic.highest_pending(), Some(0x52), "round {round}, {early:?} before");
            assert_eq!(
                (serve(&mut apic), serve(&mut apic)),
                (Some(0x52), Some(0x41)),
                "round {round}"
            );
            assert!(!apic.has_arrivals(), "round {round}");
        }
    });
}

#[test]
fn a_processor_may_take_edge_triggered_vectors_by_itself() {
    let mut machine = Machine::enabled(1);
    let apic = &mut machine.apics[0];
    let inbox = apic.inbox().clone();
    assert!(inbox.descriptor_address().is_multiple_of(4096));
    for vector in [0x31, 0xff, 0x31] {
        inbox.post_vector(vector, false);
    }
    assert_eq!(machine.kicks[0].take_notifications(), 1, "one is on its way");
    inbox.process_posted(apic.page());
    assert!(!apic.has_arrivals());
    assert_eq!((serve(apic), serve(apic), serve(apic)), (Some(0xff), Some(0x31), None));
    inbox.post_vector(0x31, false);
    inbox.post_vector(0x72, true);
    assert_eq!((machine.kicks[0].take_notifications(), machine.kicks[0].take()), (1, 1));
    inbox.process_posted(apic.page());
    assert!(apic.has_arrivals(), "the level-triggered one waits for the vCPU");
    assert_eq!(apic.highest_pending(), Some(0x72));
}

#[test]
fn a_processor_that_takes_and_ends_interrupts_in_the_page_is_followed() {
    let mut machine = Machine::enabled(1);
    let io_apic = IoApic::new(machine.bus.clone());
    let line = IrqLine::new(io_apic.clone(), 11);
    io_apic.mmio_write(Access::new(0, 4), 0x10 + 22);
    io_apic.mmio_write(Access::new(0x10, 4), 0xa059);
    line.set(true);
    let apic = &mut machine.apics[0];
    assert!(apic.has_arrivals());
    assert_eq!(apic.highest_pending(), Some(0x59));
    assert!(!apic.has_arrivals() && apic.has_pending());
    // Delivery and EOI, as SDM 30.2.2 and 30.1.4 have them: the end of a level-triggered one exits.
    let page = apic.page().clone();
    page.remove(Vectors::Requested, 0x59);
    page.insert(Vectors::InService, 0x59);
    assert_eq!(apic.highest_pending(), None);
    assert!(!apic.has_pending());
    page.remove(Vectors::InService, 0x59);
    apic.ended(0x59);
    assert_eq!(apic.highest_pending(), Some(0x59), "still asserted");
}
