//! Device memory through pages: instructions, also those of AVX, with operands at any place in a
//! page and across two, must do there what they do in RAM, which is where this guest learns it
//! from; and page faults must be those of RAM. The device is the VGA's memory in a planar mode with
//! one plane open, which is plain bytes to the processor. (`device_memory` has other forms, at one
//! place.)

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::Global;
use conformance::cpu::{self, outb, peek, poke};
use conformance::interrupts::{Fault, catch, pf};
use conformance::report::{check, equal, fail, pass, skip};

conformance::topic!(run);

/// Where this guest maps pages: device memory, then what is named below, then device memory again.
const WINDOW: u64 = 0x80_0000_0000;
const PAGE: u64 = 0x1000;
const DEVICE: u64 = 0xa_0000;

/// Pages of the window.
const ABSENT: u64 = WINDOW + 2 * PAGE;
const READ_ONLY: u64 = WINDOW + 4 * PAGE;
const AFTER_READ_ONLY: u64 = WINDOW + 5 * PAGE;
const RAM: u64 = WINDOW + 6 * PAGE;
const AFTER_RAM: u64 = WINDOW + 7 * PAGE;

#[repr(C, align(4096))]
struct Page([u64; 512]);

/// Three tables, and two pages of RAM.
static TABLES: Global<[Page; 3]> = Global::new([const { Page([0; 512]) }; 3]);
static BUFFER: Global<[Page; 2]> = Global::new([const { Page([0; 512]) }; 2]);

/// The bytes that an instruction may touch.
const AREA: usize = 192;
/// An instruction's operand is that far behind the area's start.
const MIDDLE: u64 = 64;

/// All that an instruction leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Outcome {
    area: [u8; AREA],
    rax: u64,
    rcx: u64,
    /// Relative to the operand.
    rsi: u64,
    rdi: u64,
    flags: u64,
    xmm: [u64; 4],
}

fn run() {
    set_up_device();
    map();
    arithmetic();
    moves();
    strings();
    vectors();
    page_faults();
}

/// Plane 0 alone, read and written as it is, at A0000h to AFFFFh.
fn set_up_device() {
    for (index, value) in [(0, 3), (1, 1), (2, 1), (4, 6)] {
        outb(0x3c4, index);
        outb(0x3c5, value);
    }
    for (index, value) in [(0, 0), (1, 0), (3, 0), (4, 0), (5, 0), (6, 5), (8, 0xff)] {
        outb(0x3ce, index);
        outb(0x3cf, value);
    }
}

fn map() {
    const PRESENT_WRITE: u64 = 3;
    const PRESENT: u64 = 1;
    let tables = TABLES.address() as u64;
    let ram = BUFFER.address() as u64;
    poke(conformance::page_tables() + 8, tables | PRESENT_WRITE);
    poke(tables, (tables + PAGE) | PRESENT_WRITE);
    poke(tables + PAGE, (tables + 2 * PAGE) | PRESENT_WRITE);
    let entries = [
        DEVICE | PRESENT_WRITE,
        (DEVICE + PAGE) | PRESENT_WRITE,
        0,
        (DEVICE + 3 * PAGE) | PRESENT_WRITE,
        (DEVICE + 4 * PAGE) | PRESENT,
        (DEVICE + 5 * PAGE) | PRESENT_WRITE,
        ram | PRESENT_WRITE,
        (DEVICE + 7 * PAGE) | PRESENT_WRITE,
    ];
    for (index, entry) in (0..).zip(entries) {
        poke(tables + 2 * PAGE + 8 * index, entry);
    }
    cpu::set_cr3(cpu::cr3());
}

fn pattern(index: usize) -> u8 {
    (index as u8).wrapping_mul(0x5b) ^ 0xa7
}

fn fill(area: u64) {
    for index in 0..AREA {
        poke(area + index as u64, pattern(index));
    }
}

type Instruction = fn(u64, &mut Outcome);

/// Carries out `instruction` on an operand in a fresh area.
fn outcome(area: u64, instruction: Instruction) -> Result<Outcome, Fault> {
    fill(area);
    let mut outcome =
        Outcome { area: [0; AREA], rax: 0, rcx: 0, rsi: 0, rdi: 0, flags: 0, xmm: [0; 4] };
    catch(|| instruction(area + MIDDLE, &mut outcome))?;
    for (index, byte) in outcome.area.iter_mut().enumerate() {
        *byte = peek(area + index as u64);
    }
    Ok(outcome)
}

