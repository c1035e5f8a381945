//! The SMBIOS tables (DMTF DSP0134, version 2.8): what the system prints as its hardware.
//!
//! SeaBIOS (src/fw/biostables.c) copies the tables from fw_cfg and completes the entry point with
//! their address.

use alloc::format;
use alloc::vec::Vec;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use crate::MachineDescription;

const MANUFACTURER: &str = "Bulkhead";
const PRODUCT: &str = "HVM guest";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Chassis, sockets and memory arrays that the structures refer to.
mod handle {
    pub const BIOS: u16 = 0x0000;
    pub const SYSTEM: u16 = 0x0100;
    pub const CHASSIS: u16 = 0x0300;
    pub const PROCESSOR: u16 = 0x0400;
    pub const MEMORY_ARRAY: u16 = 0x1000;
    pub const MEMORY_DEVICE: u16 = 0x1100;
    pub const MAPPED_ADDRESS: u16 = 0x1300;
    pub const BOOT: u16 = 0x2000;
    pub const END: u16 = 0x7f00;
}

/// "This structure says nothing about errors."
const NO_ERROR_HANDLE: u16 = 0xfffe;
/// No such structure.
const NO_HANDLE: u16 = 0xffff;
/// The value of an enumeration that means "unknown".
const UNKNOWN: u8 = 2;
/// The value of an enumeration that means "other".
const OTHER: u8 = 1;

/// The two files.
#[derive(Clone, Debug)]
pub struct SmbiosFiles {
    /// `etc/smbios/smbios-anchor`: the entry point, without the tables' address.
    pub anchor: Vec<u8>,
    /// `etc/smbios/smbios-tables`.
    pub tables: Vec<u8>,
}

/// The tables of `machine`.
pub fn files(machine: &MachineDescription) -> SmbiosFiles {
    let mut structures = Structures::default();
    structures.bios();
    structures.system(machine);
    structures.chassis();
    for index in 0..machine.cpu_count() {
        structures.processor(index, machine.cpu_mhz);
    }
    structures.memory(machine);
    structures.add(32, handle::BOOT, &BootInformation { reserved: [0; 6], status: 0 }, &[]);
    structures.add(127, handle::END, &[0u8; 0], &[]);
    SmbiosFiles { anchor: Vec::from(structures.entry_point().as_bytes()), tables: structures.bytes }
}

#[derive(Default)]
struct Structures {
    bytes: Vec<u8>,
    count: u16,
    longest_bytes: u16,
}

