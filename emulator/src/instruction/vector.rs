//! SSE and AVX moves between vector registers and memory.

use super::place::Place;
use super::{EmulatedCpu, Execution, Step, Stop};
use crate::paging::AccessKind;
use crate::registers::Fault;
use iced_x86::{EncodingKind, Mnemonic, OpKind, Register};

/// How a move treats its memory operand and the register bits that it does not fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// The whole register, at any address.
    Unaligned,
    /// The whole register, at an address that is a multiple of its size.
    Aligned,
    /// An element into the register's lowest part; the rest of the 128 bits is cleared.
    Scalar,
    /// 8 bytes from or into the low half; the high half stays.
    LowHalf,
    /// 8 bytes from or into the high half; the low half stays.
    HighHalf,
}

impl<C: EmulatedCpu> Execution<'_, '_, C> {
    pub(super) fn vector(&mut self) -> Step<()> {
        use Mnemonic as M;
        if !matches!(self.instruction.encoding(), EncodingKind::Legacy | EncodingKind::VEX) {
            return Err(Stop::Unsupported);
        }
        let form = match self.instruction.mnemonic() {
            M::Movups
            | M::Movupd
            | M::Movdqu
            | M::Lddqu
            | M::Vmovups
            | M::Vmovupd
            | M::Vmovdqu
            | M::Vlddqu => Move::Unaligned,
            M::Movaps
            | M::Movapd
            | M::Movdqa
            | M::Movntps
            | M::Movntpd
            | M::Movntdq
            | M::Movntdqa
            | M::Vmovaps
            | M::Vmovapd
            | M::Vmovdqa
            | M::Vmovntps
            | M::Vmovntpd
            | M::Vmovntdq
            | M::Vmovntdqa => Move::Aligned,
            M::Movd
            | M::Movq
            | M::Movss
            | M::Movsd
            | M::Vmovd
            | M::Vmovq
            | M::Vmovss
            | M::Vmovsd => Move::Scalar,
            M::Movlps | M::Movlpd | M::Vmovlps | M::Vmovlpd => Move::LowHalf,
            M::Movhps | M::Movhpd | M::Vmovhps | M::Vmovhpd => Move::HighHalf,
            _ => return Err(Stop::Unsupported),
        };
        if self.instruction.op_kind(0) == OpKind::Memory {
            self.store_vector(form)
        } else {
            self.load_vector(form)
        }
    }

    fn store_vector(&mut self, form: Move) -> Step<()> {
        let index = vector_index(self.instruction.op1_register())?;
        let place = self.vector_place(form, AccessKind::Write)?;
        let value = self.memory.cpu.vector_register(index);
        let start = if form == Move::HighHalf { 8 } else { 0 };
        let end = start + usize::from(place.size_bytes);
        self.memory.write_place_bytes(place, value.get(start..end).ok_or(Stop::Unsupported)?);
        Ok(())
    }

    fn load_vector(&mut self, form: Move) -> Step<()> {
        let index = vector_index(self.instruction.op0_register())?;
        // VMOVLPS and VMOVHPS take the other half from a second register.
        let last = self.instruction.op_count().saturating_sub(1);
        if self.instruction.op_kind(last) != OpKind::Memory {
            return Err(Stop::Unsupported);
        }
        let other = if last == 2 { vector_index(self.instruction.op1_register())? } else { index };
        let place = self.vector_place(form, AccessKind::Read)?;
        let mut value = match form {
            Move::LowHalf | Move::HighHalf => self.memory.cpu.vector_register(other),
            Move::Unaligned | Move::Aligned | Move::Scalar => [0; 32],
        };
        let start = if form == Move::HighHalf { 8 } else { 0 };
        let end = start + usize::from(place.size_bytes);
        self.memory.read_place_bytes(place, value.get_mut(start..end).ok_or(Stop::Unsupported)?);
        let [low @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = value;
        if self.instruction.encoding() == EncodingKind::Legacy {
            // SSE leaves the upper half of a 256-bit register alone.
            self.memory.cpu.set_vector_register(index, &low);
            return Ok(());
        }
        if place.size_bytes < 32 {
            value = [0; 32];
            for (byte, low) in value.iter_mut().zip(low) {
                *byte = low;
            }
        }
        self.memory.cpu.set_vector_register(index, &value);
        Ok(())
    }

    fn vector_place(&mut self, form: Move, kind: AccessKind) -> Step<Place> {
        let place = self.memory_operand(kind)?;
        if form == Move::Aligned && place.gpa % u64::from(place.size_bytes) != 0 {
            return Err(Fault::PROTECTION.into());
        }
        Ok(place)
    }
}

/// The number of an XMM or YMM register; MMX and AVX-512 registers are not supported.
fn vector_index(register: Register) -> Step<u8> {
    const XMM0: usize = Register::XMM0 as usize;
    const XMM15: usize = Register::XMM15 as usize;
    const YMM0: usize = Register::YMM0 as usize;
    const YMM15: usize = Register::YMM15 as usize;
    match register as usize {
        number @ XMM0..=XMM15 => Ok((number - XMM0) as u8),
        number @ YMM0..=YMM15 => Ok((number - YMM0) as u8),
        _ => Err(Stop::Unsupported),
    }
}