/// The case is that `instruction` does to device memory what it does to RAM, wherever it lies in a
/// page, and across pages unless it must be aligned.
fn same(case: &str, alignment: u64, instruction: Instruction) {
    let ram = BUFFER.address() as u64 + 0x100;
    let want = outcome(ram, instruction).map_err(|fault| fault.event);
    let places =
        [DEVICE + 0x200, WINDOW + 0x223, WINDOW + PAGE - MIDDLE - 1, AFTER_RAM - MIDDLE - 1];
    for place in places.map(|place| place / alignment * alignment) {
        let got = outcome(place, instruction).map_err(|fault| fault.event);
        let (Ok(got), Ok(want)) = (got, want) else {
            if got.err() != want.err() {
                return fail(
                    case,
                    format_args!("at {place:x}: {:?} instead of {:?}", got.err(), want.err()),
                );
            }
            continue;
        };
        if let Some(index) = (0..AREA).find(|&index| got.area[index] != want.area[index]) {
            let (got, want) = (got.area[index], want.area[index]);
            return fail(
                case,
                format_args!("at {place:x}, byte {index}: got {got:x}, want {want:x}"),
            );
        }
        let registers = |of: &Outcome| (of.rax, of.rcx, of.rsi, of.rdi, of.flags, of.xmm);
        if got != want {
            let (got, want) = (registers(&got), registers(&want));
            return fail(case, format_args!("at {place:x}: got {got:x?}, want {want:x?}"));
        }
    }
    pass(case);
}

/// CF, PF, AF, ZF, SF, OF.
const STATUS: u64 = 0x8d5;

/// Cases of instructions with the operand at RDI, RAX (and RCX) in and out. `$flags` are those that
/// are defined after it.
macro_rules! with_rax {
    ($($case:literal $flags:expr, $instruction:literal;)*) => { $(
        same($case, 1, |address, outcome| {
            let (rax, rcx, flags): (u64, u64, u64);
            unsafe {
                asm!(
                    "push 0x802", "popfq",
                    $instruction,
                    "pushfq", "pop {flags}",
                    inout("rax") 0x1122_3344_8566_9788_u64 => rax,
                    inout("rcx") 0x0123_4567_89ab_cd03_u64 => rcx,
                    in("rdi") address,
                    flags = out(reg) flags,
                );
            }
            *outcome = Outcome { rax, rcx, flags: flags & $flags, ..*outcome };
        });
    )* };
}

const CF: u64 = 1;
const NO_AF: u64 = STATUS & !0x10;

fn arithmetic() {
    with_rax! {
        "add-memory-byte" STATUS, "add [rdi], al";
        "add-memory-word" STATUS, "add [rdi], ax";
        "add-memory-dword" STATUS, "add [rdi], eax";
        "add-memory-qword" STATUS, "add [rdi], rax";
        "add-register" STATUS, "add rax, [rdi]";
        "add-immediate" STATUS, "add dword ptr [rdi], 0x12345678";
        "add-immediate-byte" STATUS, "add qword ptr [rdi], -3";
        "adc" STATUS, "stc; adc [rdi], eax";
        "sub-memory" STATUS, "sub [rdi], eax";
        "sub-register" STATUS, "sub ax, [rdi]";
        "sbb" STATUS, "stc; sbb [rdi], rax";
        "and-memory" NO_AF, "and [rdi], eax";
        "and-register" NO_AF, "and al, [rdi]";
        "or-memory" NO_AF, "or [rdi], ax";
        "or-immediate" NO_AF, "or byte ptr [rdi], 0x81";
        "xor-memory" NO_AF, "xor [rdi], rax";
        "xor-register" NO_AF, "xor eax, [rdi]";
        "cmp-memory" STATUS, "cmp [rdi], eax";
        "cmp-register" STATUS, "cmp rax, [rdi]";
        "cmp-immediate" STATUS, "cmp byte ptr [rdi], 0x40";
        "test-memory" NO_AF, "test [rdi], eax";
        "test-immediate" NO_AF, "test dword ptr [rdi], 0x80000001";
        "inc" STATUS, "inc dword ptr [rdi]";
        "dec" STATUS, "dec byte ptr [rdi]";
        "neg" STATUS, "neg qword ptr [rdi]";
        "not" STATUS, "not word ptr [rdi]";
        "xadd" STATUS, "lock xadd [rdi], eax";
        "cmpxchg-unequal" STATUS, "lock cmpxchg [rdi], ecx";
        "cmpxchg-equal" STATUS, "mov eax, [rdi]; lock cmpxchg [rdi], ecx";
        "bt" CF, "bt dword ptr [rdi], 5";
        "bts" CF, "bts dword ptr [rdi], 6";
        "btr" CF, "btr qword ptr [rdi], 33";
        "btc" CF, "lock btc word ptr [rdi], 15";
        "bts-beyond-the-operand" CF, "mov eax, 139; bts [rdi], eax";
        "btr-before-the-operand" CF, "mov rax, -70; btr [rdi], rax";
        "shl" NO_AF & !0x800, "shl dword ptr [rdi], cl";
        "sar-by-one" NO_AF, "sar qword ptr [rdi], 1";
        "rol" CF, "rol word ptr [rdi], cl";
        "shrd" NO_AF & !0x800, "shrd [rdi], eax, 9";
        "mul" CF, "push rdx; mul dword ptr [rdi]; pop rdx";
        "imul" CF, "imul rax, [rdi]";
    }
}

