use super::*;
use crate::irq::LineProbe;
use crate::system_control::SystemProbe;
use crate::time::{Deadlines, TestClock};
use proptest::prelude::*;

struct Bench {
    i8042: I8042,
    irq1: Arc<LineProbe>,
    irq12: Arc<LineProbe>,
    system: Arc<SystemProbe>,
    clock: Arc<TestClock>,
    deadlines: Arc<Deadlines>,
}

const OUTPUT_FULL: u8 = 0x01;
const AUXILIARY: u8 = 0x20;

impl Bench {
    fn new() -> Self {
        let (irq1, line1) = LineProbe::wired();
        let (irq12, line12) = LineProbe::wired();
        let system = Arc::new(SystemProbe::default());
        let clock = TestClock::new();
        let deadlines = Deadlines::new(1);
        let i8042 = I8042::new(line1, line12, system.clone(), clock.clone(), deadlines.alarm(0));
        Self { i8042, irq1, irq12, system, clock, deadlines }
    }

    /// As a BIOS leaves it: interrupts on, translation on, mouse off.
    fn after_bios() -> Self {
        let bench = Self::new();
        bench.command(0x60);
        bench.data(0x65);
        bench
    }

    /// With a mouse that streams as the given identity.
    fn with_mouse(knock: &[u8]) -> Self {
        let bench = Self::after_bios();
        bench.command(0x60);
        bench.data(0x47);
        for rate in knock {
            bench.mouse(0xf3);
            bench.mouse(*rate);
        }
        bench.mouse(0xf4);
        bench.drain();
        bench
    }

    fn status(&self) -> u8 {
        self.i8042.pio_read(Access { region: COMMAND, offset: 0, size_bytes: 1 }).unwrap() as u8
    }

    fn read(&self) -> u8 {
        self.i8042.pio_read(Access { region: DATA, offset: 0, size_bytes: 1 }).unwrap() as u8
    }

    fn command(&self, value: u8) {
        self.i8042.pio_write(Access { region: COMMAND, offset: 0, size_bytes: 1 }, value.into());
    }

    fn data(&self, value: u8) {
        self.i8042.pio_write(Access { region: DATA, offset: 0, size_bytes: 1 }, value.into());
    }

    fn mouse(&self, value: u8) {
        self.command(0xd4);
        self.data(value);
    }

    fn pass_ns(&self, ns: u64) {
        self.clock.advance_ns(ns);
        while self.deadlines.take_expired(self.clock.now()).is_some() {
            self.i8042.expired(self.clock.now());
        }
    }

    /// Reads all there is, letting time pass.
    fn drain(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.status() & OUTPUT_FULL != 0 {
            bytes.push(self.read());
            self.pass_ns(SCAN_CODE_GAP_NS);
        }
        bytes
    }
}

#[test]
fn seabios_initialises_the_keyboard() {
    let bench = Bench::new();
    assert_eq!(bench.status() & 3, 0);
    bench.command(0xaa);
    assert_eq!(bench.drain(), [0x55]);
    bench.command(0xab);
    assert_eq!(bench.drain(), [0x00]);
    // Both ports off while the keyboard is set up; a byte to the keyboard switches its port on.
    bench.command(0x60);
    bench.data(0x30);
    bench.data(0xff);
    assert_eq!(bench.drain(), [0xfa, 0xaa]);
    bench.data(0xf5);
    assert_eq!(bench.drain(), [0xfa]);
    bench.data(0xf0);
    assert_eq!(bench.drain(), [0xfa]);
    bench.data(0x02);
    assert_eq!(bench.drain(), [0xfa]);
    bench.command(0x60);
    bench.data(0x61);
    bench.command(0x20);
    assert_eq!(bench.drain(), [0x61]);
    bench.data(0xf4);
    assert_eq!(bench.drain(), [0xfa]);
    bench.irq1.take_edges();
    assert!(bench.i8042.key(Key::ENTER, true));
    assert!(bench.i8042.key(Key::ENTER, false));
    assert!(bench.irq1.is_high());
    assert_eq!(bench.drain(), [0x1c, 0x9c]);
    assert_eq!(bench.irq1.take_edges(), 2);
}

