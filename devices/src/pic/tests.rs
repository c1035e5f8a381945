use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::irq::LineProbe;

struct Bench {
    pic: Arc<Pic>,
    intr: Arc<LineProbe>,
}

impl Bench {
    fn new() -> Self {
        let (intr, line) = LineProbe::wired();
        Self { pic: Arc::new(Pic::new(line)), intr }
    }

    /// Initialised as Linux does it: vectors 30h-3fh, everything unmasked.
    fn linux(icw4: u8) -> Self {
        let bench = Self::new();
        bench.init(icw4);
        bench.out(0x21, 0);
        bench.out(0xa1, 0);
        bench
    }

    /// The order of writes in Linux's `init_8259A`.
    fn init(&self, icw4: u8) {
        self.out(0x21, 0xff);
        for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 0x04), (0x21, icw4)] {
            self.out(port, value);
        }
        for (port, value) in [(0xa0, 0x11), (0xa1, 0x38), (0xa1, 0x02), (0xa1, 0x01)] {
            self.out(port, value);
        }
        self.out(0x21, 0xfb);
        self.out(0xa1, 0xff);
    }

    fn access(&self, port: u64, size_bytes: u8) -> Access {
        let region = self
            .pic
            .ports()
            .into_iter()
            .find(|r| (r.base..r.base + r.length).contains(&port))
            .unwrap();
        Access { region: region.number, offset: port - region.base, size_bytes }
    }

    fn out(&self, port: u64, value: u8) {
        self.pic.pio_write(self.access(port, 1), value.into());
    }

    fn inb(&self, port: u64) -> u8 {
        self.pic.pio_read(self.access(port, 1)).unwrap() as u8
    }

    fn raise(&self, input: u32) {
        self.pic.set_line(input, true);
    }

    fn lower(&self, input: u32) {
        self.pic.set_line(input, false);
    }

    /// Another edge; the input stays high.
    fn pulse(&self, input: u32) {
        self.pic.strobe(input);
    }

    /// Acknowledges while INTR is high, without any EOI.
    fn vectors(&self) -> Vec<u8> {
        let mut vectors = Vec::new();
        while self.pic.is_pending() {
            vectors.push(self.pic.acknowledge().vector);
            assert!(vectors.len() < 64, "INTR never falls");
        }
        vectors
    }
}

#[test]
fn no_interrupt_before_initialisation_is_complete() {
    let bench = Bench::new();
    bench.pulse(0);
    assert!(!bench.pic.is_pending());
    bench.out(0x20, 0x11);
    bench.out(0x21, 0x08);
    bench.pulse(0);
    bench.out(0x21, 0x04);
    assert!(!bench.pic.is_pending());
    bench.out(0x21, 0x01);
    assert!(bench.pic.is_pending(), "an edge after ICW1 counts");
    assert_eq!(bench.pic.acknowledge().vector, 8);
}

#[test]
fn linux_probe_and_init() {
    let bench = Bench::new();
    // probe_8259A: a mask written must read back.
    bench.out(0xa1, 0xff);
    bench.out(0x21, 0xfb);
    assert_eq!(bench.inb(0x21), 0xfb);
    bench.init(0x01);
    assert_eq!(bench.inb(0x21), 0xfb);
    bench.raise(0);
    assert!(!bench.pic.is_pending(), "masked");
    bench.out(0x21, 0xfa);
    assert_eq!(bench.intr.take_edges(), 1);
    assert_eq!(bench.vectors(), [0x30]);
    // mask_and_ack_8259A: mask, specific EOI.
    bench.out(0x21, 0xfb);
    bench.out(0x20, 0x60);
    bench.out(0x21, 0xfa);
    assert!(!bench.pic.is_pending(), "one edge, one interrupt");
    // IRQ 14: EOI to both, specific.
    bench.out(0xa1, 0xbf);
    bench.pulse(14);
    assert_eq!(bench.vectors(), [0x3e]);
    bench.out(0x20, 0x0b);
    assert_eq!(bench.inb(0x20), 0x04, "in service: cascade");
    bench.out(0xa0, 0x0b);
    assert_eq!(bench.inb(0xa0), 0x40);
    bench.out(0xa0, 0x66);
    bench.out(0x20, 0x62);
    assert_eq!((bench.inb(0x20), bench.inb(0xa0)), (0, 0));
}

#[test]
fn seabios_init_gives_the_bios_vectors() {
    let bench = Bench::new();
    for (port, value) in [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x08),
        (0xa1, 0x70),
        (0x21, 0x04),
        (0xa1, 0x02),
        (0x21, 0x01),
        (0xa1, 0x01),
        (0x21, 0xfb),
        (0xa1, 0xff),
    ] {
        bench.out(port, value);
    }
    bench.out(0x21, 0xb8);
    bench.out(0xa1, 0xbe);
    bench.pulse(8);
    bench.pulse(0);
    assert_eq!(bench.vectors(), [0x08]);
    bench.out(0x20, 0x20);
    assert_eq!(bench.vectors(), [0x70]);
    bench.out(0xa0, 0x20);
    bench.out(0x20, 0x20);
    assert!(bench.vectors().is_empty());
}

