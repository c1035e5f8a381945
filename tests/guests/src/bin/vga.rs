//! The VGA (IBM VGA reference; Bochs DISPI): registers, palette, text memory, planar memory with
//! its write modes and latches, chain-4, DISPI modes and the linear framebuffer.

#![no_std]
#![no_main]

use conformance::cpu::{inb, inw, outb, outw, peek, poke};
use conformance::pci::Function;
use conformance::report::{check, equal};

conformance::topic!(run);

const SEQUENCER: u16 = 0x3c4;
const GRAPHICS: u16 = 0x3ce;
const CRTC: u16 = 0x3d4;
const ATTRIBUTE: u16 = 0x3c0;
const STATUS: u16 = 0x3da;

const PLANES: u64 = 0xa_0000;
const TEXT: u64 = 0xb_8000;

fn run() {
    registers();
    palette();
    text();
    planar();
    chain4();
    dispi();
}

fn set(port: u16, index: u8, value: u8) {
    outb(port, index);
    outb(port + 1, value);
}

fn get(port: u16, index: u8) -> u8 {
    outb(port, index);
    inb(port + 1)
}

fn registers() {
    let misc = inb(0x3cc);
    check("colour-ports-selected", misc & 1 == 1);
    outb(0x3c2, misc & !1);
    set(0x3b4, 0x0f, 0x5a);
    equal("mono-ports", get(0x3b4, 0x0f), 0x5a);
    outb(0x3c2, misc);
    equal("same-register-at-colour-ports", get(CRTC, 0x0f), 0x5a);
    set(CRTC, 0x0f, 0);
    equal("misc-output-reads-back", inb(0x3cc), misc);

    let (total, protect) = (get(CRTC, 0), get(CRTC, 0x11));
    set(CRTC, 0x11, protect | 0x80);
    set(CRTC, 0, !total);
    equal("protected-crtc-register", get(CRTC, 0), total);
    set(CRTC, 0x11, protect & 0x7f);
    set(CRTC, 0, !total);
    equal("unprotected-crtc-register", get(CRTC, 0), !total);
    set(CRTC, 0, total);
    set(CRTC, 0x11, protect);

    for (case, port, index, value) in [
        ("sequencer-map-mask", SEQUENCER, 2, 0x0a),
        ("graphics-bit-mask", GRAPHICS, 8, 0x5a),
        ("graphics-set-reset", GRAPHICS, 0, 0x05),
        ("crtc-cursor-address", CRTC, 0x0e, 0x12),
    ] {
        let before = get(port, index);
        set(port, index, value);
        equal(case, get(port, index), value);
        set(port, index, before);
    }

    inb(STATUS);
    outb(ATTRIBUTE, 0x05);
    let before = inb(ATTRIBUTE + 1);
    outb(ATTRIBUTE, 0x2a);
    inb(STATUS);
    outb(ATTRIBUTE, 0x05);
    equal("attribute-flip-flop", inb(ATTRIBUTE + 1), 0x2a);
    outb(ATTRIBUTE, before);
    outb(ATTRIBUTE, 0x20);
    inb(STATUS);
}

fn palette() {
    outb(0x3c8, 0xf0);
    for value in [1, 2, 3, 4, 5, 6] {
        outb(0x3c9, value);
    }
    equal("palette-index-moves-on", inb(0x3c8), 0xf2);
    outb(0x3c7, 0xf0);
    equal("palette-reads-back", [(); 6].map(|()| inb(0x3c9)), [1, 2, 3, 4, 5, 6]);
    equal("palette-state-reading", inb(0x3c7) & 3, 3);
    outb(0x3c8, 0xf0);
    equal("palette-state-writing", inb(0x3c7) & 3, 0);
    outb(0x3c6, 0xa5);
    equal("palette-mask", inb(0x3c6), 0xa5);
    outb(0x3c6, 0xff);
}