impl Structures {
    /// Adds a structure: header, formatted part, strings (which the formatted part counts from 1).
    fn add<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        kind: u8,
        handle: u16,
        formatted: &T,
        strings: &[&str],
    ) {
        const HEADER_BYTES: usize = 4;
        let start = self.bytes.len();
        let formatted = formatted.as_bytes();
        self.bytes.extend_from_slice(&[kind, (HEADER_BYTES + formatted.len()) as u8]);
        self.bytes.extend_from_slice(&handle.to_le_bytes());
        self.bytes.extend_from_slice(formatted);
        for string in strings {
            self.bytes.extend_from_slice(string.as_bytes());
            self.bytes.push(0);
        }
        // An empty set of strings is closed by two zeroes.
        self.bytes.resize(self.bytes.len() + if strings.is_empty() { 2 } else { 1 }, 0);
        self.count += 1;
        self.longest_bytes = self.longest_bytes.max((self.bytes.len() - start) as u16);
    }

    fn bios(&mut self) {
        /// "Characteristics are not supported": the guest asks ACPI.
        const NOT_SUPPORTED: u64 = 1 << 3;
        /// "The system is a virtual machine", in the second extension byte.
        const VIRTUAL_MACHINE: u8 = 1 << 4;
        /// Units of 64 KiB, less one.
        const ROM_256_KIB: u8 = 3;
        let structure = BiosInformation {
            vendor: 1,
            version: 2,
            start_segment: 0xe800.into(),
            release_date: 3,
            rom_size_64k: ROM_256_KIB,
            characteristics: NOT_SUPPORTED.into(),
            extensions: [0, VIRTUAL_MACHINE],
            release: [0; 2],
            controller_release: [0xff; 2],
        };
        self.add(0, handle::BIOS, &structure, &["SeaBIOS", VERSION, "04/01/2014"]);
    }

    fn system(&mut self, machine: &MachineDescription) {
        const POWER_SWITCH: u8 = 6;
        let mut uuid = machine.uuid;
        // The first three fields are little-endian (section 7.2.1).
        uuid[..4].reverse();
        uuid[4..6].reverse();
        uuid[6..8].reverse();
        let structure = SystemInformation {
            manufacturer: 1,
            product: 2,
            version: 3,
            serial: 0,
            uuid,
            wake_up: POWER_SWITCH,
            sku: 0,
            family: 0,
        };
        self.add(1, handle::SYSTEM, &structure, &[MANUFACTURER, PRODUCT, VERSION]);
    }

    fn chassis(&mut self) {
        const SAFE: u8 = 3;
        let structure = Chassis {
            manufacturer: 1,
            kind: OTHER,
            version: 2,
            serial: 0,
            asset_tag: 0,
            states: [SAFE; 3],
            security: UNKNOWN,
            oem: 0.into(),
            height: 0,
            power_cords: 0,
            contained: [0; 2],
            sku: 0,
        };
        self.add(3, handle::CHASSIS, &structure, &[MANUFACTURER, VERSION]);
    }

    fn processor(&mut self, index: u16, mhz: u16) {
        const CENTRAL_PROCESSOR: u8 = 3;
        const POPULATED_ENABLED: u8 = 0x41;
        let structure = Processor {
            socket: 1,
            kind: CENTRAL_PROCESSOR,
            family: OTHER,
            manufacturer: 2,
            // CPUID tells the truth about the processor; here it would have to be guessed.
            id: 0.into(),
            version: 3,
            voltage: 0,
            clocks: [0.into(), mhz.into(), mhz.into()],
            status: POPULATED_ENABLED,
            upgrade: OTHER,
            caches: [NO_HANDLE.into(); 3],
            strings: [0; 3],
            counts: [1; 3],
            characteristics: u16::from(UNKNOWN).into(),
            family_2: u16::from(OTHER).into(),
        };
        let socket = format!("CPU {index}");
        self.add(4, handle::PROCESSOR + index, &structure, &[&socket, MANUFACTURER, VERSION]);
    }

    /// One array of memory, in modules of at most 16 GiB, mapped below and above the PCI hole.
    fn memory(&mut self, machine: &MachineDescription) {
        const MIB: u64 = 1 << 20;
        const MODULE_BYTES: u64 = 16 << 30;
        const MAX_MODULES: u64 = 128;
        let ram_bytes = machine.ram.bytes();
        let module_bytes = MODULE_BYTES.max(ram_bytes.div_ceil(MAX_MODULES).next_multiple_of(MIB));
        let modules = ram_bytes.div_ceil(module_bytes).max(1);
        self.memory_array(ram_bytes, modules as u16);
        for index in 0..modules {
            let size_bytes = (ram_bytes - index * module_bytes).min(module_bytes);
            self.memory_device(index as u16, size_bytes.div_ceil(MIB) as u32);
        }
        for (handle, range) in (handle::MAPPED_ADDRESS..).zip(machine.ram.ranges()) {
            self.mapped_address(handle, range.start, range.end - range.start);
        }
    }

    fn memory_array(&mut self, capacity_bytes: u64, modules: u16) {
        const SYSTEM_MEMORY: u8 = 3;
        const MULTI_BIT_ECC: u8 = 6;
        /// The 32-bit field says: see the 64-bit one.
        const SEE_EXTENDED: u32 = 0x8000_0000;
        let capacity_kib =
            u32::try_from(capacity_bytes / 1024).ok().filter(|&kib| kib < SEE_EXTENDED);
        let structure = MemoryArray {
            location: OTHER,
            usage: SYSTEM_MEMORY,
            error_correction: MULTI_BIT_ECC,
            capacity_kib: capacity_kib.unwrap_or(SEE_EXTENDED).into(),
            error_handle: NO_ERROR_HANDLE.into(),
            modules: modules.into(),
            extended_capacity_bytes: if capacity_kib.is_some() { 0 } else { capacity_bytes }.into(),
        };
        self.add(16, handle::MEMORY_ARRAY, &structure, &[]);
    }

    fn memory_device(&mut self, index: u16, size_mib: u32) {
        const DIMM: u8 = 9;
        const RAM: u8 = 7;
        const OTHER_DETAIL: u16 = 1 << 1;
        /// The 16-bit field says: see the 32-bit one.
        const SEE_EXTENDED: u16 = 0x7fff;
        let short = u16::try_from(size_mib).ok().filter(|&size| size < SEE_EXTENDED);
        let structure = MemoryDevice {
            array: handle::MEMORY_ARRAY.into(),
            error_handle: NO_ERROR_HANDLE.into(),
            widths: [u16::MAX.into(); 2],
            size_mib: short.unwrap_or(SEE_EXTENDED).into(),
            form_factor: DIMM,
            device_set: 0,
            locator: 1,
            bank: 0,
            kind: RAM,
            detail: OTHER_DETAIL.into(),
            speed: 0.into(),
            manufacturer: 2,
            strings: [0; 3],
            attributes: 0,
            extended_size_mib: if short.is_some() { 0 } else { size_mib }.into(),
            configured_speed: 0.into(),
            voltages: [0.into(); 3],
        };
        let locator = format!("DIMM {index}");
        self.add(17, handle::MEMORY_DEVICE + index, &structure, &[&locator, MANUFACTURER]);
    }

    fn mapped_address(&mut self, handle: u16, gpa: u64, length_bytes: u64) {
        /// The 32-bit fields say: see the 64-bit ones.
        const SEE_EXTENDED: u32 = u32::MAX;
        let last = gpa + length_bytes - 1;
        let short = u32::try_from(last / 1024).ok().filter(|&kib| kib != SEE_EXTENDED);
        let extended = if short.is_some() { [0; 2] } else { [gpa, last] };
        let structure = MappedAddress {
            start_kib: short.map_or(SEE_EXTENDED, |_| (gpa / 1024) as u32).into(),
            end_kib: short.unwrap_or(SEE_EXTENDED).into(),
            array: handle::MEMORY_ARRAY.into(),
            partition_width: 1,
            extended: extended.map(U64::new),
        };
        self.add(19, handle, &structure, &[]);
    }

    /// The entry point of 32-bit form (section 5.2.1). The firmware adds the address and computes
    /// the checksums again; they are right for address 0.
    fn entry_point(&self) -> EntryPoint {
        const INTERMEDIATE_OFFSET: usize = 16;
        let mut entry = EntryPoint {
            anchor: *b"_SM_",
            checksum: 0,
            length: size_of::<EntryPoint>() as u8,
            version: [2, 8],
            longest_bytes: self.longest_bytes.into(),
            revision: 0,
            formatted: [0; 5],
            intermediate_anchor: *b"_DMI_",
            intermediate_checksum: 0,
            tables_bytes: (self.bytes.len() as u16).into(),
            tables_gpa: 0.into(),
            count: self.count.into(),
            bcd_version: 0x28,
        };
        entry.intermediate_checksum = checksum(&entry.as_bytes()[INTERMEDIATE_OFFSET..]);
        entry.checksum = checksum(entry.as_bytes());
        entry
    }
}

