//! Pictures.

use super::modes::*;
use super::*;

const GLYPH: [u8; 16] = [0, 0, 0x81, 0x42, 0x24, 0x18, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn text_card() -> Card {
    let card = Card::new();
    card.set_mode(&MODE_3);
    card.set(0x3d4, 0x0a, 0x20);
    card.load_font(usize::from(b'A'), &[GLYPH]);
    card
}

fn foreground() -> u32 {
    Card::colour(7)
}

#[test]
fn a_character_shows_its_glyph_in_nine_dots() {
    let card = text_card();
    card.type_text(81, "A", 0x47);
    let picture = card.paint_all();
    assert_eq!((picture.width, picture.height()), (720, 400));
    assert_eq!(picture.pattern(9, 16 + 2, 9, foreground()), "#......#.");
    assert_eq!(picture.pattern(9, 16 + 6, 9, foreground()), "########.");
    assert_eq!(picture.dot(9, 16), Card::colour(4));
    assert_eq!(picture.dot(0, 0), Card::colour(0));
}

#[test]
fn line_graphics_repeat_the_eighth_dot() {
    let card = text_card();
    card.load_font(0xc4, &[[0x01; 16]]);
    DeviceMemory::write(&*card.odd_even, 0, &[0xc4, 0x07]);
    assert_eq!(card.paint_all().pattern(0, 3, 10, foreground()), ".......##.");
}

#[test]
fn attribute_bit_3_chooses_the_character_set() {
    let card = text_card();
    // Map A becomes the third, 32 KiB up; map B stays the first.
    card.set(0x3c4, 3, 0x08);
    card.load_font(1024 + usize::from(b'A'), &[[0xaa; 16]]);
    card.type_text(0, "A", 0x07);
    card.type_text(1, "A", 0x0f);
    let picture = card.paint_all();
    assert_eq!(picture.pattern(0, 2, 9, foreground()), "#......#.");
    assert_eq!(picture.pattern(9, 2, 9, Card::colour(0x3f)), "#.#.#.#..");
}

#[test]
fn the_cursor_covers_its_lines() {
    let card = text_card();
    card.type_text(0, "  ", 0x07);
    card.type_text(82, "x", 0x07);
    card.set(0x3d4, 0x0a, 0x0e);
    card.set(0x3d4, 0x0b, 0x0f);
    card.set(0x3d4, 0x0e, 0);
    card.set(0x3d4, 0x0f, 82);
    let picture = card.paint_all();
    assert_eq!(picture.pattern(9, 16 + 13, 18, foreground()), "..................");
    assert_eq!(picture.pattern(9, 16 + 14, 18, foreground()), ".........#########");
    assert_eq!(card.vga.text_screen().unwrap().cursor, Some((2, 1)));
    card.set(0x3d4, 0x0a, 0x2e);
    assert_eq!(card.vga.text_screen().unwrap().cursor, None);
}

#[test]
fn mono_text_is_underlined() {
    let card = Card::new();
    card.set_mode(&MODE_7);
    card.set(0x3b4, 0x0a, 0x20);
    // Seven lines a row, the fourth underlines.
    card.set(0x3b4, 0x09, 6);
    card.set(0x3b4, 0x14, 3);
    card.type_text(0, " ", 0x01);
    let picture = card.paint_all();
    assert_eq!(picture.pattern(0, 3, 10, Card::colour(8)), "#########.");
    assert_eq!(picture.pattern(0, 4, 9, Card::colour(8)), ".........");
}

#[test]
fn an_idle_text_screen_paints_nothing_and_a_character_one_row() {
    let card = text_card();
    let (mut painter, mut picture) = (Painter::new(), Picture::default());
    assert_eq!(painter.paint(&card.vga, &mut picture), 400);
    assert_eq!(painter.paint(&card.vga, &mut picture), 0);
    picture.painted.clear();
    card.type_text(160, "A", 0x07);
    assert_eq!(painter.paint(&card.vga, &mut picture), 16);
    assert_eq!(picture.painted, (32..48).collect::<Vec<_>>());
    assert_eq!(picture.resizes, 1);
    // A new glyph repaints everything, once.
    card.load_font(usize::from(b'A'), &[[0xff; 16]]);
    assert_eq!(painter.paint(&card.vga, &mut picture), 400);
    assert_eq!(picture.pattern(0, 33, 9, foreground()), "########.");
    assert_eq!(painter.paint(&card.vga, &mut picture), 0);
}

#[test]
fn text_scrolls_pans_and_splits() {
    let card = text_card();
    card.type_text(80, "A", 0x07);
    card.type_text(0, "A", 0x47);
    // Start at the second row, two dots to the left, split after 32 lines.
    card.set(0x3d4, 0x0d, 80);
    card.set_attribute(0x13, 1);
    card.set_attribute(0x10, 0x2c);
    card.set(0x3d4, 0x18, 31);
    card.set(0x3d4, 0x11, 0x0e);
    card.set(0x3d4, 0x07, 0x0f);
    card.set(0x3d4, 0x09, 0x0f);
    card.inb(0x3da);
    card.outb(0x3c0, 0x20);
    let picture = card.paint_all();
    assert_eq!(picture.pattern(0, 2, 9, foreground()), ".....#...");
    assert_eq!(picture.pattern(0, 32 + 2, 9, foreground()), "#......#.");
    assert_eq!(picture.dot(1, 32 + 2), Card::colour(4));
}

#[test]
fn planar_dots_take_a_bit_from_each_plane() {
    let card = Card::new();
    card.set_mode(&MODE_12);
    for plane in 0..4 {
        card.set(0x3c4, 2, 1 << plane);
        card.poke(80, 0x80 >> plane | 0x08);
    }
    let picture = card.paint_all();
    let colours: Vec<u32> = (0..6).map(|x| picture.dot(x, 1)).collect();
    // Attributes 1, 2, 4, 8, 15 and 0, through the palette registers.
    assert_eq!(colours, [0x01, 0x02, 0x04, 0x38, 0x3f, 0x00].map(Card::colour));
}

#[test]
fn mode_d_doubles_dots_and_lines() {
    let card = Card::new();
    card.set_mode(&MODE_D);
    card.poke(40, 0x40);
    let picture = card.paint_all();
    assert_eq!((picture.width, picture.height()), (640, 400));
    assert_eq!(picture.pattern(0, 2, 8, Card::colour(0x17)), "..##....");
    assert_eq!(picture.pattern(0, 3, 8, Card::colour(0x17)), "..##....");
    assert_eq!(picture.pattern(0, 1, 8, Card::colour(0x17)), "........");
}

#[test]
fn cga_modes_alternate_between_two_banks() {
    let card = Card::new();
    card.set_mode(&MODE_4);
    // Dots 4 to 7 of the second line: colours 0, 1, 2, 3.
    card.poke(0x1_8000 + 0x2000 + 1, 0x1b);
    let picture = card.paint_all();
    assert_eq!((picture.width, picture.height()), (640, 400));
    let colours: Vec<u32> = (8..16).step_by(2).map(|x| picture.dot(x, 2)).collect();
    assert_eq!(colours, [0x00, 0x13, 0x15, 0x17].map(Card::colour));
    assert_eq!(picture.dot(14, 0), Card::colour(0));

    card.set_mode(&MODE_6);
    card.poke(0x1_8000 + 0x2000 + 80, 0x81);
    assert_eq!(card.paint_all().pattern(0, 6, 9, Card::colour(0x17)), "#......#.");
}

#[test]
fn mode_13_shows_bytes_through_the_pel_mask() {
    let card = Card::new();
    card.set_mode(&MODE_13);
    card.poke(321, 0x2c);
    assert_eq!(card.paint_all().pattern(0, 2, 6, Card::colour(0x2c)), "..##..");
    card.outb(0x3c6, 0x0f);
    assert_eq!(card.paint_all().pattern(0, 3, 6, Card::colour(0x0c)), "..##..");
}

#[test]
fn mode_13_wraps_at_64_kib_and_mode_x_at_256_kib() {
    let card = Card::new();
    let colour = Card::colour(0x2c);
    card.set_mode(&MODE_13);
    // The picture starts in the last row and a bit of the 64 KiB, and goes on at their beginning.
    card.set(0x3d4, 0x0c, 0x3f);
    card.set(0x3d4, 0x0d, 0xc0);
    card.poke(0xff00, 0x2c);
    card.poke(0, 0x2c);
    card.poke(0x140, 0x2c);
    let picture = card.paint_all();
    assert_eq!(picture.dot(0, 0), colour);
    assert_eq!(picture.dot(2 * 256, 0), colour, "within a row");
    assert_eq!(picture.dot(2 * 256, 2), colour, "from row to row");
    // A start beyond them is one within them.
    card.set(0x3d4, 0x0c, 0x7f);
    assert_eq!(card.paint_all().dot(2 * 256, 0), colour);
    // Unchained: each plane has 64 KiB.
    card.set(0x3c4, 4, 0x06);
    card.set(0x3d4, 0x14, 0x00);
    card.set(0x3d4, 0x17, 0xe3);
    card.set(0x3d4, 0x0c, 0xff);
    let picture = card.paint_all();
    assert_eq!(picture.dot(0, 0), Card::colour(0));
    assert_eq!(picture.dot(2 * 256, 0), colour);
}

#[test]
fn packed_depths_are_widened_to_full_scale() {
    let card = Card::new();
    for (bits, bytes, expected) in [
        (15, &[0x00, 0x7c][..], 0x00ff_0000),
        (16, &[0xe0, 0x07], 0x0000_ff00),
        (24, &[0x56, 0x34, 0x12], 0x0012_3456),
        (32, &[0x56, 0x34, 0x12, 0xff], 0x0012_3456),
    ] {
        card.set_vbe(640, 480, bits);
        DeviceMemory::write(&*card.vram, bytes.len() * 641, bytes);
        assert_eq!(card.paint_all().dot(1, 1), expected, "{bits} bits");
    }
}

#[test]
fn vbe_pans_over_a_larger_screen_with_a_wide_palette() {
    let card = Card::new();
    card.set_vbe(640, 480, 8);
    card.dispi(4, 0x61);
    card.set_colour(9, [0x12, 0x34, 0x56]);
    card.dispi(6, 1024);
    card.dispi(8, 16);
    card.dispi(9, 100);
    DeviceMemory::write(&*card.vram, 101 * 1024 + 17, &[9]);
    assert_eq!(card.paint_all().dot(1, 1), 0x0012_3456);
}

#[test]
fn a_screen_that_is_off_is_black() {
    let card = text_card();
    card.type_text(0, "A", 0x47);
    card.set(0x3c4, 1, 0x20);
    assert_eq!(card.vga.frame().kind, FrameKind::Blank);
    assert!(card.paint_all().dots.iter().all(|&dot| dot == 0));
}

#[test]
fn the_text_screen_is_unicode_with_trimmed_rows() {
    let card = text_card();
    card.type_text(0, "GRUB", 0x07);
    DeviceMemory::write(&*card.odd_even, 160, &[0xc9, 7, 0xcd, 7, 0xbb, 7, 0, 7]);
    let screen = card.vga.text_screen().unwrap();
    assert_eq!((screen.columns, screen.rows), (80, 25));
    let text = alloc::format!("{screen}");
    assert!(text.starts_with("GRUB\n╔═╗\n\n"), "{text}");
    assert_eq!(text.lines().count(), 25);
}
