//! The instruction at RIP: its bytes, and their decoding by `iced-x86`.

use super::address::PAGE_BYTES;
use super::{EmulatedCpu, InstructionBytes, MemoryUnit, Step, Stop};
use crate::paging::AccessKind;
use crate::registers::{Fault, SegmentName};
use devices::memory::GuestMemory;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};

/// The longest instruction.
const LONGEST: usize = 15;
/// One more than that: memory is read in words.
const FETCH_BYTES: usize = 16;
/// Where there is no memory for the CPU, there is no code either.
const NOT_IN_MEMORY: Stop = Stop::Unsupported;

/// The bytes at RIP, as far as they have been fetched.
pub(super) struct Code {
    bytes: [u8; FETCH_BYTES],
    length: usize,
}

impl Code {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; FETCH_BYTES], length: 0 }
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { code: self, position: 0 }
    }

    pub(super) fn to_instruction_bytes(&self) -> InstructionBytes {
        self.as_slice().iter().copied().collect()
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Fetches up to the end of the page, or takes what the hardware saved.
    #[inline]
    pub(super) fn fetch<C: EmulatedCpu>(&mut self, unit: &MemoryUnit<'_, C>) -> Step<()> {
        if let Some(saved) = unit.cpu.instruction_bytes() {
            self.length = saved.len().min(LONGEST);
            for (byte, saved) in self.bytes.iter_mut().zip(saved) {
                *byte = *saved;
            }
            return Ok(());
        }
        let linear = Self::linear(unit, unit.cpu.rip());
        if linear % PAGE_BYTES > PAGE_BYTES - FETCH_BYTES as u64 {
            return self.append(unit);
        }
        let gpa = unit.translate(linear, AccessKind::Execute)?;
        unit.cpu.memory().read(gpa, &mut self.bytes).map_err(|_| NOT_IN_MEMORY)?;
        self.length = LONGEST;
        Ok(())
    }

    fn linear<C: EmulatedCpu>(unit: &MemoryUnit<'_, C>, rip: u64) -> u64 {
        if unit.mode.is_64() {
            return rip;
        }
        unit.cpu.segment_base(SegmentName::Cs).wrapping_add(rip) & 0xffff_ffff
    }

    /// Appends what there is from the end of the fetched bytes to the end of that page.
    #[cold]
    fn append<C: EmulatedCpu>(&mut self, unit: &MemoryUnit<'_, C>) -> Step<()> {
        let linear = Self::linear(unit, unit.cpu.rip().wrapping_add(self.length as u64));
        let gpa = unit.translate(linear, AccessKind::Execute)?;
        let room = (PAGE_BYTES - linear % PAGE_BYTES) as usize;
        let end = self.bytes.len().min(self.length + room);
        let bytes = self.bytes.get_mut(self.length..end).unwrap_or_default();
        unit.cpu.memory().read(gpa, bytes).map_err(|_| NOT_IN_MEMORY)?;
        self.length = end.min(LONGEST);
        Ok(())
    }

    /// Decodes the instruction, and fetches the rest of it if there is one.
    pub(super) fn decode<C: EmulatedCpu>(&mut self, unit: &MemoryUnit<'_, C>) -> Step<Instruction> {
        let mut instruction = Instruction::default();
        // With what there is, to the end of its page, and with the next page.
        for _ in 0..3 {
            let mut decoder = Decoder::with_ip(
                unit.mode.bitness,
                self.as_slice(),
                unit.cpu.rip(),
                DecoderOptions::NONE,
            );
            decoder.decode_out(&mut instruction);
            match decoder.last_error() {
                DecoderError::None => return Ok(instruction),
                DecoderError::NoMoreBytes if self.length < LONGEST => self.append(unit)?,
                DecoderError::NoMoreBytes => break,
                _ => return Err(Stop::Unsupported),
            }
        }
        // Too long.
        Err(Fault::PROTECTION.into())
    }
}

/// Reads the fetched bytes one after the other. Whether they were fetched is asked once, at the
/// end.
pub(super) struct Reader<'a> {
    code: &'a Code,
    position: usize,
}

impl Reader<'_> {
    /// The next byte.
    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = *self.code.bytes.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    /// The next bytes.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.code.bytes.get(self.position..)?.first_chunk()?;
        self.position += N;
        Some(bytes)
    }

    /// Bytes read; `None` if not all of them were fetched.
    #[inline]
    pub(super) fn length_bytes(&self) -> Option<usize> {
        (self.position <= self.code.length).then_some(self.position)
    }
}