#[test]
fn linux_finds_the_auxiliary_port_and_no_multiplexer() {
    let bench = Bench::after_bios();
    for loop_byte in [0x5a, 0xf0, 0x56, 0xa4, 0xa5] {
        bench.command(0xd3);
        bench.data(loop_byte);
        assert_eq!(bench.status() & (OUTPUT_FULL | AUXILIARY), OUTPUT_FULL | AUXILIARY);
        assert_eq!(bench.read(), loop_byte);
    }
    bench.command(0xa9);
    assert_eq!(bench.drain(), [0]);
    bench.command(0xa7);
    bench.command(0x20);
    assert_eq!(bench.read() & 0x20, 0x20);
    bench.command(0xa8);
    bench.command(0x20);
    assert_eq!(bench.read() & 0x20, 0);
    // The interrupt test: a byte through the loop raises IRQ 12.
    bench.command(0x60);
    bench.data(0x46);
    bench.irq12.take_edges();
    bench.command(0xd3);
    bench.data(0xa5);
    assert_eq!(bench.irq12.take_edges(), 1);
    assert_eq!(bench.read(), 0xa5);
    assert!(!bench.irq12.is_high());
}

#[test]
fn linux_atkbd_probes() {
    let bench = Bench::after_bios();
    bench.data(0xf2);
    assert_eq!(bench.drain(), [0xfa, 0xab, 0x41], "83h is translated");
    let with_parameter = |command, parameter| {
        bench.data(command);
        assert_eq!(bench.read(), 0xfa);
        bench.data(parameter);
        bench.drain()
    };
    assert_eq!(with_parameter(0xed, 0x02), [0xfa]);
    assert_eq!(bench.i8042.leds(), 2);
    assert_eq!(with_parameter(0xf3, 0x00), [0xfa]);
    assert_eq!(with_parameter(0xf0, 0x00), [0xfa, 0x41], "set 2, translated");
    bench.data(0xee);
    assert_eq!(bench.drain(), [0xee]);
    bench.data(0xfe);
    assert_eq!(bench.drain(), [0xee]);
    bench.data(0xf5);
    assert_eq!(bench.drain(), [0xfa]);
    assert!(bench.i8042.key(Key::SPACE, true));
    assert_eq!(bench.drain(), [], "scanning is off");
}

#[test]
fn a_reply_that_was_not_read_is_overwritten_by_the_next() {
    // A system writes a command and its parameter, then reads one byte: as visopsys 0.92 sets the
    // lights and finds the mouse, all with the interrupts' I/O APIC entries masked.
    let bench = Bench::after_bios();
    for _ in 0..3 {
        assert_eq!(bench.status() & OUTPUT_FULL, 0);
        bench.data(0xed);
        assert_eq!(bench.status() & OUTPUT_FULL, OUTPUT_FULL);
        bench.data(0x00);
        assert_eq!(bench.status() & OUTPUT_FULL, OUTPUT_FULL);
        assert_eq!(bench.read(), 0xfa);
    }
    assert_eq!(bench.status() & OUTPUT_FULL, 0);
    bench.command(0xae);
    bench.command(0xad);
    bench.command(0x20);
    assert_eq!(bench.read(), 0x75);
    bench.command(0x60);
    bench.data(0x57);
    let mouse = |byte, replies: &[u8]| {
        bench.mouse(byte);
        for &reply in replies {
            assert_eq!(bench.status() & (OUTPUT_FULL | AUXILIARY), OUTPUT_FULL | AUXILIARY);
            assert_eq!(bench.read(), reply);
        }
        assert_eq!(bench.status() & OUTPUT_FULL, 0);
    };
    mouse(0xff, &[0xfa, 0xaa, 0x00]);
    mouse(0xf2, &[0xfa, 0x00]);
    for byte in [0xf6, 0xea, 0xe7, 0xe8, 0x03, 0xf3, 200, 0xf3, 100, 0xf3, 80] {
        mouse(byte, &[0xfa]);
    }
    mouse(0xf2, &[0xfa, 0x03]);
    mouse(0xf4, &[0xfa]);
    // Now the entries are unmasked, and only a new edge counts.
    bench.irq12.take_edges();
    bench.command(0xae);
    bench.irq1.take_edges();
    bench.i8042.key(Key::ENTER, true);
    assert_eq!(bench.irq1.take_edges(), 1);
    assert_eq!(bench.read(), 0x1c);
    bench.i8042.mouse_move(1, 0, 0, Buttons::new());
    assert_eq!(bench.irq12.take_edges(), 1);
}

