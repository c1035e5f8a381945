//! From the BIOS to [`topic_main`](crate::topic): A20, protected mode, long mode.

use core::arch::global_asm;

use crate::global::Global;

const PAGE_SIZE: usize = 4096;
const STACK_SIZE: usize = 32 << 10;

#[repr(C, align(4096))]
pub(crate) struct Aligned<T>(T);

/// One table of the top level, one of the next, four with 2 MiB pages: 4 GiB mapped to themselves,
/// for ring 3 too.
pub(crate) static PAGE_TABLES: Global<Aligned<[[u64; PAGE_SIZE / 8]; 6]>> =
    Global::new(Aligned([[0; PAGE_SIZE / 8]; 6]));
static STACK: Global<Aligned<[u8; STACK_SIZE]>> = Global::new(Aligned([0; STACK_SIZE]));

/// The page tables that the guest starts with: the value of CR3.
pub fn page_tables() -> u64 {
    PAGE_TABLES.address() as u64
}

global_asm!(
    include_str!("boot.s"),
    gdt_pointer = sym crate::descriptors::GDT_POINTER,
    page_tables = sym PAGE_TABLES,
    stack = sym STACK,
    STACK_SIZE = const STACK_SIZE,
);
