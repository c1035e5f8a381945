//! Tables as the specification has them, and anything else.

use super::firmware::{BASE, Memory, aml, entry, fadt, fadt_bytes, generic, madt, mcfg, u32};
use super::*;
use alloc::vec;
use proptest::prelude::*;

/// A PC with a chipset like the 440FX and two CPUs, the second by both kinds of entries.
fn pc(wide: bool) -> (Memory, u64) {
    let mut memory = Memory::default();
    let entries = [
        entry(0, &[0, 0, 1, 0, 0, 0]),
        entry(0, &[1, 1, 1, 0, 0, 0]),
        entry(0, &[2, 2, 0, 0, 0, 0]),
        entry(9, &[0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        entry(1, &[2, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]),
        entry(2, &[0, 0, 2, 0, 0, 0, 0, 0]),
        entry(2, &[0, 9, 9, 0, 0, 0, 0x0f, 0]),
    ];
    let controllers = memory.put_table(b"APIC", &madt(&entries));
    let dsdt = memory.put_table(b"DSDT", &aml([5, 7]));
    let mut fadt = fadt();
    (fadt.dsdt, fadt.pm_timer, fadt.pm1a_control) = (u32(dsdt as u32), u32(0x608), u32(0x604));
    (fadt.smi_command, fadt.acpi_enable, fadt.century) = (u32(0xb2), 0xf1, 0x32);
    fadt.flags = u32(power::RESET_REGISTER_SUPPORTED);
    (fadt.reset_register, fadt.reset_value) = (generic(1, 0xcf9), 6);
    let description = memory.put_table(b"FACP", &fadt_bytes(&fadt, 244 - 36));
    let config =
        memory.put_table(b"MCFG", &mcfg(&[(1, 0xd000_0000, 0, 9), (0, 0xb000_0000, 2, 7)]));
    let root = memory.put_root(&[description, controllers, config], wide);
    (memory, root)
}

#[test]
fn a_pc_is_read_by_both_kinds_of_lists() {
    for wide in [false, true] {
        let (memory, root) = pc(wide);
        assert_eq!(find_root(&memory), Some(root));
        let tables = read(&memory, Some(root));
        assert_eq!(tables.cpus, [0, 1]);
        assert_eq!(tables.io_apics, [IoApicInfo { address: 0xfec0_0000, first_gsi: 0 }]);
        let source = |gsi, level, active_low| InterruptSource { gsi, level, active_low };
        assert_eq!(tables.isa_interrupts[0], source(2, false, false));
        assert_eq!(tables.isa_interrupts[1], source(1, false, false));
        assert_eq!(tables.isa_interrupts[9], source(9, true, true));
        assert_eq!((tables.pm_timer, tables.century_register), (Some(0x608), Some(0x32)));
        let config = PciConfigSpace { base: 0xb000_0000, first_bus: 2, last_bus: 7 };
        assert_eq!(tables.pci_config, Some(config), "of segment 0");
        let expected = PowerControls {
            pm1a_control: Some(0x604),
            pm1b_control: None,
            enable: Some((0xb2, 0xf1)),
            s5: Some([5, 7]),
            reset: Some((Register::Port(0xcf9), 6)),
        };
        assert_eq!(tables.power, expected);
    }
}

#[test]
fn a_configuration_space_that_makes_no_sense_is_left_out() {
    for entry in [
        (0, 0, 0, 255),
        (0, 0xb000_1000, 0, 255),
        (0, 1 << 60, 0, 255),
        (0, 0xb000_0000, 9, 8),
        (3, 0xb000_0000, 0, 255),
    ] {
        let mut memory = Memory::default();
        let config = memory.put_table(b"MCFG", &mcfg(&[entry]));
        let root = memory.put_root(&[config], true);
        assert_eq!(read(&memory, Some(root)).pci_config, None, "{entry:x?}");
    }
}

#[test]
fn no_tables_leave_the_defaults() {
    let (memory, root) = pc(true);
    assert_eq!(read(&memory, None), Tables::default());
    assert_eq!(read(&memory, Some(root + 16)), Tables::default());
    assert_eq!(read(&memory, Some(u64::MAX)), Tables::default());
    assert_eq!(find_root(&Memory(vec![0; 0x100])), None);
}

#[test]
fn a_broken_table_is_left_out_alone() {
    let (mut memory, root) = pc(true);
    let whole = read(&memory, Some(root));
    // The first table is the MADT; its last byte is part of no entry that counts twice.
    memory.0[37] ^= 1;
    let tables = read(&memory, Some(root));
    assert_eq!(
        tables,
        Tables {
            power: whole.power,
            pm_timer: Some(0x608),
            century_register: Some(0x32),
            pci_config: whole.pci_config,
            ..Tables::default()
        }
    );
}

#[test]
fn an_entry_of_no_length_ends_the_list() {
    let mut memory = Memory::default();
    let entries = [entry(0, &[0, 5, 1, 0, 0, 0]), vec![0, 0], entry(0, &[0, 6, 1, 0, 0, 0])];
    let controllers = memory.put_table(b"APIC", &madt(&entries));
    let root = memory.put_root(&[controllers], false);
    assert_eq!(read(&memory, Some(root)).cpus, [5]);
}

#[test]
fn a_table_that_says_it_is_endless_is_none() {
    let (mut memory, root) = pc(true);
    memory.0[4..8].fill(0xff);
    assert_eq!(read(&memory, Some(root)).cpus, []);
    assert_eq!(BASE % 16, 0);
}

proptest! {
    #[test]
    fn what_fuzzers_drive_holds(data in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzzing::tables(&data);
    }
}