/// The edge of the first key's byte came while its input was masked, and is gone: the next key or
/// movement brings another.
#[test]
fn what_follows_a_byte_that_was_left_unread_brings_an_edge() {
    let bench = Bench::with_mouse(&[]);
    bench.irq1.take_edges();
    bench.irq12.take_edges();
    bench.i8042.key(Key::SPACE, true);
    assert_eq!(bench.irq1.take_edges(), 1);
    bench.i8042.key(Key::SPACE, false);
    assert_eq!(bench.irq1.take_edges(), 0, "the guest may be about to read");
    bench.pass_ns(UNSEEN_NS);
    bench.i8042.key(Key::ENTER, true);
    assert_eq!(bench.irq1.take_edges(), 1);
    bench.i8042.mouse_move(1, 0, 0, Buttons::new());
    assert_eq!((bench.irq1.take_edges(), bench.irq12.take_edges()), (1, 0));
    assert_eq!(bench.read(), 0x39);
}

#[test]
fn a_reply_overtakes_a_scan_code_with_an_edge_of_its_own() {
    let bench = Bench::after_bios();
    bench.i8042.key(Key::SPACE, true);
    assert_eq!(bench.irq1.take_edges(), 1);
    bench.data(0xed);
    assert_eq!(bench.irq1.take_edges(), 1);
    assert_eq!([bench.read(), bench.read()], [0xfa, 0x39]);
    assert_eq!(bench.irq1.take_edges(), 1);
    assert_eq!(bench.status() & OUTPUT_FULL, 0);
    // A new command ends an answer of several bytes.
    bench.data(0xf2);
    assert_eq!(bench.read(), 0xfa);
    bench.data(0xee);
    assert_eq!(bench.drain(), [0xee]);
}

#[test]
fn scan_code_set_3_and_its_key_types() {
    let bench = Bench::after_bios();
    bench.command(0x60);
    bench.data(0x24);
    let send = |bytes: &[u8]| {
        for &byte in bytes {
            bench.data(byte);
            assert_eq!(bench.read(), 0xfa);
        }
    };
    let a = Key::plain(0x1e);
    let press_and_release = |key| {
        bench.i8042.key(key, true);
        bench.i8042.key(key, false);
        bench.drain()
    };
    send(&[0xf0, 3, 0xf0]);
    bench.data(0);
    assert_eq!(bench.drain(), [0xfa, 3]);
    assert_eq!(press_and_release(a), [0x1c], "typematic, without a break code");
    assert_eq!(press_and_release(Key::LEFT_SHIFT), [0x12, 0xf0, 0x12]);
    assert_eq!(press_and_release(Key::PAUSE), [0x62]);
    send(&[0xf8]);
    assert_eq!(press_and_release(a), [0x1c, 0xf0, 0x1c]);
    assert_eq!(press_and_release(Key::UP), [0x63, 0xf0, 0x63]);
    // One key, then another, make only.
    send(&[0xfd, 0x1c, 0x63, 0xf4]);
    assert_eq!(press_and_release(a), [0x1c]);
    assert_eq!(press_and_release(Key::UP), [0x63]);
    assert_eq!(press_and_release(Key::DOWN), [0x60, 0xf0, 0x60]);
    for (all, expected) in [(0xf7, &[0x1c][..]), (0xf9, &[0x1c]), (0xfa, &[0x1c, 0xf0, 0x1c])] {
        send(&[all]);
        assert_eq!(press_and_release(a), expected);
    }
    // The types mean nothing in the other sets, and F6h resets all.
    send(&[0xf9, 0xf0, 1]);
    assert_eq!(press_and_release(a), [0x1e, 0x9e]);
    send(&[0xf0, 2]);
    assert_eq!(press_and_release(a), [0x1c, 0xf0, 0x1c]);
    send(&[0xf6, 0xf0, 3]);
    assert_eq!(press_and_release(Key::LEFT_SHIFT), [0x12, 0xf0, 0x12]);
    // The controller translates whatever the keyboard sends.
    bench.command(0x60);
    bench.data(0x64);
    assert_eq!(press_and_release(Key::LEFT_SHIFT), [0x2a, 0xaa]);
    send(&[0xf0, 1]);
    assert_eq!(press_and_release(Key::plain(0x10)), [0x65, 0x90], "set 1 taken for set 2");
    send(&[0xf0]);
    bench.data(0);
    assert_eq!(bench.drain(), [0xfa, 0x43]);
    bench.data(0xf0);
    bench.read();
    bench.data(4);
    assert_eq!(bench.drain(), [0xfe]);
}

