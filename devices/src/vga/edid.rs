//! The monitor's description of itself (VESA Enhanced EDID 1.4): the modes that the card's memory
//! and DISPI allow, one of them preferred. It stands at the start of the register page, where
//! QEMU's standard VGA has it: the video BIOS (VBE 4F15h) and drivers read it there. No I2C wires
//! lead to it.

use super::dispi::{MAX_HEIGHT, MAX_WIDTH};

/// Length of the one block.
pub const EDID_BYTES: usize = 128;

/// A timing of the VESA Display Monitor Timing standard. Blanking begins with the front porch, then
/// comes the pulse.
struct Timing {
    width: u16,
    height: u16,
    clock_khz: u32,
    horizontal: Blanking,
    vertical: Blanking,
}

struct Blanking {
    total: u16,
    front_porch: u16,
    pulse: u16,
    /// The pulse is positive.
    positive: bool,
}

impl Blanking {
    const fn new(total: u16, front_porch: u16, pulse: u16, positive: bool) -> Self {
        Self { total, front_porch, pulse, positive }
    }
}

/// From which the preferred mode comes: the first that fits.
const DETAILED: [Timing; 3] = [
    // CVT with reduced blanking.
    Timing {
        width: 1280,
        height: 800,
        clock_khz: 71_000,
        horizontal: Blanking::new(160, 48, 32, true),
        vertical: Blanking::new(23, 3, 6, false),
    },
    Timing {
        width: 1024,
        height: 768,
        clock_khz: 65_000,
        horizontal: Blanking::new(320, 24, 136, false),
        vertical: Blanking::new(38, 3, 6, false),
    },
    Timing {
        width: 640,
        height: 480,
        clock_khz: 25_180,
        horizontal: Blanking::new(160, 16, 96, false),
        vertical: Blanking::new(45, 10, 2, false),
    },
];

/// Modes of 60 Hz with a bit of their own: byte and bit.
const ESTABLISHED: [(u16, u16, usize, u8); 3] =
    [(640, 480, 35, 5), (800, 600, 35, 0), (1024, 768, 36, 3)];

/// Aspect ratios of standard timings, by their code.
const ASPECTS: [(u32, u32); 4] = [(16, 10), (4, 3), (5, 4), (16, 9)];

/// Modes of 60 Hz without one: at most eight.
const STANDARD: [(u16, u16); 8] = [
    (1920, 1200),
    (1920, 1080),
    (1680, 1050),
    (1600, 1200),
    (1440, 900),
    (1280, 1024),
    (1280, 960),
    (1280, 800),
];

/// Centimetres at about 100 dots an inch.
const fn centimetres(dots: u16) -> u8 {
    (dots as u32 * 254 / 10_000) as u8
}

/// Red, green, blue and white of sRGB: x and y in ten-thousandths.
const CHROMATICITY: [(u32, u32); 4] = [(6400, 3300), (3000, 6000), (1500, 600), (3127, 3290)];

const HEADER: [u8; 8] = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
/// Three letters of five bits each.
const MANUFACTURER: &[u8; 3] = b"BKH";
const MODEL_YEAR: u16 = 2026;
const NAME: &[u8; 13] = b"Bulkhead\n    ";

const DESCRIPTOR_NAME: u8 = 0xfc;
const DESCRIPTOR_RANGES: u8 = 0xfd;
const DESCRIPTOR_UNUSED: u8 = 0x10;
/// 50 to 75 Hz, 30 to 90 kHz, 200 MHz, no formula for timings.
const RANGES: &[u8; 13] = &[50, 75, 30, 90, 20, 1, b'\n', b' ', b' ', b' ', b' ', b' ', b' '];

