//! The standard VGA: an IBM VGA with Bochs' DISPI extension, as QEMU's `-vga std` (PCI 1234:1111).
//!
//! The CPU reaches video memory through the legacy window (a0000h to bffffh) and through the linear
//! framebuffer. Where the mode makes the window a plain view of memory ([`Vga::window`]), the
//! hypervisor maps that memory into the guest and drawing costs no exits; otherwise accesses come
//! here and go through the latches and write modes. [`Vga::mapping_generation`] tells when to look
//! again.
//!
//! Addresses within the planes count characters and groups of dots: a word address of the real card
//! is halved, as if its even bytes were all there is. Programs cannot tell, unless they write in
//! one addressing mode and read in another.

mod access;
mod blocks;
mod crtc;
mod dac;
mod dispi;
mod edid;
mod paint;
mod pci;
mod picture;
mod planes;
mod spec;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod window;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::bus::{Access, MmioDevice, PioDevice, Region};
use crate::lock::DeviceLock;
use crate::memory::DeviceMemory;
use crate::pci::ConfigSpace;
use crate::time::Clock;
use access::WindowAccess;
use dispi::DispiChange;
use picture::Picture;
use planes::{Layout, Planes};
use state::{Effect, State};

pub use paint::{Painter, Surface};
pub use picture::{FrameInfo, FrameKind};
pub use planes::ODD_EVEN_BYTES;
pub use text::{TextScreen, code_page_437};
pub use window::{LEGACY_BASE, LEGACY_BYTES, Window, WindowMemory};

/// Length of the expansion ROM.
pub const ROM_BYTES: usize = 64 << 10;
/// Length of the register page (base address register 2).
pub const REGISTERS_BYTES: u64 = 0x1000;

/// Numbers of the port regions.
mod ports {
    pub const MONO: u8 = 0;
    pub const VGA: u8 = 1;
    pub const DISPI: u8 = 2;

    pub const MONO_BASE: u16 = 0x3b0;
    pub const VGA_BASE: u16 = 0x3c0;
    pub const DISPI_BASE: u16 = 0x1ce;
}

/// Number of the memory region of the linear framebuffer, base address register 0.
pub const REGION_FRAMEBUFFER: u8 = 0;
/// Number of the memory region of the legacy window.
pub const REGION_LEGACY: u8 = 1;
/// Number of the memory region of the register page, base address register 2.
pub const REGION_REGISTERS: u8 = 2;
/// Number of the memory region of the expansion ROM.
pub const REGION_ROM: u8 = 6;

/// Layout of the register page.
mod page {
    /// End of what the monitor says of itself, which begins at 0.
    pub const EDID_END: u64 = super::edid::EDID_BYTES as u64;
    /// VGA ports 3c0h to 3dfh.
    pub const VGA: u64 = 0x400;
    pub const VGA_END: u64 = 0x420;
    /// DISPI registers of two bytes each.
    pub const DISPI: u64 = 0x500;
    pub const DISPI_END: u64 = 0x516;
    /// QEMU's extension: its own length, and the byte order of the framebuffer.
    pub const EXTENSION: u64 = 0x600;
    pub const BYTE_ORDER: u64 = 0x604;
}

const EXTENSION_BYTES: u64 = 8;
const LITTLE_ENDIAN: u64 = 0x1e1e_1e1e;

/// The card.
pub struct Vga {
    clock: Arc<dyn Clock>,
    memory: VgaMemory,
    edid: [u8; edid::EDID_BYTES],
    mapping_generation: AtomicU32,
    config: DeviceLock<ConfigSpace>,
    state: DeviceLock<State>,
}

/// The card's memories, which can be mapped into the guest.
#[derive(Clone)]
pub struct VgaMemory {
    /// Video memory: a power of two of at least 256 KiB.
    pub vram: Arc<dyn DeviceMemory>,
    /// The characters of the text modes: [`ODD_EVEN_BYTES`].
    pub odd_even: Arc<dyn DeviceMemory>,
    /// The expansion ROM: a power of two, [`ROM_BYTES`] for SeaBIOS's.
    pub rom: Arc<dyn DeviceMemory>,
}