#[test]
fn a_higher_priority_nests_and_a_lower_one_waits() {
    let bench = Bench::linux(0x01);
    bench.pulse(5);
    assert_eq!(bench.vectors(), [0x35]);
    bench.pulse(6);
    assert!(!bench.pic.is_pending());
    bench.pulse(9);
    assert_eq!(bench.vectors(), [0x39]);
    // Non-specific: ends 9 (that is, 2), then 5.
    bench.out(0xa0, 0x20);
    bench.out(0x20, 0x20);
    assert!(!bench.pic.is_pending());
    bench.out(0x20, 0x20);
    assert_eq!(bench.vectors(), [0x36]);
}

#[test]
fn level_triggered_inputs_ask_again_until_lowered() {
    let bench = Bench::linux(0x01);
    bench.pic.pio_write(bench.access(0x4d0, 2), 0xffff);
    assert_eq!(bench.pic.pio_read(bench.access(0x4d0, 2)).unwrap() as u16, 0xdef8);
    bench.raise(11);
    for _ in 0..3 {
        assert_eq!(bench.vectors(), [0x3b]);
        bench.out(0xa0, 0x20);
        bench.out(0x20, 0x20);
    }
    bench.lower(11);
    bench.out(0xa0, 0x0a);
    assert_eq!(bench.inb(0xa0), 0);
}

/// 8259A data sheet, "Edge and level triggered modes": an input stays high until the first INTA, or
/// level 7 comes of it.
#[test]
fn a_request_that_falls_under_a_mask_vanishes() {
    for elcr in [0, 0x20] {
        let bench = Bench::linux(0x01);
        bench.out(0x4d0, elcr);
        bench.out(0x21, 0xff);
        bench.raise(5);
        bench.out(0x20, 0x0a);
        assert_eq!(bench.inb(0x20), 0x20);
        bench.lower(5);
        assert_eq!(bench.inb(0x20), 0);
        bench.out(0x21, 0);
        assert_eq!(bench.vectors(), []);
        bench.raise(5);
        assert_eq!(bench.vectors(), [0x35]);
    }
}

#[test]
fn a_request_that_falls_behind_int_ends_as_level_7() {
    for elcr in [0, 0x20] {
        let bench = Bench::linux(0x01);
        bench.out(0x4d0, elcr);
        bench.raise(5);
        bench.lower(5);
        assert!(bench.pic.is_pending());
        assert_eq!(bench.pic.acknowledge(), Acknowledged { vector: 0x37, level: None });
        bench.out(0x20, 0x0b);
        assert_eq!((bench.inb(0x20), bench.pic.is_pending()), (0, false), "nothing is in service");
        // A mask takes INT back.
        bench.raise(5);
        bench.lower(5);
        bench.out(0x21, 0x20);
        assert!(!bench.pic.is_pending());
    }
}

#[test]
fn a_request_that_falls_behind_the_cascade_ends_as_level_15() {
    for elcr in [0, 0x08] {
        let bench = Bench::linux(0x01);
        bench.out(0x4d1, elcr);
        bench.raise(11);
        assert_eq!((bench.inb(0x20), bench.inb(0xa0)), (0x04, 0x08));
        bench.lower(11);
        assert_eq!(bench.inb(0xa0), 0);
        assert_eq!(bench.vectors(), [0x3f]);
        bench.out(0x20, 0x0b);
        bench.out(0xa0, 0x0b);
        assert_eq!((bench.inb(0x20), bench.inb(0xa0)), (0x04, 0), "only the cascade is in service");
        // One that is in service is not touched, and another one behind it is still found.
        bench.out(0x20, 0x20);
        bench.raise(11);
        assert_eq!(bench.vectors(), [0x3b]);
        bench.lower(11);
        bench.raise(14);
        bench.out(0xa0, 0x20);
        bench.out(0x20, 0x20);
        assert_eq!(bench.vectors(), [0x3e]);
    }
}

#[test]
fn auto_eoi_and_its_rotation() {
    let bench = Bench::linux(0x03);
    bench.pulse(3);
    bench.pulse(4);
    assert_eq!(bench.vectors(), [0x33, 0x34]);
    bench.out(0x20, 0x80);
    bench.pulse(3);
    assert_eq!(bench.vectors(), [0x33]);
    bench.pulse(3);
    bench.pulse(4);
    assert_eq!(bench.vectors(), [0x34, 0x33], "3 was served last and is now lowest, until 4 is");
    bench.out(0x20, 0x00);
    bench.pulse(3);
    bench.pulse(4);
    assert_eq!(bench.vectors(), [0x34, 0x33]);
    bench.pulse(3);
    bench.pulse(4);
    assert_eq!(bench.vectors(), [0x34, 0x33], "no longer rotated");
}

