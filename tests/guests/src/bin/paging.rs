//! Paging of four levels: faults and their error codes, accessed and dirty bits, large pages,
//! protections (Intel SDM volume 3, chapter 4).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::cpu::{self, cr0, cr3, cr4, has_feature, peek, poke, set_cr0, set_cr3, set_cr4};
use conformance::interrupts::{Event, Fault, catch, pf};
use conformance::report::{equal, skip};
use conformance::user;

conformance::topic!(run);

/// The address that is mapped in various ways, and the tables that map it: one of each level, in
/// otherwise unused memory.
const ADDRESS: u64 = 0x6000_0012_3000;
const TABLES: u64 = 0x0100_0000;
/// The memory that it is mapped to; the second megabyte of it for pages of 2 MiB.
const FRAME: u64 = 0x0120_0000;
const PAGE_BYTES: u64 = 4096;

const P: u64 = 1 << 0;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;

const WP: u64 = 1 << 16;
const SMEP: u64 = 1 << 20;
const SMAP: u64 = 1 << 21;
const AC: u64 = 1 << 18;

/// The levels: an entry of each leads to [`ADDRESS`].
const PML4: u64 = 4;
const PDPT: u64 = 3;
const DIRECTORY: u64 = 2;
const TABLE: u64 = 1;

fn entry(level: u64) -> u64 {
    let index = ADDRESS >> (12 + 9 * (level - 1)) & 0x1ff;
    match level {
        PML4 => cr3() + 8 * index,
        _ => TABLES + (level - 1) * PAGE_BYTES + 8 * index,
    }
}

/// Maps the address by entries with all rights, but for `flags` in the lowest.
fn map(flags: u64) {
    for level in [PML4, PDPT, DIRECTORY] {
        poke(entry(level), (TABLES + (level - 2) * PAGE_BYTES) | P | W | U);
    }
    poke(entry(TABLE), FRAME | flags);
    flush();
}

fn flush() {
    set_cr3(cr3());
}

/// Changes an entry, and forgets what was read from it before.
fn change(level: u64, change: impl FnOnce(u64) -> u64) {
    poke(entry(level), change(peek(entry(level))));
    flush();
}

conformance::assembly! {
    fn user_read() { "mov al, [rdi]" "int 0x82" }
    fn user_write() { "mov [rdi], al" "int 0x82" }
    fn user_jump() { "jmp rdi" }
}

fn read() -> Option<Fault> {
    catch(|| peek::<u8>(ADDRESS)).err()
}

fn write() -> Option<Fault> {
    catch(|| poke(ADDRESS, 1_u8)).err()
}

/// The page has a RET.
fn execute() -> Option<Fault> {
    poke(FRAME, 0xc3_u8);
    catch(|| unsafe { asm!("call {}", in(reg) ADDRESS) }).err()
}

fn in_user(code: extern "C" fn()) -> Option<Fault> {
    // INT 82h and, for jumps, UD2 show that nothing else happened.
    poke(FRAME, 0x82cd_u16);
    let fault = user::run(code, 0, ADDRESS);
    (fault.event != user::END).then_some(fault)
}

fn case(name: &str, fault: Option<Fault>, want: Option<Event>) {
    equal(name, fault.map(|fault| (fault.event, fault.cr2)), want.map(|event| (event, ADDRESS)));
}

fn run() {
    poke(TABLES, [0_u64; 2048]);
    not_present();
    protections();
    reserved_bits();
    accessed_and_dirty();
    large_pages();
    global_and_stale();
    supervisor_protections();
    crossing();
}

fn not_present() {
    map(0);
    case("read-not-present", read(), Some(pf(0)));
    case("write-not-present", write(), Some(pf(2)));
    case("execute-not-present", execute(), Some(pf(0x10)));
    case("user-read-not-present", in_user(user_read), Some(pf(4)));
    case("user-write-not-present", in_user(user_write), Some(pf(6)));
    case("user-execute-not-present", in_user(user_jump), Some(pf(0x14)));
    for (level, name) in [
        (DIRECTORY, "directory-not-present"),
        (PDPT, "pdpt-not-present"),
        (PML4, "pml4-not-present"),
    ] {
        map(P | W | U);
        change(level, |entry| entry & !P);
        case(name, write(), Some(pf(2)));
    }
}

