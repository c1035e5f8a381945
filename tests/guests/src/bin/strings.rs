//! String instructions on ports: directions, sizes, page faults and limits in the middle (Intel SDM
//! volume 2, INS and OUTS).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::cpu::{cr3, inb, inl, outb, outl, peek, poke, set_cr3};
use conformance::descriptors::{FREE, segment, set_descriptor};
use conformance::interrupts::{catch, gp, pf};
use conformance::legacy::{PROTECTED, Registers, call32};
use conformance::report::equal;

conformance::topic!(run);

/// The VGA's palette: reads and writes of the data port go through it, three bytes of six bits a
/// colour.
const PALETTE_READ: u16 = 0x3c7;
const PALETTE_WRITE: u16 = 0x3c8;
const PALETTE_DATA: u16 = 0x3c9;
/// PCI's configuration registers: a dword that does not change.
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;

const BUFFER: u64 = 0x0130_0000;
const SOURCE: u64 = 0x0130_8000;
/// Mapped to the buffer, and nothing behind it.
const EDGE: u64 = 0x6000_0000_0000;
const EDGE_TABLES: u64 = 0x0100_0000;
const PAGE_BYTES: u64 = 4096;

const COLOURS: u64 = 12;

conformance::assembly! {
    fn input() { ".code32" "mov es, ebx" "cld" "rep insb" "ret" ".code64" }
    fn output() { ".code32" "mov ds, ebx" "cld" "rep outsb" "mov bx, 0x10" "mov ds, bx" "ret" ".code64" }
    fn input_16() { ".code32" "cld" "addr16 rep insb" "ret" ".code64" }
}

fn fill_palette() {
    outb(PALETTE_WRITE, 0);
    for value in 0..COLOURS {
        outb(PALETTE_DATA, value as u8 + 1);
    }
    outb(PALETTE_READ, 0);
}

/// How many bytes of the palette have been read since it was filled.
fn palette_position() -> u8 {
    inb(PALETTE_DATA) - 1
}

fn bytes<const COUNT: usize>(address: u64) -> [u8; COUNT] {
    peek(address)
}

fn rep_insb(address: u64, count: u64) -> (u64, u64) {
    let (mut rdi, mut rcx) = (address, count);
    unsafe { asm!("cld", "rep insb", inout("rdi") rdi, inout("rcx") rcx, in("dx") PALETTE_DATA) };
    (rdi, rcx)
}

fn run() {
    input_forms();
    output_forms();
    wide();
    page_faults();
    limits();
}

fn input_forms() {
    fill_palette();
    poke(BUFFER, [0_u8; 16]);
    equal("rep-insb-registers", rep_insb(BUFFER + 1, 5), (BUFFER + 6, 0));
    equal("rep-insb-bytes", bytes(BUFFER), [0, 1, 2, 3, 4, 5, 0, 0]);
    equal("rep-insb-count-0", (rep_insb(BUFFER, 0), palette_position()), ((BUFFER, 0), 5));
    fill_palette();
    let (mut rdi, mut rcx) = (BUFFER + 4, 3_u64);
    unsafe {
        asm!("std", "rep insb", "cld", inout("rdi") rdi, inout("rcx") rcx, in("dx") PALETTE_DATA)
    };
    equal("insb-downwards", (rdi, rcx, bytes(BUFFER + 2)), (BUFFER + 1, 0, [3, 2, 1]));
    fill_palette();
    let mut rdi = BUFFER;
    unsafe { asm!("insb", inout("rdi") rdi, in("dx") PALETTE_DATA) };
    equal("insb-once", (rdi, peek::<u8>(BUFFER)), (BUFFER + 1, 1));
    // Many more than go through any buffer at once.
    let count = 3 * PAGE_BYTES + 7;
    outb(PALETTE_READ, 0);
    equal("rep-insb-many", rep_insb(BUFFER + 9, count), (BUFFER + 9 + count, 0));
    // With 32-bit addresses the upper halves are cleared.
    fill_palette();
    let (mut rdi, mut rcx) = (BUFFER | 1 << 40, 2 | 1_u64 << 40);
    unsafe {
        asm!("cld", "addr32 rep insb", inout("rdi") rdi, inout("rcx") rcx, in("dx") PALETTE_DATA)
    };
    equal("rep-insb-with-32-bit-addresses", (rdi, rcx, bytes(BUFFER)), (BUFFER + 2, 0, [1, 2]));
}

fn output_forms() {
    poke(SOURCE, [0x21_u8, 0x22, 0x23, 0x24, 0x25, 0x26]);
    outb(PALETTE_WRITE, 0);
    let (mut rsi, mut rcx) = (SOURCE, 6_u64);
    unsafe { asm!("cld", "rep outsb", inout("rsi") rsi, inout("rcx") rcx, in("dx") PALETTE_DATA) };
    outb(PALETTE_READ, 0);
    rep_insb(BUFFER, 6);
    equal(
        "rep-outsb",
        (rsi, rcx, bytes(BUFFER)),
        (SOURCE + 6, 0, [0x21, 0x22, 0x23, 0x24, 0x25, 0x26]),
    );
    outb(PALETTE_WRITE, 0);
    let (mut rsi, mut rcx) = (SOURCE + 2, 3_u64);
    unsafe {
        asm!("std", "rep outsb", "cld", inout("rsi") rsi, inout("rcx") rcx, in("dx") PALETTE_DATA)
    };
    outb(PALETTE_READ, 0);
    rep_insb(BUFFER, 3);
    equal(
        "outsb-downwards",
        (rsi.wrapping_add(1), rcx, bytes(BUFFER)),
        (SOURCE, 0, [0x23, 0x22, 0x21]),
    );
}