#[test]
fn rotation_by_command() {
    let bench = Bench::linux(0x01);
    bench.out(0x20, 0xc4);
    bench.pulse(4);
    bench.pulse(5);
    assert_eq!(bench.vectors(), [0x35], "4 is lowest, so 5 is highest");
    bench.out(0x20, 0xa0);
    assert_eq!(bench.vectors(), [0x34]);
    bench.out(0x20, 0xe4);
    bench.pulse(5);
    bench.pulse(4);
    assert_eq!(bench.vectors(), [0x35]);
}

#[test]
fn special_mask_mode_lets_lower_levels_through() {
    let bench = Bench::linux(0x01);
    bench.pulse(1);
    assert_eq!(bench.vectors(), [0x31]);
    bench.pulse(6);
    assert!(!bench.pic.is_pending());
    bench.out(0x21, 0x02);
    assert!(!bench.pic.is_pending());
    bench.out(0x20, 0x68);
    assert_eq!(bench.vectors(), [0x36]);
    // A non-specific EOI ends 6, not the masked 1.
    bench.out(0x20, 0x20);
    bench.out(0x20, 0x0b);
    assert_eq!(bench.inb(0x20), 0x02);
    bench.out(0x20, 0x48);
    bench.pulse(6);
    assert!(!bench.pic.is_pending());
}

#[test]
fn special_fully_nested_mode_nests_within_the_second_controller() {
    for (icw4, nests) in [(0x01, false), (0x11, true)] {
        let bench = Bench::linux(icw4);
        bench.pulse(12);
        assert_eq!(bench.vectors(), [0x3c]);
        bench.pulse(4);
        assert!(!bench.pic.is_pending(), "lower than the cascade");
        bench.pulse(9);
        assert_eq!(bench.pic.is_pending(), nests);
        bench.pulse(14);
        let expected: &[u8] = if nests { &[0x39] } else { &[] };
        assert_eq!(bench.vectors(), expected);
    }
}

#[test]
fn poll_acknowledges() {
    let bench = Bench::linux(0x01);
    bench.out(0x20, 0x0c);
    assert_eq!(bench.inb(0x20), 0x00);
    bench.pulse(3);
    bench.out(0x20, 0x0c);
    assert_eq!(bench.inb(0x20), 0x83);
    assert!(!bench.pic.is_pending());
    bench.out(0x20, 0x0b);
    assert_eq!(bench.inb(0x20), 0x08, "only one read is a poll");
    bench.out(0x20, 0x20);
    bench.pulse(10);
    bench.out(0xa0, 0x0c);
    assert_eq!(bench.inb(0xa0), 0x82);
    assert!(!bench.pic.is_pending());
}

#[test]
fn a_second_request_behind_the_cascade_is_not_lost() {
    // Auto-EOI in both: the second controller's output never falls by itself between the two.
    let bench = Bench::new();
    for (port, value) in [
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 4),
        (0x21, 3),
        (0xa0, 0x11),
        (0xa1, 0x38),
        (0xa1, 2),
        (0xa1, 3),
    ] {
        bench.out(port, value);
    }
    bench.pulse(9);
    bench.pulse(10);
    bench.pulse(15);
    assert_eq!(bench.vectors(), [0x39, 0x3a, 0x3f]);
}

proptest! {
    #[test]
    fn random_accesses_keep_the_output_truthful(steps in prop::collection::vec((0u8..10, any::<u8>()), 1..300)) {
        let bench = Bench::new();
        let ports = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1];
        for (what, value) in steps {
            match what {
                port @ 0..6 => bench.out(ports[usize::from(port)], value),
                6 => { let port = ports[usize::from(value) % ports.len()]; bench.inb(port); }
                7 => bench.raise(u32::from(value) % 20),
                8 => bench.lower(u32::from(value) % 20),
                _ => {
                    let state = bench.pic.state.lock().clone();
                    let requested = state.primary.pending(Some(CASCADE_INPUT));
                    let vector = bench.pic.acknowledge().vector;
                    match requested {
                        None => prop_assert_eq!(vector, state.primary.vector(Some(7))),
                        Some(input) if input != CASCADE_INPUT => prop_assert_eq!(vector, state.primary.vector(Some(input))),
                        Some(_) => {}
                    }
                }
            }
            let pending = bench.pic.state.lock().primary.pending(Some(CASCADE_INPUT)).is_some();
            // INT outlives a request that falls, but not a command.
            prop_assert!(bench.intr.is_high() || !pending);
            prop_assert!(what != 1 || bench.intr.is_high() == pending);
            prop_assert_eq!(bench.pic.is_pending(), bench.intr.is_high());
        }
    }

    #[test]
    fn odd_sizes_and_offsets_are_harmless(region in 0u8..5, offset in 0u64..8, size in prop::sample::select(vec![1u8, 2, 4]), value in any::<u32>()) {
        let bench = Bench::new();
        let access = Access { region, offset, size_bytes: size };
        bench.pic.pio_write(access, value);
        prop_assert_eq!(bench.pic.pio_read(access).is_some(), region < 3 && offset < 2);
    }
}
