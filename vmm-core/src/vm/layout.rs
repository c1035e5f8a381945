//! Keeps the guest's address space as the chipset's registers say: PAM, SMRAM, the VGA's windows,
//! PCI ranges.

use crate::vm::memory::{Area, AreaOwner, Backing, GuestSpace, LowPage, PAGE_BYTES, SpaceError};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use devices::lock::{self, Ranked, rank};
use devices::pci::i440fx::{I440fx, PamState, pam_range};
use devices::pci::{PciRegion, Space};
use devices::vga::{Vga, Window, WindowMemory};

/// The ROM is shown at the end of the first 4 GiB.
pub const ROM_BASE: u64 = (4 << 30) - ROM_BYTES;
/// Length of the ROM: option ROMs at its start, the BIOS at its end.
pub const ROM_BYTES: u64 = 2 << 20;

const MIB: u64 = 1 << 20;
const VGA_WINDOW_PAGES: core::ops::Range<u16> = 0xa0..0xc0;
/// Below the last 128 KiB of the first mebibyte there is no ROM on the bus.
const FIRST_ROM_PAGE: u16 = 0xe0;

/// One change after the other.
type Changes = Ranked<(), { rank::LAYOUT }>;

/// The RAM, ROM and devices that show below 1 MiB and in the PCI hole.
pub struct Layout {
    space: Arc<GuestSpace>,
    vga: Arc<Vga>,
    host_bridge: Arc<I440fx>,
    seen_generation: AtomicU32,
    changes: Changes,
}

/// The right to change what is shown: nobody else reads registers and applies them meanwhile, so
/// that what was read first is not applied last.
pub struct LayoutOrder<'a> {
    layout: &'a Layout,
    _changes: lock::Guard<'a, (), { rank::LAYOUT }>,
}

impl Layout {
    /// A layout of these devices, applied once.
    ///
    /// # Errors
    /// [`SpaceError`] if the page tables find no memory.
    pub fn new(
        space: Arc<GuestSpace>,
        vga: Arc<Vga>,
        host_bridge: Arc<I440fx>,
    ) -> Result<Self, SpaceError> {
        let (seen_generation, changes) = (AtomicU32::new(0), Changes::new(()));
        let layout = Self { space, vga, host_bridge, seen_generation, changes };
        let order = layout.begin();
        order.apply_pam()?;
        order.apply_window()?;
        order.apply_areas(&[])?;
        drop(order);
        Ok(layout)
    }

    /// Waits until no other virtual CPU changes what is shown.
    pub fn begin(&self) -> LayoutOrder<'_> {
        LayoutOrder { layout: self, _changes: self.changes.lock() }
    }

    /// True if the VGA's window changed since the last call of [`LayoutOrder::apply_window`].
    #[inline]
    pub fn window_changed(&self) -> bool {
        self.vga.mapping_generation() != self.seen_generation.load(Ordering::Relaxed)
    }
}

impl LayoutOrder<'_> {
    /// Shows what the VGA's legacy window shows now.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub fn apply_window(&self) -> Result<(), SpaceError> {
        let layout = self.layout;
        layout.seen_generation.store(layout.vga.mapping_generation(), Ordering::Relaxed);
        let smram_open = layout.host_bridge.smram_open();
        let window = layout.vga.window();
        // Characters are behind what the linear framebuffer shows.
        let odd_even = layout.vga.vram().length_bytes() as u64;
        let page_of = |page| match smram_open {
            true => GuestSpace::ram_page(page),
            false => window_page(window, odd_even, page),
        };
        let pages: Vec<_> = VGA_WINDOW_PAGES.map(|page| (page, page_of(page))).collect();
        layout.space.set_low_pages(&pages)
    }

    /// Shows RAM or ROM as the host bridge's attributes say.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub fn apply_pam(&self) -> Result<(), SpaceError> {
        let mut pages = Vec::new();
        for (segment, state) in self.layout.host_bridge.pam().into_iter().enumerate() {
            let range = pam_range(segment);
            let (first, end) = (range.start / PAGE_BYTES, range.end / PAGE_BYTES);
            pages.extend((first as u16..end as u16).map(|page| (page, pam_page(state, page))));
        }
        self.layout.space.set_low_pages(&pages)
    }

    /// Shows the ROM and the memories of PCI functions where they are now.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub fn apply_areas(&self, regions: &[PciRegion]) -> Result<(), SpaceError> {
        let rom = Area {
            gpa: ROM_BASE,
            length_bytes: ROM_BYTES,
            backing: Backing::Rom,
            offset: 0,
            writable: false,
        };
        let areas = regions.iter().filter_map(area_of);
        let areas: Vec<_> = core::iter::once(rom).chain(areas).collect();
        self.layout.space.set_areas(AreaOwner::Chipset, &areas)
    }
}

/// Only the VGA has memory of its own: its framebuffer and, at the start of the ROM, its BIOS.
fn area_of(region: &PciRegion) -> Option<Area> {
    let (backing, writable) = match region.space {
        Space::Ram => (Backing::Video, true),
        Space::Rom => (Backing::Rom, false),
        Space::Pio | Space::Mmio => return None,
    };
    Some(Area {
        gpa: region.region.base,
        length_bytes: region.region.length,
        backing,
        offset: 0,
        writable,
    })
}

fn pam_page(state: PamState, page: u16) -> LowPage {
    let has_rom = page >= FIRST_ROM_PAGE;
    let rom_page = ((ROM_BYTES - MIB) / PAGE_BYTES) as u16 + page;
    match (state.read_ram, state.write_ram) {
        (true, writable) => LowPage::Memory { backing: Backing::Ram, page, writable },
        (false, false) if has_rom => {
            LowPage::Memory { backing: Backing::Rom, page: rom_page, writable: false }
        }
        (false, true) if has_rom => LowPage::Shadowed { page: rom_page },
        (false, true) => LowPage::WriteOnly,
        (false, false) => LowPage::Device,
    }
}

fn window_page(window: Window, odd_even: u64, page: u16) -> LowPage {
    let Window::Linear { gpa, memory, offset_bytes, length_bytes } = window else {
        return LowPage::Device;
    };
    let Some(within) = (u64::from(page) * PAGE_BYTES).checked_sub(gpa) else {
        return LowPage::Device;
    };
    if within >= length_bytes as u64 {
        return LowPage::Device;
    }
    let base = match memory {
        WindowMemory::Vram => 0,
        WindowMemory::OddEven => odd_even,
    };
    let video_page = (base + offset_bytes as u64 + within) / PAGE_BYTES;
    match u16::try_from(video_page) {
        Ok(page) => LowPage::Memory { backing: Backing::Video, page, writable: true },
        Err(_) => LowPage::Device,
    }
}
