//! Mode sets, in the order in which SeaBIOS's VGA BIOS writes the registers.

use super::*;

/// The register values of one standard mode.
pub(super) struct Mode {
    pub sequencer: [u8; 4],
    pub misc: u8,
    pub crtc: [u8; 25],
    pub attribute: [u8; 20],
    pub graphics: [u8; 9],
}

const TEXT_ATTRIBUTES: [u8; 20] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f,
    0x0c, 0x00, 0x0f, 0x08,
];

pub(super) const MODE_3: Mode = Mode {
    sequencer: [0x00, 0x03, 0x00, 0x02],
    misc: 0x67,
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00,
        0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
    ],
    attribute: TEXT_ATTRIBUTES,
    graphics: [0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff],
};

pub(super) const MODE_1: Mode = Mode {
    sequencer: [0x08, 0x03, 0x00, 0x02],
    misc: 0x67,
    crtc: [
        0x2d, 0x27, 0x28, 0x90, 0x2b, 0xa0, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00,
        0x00, 0x9c, 0x8e, 0x8f, 0x14, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
    ],
    attribute: TEXT_ATTRIBUTES,
    graphics: [0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff],
};

pub(super) const MODE_4: Mode = Mode {
    sequencer: [0x09, 0x03, 0x00, 0x02],
    misc: 0x63,
    crtc: [
        0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x9c, 0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff,
    ],
    attribute: [
        0x00, 0x13, 0x15, 0x17, 0x02, 0x04, 0x06, 0x07, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16,
        0x17, 0x01, 0x00, 0x03, 0x00,
    ],
    graphics: [0, 0, 0, 0, 0, 0x30, 0x0f, 0x0f, 0xff],
};

pub(super) const MODE_6: Mode = Mode {
    sequencer: [0x01, 0x01, 0x00, 0x06],
    misc: 0x63,
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x00, 0x96, 0xb9, 0xc2, 0xff,
    ],
    attribute: [
        0x00, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17,
        0x17, 0x01, 0x00, 0x01, 0x00,
    ],
    graphics: [0, 0, 0, 0, 0, 0x00, 0x0d, 0x0f, 0xff],
};

pub(super) const MODE_7: Mode = Mode {
    sequencer: [0x00, 0x03, 0x00, 0x02],
    misc: 0x66,
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00,
        0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x0f, 0x96, 0xb9, 0xa3, 0xff,
    ],
    attribute: [
        0x00, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x10, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18,
        0x18, 0x0e, 0x00, 0x0f, 0x08,
    ],
    graphics: [0, 0, 0, 0, 0, 0x10, 0x0a, 0x0f, 0xff],
};

pub(super) const MODE_D: Mode = Mode {
    sequencer: [0x09, 0x0f, 0x00, 0x06],
    misc: 0x63,
    crtc: [
        0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x9c, 0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xe3, 0xff,
    ],
    attribute: [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16,
        0x17, 0x01, 0x00, 0x0f, 0x00,
    ],
    graphics: [0, 0, 0, 0, 0, 0x00, 0x05, 0x0f, 0xff],
};

pub(super) const MODE_12: Mode = Mode {
    sequencer: [0x01, 0x0f, 0x00, 0x06],
    misc: 0xe3,
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0xea, 0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff,
    ],
    attribute: [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e,
        0x3f, 0x01, 0x00, 0x0f, 0x00,
    ],
    graphics: [0, 0, 0, 0, 0, 0x00, 0x05, 0x0f, 0xff],
};

pub(super) const MODE_13: Mode = Mode {
    sequencer: [0x01, 0x0f, 0x00, 0x0e],
    misc: 0x63,
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff,
    ],
    attribute: [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e,
        0x0f, 0x41, 0x00, 0x0f, 0x00,
    ],
    graphics: [0, 0, 0, 0, 0, 0x40, 0x05, 0x0f, 0xff],
};

