//! Mode switches: real mode, protected mode of 16 and 32 bits, compatibility mode, 64-bit mode, and
//! back; unreal mode.

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::cpu::{self, EFER, cpuid, has_feature};
use conformance::descriptors::CODE32;
use conformance::interrupts::{UD, catch, gp};
use conformance::legacy::{self, PROTECTED, Registers, call16, call32};
use conformance::report::{check, equal, faults, runs, skip};

conformance::topic!(run);

conformance::assembly! {
    fn control_registers_32() {
        ".code32" "mov ecx, 0xc0000080" "rdmsr" "mov ecx, eax" "mov eax, cr0" "mov ebx, cr4" "ret" ".code64"
    }
    // 40h is INC in 16- and 32-bit code, REX in 64-bit code.
    fn opcode_32() {
        ".code32" "mov eax, 1" ".byte 0x40" "ret" ".code64"
    }
    #[unsafe(link_section = ".low.text")]
    fn opcode_16() {
        ".code16" "mov eax, 1" ".byte 0x40" "ret" ".code64"
    }
    // A far call to 16-bit protected-mode code, where the operand size is that of the code segment:
    // MOV AX, imm16 and two NOPs are MOV EAX, imm32 in 32-bit code.
    fn protected_16() {
        ".code32" "push ebx" ".byte 0x9a" ".long 2f" ".short 0x20" "pop ebx" "ret"
        ".code16" "2: .byte 0xb8, 0x34, 0x12, 0x90, 0x90" ".byte 0x66, 0xcb" ".code64"
    }
    // LME with paging but without PAE; CD with it, which by itself nothing speaks against.
    fn reserved_paging() {
        ".code32" "mov ecx, 0xc0000080" "rdmsr" "or eax, 0x100" "wrmsr"
        "mov eax, cr0" "or eax, 0xc0000000" "mov cr0, eax" "mov eax, cr0" "ret" ".code64"
    }
    #[unsafe(link_section = ".low.text")]
    fn real_mode_identity() {
        ".code16" "smsw ax" "mov bx, cs" "mov cx, ss" "pushf" "pop dx" "ret" ".code64"
    }
    #[unsafe(link_section = ".low.text")]
    fn real_mode_divide() {
        ".code16" "xor cx, cx" "div cx" "ret" ".code64"
    }
    // A word across the limit of 64 KiB.
    #[unsafe(link_section = ".low.text")]
    fn real_mode_limit() {
        ".code16" "mov bx, 0xffff" "mov ax, [bx]" "ret" ".code64"
    }
    // Segment FFFFh reaches over 1 MiB.
    #[unsafe(link_section = ".low.text")]
    fn real_mode_high() {
        ".code16" "mov ax, 0xffff" "mov es, ax" "mov eax, dword ptr es:[0x1000]" "ret" ".code64"
    }
    #[unsafe(link_section = ".low.text")]
    fn read_at_esi() {
        ".code16" "mov eax, dword ptr [esi]" "ret" ".code64"
    }
    // A data segment of 4 GiB, loaded in protected mode, keeps its limit in real mode, also when
    // its selector is loaded anew.
    #[unsafe(link_section = ".low.text")]
    fn unreal_mode() {
        ".code16" "mov eax, cr0" "or al, 1" "mov cr0, eax" "jmp 2f" "2: mov bx, 0x10" "mov ds, bx"
        "and al, 0xfe" "mov cr0, eax" "jmp 3f" "3: mov eax, dword ptr [esi]"
        "xor bx, bx" "mov ds, bx" "mov ebx, dword ptr [esi]" "ret" ".code64"
    }
}

/// A place over 1 MiB that both modes read.
const HIGH: u32 = 0x0020_0ff0;
const PATTERN: u32 = 0x600d_cafe;
/// CR3.
const PWT: u64 = 1 << 3;
/// CR4.
const MCE: u64 = 1 << 6;
const PCIDE: u64 = 1 << 17;

fn run() {
    long_mode();
    features_in_cr4();
    protected_mode();
    real_mode();
}