impl fmt::Debug for Vga {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vga").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Vga {
    /// A card after power-on, with `video_bios` in its ROM (cut off at the ROM's end).
    pub fn new(clock: Arc<dyn Clock>, memory: VgaMemory, video_bios: &[u8]) -> Self {
        let (vram_bytes, rom_bytes) = (memory.vram.length_bytes(), memory.rom.length_bytes());
        assert!(vram_bytes >= 4 * planes::PLANE_BYTES, "too little video memory");
        assert!(memory.odd_even.length_bytes() >= ODD_EVEN_BYTES, "too little odd/even memory");
        if !video_bios.is_empty() {
            memory.rom.write(0, &video_bios[..video_bios.len().min(rom_bytes)]);
        }
        Self {
            clock,
            config: DeviceLock::new(pci::config_space(vram_bytes, rom_bytes)),
            memory,
            edid: edid::edid(vram_bytes),
            mapping_generation: AtomicU32::new(0),
            state: DeviceLock::default(),
        }
    }

    /// Video memory, which the linear framebuffer shows from its start.
    pub fn vram(&self) -> &Arc<dyn DeviceMemory> {
        &self.memory.vram
    }

    /// The memory that [`WindowMemory::OddEven`] means.
    pub fn odd_even(&self) -> &Arc<dyn DeviceMemory> {
        &self.memory.odd_even
    }

    /// The expansion ROM.
    pub fn rom(&self) -> &Arc<dyn DeviceMemory> {
        &self.memory.rom
    }

    /// How the legacy window is to be mapped now.
    pub fn window(&self) -> Window {
        self.state.lock().window
    }

    /// Counts the changes of [`Vga::window`]. Before a guest is entered after an access to this
    /// device, the mapping must be brought up to date if this has changed.
    pub fn mapping_generation(&self) -> u32 {
        self.mapping_generation.load(Ordering::Acquire)
    }

    /// Size and kind of the picture.
    pub fn frame(&self) -> FrameInfo {
        Picture::new(&self.snapshot(), self.memory.vram.length_bytes()).info()
    }

    /// Reads `data.len()` bytes at `offset` in the legacy window, as that many accesses to
    /// consecutive addresses: the source of `rep movs` or `rep lods`.
    pub fn read_run(&self, offset: usize, data: &mut [u8]) {
        let mut state = self.state.lock();
        let planes = self.planes(state.layout);
        WindowAccess { state: &mut state, planes }.read(offset, data);
    }

    /// Writes `data` at `offset` in the legacy window, as that many accesses to consecutive
    /// addresses: `rep stos`, or `rep movs` from memory.
    pub fn write_run(&self, offset: usize, data: &[u8]) {
        let mut state = self.state.lock();
        let planes = self.planes(state.layout);
        WindowAccess { state: &mut state, planes }.write(offset, data);
    }

    /// `rep movs` from `from` to `to` in the legacy window: `count` elements of `element_bytes` (1,
    /// 2, 4 or 8), upwards or downwards, each read and then written, so that write mode 1
    /// copies all four planes. Stops where either leaves the window.
    pub fn copy_run(
        &self,
        from: usize,
        to: usize,
        count: usize,
        element_bytes: usize,
        downwards: bool,
    ) {
        let mut state = self.state.lock();
        let planes = self.planes(state.layout);
        WindowAccess { state: &mut state, planes }.copy(from, to, count, element_bytes, downwards);
    }

    fn snapshot(&self) -> State {
        self.state.lock().clone()
    }