/// The byte that makes the sum of `bytes` zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte))
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct EntryPoint {
    anchor: [u8; 4],
    checksum: u8,
    length: u8,
    version: [u8; 2],
    longest_bytes: U16,
    revision: u8,
    formatted: [u8; 5],
    intermediate_anchor: [u8; 5],
    intermediate_checksum: u8,
    tables_bytes: U16,
    tables_gpa: U32,
    count: U16,
    bcd_version: u8,
}

/// Type 0.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct BiosInformation {
    vendor: u8,
    version: u8,
    start_segment: U16,
    release_date: u8,
    rom_size_64k: u8,
    characteristics: U64,
    extensions: [u8; 2],
    release: [u8; 2],
    controller_release: [u8; 2],
}

/// Type 1.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct SystemInformation {
    manufacturer: u8,
    product: u8,
    version: u8,
    serial: u8,
    uuid: [u8; 16],
    wake_up: u8,
    sku: u8,
    family: u8,
}

/// Type 3.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Chassis {
    manufacturer: u8,
    kind: u8,
    version: u8,
    serial: u8,
    asset_tag: u8,
    /// Boot-up, power supply, thermal.
    states: [u8; 3],
    security: u8,
    oem: U32,
    height: u8,
    power_cords: u8,
    /// Number and length of contained elements.
    contained: [u8; 2],
    sku: u8,
}

/// Type 4.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Processor {
    socket: u8,
    kind: u8,
    family: u8,
    manufacturer: u8,
    id: U64,
    version: u8,
    voltage: u8,
    /// External, maximum and current clock in MHz.
    clocks: [U16; 3],
    status: u8,
    upgrade: u8,
    caches: [U16; 3],
    /// Serial number, asset tag, part number.
    strings: [u8; 3],
    /// Cores, enabled cores, threads.
    counts: [u8; 3],
    characteristics: U16,
    family_2: U16,
}

/// Type 16.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MemoryArray {
    location: u8,
    usage: u8,
    error_correction: u8,
    capacity_kib: U32,
    error_handle: U16,
    modules: U16,
    extended_capacity_bytes: U64,
}