fn long_mode() {
    equal("long-mode-cr0", cpu::cr0() as u32, 0x8001_0033);
    equal("long-mode-efer", cpu::rdmsr(EFER) & 0xd00, 0xd00);
    // Not tried, since no program could go on in QEMU: it lets paging and protection off through in
    // 64-bit code.
    let (cr0, efer) = (cpu::cr0(), cpu::rdmsr(EFER));
    refused(
        "lme-off-while-paging",
        || cpu::wrmsr(EFER, efer & !(1 << 8)),
        || cpu::wrmsr(EFER, efer),
    );
    refused("nw-without-cd", || cpu::set_cr0((cr0 | 1 << 29) & !(1 << 30)), || cpu::set_cr0(cr0));
    refused("upper-half-of-cr0", || cpu::set_cr0(cr0 | 1 << 32), || cpu::set_cr0(cr0));
    refused("reserved-bit-of-efer", || cpu::wrmsr(EFER, efer | 1 << 1), || cpu::wrmsr(EFER, efer));
    // MCE changes with PCIDE, which CR3 speaks against: its PWT would become a PCID.
    let (cr3, cr4) = (cpu::cr3(), cpu::cr4());
    cpu::set_cr3(cr3 | PWT);
    refused("pcide-with-a-pcid", || cpu::set_cr4((cr4 ^ MCE) | PCIDE), || cpu::set_cr4(cr4));
    equal("cr4-after-a-refused-write", cpu::cr4(), cr4);
    cpu::set_cr3(cr3);
    faults("cr1-is-not-there", UD, || unsafe { asm!(".byte 0x0f, 0x20, 0xc8") });
    // LMA is read-only: written values of it do not count.
    runs("lma-is-ignored-in-writes", || cpu::wrmsr(EFER, cpu::rdmsr(EFER) & !(1 << 10)));
    equal("lma-after-that", cpu::rdmsr(EFER) >> 10 & 1, 1);
    compatibility_mode();
}

/// Bits of CR4 with the features that they switch on: leaf of CPUID, register (0 is EAX), bit.
const FEATURES: [(u32, u32, usize, u32); 17] = [
    (0, 1, 3, 1),
    (1, 1, 3, 1),
    (2, 1, 3, 4),
    (3, 1, 3, 2),
    (4, 1, 3, 3),
    (6, 1, 3, 7),
    (7, 1, 3, 13),
    (9, 1, 3, 24),
    (10, 1, 3, 25),
    (11, 7, 2, 2),
    (12, 7, 2, 16),
    (13, 1, 2, 5),
    (16, 7, 1, 0),
    (18, 1, 2, 26),
    (20, 7, 1, 7),
    (21, 7, 1, 20),
    (22, 7, 2, 3),
];

fn features_in_cr4() {
    let cr4 = cpu::cr4();
    let takes = |bit: u32| {
        let changed = cr4 ^ 1 << bit;
        let taken = catch(|| {
            cpu::set_cr4(changed);
            let read = cpu::cr4();
            cpu::set_cr4(cr4);
            read == changed
        });
        taken.unwrap_or(false)
    };
    let has = |feature: &&(u32, u32, usize, u32)| has_feature(feature.1, feature.2, feature.3);
    // With SMEP or SMAP this program, whose pages are a user's, could not go on.
    let harmless = FEATURES.iter().filter(|feature| !matches!(feature.0, 20 | 21));
    check("cr4-takes-what-cpuid-has", harmless.filter(has).all(|&(bit, ..)| takes(bit)));
    // QEMU by itself does not go on from all of these.
    let [_, name @ ..] = cpuid(0x4000_0000, 0);
    const TCG: [u32; 3] =
        [u32::from_le_bytes(*b"TCGT"), u32::from_le_bytes(*b"CGTC"), u32::from_le_bytes(*b"GTCG")];
    if name == TCG {
        for case in [
            "cr4-refuses-what-cpuid-lacks",
            "cr4-refuses-reserved-bits",
            "cr4-keeps-pae-in-long-mode",
            "cr4-after-all-that",
        ] {
            skip(case, "QEMU does not go on");
        }
        return;
    }
    let refuses = |bits: u64| {
        catch(|| {
            cpu::set_cr4(cr4 ^ bits);
            cpu::set_cr4(cr4);
        })
        .is_err_and(|fault| fault.event == gp(0))
    };
    let mut lacks = FEATURES.iter().filter(|feature| !has(feature));
    check("cr4-refuses-what-cpuid-lacks", lacks.all(|&(bit, ..)| refuses(1 << bit)));
    // Of those that no processor has given a meaning to.
    check(
        "cr4-refuses-reserved-bits",
        [15, 19, 30, 31, 33, 63].into_iter().all(|bit| refuses(1 << bit)),
    );
    const PAE: u64 = 1 << 5;
    check("cr4-keeps-pae-in-long-mode", refuses(PAE));
    equal("cr4-after-all-that", cpu::cr4(), cr4);
}

