//! Multiboot 2 information, as GRUB passes it on BIOS and UEFI machines.

use super::handover::{AreaKind, Framebuffer, Handover, Screen};
use multiboot2::{BootInformation, BootInformationHeader, FramebufferTag, FramebufferType, MemoryAreaType};
use spin::Once;

/// What the loader passes in EAX.
pub const MAGIC: u32 = multiboot2::MAGIC;

static INFORMATION: Once<BootInformation<'static>> = Once::new();

/// Bytes of the tag before the copy of the ACPI root pointer.
const TAG_HEADER_BYTES: usize = 8;

/// Reads the information.
///
/// # Safety
/// As [`Handover::read`].
pub unsafe fn read(address: u32) -> Result<Handover, &'static str> {
    const BROKEN: &str =
        "the boot loader's multiboot 2 information is broken; load the image with another version of GRUB";
    let mut handover = Handover::new("multiboot 2");
    // SAFETY: the loader put the structure there (caller's promise), and `keep` below makes it stay for ever.
    let information: BootInformation<'static> =
        unsafe { BootInformation::load(address as usize as *const BootInformationHeader) }
            .map_err(|_| BROKEN)?;
    handover.keep(information.start_address() as u64, information.total_size() as u64);
    // The tags borrow from the handle, so that it must live for ever too.
    let tags = INFORMATION.call_once(|| information);
    if let Some(name) = tags.boot_loader_name_tag().and_then(|tag| tag.name().ok()) {
        handover.loader = name;
    }
    if let Some(line) = tags.command_line_tag().and_then(|tag| tag.cmdline().ok()) {
        handover.command_line = line;
    }
    for module in tags.module_tags() {
        let range = u64::from(module.start_address())..u64::from(module.end_address());
        handover.add_module(range, module.cmdline().unwrap_or(""));
    }
    let map = tags
        .memory_map_tag()
        .ok_or("the boot loader gives no memory map; load the image with another version of GRUB")?;
    for area in map.memory_areas() {
        let kind = match area.typ() {
            MemoryAreaType::Available => AreaKind::Ram,
            MemoryAreaType::AcpiAvailable | MemoryAreaType::ReservedHibernate => AreaKind::Acpi,
            _ => AreaKind::Reserved,
        };
        handover.add_area(area.start_address(), area.size(), kind);
    }
    let rsdp_v2 = tags.rsdp_v2_tag().map(|tag| core::ptr::from_ref(tag).cast::<u8>());
    let rsdp = rsdp_v2.or_else(|| tags.rsdp_v1_tag().map(|tag| core::ptr::from_ref(tag).cast::<u8>()));
    handover.rsdp = rsdp.map(|tag| tag as usize + TAG_HEADER_BYTES);
    if let Some(Ok(tag)) = tags.framebuffer_tag() {
        handover.screen = screen(tag);
    }
    Ok(handover)
}

fn screen(tag: &FramebufferTag) -> Screen {
    match tag.buffer_type() {
        Ok(FramebufferType::Text) => Screen::Text,
        Ok(FramebufferType::RGB { red, green, blue }) => Screen::Framebuffer(Framebuffer {
            address: tag.address(),
            pitch_bytes: tag.pitch(),
            width: tag.width(),
            height: tag.height(),
            bits_per_pixel: tag.bpp(),
            fields: [red, green, blue].map(|field| (field.position, field.size)),
        }),
        _ => Screen::Unknown,
    }
}
