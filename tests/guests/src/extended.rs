//! The extended state of the processor: x87, vector, mask and protection-key registers, and XCR0.

use core::arch::asm;

use crate::cpu::{cpuid, cr4, has_feature, peek, poke, set_cr4};
use crate::global::Global;

const OSXSAVE: u64 = 1 << 18;
const PKE: u64 = 1 << 22;
const OSFXSR: u64 = 1 << 9;
const AVX: u32 = 1 << 2;
const AVX512: u32 = 7 << 5;
const PKRU: u32 = 1 << 9;
const PATTERN: u64 = 0x5aa5_c33c_9669_f00f;

const AREA_BYTES: u64 = 4096;
const LEGACY_BYTES: u64 = 512;
const HEADER_BYTES: u64 = 64;
const MXCSR: u64 = 24;
const REGISTERS: core::ops::Range<u64> = 32..416;

#[repr(C, align(64))]
struct Area([u8; AREA_BYTES as usize]);
static AREA: Global<Area> = Global::new(Area([0; AREA_BYTES as usize]));

fn has_xsave() -> bool {
    has_feature(1, 2, 26)
}

/// The components that the processor has and this module knows.
fn components() -> u32 {
    cpuid(0xd, 0)[0] & (3 | AVX | AVX512 | PKRU)
}

/// CR4's bits for them are set.
fn enable() {
    let keys = if has_xsave() && components() & PKRU != 0 { PKE } else { 0 };
    let xsave = if has_xsave() { OSXSAVE } else { 0 };
    set_cr4(cr4() | OSFXSR | xsave | keys);
}

fn enable_components() {
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") components(), in("edx") 0) };
}

/// Gives all of it values that no reset gives it.
pub fn fill() {
    let pattern: [u64; 8] = core::array::from_fn(|index| PATTERN.rotate_left(index as u32));
    let pattern = &raw const pattern;
    enable();
    unsafe {
        asm!(
            "fninit", "fldpi", "fld1", "fldcw [{word}]", "ldmxcsr [{csr}]",
            "movups xmm5, [{pattern}]", "movups xmm15, [{pattern} + 16]",
            word = in(reg) &0x0f7f_u16, csr = in(reg) &0x9fc0_u32, pattern = in(reg) pattern
        );
    }
    if !has_xsave() {
        return;
    }
    let has = components();
    enable_components();
    unsafe {
        if has & AVX != 0 {
            asm!(
                "vmovups ymm5, [{pattern}]", "vmovups ymm12, [{pattern}]",
                pattern = in(reg) pattern
            );
        }
        if has & AVX512 == AVX512 {
            asm!(
                "vmovups zmm5, [{pattern}]", "vmovups zmm20, [{pattern}]", "kmovw k3, {mask:e}",
                pattern = in(reg) pattern, mask = in(reg) 0x5a5a
            );
        }
        if has & PKRU != 0 {
            asm!("wrpkru", in("eax") 0x50, in("ecx") 0, in("edx") 0);
        }
    }
}

/// XCR0; zero without XSAVE.
pub fn xcr0() -> u64 {
    if !has_xsave() {
        return 0;
    }
    enable();
    let (low, high): (u32, u32);
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// Saves what XCR0 has. Returns how many bytes that is.
fn save() -> u64 {
    let area = AREA.address() as u64;
    for offset in (0..AREA_BYTES).step_by(8) {
        poke(area + offset, 0_u64);
    }
    enable();
    if !has_xsave() {
        unsafe { asm!("fxsave64 [{}]", in(reg) area) };
        return LEGACY_BYTES;
    }
    unsafe { asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") 0) };
    u64::from(cpuid(0xd, 0)[1]).min(AREA_BYTES)
}

fn byte(offset: u64) -> u8 {
    peek(AREA.address() as u64 + offset)
}

/// A sum over all of the state that XCR0 has, without the pointers to the last x87 instruction and
/// operand, which some processors clear.
pub fn sum() -> u64 {
    let bytes = (0..8).chain(MXCSR..save());
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, offset| {
        (sum ^ u64::from(byte(offset))).wrapping_mul(0x0100_0000_01b3)
    })
}

/// All that the processor has is as after a reset: registers are zero, MXCSR has its masks (SDM
/// volume 3, table 10-1).
pub fn is_initial() -> bool {
    const INITIAL_MXCSR: u32 = 0x1f80;
    enable();
    if has_xsave() {
        enable_components();
    }
    let length = save();
    let mut registers = REGISTERS.chain(LEGACY_BYTES + HEADER_BYTES..length);
    peek::<u32>(AREA.address() as u64 + MXCSR) == INITIAL_MXCSR
        && registers.all(|offset| byte(offset) == 0)
}