#[test]
fn a_key_that_is_held_down_repeats() {
    const MS: u64 = 1_000_000;
    let bench = Bench::after_bios();
    let a = Key::plain(0x1e);
    bench.i8042.key(a, true);
    assert_eq!(bench.drain(), [0x1e]);
    // The host's keyboard repeats too.
    bench.i8042.key(a, true);
    assert_eq!(bench.drain(), []);
    bench.pass_ns(499 * MS);
    assert_eq!(bench.drain(), []);
    bench.pass_ns(MS);
    assert_eq!(bench.drain(), [0x1e]);
    bench.pass_ns(91 * MS);
    assert_eq!(bench.drain(), []);
    bench.pass_ns(MS);
    assert!(bench.irq1.is_high());
    // Nothing is stored while the guest does not read, and the last key pressed is the one that
    // repeats.
    for _ in 0..50 {
        bench.pass_ns(100 * MS);
    }
    assert_eq!(bench.drain(), [0x1e]);
    bench.data(0xf3);
    bench.data(0x00);
    assert_eq!(bench.read(), 0xfa);
    bench.i8042.key(Key::SPACE, true);
    assert_eq!(bench.drain(), [0x39]);
    bench.i8042.key(a, false);
    assert_eq!(bench.drain(), [0x9e]);
    bench.pass_ns(250 * MS);
    assert_eq!(bench.drain(), [0x39]);
    bench.pass_ns(34 * MS);
    assert_eq!(bench.drain(), [0x39]);
    // One that is late by a period is left out: perhaps nobody ran, and the release is on its way.
    bench.pass_ns(2000 * MS);
    assert_eq!(bench.drain(), []);
    bench.i8042.key(Key::SPACE, false);
    assert_eq!(bench.drain(), [0xb9]);
    assert_eq!(bench.deadlines.earliest(), None);
    // Neither Pause nor a disabled keyboard repeats.
    bench.i8042.key(Key::PAUSE, true);
    assert_eq!(bench.drain().len(), 6);
    bench.i8042.key(a, true);
    bench.drain();
    bench.data(0xf5);
    bench.pass_ns(600 * MS);
    assert_eq!(bench.drain(), [0xfa]);
    assert_eq!(bench.deadlines.earliest(), None);
}

#[test]
fn untranslated_keys_are_set_2() {
    let bench = Bench::after_bios();
    bench.command(0x60);
    bench.data(0x01);
    bench.i8042.key(Key::UP, true);
    bench.i8042.key(Key::UP, false);
    bench.i8042.key(Key::PAUSE, true);
    assert_eq!(
        bench.drain(),
        [0xe0, 0x75, 0xe0, 0xf0, 0x75, 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77]
    );
}

