//! The accesses themselves, in assembly, so that the compiler assumes nothing about memory that the
//! guest shares.

use core::arch::asm;

/// Copies `count` bytes.
///
/// # Safety
/// `source` is valid for reads and `destination` for writes of `count` bytes, and the two do not
/// overlap.
#[inline(always)]
pub unsafe fn copy(source: *const u8, destination: *mut u8, count: usize) {
    // SAFETY: as the caller promises; DF is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {tail:e}",
            "rep movsb",
            tail = in(reg) count % 8,
            inout("rcx") count / 8 => _,
            inout("rsi") source => _,
            inout("rdi") destination => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Writes `count` zeroes.
///
/// # Safety
/// `destination` is valid for writes of `count` bytes.
#[inline(always)]
pub unsafe fn clear(destination: *mut u8, count: usize) {
    // SAFETY: as the caller promises; DF is clear by the calling convention.
    unsafe {
        asm!(
            "rep stosq",
            "mov ecx, {tail:e}",
            "rep stosb",
            tail = in(reg) count % 8,
            inout("rcx") count / 8 => _,
            inout("rdi") destination => _,
            in("rax") 0,
            options(nostack, preserves_flags)
        );
    }
}

/// Loads four bytes, aligned or not, in one access.
///
/// # Safety
/// `source` is valid for reads of four bytes.
#[inline(always)]
pub unsafe fn load_4(source: *const u8) -> u32 {
    let value;
    // SAFETY: as the caller promises.
    unsafe {
        asm!(
            "mov {:e}, [{}]",
            lateout(reg) value,
            in(reg) source,
            options(nostack, preserves_flags, readonly)
        );
    }
    value
}

/// Loads eight bytes, aligned or not, in one access.
///
/// # Safety
/// `source` is valid for reads of eight bytes.
#[inline(always)]
pub unsafe fn load_8(source: *const u8) -> u64 {
    let value;
    // SAFETY: as the caller promises.
    unsafe {
        asm!(
            "mov {}, [{}]",
            lateout(reg) value,
            in(reg) source,
            options(nostack, preserves_flags, readonly)
        );
    }
    value
}

/// Stores four bytes, aligned or not, in one access.
///
/// # Safety
/// `destination` is valid for writes of four bytes.
#[inline(always)]
pub unsafe fn store_4(destination: *mut u8, value: u32) {
    // SAFETY: as the caller promises.
    unsafe {
        asm!(
            "mov [{}], {:e}",
            in(reg) destination,
            in(reg) value,
            options(nostack, preserves_flags)
        );
    }
}

/// Stores eight bytes, aligned or not, in one access.
///
/// # Safety
/// `destination` is valid for writes of eight bytes.
#[inline(always)]
pub unsafe fn store_8(destination: *mut u8, value: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        asm!(
            "mov [{}], {}",
            in(reg) destination,
            in(reg) value,
            options(nostack, preserves_flags)
        );
    }
}
