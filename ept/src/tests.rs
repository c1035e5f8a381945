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
const MEMORY: Attributes = Attributes::memory(Permissions::ALL);
const TRACKED: Attributes = Attributes { tracked: true, ..MEMORY };

fn tables(format: Format) -> (NestedTables, FakeMemory) {
    let mut memory = FakeMemory::default();
    let tables = NestedTables::new(format, PageSize::Size1G, &mut memory).unwrap();
    (tables, memory)
}

#[test]
fn the_largest_pages_are_used() {
    for format in [Format::Ept, Format::Npt] {
        let (mut tables, mut memory) = tables(format);
        let flush = tables.map(&mut memory, 0, 2 * GIB + 2 * MIB + 4096, 4 * GIB, MEMORY).unwrap();
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
    let rom = npt
        .map(&mut memory, 0, 4096, 0x5000, Attributes::memory(Permissions::READ_EXECUTE))
        .unwrap();
    assert!(!rom.is_needed());
    assert_eq!(
        memory.writes.last().unwrap().2,
        0x5065,
        "present, user, not writable, accessed, dirty"
    );
    assert_eq!(memory.writes[0].2 & 0xfff, 0x27, "a table: present, writable, user, accessed");
    let (mut ept, mut memory) = tables(Format::Ept);
    let permissions = Permissions { write: true, execute: false };
    let mmio = Attributes { permissions, caching: Caching::Uncached, tracked: false };
    let flush = ept.map(&mut memory, 0, 2 * MIB, 0, mmio).unwrap();
    assert!(!flush.is_needed());
    assert_eq!(
        memory.writes.last().unwrap().2,
        0x383,
        "read, write, uncached, large, accessed, dirty"
    );
    assert_eq!(memory.writes[0].2 & 0xfff, 0x107, "a table: read, write, execute, accessed");
}

#[test]
fn a_split_never_shows_a_hole() {
    let (mut tables, mut memory) = tables(Format::Npt);
    let first = tables.map(&mut memory, 0, GIB, 0, MEMORY).unwrap();
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
        let flush = tables.map(&mut memory, page * 4096, 4096, 0x9000, MEMORY).unwrap();
        assert!(!flush.is_needed());
    }
    assert_eq!(memory.tables.len(), 4);
    let flush = tables.map(&mut memory, 0, GIB, 0, MEMORY).unwrap();
    assert_eq!(memory.tables.len(), 4, "a CPU may still walk them");
    flush.flushed(&mut memory);
    assert_eq!(memory.tables.len(), 2);
    tables.free(&mut memory);
    assert!(memory.tables.is_empty());
}

/// Sets the dirty flag of a page as a processor does, which never clears others.
fn write_as_guest(tables: &NestedTables, memory: &mut FakeMemory, format: Format, gpa: u64) {
    let dirty = match format {
        Format::Ept => 1 << 9,
        Format::Npt => 1 << 6,
    };
    let table = tables.lowest_table(memory, gpa).unwrap();
    memory.tables.get_mut(&table).unwrap()[(gpa / 4096 % 512) as usize] |= dirty;
}

fn take_dirty(
    tables: &mut NestedTables,
    memory: &mut FakeMemory,
    gpa: u64,
    length: u64,
) -> (Vec<u64>, bool) {
    let mut written = Vec::new();
    let flush = tables.take_dirty(memory, gpa, length, |page| written.push(page));
    let is_needed = flush.is_needed();
    flush.flushed(memory);
    (written, is_needed)
}

#[test]
fn a_tracked_page_is_dirty_once_for_all_writes_since_it_was_last_taken() {
    for format in [Format::Ept, Format::Npt] {
        let (mut tables, mut memory) = tables(format);
        let base = GIB - 2 * MIB;
        let flush = tables.map(&mut memory, base, 4 * MIB, base, TRACKED).unwrap();
        assert!(!flush.is_needed());
        assert_eq!(tables.lookup(&memory, base).unwrap().size, PageSize::Size4K);
        assert_eq!(take_dirty(&mut tables, &mut memory, base, 4 * MIB), (Vec::new(), false));
        let pages = [base + 0x3000, GIB, GIB + 2 * MIB - 4096];
        for page in pages {
            write_as_guest(&tables, &mut memory, format, page);
        }
        memory.writes.clear();
        assert_eq!(take_dirty(&mut tables, &mut memory, base, 4 * MIB), (pages.to_vec(), true));
        assert_eq!(memory.writes.len(), pages.len(), "nothing else is written");
        assert_eq!(tables.lookup(&memory, GIB + 5).unwrap().hpa, GIB + 5);
        assert_eq!(take_dirty(&mut tables, &mut memory, base, 4 * MIB), (Vec::new(), false));
    }
}

