//! The interrupt vectors and the stack of real mode.

use conformance::Global;
use conformance::cpu::poke;
use conformance::legacy::{Registers, address, call16};
use conformance::report::equal;

use crate::{at, copy};

/// LIDT's operand, where real mode reaches it: the vectors on the planes, and those of the BIOS.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Pointer {
    limit: u16,
    base: u32,
}

#[unsafe(link_section = ".low.vectors")]
static VECTORS: Global<Pointer> = Global::new(Pointer { limit: 0x3ff, base: at::IDT as u32 });

conformance::assembly! {
    // An interrupt by the table at SI, with the stack of segment DI from EBX on.
    #[unsafe(link_section = ".low.text")]
    fn interrupts() {
        ".code16" "lidt [si]" "xor eax, eax" "mov bp, sp" "mov ss, di" "mov sp, bx" "push 0x1234"
        "int 0x60"
        "pop cx" "xor di, di" "mov ss, di" "mov sp, bp" "push 0" "push 0" "push 0x3ff" "mov si, sp"
        "lidt [si]" "add sp, 6" "ret" ".code64"
    }
    // Right behind a load of SS from the planes (ES): the word at BX.
    #[unsafe(link_section = ".low.text")]
    fn behind_mov() { ".code16" "xor eax, eax" "mov ss, es:[bx]" "int 0x60" "ret" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn behind_lss() {
        ".code16" "xor eax, eax" "mov es:[bx], sp" "mov word ptr es:[bx + 2], 0" "lss sp, es:[bx]"
        "int 0x60"
        "ret" ".code64"
    }
    // Counts in EAX, and leaves the flags saved in DX.
    #[unsafe(link_section = ".low.text")]
    fn counts() { ".code16" "push bp" "mov bp, sp" "mov dx, [bp + 6]" "pop bp" "inc eax" "iret"
        ".code64" }
}

const TF: u32 = 1 << 8;
const SEGMENT: u16 = (conformance::planes::PLANES >> 4) as u16;

fn go(code: extern "C" fn(), registers: Registers) -> Option<(u32, u32)> {
    let mut registers = registers;
    call16(code, &mut registers).ok().map(|()| (registers.eax, registers.edx & TF))
}

pub fn run() {
    poke(4 * 0x60, address(counts));
    copy(0, at::IDT, 0x400);
    let stack = Registers {
        esi: VECTORS.address() as u32,
        edi: SEGMENT.into(),
        ebx: (at::STACK_END & 0xffff) as u32,
        ..Registers::default()
    };
    equal("real-mode-vectors-and-stack", go(interrupts, stack), Some((1, 0)));
    let word = Registers { ebx: (at::DATA & 0xffff) as u32, es: SEGMENT, ..Registers::default() };
    poke(at::DATA, 0_u16);
    equal("real-mode-int-behind-mov-ss", go(behind_mov, word), Some((1, 0)));
    equal("real-mode-int-behind-lss", go(behind_lss, word), Some((1, 0)));
    poke(4 * 0x60, 0_u32);
}