    fn planes(&self, layout: Layout) -> Planes<'_> {
        Planes { vram: &*self.memory.vram, odd_even: &*self.memory.odd_even, layout }
    }

    /// Brings the window and the layout in line with the registers.
    fn update_window(&self, state: &mut State) {
        let window = state.wanted_window(self.memory.vram.length_bytes());
        let layout = state.wanted_layout(window);
        if layout != state.layout {
            self.planes(state.layout).move_to(layout);
            state.layout = layout;
        }
        if window == state.window {
            return;
        }
        // While video memory was mapped, the guest may have drawn over the fonts.
        state.font_generation = state.font_generation.wrapping_add(1);
        state.window = window;
        self.mapping_generation.fetch_add(1, Ordering::Release);
    }

    fn write_port(&self, state: &mut State, port: u16, value: u8) {
        let effect = state.write_port(port, value);
        if matches!(effect, Effect::Memory | Effect::MemoryAndTiming) {
            self.update_window(state);
        }
        if matches!(effect, Effect::Timing | Effect::MemoryAndTiming) {
            state.crtc.update_timing(state.misc, state.sequencer.clocking);
        }
    }

    /// Reads consecutive VGA ports; a port that is not decoded reads all ones.
    fn read_ports(&self, port: u16, count: u8) -> u32 {
        let mut state = self.state.lock();
        let mut value = [0xff; 4];
        for (byte, port) in value.iter_mut().zip(port..).take(usize::from(count)) {
            *byte = state.read_port(port, || self.clock.now().as_ns()).unwrap_or(0xff);
        }
        u32::from_le_bytes(value)
    }

    fn write_ports(&self, port: u16, count: u8, value: u32) {
        let mut state = self.state.lock();
        for (byte, port) in value.to_le_bytes().into_iter().zip(port..).take(usize::from(count)) {
            self.write_port(&mut state, port, byte);
        }
    }

    fn read_dispi(&self, index: u16) -> u16 {
        self.state.lock().dispi.read(index, self.memory.vram.length_bytes())
    }

    fn write_dispi(&self, state: &mut State, index: u16, value: u16) {
        let change = state.dispi.write(index, value, self.memory.vram.length_bytes());
        if change == DispiChange::None {
            return;
        }
        state.dac.wide = state.dispi.wide_dac();
        self.update_window(state);
        if let DispiChange::ModeAndClear { length_bytes } = change {
            clear(&*self.memory.vram, length_bytes);
        }
    }

    fn read_register_page(&self, access: Access) -> Option<u64> {
        let Access { offset, size_bytes, .. } = access;
        match offset {
            0..page::EDID_END => {
                let bytes = self.edid[offset as usize..].iter().take(size_bytes.into());
                Some(bytes.rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
            }
            page::VGA..page::VGA_END => Some(
                self.read_ports(ports::VGA_BASE + (offset - page::VGA) as u16, size_bytes.min(4))
                    .into(),
            ),
            page::DISPI..page::DISPI_END => {
                let value = self.read_dispi(((offset - page::DISPI) / 2) as u16);
                Some(u64::from(value) >> (8 * (offset & 1)))
            }
            page::EXTENSION => Some(EXTENSION_BYTES),
            page::BYTE_ORDER => Some(LITTLE_ENDIAN),
            _ => None,
        }
    }

    fn write_register_page(&self, access: Access, value: u64) {
        let Access { offset, size_bytes, .. } = access;
        match offset {
            page::VGA..page::VGA_END => {
                let port = ports::VGA_BASE + (offset - page::VGA) as u16;
                self.write_ports(port, size_bytes.min(4), value as u32);
            }
            page::DISPI..page::DISPI_END if offset.is_multiple_of(2) => {
                let index = ((offset - page::DISPI) / 2) as u16;
                self.write_dispi(&mut self.state.lock(), index, value as u16);
            }
            _ => {}
        }
    }
}

/// Zeroes the start of `memory`.
fn clear(memory: &dyn DeviceMemory, length_bytes: usize) {
    const ZEROES: [u8; 4096] = [0; 4096];
    for start in (0..length_bytes).step_by(ZEROES.len()) {
        memory.write(start, &ZEROES[..ZEROES.len().min(length_bytes - start)]);
    }
}