fn text() {
    let cells: [u16; 4] = [0x0741, 0x1f42, 0x7043, 0x0f44];
    let before: [u16; 4] = core::array::from_fn(|index| peek(TEXT + 2 * index as u64));
    for (index, cell) in (0..).zip(cells) {
        poke(TEXT + 2 * index, cell);
    }
    equal("text-cells", core::array::from_fn(|index| peek(TEXT + 2 * index as u64)), cells);
    equal("text-bytes", [peek::<u8>(TEXT + 2), peek(TEXT + 3)], [0x42, 0x1f]);
    poke(TEXT + 3, 0x4e_u8);
    equal("text-attribute-alone", peek::<u16>(TEXT + 2), 0x4e42);
    for (index, cell) in (0..).zip(before) {
        poke(TEXT + 2 * index, cell);
    }
}

/// Write and read mode, function, masks.
fn graphics(mode: u8, function: u8, bit_mask: u8, map_mask: u8) {
    set(SEQUENCER, 2, map_mask);
    for (index, value) in
        [(0, 0), (1, 0), (2, 0), (3, function), (4, 0), (5, mode), (7, 0x0f), (8, bit_mask)]
    {
        set(GRAPHICS, index, value);
    }
}

fn put(address: u64, value: u8) {
    poke(address, value);
}

fn planes(address: u64) -> [u8; 4] {
    let mode = get(GRAPHICS, 5);
    set(GRAPHICS, 5, 0);
    let bytes = [0, 1, 2, 3].map(|plane| {
        set(GRAPHICS, 4, plane);
        peek(address)
    });
    set(GRAPHICS, 5, mode);
    bytes
}

/// The planes of a byte become these.
fn fill(address: u64, bytes: [u8; 4]) {
    graphics(0, 0, 0xff, 0);
    for (plane, byte) in bytes.into_iter().enumerate() {
        set(SEQUENCER, 2, 1 << plane);
        put(address, byte);
    }
}

/// 640 x 480 in sixteen colours, as far as memory is concerned.
fn planar() {
    const START: [u8; 4] = [0x0f, 0x33, 0x55, 0xf0];
    set(SEQUENCER, 4, 6);
    set(GRAPHICS, 6, 5);

    let at = PLANES + 0x123;
    fill(at, START);
    equal("planes-are-their-own", planes(at), START);
    graphics(0, 0, 0xff, 0x05);
    put(at, 0xaa);
    equal("map-mask", planes(at), [0xaa, 0x33, 0xaa, 0xf0]);

    fill(at, START);
    graphics(0, 3, 0xff, 0x0f);
    peek::<u8>(at);
    put(at, 0xcc);
    equal("rotated-by-3", planes(at), [0x99; 4]);

    for (case, function, want) in [
        ("function-and", 1_u8 << 3, [0x0c, 0x00, 0x44, 0xc0]),
        ("function-or", 2 << 3, [0xcf, 0xff, 0xdd, 0xfc]),
        ("function-xor", 3 << 3, [0xc3, 0xff, 0x99, 0x3c]),
    ] {
        fill(at, START);
        graphics(0, function, 0xff, 0x0f);
        peek::<u8>(at);
        put(at, 0xcc);
        equal(case, planes(at), want);
    }

    fill(at, START);
    graphics(0, 0, 0x3c, 0x0f);
    peek::<u8>(at);
    put(at, 0xff);
    equal("bit-mask-takes-the-rest-from-the-latches", planes(at), [0x3f, 0x3f, 0x7d, 0xfc]);

    fill(at, START);
    graphics(0, 0, 0xff, 0x0f);
    set(GRAPHICS, 0, 0x05);
    set(GRAPHICS, 1, 0x03);
    put(at, 0x81);
    equal("set-reset", planes(at), [0xff, 0x00, 0x81, 0x81]);

    fill(at, START);
    graphics(1, 0, 0xff, 0x0f);
    peek::<u8>(at);
    put(at + 1, 0);
    equal("write-mode-1-copies-the-latches", planes(at + 1), START);

    fill(at, START);
    graphics(2, 0, 0xf0, 0x0f);
    peek::<u8>(at);
    put(at, 0x06);
    equal("write-mode-2-writes-a-colour", planes(at), [0x0f, 0xf3, 0xf5, 0x00]);

    fill(at, START);
    graphics(3, 0, 0x3f, 0x0f);
    set(GRAPHICS, 0, 0x09);
    peek::<u8>(at);
    put(at, 0xf0);
    equal("write-mode-3-masks-by-the-data", planes(at), [0x3f, 0x03, 0x45, 0xf0]);

    fill(at, [0xff, 0x0f, 0x00, 0x33]);
    graphics(8, 0, 0xff, 0x0f);
    // Colours from the left: 1, 1, 9, 9, 3, 3, 11, 11.
    set(GRAPHICS, 2, 9);
    equal("read-mode-1-compares-colours", peek::<u8>(at), 0x30);
    set(GRAPHICS, 7, 0x01);
    equal("read-mode-1-ignores-planes", peek::<u8>(at), 0xff);

    // A block by the latches, as scrolling does it.
    for index in 0..8 {
        fill(at + index, [index as u8, 0x10, 0x20, 0x30]);
    }
    graphics(1, 0, 0xff, 0x0f);
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") 8_u64 => _, inout("rsi") at => _, inout("rdi") at + 0x100 => _);
    }
    equal("block-by-the-latches", planes(at + 0x107), [7, 0x10, 0x20, 0x30]);
    graphics(0, 0, 0xff, 0x0f);
}

