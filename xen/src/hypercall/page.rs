//! The page of hypercalls that a guest asks for by its MSR: 128 stubs of 32 bytes.

use crate::pages::PAGE_BYTES;

const STUBS: usize = 128;
const STUB_BYTES: usize = PAGE_BYTES as usize / STUBS;
/// The stub of `iret`, which is for PV guests.
const IRET: usize = 23;
/// INT3.
const FILL: u8 = 0xcc;

/// The instruction that calls the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// VMCALL.
    Vmcall,
    /// VMMCALL.
    Vmmcall,
}

impl Instruction {
    const fn bytes(self) -> [u8; 3] {
        match self {
            Self::Vmcall => [0x0f, 0x01, 0xc1],
            Self::Vmmcall => [0x0f, 0x01, 0xd9],
        }
    }
}

/// The content of the page.
pub fn content(instruction: Instruction) -> [u8; PAGE_BYTES as usize] {
    let mut page = [FILL; PAGE_BYTES as usize];
    for (number, stub) in page.chunks_exact_mut(STUB_BYTES).enumerate() {
        if number == IRET {
            // UD2.
            stub[..2].copy_from_slice(&[0x0f, 0x0b]);
            continue;
        }
        // MOV EAX, number; the call; RET.
        stub[0] = 0xb8;
        stub[1..5].copy_from_slice(&(number as u32).to_le_bytes());
        stub[5..8].copy_from_slice(&instruction.bytes());
        stub[8] = 0xc3;
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_calls_by_its_number() {
        let page = content(Instruction::Vmmcall);
        assert_eq!(page[17 * 32..17 * 32 + 10], [0xb8, 17, 0, 0, 0, 0x0f, 1, 0xd9, 0xc3, 0xcc]);
        assert_eq!(page[23 * 32..23 * 32 + 3], [0x0f, 0x0b, 0xcc]);
        assert_eq!(content(Instruction::Vmcall)[7], 0xc1);
    }
}
