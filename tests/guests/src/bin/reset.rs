//! Ways to reset the machine, one after the other: a byte of CMOS memory counts them. Each time the
//! BIOS boots this guest again, which looks at what is left of what it did before (Intel SDM volume
//! 3, table 10-1; Intel 290550, section 2.5.4). First of all INIT, which leaves more.

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::apic::{self, MASKED, io, register::*};
use conformance::clock::{self, HZ};
use conformance::cpu::{
    cpuid, cr4, dr0, dr1, dr2, dr3, dr6, dr7, inb, outb, peek, poke, rdmsr, set_cr4, set_dr0,
    set_dr1, set_dr2, set_dr3, set_dr7, wrmsr,
};
use conformance::descriptors::TablePointer;
use conformance::extended;
use conformance::interrupts::catch;
use conformance::legacy::{self, PROTECTED, Registers, call32};
use conformance::report::{self, check, equal};
use conformance::serial::Com1;

conformance::topic!(run);

/// A way, and the names of its cases.
struct Way {
    reset: fn(),
    processor: &'static str,
    clock: &'static str,
    /// For those that reset more than the processor.
    machine: Option<[&'static str; 5]>,
}

macro_rules! machine {
    ($name:literal) => {
        Some([
            concat!("model-specific-registers-after-", $name),
            concat!("supervisor-state-after-", $name),
            concat!("xcr0-after-", $name),
            concat!("vector-registers-after-", $name),
            concat!("devices-after-", $name),
        ])
    };
}

/// Port 92h and the keyboard controller may leave everything but the processor alone.
const WAYS: [Way; 5] = [
    Way {
        reset: by_port_92,
        processor: "processor-after-port-92",
        clock: "clock-after-port-92",
        machine: None,
    },
    Way {
        reset: by_keyboard_controller,
        processor: "processor-after-keyboard-controller",
        clock: "clock-after-keyboard-controller",
        machine: None,
    },
    Way {
        reset: by_port_cf9,
        processor: "processor-after-port-cf9",
        clock: "clock-after-port-cf9",
        machine: machine!("port-cf9"),
    },
    Way {
        reset: by_power_cycle,
        processor: "processor-after-power-cycle",
        clock: "clock-after-power-cycle",
        machine: machine!("power-cycle"),
    },
    Way {
        reset: by_triple_fault,
        processor: "processor-after-triple-fault",
        clock: "clock-after-triple-fault",
        machine: machine!("triple-fault"),
    },
];

/// CMOS bytes that are nobody's: whether this guest has written the other, which is the number of
/// resets.
const MARK: u8 = 0x6e;
const COUNT: u8 = 0x6f;
const MARKED: u8 = 0xa5;

fn run() {
    let count = if read_cmos(MARK) == MARKED { usize::from(read_cmos(COUNT)) } else { 0 };
    if let Some(way) = count.checked_sub(1).and_then(|last| WAYS.get(last)) {
        verify(way);
    }
    write_cmos(MARK, 0);
    if count == 0 {
        init();
    }
    if let Some(way) = WAYS.get(count) {
        write_cmos(COUNT, count as u8 + 1);
        write_cmos(MARK, MARKED);
        disturb();
        Com1::drain();
        (way.reset)();
        clock::wait(2 * HZ);
        report::fail(way.processor, "no reset");
    }
}

fn read_cmos(index: u8) -> u8 {
    outb(0x70, index);
    inb(0x71)
}

fn write_cmos(index: u8, value: u8) {
    outb(0x70, index);
    outb(0x71, value);
}

/// STAR, LSTAR, CSTAR, KernelGSbase, SYSENTER_EIP and PAT, with the values after a reset and other
/// ones.
const MSRS: [(u32, u64, u64); 6] = [
    (0xc000_0081, 0, 0x1234 << 32),
    (0xc000_0082, 0, 0x5678),
    (0xc000_0083, 0, 0x200),
    (0xc000_0102, 0, 0x9abc),
    (0x176, 0, 0xdef0),
    (0x277, 0x0007_0406_0007_0406, 0x0606_0606_0606_0606),
];

/// The same of SYSENTER_CS, SYSENTER_ESP, and TSC_AUX, which is there with RDTSCP alone.
const MORE_MSRS: [(u32, u64, u64); 3] =
    [(0x174, 0, 0x88), (0x175, 0, 0x1111), (0xc000_0103, 0, 0x1234_5678)];

/// Those of them that the processor has.
fn more_msrs() -> &'static [(u32, u64, u64)] {
    let has_rdtscp = cpuid(0x8000_0001, 0)[3] >> 27 & 1 != 0;
    &MORE_MSRS[..if has_rdtscp { 3 } else { 2 }]
}

/// SFMASK, whose value after a reset the manuals leave open: not this one.
const SFMASK: (u32, u64) = (0xc000_0084, 0x300);

/// The supervisor states that XSAVES saves: those that CPUID has.
const XSS: u32 = 0xda0;

/// The default memory type, which the BIOS has set.
const MTRR_DEFAULT_TYPE: u32 = 0x2ff;

/// CR4: the vector registers can be used.
const OSFXSR: u64 = 1 << 9;

/// Day, month and year, decimal.
const DATE: [(u8, u8); 3] = [(7, 0x15), (8, 0x06), (9, 0x44)];
const REGISTER_B: u8 = 0x0b;
const SET: u8 = 0x80;
const HOURS_24: u8 = 2;

