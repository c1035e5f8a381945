//! Two processors: the second closes the A20 gate, and resets the first one, or all, in one way
//! after the other. The BIOS resumes what the shutdown status says, or boots this guest again; a
//! byte of CMOS memory counts the ways (Intel 290550, section 2.5.4; SDM volume 3, table 10-1).

#![no_std]
#![no_main]

use conformance::apic;
use conformance::clock::{self, HZ};
use conformance::cpu::{self, inb, outb, peek, poke};
use conformance::descriptors::TablePointer;
use conformance::legacy::{self, PROTECTED, Registers, call32};
use conformance::report::{check, equal, skip};
use conformance::serial::Com1;
use conformance::{pic, smp};

conformance::topic!(run);

/// A way, and the names of its cases.
struct Way {
    reset: smp::Job,
    /// The others go on.
    is_for_one: bool,
    /// Bochs waits for its debugger's user.
    ends_bochs: bool,
    comes_back: &'static str,
    second: &'static str,
    starts: &'static str,
}

macro_rules! way {
    ($reset:ident, $is_for_one:literal, $ends_bochs:literal, $name:literal) => {
        Way {
            reset: $reset,
            is_for_one: $is_for_one,
            ends_bochs: $ends_bochs,
            comes_back: concat!("comes-back-after-", $name),
            second: concat!("second-processor-after-", $name),
            starts: concat!("second-starts-after-", $name),
        }
    };
}

const WAYS: [Way; 5] = [
    way!(by_init, true, false, "init"),
    way!(by_keyboard_controller, false, false, "keyboard-controller"),
    way!(by_port_92, false, false, "port-92"),
    way!(by_port_cf9, false, false, "port-cf9"),
    way!(by_triple_fault, false, true, "triple-fault"),
];

/// CMOS bytes that are nobody's: whether this guest has written the other, which is the way that
/// it goes.
const MARK: u8 = 0x6e;
const WAY: u8 = 0x6f;
const MARKED: u8 = 0xa5;

/// Where the first processor says that it waits for its reset, and where the second counts on.
const WAITS: u64 = 0x7200;
const BEATS: u64 = 0x7204;

fn run() {
    let mut first = 0;
    if read_cmos(MARK) == MARKED {
        let gone = usize::from(read_cmos(WAY));
        if let Some(way) = WAYS.get(gone) {
            verify(way, true);
        }
        first = gone + 1;
    } else {
        set_up();
        check("the-second-starts", smp::start_others(1));
        a20();
    }
    for (number, way) in WAYS.iter().enumerate().skip(first) {
        if way.ends_bochs && cpu::is_emulator() && !cpu::is_qemu() {
            for case in [way.comes_back, way.second, way.starts] {
                skip(case, "Bochs by itself stops here");
            }
            continue;
        }
        write_cmos(WAY, number as u8);
        write_cmos(MARK, MARKED);
        Com1::drain();
        let comes_back = go(way);
        Com1::set_up();
        verify(way, comes_back);
    }
    write_cmos(MARK, 0);
}

fn set_up() {
    pic::set_up();
    smp::set_up(None);
}

fn read_cmos(index: u8) -> u8 {
    outb(0x70, index);
    inb(0x71)
}

fn write_cmos(index: u8, value: u8) {
    outb(0x70, index);
    outb(0x71, value);
}

fn a20() {
    const LOW: u64 = 0x7300;
    const HIGH: u64 = 0x10_0000 + LOW;
    const OPEN: u8 = 2;
    poke(LOW, 0x1111_u32);
    poke(HIGH, 0x2222_u32);
    let set = |open: u64| {
        outb(0x92, inb(0x92) & !(OPEN | 1) | open as u8);
        // The keyboard controller's gate is beside it: both must be closed.
        command(if open == 0 { 0xdd } else { 0xdf });
        1
    };
    let seen = |_| peek::<u32>(HIGH).into();
    let _ = smp::call(1, set, 0);
    let first = smp::until(|| peek::<u32>(HIGH) == 0x1111);
    let second = smp::call(1, seen, 0);
    let _ = smp::call(1, set, OPEN.into());
    let opened = smp::until(|| peek::<u32>(HIGH) == 0x2222);
    equal("a20-closed-for-the-first", first, true);
    equal("a20-closed-for-the-second", second, Some(0x1111));
    equal("a20-open-for-both", (opened, smp::call(1, seen, 0)), (true, Some(0x2222)));
}