/// The change raises #GP; where a processor lets it through, it is taken back at once, since no
/// machine could run on with it.
fn refused(case: &str, change: impl FnOnce(), restore: impl FnOnce()) {
    faults(case, gp(0), || {
        change();
        restore();
    });
}

fn compatibility_mode() {
    let result: u64;
    unsafe {
        asm!(
            "push {code32}",
            "lea rax, [rip + 2f]",
            "push rax",
            "lea rcx, [rip + 3f]",
            "retfq",
            ".code32",
            "2: mov eax, 1",
            ".byte 0x40",
            "push {code64}",
            "push ecx",
            ".byte 0xcb",
            ".code64",
            "3:",
            code32 = const CODE32,
            code64 = const conformance::descriptors::CODE64,
            out("rax") result,
            out("rcx") _,
        );
    }
    equal("compatibility-mode-decodes-inc", result, 2);
}

fn protected_mode() {
    let mut registers = Registers::default();
    check(
        "protected-mode-and-back",
        call32(control_registers_32, PROTECTED, &mut registers).is_ok(),
    );
    equal("protected-mode-cr0", registers.eax, PROTECTED.cr0);
    equal("protected-mode-cr4", registers.ebx, PROTECTED.cr4);
    equal("protected-mode-efer-without-lma", registers.ecx & 0x500, 0);
    check("opcode-32", call32(opcode_32, PROTECTED, &mut registers).is_ok());
    equal("opcode-32-is-inc", registers.eax, 2);
    registers.eax = 0xffff_ffff;
    check("protected-mode-16-and-back", call32(protected_16, PROTECTED, &mut registers).is_ok());
    equal("protected-mode-16-operand-size", registers.eax, 0xffff_1234);
    let fault = call32(reserved_paging, PROTECTED, &mut registers).err();
    equal("long-mode-needs-pae", fault.map(|fault| fault.event), Some(gp(0)));
    equal(
        "cr0-after-a-refused-write",
        fault.map_or(registers.eax, |fault| fault.cr0),
        PROTECTED.cr0,
    );
    // The next call begins in 64-bit mode again; that it does is the case.
    check("protected-mode-again", call32(opcode_32, PROTECTED, &mut registers).is_ok());
}

fn real_mode() {
    let mut registers = Registers::default();
    check("real-mode-and-back", call16(real_mode_identity, &mut registers).is_ok());
    equal("real-mode-msw", registers.eax & 1, 0);
    equal("real-mode-segments", (registers.ebx & 0xffff, registers.ecx & 0xffff), (0, 0));
    // IOPL and NT can be set in real mode; the bit that is always one is.
    equal("real-mode-flags", registers.edx & 0x802a, 2);
    check("opcode-16", call16(opcode_16, &mut registers).is_ok());
    equal("opcode-16-is-inc", registers.eax, 2);
    let divide = call16(real_mode_divide, &mut registers).err();
    equal("real-mode-divide-error", divide.map(|fault| fault.event.vector), Some(0));
    let at_div = legacy::address(real_mode_divide) + 2;
    equal("real-mode-divide-error-ip", divide.map(|fault| fault.eip & 0xffff), Some(at_div));
    let limit = call16(real_mode_limit, &mut registers).err();
    equal("real-mode-limit-is-64-kib", limit.map(|fault| fault.event.vector), Some(13));
    cpu::poke(0x0010_0ff0, PATTERN);
    check("real-mode-high-memory-area", call16(real_mode_high, &mut registers).is_ok());
    equal("real-mode-reads-above-1-mib", registers.eax, PATTERN);
    cpu::poke(u64::from(HIGH), PATTERN);
    registers.esi = HIGH;
    let beyond = call16(read_at_esi, &mut registers).err();
    equal("real-mode-beyond-64-kib", beyond.map(|fault| fault.event.vector), Some(13));
    registers.esi = HIGH;
    check("unreal-mode", call16(unreal_mode, &mut registers).is_ok());
    equal("unreal-mode-reads-4-gib", registers.eax, PATTERN);
    equal("unreal-mode-survives-selector-loads", registers.ebx, PATTERN);
    registers = Registers { eax: 0x0000, ..Registers::default() };
    legacy::bios(0x12, &mut registers);
    check("bios-call-memory-size", (512..=640).contains(&(registers.eax & 0xffff)));
}