impl Card {
    /// Sets a standard mode: DISPI off, attributes, palette, sequencer, graphics, CRTC, then the
    /// screen on. Colour `n` of the DAC becomes `[n & 63, 0, 63 - (n & 63)]`.
    pub(super) fn set_mode(&self, mode: &Mode) {
        self.dispi(4, 0);
        let status = if mode.misc & 1 == 0 { 0x3ba } else { 0x3da };
        self.outb(0x3c2, mode.misc);
        self.inb(status);
        self.outb(0x3c0, 0x00);
        self.outb(0x3c6, 0xff);
        for index in 0..=255 {
            self.set_colour(index, [index & 63, 0, 63 - (index & 63)]);
        }
        for (index, value) in (0..).zip(mode.attribute) {
            self.inb(status);
            self.outb(0x3c0, index);
            self.outb(0x3c0, value);
        }
        self.outb(0x3c0, 0x14);
        self.outb(0x3c0, 0x00);
        self.set(0x3c4, 0, 0x03);
        for (index, value) in (1..).zip(mode.sequencer) {
            self.set(0x3c4, index, value);
        }
        for (index, value) in (0..).zip(mode.graphics) {
            self.set(0x3ce, index, value);
        }
        let crtc = if mode.misc & 1 == 0 { 0x3b4 } else { 0x3d4 };
        self.set(crtc, 0x11, 0x00);
        for (index, value) in (0..).zip(mode.crtc) {
            self.set(crtc, index, value);
        }
        self.inb(status);
        self.outb(0x3c0, 0x20);
    }

    /// The colour that [`Card::set_mode`] gives DAC index `index`.
    pub(super) fn colour(index: u8) -> u32 {
        let wide = |part: u8| u32::from(part << 2 | part >> 4);
        wide(index & 63) << 16 | wide(63 - (index & 63))
    }

    /// Loads glyphs into plane 2 the way the BIOS does, leaving and restoring the text mode's
    /// addressing.
    pub(super) fn load_font(&self, first_character: usize, glyphs: &[[u8; 16]]) {
        for (port, index, value) in
            [(0x3c4, 2, 4), (0x3c4, 4, 7), (0x3ce, 4, 2), (0x3ce, 5, 0), (0x3ce, 6, 4)]
        {
            self.set(port, index, value);
        }
        for (character, glyph) in (first_character..).zip(glyphs) {
            self.vga.write_run(character * 32, glyph);
        }
        for (port, index, value) in
            [(0x3c4, 2, 3), (0x3c4, 4, 2), (0x3ce, 4, 0), (0x3ce, 5, 0x10), (0x3ce, 6, 0x0e)]
        {
            self.set(port, index, value);
        }
    }

    pub(super) fn set_vbe(&self, width: u16, height: u16, bits: u16) {
        self.dispi(4, 0);
        self.dispi(3, bits);
        self.dispi(1, width);
        self.dispi(2, height);
        self.dispi(5, 0);
        self.dispi(4, 0x41);
        self.set(0x3ce, 6, 0x05);
        self.set(0x3c4, 2, 0x0f);
        self.outb(0x3c2, 0x63);
        self.inb(0x3da);
        self.outb(0x3c0, 0x20);
    }
}

const TEXT_WINDOW: Window = Window::Linear {
    gpa: 0xb_8000,
    memory: WindowMemory::OddEven,
    offset_bytes: 0,
    length_bytes: 0x8000,
};

#[test]
fn mode_3_is_80_by_25_and_maps_the_text() {
    let card = Card::new();
    let before = card.vga.mapping_generation();
    card.set_mode(&MODE_3);
    let kind = FrameKind::Text { columns: 80, rows: 25 };
    assert_eq!(card.vga.frame(), FrameInfo { width: 720, height: 400, kind });
    assert_eq!(card.vga.window(), TEXT_WINDOW);
    assert_ne!(card.vga.mapping_generation(), before);
}

#[test]
fn mode_1_is_40_by_25_in_double_width() {
    let card = Card::new();
    card.set_mode(&MODE_1);
    let kind = FrameKind::Text { columns: 40, rows: 25 };
    assert_eq!(card.vga.frame(), FrameInfo { width: 720, height: 400, kind });
}

#[test]
fn mode_7_answers_at_the_mono_addresses() {
    let card = Card::new();
    card.set_mode(&MODE_7);
    assert!(matches!(
        card.vga.window(),
        Window::Linear { gpa: 0xb_0000, length_bytes: 0x8000, .. }
    ));
    assert_eq!(card.get(0x3b4, 0x13), 0x28);
    assert_eq!(card.inb(0x3d5), 0xff);
}

#[test]
fn mode_12_is_trapped_and_640_by_480() {
    let card = Card::new();
    card.set_mode(&MODE_12);
    assert_eq!(card.vga.frame(), FrameInfo { width: 640, height: 480, kind: FrameKind::Graphics });
    assert_eq!(card.vga.window(), Window::Trapped);
}