#[test]
fn a_chained_handler_reads_the_same_scan_code_twice() {
    let bench = Bench::after_bios();
    bench.i8042.key(Key::plain(0x1e), true);
    bench.i8042.key(Key::plain(0x1e), false);
    assert_eq!(bench.read(), 0x1e);
    assert_eq!(bench.read(), 0x1e);
    assert!(!bench.irq1.is_high());
    bench.pass_ns(SCAN_CODE_GAP_NS);
    assert!(bench.irq1.is_high());
    assert_eq!(bench.read(), 0x9e);
    bench.pass_ns(SCAN_CODE_GAP_NS);
    assert!(!bench.irq1.is_high());
    assert_eq!(bench.deadlines.earliest(), None);
}

#[test]
fn a_disabled_keyboard_port_holds_scan_codes_back() {
    let bench = Bench::after_bios();
    bench.command(0xad);
    bench.i8042.key(Key::SPACE, true);
    assert_eq!(bench.status() & OUTPUT_FULL, 0);
    bench.command(0xae);
    assert_eq!(bench.drain(), [0x39]);
}

#[test]
fn a_full_keyboard_refuses_whole_keys() {
    let bench = Bench::after_bios();
    let mut taken = 0;
    while bench.i8042.key(Key::SPACE, taken % 2 == 0) {
        taken += 1;
        assert!(taken < 1000);
    }
    let bytes = bench.drain();
    assert_eq!(bytes.len(), taken);
    assert!(
        bytes.chunks(2).all(|pair| pair[0] == 0x39 && pair.get(1).is_none_or(|byte| *byte == 0xb9))
    );
}

#[test]
fn a20_and_reset() {
    let bench = Bench::after_bios();
    bench.command(0xd1);
    bench.data(0xdf);
    assert!(bench.system.a20());
    bench.command(0xd0);
    assert_eq!(bench.read() & 3, 3);
    bench.command(0xdd);
    assert!(!bench.system.a20());
    bench.command(0xdf);
    assert!(bench.system.a20());
    bench.command(0xff);
    assert_eq!(bench.system.take_inits(), 0);
    bench.command(0xfe);
    assert_eq!(bench.system.take_inits(), 1);
    bench.command(0xd1);
    bench.data(0xde);
    assert_eq!(bench.system.take_inits(), 1);
}

#[test]
fn linux_psmouse_finds_an_explorer() {
    let bench = Bench::after_bios();
    let ask = |bytes: &[u8]| {
        let mut replies = Vec::new();
        for byte in bytes {
            bench.mouse(*byte);
            assert_eq!(bench.status() & AUXILIARY, AUXILIARY);
            replies.extend(bench.drain());
        }
        replies
    };
    assert_eq!(ask(&[0xf2]), [0xfa, 0x00]);
    assert_eq!(ask(&[0xf6]), [0xfa]);
    // Not a Synaptics touchpad: four resolutions, status.
    assert_eq!(ask(&[0xe8, 0, 0xe8, 0, 0xe8, 0, 0xe8, 0, 0xe9])[8..], [0xfa, 0x00, 0x00, 100]);
    // Not a Logitech: three scalings.
    assert_eq!(ask(&[0xe8, 0, 0xe6, 0xe6, 0xe6, 0xe9])[5..], [0xfa, 0x00, 0x00, 100]);
    assert_eq!(ask(&[0xff]), [0xfa, 0xaa, 0x00]);
    assert_eq!(ask(&[0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2])[6..], [0xfa, 3]);
    assert_eq!(ask(&[0xf3, 200, 0xf3, 200, 0xf3, 80, 0xf2])[6..], [0xfa, 4]);
    assert_eq!(ask(&[0xe8, 3, 0xf3, 100, 0xe6, 0xf4]), [0xfa; 6]);
    assert_eq!(ask(&[0xe9]), [0xfa, 0x20, 3, 100]);
    bench.i8042.mouse_move(5, -3, -1, Buttons::new().with_left(true).with_back(true));
    assert_eq!(bench.drain(), [0x09, 5, 3, 0x1f]);
    assert_eq!(ask(&[0xff]), [0xfa, 0xaa, 0x00], "reset makes it plain again");
    assert_eq!(ask(&[0xf2]), [0xfa, 0x00]);
}

