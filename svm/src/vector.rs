//! The guest's vector registers, which stay live in the CPU because the hypervisor never uses them.

use core::arch::asm;

/// One instruction with the register whose number is known at run time only.
macro_rules! with_register {
    ($index:expr, $pointer:expr, $before:literal, $after:literal) => {
        with_register!($index, $pointer, $before, $after; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($index:expr, $pointer:expr, $before:literal, $after:literal; $($number:literal)*) => {
        match $index {
            $($number => asm!(
                concat!($before, $number, $after),
                pointer = in(reg) $pointer,
                options(nostack, preserves_flags)
            ),)*
            _ => {}
        }
    };
}

/// The low 128 or, with `wide`, 256 bits of register `index` (0 to 15); the rest is zero.
pub fn read(index: u8, wide: bool) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    let pointer = bytes.as_mut_ptr();
    // SAFETY: the buffer holds 32 bytes. CR4.OSFXSR, and OSXSAVE with AVX state in XCR0 for `wide`, are set on every
    // CPU that runs guests (`Cpu::enable`; the caller asks for `wide` only if XCR0 has AVX).
    unsafe {
        if wide {
            with_register!(index, pointer, "vmovups [{pointer}], ymm", "");
        } else {
            with_register!(index, pointer, "movups [{pointer}], xmm", "");
        }
    }
    bytes
}

/// Writes the low 16 bytes and leaves the rest of the register, or, with `wide`, all 32 bytes.
pub fn write(index: u8, bytes: &[u8; 32], wide: bool) {
    let pointer = bytes.as_ptr();
    // SAFETY: as in `read`; the register holds nothing but guest state.
    unsafe {
        if wide {
            with_register!(index, pointer, "vmovups ymm", ", [{pointer}]");
        } else {
            with_register!(index, pointer, "movups xmm", ", [{pointer}]");
        }
    }
}
