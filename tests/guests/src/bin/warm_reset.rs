//! Pulses of INIT#: the processor begins anew at the BIOS, which resumes what the shutdown status
//! in CMOS memory says, and everything else stays as it was. Programs for the 80286 came back to
//! real mode in this way (Intel 290550, signal INIT and section 2.5.4; SDM volume 3, table 10-1).

#![no_std]
#![no_main]

use conformance::apic::{self, MASKED, io, register::*};
use conformance::cpu::{
    cpuid, dr0, dr1, dr2, dr3, dr6, dr7, inb, outb, peek, poke, rdmsr, rdtsc, set_cr2, set_dr0,
    set_dr1, set_dr2, set_dr3, set_dr7, wrmsr,
};
use conformance::extended;
use conformance::legacy::{self, PROTECTED, Registers, call32};
use conformance::report::{check, equal, fail, skip};
use conformance::serial::Com1;

conformance::topic!(run);

/// A source of pulses of INIT#, and the names of its cases.
struct Way {
    pulse: extern "C" fn(),
    /// The gate before address line 20 may be closed: it opens.
    is_from_chipset: bool,
    resumes: &'static str,
    cases: [&'static str; CASES],
}

const CASES: usize = 10;

macro_rules! way {
    ($pulse:ident, $is_from_chipset:literal, $name:literal) => {
        Way {
            pulse: $pulse,
            is_from_chipset: $is_from_chipset,
            resumes: concat!("resumes-after-", $name),
            cases: [
                concat!("memory-after-", $name),
                concat!("control-registers-after-", $name),
                concat!("debug-registers-after-", $name),
                concat!("syscall-registers-after-", $name),
                concat!("model-specific-registers-after-", $name),
                concat!("extended-state-after-", $name),
                concat!("time-stamp-counter-after-", $name),
                concat!("local-apic-after-", $name),
                concat!("devices-after-", $name),
                concat!("a20-after-", $name),
            ],
        }
    };
}

const WAYS: [Way; 5] = [
    way!(by_init_message, false, "init-message"),
    way!(by_keyboard_controller, true, "keyboard-controller"),
    way!(by_port_92, true, "port-92"),
    way!(by_soft_reset, true, "port-cf9"),
    way!(by_triple_fault, true, "triple-fault"),
];

conformance::assembly! {
    // EAX has the own ID.
    fn by_init_message() {
        ".code32" "mov [0xfee00310], eax" "mov dword ptr [0xfee00300], 0x4500" "mov ecx, 10000000"
        "2: dec ecx" "jnz 2b" "ret" ".code64"
    }
    fn by_keyboard_controller() {
        ".code32" "mov al, 0xfe" "out 0x64, al" "mov ecx, 10000000" "2: dec ecx" "jnz 2b" "ret"
        ".code64"
    }
    fn by_port_92() {
        ".code32" "in al, 0x92" "and al, 0xfe" "out 0x92, al" "or al, 1" "out 0x92, al"
        "mov ecx, 10000000" "2: dec ecx" "jnz 2b" "ret" ".code64"
    }
    fn by_soft_reset() {
        ".code32" "mov edx, 0xcf9" "mov al, 0" "out dx, al" "mov al, 4" "out dx, al"
        "mov ecx, 10000000" "2: dec ecx" "jnz 2b" "ret" ".code64"
    }
    fn by_triple_fault() { ".code32" "push 0" "push 0" "lidt [esp]" "int3" ".code64" }
    // Control registers and EFER as the BIOS hands them on.
    #[unsafe(link_section = ".low.text")]
    fn resume() {
        ".code16" "xor ax, ax" "mov ds, ax"
        "mov eax, cr0" "mov [0x7100], eax" "mov eax, cr2" "mov [0x7104], eax"
        "mov eax, cr3" "mov [0x7108], eax" "mov eax, cr4" "mov [0x710c], eax"
        "mov ecx, 0xc0000080" "rdmsr" "mov [0x7110], eax"
        "jmp return_to_protected_mode" ".code64"
    }
}

/// Where `resume` leaves what it found, behind the stack of real mode.
const FOUND: u64 = 0x7100;

/// CMOS bytes that nothing else uses: the mark of this guest, and the way that it goes.
const MARK: u8 = 0x6e;
const WAY: u8 = 0x6f;
const MARKED: u8 = 0xa5;

fn read_cmos(index: u8) -> u8 {
    outb(0x70, index);
    inb(0x71)
}

fn write_cmos(index: u8, value: u8) {
    outb(0x70, index);
    outb(0x71, value);
}

fn run() {
    let mut first = 0;
    if read_cmos(MARK) == MARKED {
        // The BIOS started this guest once more.
        let gone = usize::from(read_cmos(WAY));
        if let Some(way) = WAYS.get(gone) {
            fail(way.resumes, "boots anew");
            way.cases.iter().for_each(|case| skip(case, "boots anew"));
        }
        first = gone + 1;
    }
    for (number, way) in WAYS.iter().enumerate().skip(first) {
        write_cmos(WAY, number as u8);
        write_cmos(MARK, MARKED);
        Com1::drain();
        go(way);
        Com1::set_up();
    }
    write_cmos(MARK, 0);
}

fn go(way: &Way) {
    const SHUTDOWN_STATUS: u8 = 0x0f;
    const JUMP_WITHOUT_EOI: u8 = 0x0a;
    const JUMP_VECTOR: u64 = 0x467;
    let was = Found::disturb();
    poke(JUMP_VECTOR, legacy::address(resume));
    poke(FOUND, [0xffff_ffff_u32; 5]);
    write_cmos(SHUTDOWN_STATUS, JUMP_WITHOUT_EOI);
    let before = rdtsc();
    if way.is_from_chipset {
        close_a20();
    }
    let mut registers =
        Registers { eax: u32::from(apic::id()) << 24, ecx: 1, ..Registers::default() };
    let outcome = call32(way.pulse, PROTECTED, &mut registers);
    let after = rdtsc();
    check(way.resumes, outcome.is_ok() && registers.ecx != 0);
    let [memory, control, debug, syscall, model, extended, time, apic, devices, a20] = way.cases;
    check(a20, is_a20_open());
    outb(0x92, 2);
    let [cr0, cr2, cr3, cr4, efer] = peek::<[u32; 5]>(FOUND);
    const CACHES_OFF: u32 = 0x6000_0000;
    equal(control, [cr0 & !CACHES_OFF, cr2, cr3, cr4, efer], [0x10, 0, 0, 0, 0]);
    equal(debug, [dr0(), dr1(), dr2(), dr3(), dr6(), dr7()], [0, 0, 0, 0, 0xffff_0ff0, 0x400]);
    equal(
        apic,
        [TPR, LVT_TIMER, LVT_LINT1, INITIAL_COUNT, SVR].map(apic::read),
        [0, MASKED, MASKED, 0, 0xff],
    );
    check(time, after > before);
    let is = Found::look();
    equal(memory, is.memory, was.memory);
    equal(syscall, is.syscall, was.syscall);
    equal(model, is.model, was.model);
    equal(extended, is.extended, was.extended);
    equal(devices, is.devices, was.devices);
}

/// STAR, SFMASK and KernelGSbase.
const SYSCALL: [(u32, u64); 3] =
    [(0xc000_0081, 0x1234 << 32), (0xc000_0084, 0x300), (0xc000_0102, 0x9abc)];

/// LSTAR, CSTAR, SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP, PAT, and registers for memory types:
/// MTRR_PHYSBASE7, MTRR_FIX64K.
const MODEL: [(u32, u64); 8] = [
    (0xc000_0082, 0x5678),
    (0xc000_0083, 0x200),
    (0x174, 0x88),
    (0x175, 0x1111),
    (0x176, 0xdef0),
    (0x277, 0x0606_0606_0606_0606),
    (0x20e, 0x8000_0006),
    (0x250, 0x0606_0606_0606_0606),
];
const TSC_AUX: u32 = 0xc000_0103;

/// Not the guest's own, low and high.
const MEMORY: [u64; 3] = [0x7200, 0x20_0000, 0x300_0000];
const PATTERN: u64 = 0x5aa5_c33c_9669_f00f;

const INPUT: u8 = 23;
const HPET_CONFIGURATION: u64 = 0xfed0_0010;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_CONTROL: u16 = 0x43;
const KEYBOARD_COMMAND: u16 = 0x64;
const VGA_INDEX: u16 = 0x3d4;

/// The state that INIT leaves alone.
struct Found {
    memory: [u64; 3],
    syscall: [u64; 3],
    model: ([u64; 8], u64),
    extended: (u64, u64),
    devices: [u32; 6],
}

impl Found {
    /// Gives all of it values that no reset gives it, and what INIT resets too.
    fn disturb() -> Self {
        MEMORY.iter().for_each(|&at| poke(at, PATTERN));
        for (msr, value) in SYSCALL.into_iter().chain(MODEL) {
            wrmsr(msr, value);
        }
        if has_rdtscp() {
            wrmsr(TSC_AUX, 0x1234_5678);
        }
        extended::fill();
        set_cr2(0x1234_5000);
        [set_dr0, set_dr1, set_dr2, set_dr3].iter().for_each(|set| set(0x1234));
        set_dr7(0x000d_0400);
        apic::write(SVR, 0x1ff);
        apic::write(TPR, 0x50);
        apic::write(LVT_TIMER, MASKED | 0x61);
        apic::write(LVT_LINT1, MASKED | 0x61);
        apic::write(INITIAL_COUNT, u32::MAX);
        io::write(io::entry(INPUT), MASKED | 0x61);
        poke(HPET_CONFIGURATION, 1_u64);
        outb(0x21, 0xa5);
        outb(0xa1, 0x5a);
        // Channel 2, low and high byte, square wave; its gate is closed.
        outb(PIT_CONTROL, 0xb6);
        outb(PIT_CHANNEL_2, 0x34);
        outb(PIT_CHANNEL_2, 0x12);
        outb(VGA_INDEX, 0x0f);
        outb(VGA_INDEX + 1, 0x77);
        Self::look()
    }

