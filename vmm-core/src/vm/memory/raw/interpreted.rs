//! The same for Miri, which runs no assembly: it finds accesses that are outside of what was
//! allocated, or after it was freed.

/// Copies `count` bytes.
///
/// # Safety
/// `source` is valid for reads and `destination` for writes of `count` bytes, and the two do not
/// overlap.
pub unsafe fn copy(source: *const u8, destination: *mut u8, count: usize) {
    // SAFETY: as the caller promises.
    unsafe { destination.copy_from_nonoverlapping(source, count) }
}

/// Writes `count` zeroes.
///
/// # Safety
/// `destination` is valid for writes of `count` bytes.
pub unsafe fn clear(destination: *mut u8, count: usize) {
    // SAFETY: as the caller promises.
    unsafe { destination.write_bytes(0, count) }
}

/// Loads four bytes.
///
/// # Safety
/// `source` is valid for reads of four bytes.
pub unsafe fn load_4(source: *const u8) -> u32 {
    // SAFETY: as the caller promises.
    unsafe { source.cast::<u32>().read_unaligned() }
}

/// Loads eight bytes.
///
/// # Safety
/// `source` is valid for reads of eight bytes.
pub unsafe fn load_8(source: *const u8) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { source.cast::<u64>().read_unaligned() }
}

/// Stores four bytes.
///
/// # Safety
/// `destination` is valid for writes of four bytes.
pub unsafe fn store_4(destination: *mut u8, value: u32) {
    // SAFETY: as the caller promises.
    unsafe { destination.cast::<u32>().write_unaligned(value) }
}

/// Stores eight bytes.
///
/// # Safety
/// `destination` is valid for writes of eight bytes.
pub unsafe fn store_8(destination: *mut u8, value: u64) {
    // SAFETY: as the caller promises.
    unsafe { destination.cast::<u64>().write_unaligned(value) }
}
