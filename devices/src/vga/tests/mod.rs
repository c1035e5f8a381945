//! The card as a video BIOS and an operating system use it.

mod edid;
mod modes;
mod planar;
mod registers;
mod screen;
mod written;

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::*;
use crate::memory::TestMemory;
use crate::time::TestClock;

/// The default of QEMU's standard VGA.
const VRAM_BYTES: usize = 16 << 20;
const VIDEO_BIOS: &[u8] = &[0x55, 0xaa, 0x4c];

/// A card and its surroundings.
struct Card {
    vga: Vga,
    clock: Arc<TestClock>,
    vram: Arc<TestMemory>,
    odd_even: Arc<TestMemory>,
}

impl Card {
    fn new() -> Self {
        Self::with_vram(VRAM_BYTES)
    }

    fn with_vram(vram_bytes: usize) -> Self {
        let vram = TestMemory::new(vram_bytes);
        Self::over(vram.clone(), vram)
    }

    /// A card that reaches `vram` through `shown`.
    fn over(vram: Arc<TestMemory>, shown: Arc<dyn DeviceMemory>) -> Self {
        let (clock, odd_even) = (TestClock::new(), TestMemory::new(ODD_EVEN_BYTES));
        let memory =
            VgaMemory { vram: shown, odd_even: odd_even.clone(), rom: TestMemory::new(ROM_BYTES) };
        let vga = Vga::new(clock.clone(), memory, VIDEO_BIOS);
        Self { vga, clock, vram, odd_even }
    }

    fn access(port: u16, size_bytes: u8) -> Access {
        let (region, base) = match port {
            0x1ce..=0x1d0 => (ports::DISPI, ports::DISPI_BASE),
            0x3b0..=0x3bb => (ports::MONO, ports::MONO_BASE),
            _ => (ports::VGA, ports::VGA_BASE),
        };
        Access { region, offset: u64::from(port - base), size_bytes }
    }

    fn inb(&self, port: u16) -> u8 {
        self.vga.pio_read(Self::access(port, 1)).unwrap() as u8
    }

    fn outb(&self, port: u16, value: u8) {
        self.vga.pio_write(Self::access(port, 1), value.into());
    }

    fn outw(&self, port: u16, value: u16) {
        self.vga.pio_write(Self::access(port, 2), value.into());
    }

    /// Writes an indexed register as BIOSes do: index and value in one word.
    fn set(&self, port: u16, index: u8, value: u8) {
        self.outw(port, u16::from_le_bytes([index, value]));
    }

    fn get(&self, port: u16, index: u8) -> u8 {
        self.outb(port, index);
        self.inb(port + 1)
    }

    fn set_attribute(&self, index: u8, value: u8) {
        self.inb(0x3da);
        self.outb(0x3c0, index);
        self.outb(0x3c0, value);
    }

    fn dispi(&self, index: u16, value: u16) {
        self.outw(0x1ce, index);
        self.outw(0x1cf, value);
    }

    fn read_dispi(&self, index: u16) -> u16 {
        self.outw(0x1ce, index);
        self.vga.pio_read(Self::access(0x1cf, 2)).unwrap() as u16
    }

    fn set_colour(&self, index: u8, rgb: [u8; 3]) {
        self.outb(0x3c8, index);
        rgb.into_iter().for_each(|part| self.outb(0x3c9, part));
    }

    /// An access to the legacy window.
    const fn window(offset: u64, size_bytes: u8) -> Access {
        Access { region: REGION_LEGACY, offset, size_bytes }
    }

    fn peek(&self, offset: u64) -> u8 {
        self.vga.mmio_read(Self::window(offset, 1)).unwrap() as u8
    }

    fn poke(&self, offset: u64, value: u8) {
        self.vga.mmio_write(Self::window(offset, 1), value.into());
    }

    /// Writes text at `cell` of the mapped text memory, as a guest does after mode 3 was set.
    fn type_text(&self, cell: usize, text: &str, attribute: u8) {
        for (index, byte) in text.bytes().enumerate() {
            DeviceMemory::write(&*self.odd_even, (cell + index) * 2, &[byte, attribute]);
        }
    }

    fn paint_all(&self) -> Picture {
        let mut picture = Picture::default();
        Painter::new().paint(&self.vga, &mut picture);
        picture
    }
}

/// A surface that keeps what is painted.
#[derive(Default)]
struct Picture {
    width: usize,
    dots: Vec<u32>,
    resizes: u32,
    painted: Vec<u32>,
}

impl Picture {
    fn dot(&self, x: usize, y: usize) -> u32 {
        assert!(x < self.width);
        self.dots[y * self.width + x]
    }

    /// The dots of row `y` from `x` on as `#` where `colour` shows.
    fn pattern(&self, x: usize, y: usize, length: usize, colour: u32) -> alloc::string::String {
        (x..x + length).map(|x| if self.dot(x, y) == colour { '#' } else { '.' }).collect()
    }

    fn height(&self) -> usize {
        self.dots.len() / self.width
    }
}

impl Surface for Picture {
    fn resize(&mut self, frame: FrameInfo) {
        self.width = frame.width as usize;
        self.dots = vec![0x55aa55; self.width * frame.height as usize];
        self.resizes += 1;
    }

    fn row(&mut self, y: u32, dots: &[u32]) {
        assert_eq!(dots.len(), self.width);
        let start = y as usize * self.width;
        self.dots[start..start + self.width].copy_from_slice(dots);
        self.painted.push(y);
    }
}
