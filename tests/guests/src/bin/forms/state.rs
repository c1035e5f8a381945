//! x87, vector and mask registers: their images in memory (Intel SDM volume 1, 13.4).

use core::arch::asm;

use conformance::Global;
use conformance::cpu::{self, cpuid, has_feature, poke};

pub const IMAGE_BYTES: usize = 4096;

#[repr(C, align(64))]
pub struct Image(pub [u8; IMAGE_BYTES]);

impl Image {
    pub const ZERO: Self = Self([0; IMAGE_BYTES]);
}

/// The registers before each instruction, and the images in memory: as XSAVE writes them, and as
/// XSAVEC.
pub static BEFORE: Global<Image> = Global::new(Image::ZERO);
pub static OTHER: Global<Image> = Global::new(Image::ZERO);
pub static OTHER_COMPACTED: Global<Image> = Global::new(Image::ZERO);

static SIZE: Global<usize> = Global::new(LEGACY_BYTES);

const LEGACY_BYTES: usize = 512;
/// FXSAVE leaves the rest of its area alone.
const WRITTEN_LEGACY_BYTES: usize = 464;
const HEADER: usize = 512;
const HEADER_BYTES: usize = 64;

const YMM: u32 = 2;
const MASKS: u32 = 5;
const ZMM: u32 = 6;
const HIGH_ZMM: u32 = 7;
const WANTED: u64 = 0xe7;

/// Elements 0 to 15 of the vectors of indices, in units of 4 bytes.
const INDICES: [i32; 16] = [0, -2, 3, 1, 7, -4, 12, 9, 2, 15, 5, -1, 6, 11, 4, 8];
const INDICES32: usize = 5;
const INDICES64: usize = 6;

/// Turns on what the processor has, and makes the images. The result is XCR0, or zero.
pub fn enable() -> u64 {
    const OSXSAVE: u64 = 1 << 18;
    let mut components = 0;
    if has_feature(1, 2, 26) {
        cpu::set_cr4(cpu::cr4() | OSXSAVE);
        components = u64::from(cpuid(0xd, 0)[0]) & WANTED;
        unsafe { asm!("xsetbv", in("ecx") 0, in("eax") components as u32, in("edx") 0) };
        SIZE.set(cpuid(0xd, 0)[1] as usize);
        assert!(SIZE.get() <= IMAGE_BYTES);
    }
    fill(&OTHER, components, 0x0075_3197);
    fill(&BEFORE, components, 0);
    if has_feature(0xd, 0, 0) && cpuid(0xd, 1)[0] & 2 != 0 {
        load(&OTHER);
        unsafe {
            asm!(
                "xsavec64 [{}]", in(reg) OTHER_COMPACTED.address(),
                in("eax") u32::MAX, in("edx") u32::MAX
            )
        };
    }
    components
}

/// Element `lane` of a vector register: floating-point numbers of both signs, or indices.
fn lane(register: usize, lane: usize, seed: u32) -> u32 {
    match register {
        INDICES32 => INDICES[lane] as u32,
        INDICES64 if lane.is_multiple_of(2) => INDICES[lane / 2] as u32,
        INDICES64 => (INDICES[lane / 2] >> 31) as u32,
        _ => {
            let number = 16 * register as u32 + lane as u32;
            (0x3f80_0000 + number * 0x0012_3456 + seed) ^ ((lane as u32 & 1) << 31)
        }
    }
}

fn fill(image: &Global<Image>, components: u64, seed: u32) {
    let at = image.address() as u64;
    let offset = |component| at + u64::from(cpuid(0xd, component)[1]);
    let has = |component: u32| components >> component & 1 != 0;
    poke(at, 0x037f_u16);
    // The top is 6: two registers are in use.
    poke(at + 2, 0x3000_u16);
    poke(at + 4, 0xc0_u8);
    poke(at + 24, 0x1f80_u32);
    for register in 0..8_u64 {
        poke(at + 32 + 16 * register, 0xc90f_daa2_2168_c235_u64.rotate_left(seed & 15) - register);
        poke(at + 40 + 16 * register, 0x3fff_u16 + register as u16);
    }
    for register in 0..16 {
        for element in 0..16 {
            let value = lane(register, element, seed);
            let (register, element) = (register as u64, element as u64);
            match element {
                0..4 => poke(at + 160 + 16 * register + 4 * element, value),
                4..8 if has(YMM) => poke(offset(YMM) + 16 * register + 4 * (element - 4), value),
                8..16 if has(ZMM) => poke(offset(ZMM) + 32 * register + 4 * (element - 8), value),
                _ => {}
            }
        }
    }
    if has(HIGH_ZMM) {
        for register in 0..16 {
            for element in 0..16 {
                let value = lane(16 + register, element, seed);
                poke(offset(HIGH_ZMM) + 64 * register as u64 + 4 * element as u64, value);
            }
        }
    }
    if has(MASKS) {
        for mask in 0..8_u64 {
            poke(
                offset(MASKS) + 8 * mask,
                0x5a96_c3e1_7b2d_84b5_u64.rotate_left(8 * mask as u32) ^ u64::from(seed),
            );
        }
    }
    poke(at + HEADER as u64, components);
}

pub fn load(image: &Global<Image>) {
    // XRSTOR leaves the pointers to the last x87 instruction alone in QEMU.
    unsafe { asm!("fninit") };
    match cpu::cr4() >> 18 & 1 {
        1 => unsafe {
            asm!("xrstor64 [{}]", in(reg) image.address(), in("eax") u32::MAX, in("edx") u32::MAX)
        },
        _ => unsafe { asm!("fxrstor64 [{}]", in(reg) image.address()) },
    }
}

pub fn save(image: *mut Image) {
    match cpu::cr4() >> 18 & 1 {
        1 => unsafe { asm!("xsave64 [{}]", in(reg) image, in("eax") u32::MAX, in("edx") u32::MAX) },
        _ => unsafe { asm!("fxsave64 [{}]", in(reg) image) },
    }
}

/// Where two images differ in what the registers held.
pub fn difference(one: &Image, other: &Image) -> Option<usize> {
    let end = SIZE.get();
    let within = |start: usize, end: usize| {
        first_difference(&one.0[start..end], &other.0[start..end]).map(|place| start + place)
    };
    within(0, WRITTEN_LEGACY_BYTES).or_else(|| match end > HEADER + HEADER_BYTES {
        true => within(HEADER + HEADER_BYTES, end),
        false => None,
    })
}

/// Where two areas of the same size differ.
pub fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    match one == other {
        true => None,
        false => one.iter().zip(other).position(|(one, other)| one != other),
    }
}