#[test]
fn only_the_range_is_taken() {
    let (mut tables, mut memory) = tables(Format::Ept);
    let flush = tables.map(&mut memory, 0, 0x5000, 0, TRACKED).unwrap();
    flush.flushed(&mut memory);
    for page in 0..5 {
        write_as_guest(&tables, &mut memory, Format::Ept, page * 4096);
    }
    assert_eq!(take_dirty(&mut tables, &mut memory, 0x1000, 0x2000).0, [0x1000, 0x2000]);
    assert_eq!(take_dirty(&mut tables, &mut memory, 0, 0x5000).0, [0, 0x3000, 0x4000]);
}

#[test]
fn what_is_not_mapped_or_not_in_small_pages_is_passed_over() {
    let (mut tables, mut memory) = tables(Format::Npt);
    let flush = tables.map(&mut memory, 2 * MIB, 2 * MIB, 0, MEMORY).unwrap();
    flush.flushed(&mut memory);
    memory.writes.clear();
    assert_eq!(take_dirty(&mut tables, &mut memory, 0, 8 * MIB), (Vec::new(), false));
    assert!(memory.writes.is_empty());
}

#[test]
fn short_memory_is_an_error() {
    let (mut tables, mut memory) = tables(Format::Npt);
    memory.limit = Some(2);
    let result = tables.map(&mut memory, 0, 4096, 0, MEMORY);
    assert_eq!(result.unwrap_err(), OutOfMemory);
}

proptest! {
    /// The tables agree with a plain map of pages, whatever is mapped and unmapped in whatever
    /// order.
    #[test]
    fn agrees_with_a_model(
        steps in prop::collection::vec((0u64..1600, 1u64..1200, 0u64..4, any::<bool>()), 1..12)
    ) {
        let (mut tables, mut memory) = tables(Format::Npt);
        let mut model = BTreeMap::new();
        for (page, count, shift, unmap) in steps {
            let (gpa, length, hpa) = (page * 4096, count * 4096, (page + shift * 512) * 4096);
            let flush = if unmap {
                (page..page + count).for_each(|page| { model.remove(&page); });
                tables.unmap(&mut memory, gpa, length).unwrap()
            } else {
                (0..count).for_each(|i| { model.insert(page + i, hpa + i * 4096); });
                tables.map(&mut memory, gpa, length, hpa, MEMORY).unwrap()
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

/// Everything in the tables that are linked, and the spare ones.
fn snapshot(memory: &FakeMemory, spare: &[u64]) -> (BTreeMap<u64, [u64; 512]>, Vec<u64>) {
    let mut spare = spare.to_vec();
    spare.sort_unstable();
    (memory.tables.clone(), spare)
}

#[test]
fn a_covered_page_shows_another_and_nothing_around_it_changes_and_nothing_is_left() {
    for format in [Format::Ept, Format::Npt] {
        let (mut tables, mut memory) = tables(format);
        let flush = tables.map(&mut memory, 0, 2 * GIB, 4 * GIB, MEMORY).unwrap();
        flush.flushed(&mut memory);
        let flush = tables.map(&mut memory, 3 * GIB, 4096, 7 * GIB, MEMORY).unwrap();
        flush.flushed(&mut memory);
        let mut spare: Vec<u64> = (0..9).map(|_| memory.allocate().unwrap()).collect();
        let before = snapshot(&memory, &spare);
        // A page of a GiB, a page of 4 KiB, one beside that, and where there is nothing, twice in
        // one table.
        let places = [5 * MIB, 3 * GIB, 3 * GIB + 4096, 500 * GIB, 500 * GIB + 0x3000];
        let mut covers = Vec::new();
        for (page, gpa) in (0..).zip(places) {
            let hpa = 9 * GIB + page * 4096;
            let (cover, flush) = tables.cover(&mut memory, gpa, hpa, MEMORY, &mut spare).unwrap();
            assert_eq!(flush.is_needed(), gpa <= 3 * GIB, "{gpa:#x}");
            assert_eq!(tables.lookup(&memory, gpa + 5).unwrap().hpa, hpa + 5);
            covers.push(cover);
        }
        assert_eq!(tables.lookup(&memory, 5 * MIB + 4096).unwrap().hpa, 4 * GIB + 5 * MIB + 4096);
        assert_eq!(tables.lookup(&memory, GIB - 1).unwrap().hpa, 5 * GIB - 1);
        assert_eq!(tables.lookup(&memory, 500 * GIB + 4096), None);
        for cover in covers.into_iter().rev() {
            assert!(tables.uncover(&mut memory, cover, &mut spare).is_needed());
        }
        assert_eq!(snapshot(&memory, &spare), before);
    }
}

#[test]
fn a_page_that_lacks_tables_is_not_covered() {
    let (mut tables, mut memory) = tables(Format::Ept);
    let mut spare = Vec::from([memory.allocate().unwrap(), memory.allocate().unwrap()]);
    let before = snapshot(&memory, &spare);
    assert!(tables.cover(&mut memory, GIB, GIB, MEMORY, &mut spare).is_err());
    assert_eq!(snapshot(&memory, &spare), before);
}