/// Type 17.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MemoryDevice {
    array: U16,
    error_handle: U16,
    /// Total and data width in bits.
    widths: [U16; 2],
    size_mib: U16,
    form_factor: u8,
    device_set: u8,
    locator: u8,
    bank: u8,
    kind: u8,
    detail: U16,
    speed: U16,
    manufacturer: u8,
    /// Serial number, asset tag, part number.
    strings: [u8; 3],
    attributes: u8,
    extended_size_mib: U32,
    configured_speed: U16,
    /// Minimum, maximum, configured.
    voltages: [U16; 3],
}

/// Type 19.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MappedAddress {
    start_kib: U32,
    end_kib: U32,
    array: U16,
    partition_width: u8,
    /// First and last byte.
    extended: [U64; 2],
}

/// Type 32.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct BootInformation {
    reserved: [u8; 6],
    status: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_machine;
    use alloc::string::String;
    use devices::ram_layout::RamLayout;

    /// A structure: type, handle, formatted part with its header, strings.
    type Structure = (u8, u16, Vec<u8>, Vec<String>);

    fn parse(mut bytes: &[u8]) -> Vec<Structure> {
        let mut structures = Vec::new();
        while let [kind, length, low, high, ..] = *bytes {
            let (formatted, rest) = bytes.split_at(length.into());
            let end = rest.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let text = core::str::from_utf8(&rest[..end]).unwrap();
            let strings =
                text.split('\0').filter(|string| !string.is_empty()).map(String::from).collect();
            structures.push((kind, u16::from_le_bytes([low, high]), Vec::from(formatted), strings));
            bytes = &rest[end + 2..];
        }
        structures
    }

    #[test]
    fn the_entry_point_describes_the_tables() {
        let files = files(&test_machine::description());
        let anchor = &files.anchor;
        assert_eq!(anchor.len(), 31);
        assert_eq!((&anchor[..4], &anchor[16..21]), (&b"_SM_"[..], &b"_DMI_"[..]));
        assert_eq!((checksum(anchor), checksum(&anchor[16..])), (0, 0));
        assert_eq!(usize::from(u16::from_le_bytes([anchor[22], anchor[23]])), files.tables.len());
        let structures = parse(&files.tables);
        assert_eq!(usize::from(u16::from_le_bytes([anchor[28], anchor[29]])), structures.len());
        let kinds: Vec<u8> = structures.iter().map(|&(kind, ..)| kind).collect();
        assert_eq!(kinds, [0, 1, 3, 4, 4, 16, 17, 19, 32, 127]);
    }

    #[test]
    fn structures_have_the_lengths_of_the_specification() {
        for (kind, _, formatted, strings) in parse(&files(&test_machine::description()).tables) {
            let expected = match kind {
                0 => 24,
                1 => 27,
                3 => 22,
                4 => 42,
                16 => 23,
                17 => 40,
                19 => 31,
                32 => 11,
                _ => 4,
            };
            assert_eq!(formatted.len(), expected, "type {kind}");
            if kind == 1 {
                assert_eq!(formatted[8..16], [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66]);
                assert_eq!(strings[..2], ["Bulkhead", "HVM guest"]);
            }
            if kind == 4 {
                // External clock unknown; maximum and current, 2600 MHz.
                assert_eq!(formatted[0x12..0x18], [0, 0, 0x28, 0x0a, 0x28, 0x0a]);
            }
        }
    }

    #[test]
    fn large_memory_uses_the_wide_fields_and_handles_stay_unique() {
        let mut machine = test_machine::description();
        machine.ram = RamLayout::new(5 << 40);
        let structures = parse(&files(&machine).tables);
        let modules: u64 =
            structures.iter().filter(|&&(kind, ..)| kind == 17).fold(0, |sum, (_, _, bytes, _)| {
                assert_eq!(bytes[12..14], [0xff, 0x7f], "16-bit size");
                sum + u64::from(u32::from_le_bytes(bytes[28..32].try_into().unwrap()))
            });
        assert_eq!(modules << 20, machine.ram.bytes());
        let array = structures.iter().find(|&&(kind, ..)| kind == 16).unwrap();
        assert_eq!(array.2[15..], machine.ram.bytes().to_le_bytes());
        let mut handles: Vec<u16> = structures.iter().map(|&(_, handle, ..)| handle).collect();
        let count = handles.len();
        handles.sort_unstable();
        handles.dedup();
        assert_eq!(handles.len(), count);
    }
}
