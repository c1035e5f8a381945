//! Page tables: of 64-bit code, of 32-bit code without and with PAE.

use core::arch::asm;

use conformance::cpu::{self, peek, poke};
use conformance::interrupts::{Event, catch, pf};
use conformance::legacy::{Mode, PROTECTED, Registers, call32};
use conformance::report::{equal, runs, skip};

use crate::{at, copy};

const P: u64 = 1 << 0;
const W: u64 = 1 << 1;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const FLAGS: u64 = P | W | A | D;
const PAGE: u64 = 0x1000;

/// RAM that nothing else uses.
const FRAME: u64 = 0x0140_0000;
const SECOND_FRAME: u64 = FRAME + PAGE;
const THIRD_FRAME: u64 = FRAME + 2 * PAGE;
const LARGE_FRAME: u64 = 0x0180_0000;

/// The tables from the topmost to that of pages.
const PML4: u64 = at::TABLES;
const POINTERS: u64 = at::TABLES + PAGE;
const DIRECTORY: u64 = at::TABLES + 2 * PAGE;
const TABLE: u64 = at::TABLES + 3 * PAGE;

/// Where they map pages: what is in `map`.
const WINDOW: u64 = 2 << 39;
const READ_ONLY: u64 = WINDOW + 2 * PAGE;
const ABSENT: u64 = WINDOW + 3 * PAGE;
const DEVICE: u64 = WINDOW + 4 * PAGE;
const LARGE: u64 = WINDOW + (1 << 21);

/// The case is what the processor marks of the entries that it has used.
fn marked<const N: usize>(case: &str, got: [u64; N], want: [u64; N]) {
    match !cpu::is_qemu() {
        true => equal(case, got, want),
        false => skip(case, "this processor marks no entries there"),
    }
}

/// An entry that maps or leads to something, and is not marked yet. QEMU by itself marks entries in
/// RAM only.
fn fresh(entry: u64) -> u64 {
    if cpu::is_qemu() { entry | A | D } else { entry }
}

pub fn run() {
    four_levels();
    top_level();
    two_levels();
    pae();
}

fn clear(table: u64) {
    (0..PAGE / 8).for_each(|index| poke(table + 8 * index, 0_u64));
}

fn entry(table: u64, index: u64) -> u64 {
    table + 8 * index
}

/// The accessed and dirty bits of the entries for the first page.
fn marks() -> [u64; 3] {
    [entry(POINTERS, 0), entry(DIRECTORY, 0), entry(TABLE, 0)]
        .map(|entry| peek::<u64>(entry) & (A | D))
}

fn map() {
    [POINTERS, DIRECTORY, TABLE].into_iter().for_each(clear);
    poke(entry(POINTERS, 0), fresh(DIRECTORY | P | W));
    poke(entry(DIRECTORY, 0), fresh(TABLE | P | W));
    poke(entry(DIRECTORY, 1), fresh(LARGE_FRAME | P | W | PS));
    let pages = [FRAME | P | W, SECOND_FRAME | P | W, THIRD_FRAME | P, 0, at::DATA | P | W];
    for (index, page) in (0..).zip(pages).filter(|&(_, page)| page != 0) {
        poke(entry(TABLE, index), fresh(page));
    }
    cpu::set_cr3(cpu::cr3());
}

fn fault(body: impl FnOnce()) -> Option<(Event, u64)> {
    catch(body).err().map(|fault| (fault.event, fault.cr2))
}

/// Three levels of tables there.
fn four_levels() {
    map();
    poke(entry(conformance::page_tables(), 2), POINTERS | P | W);
    cpu::set_cr3(cpu::cr3());
    poke(FRAME, 0x1122_3344_u32);
    equal("page-read", peek::<u32>(WINDOW), 0x1122_3344);
    marked("page-read-marks-as-accessed", marks(), [A, A, A]);
    poke(WINDOW + 4, 0x5566_7788_u32);
    equal("page-write", peek::<u32>(FRAME + 4), 0x5566_7788);
    marked("page-write-marks-as-dirty", marks(), [A, A, A | D]);
    map();
    unsafe { asm!("lock add dword ptr [{}], 1", in(reg) WINDOW) };
    equal("page-read-and-write", peek::<u32>(FRAME), 0x1122_3345);
    marked("page-read-and-write-marks-as-dirty", marks(), [A, A, A | D]);
    map();
    // RET.
    poke(FRAME + 0x10, 0xc3_u8);
    runs("page-of-code", || unsafe { asm!("call {}", in(reg) WINDOW + 0x10) });
    marked("page-of-code-is-accessed", marks(), [A, A, A]);
    equal("page-absent", fault(|| poke(ABSENT + 8, 1_u8)), Some((pf(2), ABSENT + 8)));
    equal("page-read-only", fault(|| poke(READ_ONLY, 1_u8)), Some((pf(3), READ_ONLY)));
    marked("page-read-only-is-not-dirty", [peek::<u64>(entry(TABLE, 2)) & D], [0]);
    poke(FRAME + PAGE - 4, 0x0102_0304_u32);
    poke(FRAME + PAGE, 0x0506_0708_u32);
    equal("pages-crossed", peek::<u64>(WINDOW + PAGE - 4), 0x0506_0708_0102_0304);
    unsafe {
        asm!(
            "rep movsb", inout("rcx") 64_u64 => _, inout("rsi") WINDOW => _,
            inout("rdi") WINDOW + PAGE - 32 => _
        );
    }
    equal("pages-of-a-string", peek::<u64>(FRAME + PAGE - 32), peek::<u64>(FRAME));
    poke(DEVICE, 0x0bad_cafe_u32);
    equal(
        "page-of-the-device",
        (peek::<u32>(at::DATA), peek::<u32>(DEVICE)),
        (0x0bad_cafe, 0x0bad_cafe),
    );
    poke(LARGE + 0x1_2340, 0x600d_u32);
    equal("large-page", peek::<u32>(LARGE_FRAME + 0x1_2340), 0x600d);
    marked("large-page-is-dirty", [peek::<u64>(entry(DIRECTORY, 1)) & (A | D)], [A | D]);
    poke(FRAME + PAGE, 0x7777_u32);
    poke(entry(TABLE, 0), fresh(SECOND_FRAME | P | W));
    cpu::invlpg(WINDOW);
    equal("page-changed", peek::<u32>(WINDOW), 0x7777);
    poke(entry(conformance::page_tables(), 2), 0_u64);
    cpu::set_cr3(cpu::cr3());
}

