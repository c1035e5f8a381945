//! Instructions on device memory, which a hypervisor emulates: each does on the VGA's planes what
//! it does on RAM.

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::cpu::{peek, poke};
use conformance::interrupts::catch;
use conformance::legacy::{Registers, bios};
use conformance::report::{check, fail, pass};

conformance::topic!(run);

/// In 640 x 480 with 16 colours all planes are written and one is read: bytes read back as written,
/// but no hypervisor can map them.
const VIDEO_MODE: u32 = 0x12;
const VIDEO: u64 = 0xa_1000;
const RAM: u64 = 0x0130_1000;
const BYTES: u64 = 64;

/// Flags that an instruction leaves defined.
const ALL: u64 = 0x8d5;
const WITHOUT_AUXILIARY: u64 = 0x8c5;
const CARRY: u64 = 0x001;
const CARRY_AND_OVERFLOW: u64 = 0x801;
const ZERO: u64 = 0x040;

/// The result of an instruction.
#[derive(Clone, Copy, PartialEq, Debug)]
struct State {
    rax: u64,
    rcx: u64,
    rdx: u64,
    rsi: u64,
    rdi: u64,
    flags: u64,
    memory: [u64; BYTES as usize / 8],
}

macro_rules! forms {
    ($($flags:ident $code:literal;)*) => {
        &[$({
            conformance::assembly! { fn form() { $code "ret" } }
            ($code, $flags, form as extern "C" fn())
        }),*]
    };
}

