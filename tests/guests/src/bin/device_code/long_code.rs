//! 64-bit code.

use core::arch::asm;

use conformance::Global;
use conformance::apic::{self, register::*};
use conformance::cpu::{self, inb, outb, peek, poke};
use conformance::interrupts::{BP, DE, Event, Frame, UD, catch, gp, handle, pf};
use conformance::planes::PLANES;
use conformance::report::{check, equal, skip};

use crate::{RAM, copy};

const VECTOR: u8 = 0x90;
const DEBUG_VECTOR: u8 = 1;
const PAGE: u64 = 0x1000;

/// A window of pages: RAM, the planes, RAM.
const WINDOW: u64 = 2 << 39;
const INTO_DEVICE: u64 = WINDOW + PAGE;
const OUT_OF_DEVICE: u64 = WINDOW + 2 * PAGE;

#[repr(C, align(4096))]
struct Page([u64; 512]);
static TABLES: Global<[Page; 3]> = Global::new([const { Page([0; 512]) }; 3]);
static FRAMES: Global<[Page; 2]> = Global::new([const { Page([0; 512]) }; 2]);

/// The data of the code.
static DATA: Global<[u64; 16]> = Global::new([0; 16]);
/// How often a handler ran.
static COUNT: Global<u32> = Global::new(0);

/// Code that is called with the address of its data in RDI, and returns RAX.
macro_rules! programs {
    ($($name:ident: $($line:literal)*;)*) => {
        conformance::assembly! { $(fn $name() { $($line)* })* }
        const PROGRAMS: &[(&str, extern "C" fn())] = &[$((stringify!($name), $name)),*];
    };
}

programs! {
    arithmetic: "mov eax, [rdi]" "imul eax, eax, 77" "add rax, [rdi + 8]" "shl rax, 3"
        "sbb ecx, ecx" "xor eax, ecx"
        "mov [rdi + 16], rax" "ret";
    loops: "xor eax, eax" "mov ecx, 9" "2: lea rax, [rax + rax * 2 + 1]" "dec ecx" "jnz 2b"
        "jmp 3f" "ud2" "3: ret";
    stack: "push rdi" "push 0x1234" "call 2f" "pop rcx" "pop rdi" "add rax, rcx" "ret"
        "2: mov rax, [rsp + 8]" "ret";
    strings: "cld" "lea rsi, [rdi]" "lea rdi, [rdi + 40]" "mov ecx, 37" "rep movsb" "mov al, 0x5a"
        "mov ecx, 11"
        "rep stosb" "mov rax, rdi" "sub rax, rsi" "ret";
    vectors: "movups xmm0, [rdi]" "paddb xmm0, xmm0" "movups [rdi + 24], xmm0" "movq rax, xmm0"
        "ret";
    x87: "fninit" "fldpi" "fld1" "faddp" "fistp qword ptr [rdi]" "mov rax, [rdi]" "ret";
    own_data: "lea rcx, [rip + 2f]" "mov eax, [rcx]" "add dword ptr [rip + 2f], eax"
        "mov eax, [rip + 2f]" "ret"
        "2: .long 0x01020304";
    own_code: "mov byte ptr [rip + 2f + 1], 0x2a" "xor ecx, ecx" "2: mov al, 1" "movzx eax, al"
        "ret";
    indirect: "lea rax, [rip + 2f]" "call rax" "lea rcx, [rip + 3f]" "push rcx" "ret"
        "2: mov eax, 7" "ret"
        "3: inc eax" "ret";
    flags: "push 0x8d7" "popfq" "lahf" "setc al" "cmc" "pushfq" "pop rcx" "shl rcx, 16"
        "movzx eax, ax" "or rax, rcx"
        "cld" "ret";
    far: "mov ecx, cs" "push rcx" "lea rax, [rip + 2f]" "push rax" "mov eax, 3" "retfq" "ud2"
        "2: inc eax" "ret";
    returns_by_iret: "mov rsi, rsp" "mov ecx, ss" "push rcx" "push rsi" "push 2" "mov ecx, cs"
        "push rcx"
        "lea rax, [rip + 2f]" "push rax" "mov eax, 3" "iretq" "ud2" "2: inc eax" "ret";
    cpuid: "push rbx" "xor eax, eax" "xor ecx, ecx" "cpuid" "mov eax, ebx" "xor eax, edx"
        "pop rbx" "ret";
    ports: "mov edx, 0x21" "in al, dx" "out 0x80, al" "movzx eax, al" "ret";
    model_specific: "mov ecx, 0xc0000080" "rdmsr" "wrmsr" "ret";
    control: "mov rax, cr4" "mov cr4, rax" "mov rax, cr0" "ret";
    on_device_memory: "mov ecx, 0xa8000" "mov eax, 0x11223344" "mov [rcx], eax"
        "lock add [rcx], eax" "fild dword ptr [rcx]"
        "fistp qword ptr [rdi]" "mov eax, [rdi]" "ret";
    software_interrupt: "int 0x90" "int 0x90" "mov eax, 5" "ret";
    behind_mov_ss: "mov eax, ss" "mov ss, eax" "int 0x90" "mov eax, 5" "ret";
    local_apic: "mov ecx, 0xfee00000" "mov eax, [rcx + 0x30]" "mov dword ptr [rcx + 0xb0], 0" "ret";
    single_steps: "pushfq" "or dword ptr [rsp], 0x100" "popfq" "nop" "inc eax" "push rax"
        "pop rcx" "pushfq"
        "and dword ptr [rsp], 0xfffffeff" "popfq" "nop" "mov eax, 9" "ret";
    takes_interrupts: "mov ecx, 0xfee00000" "mov dword ptr [rcx + 0x300], 0x44090" "sti" "nop"
        "nop" "nop" "cli"
        "mov eax, 5" "ret";
}

