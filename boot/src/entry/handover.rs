//! The boot loader's information in one form, whichever protocol it came by.

use arrayvec::ArrayVec;
use core::ops::Range;

/// What a range of physical memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaKind {
    /// Free RAM.
    Ram,
    /// RAM with the firmware's ACPI tables or its non-volatile storage.
    Acpi,
    /// Anything else.
    Reserved,
}

/// A range of the memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Physical addresses.
    pub range: Range<u64>,
    /// What it is.
    pub kind: AreaKind,
}

/// A boot module where the loader put it.
#[derive(Clone, Debug)]
pub struct LoadedModule {
    /// Physical addresses.
    pub range: Range<u64>,
    /// Name and arguments.
    pub command_line: &'static str,
}

/// A framebuffer that the loader set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    /// Physical address.
    pub address: u64,
    /// Bytes a row.
    pub pitch_bytes: u32,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 15, 16, 24 or 32.
    pub bits_per_pixel: u8,
    /// Lowest bit and number of bits of red, green and blue.
    pub fields: [(u8, u8); 3],
}

/// What the loader left on the machine's display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// VGA text mode.
    Text,
    /// Pixels.
    Framebuffer(Framebuffer),
    /// The loader says nothing.
    Unknown,
}

/// Everything that the loader hands over. Strings and tables stay where the loader put them; `in_use` names them.
#[derive(Debug)]
pub struct Handover {
    /// "multiboot 1" or "multiboot 2".
    pub protocol: &'static str,
    /// The loader's own name.
    pub loader: &'static str,
    /// The image's command line, without its file name.
    pub command_line: &'static str,
    /// The memory map, in the loader's order.
    pub areas: ArrayVec<Area, 256>,
    /// Boot modules.
    pub modules: ArrayVec<LoadedModule, 64>,
    /// Memory with the loader's information, which must not be overwritten.
    pub in_use: ArrayVec<Range<u64>, 160>,
    /// The display.
    pub screen: Screen,
    /// Address of the ACPI root pointer, if the loader gives it.
    pub rsdp: Option<usize>,
    /// True if a table above was too small for what the loader gave.
    pub truncated: bool,
}

impl Handover {
    /// An empty handover.
    pub const fn new(protocol: &'static str) -> Self {
        Self {
            protocol,
            loader: "",
            command_line: "",
            areas: ArrayVec::new_const(),
            modules: ArrayVec::new_const(),
            in_use: ArrayVec::new_const(),
            screen: Screen::Unknown,
            rsdp: None,
            truncated: false,
        }
    }

    /// Adds a range of the memory map.
    pub fn add_area(&mut self, start: u64, length_bytes: u64, kind: AreaKind) {
        let range = start..start.saturating_add(length_bytes);
        if !range.is_empty() {
            self.truncated |= self.areas.try_push(Area { range, kind }).is_err();
        }
    }

    /// Adds a module.
    pub fn add_module(&mut self, range: Range<u64>, command_line: &'static str) {
        self.truncated |= self.modules.try_push(LoadedModule { range, command_line }).is_err();
    }

    /// Marks memory as used by the loader's information.
    pub fn keep(&mut self, start: u64, length_bytes: u64) {
        self.truncated |= self.in_use.try_push(start..start.saturating_add(length_bytes)).is_err();
    }

    /// The memory that holds the loader's information and the modules.
    pub fn occupied(&self) -> impl Iterator<Item = Range<u64>> + Clone + '_ {
        let modules = self.modules.iter().map(|module| module.range.clone());
        self.in_use.iter().cloned().chain(modules)
    }

    /// The number of a page of free RAM below 640 KiB, where a CPU can start in real mode. Those of the BIOS's own data are left alone.
    pub fn real_mode_page(&self) -> Option<u8> {
        const PAGES: Range<u64> = 0x8..0xa0;
        const PAGE_BYTES: u64 = 4096;
        let touches =
            |page: &Range<u64>, range: &Range<u64>| range.start < page.end && page.start < range.end;
        let is_free = |page: &Range<u64>| {
            let is_ram = |area: &Area| {
                area.kind == AreaKind::Ram && area.range.start <= page.start && page.end <= area.range.end
            };
            let is_reserved = |area: &Area| area.kind != AreaKind::Ram && touches(page, &area.range);
            self.areas.iter().any(is_ram)
                && !self.areas.iter().any(is_reserved)
                && !self.occupied().any(|range| touches(page, &range))
        };
        PAGES
            .rev()
            .find(|number| is_free(&(number * PAGE_BYTES..(number + 1) * PAGE_BYTES)))
            .map(|number| number as u8)
    }

    /// Reads the information that the loader left.
    ///
    /// # Safety
    /// `magic` and `address` are what the loader passed in EAX and EBX, the first 4 GiB are identity-mapped, and
    /// nothing has overwritten the loader's information.
    ///
    /// # Errors
    /// What is wrong with it.
    pub unsafe fn read(magic: u32, address: u32) -> Result<Self, &'static str> {
        match magic {
            // SAFETY: the caller's promise; the magic number says which protocol it was.
            super::multiboot1::MAGIC => unsafe { super::multiboot1::read(address) },
            // SAFETY: as above.
            super::multiboot2::MAGIC => unsafe { super::multiboot2::read(address) },
            _ => Err(
                "the image was not loaded by a multiboot loader; load it with GRUB's `multiboot2` command",
            ),
        }
    }
}

/// The valid UTF-8 at the start of `bytes`.
pub fn text(bytes: &'static [u8]) -> &'static str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_cpus_start_in_free_ram_below_640_kib() {
        let mut handover = Handover::new("multiboot 2");
        assert_eq!(handover.real_mode_page(), None);
        handover.add_area(0x10_0000, 0x1000_0000, AreaKind::Ram);
        assert_eq!(handover.real_mode_page(), None, "too high");
        // As a BIOS has it: its extended data area is not RAM.
        handover.add_area(0, 0x9_fc00, AreaKind::Ram);
        handover.add_area(0x9_fc00, 0x400, AreaKind::Reserved);
        assert_eq!(handover.real_mode_page(), Some(0x9e));
        handover.keep(0x9_e800, 0x10);
        handover.add_module(0x9_0000..0x9_dfff, "small.iso");
        assert_eq!(handover.real_mode_page(), Some(0x8f));
        handover.add_area(0x1000, 0x8_f000, AreaKind::Reserved);
        assert_eq!(handover.real_mode_page(), None, "what is reserved is not free, whatever else says so");
    }
}
