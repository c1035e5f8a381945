//! Pictures of whatever a guest shows.

use crate::png::PngStream;
use crate::test_guest::TestGuest;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use devices::bus::{Access, PioDevice};
use devices::memory::DeviceMemory;
use devices::vga::{FrameInfo, Painter, Surface, Vga};
use emulator::fuzzing::Input;
use std::io::Cursor;

/// A screen of 640x200 dots of 32 bits, or more of fewer.
const VIDEO_MEMORY_BYTES: usize = 512 << 10;
/// Video memory is filled by pieces.
const MAX_PIECES: u8 = 12;
/// Registers that are written beside a mode.
const MAX_REGISTERS: u8 = 24;
/// Dots of a picture in most runs, so that there are many of them.
const USUAL_DOTS: u32 = 1 << 14;

/// A screen of any mode, size and contents becomes a file that an independent decoder reads, of the
/// size that the screen had when it was begun. Each dot is that of the screen, unless the guest
/// changes the mode meanwhile. No piece is larger than what is reserved for it.
pub fn png(data: &[u8]) {
    let mut input = Input::new(data);
    let guest = TestGuest::called(1, "linux", VIDEO_MEMORY_BYTES);
    let vga = &guest.ports.vga;
    let _ = set_mode(vga, &mut input);
    let _ = fill(&guest, &mut input);
    let frame = vga.frame();
    let is_large = frame.width * frame.height > USUAL_DOTS;
    if is_large && input.u8().unwrap_or(1) & 0xf != 0 {
        return;
    }
    let shown = Dots::of(vga, frame);
    let mut stream = PngStream::new(vga);
    assert_eq!(stream.size(), (frame.width, frame.height));
    let (mut file, mut piece, mut is_changed) = (Vec::new(), Vec::new(), false);
    while stream.next(&mut piece) {
        assert!(
            piece.len() as u64 <= PngStream::heap_bytes(&frame),
            "a piece of {} bytes",
            piece.len()
        );
        file.append(&mut piece);
        if input.u8().unwrap_or(0) & 7 == 7 {
            is_changed = true;
            let _ = set_mode(vga, &mut input);
        }
    }
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info().expect("a PNG file");
    let mut decoded = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut decoded).expect("a picture");
    reader.finish().expect("an end");
    assert_eq!((info.width, info.height), (frame.width, frame.height));
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    assert!(is_changed || decoded == shown.0, "the picture is not what the screen shows");
}

/// Red, green and blue of each dot.
struct Dots(Vec<u8>, usize);

impl Dots {
    fn of(vga: &Vga, frame: FrameInfo) -> Self {
        let row_bytes = frame.width as usize * 3;
        let mut dots = Self(vec![0; row_bytes * frame.height as usize], row_bytes);
        Painter::new().paint(vga, &mut dots);
        dots
    }
}

impl Surface for Dots {
    fn resize(&mut self, frame: FrameInfo) {
        assert_eq!(frame.width as usize * 3, self.1);
    }

    fn row(&mut self, y: u32, dots: &[u32]) {
        let row = &mut self.0[y as usize * self.1..][..self.1];
        for (bytes, dot) in row.chunks_exact_mut(3).zip(dots) {
            bytes.copy_from_slice(&[(dot >> 16) as u8, (dot >> 8) as u8, *dot as u8]);
        }
    }
}

fn out(vga: &Vga, port: u16, size_bytes: u8, value: u32) {
    let port = u64::from(port);
    let holds = |base: u64, length: u64| (base..base + length).contains(&port);
    let region = vga.ports().into_iter().find(|region| holds(region.base, region.length));
    let region = region.expect("a port of the VGA's");
    vga.pio_write(Access { region: region.number, offset: port - region.base, size_bytes }, value);
}

/// A mode of the DISPI registers or the VGA's own, or registers without sense.
fn set_mode(vga: &Vga, input: &mut Input<'_>) -> Option<()> {
    let dispi = |index: u32, value: u32| {
        out(vga, 0x1ce, 2, index);
        out(vga, 0x1cf, 2, value);
    };
    let choice = input.u8()?;
    if choice & 3 != 0 {
        let (width, height) = match choice & 0xc {
            0 => (u32::from(input.u16()?), u32::from(input.u16()?)),
            _ => (u32::from(input.u8()?) + 1, u32::from(input.u8()?) + 1),
        };
        dispi(4, 0);
        dispi(1, width);
        dispi(2, height);
        dispi(3, input.pick(&[4, 8, 15, 16, 24, 32])?);
        // On, the memory as it is, perhaps a DAC of 8 bits.
        dispi(4, 0x81 | u32::from(choice & 0x20));
        if choice & 0x40 != 0 {
            dispi(6, width.wrapping_add(input.u8()?.into()));
            dispi(8, input.u8()?.into());
            dispi(9, input.u8()?.into());
        }
    }
    for _ in 0..input.u8()? % MAX_REGISTERS {
        let (choice, index, value) = (input.u8()?, u32::from(input.u8()?), u32::from(input.u8()?));
        match choice % 6 {
            0 => out(vga, 0x3c4, 2, (value << 8) | (index % 5)),
            1 => out(vga, 0x3ce, 2, (value << 8) | (index % 9)),
            2 => out(vga, 0x3d4, 2, (value << 8) | (index % 0x19)),
            3 => out(vga, 0x3c2, 1, value),
            4 => {
                out(vga, 0x3c8, 1, index);
                (0..3).for_each(|shift| out(vga, 0x3c9, 1, value >> shift));
            }
            _ => {
                out(vga, 0x3c0, 1, index & 0x3f);
                out(vga, 0x3c0, 1, value);
            }
        }
    }
    Some(())
}

/// Patterns of all lengths, text among them.
fn fill(guest: &TestGuest, input: &mut Input<'_>) -> Option<()> {
    for _ in 0..input.u8()? % MAX_PIECES {
        let (choice, at, count) =
            (input.u8()?, usize::from(input.u16()?), usize::from(input.u16()?));
        let pattern = input.rest(1 + usize::from(choice >> 4));
        let bytes: Vec<u8> = match choice & 3 {
            // Noise does not compress.
            0 => (0..count as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
            _ => pattern
                .iter()
                .copied()
                .cycle()
                .take(count * usize::from(!pattern.is_empty()))
                .collect(),
        };
        let memory: &Arc<_> = if choice & 4 == 0 { &guest.vram } else { &guest.odd_even };
        DeviceMemory::write(&**memory, at * 4, &bytes);
    }
    Some(())
}
