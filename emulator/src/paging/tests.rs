use super::*;
use devices::memory::TestMemory;
use proptest::prelude::*;
use std::sync::Arc;

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const NX: u64 = 1 << 63;

/// Page tables at fixed places: level n has its table at n * 0x1000.
struct Guest {
    memory: Arc<TestMemory>,
    state: PagingState,
}

const READ: AccessKind = AccessKind::Read;
const WRITE: AccessKind = AccessKind::Write;
const EXECUTE: AccessKind = AccessKind::Execute;
const LINEAR: u64 = 0x0000_7654_3210_0abc;
const LINEAR_32: u64 = 0x8765_4abc;

impl Guest {
    fn new(cr4: Cr4, efer: Efer) -> Self {
        let state = PagingState {
            cr0: Cr0::new().with_protection(true).with_paging(true).with_write_protect(true),
            cr3: 0,
            cr4,
            efer,
            alignment_check: false,
            pkru: 0,
            physical_address_bits: 40,
        };
        Self { memory: TestMemory::new(0x10000), state }
    }

    fn put_u64(&self, gpa: u64, value: u64) {
        GuestMemory::write(&*self.memory, gpa, &value.to_le_bytes()).unwrap();
    }

    fn get_u64(&self, gpa: u64) -> u64 {
        self.memory.read_u64(gpa).unwrap()
    }

    /// 4 or 5 levels that lead to `leaf` at `leaf_level` (1: 4 KiB); upper entries are `upper`.
    fn long(la57: bool, upper: u64, leaf: u64, leaf_level: u64) -> Self {
        let efer = Efer::new()
            .with_long_mode_enable(true)
            .with_long_mode_active(true)
            .with_no_execute(true);
        let mut guest = Self::new(Cr4::new().with_pae(true).with_la57(la57), efer);
        let levels = if la57 { 5 } else { 4 };
        guest.state.cr3 = (levels << 12) | 0x18;
        for level in leaf_level..=levels {
            let entry = if level == leaf_level { leaf } else { ((level - 1) << 12) | upper };
            guest.put_u64(Self::entry_gpa(level), entry);
        }
        guest
    }

    /// PAE: pointers at 0x3020.
    fn pae(pointer: u64, leaf: u64, leaf_level: u64) -> Self {
        let mut guest = Self::new(Cr4::new().with_pae(true), Efer::new().with_no_execute(true));
        guest.state.cr3 = 0x3020;
        guest.put_u64(0x3020 + (LINEAR_32 >> 30) * 8, pointer);
        guest.put_u64(
            0x2000 + ((LINEAR_32 >> 21) & 0x1ff) * 8,
            if leaf_level == 2 { leaf } else { 0x1000 | P | W | U },
        );
        if leaf_level == 1 {
            guest.put_u64(0x1000 + ((LINEAR_32 >> 12) & 0x1ff) * 8, leaf);
        }
        guest
    }

    fn legacy(directory_entry: u64, page_entry: u64) -> Self {
        let mut guest = Self::new(Cr4::new().with_pse(true), Efer::new());
        guest.state.cr3 = 0x2000;
        let bytes = |value: u64| (value as u32).to_le_bytes();
        GuestMemory::write(&*guest.memory, 0x2000 + (LINEAR_32 >> 22) * 4, &bytes(directory_entry))
            .unwrap();
        GuestMemory::write(
            &*guest.memory,
            0x1000 + ((LINEAR_32 >> 12) & 0x3ff) * 4,
            &bytes(page_entry),
        )
        .unwrap();
        guest
    }

    fn entry_gpa(level: u64) -> u64 {
        (level << 12) + ((LINEAR >> (12 + 9 * (level - 1))) & 0x1ff) * 8
    }

    fn translate(
        &self,
        linear: u64,
        kind: AccessKind,
        privilege: Privilege,
    ) -> Result<Translation, Fault> {
        self.state.translate(&*self.memory, linear, Access { kind, privilege })
    }

    fn gpa(&self, linear: u64) -> u64 {
        self.translate(linear, READ, Privilege::Supervisor).unwrap().gpa
    }

    fn error(&self, linear: u64, kind: AccessKind, privilege: Privilege) -> u32 {
        let fault = self.translate(linear, kind, privilege).unwrap_err();
        assert_eq!(fault.address, Some(linear));
        fault.error_code.unwrap()
    }

    fn supervisor_error(&self, kind: AccessKind) -> u32 {
        self.error(LINEAR, kind, Privilege::Supervisor)
    }
}

#[test]
fn without_paging_linear_is_physical() {
    let mut guest = Guest::new(Cr4::new(), Efer::new());
    guest.state.cr0 = Cr0::new();
    assert_eq!(guest.gpa(0x1_0000_1234), 0x1234);
}