fn wide() {
    outl(PCI_ADDRESS, 0x8000_0000);
    let id = inl(PCI_DATA);
    let (mut rdi, mut rcx) = (BUFFER, 3_u64);
    unsafe { asm!("cld", "rep insd", inout("rdi") rdi, inout("rcx") rcx, in("dx") PCI_DATA) };
    equal("rep-insd", (rdi, rcx, peek::<[u32; 3]>(BUFFER)), (BUFFER + 12, 0, [id; 3]));
    let (mut rdi, mut rcx) = (BUFFER, 2_u64);
    unsafe { asm!("cld", "rep insw", inout("rdi") rdi, inout("rcx") rcx, in("dx") PCI_DATA + 2) };
    equal(
        "rep-insw",
        (rdi, rcx, peek::<[u16; 2]>(BUFFER)),
        (BUFFER + 4, 0, [(id >> 16) as u16; 2]),
    );
    poke(SOURCE, [0x8000_0000_u32, 0x8000_0008]);
    let (mut rsi, mut rcx) = (SOURCE, 2_u64);
    unsafe { asm!("cld", "rep outsd", inout("rsi") rsi, inout("rcx") rcx, in("dx") PCI_ADDRESS) };
    equal("rep-outsd", (rsi, rcx, inl(PCI_ADDRESS)), (SOURCE + 8, 0, 0x8000_0008));
}

/// Maps one page at the edge.
fn map_edge() {
    poke(EDGE_TABLES, [0_u64; 1536]);
    poke(cr3() + 8 * (EDGE >> 39 & 0x1ff), EDGE_TABLES | 3);
    poke(EDGE_TABLES, (EDGE_TABLES + PAGE_BYTES) | 3);
    poke(EDGE_TABLES + PAGE_BYTES, (EDGE_TABLES + 2 * PAGE_BYTES) | 3);
    poke(EDGE_TABLES + 2 * PAGE_BYTES, BUFFER | 3);
    set_cr3(cr3());
}

static LEFT: conformance::Global<(u64, u64)> = conformance::Global::new((0, 0));

fn page_faults() {
    map_edge();
    let end = EDGE + PAGE_BYTES;
    fill_palette();
    let handler = |frame: &mut conformance::interrupts::Frame| {
        LEFT.set((frame.rdi, frame.rcx));
        // The page is there now: the instruction goes on.
        poke(EDGE_TABLES + 2 * PAGE_BYTES + 8, (BUFFER + PAGE_BYTES) | 3);
    };
    conformance::interrupts::handle(14, Some(handler));
    let registers = rep_insb(end - 3, 8);
    conformance::interrupts::handle(14, None);
    equal("page-fault-in-the-middle-of-insb", LEFT.get(), (end, 5));
    equal("insb-goes-on-after-it", registers, (end + 5, 0));
    equal("insb-loses-nothing", bytes(BUFFER + PAGE_BYTES - 3), [1, 2, 3, 4, 5, 6, 7, 8]);
    map_edge();
    fill_palette();
    let fault = catch(|| unsafe { asm!("insb", in("rdi") end, in("dx") PALETTE_DATA) }).err();
    equal("insb-to-no-page", fault.map(|fault| (fault.event, fault.cr2)), Some((pf(2), end)));
    equal("insb-to-no-page-takes-nothing", palette_position(), 0);
    let fault = catch(|| unsafe { asm!("outsb", in("rsi") end, in("dx") 0x80) }).err();
    equal("outsb-from-no-page", fault.map(|fault| (fault.event, fault.cr2)), Some((pf(0), end)));
}

fn limits() {
    set_descriptor(FREE, segment(BUFFER as u32, 9, 0x93, 4));
    let mut registers = Registers {
        ebx: FREE.into(),
        ecx: 8,
        edx: PALETTE_DATA.into(),
        edi: 5,
        esi: 5,
        ..Registers::default()
    };
    fill_palette();
    let fault = call32(input, PROTECTED, &mut registers).err();
    let seen = fault.map(|fault| (fault.event, fault.registers.ecx, fault.registers.edi));
    equal("insb-beyond-the-limit", seen, Some((gp(0), 3, 10)));
    registers = Registers { ebx: FREE.into(), ecx: 8, edx: 0x80, esi: 5, ..Registers::default() };
    let fault = call32(output, PROTECTED, &mut registers).err();
    let seen = fault.map(|fault| (fault.event, fault.registers.ecx, fault.registers.esi));
    equal("outsb-beyond-the-limit", seen, Some((gp(0), 3, 10)));
    // 16-bit addresses: DI and CX alone count, and wrap. The first 64 KiB are the guest's own: few
    // bytes, below the program.
    registers = Registers {
        ecx: 0x1_0002,
        edx: PALETTE_DATA.into(),
        edi: 0xabcd_7100,
        ..Registers::default()
    };
    fill_palette();
    let outcome = call32(input_16, PROTECTED, &mut registers);
    let seen = (outcome.is_ok(), registers.ecx, registers.edi, peek::<[u8; 2]>(0x7100));
    equal("insb-with-16-bit-addresses", seen, (true, 0x1_0000, 0xabcd_7102, [1, 2]));
}
