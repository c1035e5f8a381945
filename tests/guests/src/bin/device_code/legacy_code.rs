//! 32-bit code and that of real mode.

use conformance::Global;
use conformance::cpu::{peek, poke};
use conformance::interrupts::{DE, Event, UD, gp};
use conformance::legacy::{self, PROTECTED, Registers, address, call16, call32};
use conformance::planes::PLANES;
use conformance::report::equal;

use crate::{RAM, copy};

const PAGE: u64 = 0x1000;
const INTERRUPT_GATE: u8 = 0x8e;

static DATA: Global<[u32; 16]> = Global::new([0; 16]);

conformance::assembly! {
    // The code at EBX; its data at EDI.
    fn calls() { ".code32" "call ebx" "ret" ".code64" }
    fn handles() { ".code32" "inc dword ptr [edi]" "iretd" ".code64" }

    fn arithmetic() {
        ".code32" "mov eax, [edi]" "imul eax, eax, 77" "add eax, [edi + 8]" "shl eax, 3"
        "mov [edi + 16], eax"
        "ret" ".code64"
    }
    fn stack() {
        ".code32" "pushad" "mov ecx, 5" "2: push ecx" "loop 2b" "add esp, 20" "popad" "call 3f"
        "inc eax" "ret"
        "3: mov eax, 0x1234" "ret 0" ".code64"
    }
    fn strings() {
        ".code32" "mov esi, edi" "add edi, 23" "mov ecx, 19" "rep movsb" "mov eax, edi"
        "sub eax, esi" "ret"
        ".code64"
    }
    fn interrupts() { ".code32" "int 0x90" "int 0x90" "mov eax, [edi]" "ret" ".code64" }
    fn far() { ".code32" "mov eax, 3" "mov ecx, cs" "push ecx" "call 2f" "inc eax" "ret" "2: retf"
        ".code64" }
    fn system() {
        ".code32" "mov edx, 0x21" "in al, dx" "out 0x80, al" "mov eax, cr0" "mov cr0, eax"
        "mov ecx, 0x277"
        "rdmsr" "ret" ".code64"
    }
    fn device() {
        ".code32" "mov ecx, 0xa8000" "mov dword ptr [ecx], 0x1234" "fild dword ptr [ecx]"
        "fistp dword ptr [edi]"
        "mov eax, [edi]" "ret" ".code64"
    }

    fn undefined() { ".code32" "nop" "ud2" ".code64" }
    fn divides() { ".code32" "xor ecx, ecx" "div ecx" ".code64" }
    fn protection() { ".code32" "mov eax, 0xfff8" "mov fs, eax" ".code64" }

    // The code of segment DI at BX. (RETF means the 32-bit one.)
    #[unsafe(link_section = ".low.text")]
    fn calls_16() {
        ".code16" "mov ax, cs" "push ax" "push offset returned_16" "push di" "push bx"
        ".byte 0xcb" "returned_16: ret"
        ".code64"
    }
    fn arithmetic_16() {
        ".code16" "mov ax, 1234" "mov cx, 7" "2: imul ax, ax, 3" "loop 2b" "xor ax, cx"
        ".byte 0xcb" ".code64"
    }
    // Clears 32 bytes, copies the BIOS's data there, and sums up what they are then.
    fn strings_16() {
        ".code16" "push es" "push ds" "xor ax, ax" "mov ds, ax" "mov es, ax"
        "mov di, 0x7200" "mov cx, 16" "rep stosw"
        "mov si, 0x400" "mov di, 0x7200" "mov cx, 32" "rep movsb"
        "mov ax, di" "mov si, 0x7200" "mov cx, 16"
        "2: rol ax, 1" "add ax, [si]" "lea si, [si + 2]" "loop 2b"
        "pop ds" "pop es" ".byte 0xcb" ".code64"
    }
    fn interrupts_16() { ".code16" "xor ax, ax" "int 0x60" "int 0x60" ".byte 0xcb" ".code64" }
    #[unsafe(link_section = ".low.text")]
    fn handles_16() { ".code16" "inc ax" "iret" ".code64" }
    fn undefined_16() { ".code16" "nop" "ud2" ".code64" }
}

pub fn run() {
    for (case, code) in [
        ("32-bit-arithmetic", arithmetic as extern "C" fn()),
        ("32-bit-stack", stack),
        ("32-bit-strings", strings),
        ("32-bit-interrupts", interrupts),
        ("32-bit-far-return", far),
        ("32-bit-system-registers", system),
        ("32-bit-device-memory", device),
    ] {
        let want = outcome(code, RAM);
        let places = places().map(|at| outcome(code, at));
        match want {
            Ok(_) => equal(case, places.into_iter().find(|got| *got != want).unwrap_or(want), want),
            Err(_) => equal(case, want, Ok((0, [0; 16]))),
        }
    }
    for (case, code, event, offset) in [
        ("32-bit-undefined-opcode", undefined as extern "C" fn(), UD, 1),
        ("32-bit-divide-error", divides, DE, 2),
        ("32-bit-protection", protection, gp(0xfff8), 5),
    ] {
        let got = places().map(|at| outcome(code, at).err());
        equal(case, got, [Some((event, offset)); PLACES]);
    }
    real_mode();
}

const PLACES: usize = 6;

/// Inside a page, and with their first bytes in another.
fn places() -> [u64; PLACES] {
    [0, 1, 2, 3, 5, 8]
        .map(|first| if first == 0 { PLANES + 0x2100 } else { PLANES + 3 * PAGE - first })
}

type Outcome = Result<(u32, [u32; 16]), (Event, u32)>;

fn outcome(code: extern "C" fn(), at: u64) -> Outcome {
    copy(code, at);
    DATA.set(core::array::from_fn(|index| 0x0123_4567_u32.rotate_left(3 * index as u32)));
    legacy::reset_gates();
    legacy::set_gate(
        0x90,
        legacy::gate(conformance::descriptors::CODE32, address(handles), INTERRUPT_GATE),
    );
    let mut registers =
        Registers { ebx: at as u32, edi: DATA.address() as u32, ..Registers::default() };
    call32(calls, PROTECTED, &mut registers)
        .map_err(|fault| (fault.event, fault.eip.wrapping_sub(at as u32)))?;
    Ok((registers.eax, DATA.get()))
}

fn real_mode() {
    let outcome = |code: extern "C" fn(), at: u64| {
        copy(code, at);
        let mut registers = Registers {
            edi: (at >> 16 << 12) as u32,
            ebx: at as u32 & 0xffff,
            ..Registers::default()
        };
        let outcome = call16(calls_16, &mut registers);
        outcome
            .map(|()| registers.eax & 0xffff)
            .map_err(|fault| (fault.event, fault.cs, fault.eip & 0xffff))
    };
    let saved: u32 = peek(4 * 0x60);
    poke(4 * 0x60, address(handles_16));
    for (case, code) in [
        ("real-mode-arithmetic", arithmetic_16 as extern "C" fn()),
        ("real-mode-strings", strings_16),
        ("real-mode-interrupts", interrupts_16),
    ] {
        let want = outcome(code, RAM);
        let got = places().map(|at| outcome(code, at));
        let wrong = got.into_iter().find(|got| *got != want || want.is_err());
        equal(case, wrong, None);
    }
    let (segment, offset) = ((PLANES >> 4) as u16, 0x2101);
    equal(
        "real-mode-undefined-opcode",
        outcome(undefined_16, PLANES + 0x2100),
        Err((UD, segment, offset)),
    );
    poke(4 * 0x60, saved);
}