#[test]
fn four_and_five_levels_reach_all_page_sizes() {
    for la57 in [false, true] {
        let rights = P | W | U;
        assert_eq!(
            Guest::long(la57, rights, 0x12_3456_7000 | rights, 1).gpa(LINEAR),
            0x12_3456_7abc
        );
        assert_eq!(
            Guest::long(la57, rights, 0x12_3440_0000 | rights | PS, 2).gpa(LINEAR),
            0x12_3450_0abc
        );
        assert_eq!(
            Guest::long(la57, rights, 0x12_4000_0000 | rights | PS, 3).gpa(LINEAR),
            0x12_4000_0000 + (LINEAR & 0x3fff_ffff)
        );
    }
}

#[test]
fn marks_accessed_on_the_way_and_dirty_on_a_written_leaf() {
    let guest = Guest::long(false, P | W, 0x8000 | P | W, 1);
    guest.gpa(LINEAR);
    assert_eq!(guest.get_u64(Guest::entry_gpa(1)), 0x8000 | P | W | A);
    guest.translate(LINEAR, WRITE, Privilege::Supervisor).unwrap();
    assert_eq!(guest.get_u64(Guest::entry_gpa(1)), 0x8000 | P | W | A | D);
    for level in 2..=4 {
        assert_eq!(guest.get_u64(Guest::entry_gpa(level)) & (A | D), A);
    }
}

#[test]
fn a_refused_access_leaves_the_leaf_unmarked() {
    let guest = Guest::long(false, P | W, 0x8000 | P, 1);
    assert_eq!(guest.supervisor_error(WRITE), 0b00011);
    assert_eq!(guest.get_u64(Guest::entry_gpa(1)), 0x8000 | P);
}

#[test]
fn error_codes_name_the_cause_and_the_access() {
    let absent = Guest::long(false, P | W | U, 0, 1);
    assert_eq!(absent.supervisor_error(READ), 0);
    assert_eq!(absent.error(LINEAR, WRITE, Privilege::User), 0b00110);
    assert_eq!(absent.error(LINEAR, EXECUTE, Privilege::User), 0b10100);

    let supervisor_page = Guest::long(false, P | W, 0x8000 | P | W | U, 1);
    assert_eq!(supervisor_page.error(LINEAR, READ, Privilege::User), 0b00101);

    let no_execute = Guest::long(false, P | W | U, 0x8000 | P | W | U | NX, 1);
    assert_eq!(no_execute.error(LINEAR, EXECUTE, Privilege::User), 0b10101);

    let reserved = Guest::long(false, P | W | U, 0x8000 | P | W | U | 1 << 40, 1);
    assert_eq!(reserved.supervisor_error(READ), 0b01001);
}

#[test]
fn reserved_bits_of_every_kind_are_found() {
    let mut without_nx = Guest::long(false, P | W, 0x8000 | P | NX, 1);
    without_nx.state.efer.set_no_execute(false);
    assert_eq!(without_nx.supervisor_error(READ), 0b01001);
    assert_eq!(
        Guest::long(false, P | W, 0x12_3440_2000 | P | PS, 2).supervisor_error(READ),
        0b01001
    );
    assert_eq!(
        Guest::long(false, P | W, 0x12_6000_0000 | P | PS, 3).supervisor_error(READ),
        0b01001
    );
    assert_eq!(Guest::long(false, P | W, 0x3000 | P | PS, 4).supervisor_error(READ), 0b01001);
    assert_eq!(
        Guest::pae(0x2000 | P | W, 0x8000 | P, 1).error(LINEAR_32, READ, Privilege::Supervisor),
        0b01001
    );
    assert_eq!(
        Guest::pae(0x2000 | P, 0x8000 | P | 1 << 52, 1).error(
            LINEAR_32,
            READ,
            Privilege::Supervisor
        ),
        0b01001
    );
    assert_eq!(
        Guest::legacy(PS | P | 1 << 21, 0).error(LINEAR_32, READ, Privilege::Supervisor),
        0b01001
    );
}

#[test]
fn write_protection_binds_the_supervisor_only_if_wp_is_set() {
    let mut guest = Guest::long(false, P | W, 0x8000 | P, 1);
    assert_eq!(guest.supervisor_error(WRITE), 0b00011);
    guest.state.cr0.set_write_protect(false);
    assert!(guest.translate(LINEAR, WRITE, Privilege::Supervisor).is_ok());
}

#[test]
fn smep_and_smap_keep_the_supervisor_off_user_pages() {
    let mut guest = Guest::long(false, P | W | U, 0x8000 | P | W | U, 1);
    assert!(guest.translate(LINEAR, EXECUTE, Privilege::Supervisor).is_ok());
    guest.state.cr4.set_smep(true);
    assert_eq!(guest.supervisor_error(EXECUTE), 0b10001);
    guest.state.cr4.set_smap(true);
    assert_eq!(guest.supervisor_error(READ), 0b00001);
    guest.state.alignment_check = true;
    assert!(guest.translate(LINEAR, READ, Privilege::Supervisor).is_ok());
    assert_eq!(guest.error(LINEAR, READ, Privilege::ImplicitSupervisor), 0b00001);
    assert!(guest.translate(LINEAR, READ, Privilege::User).is_ok());
}

