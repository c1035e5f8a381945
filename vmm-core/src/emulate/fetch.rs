//! Fetches and decodes the instruction at RIP.

use super::{EmulatedCpu, InstructionBytes, Mode, Step, Stop};
use crate::paging::{Access, AccessKind};
use crate::registers::Fault;
use devices::memory::GuestMemory;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};

const PAGE_BYTES: u64 = 4096;

pub(super) struct Fetched {
    pub(super) instruction: Instruction,
    /// What was decoded, for the dump of an unsupported instruction; may be longer than the instruction.
    pub(super) bytes: InstructionBytes,
}

/// Fetches as much of the instruction as is needed to decode it; `saved` is what the hardware fetched, or empty.
pub(super) fn fetch<C: EmulatedCpu>(cpu: &C, mode: &Mode, saved: &InstructionBytes) -> Step<Fetched> {
    let rip = cpu.rip();
    let mut fetched = Fetched { instruction: Instruction::default(), bytes: saved.clone() };
    if !saved.is_empty() && fetched.decode(mode, rip)? {
        return Ok(fetched);
    }
    fetched.bytes.clear();
    fetched.append(cpu, mode, rip)?;
    if fetched.decode(mode, rip)? {
        return Ok(fetched);
    }
    fetched.append(cpu, mode, rip.wrapping_add(fetched.bytes.len() as u64))?;
    if fetched.decode(mode, rip)? { Ok(fetched) } else { Err(Fault::PROTECTION.into()) }
}

impl Fetched {
    /// Appends what there is from `rip` to the end of its page.
    fn append<C: EmulatedCpu>(&mut self, cpu: &C, mode: &Mode, rip: u64) -> Step<()> {
        let linear = if mode.is_64() { rip } else { mode.code.base.wrapping_add(rip) & 0xffff_ffff };
        let access = Access { kind: AccessKind::Execute, privilege: mode.privilege };
        let gpa = mode.paging.translate(cpu.memory(), linear, access)?.gpa;
        let room = self.bytes.remaining_capacity().min((PAGE_BYTES - linear % PAGE_BYTES) as usize);
        let mut bytes = [0; 15];
        let Some(bytes) = bytes.get_mut(..room) else { return Err(Stop::Unsupported) };
        // Code in a device's memory is nothing that a PC has.
        cpu.memory().read(gpa, bytes).map_err(|_| Stop::Unsupported)?;
        self.bytes.try_extend_from_slice(bytes).map_err(|_| Stop::Unsupported)
    }

    /// Whether the bytes hold the whole instruction.
    fn decode(&mut self, mode: &Mode, rip: u64) -> Step<bool> {
        let mut decoder = Decoder::with_ip(mode.bitness, &self.bytes, rip, DecoderOptions::NONE);
        decoder.decode_out(&mut self.instruction);
        match decoder.last_error() {
            DecoderError::None => Ok(true),
            DecoderError::NoMoreBytes if self.bytes.is_full() => Err(Fault::PROTECTION.into()),
            DecoderError::NoMoreBytes => Ok(false),
            _ => Err(Stop::Unsupported),
        }
    }
}