impl PioDevice for Vga {
    fn ports(&self) -> Vec<Region> {
        vec![
            Region::new(ports::MONO, ports::MONO_BASE.into(), 12),
            Region::new(ports::VGA, ports::VGA_BASE.into(), 32),
            Region::new(ports::DISPI, ports::DISPI_BASE.into(), 3),
        ]
    }

    fn pio_read(&self, access: Access) -> Option<u32> {
        let offset = u16::try_from(access.offset).ok().filter(|&offset| offset < 32)?;
        match (access.region, offset) {
            (ports::MONO, _) => Some(self.read_ports(ports::MONO_BASE + offset, access.size_bytes)),
            (ports::VGA, _) => Some(self.read_ports(ports::VGA_BASE + offset, access.size_bytes)),
            (ports::DISPI, 0) => Some(self.state.lock().dispi.index.into()),
            (ports::DISPI, 1 | 2) => {
                let index = self.state.lock().dispi.index;
                Some(self.read_dispi(index).into())
            }
            _ => None,
        }
    }

    fn pio_write(&self, access: Access, value: u32) {
        let Some(offset) = u16::try_from(access.offset).ok().filter(|&offset| offset < 32) else {
            return;
        };
        match (access.region, offset) {
            (ports::MONO, _) => {
                self.write_ports(ports::MONO_BASE + offset, access.size_bytes, value)
            }
            (ports::VGA, _) => self.write_ports(ports::VGA_BASE + offset, access.size_bytes, value),
            (ports::DISPI, 0) => self.state.lock().dispi.index = value as u16,
            (ports::DISPI, 1 | 2) => {
                let mut state = self.state.lock();
                let index = state.dispi.index;
                self.write_dispi(&mut state, index, value as u16);
            }
            _ => {}
        }
    }
}

impl MmioDevice for Vga {
    fn ranges(&self) -> Vec<Region> {
        [Region::new(REGION_LEGACY, LEGACY_BASE, LEGACY_BYTES)].into()
    }

    fn mmio_read(&self, access: Access) -> Option<u64> {
        let mut data = [0; 8];
        let size = usize::from(access.size_bytes).min(8);
        match access.region {
            REGION_LEGACY => self.read_run(usize::try_from(access.offset).ok()?, &mut data[..size]),
            REGION_FRAMEBUFFER => {
                self.memory.vram.read(usize::try_from(access.offset).ok()?, &mut data[..size])
            }
            REGION_ROM => {
                self.memory.rom.read(usize::try_from(access.offset).ok()?, &mut data[..size])
            }
            REGION_REGISTERS => return self.read_register_page(access),
            _ => return None,
        }
        Some(u64::from_le_bytes(data))
    }

    fn mmio_write(&self, access: Access, value: u64) {
        let Ok(offset) = usize::try_from(access.offset) else { return };
        let data = &value.to_le_bytes()[..usize::from(access.size_bytes).min(8)];
        match access.region {
            REGION_LEGACY => self.write_run(offset, data),
            REGION_FRAMEBUFFER => self.memory.vram.write(offset, data),
            REGION_REGISTERS => self.write_register_page(access, value),
            _ => {}
        }
    }

    fn mmio_read_run(&self, access: Access, data: &mut [u8]) {
        match (access.region, usize::try_from(access.offset)) {
            (REGION_LEGACY, Ok(offset)) => self.read_run(offset, data),
            (REGION_FRAMEBUFFER, Ok(offset)) => self.memory.vram.read(offset, data),
            _ => data.fill(0xff),
        }
    }

    fn mmio_write_run(&self, access: Access, data: &[u8]) {
        match (access.region, usize::try_from(access.offset)) {
            (REGION_LEGACY, Ok(offset)) => self.write_run(offset, data),
            (REGION_FRAMEBUFFER, Ok(offset)) => self.memory.vram.write(offset, data),
            _ => {}
        }
    }
}