fn protections() {
    map(P | W | U);
    case("read", read(), None);
    case("write", write(), None);
    case("execute", execute(), None);
    case("user-read", in_user(user_read), None);
    case("user-write", in_user(user_write), None);
    case("user-execute", in_user(user_jump), None);
    map(P | U);
    case("write-protected", write(), Some(pf(3)));
    case("user-write-protected", in_user(user_write), Some(pf(7)));
    set_cr0(cr0() & !WP);
    case("write-protected-without-wp", write(), None);
    case("user-write-protected-without-wp", in_user(user_write), Some(pf(7)));
    set_cr0(cr0() | WP);
    map(P | W);
    case("user-read-of-supervisor", in_user(user_read), Some(pf(5)));
    case("user-write-of-supervisor", in_user(user_write), Some(pf(7)));
    case("user-execute-of-supervisor", in_user(user_jump), Some(pf(0x15)));
    map(P | W | U | NX);
    case("read-no-execute", read(), None);
    case("execute-no-execute", execute(), Some(pf(0x11)));
    case("user-execute-no-execute", in_user(user_jump), Some(pf(0x15)));
    map(P | W | U);
    change(DIRECTORY, |entry| entry & !W);
    case("write-protected-by-the-directory", write(), Some(pf(3)));
    map(P | W | U);
    change(PML4, |entry| entry & !U);
    case("user-refused-by-the-top-level", in_user(user_read), Some(pf(5)));
    map(P | W | U);
    change(PDPT, |entry| entry | NX);
    case("no-execute-by-the-pdpt", execute(), Some(pf(0x11)));
}

fn reserved_bits() {
    let width = cpu::cpuid(0x8000_0008, 0)[0] & 0xff;
    for (level, name) in [
        (TABLE, "reserved-address-bit-in-the-table"),
        (DIRECTORY, "reserved-address-bit-in-the-directory"),
        (PDPT, "reserved-address-bit-in-the-pdpt"),
        (PML4, "reserved-address-bit-in-the-pml4"),
    ] {
        map(P | W | U);
        change(level, |entry| entry | 1 << 51);
        match width {
            52 => skip(name, "all address bits are there"),
            _ => case(name, read(), Some(pf(9))),
        }
    }
    map(P | W | U);
    change(PML4, |entry| entry | PS);
    case("large-page-in-the-pml4", read(), Some(pf(9)));
    map(P | W | U);
    change(DIRECTORY, |_| FRAME | P | W | U | PS | 1 << 13);
    case("reserved-bit-of-a-large-page", write(), Some(pf(0xb)));
    map(P | W | U | NX);
    let efer = cpu::rdmsr(cpu::EFER);
    cpu::wrmsr(cpu::EFER, efer & !(1 << 11));
    flush();
    let fault = read();
    cpu::wrmsr(cpu::EFER, efer);
    case("no-execute-is-reserved-without-nxe", fault, Some(pf(9)));
}

fn accessed_and_dirty() {
    map(P | W | U);
    let bits = |level| peek::<u64>(entry(level)) & (A | D);
    equal("untouched", (bits(TABLE), bits(DIRECTORY), bits(PDPT)), (0, 0, 0));
    read();
    equal("accessed-by-a-read", (bits(TABLE), bits(DIRECTORY), bits(PDPT)), (A, A, A));
    write();
    equal("dirty-by-a-write", (bits(TABLE), bits(DIRECTORY)), (A | D, A));
    map(P | W | U);
    execute();
    equal("accessed-by-execution", bits(TABLE), A);
    map(P | W | U);
    write();
    equal("dirty-by-the-first-write", bits(TABLE), A | D);
    map(P | U);
    write();
    equal("not-dirty-by-a-refused-write", bits(TABLE) & D, 0);
    map(P | W | U);
    change(DIRECTORY, |_| FRAME | P | W | U | PS);
    write();
    equal("large-page-dirty", bits(DIRECTORY), A | D);
    map(P | W | U);
    // A read-modify-write sets both at once.
    let _ = catch(|| unsafe { asm!("lock inc byte ptr [{}]", in(reg) ADDRESS) });
    equal("dirty-by-a-locked-change", bits(TABLE), A | D);
}