const HPET_CONFIGURATION: u64 = 0xfed0_0010;
const INPUT: u8 = 23;

fn disturb() {
    [set_dr0, set_dr1, set_dr2, set_dr3].iter().for_each(|set| set(0x1234));
    set_dr7(0x000d_0400);
    for &(register, _, value) in MSRS.iter().chain(more_msrs()) {
        wrmsr(register, value);
    }
    wrmsr(SFMASK.0, SFMASK.1);
    let states = u64::from(cpuid(0xd, 1)[2]);
    let _ = catch(|| wrmsr(XSS, states));
    extended::fill();
    apic::write(TPR, 0x50);
    apic::write(LVT_TIMER, MASKED | 0x61);
    apic::write(INITIAL_COUNT, u32::MAX);
    io::write(io::entry(INPUT), MASKED | 0x61);
    poke(HPET_CONFIGURATION, 1_u64);
    write_cmos(REGISTER_B, SET | HOURS_24);
    for (register, value) in DATE {
        write_cmos(register, value);
    }
    write_cmos(REGISTER_B, HOURS_24);
}

/// Writes a vector register and returns what it held.
fn exchange_xmm5(new: [u64; 2]) -> [u64; 2] {
    set_cr4(cr4() | OSFXSR);
    let mut old = [0; 2];
    unsafe {
        asm!("movups [{}], xmm5", "movups xmm5, [{}]", in(reg) &raw mut old, in(reg) &raw const new, options(nostack));
    }
    old
}

conformance::assembly! {
    // INIT to the local APIC in EAX, which is its own: ECX is zero if it does not come.
    fn send_init() {
        ".code32" "mov [0xfee00310], eax" "mov dword ptr [0xfee00300], 0x4500" "mov ecx, 10000000"
        "2: dec ecx" "jnz 2b" "ret" ".code64"
    }
    #[unsafe(link_section = ".low.text")]
    fn after_init() { ".code16" "jmp return_to_protected_mode" ".code64" }
}

/// The BIOS, where the processor begins after INIT, jumps back because the shutdown status says so.
fn init() {
    const SHUTDOWN_STATUS: u8 = 0x0f;
    const JUMP_WITHOUT_EOI: u8 = 0x0a;
    const JUMP_VECTOR: u64 = 0x467;
    const VECTOR: [u64; 2] = [0x5555_6666_7777_8888; 2];
    for (register, _, value) in MSRS {
        wrmsr(register, value);
    }
    set_dr0(0x1234);
    exchange_xmm5(VECTOR);
    let memory_types = rdmsr(MTRR_DEFAULT_TYPE);
    poke(JUMP_VECTOR, legacy::address(after_init));
    write_cmos(SHUTDOWN_STATUS, JUMP_WITHOUT_EOI);
    let mut registers =
        Registers { eax: u32::from(apic::id()) << 24, ecx: 1, ..Registers::default() };
    let outcome = call32(send_init, PROTECTED, &mut registers);
    report::check("init-begins-at-the-bios", outcome.is_ok() && registers.ecx != 0);
    equal("init-clears-breakpoints", dr0(), 0);
    equal(
        "init-keeps-model-specific-registers",
        MSRS.map(|(msr, ..)| rdmsr(msr)),
        MSRS.map(|(.., value)| value),
    );
    equal("init-keeps-memory-types", rdmsr(MTRR_DEFAULT_TYPE), memory_types);
    equal("init-keeps-vector-registers", exchange_xmm5([0; 2]), VECTOR);
}

fn verify(way: &Way) {
    equal(
        way.processor,
        [dr0(), dr1(), dr2(), dr3(), dr6(), dr7()],
        [0, 0, 0, 0, 0xffff_0ff0, 0x400],
    );
    equal(way.clock, DATE.map(|(register, _)| read_cmos(register)), DATE.map(|(_, value)| value));
    let Some([registers, states, components, vectors, devices]) = way.machine else { return };
    let mut all = MSRS.iter().chain(more_msrs());
    match all.find(|&&(register, value, _)| rdmsr(register) != value) {
        Some(&(register, ..)) => {
            report::fail(registers, format_args!("{register:x} is {:x}", rdmsr(register)))
        }
        None => check(registers, rdmsr(SFMASK.0) != SFMASK.1),
    }
    check(states, catch(|| rdmsr(XSS)).unwrap_or(0) == 0);
    check(components, matches!(extended::xcr0(), 0 | 1));
    check(vectors, extended::is_initial());
    let found = [
        apic::read(TPR),
        apic::read(LVT_TIMER),
        apic::read(INITIAL_COUNT),
        io::read(io::entry(INPUT)),
        peek::<u64>(HPET_CONFIGURATION) as u32,
    ];
    equal(devices, found, [0, MASKED, 0, MASKED, 0]);
}

fn by_port_92() {
    outb(0x92, inb(0x92) | 1);
}

fn by_keyboard_controller() {
    outb(0x64, 0xfe);
}

fn by_port_cf9() {
    // The transition of bit 2 resets, as hard as bit 1 says.
    outb(0xcf9, 0x02);
    outb(0xcf9, 0x06);
}

fn by_power_cycle() {
    // With bit 3 too the power goes off and on.
    outb(0xcf9, 0x0a);
    outb(0xcf9, 0x0e);
}

fn by_triple_fault() {
    let nowhere = TablePointer { limit: 0, base: 0 };
    unsafe { asm!("lidt [{}]", "int3", in(reg) &raw const nowhere) };
}
