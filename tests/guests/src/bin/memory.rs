//! Code that changes itself, and the A20 gate.

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::cpu::{cr3, inb, outb, peek, poke, set_cr3};
use conformance::report::equal;

conformance::topic!(run);

const CODE: u64 = 0x0130_0000;
/// Mapped to the code.
const ALIAS: u64 = 0x6000_0000_0000;
const TABLES: u64 = 0x0100_0000;

/// Instructions: MOV EAX, imm32 and RET.
const MOV_EAX: u8 = 0xb8;
const RET: u8 = 0xc3;

fn write_code(address: u64, result: u32) {
    poke(address, MOV_EAX);
    poke(address + 1, result);
    poke(address + 5, RET);
}

fn call(address: u64) -> u32 {
    let result: u32;
    unsafe { asm!("call {}", in(reg) address, out("eax") result) };
    result
}

fn run() {
    self_modifying();
    a20();
}

fn self_modifying() {
    write_code(CODE, 1);
    equal("new-code", call(CODE), 1);
    write_code(CODE, 2);
    equal("changed-code", call(CODE), 2);
    let mut sum = 0;
    for number in 0..1000 {
        poke(CODE + 1, number);
        sum += call(CODE);
    }
    equal("changed-a-thousand-times", sum, 999 * 1000 / 2);
    // An instruction that changes the next one.
    let result: u32;
    unsafe {
        asm!(
            "lea {place}, [rip + 2f]", "mov byte ptr [{place} + 1], 7", "2: mov eax, 1",
            place = out(reg) _, out("eax") result
        );
    }
    equal("the-next-instruction", result, 7);
    // The tail of a repeated move changes itself.
    let result: u32;
    unsafe {
        asm!(
            "lea rdi, [rip + 3f]", "lea rsi, [rip + 2f]", "mov ecx, 5", "cld", "rep movsb", "jmp 3f", "2: mov eax, 9", "3: mov eax, 1",
            out("rdi") _, out("rsi") _, out("ecx") _, out("eax") result
        );
    }
    equal("by-a-repeated-move", result, 9);
    poke(TABLES, [0_u64; 1536]);
    poke(cr3() + 8 * (ALIAS >> 39 & 0x1ff), TABLES | 3);
    poke(TABLES, (TABLES + 0x1000) | 3);
    poke(TABLES + 0x1000, (TABLES + 0x2000) | 3);
    poke(TABLES + 0x2000, CODE | 3);
    set_cr3(cr3());
    write_code(CODE, 11);
    equal("code-at-an-alias", call(ALIAS), 11);
    write_code(CODE, 12);
    equal("changed-through-the-other-address", call(ALIAS), 12);
    write_code(ALIAS, 13);
    equal("changed-through-the-alias", call(CODE), 13);
    // Across two pages.
    write_code(CODE + 0x1000 - 3, 21);
    equal("across-pages", call(CODE + 0x1000 - 3), 21);
    poke(CODE + 0x1000, [0_u8, 0x55]);
    equal("across-pages-changed", call(CODE + 0x1000 - 3), 0x5500_0015);
}

fn a20() {
    const LOW: u64 = 0x6000;
    const HIGH: u64 = LOW + (1 << 20);
    let port = inb(0x92);
    poke(LOW, 0x1111_u16);
    poke(HIGH, 0x2222_u16);
    equal("a20-on", (peek::<u16>(LOW), peek::<u16>(HIGH)), (0x1111, 0x2222));
    outb(0x92, port & !3);
    let off = peek::<u16>(HIGH);
    poke(HIGH, 0x3333_u16);
    let low = peek::<u16>(LOW);
    let next = peek::<u16>(HIGH + (1 << 20));
    outb(0x92, port & !1 | 2);
    equal("a20-off-reads-below", off, 0x1111);
    equal("a20-off-writes-below", low, 0x3333);
    poke(HIGH + (1 << 20), 0x4444_u16);
    equal(
        "a20-on-again",
        (peek::<u16>(LOW), peek::<u16>(HIGH), peek::<u16>(HIGH + (1 << 20))),
        (0x3333, 0x2222, 0x4444),
    );
    // Even megabytes are themselves.
    outb(0x92, port & !3);
    let even = peek::<u16>(HIGH + (1 << 20));
    outb(0x92, port & !1 | 2);
    equal("a20-off-even-megabyte", (even, next != 0x3333), (0x4444, true));
}
