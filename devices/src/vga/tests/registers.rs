//! Ports: indexes, masks, flip-flop, protection, palette, beam.

use proptest::prelude::*;

use super::modes::*;
use super::*;
use crate::pci::{ConfigEffect, PciFunction, PciRegion, Space};

#[test]
fn the_attribute_flip_flop_alternates_and_is_reset_by_status_reads() {
    let card = Card::new();
    card.outb(0x3c2, 0x63);
    card.set_attribute(0x05, 0x2a);
    card.inb(0x3da);
    card.outb(0x3c0, 0x05);
    assert_eq!(card.inb(0x3c1), 0x2a);
    // The next write would be data; a status read makes it an index again.
    card.inb(0x3da);
    card.outb(0x3c0, 0x20 | 0x06);
    assert_eq!(card.inb(0x3c0), 0x26);
}

#[test]
fn protected_crtc_registers_keep_their_values_but_for_the_line_compare_bit() {
    let card = Card::new();
    card.set_mode(&MODE_3);
    assert_eq!(card.get(0x3d4, 0x11), 0x8e);
    card.set(0x3d4, 0x00, 0x11);
    assert_eq!(card.get(0x3d4, 0x00), 0x5f);
    card.set(0x3d4, 0x07, 0x00);
    assert_eq!(card.get(0x3d4, 0x07), 0x0f);
    card.set(0x3d4, 0x0e, 0x12);
    assert_eq!(card.get(0x3d4, 0x0e), 0x12);
}

#[test]
fn the_palette_counts_components_and_indexes() {
    let card = Card::new();
    card.set_colour(7, [0x3f, 0x40, 0x15]);
    card.outb(0x3c7, 7);
    assert_eq!(card.inb(0x3c7), 3);
    assert_eq!([card.inb(0x3c9), card.inb(0x3c9), card.inb(0x3c9)], [0x3f, 0x00, 0x15]);
    card.outb(0x3c8, 0xff);
    assert_eq!(card.inb(0x3c7), 0);
    (0..3).for_each(|_| card.outb(0x3c9, 1));
    assert_eq!(card.inb(0x3c8), 0);
}

#[test]
fn the_beam_shows_picture_and_retrace_once_a_frame() {
    let card = Card::new();
    card.set_mode(&MODE_3);
    let (mut retraces, mut shown, mut previous) = (0, 0, false);
    const STEP_NS: u64 = 10_000;
    for _ in 0..100_000_000 / STEP_NS {
        card.clock.advance_ns(STEP_NS);
        let status = card.inb(0x3da);
        let retrace = status & 8 != 0;
        assert!(!retrace || status & 1 != 0, "the picture is off during retrace");
        retraces += u32::from(retrace && !previous);
        shown += u32::from(status & 1 == 0);
        previous = retrace;
    }
    // 70 frames a second; the picture takes 72 % of the time.
    assert_eq!(retraces, 7);
    assert!((7000..7500).contains(&shown), "{shown}");
}

#[test]
fn the_register_page_shows_the_same_registers() {
    let card = Card::new();
    let page = |offset, size_bytes| Access { region: REGION_REGISTERS, offset, size_bytes };
    assert_eq!(card.vga.mmio_read(page(0, 4)), Some(0xffff_ff00), "the header of an EDID");
    assert_eq!(card.vga.mmio_read(page(18, 1)), Some(1));
    assert_eq!(card.vga.mmio_read(page(0x80, 1)), None);
    assert_eq!(card.vga.mmio_read(page(0x500, 2)), Some(0xb0c5));
    assert_eq!(card.vga.mmio_read(page(0x600, 4)), Some(8));
    assert_eq!(card.vga.mmio_read(page(0x604, 4)), Some(0x1e1e_1e1e));
    card.vga.mmio_write(page(0x502, 2), 800);
    assert_eq!(card.read_dispi(1), 800);
    card.vga.mmio_write(page(0x404, 2), 0x0a02);
    assert_eq!(card.get(0x3c4, 2), 0x0a);
}

#[test]
fn the_card_is_found_on_the_bus() {
    let card = Card::new();
    assert_eq!(card.vga.config_read(0x00), 0x1111_1234);
    assert_eq!(card.vga.config_read(0x08) >> 8, 0x03_00_00);
    for (register, value) in [(0x10, 0xfd00_0000), (0x18, 0xfebf_0000), (0x30, 0xfebe_0001)] {
        assert_eq!(card.vga.config_write(register, value, u32::MAX), ConfigEffect::None);
    }
    assert_eq!(card.vga.config_write(0x04, 0x03, 0xffff), ConfigEffect::Map);
    let expected = [
        (Space::Ram, Region::new(REGION_FRAMEBUFFER, 0xfd00_0000, VRAM_BYTES as u64)),
        (Space::Mmio, Region::new(REGION_REGISTERS, 0xfebf_0000, REGISTERS_BYTES)),
        (Space::Rom, Region::new(REGION_ROM, 0xfebe_0000, ROM_BYTES as u64)),
    ];
    assert_eq!(card.vga.regions(), expected.map(|(space, region)| PciRegion { space, region }));
    let rom = Access { region: REGION_ROM, offset: 0, size_bytes: 4 };
    assert_eq!(card.vga.mmio_read(rom), Some(0x004c_aa55));
    card.vga.mmio_write(rom, 0);
    assert_eq!(card.vga.mmio_read(rom), Some(0x004c_aa55));
}