#[test]
fn mode_13_maps_video_memory_and_mode_x_does_not() {
    let card = Card::new();
    card.set_mode(&MODE_13);
    let linear = Window::Linear {
        gpa: 0xa_0000,
        memory: WindowMemory::Vram,
        offset_bytes: 0,
        length_bytes: 0x1_0000,
    };
    assert_eq!(card.vga.window(), linear);
    assert_eq!(card.vga.frame(), FrameInfo { width: 640, height: 400, kind: FrameKind::Graphics });

    card.set(0x3c4, 4, 0x06);
    card.set(0x3d4, 0x14, 0x00);
    card.set(0x3d4, 0x17, 0xe3);
    assert_eq!(card.vga.window(), Window::Trapped);
    // Four neighbouring dots share an address: dot 321 is address 80, plane 1.
    card.set(0x3c4, 2, 1 << 1);
    card.poke(80, 5);
    assert_eq!(card.paint_all().pattern(0, 2, 8, Card::colour(5)), "..##....");
}

#[test]
fn vbe_1024_by_768_has_a_linear_framebuffer_and_banks() {
    let card = Card::new();
    card.set_mode(&MODE_3);
    assert_eq!(card.read_dispi(0), 0xb0c5);
    assert_eq!(card.read_dispi(10), 256);
    card.dispi(4, 2);
    assert_eq!([card.read_dispi(1), card.read_dispi(2), card.read_dispi(3)], [1920, 1200, 32]);
    card.set_vbe(1024, 768, 32);
    assert_eq!(card.vga.frame(), FrameInfo { width: 1024, height: 768, kind: FrameKind::Graphics });
    assert_eq!([card.read_dispi(6), card.read_dispi(7)], [1024, 4096]);
    card.dispi(5, 3);
    let banked = Window::Linear {
        gpa: 0xa_0000,
        memory: WindowMemory::Vram,
        offset_bytes: 3 << 16,
        length_bytes: 0x1_0000,
    };
    assert_eq!(card.vga.window(), banked);
    // Row 48 starts with bank 3.
    card.vga.mmio_write(Card::window(4, 4), 0x0012_3456);
    assert_eq!(card.paint_all().dot(1, 48), 0x0012_3456);
}

#[test]
fn enabling_a_vbe_mode_clears_unless_told_otherwise() {
    let card = Card::new();
    DeviceMemory::write_u32(&*card.vram, 64, 0xdead_beef);
    card.dispi(3, 32);
    card.dispi(1, 640);
    card.dispi(2, 480);
    card.dispi(4, 0xc1);
    assert_eq!(DeviceMemory::read_u32(&*card.vram, 64), 0xdead_beef);
    card.dispi(4, 0);
    card.dispi(4, 0x41);
    assert_eq!(DeviceMemory::read_u32(&*card.vram, 64), 0);
}

#[test]
fn vbe_registers_are_fitted_to_video_memory() {
    let card = Card::new();
    card.set_vbe(5000, 5000, 32);
    assert_eq!([card.read_dispi(1), card.read_dispi(2)], [1920, 1200]);
    card.dispi(6, 16384);
    assert_eq!(card.read_dispi(6), 15360);
    assert_eq!(card.read_dispi(2), (VRAM_BYTES / (15360 * 4)) as u16);
    card.dispi(9, 60000);
    assert_eq!(card.read_dispi(9), 0);
}

#[test]
fn text_survives_a_font_load_and_moves_out_of_the_way_of_graphics() {
    let card = Card::new();
    card.set_mode(&MODE_3);
    card.type_text(0, "Bulkhead", 0x1f);
    card.load_font(0x41, &[[0xff; 16]]);
    assert_eq!(card.vga.window(), TEXT_WINDOW);
    let screen = card.vga.text_screen().unwrap();
    assert_eq!(screen.row(0).collect::<alloc::string::String>().trim_end(), "Bulkhead");

    // Into mode 12h, the text is where a program that saves the planes finds it.
    card.set_mode(&MODE_12);
    let plane = |plane| {
        card.set(0x3ce, 4, plane);
        card.peek(1)
    };
    assert_eq!([plane(0), plane(1)], [b'u', 0x1f]);
    assert_eq!(card.vga.text_screen(), None);
    card.set_mode(&MODE_3);
    assert_eq!(card.peek(0x1_8002), b'u');
}