/// The topmost table too, and so everything by its way.
fn top_level() {
    map();
    copy(conformance::page_tables(), PML4, PAGE);
    poke(PML4, fresh(peek::<u64>(PML4) & !A));
    poke(entry(PML4, 2), fresh(POINTERS | P | W));
    poke(FRAME, 0x1122_3344_u32);
    let value: u32;
    unsafe {
        asm!(
            "mov {home}, cr3", "mov cr3, {tables}", "mov {value:e}, [{at}]",
            "mov [{at} + 8], {value:e}", "mov cr3, {home}",
            home = out(reg) _, tables = in(reg) PML4, at = in(reg) WINDOW, value = out(reg) value
        );
    }
    equal("top-level", (value, peek::<u32>(FRAME + 8)), (0x1122_3344, 0x1122_3344));
    let marks_of = |index| peek::<u64>(entry(PML4, index)) & (A | D);
    marked("top-level-is-accessed", [marks_of(0), marks_of(2)], [A, A]);
    marked("top-level-of-a-dirty-page", marks(), [A, A, A | D]);
}

conformance::assembly! {
    fn reads_and_writes() { ".code32" "mov eax, [esi]" "mov [esi + 4], edi" "ret" ".code64" }
    fn reads() { ".code32" "mov eax, [esi]" "ret" ".code64" }
}

const ADDRESS: u32 = 0xc000_0000;
const PAGED: u32 = 0x8001_0031;

/// Reads and writes at [`ADDRESS`] by the tables at `cr3`; then what is read where nothing is
/// mapped.
fn legacy(cr3: u64, cr4: u32) -> (Option<u32>, u32, Option<(Event, u32)>) {
    poke(FRAME, [0x1122_3344_u32, 0]);
    let mode = Mode { cr0: PAGED, cr3: cr3 as u32, cr4: PROTECTED.cr4 | cr4 };
    let mut registers = Registers { esi: ADDRESS, edi: 0x5566_7788, ..Registers::default() };
    let outcome = call32(reads_and_writes, mode, &mut registers);
    let value = outcome.ok().map(|()| registers.eax);
    let mut registers = Registers { esi: ADDRESS + 0x5000, ..Registers::default() };
    let fault = call32(reads, mode, &mut registers).err().map(|fault| (fault.event, fault.cr2));
    (value, peek(FRAME + 4), fault)
}

const OUTCOME: (Option<u32>, u32, Option<(Event, u32)>) =
    (Some(0x1122_3344), 0x5566_7788, Some((pf(0), ADDRESS + 0x5000)));

fn two_levels() {
    const PSE: u32 = 1 << 4;
    [PML4, TABLE].into_iter().for_each(clear);
    let directory = PML4 + u64::from(ADDRESS >> 22) * 4;
    poke(PML4, fresh(P | W | PS) as u32);
    poke(directory, fresh(TABLE | P | W) as u32);
    poke(TABLE, fresh(FRAME | P | W) as u32);
    equal("two-levels", legacy(PML4, PSE), OUTCOME);
    let marks = [PML4, directory, TABLE].map(|entry| u64::from(peek::<u32>(entry)) & (A | D));
    marked("two-levels-are-marked", [marks[0] & A, marks[1], marks[2]], [A, A, A | D]);
}

fn pae() {
    const PAE: u32 = 1 << 5;
    [PML4, POINTERS, DIRECTORY, TABLE].into_iter().for_each(clear);
    // No processor marks these, but QEMU does.
    poke(entry(PML4, 3), fresh(DIRECTORY | P));
    poke(PML4, fresh(POINTERS | P));
    poke(POINTERS, fresh(P | W | PS));
    poke(DIRECTORY, fresh(TABLE | P | W));
    poke(TABLE, fresh(FRAME | P | W));
    equal("pae", legacy(PML4, PAE), OUTCOME);
    let marks = [POINTERS, DIRECTORY, TABLE].map(|entry| peek::<u64>(entry) & FLAGS);
    marked("pae-is-marked", [marks[0] & A, marks[1], marks[2]], [A, P | W | A, FLAGS]);
}