#[derive(Clone, Debug)]
enum Step {
    In(u16, u8),
    Out(u16, u8, u32),
    Indexed(u16, u8, u8),
    Dispi(u16, u16),
    Read(u8, u64, u8),
    Write(u8, u64, u8, u64),
    Copy(usize, usize, usize, bool),
    Wait(u64),
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let port = prop_oneof![0x3b0u16..0x3bc, 0x3c0u16..0x3e0, 0x1ceu16..0x1d1];
    let size = prop_oneof![Just(1u8), Just(2), Just(4)];
    let indexed = prop_oneof![Just(0x3c4u16), Just(0x3ce), Just(0x3d4), Just(0x3b4)];
    let offset = prop_oneof![0u64..0x2_0008, any::<u64>()];
    let wide = prop_oneof![Just(1u8), Just(2), Just(4), Just(8)];
    prop_oneof![
        1 => (port.clone(), size.clone()).prop_map(|(port, size)| Step::In(port, size)),
        2 => (port, size, any::<u32>()).prop_map(|(port, size, value)| Step::Out(port, size, value)),
        8 => (indexed, 0u8..0x20, any::<u8>()).prop_map(|(port, index, value)| Step::Indexed(port, index, value)),
        2 => (0u16..12, prop_oneof![any::<u16>(), 0u16..0x100]).prop_map(|(i, value)| Step::Dispi(i, value)),
        2 => (0u8..7, offset.clone(), wide.clone()).prop_map(|(region, at, size)| Step::Read(region, at, size)),
        2 => (0u8..7, offset, wide, any::<u64>()).prop_map(|(r, at, size, value)| Step::Write(r, at, size, value)),
        1 => (0usize..0x2_0100, 0usize..0x2_0100, 0usize..200, any::<bool>())
            .prop_map(|(from, to, count, down)| Step::Copy(from, to, count, down)),
        1 => any::<u64>().prop_map(|ns| Step::Wait(ns >> 20)),
        1 => Just(Step::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// For any writes of the guest: no panic, the window stays within the legacy window and its
    /// memory, and the mapping never changes without being announced.
    #[test]
    fn random_accesses(steps in prop::collection::vec(step(), 1..120)) {
        let card = Card::with_vram(1 << 20);
        card.outb(0x3c2, 0x63);
        card.inb(0x3da);
        card.outb(0x3c0, 0x20);
        let mut painter = Painter::new();
        let mut picture = Picture::default();
        let mut seen = (card.vga.mapping_generation(), card.vga.window());
        for step in steps {
            match step {
                Step::In(port, size) => drop(card.vga.pio_read(Card::access(port, size))),
                Step::Out(port, size, value) => card.vga.pio_write(Card::access(port, size), value),
                Step::Indexed(port, index, value) => card.set(port, index, value),
                Step::Dispi(index, value) => card.dispi(index, value),
                Step::Read(region, offset, size_bytes) => {
                    card.vga.mmio_read(Access { region, offset, size_bytes });
                }
                Step::Write(region, offset, size_bytes, value) => {
                    card.vga.mmio_write(Access { region, offset, size_bytes }, value);
                }
                Step::Copy(from, to, count, down) => card.vga.copy_run(from, to, count, 2, down),
                Step::Wait(ns) => card.clock.advance_ns(ns),
                Step::Look => {
                    painter.paint(&card.vga, &mut picture);
                    card.vga.text_screen();
                }
            }
            let now = (card.vga.mapping_generation(), card.vga.window());
            prop_assert!(now.0 != seen.0 || now.1 == seen.1);
            seen = now;
            if let Window::Linear { gpa, memory, offset_bytes, length_bytes } = now.1 {
                let size = match memory {
                    WindowMemory::Vram => 1 << 20,
                    WindowMemory::OddEven => ODD_EVEN_BYTES,
                };
                prop_assert!(offset_bytes + length_bytes <= size);
                prop_assert!(gpa >= LEGACY_BASE && gpa + length_bytes as u64 <= LEGACY_BASE + LEGACY_BYTES);
                prop_assert!((gpa as usize | offset_bytes | length_bytes).is_multiple_of(4096));
            }
        }
        painter.invalidate();
        let painted = painter.paint(&card.vga, &mut picture);
        prop_assert_eq!(painted, card.vga.frame().height);
    }
}
