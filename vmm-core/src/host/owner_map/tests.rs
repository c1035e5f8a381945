use super::*;

const FRAME: u64 = 2 << 20;
const TABLE: u64 = 0x1000;
const LOWER: u64 = 0x2000;
const RAM: u64 = FRAME;
const OTHERS_RAM: u64 = 2 * FRAME;
const OWN: u64 = 3 * FRAME;
const ROM: u64 = 4 * FRAME;

/// Two guests with RAM each, tables of the first, the hypervisor's own memory, and a shared ROM.
fn map() -> (OwnerMap, GuestId, GuestId) {
    let map = OwnerMap::new();
    let (guest, other) = (GuestId::next(), GuestId::next());
    for table in [TABLE, LOWER] {
        map.hand_out(table, TABLE_BYTES, Owner::Tables(guest)).unwrap();
    }
    let frames = [
        (RAM, Owner::Guest(guest)),
        (OTHERS_RAM, Owner::Guest(other)),
        (OWN, Owner::Hypervisor),
        (ROM, Owner::Shared),
    ];
    for (hpa, owner) in frames {
        map.hand_out(hpa, FRAME, owner).unwrap();
    }
    (map, guest, other)
}

fn page(hpa: u64, write: bool) -> PointsTo {
    PointsTo::Page { hpa, bytes: 4096, write }
}

#[test]
fn a_guest_reaches_its_own_memory_and_reads_what_is_shared() {
    let (map, ..) = map();
    map.set_entry(LOWER, 0, page(RAM + 0x5000, true)).unwrap();
    map.set_entry(LOWER, 1, page(ROM, false)).unwrap();
    map.set_entry(TABLE, 0, PointsTo::Table { hpa: LOWER }).unwrap();
    map.set_entry(TABLE, 1, PointsTo::Page { hpa: RAM, bytes: FRAME, write: true }).unwrap();
}

#[test]
fn a_frame_of_two_owners_is_found_where_it_is_mapped() {
    let (map, guest, other) = map();
    let foreign = |hpa, of| Err(Violation::Foreign { guest, hpa, of });
    let cases = [
        (page(OTHERS_RAM, false), OTHERS_RAM, Some(Owner::Guest(other))),
        (page(OWN, false), OWN, Some(Owner::Hypervisor)),
        (page(ROM, true), ROM, Some(Owner::Shared)),
        // A guest that reached its tables would reach everything.
        (page(LOWER, true), LOWER, Some(Owner::Tables(guest))),
        (page(9 * FRAME, true), 9 * FRAME, None),
        (PointsTo::Page { hpa: RAM, bytes: 2 * FRAME, write: true }, RAM, None),
        (PointsTo::Table { hpa: RAM }, RAM, Some(Owner::Guest(guest))),
    ];
    for (to, hpa, of) in cases {
        assert_eq!(map.set_entry(TABLE, 7, to), foreign(hpa, of), "{to:?}");
    }
    let not_a_table = Err(Violation::NotATable { table_hpa: RAM });
    assert_eq!(map.set_entry(RAM, 0, PointsTo::Nothing), not_a_table);
}

#[test]
fn a_frame_of_two_owners_is_found_where_it_is_handed_out() {
    let (map, guest, _) = map();
    let twice = |hpa, of| Err(Violation::HandedOutTwice { hpa, to: Owner::Hypervisor, of });
    let hand_out = |hpa, bytes| map.hand_out(hpa, bytes, Owner::Hypervisor);
    assert_eq!(hand_out(RAM + 0x3000, 4096), twice(RAM + 0x3000, Owner::Guest(guest)));
    assert_eq!(hand_out(0, FRAME), twice(0, Owner::Tables(guest)));
    map.keep(8 * FRAME..9 * FRAME).unwrap();
    map.keep(9 * FRAME..10 * FRAME).unwrap();
    assert_eq!(hand_out(9 * FRAME, 4096), twice(9 * FRAME, Owner::Hypervisor));
    assert_eq!(hand_out(10 * FRAME, 4096), Ok(()));
}

#[test]
fn a_frame_that_is_freed_while_it_is_mapped_is_found() {
    let (map, guest, _) = map();
    let still = |hpa, of, entries| Err(Violation::StillMapped { hpa, of, entries });
    map.set_entry(LOWER, 3, page(RAM, true)).unwrap();
    map.set_entry(LOWER, 4, page(RAM + 0x1000, true)).unwrap();
    map.set_entry(TABLE, 0, PointsTo::Table { hpa: LOWER }).unwrap();
    assert_eq!(map.take_back(RAM, FRAME), still(RAM, Owner::Guest(guest), 2));
    assert_eq!(map.take_back(LOWER, 4096), still(LOWER, Owner::Tables(guest), 1));
    map.set_entry(LOWER, 3, PointsTo::Nothing).unwrap();
    map.set_entry(LOWER, 4, page(ROM, false)).unwrap();
    assert_eq!(map.take_back(RAM, FRAME), Ok(()));
    assert_eq!(map.take_back(RAM, FRAME), Err(Violation::NotHandedOut { hpa: RAM }));
    assert_eq!(map.take_back(OWN, 4096), Err(Violation::NotHandedOut { hpa: OWN }));
    map.retire(TABLE);
    map.retire(LOWER);
    assert_eq!(map.take_back(LOWER, 4096), Ok(()));
    assert_eq!(map.take_back(ROM, FRAME), Ok(()));
}

#[test]
fn the_parts_of_a_frame_go_back_one_by_one_when_no_entry_shows_them() {
    let (map, guest, _) = map();
    map.set_entry(LOWER, 3, page(RAM + 0x3000, true)).unwrap();
    map.set_entry(LOWER, 4, page(RAM + 0x4000, true)).unwrap();
    assert_eq!(map.split(RAM, FRAME), Ok(()));
    assert_eq!(map.split(RAM, FRAME), Err(Violation::NotHandedOut { hpa: RAM }));
    let still = Violation::StillMapped { hpa: RAM + 0x3000, of: Owner::Guest(guest), entries: 1 };
    assert_eq!(map.take_back(RAM + 0x3000, 4096), Err(still));
    map.set_entry(LOWER, 3, PointsTo::Nothing).unwrap();
    assert_eq!(map.take_back(RAM + 0x3000, 4096), Ok(()));
    assert_eq!(map.take_back(RAM + 0x5000, 4096), Ok(()));
    let foreign = Violation::Foreign { guest, hpa: RAM + 0x3000, of: None };
    assert_eq!(map.set_entry(LOWER, 3, page(RAM + 0x3000, true)), Err(foreign));
    map.hand_out(RAM + 0x3000, 4096, Owner::Hypervisor).unwrap();
}

#[test]
fn a_frame_is_not_split_under_an_entry_that_shows_all_of_it() {
    let (map, guest, _) = map();
    map.set_entry(TABLE, 1, PointsTo::Page { hpa: RAM, bytes: FRAME, write: true }).unwrap();
    let still = Violation::StillMapped { hpa: RAM, of: Owner::Guest(guest), entries: 1 };
    assert_eq!(map.split(RAM, FRAME), Err(still));
}