#[test]
fn protection_keys_forbid_reads_or_writes_of_user_pages() {
    let key = 5u64;
    let mut guest = Guest::long(false, P | W | U, 0x8000 | P | W | U | key << 59, 1);
    guest.state.pkru = 0b10 << (2 * key);
    assert!(guest.translate(LINEAR, WRITE, Privilege::User).is_ok());
    guest.state.cr4.set_pke(true);
    assert!(guest.translate(LINEAR, READ, Privilege::User).is_ok());
    assert_eq!(guest.error(LINEAR, WRITE, Privilege::User), 0b100111);
    guest.state.pkru = 0b01 << (2 * key);
    assert_eq!(guest.error(LINEAR, READ, Privilege::User), 0b100101);
}

#[test]
fn pae_and_32_bit_tables_lead_to_their_pages() {
    assert_eq!(Guest::pae(0x2000 | P, 0x12_3456_7000 | P, 1).gpa(LINEAR_32), 0x12_3456_7abc);
    assert_eq!(
        Guest::pae(0x2000 | P, 0x12_3460_0000 | P | PS, 2).gpa(LINEAR_32),
        0x12_3460_0000 + (LINEAR_32 & 0x1f_ffff)
    );
    assert_eq!(Guest::pae(0, 0, 2).error(LINEAR_32, EXECUTE, Privilege::User), 0b10100);

    let small = Guest::legacy(0x1000 | P | U, 0x9999_9000 | P | W | U);
    assert_eq!(small.gpa(LINEAR_32), 0x9999_9abc);
    assert_eq!(small.error(LINEAR_32, WRITE, Privilege::User), 0b00111);
    let large = Guest::legacy(0x1240_0000 | P | PS | 0x56 << 13, 0);
    assert_eq!(large.gpa(LINEAR_32), 0x56_1240_0000 + (LINEAR_32 & 0x3f_ffff));
    // Bits above 31 of a linear address do not exist outside long mode.
    assert_eq!(small.gpa(LINEAR_32 | 0xffff_ffff_0000_0000), 0x9999_9abc);
}

#[test]
fn canonical_addresses_extend_their_sign() {
    assert!(is_canonical(0x0000_7fff_ffff_ffff, false));
    assert!(!is_canonical(0x0000_8000_0000_0000, false));
    assert!(is_canonical(0xffff_8000_0000_0000, false));
    assert!(is_canonical(0x00ff_8000_0000_0000, true));
    assert!(!is_canonical(0x0100_0000_0000_0000, true));
}

proptest! {
    /// Tables filled at random: no panic, and what comes out is a physical address with the page's
    /// own offset.
    #[test]
    fn random_tables_translate_or_fault(
        seed in any::<u64>(), linear in any::<u64>(), mode in 0..5u8,
        write in any::<bool>(), user in any::<bool>()
    ) {
        let cr4 = Cr4::new().with_pae(mode >= 2).with_la57(mode == 4);
        let cr4 = cr4.with_pse(mode != 0).with_smap(seed & 1 != 0);
        let efer = Efer::new().with_long_mode_active(mode >= 3).with_no_execute(seed & 2 != 0);
        let mut guest = Guest::new(cr4, efer);
        guest.state.cr3 = seed & 0xffff;
        let mut random = seed | 1;
        for gpa in (0..0x10000).step_by(8) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Mostly present, and mostly pointing at another table.
            let entry = (random & 0x8000_0000_0000_ffff) | P;
            guest.put_u64(gpa, if random & 0x700 == 0 { random } else { entry });
        }
        let kind = if write { WRITE } else { READ };
        let privilege = if user { Privilege::User } else { Privilege::Supervisor };
        match guest.translate(linear, kind, privilege) {
            Ok(translation) => {
                prop_assert!(translation.gpa < 1 << 40);
                let page_bytes = translation.page_bytes;
                prop_assert_eq!(translation.gpa % page_bytes, linear % page_bytes);
            }
            Err(fault) => {
                let code = ErrorCode::from_bits(fault.error_code.unwrap());
                prop_assert_eq!(code.write(), write);
                prop_assert_eq!(code.user(), user);
                prop_assert!(code.present() || !code.reserved());
            }
        }
    }
}

#[test]
fn a_page_attribute_table_has_the_memory_types_of_the_manual() {
    for kind in 0..=u8::MAX {
        // UC, WC, WT, WP, WB and UC- (SDM volume 3, 12.12.2), at the first and the last place.
        let is_legal = matches!(kind, 0 | 1 | 4 | 5 | 6 | 7);
        for shift in [0, 56] {
            let table = 0x0007_0406_0007_0400 | u64::from(kind) << shift;
            assert_eq!(is_legal_pat(table), is_legal, "{kind:#x} at bit {shift}");
        }
    }
}