fn moves() {
    with_rax! {
        "store-byte" STATUS, "mov [rdi], al";
        "store-high-byte" STATUS, "mov [rdi], ah";
        "store-word" STATUS, "mov [rdi], ax";
        "store-dword" STATUS, "mov [rdi], eax";
        "store-qword" STATUS, "mov [rdi], rax";
        "store-immediate" STATUS, "mov qword ptr [rdi], -2";
        "load-byte" STATUS, "mov al, [rdi]";
        "load-high-byte" STATUS, "mov ah, [rdi]";
        "load-word" STATUS, "mov ax, [rdi]";
        "load-dword" STATUS, "mov eax, [rdi]";
        "load-qword" STATUS, "mov rax, [rdi]";
        "load-scaled" STATUS, "mov ecx, 2; mov eax, [rdi + rcx * 4 - 3]";
        "movzx-byte" STATUS, "movzx eax, byte ptr [rdi]";
        "movzx-word" STATUS, "movzx rax, word ptr [rdi]";
        "movsx-byte-to-word" STATUS, "movsx ax, byte ptr [rdi]";
        "movsx-byte" STATUS, "movsx rax, byte ptr [rdi + 1]";
        "movsx-word" STATUS, "movsx eax, word ptr [rdi]";
        "movsxd" STATUS, "movsxd rax, dword ptr [rdi]";
        "movnti" STATUS, "movnti [rdi], rax";
        "xchg-byte" STATUS, "xchg [rdi], al";
        "xchg-dword" STATUS, "xchg [rdi], eax";
        "xchg-qword" STATUS, "xchg [rdi], rax";
        "cmov-taken" STATUS, "cmovo eax, [rdi]";
        "cmov-not-taken" STATUS, "cmovno eax, [rdi]";
        "setcc" STATUS, "seto byte ptr [rdi]";
        "push-memory" STATUS, "push qword ptr [rdi]; pop rax";
        "pop-memory" STATUS, "push rax; pop qword ptr [rdi]";
    }
}

/// Cases of string instructions: the source at RSI, the target at RDI.
macro_rules! string {
    ($($case:literal $count:literal, $source:literal, $target:literal, $instruction:literal;)*) => { $(
        same($case, 1, |address, outcome| {
            let (rax, rcx, rsi, rdi, flags): (u64, u64, u64, u64, u64);
            let (source, target) = (address.wrapping_add_signed($source), address.wrapping_add_signed($target));
            unsafe {
                asm!(
                    $instruction,
                    "pushfq", "pop {flags}", "cld",
                    inout("rax") 0x1122_3344_5566_77d4_u64 => rax,
                    inout("rcx") $count => rcx,
                    inout("rsi") source => rsi,
                    inout("rdi") target => rdi,
                    flags = out(reg) flags,
                );
            }
            let (rsi, rdi) = (rsi.wrapping_sub(address), rdi.wrapping_sub(address));
            *outcome = Outcome { rax, rcx, rsi, rdi, flags: flags & STATUS, ..*outcome };
        });
    )* };
}

