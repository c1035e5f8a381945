//! The files are loaded as the firmware loads them, and judged by `iasl` (Debian package
//! `acpica-tools`), which these tests need.

use super::*;
use crate::test_machine;
use devices::ram_layout::RamLayout;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::string::{String, ToString};
use std::{format, fs};

/// The guest's memory after the firmware ran the script: file name -> (address, contents).
struct Loaded(BTreeMap<String, (u64, Vec<u8>)>);

impl Loaded {
    /// Runs the script as src/fw/romfile_loader.c of SeaBIOS does.
    fn run(files: &AcpiFiles) -> Self {
        let contents = BTreeMap::from([(TABLES_FILE, &files.tables), (RSDP_FILE, &files.rsdp)]);
        let mut loaded = Self(BTreeMap::new());
        assert_eq!(files.loader.len() % 128, 0);
        for entry in files.loader.chunks_exact(128) {
            let file = |offset: usize| {
                let field = &entry[offset..offset + 56];
                let length = field.iter().position(|&byte| byte == 0).unwrap();
                String::from_utf8(field[..length].to_vec()).unwrap()
            };
            let number = |offset: usize| {
                u32::from_le_bytes(entry[offset..offset + 4].try_into().unwrap()) as usize
            };
            match number(0) {
                1 => {
                    let address = match entry[64] {
                        1 => 0x1ffe_0000,
                        2 => 0xf_5000,
                        zone => panic!("zone {zone}"),
                    };
                    assert!(number(60).is_power_of_two());
                    loaded.0.insert(file(4), (address, contents[file(4).as_str()].clone()));
                }
                2 => {
                    let address = loaded.0[&file(60)].0;
                    let size = usize::from(entry[120]);
                    let field = &mut loaded.0.get_mut(&file(4)).unwrap().1[number(116)..][..size];
                    let mut pointer = [0; 8];
                    pointer[..size].copy_from_slice(field);
                    let pointer = u64::from_le_bytes(pointer) + address;
                    field.copy_from_slice(&pointer.to_le_bytes()[..size]);
                }
                3 => {
                    let bytes = &mut loaded.0.get_mut(&file(4)).unwrap().1;
                    let sum = sum(&bytes[number(64)..][..number(68)]);
                    bytes[number(60)] = bytes[number(60)].wrapping_sub(sum);
                }
                command => panic!("command {command}"),
            }
        }
        loaded
    }

    fn rsdp(&self) -> &[u8] {
        &self.0[RSDP_FILE].1
    }

    /// The memory from `address` on.
    fn at(&self, address: u64) -> &[u8] {
        let (base, bytes) = &self.0[TABLES_FILE];
        &bytes[(address - base) as usize..]
    }

    /// The table at `address`, whole.
    fn table(&self, address: u64) -> &[u8] {
        let bytes = self.at(address);
        &bytes[..read_u32(bytes, 4) as usize]
    }

    /// All tables by signature, found from the XSDT.
    fn tables(&self) -> BTreeMap<String, &[u8]> {
        let xsdt = self.table(read_u64(self.rsdp(), 24));
        let mut addresses: Vec<u64> =
            xsdt[36..].chunks_exact(8).map(|bytes| read_u64(bytes, 0)).collect();
        let fadt = self.table(addresses[0]);
        addresses.extend([
            read_u32(fadt, 36).into(),
            read_u64(fadt, 140),
            read_u64(self.rsdp(), 24),
        ]);
        addresses.push(read_u32(self.rsdp(), 16).into());
        let named = |address| {
            (String::from_utf8_lossy(&self.at(address)[..4]).to_string(), self.table(address))
        };
        addresses.into_iter().map(named).collect()
    }
}

fn read_u32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

fn read_u64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte))
}

/// A machine with everything: IDs beyond the xAPIC's, four serial ports, RAM above 4 GiB.
fn large_machine() -> MachineDescription {
    MachineDescription {
        ram: RamLayout::new(6 << 30),
        apic_ids: (0..32).chain([254, 255, 300]).collect(),
        cpus_at_start: 34,
        com_ports: [true; 4],
        generation_id: Some([0xa5; 16]),
        ..test_machine::description()
    }
}

#[test]
fn pointers_and_checksums_hold_after_loading() {
    let loaded = Loaded::run(&files(&test_machine::description()));
    assert_eq!(&loaded.rsdp()[..8], b"RSD PTR ");
    assert_eq!((sum(&loaded.rsdp()[..20]), sum(loaded.rsdp())), (0, 0));
    let tables = loaded.tables();
    let names: Vec<&str> = tables.keys().map(String::as_str).collect();
    assert_eq!(names, ["APIC", "DSDT", "FACP", "FACS", "HPET", "RSDT", "XSDT"]);
    for (name, table) in tables.iter().filter(|(name, _)| *name != "FACS") {
        assert_eq!(sum(table), 0, "{name}");
    }
    let fadt = tables["FACP"];
    assert_eq!(read_u32(fadt, 36) % 64, 0, "FACS is aligned");
    assert_eq!(u64::from(read_u32(fadt, 40)), read_u64(fadt, 140), "DSDT and X_DSDT agree");
    let rsdt = tables["RSDT"];
    let xsdt = tables["XSDT"];
    for (narrow, wide) in rsdt[36..].chunks_exact(4).zip(xsdt[36..].chunks_exact(8)) {
        assert_eq!(u64::from(read_u32(narrow, 0)), read_u64(wide, 0));
    }
}