fn chain4() {
    set(SEQUENCER, 4, 0x0e);
    set(GRAPHICS, 5, 0x40);
    set(GRAPHICS, 6, 5);
    for index in 0..8 {
        put(PLANES + 0x200 + index, 0xa0 + index as u8);
    }
    let bytes: [u8; 8] = core::array::from_fn(|index| peek(PLANES + 0x200 + index as u64));
    equal("chain-4", bytes, [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7]);
    equal("chain-4-double-word", peek::<u32>(PLANES + 0x204), 0xa7a6_a5a4);
    set(SEQUENCER, 2, 0x02);
    poke(PLANES + 0x204, 0_u32);
    set(SEQUENCER, 2, 0x0f);
    equal("chain-4-map-mask", peek::<u32>(PLANES + 0x204), 0xa7a6_00a4);
}

fn dispi() {
    const VGA_CLASS: u16 = 0x0300;
    const ID: u16 = 0;
    const WIDTH: u16 = 1;
    const HEIGHT: u16 = 2;
    const BITS: u16 = 3;
    const ENABLE: u16 = 4;
    const BANK: u16 = 5;
    const VIRTUAL_WIDTH: u16 = 6;
    const ENABLED: u16 = 1;
    const LINEAR: u16 = 0x40;

    let write = |index, value| {
        outw(0x1ce, index);
        outw(0x1cf, value);
    };
    let read = |index| {
        outw(0x1ce, index);
        inw(0x1cf)
    };
    check("dispi-identity", (0xb0c2..=0xb0cf).contains(&read(ID)));
    write(ENABLE, 0);
    write(WIDTH, 640);
    write(HEIGHT, 480);
    write(BITS, 8);
    write(ENABLE, ENABLED | LINEAR);
    equal("dispi-mode", [WIDTH, HEIGHT, BITS, VIRTUAL_WIDTH].map(read), [640, 480, 8, 640]);
    equal("dispi-enabled", read(ENABLE) & ENABLED, ENABLED);
    // A card that is not on the PCI bus has it where the first ones had.
    let frame =
        Function::find_class(VGA_CLASS).map_or(0xe000_0000, |vga| u64::from(vga.read(0x10) & !0xf));
    for index in 0..4 {
        poke(frame + 0x1_2340 + 4 * index, 0x0102_0304 * index as u32);
    }
    let dwords: [u32; 4] = core::array::from_fn(|index| peek(frame + 0x1_2340 + 4 * index as u64));
    equal("framebuffer", dwords, [0, 0x0102_0304, 0x0204_0608, 0x0306_090c]);
    write(BANK, 1);
    equal("bank-shows-the-framebuffer", peek::<u32>(PLANES + 0x2348), 0x0204_0608);
    poke(PLANES + 0x2348, 0x5a_u8);
    equal("bank-writes-the-framebuffer", peek::<u8>(frame + 0x1_2348), 0x5a);
    write(BANK, 0);
    write(ENABLE, 0);
    equal("dispi-disabled", read(ENABLE) & ENABLED, 0);
}