    fn look() -> Self {
        // Read-back: the status of channel 2.
        outb(PIT_CONTROL, 0xe8);
        let pit = inb(PIT_CHANNEL_2) & 0x3f;
        outb(VGA_INDEX, 0x0f);
        outb(KEYBOARD_COMMAND, 0x20);
        while inb(KEYBOARD_COMMAND) & 1 == 0 {}
        let command_byte = inb(0x60);
        Self {
            memory: MEMORY.map(peek),
            syscall: SYSCALL.map(|(msr, _)| rdmsr(msr)),
            model: (
                MODEL.map(|(msr, _)| rdmsr(msr)),
                if has_rdtscp() { rdmsr(TSC_AUX) } else { 0 },
            ),
            extended: (extended::xcr0(), extended::sum()),
            devices: [
                io::read(io::entry(INPUT)),
                peek::<u64>(HPET_CONFIGURATION) as u32,
                u32::from(inb(0x21)) << 8 | u32::from(inb(0xa1)),
                pit.into(),
                inb(VGA_INDEX + 1).into(),
                command_byte.into(),
            ],
        }
    }
}

fn has_rdtscp() -> bool {
    cpuid(0x8000_0001, 0)[3] >> 27 & 1 != 0
}

fn close_a20() {
    outb(0x92, 0);
}

/// The byte at 1 MiB is another than that at 0.
fn is_a20_open() -> bool {
    const LOW: u64 = 0x7300;
    poke(LOW, 0x1111_u32);
    poke(LOW + (1 << 20), 0x2222_u32);
    peek::<u32>(LOW) == 0x1111
}