fn large_pages() {
    const PATTERN: u64 = 0x1122_3344_5566_7788;
    let offset = ADDRESS & 0x1f_ffff;
    map(P | W | U);
    poke(FRAME + offset, PATTERN);
    change(DIRECTORY, |_| FRAME | P | W | U | PS);
    equal("page-of-2-mib", catch(|| peek::<u64>(ADDRESS)).ok(), Some(PATTERN));
    if !has_feature(0x8000_0001, 3, 26) {
        return skip("page-of-1-gib", "no pages of 1 GiB");
    }
    map(P | W | U);
    poke(ADDRESS & 0x3fff_ffff, PATTERN);
    change(PDPT, |_| P | W | U | PS);
    equal("page-of-1-gib", catch(|| peek::<u64>(ADDRESS)).ok(), Some(PATTERN));
}

/// Translations that stay cached, and those that must not.
fn global_and_stale() {
    map(P | W | U);
    case("read-before-a-change", read(), None);
    poke(entry(TABLE), FRAME | P | U);
    cpu::invlpg(ADDRESS);
    case("invlpg-shows-the-change", write(), Some(pf(3)));
    poke(FRAME, 1_u8);
    poke(FRAME + PAGE_BYTES, 2_u8);
    map(P | W | U);
    let first = peek::<u8>(ADDRESS);
    poke(entry(TABLE), (FRAME + PAGE_BYTES) | P | W | U);
    flush();
    equal("cr3-shows-another-frame", (first, peek::<u8>(ADDRESS)), (1, 2));
    // Rights that grow need no flush: the fault looks again.
    map(P | U);
    read();
    poke(entry(TABLE), FRAME | P | W | U);
    case("more-rights-without-a-flush", write(), None);
    map(0);
    read();
    poke(entry(TABLE), FRAME | P | W | U);
    case("present-without-a-flush", read(), None);
}

fn supervisor_protections() {
    if has_feature(7, 1, 7) {
        without_user_pages_below(|| {
            map(P | W | U);
            set_cr4(cr4() | SMEP);
            case("smep", execute(), Some(pf(0x11)));
            case("smep-read", read(), None);
            set_cr4(cr4() & !SMEP);
        });
    } else {
        skip("smep", "no SMEP");
        skip("smep-read", "no SMEP");
    }
    if has_feature(7, 1, 20) {
        without_user_pages_below(|| {
            map(P | W | U);
            set_cr4(cr4() | SMAP);
            case("smap-read", read(), Some(pf(1)));
            case("smap-write", write(), Some(pf(3)));
            let outcome = catch(|| unsafe {
                asm!("pushfq", "or qword ptr [rsp], {AC}", "popfq", "mov al, [{}]", in(reg) ADDRESS, out("al") _, AC = const AC);
            });
            case("smap-with-ac", outcome.err(), None);
            set_cr4(cr4() & !SMAP);
        });
    } else {
        for name in ["smap-read", "smap-write", "smap-with-ac"] {
            skip(name, "no SMAP");
        }
    }
}

/// The guest's own pages are ring 3's too: not for `body`.
fn without_user_pages_below(body: impl FnOnce()) {
    let lowest = cr3() + PAGE_BYTES;
    for gib in 0..4 {
        poke(lowest + 8 * gib, peek::<u64>(lowest + 8 * gib) & !U);
    }
    flush();
    body();
    for gib in 0..4 {
        poke(lowest + 8 * gib, peek::<u64>(lowest + 8 * gib) | U);
    }
    flush();
}

/// An access across two pages, of which the second faults.
fn crossing() {
    map(P | W | U);
    poke(entry(TABLE) + 8, 0_u64);
    flush();
    let end = ADDRESS + PAGE_BYTES;
    let fault = catch(|| unsafe { asm!("mov eax, [{}]", in(reg) end - 2, out("eax") _) }).err();
    equal("crossing-read", fault.map(|fault| (fault.event, fault.cr2)), Some((pf(0), end)));
    poke(FRAME + PAGE_BYTES - 2, 0x1234_u16);
    let fault = catch(|| unsafe { asm!("mov [{}], eax", in(reg) end - 2, in("eax") 0) }).err();
    equal("crossing-write", fault.map(|fault| (fault.event, fault.cr2)), Some((pf(2), end)));
    equal("crossing-write-wrote-nothing", peek::<u16>(FRAME + PAGE_BYTES - 2), 0x1234);
    let fault = catch(|| unsafe { asm!("jmp {}", in(reg) end - 1) }).err();
    equal("crossing-execution", fault.map(|fault| (fault.event, fault.cr2)), Some((pf(0x10), end)));
}
