//! Paging of 32-bit mode: two levels with pages of 4 MiB, and PAE (Intel SDM volume 3, sections 4.3
//! and 4.4).

#![no_std]
#![no_main]

use conformance::cpu::{has_feature, peek, poke};
use conformance::interrupts::{Event, pf};
use conformance::legacy::{Mode, Registers, call32};
use conformance::report::{check, equal, skip};

conformance::topic!(run);

/// Tables and the frame that is mapped, in otherwise unused memory.
const TABLES: u32 = 0x0100_0000;
const FRAME: u32 = 0x0140_0000;
/// Where it is mapped to.
const ADDRESS: u32 = 0xc012_3000;
const PATTERN: u32 = 0x600d_cafe;

const P: u32 = 1 << 0;
const W: u32 = 1 << 1;
const A: u32 = 1 << 5;
const D: u32 = 1 << 6;
const PS: u32 = 1 << 7;

const PAGED: u32 = 0x8001_0031;
const PAGED_WITHOUT_WP: u32 = 0x8000_0031;
const PSE: u32 = 1 << 4;
const PAE: u32 = 1 << 5;

conformance::assembly! {
    fn read() { ".code32" "mov eax, [esi]" "ret" ".code64" }
    fn write() { ".code32" "mov [esi], eax" "ret" ".code64" }
    fn execute() { ".code32" "call esi" "ret" ".code64" }
}

fn call(code: extern "C" fn(), mode: Mode, address: u32) -> Result<u32, (Event, u32)> {
    let mut registers = Registers { eax: PATTERN, esi: address, ..Registers::default() };
    match call32(code, mode, &mut registers) {
        Ok(()) => Ok(registers.eax),
        Err(fault) => Err((fault.event, fault.cr2)),
    }
}

fn entry(address: u32, value: u32) {
    poke(u64::from(address), value);
}

fn wide_entry(address: u32, value: u64) {
    poke(u64::from(address), value);
}

fn run() {
    two_levels();
    pae();
}

fn two_levels() {
    let mode = Mode { cr0: PAGED, cr3: TABLES, cr4: 0x600 | PSE };
    let (low, high) = (TABLES + 0x1000, TABLES + 0x2000);
    poke(u64::from(TABLES), [0_u32; 3 * 1024]);
    // The guest itself: the first 4 MiB.
    for page in 0..1024 {
        entry(low + 4 * page, page << 12 | P | W);
    }
    let directory = |value: u32| entry(TABLES + (ADDRESS >> 22) * 4, value);
    let table = |value: u32| entry(high + (ADDRESS >> 12 & 0x3ff) * 4, value);
    entry(TABLES, low | P | W);
    directory(high | P | W);
    table(FRAME | P | W);
    poke(u64::from(FRAME), 0x1234_5678_u32);
    equal("two-levels-read", call(read, mode, ADDRESS), Ok(0x1234_5678));
    equal(
        "two-levels-accessed",
        peek::<u32>(u64::from(high + (ADDRESS >> 12 & 0x3ff) * 4)) & (A | D),
        A,
    );
    equal(
        "two-levels-write",
        call(write, mode, ADDRESS).map(|_| peek(u64::from(FRAME))),
        Ok(PATTERN),
    );
    equal(
        "two-levels-dirty",
        peek::<u32>(u64::from(high + (ADDRESS >> 12 & 0x3ff) * 4)) & (A | D),
        A | D,
    );
    table(FRAME | P);
    equal("two-levels-write-protected", call(write, mode, ADDRESS), Err((pf(3), ADDRESS)));
    let without_wp = Mode { cr0: PAGED_WITHOUT_WP, ..mode };
    equal("two-levels-write-protected-without-wp", call(write, without_wp, ADDRESS), Ok(PATTERN));
    table(0);
    equal("two-levels-not-present", call(read, mode, ADDRESS), Err((pf(0), ADDRESS)));
    equal("two-levels-execute-not-present", call(execute, mode, ADDRESS), Err((pf(0), ADDRESS)));
    directory(FRAME & 0xffc0_0000 | P | W | PS);
    let within = u64::from(FRAME & 0xffc0_0000 | ADDRESS & 0x3f_ffff);
    poke(within, 0x4444_4444_u32);
    equal("page-of-4-mib", call(read, mode, ADDRESS), Ok(0x4444_4444));
    directory(FRAME & 0xffc0_0000 | P | W | PS | 1 << 21);
    equal("page-of-4-mib-reserved-bit", call(read, mode, ADDRESS), Err((pf(9), ADDRESS)));
    // Without PSE the bit does not count: the entry names a table.
    directory(high | P | W | PS);
    table(FRAME | P | W);
    let without_pse = Mode { cr4: 0x600, ..mode };
    equal("without-pse-a-table", call(read, without_pse, ADDRESS), Ok(PATTERN));
    if !has_feature(1, 3, 17) {
        return skip("pse-36", "no PSE-36");
    }
    // The frame's bits 39 to 32 stand in bits 20 to 13: beyond 4 GiB, where there is no memory.
    const BELOW: u32 = 0x3636_3636;
    poke(u64::from(ADDRESS & 0x3f_ffff), BELOW);
    directory(P | W | PS | 1 << 13);
    check("pse-36", call(read, mode, ADDRESS).is_ok_and(|value| value != BELOW));
}

fn pae() {
    let mode = Mode { cr0: PAGED, cr3: TABLES, cr4: 0x600 | PAE };
    poke(u64::from(TABLES), [0_u64; 2048]);
    let (low, high, table) = (TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x3000);
    wide_entry(TABLES, u64::from(low | P));
    wide_entry(low, u64::from(P | W | PS));
    wide_entry(TABLES + 8 * (ADDRESS >> 30), u64::from(high | P));
    let directory = high + (ADDRESS >> 21 & 0x1ff) * 8;
    let page = table + (ADDRESS >> 12 & 0x1ff) * 8;
    wide_entry(directory, u64::from(table | P | W));
    wide_entry(page, u64::from(FRAME | P | W));
    poke(u64::from(FRAME), 0xc3c3_c3c3_u32);
    equal("pae-read", call(read, mode, ADDRESS), Ok(0xc3c3_c3c3));
    equal("pae-execute", call(execute, mode, ADDRESS), Ok(PATTERN));
    equal("pae-write", call(write, mode, ADDRESS).map(|_| peek(u64::from(FRAME))), Ok(PATTERN));
    equal("pae-dirty", peek::<u32>(u64::from(page)) & (A | D), A | D);
    wide_entry(page, u64::from(FRAME | P) | 1 << 63);
    equal("pae-no-execute", call(execute, mode, ADDRESS), Err((pf(0x11), ADDRESS)));
    equal("pae-write-protected", call(write, mode, ADDRESS), Err((pf(3), ADDRESS)));
    wide_entry(page, u64::from(FRAME | P | W) | 1 << 62);
    equal("pae-reserved-bit", call(read, mode, ADDRESS), Err((pf(9), ADDRESS)));
    wide_entry(page, 0);
    equal("pae-not-present", call(write, mode, ADDRESS), Err((pf(2), ADDRESS)));
    wide_entry(directory, u64::from(FRAME & 0xffe0_0000 | P | W | PS));
    poke(u64::from(FRAME & 0xffe0_0000 | ADDRESS & 0x1f_ffff), 0x2222_2222_u32);
    equal("pae-page-of-2-mib", call(read, mode, ADDRESS), Ok(0x2222_2222));
    wide_entry(TABLES + 8 * (ADDRESS >> 30), 0);
    equal("pae-pointer-not-present", call(read, mode, ADDRESS), Err((pf(0), ADDRESS)));
}
