//! Multiboot 1 information (Multiboot Specification 0.6.96, section 3.3), as QEMU's `-kernel` passes it.

use super::handover::{AreaKind, Handover, text};
use bitflags::bitflags;
use core::ffi::CStr;
use core::ptr;

/// What the loader passes in EAX.
pub const MAGIC: u32 = 0x2bad_b002;

bitflags! {
    /// Which fields are valid.
    #[derive(Clone, Copy)]
    struct Present: u32 {
        const COMMAND_LINE = 1 << 2;
        const MODULES = 1 << 3;
        const MEMORY_MAP = 1 << 6;
        const LOADER_NAME = 1 << 9;
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Information {
    flags: u32,
    memory_lower_kib: u32,
    memory_upper_kib: u32,
    boot_device: u32,
    command_line: u32,
    module_count: u32,
    modules: u32,
    symbols: [u32; 4],
    memory_map_bytes: u32,
    memory_map: u32,
    drives_bytes: u32,
    drives: u32,
    config_table: u32,
    loader_name: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Module {
    start: u32,
    end: u32,
    command_line: u32,
    reserved: u32,
}

/// Bytes of a memory map entry after its size field.
const MAP_ENTRY_BYTES: u32 = 20;

/// Reads the information.
///
/// # Safety
/// As [`Handover::read`].
pub unsafe fn read(address: u32) -> Result<Handover, &'static str> {
    let mut handover = Handover::new("multiboot 1");
    // SAFETY: the loader put the structure there (caller's promise).
    let information = unsafe { ptr::read_unaligned(address as usize as *const Information) };
    handover.keep(address.into(), size_of::<Information>() as u64);
    let present = Present::from_bits_truncate(information.flags);

    if present.contains(Present::LOADER_NAME) {
        // SAFETY: the flag says that the address is that of a string of the loader's.
        handover.loader = unsafe { string(&mut handover, information.loader_name) };
    }
    if present.contains(Present::COMMAND_LINE) {
        // SAFETY: as above.
        let line = unsafe { string(&mut handover, information.command_line) };
        // GRUB 2 leaves the file's name out, the others put it first.
        let named = !handover.loader.starts_with("GRUB 2");
        handover.command_line = if named { line.split_once(' ').map_or("", |(_, rest)| rest) } else { line };
    }
    if present.contains(Present::MODULES) {
        handover.keep(
            information.modules.into(),
            u64::from(information.module_count) * size_of::<Module>() as u64,
        );
        for index in 0..information.module_count as usize {
            let entry = information.modules as usize + index * size_of::<Module>();
            // SAFETY: the flag says that there is an array of so many entries.
            let module = unsafe { ptr::read_unaligned(entry as *const Module) };
            // SAFETY: the entry's string.
            let line = unsafe { string(&mut handover, module.command_line) };
            handover.add_module(module.start.into()..module.end.into(), line);
        }
    }
    if !present.contains(Present::MEMORY_MAP) {
        return Err("the boot loader gives no memory map; load the image with GRUB 2 or QEMU");
    }
    // SAFETY: the flag says that the map is there.
    unsafe { read_map(&mut handover, information.memory_map, information.memory_map_bytes) };
    Ok(handover)
}

/// # Safety
/// `bytes` bytes at `map` are the loader's memory map.
unsafe fn read_map(handover: &mut Handover, map: u32, bytes: u32) {
    handover.keep(map.into(), bytes.into());
    let mut offset = 0u32;
    while offset.saturating_add(4 + MAP_ENTRY_BYTES) <= bytes {
        let entry = (map + offset) as usize;
        // SAFETY: the entry lies within the map (checked by the loop's condition).
        let (size, start, length, kind) = unsafe {
            (
                ptr::read_unaligned(entry as *const u32),
                ptr::read_unaligned((entry + 4) as *const u64),
                ptr::read_unaligned((entry + 12) as *const u64),
                ptr::read_unaligned((entry + 20) as *const u32),
            )
        };
        let kind = match kind {
            1 => AreaKind::Ram,
            3 | 4 => AreaKind::Acpi,
            _ => AreaKind::Reserved,
        };
        handover.add_area(start, length, kind);
        offset = offset.saturating_add(4).saturating_add(size.max(MAP_ENTRY_BYTES));
    }
}

/// A string of the loader's; its memory is marked as used.
///
/// # Safety
/// `address` is 0 or that of a zero-terminated string that nothing overwrites.
unsafe fn string(handover: &mut Handover, address: u32) -> &'static str {
    if address == 0 {
        return "";
    }
    // SAFETY: the caller's promise; `keep` sees to it that it stays valid for ever.
    let string = unsafe { CStr::from_ptr(address as usize as *const _) };
    handover.keep(address.into(), string.count_bytes() as u64 + 1);
    text(string.to_bytes())
}