fn strings() {
    string! {
        "stosb" 1u64, 0, -3, "test al, al; stosb";
        "rep-stosb" 23u64, 0, -9, "test al, al; rep stosb";
        "rep-stosw" 9u64, 0, -8, "test al, al; rep stosw";
        "rep-stosd" 7u64, 0, -10, "test al, al; rep stosd";
        "rep-stosq" 5u64, 0, -20, "test al, al; rep stosq";
        "rep-stosd-down" 7u64, 0, 10, "test al, al; std; rep stosd";
        "rep-stosd-of-none" 0u64, 0, 0, "test al, al; rep stosd";
        "movsb" 1u64, 0, 8, "test al, al; movsb";
        "rep-movsb" 40u64, -20, 30, "test al, al; rep movsb";
        "rep-movsq" 6u64, -25, 35, "test al, al; rep movsq";
        "rep-movsb-overlapping" 40u64, -20, -19, "test al, al; rep movsb";
        "rep-movsd-down" 9u64, 20, 60, "test al, al; std; rep movsd";
        "lodsb" 1u64, 0, 0, "test al, al; lodsb";
        "lodsd" 1u64, -2, 0, "test al, al; lodsd";
        "rep-lodsw" 4u64, -3, 0, "test al, al; rep lodsw";
        "scasb" 1u64, 0, 0, "scasb";
        "repne-scasb" 60u64, 0, -30, "repne scasb";
        "repe-scasd" 6u64, 0, -8, "repe scasd";
        "cmpsb" 1u64, 0, 5, "cmpsb";
        "repe-cmpsb" 20u64, -20, 20, "repe cmpsb";
        "repne-cmpsw" 20u64, -20, 20, "repne cmpsw";
    }
}

/// Cases of vector moves: the operand at RDI, XMM0 or YMM0 in and out.
macro_rules! vector {
    ($aligned:literal; $($case:literal $instruction:literal;)*) => { $(
        same($case, $aligned, |address, outcome| {
            let mut register = [0x0011_2233_4455_6677_u64, 0x8899_aabb_ccdd_eeff, 0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321];
            unsafe {
                asm!(
                    "movups xmm0, [{register}]", "movups xmm1, [{register} + 16]",
                    $instruction,
                    "movups [{register}], xmm0", "movups [{register} + 16], xmm1",
                    register = in(reg) &raw mut register,
                    in("rdi") address,
                    out("xmm0") _, out("xmm1") _,
                );
            }
            outcome.xmm = register;
        });
    )* };
}

fn vectors() {
    vector! { 1;
        "movups-load" "movups xmm0, [rdi]";
        "movups-store" "movups [rdi], xmm0";
        "movdqu-load" "movdqu xmm0, [rdi]";
        "movdqu-store" "movdqu [rdi], xmm0";
        "lddqu" "lddqu xmm0, [rdi]";
        "movd-load" "movd xmm0, dword ptr [rdi]";
        "movd-store" "movd dword ptr [rdi], xmm0";
        "movq-load" "movq xmm0, qword ptr [rdi]";
        "movq-store" "movq qword ptr [rdi], xmm0";
        "movss-load" "movss xmm0, dword ptr [rdi]";
        "movss-store" "movss dword ptr [rdi], xmm0";
        "movsd-load" "movsd xmm0, qword ptr [rdi]";
        "movsd-store" "movsd qword ptr [rdi], xmm0";
        "movlps-load" "movlps xmm0, qword ptr [rdi]";
        "movhps-load" "movhps xmm0, qword ptr [rdi]";
        "movhps-store" "movhps qword ptr [rdi], xmm0";
    }
    vector! { 16;
        "movaps-load" "movaps xmm0, [rdi]";
        "movaps-store" "movaps [rdi], xmm0";
        "movdqa-load" "movdqa xmm0, [rdi]";
        "movdqa-store" "movdqa [rdi], xmm0";
        "movntdq" "movntdq [rdi], xmm0";
        "movntps" "movntps [rdi], xmm0";
    }
    if !cpu::has_feature(1, 2, 28) || !cpu::has_feature(1, 2, 26) {
        return skip("avx", "CPUID.1:ECX.28");
    }
    const OSXSAVE: u64 = 1 << 18;
    cpu::set_cr4(cpu::cr4() | OSXSAVE);
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") 7, in("edx") 0) };
    vector! { 1;
        "vmovups-load" "vmovups ymm0, [rdi]; vextractf128 xmm1, ymm0, 1";
        "vmovups-store" "vinsertf128 ymm0, ymm0, xmm1, 1; vmovups [rdi], ymm0";
        "vmovdqu-load" "vmovdqu ymm0, [rdi]; vextractf128 xmm1, ymm0, 1";
        "vmovdqu-store" "vinsertf128 ymm0, ymm0, xmm1, 1; vmovdqu [rdi], ymm0";
        "vmovdqu-load-clears-the-upper-half" "vinsertf128 ymm0, ymm0, xmm1, 1; vmovdqu xmm0, [rdi]; vextractf128 xmm1, ymm0, 1";
        "vmovd-load" "vmovd xmm0, dword ptr [rdi]";
        "vmovq-store" "vmovq qword ptr [rdi], xmm0";
    }
    vector! { 32;
        "vmovaps-load" "vmovaps ymm0, [rdi]; vextractf128 xmm1, ymm0, 1";
        "vmovdqa-store" "vinsertf128 ymm0, ymm0, xmm1, 1; vmovdqa [rdi], ymm0";
    }
}