#[test]
fn movement_beyond_a_packet_is_split_and_beyond_the_queue_added_up() {
    let bench = Bench::with_mouse(&[]);
    bench.i8042.mouse_move(300, 10, 0, Buttons::new());
    assert_eq!(bench.drain(), [0x28, 255, 246, 0x08, 45, 0]);
    for _ in 0..200 {
        bench.i8042.mouse_move(1, 0, 0, Buttons::new());
    }
    let bytes = bench.drain();
    assert!(bytes.len() <= 60, "{}", bytes.len());
    assert_eq!(bytes.chunks(3).map(|packet| u32::from(packet[1])).sum::<u32>(), 200);
}

/// The table of IBM's PS/2 mouse: small movements become smaller, large ones twice as large.
#[test]
fn scaling_2_to_1() {
    let bench = Bench::with_mouse(&[]);
    bench.mouse(0xe7);
    assert_eq!(bench.drain(), [0xfa]);
    for (counts, scaled) in
        [(1, 1), (2, 1), (3, 3), (4, 6), (5, 9), (6, 12), (100, 200), (127, 254), (128, 255)]
    {
        bench.i8042.mouse_move(counts, 0, 0, Buttons::new());
        assert_eq!(bench.drain(), [0x08, scaled, 0], "{counts}");
        bench.i8042.mouse_move(-counts, 0, 0, Buttons::new());
        assert_eq!(bench.drain(), [0x18, scaled.wrapping_neg(), 0], "-{counts}");
    }
}

#[test]
fn remote_and_wrap_modes() {
    let bench = Bench::with_mouse(&[200, 100, 80]);
    bench.mouse(0xf0);
    assert_eq!(bench.drain(), [0xfa]);
    bench.i8042.mouse_move(1, 0, 2, Buttons::new().with_right(true));
    assert_eq!(bench.drain(), []);
    bench.mouse(0xeb);
    assert_eq!(bench.drain(), [0xfa, 0x0a, 1, 0, 2]);
    bench.mouse(0xee);
    bench.mouse(0xf2);
    bench.mouse(0xec);
    assert_eq!(bench.drain(), [0xfa, 0xf2, 0xfa]);
}

proptest! {
    #[test]
    fn lines_follow_the_output_buffer(actions in prop::collection::vec((0u8..7, any::<u8>(), any::<i32>()), 1..400)) {
        let bench = Bench::new();
        for (kind, byte, amount) in actions {
            match kind {
                0 => bench.command(byte),
                1 => bench.data(byte),
                2 => { bench.read(); }
                3 => { bench.i8042.key(Key { code: byte, extended: amount & 1 != 0 }, amount & 2 != 0); }
                4 => bench.i8042.mouse_move(amount, !amount, i32::from(byte), Buttons::from_bits(byte)),
                5 => bench.mouse(byte),
                _ => bench.pass_ns(u64::from(byte) * 10_000),
            }
            let status = bench.status();
            prop_assert!(!(bench.irq1.is_high() && bench.irq12.is_high()));
            if bench.irq1.is_high() {
                prop_assert_eq!(status & (OUTPUT_FULL | AUXILIARY), OUTPUT_FULL);
            }
            if bench.irq12.is_high() {
                prop_assert_eq!(status & (OUTPUT_FULL | AUXILIARY), OUTPUT_FULL | AUXILIARY);
            }
        }
        // However it was left, it can be set up again.
        bench.drain();
        bench.command(0x60);
        bench.data(0x30);
        bench.drain();
        bench.command(0xaa);
        prop_assert_eq!(bench.drain(), [0x55]);
    }
}
