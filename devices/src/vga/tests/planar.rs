//! Write modes and read modes against a model that follows the manual plane by plane and bit by
//! bit.

use proptest::prelude::*;

use super::modes::*;
use super::*;

/// The graphics controller as the manual tells it.
#[derive(Clone, Debug)]
struct Model {
    planes: [[u8; 16]; 4],
    latches: [u8; 4],
    registers: [u8; 9],
    map_mask: u8,
}

impl Model {
    fn read(&mut self, address: usize) -> u8 {
        self.latches = self.planes.map(|plane| plane[address]);
        if self.registers[5] & 8 == 0 {
            return self.latches[usize::from(self.registers[4] & 3)];
        }
        let mut result = 0;
        for bit in 0..8 {
            let matches = (0..4).all(|plane| {
                let dot = self.latches[plane] >> bit & 1;
                self.registers[7] >> plane & 1 == 0 || dot == self.registers[2] >> plane & 1
            });
            result |= u8::from(matches) << bit;
        }
        result
    }

    fn write(&mut self, address: usize, byte: u8) {
        let [set_reset, enable, _, rotate, _, mode, _, _, bit_mask] = self.registers;
        let rotated = byte.rotate_right(u32::from(rotate & 7));
        for plane in 0..4 {
            let latch = self.latches[plane];
            let fill = |source: u8| if source >> plane & 1 != 0 { 0xff } else { 0 };
            let (data, mask) = match mode & 3 {
                0 if enable >> plane & 1 != 0 => (fill(set_reset), bit_mask),
                0 => (rotated, bit_mask),
                1 => (latch, 0),
                2 => (fill(byte), bit_mask),
                _ => (fill(set_reset), bit_mask & rotated),
            };
            let mut result = 0;
            for bit in 0..8 {
                let (new, old) = (data >> bit & 1, latch >> bit & 1);
                let combined = match rotate >> 3 & 3 {
                    0 => new,
                    1 => new & old,
                    2 => new | old,
                    _ => new ^ old,
                };
                result |= (if mask >> bit & 1 != 0 { combined } else { old }) << bit;
            }
            if self.map_mask >> plane & 1 != 0 {
                self.planes[plane][address] = result;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Graphics(u8, u8),
    MapMask(u8),
    Write(usize, u8),
    WriteRun(usize, Vec<u8>),
    Read(usize),
    ReadRun(usize, usize),
    Copy(usize, usize, usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let register = prop_oneof![0u8..5, 7u8..9];
    prop_oneof![
        3 => (register, any::<u8>()).prop_map(|(index, value)| Step::Graphics(index, value)),
        2 => (0u8..16).prop_map(|mode| Step::Graphics(5, mode & 0x0b)),
        1 => (0u8..16).prop_map(Step::MapMask),
        4 => (0usize..16, any::<u8>()).prop_map(|(at, byte)| Step::Write(at, byte)),
        2 => (0usize..8, prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, run)| Step::WriteRun(at, run)),
        4 => (0usize..16).prop_map(Step::Read),
        1 => (0usize..8, 1usize..9).prop_map(|(at, count)| Step::ReadRun(at, count)),
        1 => (4usize..12, 4usize..12, 1usize..5, any::<bool>()).prop_map(|(f, t, n, d)| Step::Copy(f, t, n, d)),
    ]
}

proptest! {
    #[test]
    fn planar_accesses_follow_the_manual(steps in prop::collection::vec(step(), 1..80)) {
        let card = Card::with_vram(1 << 20);
        card.set_mode(&MODE_12);
        let mut model =
            Model { planes: [[0; 16]; 4], latches: [0; 4], registers: MODE_12.graphics, map_mask: 0x0f };
        for step in steps {
            match step {
                Step::Graphics(index, value) => {
                    card.set(0x3ce, index, value);
                    model.registers[usize::from(index)] = value;
                }
                Step::MapMask(mask) => {
                    card.set(0x3c4, 2, mask);
                    model.map_mask = mask;
                }
                Step::Write(at, byte) => {
                    card.poke(at as u64, byte);
                    model.write(at, byte);
                }
                Step::WriteRun(at, run) => {
                    card.vga.write_run(at, &run);
                    run.iter().zip(at..).for_each(|(&byte, at)| model.write(at, byte));
                }
                Step::Read(at) => prop_assert_eq!(card.peek(at as u64), model.read(at)),
                Step::ReadRun(at, count) => {
                    let mut run = vec![0; count];
                    card.vga.read_run(at, &mut run);
                    for (byte, at) in run.into_iter().zip(at..) {
                        prop_assert_eq!(byte, model.read(at));
                    }
                }
                Step::Copy(from, to, count, down) => {
                    card.vga.copy_run(from, to, count, 1, down);
                    for index in 0..count {
                        let place = |start: usize| if down { start - index } else { start + index };
                        let byte = model.read(place(from));
                        model.write(place(to), byte);
                    }
                }
            }
        }
        let mut memory = [0; 64];
        DeviceMemory::read(&*card.vram, 0, &mut memory);
        for (index, &byte) in memory.iter().enumerate() {
            prop_assert_eq!(byte, model.planes[index % 4][index / 4], "plane {} address {}", index % 4, index / 4);
        }
    }
}

#[test]
fn write_mode_1_copies_all_planes() {
    let card = Card::new();
    card.set_mode(&MODE_12);
    card.set(0x3ce, 5, 2);
    card.poke(0, 0x0b);
    card.set(0x3ce, 5, 1);
    card.vga.copy_run(0, 100, 1, 1, false);
    assert_eq!(DeviceMemory::read_u32(&*card.vram, 400), 0xff00_ffff);
}

#[test]
fn a_run_wraps_at_the_end_of_a_plane() {
    let card = Card::new();
    card.set_mode(&MODE_12);
    card.set(0x3ce, 6, 0x01);
    card.vga.write_run(0xffff, &[0x11, 0x22]);
    assert_eq!(DeviceMemory::read_u32(&*card.vram, 4 * 0xffff), 0x1111_1111);
    assert_eq!(DeviceMemory::read_u32(&*card.vram, 0), 0x2222_2222);
}

#[test]
fn accesses_outside_the_aperture_are_not_answered() {
    let card = Card::new();
    card.set_mode(&MODE_3);
    card.vga.write_run(0x1_7ffe, &[1, 2, 3, 4]);
    let mut read = [0; 4];
    card.vga.read_run(0x1_7ffe, &mut read);
    assert_eq!(read, [0xff, 0xff, 3, 4]);
    card.outb(0x3c2, 0x65);
    assert_eq!(card.peek(0x1_8000), 0xff);
}

#[test]
fn odd_even_writes_go_through_the_pipeline_while_it_is_not_plain() {
    let card = Card::new();
    card.set_mode(&MODE_3);
    card.type_text(0, "ab", 0x07);
    // Xor with the latches: a program that inverts attributes.
    card.set(0x3ce, 3, 0x18);
    assert_eq!(card.vga.window(), Window::Trapped);
    assert_eq!(card.peek(0x1_8001), 0x07);
    card.poke(0x1_8001, 0x70);
    card.set(0x3ce, 3, 0x00);
    assert_eq!(card.peek(0x1_8001), 0x77);
    assert_eq!(card.peek(0x1_8000), b'a');
}

#[test]
fn chain_4_reaches_one_plane_an_address() {
    let card = Card::new();
    card.set_mode(&MODE_13);
    card.set(0x3c4, 2, 0x0d);
    assert_eq!(card.vga.window(), Window::Trapped);
    card.vga.write_run(8, &[1, 2, 3, 4]);
    assert_eq!(DeviceMemory::read_u32(&*card.vram, 8), 0x0403_0001);
    assert_eq!(card.peek(10), 3);
}