pub fn run() {
    map();
    handle(VECTOR, Some(count_interrupt));
    handle(DEBUG_VECTOR, Some(count));
    let masks = [0x21, 0xa1].map(|port| (port, inb(port)));
    masks.iter().for_each(|&(port, _)| outb(port, 0xff));
    apic::enable();
    for &(name, code) in PROGRAMS {
        compare(name, code);
    }
    masks.iter().for_each(|&(port, mask)| outb(port, mask));
    handle(DEBUG_VECTOR, None);
    handle(VECTOR, None);
    faults();
    rom();
    holes();
}

fn map() {
    const P_W: u64 = 3;
    let tables = TABLES.address() as u64;
    let frames = FRAMES.address() as u64;
    poke(conformance::page_tables() + 16, tables | P_W);
    poke(tables, (tables + PAGE) | P_W);
    poke(tables + PAGE, (tables + 2 * PAGE) | P_W);
    for (index, frame) in (0..).zip([frames, PLANES + PAGE, frames + PAGE]) {
        poke(tables + 2 * PAGE + 8 * index, frame | P_W);
    }
    cpu::set_cr3(cpu::cr3());
}

fn count(_: &mut Frame) {
    COUNT.set(COUNT.get() + 1);
}

fn count_interrupt(frame: &mut Frame) {
    count(frame);
    if apic::is_set(ISR, VECTOR) {
        apic::end_of_interrupt();
    }
}

/// The outcome of a program: RAX, how often a handler ran, its data.
type Outcome = Result<(u64, u32, [u64; 16]), (Event, u64)>;

fn outcome(code: extern "C" fn(), at: u64) -> Outcome {
    copy(code, at);
    COUNT.set(0);
    DATA.set(core::array::from_fn(|index| 0x0123_4567_89ab_cdef_u64.rotate_left(5 * index as u32)));
    let rax = catch(|| call(at)).map_err(|fault| (fault.event, fault.rip.wrapping_sub(at)))?;
    Ok((rax, COUNT.get(), DATA.get()))
}

