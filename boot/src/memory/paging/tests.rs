use super::*;
use std::boxed::Box;

const MIB: u64 = 1 << 20;

#[repr(align(4096))]
struct Frame(Table);

/// Tables in the test's own memory, where virtual = physical too, and how many frames they took.
struct Bench {
    tables: PageTables,
    taken: usize,
}

/// A frame that is never given back.
fn leak_frame() -> Option<u64> {
    let frame = Box::leak(Box::new(Frame([0; ENTRIES])));
    Some(frame.0.as_mut_ptr() as u64)
}

impl Bench {
    fn new() -> Self {
        let tables = PageTables::new(false, &mut leak_frame).unwrap();
        Self { tables, taken: 1 }
    }

    fn map(&mut self, range: Range<u64>, mapping: Mapping) {
        let taken = &mut self.taken;
        let mut take = || {
            *taken += 1;
            leak_frame()
        };
        self.tables.map(range, mapping, &mut take).unwrap();
    }
}

#[test]
fn what_is_mapped_whole_takes_no_tables_when_its_parts_are_used() {
    const MEMORY: Range<u64> = 0xfd00_0000..0xfd00_0000 + 16 * MIB;
    let mut bench = Bench::new();
    bench.map(MEMORY, Mapping::FRAMEBUFFER);
    assert_eq!(bench.taken, 3, "pages of 2 MiB");
    for bytes in [1, 0x1000, 2 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB] {
        bench.map(MEMORY.start..MEMORY.start + bytes, Mapping::FRAMEBUFFER);
    }
    assert_eq!(bench.taken, 3);
    assert!(bench.tables.is_mapped(MEMORY, Mapping::PRESENT));
    assert!(!bench.tables.is_mapped(MEMORY.start - 1..MEMORY.end, Mapping::PRESENT));
    assert!(!bench.tables.is_mapped(MEMORY.start..MEMORY.end + 1, Mapping::PRESENT));
}

#[test]
fn what_is_mapped_already_stays_as_it_is() {
    let mut bench = Bench::new();
    bench.map(0x20_1000..0x20_2000, Mapping::DEVICE);
    bench.map(0..4 * MIB, Mapping::RAM);
    assert_eq!(bench.taken, 4, "one table of small pages");
    assert!(bench.tables.is_mapped(0..4 * MIB, Mapping::PRESENT));
    assert!(bench.tables.is_mapped(0x20_1000..0x20_2000, Mapping::DEVICE));
    assert!(!bench.tables.is_mapped(0x20_1000..0x20_2001, Mapping::DEVICE), "RAM is no device");
    let mut table = bench.tables.root();
    for level in (1..4).rev() {
        table = *entry(table, 0x20_1000, level) & ADDRESS_MASK;
    }
    assert_eq!(*entry(table, 0x20_1000, 0), 0x20_1000 | Mapping::DEVICE.bits());
    assert_eq!(*entry(table, 0x20_2000, 0), 0x20_2000 | Mapping::RAM.bits());
}

#[test]
fn a_page_is_taken_out_of_a_large_one() {
    let mut bench = Bench::new();
    bench.map(0..2 * MIB, Mapping::RAM);
    bench.tables.unmap_page(0x5000, &mut leak_frame).unwrap();
    assert!(
        bench.tables.is_mapped(0..0x5000, Mapping::PRESENT)
            && bench.tables.is_mapped(0x6000..2 * MIB, Mapping::PRESENT)
    );
    assert!(!bench.tables.is_mapped(0x5000..0x5001, Mapping::PRESENT));
}

/// SMEP and SMAP keep the hypervisor out of user pages: it has none, whatever is mapped or split.
#[test]
fn no_page_is_a_users() {
    const USER: u64 = 1 << 2;
    fn has_user_pages(table: u64, level: u32) -> bool {
        (0..ENTRIES as u64).any(|index| {
            let entry = *entry(table, index << (12 + 9 * level), level);
            let leads_on = entry != 0 && level > 0 && entry & Mapping::LARGE.bits() == 0;
            entry & USER != 0 || leads_on && has_user_pages(entry & ADDRESS_MASK, level - 1)
        })
    }
    let mut bench = Bench::new();
    let kinds = [Mapping::CODE, Mapping::CONSTANTS, Mapping::DEVICE, Mapping::FRAMEBUFFER];
    for (kind, start) in kinds.into_iter().zip((0..).step_by(MIB as usize)) {
        bench.map(start..start + 0x3000, kind);
    }
    bench.map(0..64 * MIB, Mapping::RAM);
    bench.tables.unmap_page(40 * MIB, &mut leak_frame).unwrap();
    assert!(!has_user_pages(bench.tables.root(), 3));
}