/// A command to the keyboard controller.
fn command(value: u8) {
    while inb(0x64) & 2 != 0 {
        core::hint::spin_loop();
    }
    outb(0x64, value);
    while inb(0x64) & 2 != 0 {
        core::hint::spin_loop();
    }
}

/// The second processor: resets when the first waits for it, and counts on as long as it runs.
fn reset_and_beat(way: u64) -> u64 {
    while peek::<u32>(WAITS) == 0 {
        core::hint::spin_loop();
    }
    (WAYS[way as usize].reset)(0);
    loop {
        poke(BEATS, peek::<u32>(BEATS).wrapping_add(1));
        core::hint::spin_loop();
    }
}

fn by_init(_: u64) -> u64 {
    smp::send(0, smp::command::INIT | smp::command::ASSERT);
    1
}

fn by_keyboard_controller(_: u64) -> u64 {
    command(0xfe);
    1
}

fn by_port_92(_: u64) -> u64 {
    outb(0x92, inb(0x92) & !1);
    outb(0x92, inb(0x92) | 1);
    1
}

fn by_port_cf9(_: u64) -> u64 {
    outb(0xcf9, 2);
    outb(0xcf9, 6);
    1
}

fn by_triple_fault(_: u64) -> u64 {
    let empty = TablePointer { limit: 0, base: 0 };
    unsafe { core::arch::asm!("lidt [{}]", "int3", in(reg) &raw const empty) };
    1
}

conformance::assembly! {
    // ECX is zero if the reset does not come.
    fn wait_for_reset() {
        ".code32" "mov dword ptr [0x7200], 1" "mov ecx, 200000000"
        "2: pause" "dec ecx" "jnz 2b" "ret" ".code64"
    }
    #[unsafe(link_section = ".low.text")]
    fn resume() { ".code16" "jmp return_to_protected_mode" ".code64" }
}

/// True if the first processor was reset and the BIOS resumed.
fn go(way: &Way) -> bool {
    const SHUTDOWN_STATUS: u8 = 0x0f;
    const JUMP_WITHOUT_EOI: u8 = 0x0a;
    const JUMP_VECTOR: u64 = 0x467;
    poke(JUMP_VECTOR, legacy::address(resume));
    poke(WAITS, [0_u32; 2]);
    write_cmos(SHUTDOWN_STATUS, JUMP_WITHOUT_EOI);
    let number = WAYS.iter().position(|other| core::ptr::eq(other, way)).unwrap_or(0);
    smp::begin(1, reset_and_beat, number as u64);
    let mut registers = Registers { ecx: 1, ..Registers::default() };
    let outcome = call32(wait_for_reset, PROTECTED, &mut registers);
    outcome.is_ok() && registers.ecx != 0
}

/// Whether the second processor still counts.
fn beats() -> bool {
    let before: u32 = peek(BEATS);
    clock::wait(HZ / 20);
    peek::<u32>(BEATS) != before
}

fn verify(way: &Way, comes_back: bool) {
    check(way.comes_back, comes_back);
    set_up();
    let goes_on = match way.is_for_one {
        true => smp::until(beats),
        false => beats(),
    };
    equal(way.second, goes_on, way.is_for_one);
    // It starts with the ID that it had.
    let id = smp::start(1, smp::START_PAGE).then(|| smp::call(1, |_| apic::id().into(), 0));
    equal(way.starts, id.flatten(), Some(1));
}