type Form = (&'static str, u64, extern "C" fn());

/// RDI is the memory, RSI another place in it; RAX, RCX and RDX are numbers.
const FORMS: &[Form] = forms! {
    ALL "mov [rdi], al"; ALL "mov [rdi], ax"; ALL "mov [rdi], eax"; ALL "mov [rdi], rax"; ALL "mov [rdi], ch";
    ALL "mov al, [rdi]"; ALL "mov ax, [rdi]"; ALL "mov eax, [rdi]"; ALL "mov rax, [rdi]"; ALL "mov dh, [rdi]";
    ALL "mov byte ptr [rdi], 0x5a"; ALL "mov word ptr [rdi + 1], 0x5a5b"; ALL "mov dword ptr [rdi + 3], 0x12345678";
    ALL "mov qword ptr [rdi + 5], -2"; ALL "mov eax, [rdi + rcx * 2 + 4]";
    ALL "movzx eax, byte ptr [rdi]"; ALL "movzx rax, word ptr [rdi]"; ALL "movsx eax, byte ptr [rdi + 9]";
    ALL "movsx rax, word ptr [rdi + 9]"; ALL "movsxd rax, dword ptr [rdi + 9]";
    ALL "add [rdi], al"; ALL "add [rdi], eax"; ALL "add rax, [rdi]"; ALL "adc [rdi], ax"; ALL "adc eax, [rdi]";
    ALL "sub [rdi], rax"; ALL "sub al, [rdi]"; ALL "sbb [rdi], eax"; ALL "sbb ax, [rdi]"; ALL "cmp [rdi], al"; ALL "cmp rax, [rdi]";
    ALL "cmp dword ptr [rdi], 7"; ALL "add word ptr [rdi], -1"; ALL "lock add [rdi], eax";
    WITHOUT_AUXILIARY "and [rdi], al"; WITHOUT_AUXILIARY "and eax, [rdi]"; WITHOUT_AUXILIARY "or [rdi], ax"; WITHOUT_AUXILIARY "or byte ptr [rdi], 0x80";
    WITHOUT_AUXILIARY "xor [rdi], rax"; WITHOUT_AUXILIARY "xor al, [rdi]"; WITHOUT_AUXILIARY "test [rdi], eax"; WITHOUT_AUXILIARY "test byte ptr [rdi], 1";
    ALL "inc byte ptr [rdi]"; ALL "dec dword ptr [rdi]"; ALL "neg word ptr [rdi]"; ALL "not qword ptr [rdi]";
    ALL "xchg [rdi], al"; ALL "xchg [rdi], rax"; ALL "xadd [rdi], eax"; ALL "lock xadd [rdi], ax"; ALL "cmpxchg [rdi], ecx";
    ALL "lock cmpxchg [rdi], cl"; ZERO "cmpxchg8b [rdi]";
    CARRY "bt dword ptr [rdi], 5"; CARRY "bts dword ptr [rdi], 6"; CARRY "btr [rdi], ax"; CARRY "btc [rdi], ecx"; CARRY "lock bts dword ptr [rdi], 3";
    WITHOUT_AUXILIARY "shl byte ptr [rdi], 1"; WITHOUT_AUXILIARY "shr dword ptr [rdi], 1"; WITHOUT_AUXILIARY "sar word ptr [rdi], 1";
    CARRY "rol dword ptr [rdi], cl"; CARRY "ror byte ptr [rdi], cl"; CARRY "rcl word ptr [rdi], 1"; CARRY "rcr qword ptr [rdi], 1";
    CARRY "shld [rdi], eax, 4"; CARRY "shrd [rdi], rax, cl";
    CARRY_AND_OVERFLOW "mul byte ptr [rdi]"; CARRY_AND_OVERFLOW "mul dword ptr [rdi]"; CARRY_AND_OVERFLOW "imul word ptr [rdi]";
    CARRY_AND_OVERFLOW "imul eax, [rdi]"; CARRY_AND_OVERFLOW "imul rax, [rdi], 3";
    ALL "cmovc eax, [rdi]"; ALL "cmovz rax, [rdi]"; ALL "setc byte ptr [rdi]"; ALL "setz byte ptr [rdi]";
    ALL "push qword ptr [rdi]\n pop rax"; ALL "push rax\n pop qword ptr [rdi]"; ALL "push rax\n pop word ptr [rdi]\n pop word ptr [rdi + 2]\n pop word ptr [rdi + 4]\n pop word ptr [rdi + 6]";
    ALL "stosb"; ALL "stosd"; ALL "rep stosb"; ALL "rep stosq"; ALL "lodsb"; ALL "lodsq"; ALL "movsb"; ALL "movsd"; ALL "rep movsb"; ALL "rep movsw";
    ALL "rep movsd"; ALL "rep movsq"; ALL "std\n rep movsb\n cld"; ALL "std\n rep stosw\n cld"; ALL "scasb"; ALL "repne scasb"; ALL "repe scasw"; ALL "cmpsb";
    ALL "repe cmpsb"; ALL "repne cmpsd";
    ALL "movd xmm0, eax\n movups [rdi + 1], xmm0\n movups xmm1, [rdi + 2]\n movq rax, xmm1"; ALL "movaps xmm0, [rdi]\n movaps [rdi + 16], xmm0";
    ALL "movdqu xmm0, [rdi + 3]\n movdqa [rdi + 32], xmm0"; ALL "movq xmm0, [rdi]\n movd [rdi + 9], xmm0"; ALL "movss xmm0, [rdi]\n movss [rdi + 8], xmm0";
    ALL "movsd xmm0, [rdi]\n movsd [rdi + 8], xmm0"; ALL "movnti [rdi], eax"; ALL "movntdq [rdi], xmm0"; ALL "movlps [rdi], xmm0"; ALL "movhps xmm0, [rdi]\n movhps [rdi + 8], xmm0";
};

fn perform(form: extern "C" fn(), base: u64) -> Option<State> {
    for byte in 0..BYTES {
        poke(base + byte, (byte * 37 + 11) as u8);
    }
    let (mut rax, mut rcx, mut rdx, mut rsi, mut rdi) =
        (0x8182_8384_8586_8788_u64, 5_u64, 0x0102_0304_u64, base + 32, base + 16);
    let mut flags = 0x203_u64 & !0x200;
    let outcome = catch(|| unsafe {
        asm!(
            "push {flags}", "popfq", "call {form}", "pushfq", "pop {flags}", "cld",
            flags = inout(reg) flags, form = in(reg) form, inout("rax") rax, inout("rcx") rcx, inout("rdx") rdx,
            inout("rsi") rsi, inout("rdi") rdi, out("r8") _, out("r9") _, out("r10") _, out("r11") _
        );
    });
    outcome.ok()?;
    let mut memory = [0; BYTES as usize / 8];
    for (index, word) in memory.iter_mut().enumerate() {
        let bytes = [0, 1, 2, 3, 4, 5, 6, 7].map(|byte| peek::<u8>(base + 8 * index as u64 + byte));
        *word = u64::from_le_bytes(bytes);
    }
    Some(State {
        rax,
        rcx,
        rdx,
        rsi: rsi.wrapping_sub(base),
        rdi: rdi.wrapping_sub(base),
        flags,
        memory,
    })
}

fn run() {
    bios(0x10, &mut Registers { eax: VIDEO_MODE, ..Registers::default() });
    poke(VIDEO, 0x5a_u8);
    check("planes-read-back", peek::<u8>(VIDEO) == 0x5a);
    for (number, &(code, mask, form)) in FORMS.iter().enumerate() {
        case(
            number,
            code,
            perform(form, RAM).map(|state| masked(state, mask)),
            perform(form, VIDEO).map(|state| masked(state, mask)),
        );
    }
    bios(0x10, &mut Registers { eax: 3, ..Registers::default() });
}

fn masked(state: State, mask: u64) -> State {
    State { flags: state.flags & mask, ..state }
}

/// The instruction is the case's name, without its blanks.
fn case(number: usize, code: &str, want: Option<State>, got: Option<State>) {
    let mut name = [b'-'; 24];
    let kept = code.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b',');
    let mut length = 0;
    for byte in [
        b'0' + (number / 100) as u8,
        b'0' + (number / 10 % 10) as u8,
        b'0' + (number % 10) as u8,
        b'-',
    ]
    .into_iter()
    .chain(kept)
    {
        if length < name.len() {
            name[length] = byte;
            length += 1;
        }
    }
    let name = core::str::from_utf8(&name[..length]).unwrap_or("instruction");
    match (got, want) {
        (Some(got), Some(want)) if got == want => pass(name),
        (Some(got), Some(want)) => fail(name, format_args!("got {got:x?}, want {want:x?}")),
        (None, _) | (_, None) => fail(name, "it faults"),
    }
}