/// The block of a card with `vram_bytes` of memory.
pub fn edid(vram_bytes: usize) -> [u8; EDID_BYTES] {
    let fits = |width: u16, height: u16| {
        let bytes = usize::from(width) * usize::from(height) * 4;
        width <= MAX_WIDTH && height <= MAX_HEIGHT && bytes <= vram_bytes
    };
    let [.., smallest] = &DETAILED;
    let preferred = DETAILED.iter().find(|mode| fits(mode.width, mode.height)).unwrap_or(smallest);
    let mut block = [0; EDID_BYTES];
    block[..8].copy_from_slice(&HEADER);
    let letters =
        MANUFACTURER.iter().fold(0, |code: u16, letter| code << 5 | u16::from(letter - b'@'));
    block[8..10].copy_from_slice(&letters.to_be_bytes());
    // Week FFh: the year is the model's.
    block[16] = 0xff;
    block[17] = (MODEL_YEAR - 1990) as u8;
    // Version 1.4; digital, eight bits a colour.
    block[18..21].copy_from_slice(&[1, 4, 0xa0]);
    block[21] = centimetres(preferred.width);
    block[22] = centimetres(preferred.height);
    // Gamma 2.2; sRGB, and the preferred mode is the panel's own.
    block[23] = 220 - 100;
    block[24] = 0x06;
    block[25..35].copy_from_slice(&chromaticity());
    for (width, height, byte, bit) in ESTABLISHED {
        block[byte] |= u8::from(fits(width, height)) << bit;
    }
    block[38..54].fill(1);
    let standard = STANDARD.into_iter().filter(|&(width, height)| fits(width, height));
    for (entry, (width, height)) in block[38..54].chunks_exact_mut(2).zip(standard) {
        entry.copy_from_slice(&standard_timing(width, height));
    }
    let (descriptors, _) = block[54..126].as_chunks_mut();
    descriptors[0] = detailed_timing(preferred);
    descriptors[1] = descriptor(DESCRIPTOR_NAME, NAME);
    descriptors[2] = descriptor(DESCRIPTOR_RANGES, RANGES);
    descriptors[3] = descriptor(DESCRIPTOR_UNUSED, &[0; 13]);
    block[127] = block.iter().fold(0, |sum: u8, &byte| sum.wrapping_sub(byte));
    block
}

/// Ten bits a coordinate: the low two of all first, then the high eight of each.
fn chromaticity() -> [u8; 10] {
    let mut bytes = [0; 10];
    let coordinates = CHROMATICITY.iter().flat_map(|&(x, y)| [x, y]);
    for (index, tenth_thousandths) in coordinates.enumerate() {
        let value = (tenth_thousandths * 1024 + 5000) / 10_000;
        bytes[index / 4] |= (value as u8 & 3) << (6 - 2 * (index % 4));
        bytes[2 + index] = (value >> 2) as u8;
    }
    bytes
}

/// Width in characters less 31, aspect ratio, rate above 60 Hz.
fn standard_timing(width: u16, height: u16) -> [u8; 2] {
    let is_ratio =
        |&(across, down): &(u32, u32)| u32::from(width) * down == u32::from(height) * across;
    let aspect = ASPECTS.iter().position(is_ratio).unwrap_or(0);
    [(width / 8 - 31) as u8, (aspect as u8) << 6]
}

fn detailed_timing(mode: &Timing) -> [u8; 18] {
    let Timing { width, height, clock_khz, horizontal, vertical } = mode;
    let low = |value: u16| value as u8;
    let high = |upper: u16, lower: u16| (upper >> 8 << 4 | lower >> 8) as u8;
    let millimetres = [*width, *height].map(|dots| u16::from(centimetres(dots)) * 10);
    let clock = ((clock_khz / 10) as u16).to_le_bytes();
    let sync_high = horizontal.front_porch >> 8 << 6
        | horizontal.pulse >> 8 << 4
        | vertical.front_porch >> 4 << 2
        | vertical.pulse >> 4;
    // Separate digital synchronisation.
    let flags = 0x18 | u8::from(vertical.positive) << 2 | u8::from(horizontal.positive) << 1;
    [
        clock[0],
        clock[1],
        low(*width),
        low(horizontal.total),
        high(*width, horizontal.total),
        low(*height),
        low(vertical.total),
        high(*height, vertical.total),
        low(horizontal.front_porch),
        low(horizontal.pulse),
        low((vertical.front_porch & 15) << 4 | vertical.pulse & 15),
        low(sync_high),
        low(millimetres[0]),
        low(millimetres[1]),
        high(millimetres[0], millimetres[1]),
        0,
        0,
        flags,
    ]
}

fn descriptor(tag: u8, data: &[u8; 13]) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[3] = tag;
    bytes[5..].copy_from_slice(data);
    bytes
}