#[test]
fn the_generation_id_is_where_its_device_says() {
    let generation_id = Some(*b"generation of it");
    let machine = MachineDescription { generation_id, ..test_machine::description() };
    let loaded = Loaded::run(&files(&machine));
    let tables = loaded.tables();
    let dsdt = tables["DSDT"];
    assert_eq!(sum(dsdt), 0);
    let at = dsdt.windows(4).position(|name| name == b"ADDR").unwrap();
    // Name (ADDR, Package {address, 0})
    assert_eq!(dsdt[at + 4..at + 8], [0x12, 8, 2, 0x0c]);
    let address = read_u32(dsdt, at + 8);
    assert_eq!(address % 8, 0);
    assert_eq!(&loaded.at(address.into())[..16], b"generation of it");
}

#[test]
fn the_madt_lists_each_cpu_once() {
    let loaded = Loaded::run(&files(&large_machine()));
    let tables = loaded.tables();
    let mut entries = &tables["APIC"][44..];
    let (mut local, mut x2, mut overrides) = (Vec::new(), Vec::new(), Vec::new());
    while let [kind, length, ..] = *entries {
        let (entry, rest) = entries.split_at(length.into());
        match kind {
            0 => local.push((u32::from(entry[2]), u32::from(entry[3]), read_u32(entry, 4))),
            2 => overrides.push((entry[3], read_u32(entry, 4))),
            9 => x2.push((read_u32(entry, 12), read_u32(entry, 4), read_u32(entry, 8))),
            _ => {}
        }
        entries = rest;
    }
    assert_eq!(local.last(), Some(&(32, 254, 1)));
    assert_eq!(local.len(), 33);
    assert_eq!(x2, [(33, 255, 1), (34, 300, 0)], "the last one is not there yet");
    assert_eq!(overrides[..2], [(0, 2), (5, 5)]);
}

/// A directory of its own for each test, so that they can run side by side.
fn write_tables(directory: &str, machine: &MachineDescription) -> PathBuf {
    let directory =
        std::env::temp_dir().join(format!("bulkhead-acpi-{}-{directory}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    for (name, table) in Loaded::run(&files(machine)).tables() {
        fs::write(directory.join(format!("{name}.aml")), table).unwrap();
    }
    directory
}

/// Runs `iasl` and returns all that it said. Fails if it says a word of error, warning or invalid.
fn iasl(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("iasl").args(arguments).current_dir(directory).output();
    let output = output.expect("iasl does not run: install the package acpica-tools");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "iasl {arguments:?}: {text}");
    text
}

#[test]
fn iasl_decompiles_every_table_without_a_complaint() {
    for (name, machine) in [("small", test_machine::description()), ("large", large_machine())] {
        let directory = write_tables(name, &machine);
        for table in ["APIC", "DSDT", "FACP", "FACS", "HPET", "RSDT", "XSDT"] {
            let text = iasl(&directory, &["-d", &format!("{table}.aml")]).to_lowercase();
            let decompiled =
                fs::read_to_string(directory.join(format!("{table}.dsl"))).unwrap().to_lowercase();
            for complaint in ["error", "warning", "invalid", "incorrect", "unknown", "external"] {
                // The decompiled text of a good table names fields such as "Parity Error" nowhere.
                assert!(!text.contains(complaint), "{table}: {text}");
                assert!(!decompiled.contains(complaint), "{table}: {decompiled}");
            }
        }
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn iasl_compiles_the_decompiled_dsdt_without_a_complaint() {
    for (name, machine) in
        [("again-small", test_machine::description()), ("again-large", large_machine())]
    {
        let directory = write_tables(name, &machine);
        iasl(&directory, &["-d", "DSDT.aml"]);
        let text = iasl(&directory, &["-oa", "-p", "again", "DSDT.dsl"]);
        assert!(text.contains(" 0 Errors, 0 Warnings, 0 Remarks"), "{text}");
        let (first, again) =
            (fs::read(directory.join("DSDT.aml")), fs::read(directory.join("again.aml")));
        assert_eq!(first.unwrap()[36..], again.unwrap()[36..], "the same byte code");
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn a_machine_without_an_hpet_has_no_table_for_one() {
    let machine = MachineDescription { hpet: false, ..test_machine::description() };
    let loaded = Loaded::run(&files(&machine));
    assert!(!loaded.tables().contains_key("HPET"));
}