const PRESENT: u32 = 1;
const WRITE: u32 = 2;

/// The case is a page fault with `error` for `cr2`.
fn page_fault(case: &str, error: u32, cr2: u64, body: impl FnOnce()) {
    let got = catch(body).err().map(|fault| (fault.event, fault.cr2));
    equal(case, got, Some((pf(error), cr2)));
}

fn load(address: u64) {
    unsafe { asm!("mov rax, [{}]", in(reg) address, out("rax") _) };
}

fn store(address: u64) {
    unsafe { asm!("mov [{}], rax", in(reg) address, in("rax") 0x0123_4567_89ab_cdef_u64) };
}

fn page_faults() {
    page_fault("load-reaches-into-absent-page", 0, ABSENT, || load(ABSENT - 3));
    let before: u32 = peek(ABSENT - 4);
    page_fault("store-reaches-into-absent-page", WRITE, ABSENT, || store(ABSENT - 4));
    equal("store-that-faults-stores-nothing", peek::<u32>(ABSENT - 4), before);
    page_fault("load-begins-in-absent-page", 0, ABSENT + PAGE - 2, || load(ABSENT + PAGE - 2));
    page_fault("store-begins-in-absent-page", WRITE, ABSENT + PAGE - 2, || {
        store(ABSENT + PAGE - 2)
    });
    page_fault("store-to-read-only-page", PRESENT | WRITE, READ_ONLY + 8, || store(READ_ONLY + 8));
    page_fault("store-reaches-into-read-only-page", PRESENT | WRITE, READ_ONLY, || {
        store(READ_ONLY - 1)
    });
    page_fault("store-reaches-out-of-read-only-page", PRESENT | WRITE, AFTER_READ_ONLY - 1, || {
        store(AFTER_READ_ONLY - 1)
    });
    page_fault("add-to-read-only-page", PRESENT | WRITE, READ_ONLY, || unsafe {
        asm!("add dword ptr [{}], 1", in(reg) READ_ONLY);
    });
    page_fault("xchg-with-read-only-page", PRESENT | WRITE, READ_ONLY, || unsafe {
        asm!("xchg [{}], eax", in(reg) READ_ONLY, inout("eax") 0 => _);
    });
    check("load-of-read-only-page", catch(|| load(READ_ONLY)).is_ok());
    check(
        "cmp-of-read-only-page",
        catch(|| unsafe { asm!("cmp dword ptr [{}], 1", in(reg) READ_ONLY) }).is_ok(),
    );
    page_fault("movups-reaches-into-absent-page", 0, ABSENT, || unsafe {
        asm!("movups xmm0, [{}]", in(reg) ABSENT - 15, out("xmm0") _);
    });
    page_fault("rep-stosd-reaches-absent-page", WRITE, ABSENT, || unsafe {
        asm!("rep stosd", inout("rcx") 8_u64 => _, inout("rdi") ABSENT - 16 => _, in("eax") 0x5a5a_5a5a);
    });
    let stored: [u32; 4] = core::array::from_fn(|index| peek(ABSENT - 16 + 4 * index as u64));
    equal("rep-stosd-stores-up-to-there", stored, [0x5a5a_5a5a; 4]);
    rep_movs_registers();
}

/// Registers after a fault in the middle of a repeated move from RAM to the device, as the handler
/// finds them.
fn rep_movs_registers() {
    use conformance::interrupts::{Frame, handle};
    static SEEN: Global<[u64; 3]> = Global::new([0; 3]);
    let skip_it: fn(&mut Frame) = |frame| {
        SEEN.set([frame.rcx, frame.rsi, frame.rdi]);
        // REP MOVSB has two bytes.
        frame.rip += 2;
    };
    handle(14, Some(skip_it));
    let move_bytes = |source: u64, target: u64| unsafe {
        asm!("rep movsb", inout("rcx") 40_u64 => _, inout("rsi") source => _, inout("rdi") target => _);
        SEEN.get()
    };
    equal("rep-movsb-into-absent-page", move_bytes(RAM, ABSENT - 10), [30, RAM + 10, ABSENT]);
    equal(
        "rep-movsb-out-of-absent-page",
        move_bytes(ABSENT - 7, AFTER_RAM),
        [33, ABSENT, AFTER_RAM + 7],
    );
    equal(
        "rep-movsb-between-devices-into-absent-page",
        move_bytes(WINDOW, ABSENT - 10),
        [30, WINDOW + 10, ABSENT],
    );
    handle(14, None);
}
