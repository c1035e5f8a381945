//! The tables over fake memory that remembers every write.

use crate::*;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use proptest::prelude::*;

#[derive(Default)]
struct FakeMemory {
    tables: BTreeMap<u64, [u64; 512]>,
    writes: Vec<(u64, usize, u64)>,
    next: u64,
    limit: Option<usize>,
}

impl TableMemory for FakeMemory {
    fn allocate(&mut self) -> Option<u64> {
        if self.limit.is_some_and(|limit| self.tables.len() >= limit) {
            return None;
        }
        self.next += 0x1000;
        self.tables.insert(self.next, [0; 512]);
        Some(self.next)
    }

    fn free(&mut self, table_hpa: u64) {
        self.tables.remove(&table_hpa).expect("freed twice");
    }

    fn read(&self, table_hpa: u64, index: usize) -> u64 {
        self.tables[&table_hpa][index]
    }

    fn write(&mut self, table_hpa: u64, index: usize, entry: u64) {
        self.writes.push((table_hpa, index, entry));
        self.tables.get_mut(&table_hpa).expect("written after free")[index] = entry;
    }
}

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn tables(format: Format) -> (NestedTables, FakeMemory) {
    let mut memory = FakeMemory::default();
    let tables = NestedTables::new(format, PageSize::Size1G, &mut memory).unwrap();
    (tables, memory)
}

#[test]
fn the_largest_pages_are_used() {
    for format in [Format::Ept, Format::Npt] {
        let (mut tables, mut memory) = tables(format);
        let flush = tables
            .map(&mut memory, 0, 2 * GIB + 2 * MIB + 4096, 4 * GIB, Permissions::ALL, Caching::WriteBack)
            .unwrap();
        assert!(!flush.is_needed(), "nothing was mapped before");
        let size = |gpa| tables.lookup(&memory, gpa).unwrap().size;
        assert_eq!(size(GIB + 5), PageSize::Size1G);
        assert_eq!(size(2 * GIB), PageSize::Size2M);
        assert_eq!(size(2 * GIB + 2 * MIB), PageSize::Size4K);
        assert_eq!(tables.lookup(&memory, 2 * GIB + 2 * MIB + 4096), None);
        assert_eq!(tables.lookup(&memory, GIB + 5).unwrap().hpa, 5 * GIB + 5);
    }
}

#[test]
fn entries_have_the_vendors_bits() {
    let (mut npt, mut memory) = tables(Format::Npt);
    let rom = npt.map(&mut memory, 0, 4096, 0x5000, Permissions::READ_EXECUTE, Caching::WriteBack).unwrap();
    assert!(!rom.is_needed());
    assert_eq!(memory.writes.last().unwrap().2, 0x5005, "present, user, not writable");
    let (mut ept, mut memory) = tables(Format::Ept);
    let mmio = Permissions { write: true, execute: false };
    let flush = ept.map(&mut memory, 0, 2 * MIB, 0, mmio, Caching::Uncached).unwrap();
    assert!(!flush.is_needed());
    assert_eq!(memory.writes.last().unwrap().2, 0x83, "read, write, uncached, large");
}

#[test]
fn a_split_never_shows_a_hole() {
    let (mut tables, mut memory) = tables(Format::Npt);
    let first = tables.map(&mut memory, 0, GIB, 0, Permissions::ALL, Caching::WriteBack).unwrap();
    first.flushed(&mut memory);
    memory.writes.clear();
    let flush = tables.unmap(&mut memory, 0xa0000, 0x20000).unwrap();
    assert!(flush.is_needed());
    // Both new tables are full before an upper entry points to them.
    let upper = memory.writes.iter().position(|&(table, ..)| table == 0x2000).unwrap();
    let mut filled = [0; 2];
    for &(table, _, entry) in &memory.writes[..upper] {
        assert_ne!(entry & 1, 0, "no hole on the way");
        filled[usize::from(table == 0x4000)] += 1;
    }
    assert_eq!(filled[0], 512);
    assert_eq!(tables.lookup(&memory, 0x9f000).unwrap().hpa, 0x9f000);
    assert_eq!(tables.lookup(&memory, 0xa0000), None);
    assert_eq!(tables.lookup(&memory, 0xc0000).unwrap().size, PageSize::Size4K);
    assert_eq!(tables.lookup(&memory, 512 * MIB).unwrap().size, PageSize::Size2M);
    flush.flushed(&mut memory);
}

#[test]
fn tables_are_freed_after_the_flush_and_not_before() {
    let (mut tables, mut memory) = tables(Format::Ept);
    for page in 0..3 {
        let flush =
            tables.map(&mut memory, page * 4096, 4096, 0x9000, Permissions::ALL, Caching::WriteBack).unwrap();
        assert!(!flush.is_needed());
    }
    assert_eq!(memory.tables.len(), 4);
    let flush = tables.map(&mut memory, 0, GIB, 0, Permissions::ALL, Caching::WriteBack).unwrap();
    assert_eq!(memory.tables.len(), 4, "a CPU may still walk them");
    flush.flushed(&mut memory);
    assert_eq!(memory.tables.len(), 2);
    tables.free(&mut memory);
    assert!(memory.tables.is_empty());
}

#[test]
fn short_memory_is_an_error() {
    let (mut tables, mut memory) = tables(Format::Npt);
    memory.limit = Some(2);
    let result = tables.map(&mut memory, 0, 4096, 0, Permissions::ALL, Caching::WriteBack);
    assert_eq!(result.unwrap_err(), OutOfMemory);
}

proptest! {
    /// The tables agree with a plain map of pages, whatever is mapped and unmapped in whatever order.
    #[test]
    fn agrees_with_a_model(steps in prop::collection::vec((0u64..1600, 1u64..1200, 0u64..4, any::<bool>()), 1..12)) {
        let (mut tables, mut memory) = tables(Format::Npt);
        let mut model = BTreeMap::new();
        for (page, count, shift, unmap) in steps {
            let (gpa, length, hpa) = (page * 4096, count * 4096, (page + shift * 512) * 4096);
            let flush = if unmap {
                (page..page + count).for_each(|page| { model.remove(&page); });
                tables.unmap(&mut memory, gpa, length).unwrap()
            } else {
                (0..count).for_each(|i| { model.insert(page + i, hpa + i * 4096); });
                tables.map(&mut memory, gpa, length, hpa, Permissions::ALL, Caching::WriteBack).unwrap()
            };
            flush.flushed(&mut memory);
        }
        for page in 0..2900 {
            let found = tables.lookup(&memory, page * 4096).map(|mapping| mapping.hpa);
            prop_assert_eq!(found, model.get(&page).copied());
        }
        tables.free(&mut memory);
        prop_assert!(memory.tables.is_empty());
    }
}