fn call(at: u64) -> u64 {
    let rax;
    unsafe {
        asm!(
            "call {at}", at = in(reg) at, in("rdi") DATA.address(), lateout("rax") rax,
            out("rcx") _, out("rdx") _, lateout("rdi") _, out("rsi") _, out("xmm0") _,
            out("st(0)") _, out("st(1)") _, out("r8") _
        );
    }
    rax
}

/// The case is that code does the same in RAM and on the planes: inside a page, and with its first
/// bytes in another one.
fn compare(name: &str, code: extern "C" fn()) {
    let want = outcome(code, RAM);
    let mut got = outcome(code, PLANES + 0x2100);
    for first in [1, 2, 4, 7, 12, 19] {
        let places = [PLANES + 3 * PAGE - first, INTO_DEVICE - first, OUT_OF_DEVICE - first];
        for at in places {
            if got == want {
                got = outcome(code, at);
            }
        }
    }
    check_equal(name, got, want);
}

fn check_equal(name: &str, got: Outcome, want: Outcome) {
    match want {
        Ok(_) => equal(name, got, want),
        Err(_) => check(name, false),
    }
}

conformance::assembly! {
    fn undefined() { "nop" "ud2" }
    fn divides() { "xor ecx, ecx" "div ecx" }
    fn breaks() { "nop" "int3" }
    fn loads_selector() { "mov ecx, 0xfff8" "mov ds, ecx" }
    fn reads_nowhere() { "mov rcx, 0x40000000000" "mov al, [rcx]" }
    fn jumps_nowhere() { "mov rcx, 0x40000000000" "jmp rcx" }
}

fn faults() {
    const FETCH: u32 = 1 << 4;
    const NOWHERE: u64 = 0x400_0000_0000;
    let fault = |code, at| outcome(code, at).err();
    for (case, code, event, offset) in [
        ("undefined-opcode", undefined as extern "C" fn(), UD, 1),
        ("divide-error", divides, DE, 2),
        ("breakpoint", breaks, BP, 2),
        ("protection", loads_selector, gp(0xfff8), 5),
        ("page-fault", reads_nowhere, pf(0), 10),
    ] {
        let places = [PLANES + 0x2100, PLANES + 3 * PAGE - 1, INTO_DEVICE - 2, OUT_OF_DEVICE - 2];
        equal(case, places.map(|at| fault(code, at)), [Some((event, offset)); 4]);
    }
    let at = PLANES + 0x2100;
    equal("jump-nowhere", fault(jumps_nowhere, at), Some((pf(FETCH), NOWHERE.wrapping_sub(at))));
}

/// RET and INT3 where the BIOS has such bytes.
fn rom() {
    const RET: u8 = 0xc3;
    const INT3: u8 = 0xcc;
    for (start, ret, trap) in
        [(0xf_0000, "bios-ret", "bios-breakpoint"), (0xffff_0000, "rom-ret", "rom-breakpoint")]
    {
        let find = |byte| (start..start + 0xfff0).find(|&at| peek::<u8>(at) == byte);
        check(ret, find(RET).is_some_and(|at| catch(|| call(at)).is_ok()));
        let Some(at) = find(INT3) else {
            skip(trap, "this BIOS has no such byte");
            continue;
        };
        let fault = catch(|| call(at)).err();
        equal(trap, fault.map(|fault| (fault.event, fault.rip)), Some((BP, at + 1)));
    }
}

/// Nothing answers there: the bus floats, and FFh FFh is no instruction.
fn holes() {
    const HOLE: u64 = 0xe000_0000;
    for (case, at) in
        [("code-in-a-hole", HOLE), ("code-at-the-end-of-a-page-of-a-hole", HOLE + PAGE - 1)]
    {
        if peek::<u32>(at) != u32::MAX {
            skip(case, "this machine's holes are not all ones");
            continue;
        }
        let fault = catch(|| call(at)).err();
        equal(case, fault.map(|fault| (fault.event, fault.rip)), Some((UD, at)));
    }
}
