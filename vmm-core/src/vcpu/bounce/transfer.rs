//! From the devices into bounce pages before a step, and back after it.

use super::plan::{Part, Plan, Source};
use super::{Bouncer, Vcpu};
use crate::backend::Backend;
use crate::vm::memory::{PAGE_BYTES, Side};
use devices::memory::GuestMemory;
use emulator::instruction::{EmulatedCpu, Writes};

/// Bytes that are written but not read hold these before the first and the second run of an
/// instruction that may leave some of them alone: where both runs leave the same, it has written.
const FILLS: [u8; 2] = [0x00, 0xff];
/// Pages are copied and compared in pieces of this size.
const CHUNK: usize = 16;

impl<B: Backend> Vcpu<B> {
    /// Gives a page all that the device has there.
    pub(super) fn fill_whole(&mut self, bouncer: &Bouncer, number: usize, gpa: u64) {
        let mut chunk = [0; CHUNK];
        for offset in (0..PAGE_BYTES as usize).step_by(CHUNK) {
            self.read_device(gpa + offset as u64, &mut chunk);
            bouncer.pages.write(Side::Shown, number, offset, &chunk);
            bouncer.pages.write(Side::Note, number, offset, &chunk);
        }
    }

    /// Reads a piece of a page of which it is not known what of it will be used.
    fn read_device(&mut self, gpa: u64, data: &mut [u8; CHUNK]) {
        if self.is_apic(gpa).is_some() {
            // A read of what is no register is an error there.
            let register = self.apic.page().get((gpa >> 4) as u8);
            *data = [0; CHUNK];
            data[..4].copy_from_slice(&register.to_le_bytes());
        } else if self.vm.space.read(gpa, data).is_err() {
            for (piece, gpa) in data.chunks_exact_mut(4).zip((gpa..).step_by(4)) {
                piece.copy_from_slice(&self.vm.mmio.read(gpa, 4).to_le_bytes()[..4]);
            }
        }
    }

    /// Gives a page what the instruction reads there, and no more.
    pub(super) fn fill_parts(&mut self, bouncer: &Bouncer, plan: &Plan, number: usize, gpa: u64) {
        for part in plan.parts_of(gpa) {
            if part.writes == Writes::Some {
                bouncer.fill(number, part, FILLS[0]);
            }
            match part.source {
                Source::Nothing => {}
                Source::Device => self.for_pieces(*part, |vcpu, gpa, size_bytes| {
                    let value = vcpu.read_gpa(gpa, size_bytes).to_le_bytes();
                    let offset = (gpa % PAGE_BYTES) as usize;
                    bouncer.pages.write(Side::Shown, number, offset, &value[..size_bytes.into()]);
                }),
                Source::Code(value) | Source::Entry(value) => {
                    let value = &value.to_le_bytes()[..part.size_bytes.into()];
                    bouncer.pages.write(Side::Shown, number, part.offsets().start, value);
                }
            }
        }
    }

    /// Goes through a part in pieces as large as a device can be asked for.
    fn for_pieces(&mut self, part: Part, mut each: impl FnMut(&mut Self, u64, u8)) {
        let largest = if self.is_apic(part.gpa).is_some() { 4 } else { 8 };
        let (mut gpa, mut left) = (part.gpa, part.size_bytes);
        while left > 0 {
            let piece = if left >= largest { largest } else { 1 << left.ilog2() };
            each(self, gpa, piece as u8);
            (gpa, left) = (gpa + u64::from(piece), left - piece);
        }
    }

    /// The first run of two is over: notes what it left, and prepares the second.
    pub(super) fn keep_first_run(&self, bouncer: &Bouncer, plan: &Plan) {
        for part in plan.parts.iter().filter(|part| part.writes == Writes::Some) {
            let Some(number) =
                bouncer.number_at(part.gpa).filter(|&number| !bouncer.uses[number].is_whole)
            else {
                continue;
            };
            for offset in part.offsets() {
                let mut byte = [0];
                bouncer.pages.read(Side::Shown, number, offset, &mut byte);
                bouncer.pages.write(Side::Note, number, offset, &byte);
            }
            bouncer.fill(number, part, FILLS[1]);
        }
    }

    /// Gives the devices what the instruction wrote.
    pub(super) fn write_back(&mut self, bouncer: &Bouncer, plan: &Plan) {
        for part in &plan.parts {
            let Some(number) = bouncer.number_at(part.gpa) else { continue };
            match part.writes {
                Writes::Nothing => self.write_entry(bouncer, number, *part),
                Writes::All => self.write_part(bouncer, number, *part),
                // Where the device's own bytes were, those that changed are written below.
                Writes::Some if bouncer.uses[number].is_whole => {}
                Writes::Some => self.write_where_equal(bouncer, number, *part),
            }
        }
        for (number, used) in bouncer.uses.iter().enumerate().filter(|(_, used)| used.is_whole) {
            self.write_changed(bouncer, number, used.gpa);
        }
    }

    /// Writes an entry of the guest's page tables, if the processor has marked it.
    fn write_entry(&mut self, bouncer: &Bouncer, number: usize, part: Part) {
        let Source::Entry(before) = part.source else { return };
        let mut after = [0; 8];
        bouncer.pages.read(
            Side::Shown,
            number,
            part.offsets().start,
            &mut after[..part.size_bytes.into()],
        );
        if after != before.to_le_bytes() {
            self.write_part(bouncer, number, part);
        }
    }

    fn write_part(&mut self, bouncer: &Bouncer, number: usize, part: Part) {
        self.for_pieces(part, |vcpu, gpa, size_bytes| {
            let mut value = [0; 8];
            let offset = (gpa % PAGE_BYTES) as usize;
            let bytes = &mut value[..size_bytes.into()];
            bouncer.pages.read(Side::Shown, number, offset, bytes);
            bouncer.pages.write(Side::Note, number, offset, bytes);
            vcpu.write_gpa(gpa, size_bytes, u64::from_le_bytes(value));
        });
    }

    /// Writes those bytes of a part that both runs left the same.
    fn write_where_equal(&mut self, bouncer: &Bouncer, number: usize, part: Part) {
        let is_written = |offset| {
            let (mut first, mut second) = ([0], [0]);
            bouncer.pages.read(Side::Note, number, offset, &mut first);
            bouncer.pages.read(Side::Shown, number, offset, &mut second);
            first == second
        };
        let mut offsets = part.offsets();
        while let Some(start) = offsets.find(|&offset| is_written(offset)) {
            let end = offsets.find(|&offset| !is_written(offset)).unwrap_or(offsets.end);
            let gpa = part.gpa & !(PAGE_BYTES - 1) | start as u64;
            self.write_part(
                bouncer,
                number,
                Part { gpa, size_bytes: (end - start) as u16, ..part },
            );
        }
    }

    /// Writes what changed of a page that had all of the device's.
    fn write_changed(&mut self, bouncer: &Bouncer, number: usize, gpa: u64) {
        let (mut before, mut after) = ([0; CHUNK], [0; CHUNK]);
        for offset in (0..PAGE_BYTES as usize).step_by(CHUNK) {
            bouncer.pages.read(Side::Note, number, offset, &mut before);
            bouncer.pages.read(Side::Shown, number, offset, &mut after);
            if before == after {
                continue;
            }
            let words = before
                .chunks_exact(4)
                .zip(after.chunks_exact(4))
                .zip((gpa + offset as u64..).step_by(4));
            for ((before, after), gpa) in words {
                if let (true, &[a, b, c, d]) = (before != after, after) {
                    self.write_gpa(gpa, 4, u32::from_le_bytes([a, b, c, d]).into());
                }
            }
        }
    }
}
