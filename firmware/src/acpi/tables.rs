//! The tables of fixed layout: FADT, MADT, HPET. Section numbers are those of the ACPI
//! specification 6.5.

use acpi_tables::Aml;
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::sdt::Sdt;
use alloc::vec::Vec;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes};

use super::{
    GPE0_BLOCK, GPE0_BYTES, HPET_GPA, OEM_ID, OEM_REVISION, OEM_TABLE_ID, PM_BASE, SCI_IRQ,
    SMI_COMMAND_PORT,
};
use crate::MachineDescription;

const LOCAL_APIC_GPA: u32 = 0xfee0_0000;
const IO_APIC_GPA: u32 = 0xfec0_0000;
/// The I/O APIC's ID register after reset.
const IO_APIC_ID: u8 = 0;

/// Bytes of a table header.
pub const HEADER_BYTES: u32 = 36;

/// An empty table of the given signature and revision.
pub fn header(signature: [u8; 4], revision: u8) -> Sdt {
    Sdt::new(signature, HEADER_BYTES, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION)
}

/// The FADT (section 5.2.9) in revision 3, as ACPI 2.0 systems and later know it. Its pointers to
/// FACS and DSDT hold the given offsets. Power button and sleep button are fixed hardware, since no
/// flag says otherwise.
pub fn fadt(facs_offset: u32, dsdt_offset: u32) -> Vec<u8> {
    const REVISION: u8 = 3;
    const REVISION_3_BYTES: u32 = 244;
    /// The byte that in revision 3 is still reserved.
    const MINOR_VERSION_OFFSET: usize = 131;
    const LENGTH_OFFSET: core::ops::Range<usize> = 4..8;
    /// PM1, then the timer 8 bytes above (82371AB datasheet, section 7.2).
    const PM1_EVENT_BYTES: u8 = 4;
    const PM1_CONTROL_BYTES: u8 = 2;
    const PM_TIMER_BYTES: u8 = 4;
    const NO_C_STATE: u16 = 0xfff;
    const LEGACY_DEVICES: u16 = 1 << 0;
    const KEYBOARD_CONTROLLER: u16 = 1 << 1;
    const CMOS_CENTURY: u8 = 0x32;

    let control_port = PM_BASE + 4;
    let timer_port = PM_BASE + 8;
    let mut table = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .preferred_pm_profile(PmProfile::Unspecified)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::RtcS4)
        .flag(Flags::ResetRegSup)
        .gpe_info(GPE0_BLOCK.into(), 0, GPE0_BYTES, 0, 0);
    table.major_version = REVISION;
    table.firmware_ctrl = facs_offset.into();
    table.dsdt = dsdt_offset.into();
    table.x_dsdt = u64::from(dsdt_offset).into();
    table.sci_int = SCI_IRQ.into();
    table.smi_cmd = u32::from(SMI_COMMAND_PORT).into();
    table.acpi_enable = 0xf1;
    table.acpi_disable = 0xf0;
    table.pm1a_evt_blk = u32::from(PM_BASE).into();
    table.pm1a_cnt_blk = u32::from(control_port).into();
    table.pm_tmr_blk = u32::from(timer_port).into();
    table.pm1_evt_len = PM1_EVENT_BYTES;
    table.pm1_cnt_len = PM1_CONTROL_BYTES;
    table.pm_tmr_len = PM_TIMER_BYTES;
    table.p_lvl2_lat = NO_C_STATE.into();
    table.p_lvl3_lat = NO_C_STATE.into();
    table.century = CMOS_CENTURY;
    table.iapc_boot_arch = (LEGACY_DEVICES | KEYBOARD_CONTROLLER).into();
    table.reset_reg = port_register(0xcf9, 1, AccessSize::ByteAccess);
    // CF9: reset the CPU and the system (82371SB datasheet, section 2.3.6).
    table.reset_value = 0x06;
    table.x_pm1a_evt_blk = port_register(PM_BASE, PM1_EVENT_BYTES, AccessSize::WordAccess);
    table.x_pm1a_cnt_blk = port_register(control_port, PM1_CONTROL_BYTES, AccessSize::WordAccess);
    table.x_pm_tmr_blk = port_register(timer_port, PM_TIMER_BYTES, AccessSize::DwordAccess);
    table.x_gpe0_blk = port_register(GPE0_BLOCK, GPE0_BYTES, AccessSize::ByteAccess);

    let mut bytes = Vec::from(table.as_bytes());
    bytes.truncate(REVISION_3_BYTES as usize);
    bytes[LENGTH_OFFSET].copy_from_slice(&REVISION_3_BYTES.to_le_bytes());
    bytes[MINOR_VERSION_OFFSET] = 0;
    bytes
}

/// A register block of `size_bytes` in I/O space.
fn port_register(port: u16, size_bytes: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8 * size_bytes, 0, access, port.into())
}

/// Interrupt source override (section 5.2.12.5).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct SourceOverride {
    kind: u8,
    length: u8,
    bus: u8,
    source: u8,
    gsi: U32,
    flags: U16,
}

/// Local APIC NMI (section 5.2.12.7); its 16-bit flags are not aligned.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct LocalApicNmi {
    kind: u8,
    length: u8,
    uid: u8,
    flags: U16,
    lint: u8,
}

/// Local x2APIC (section 5.2.12.12).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct LocalX2Apic {
    kind: u8,
    length: u8,
    reserved: U16,
    id: U32,
    flags: U32,
    uid: U32,
}

/// Local x2APIC NMI (section 5.2.12.13).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct LocalX2ApicNmi {
    kind: u8,
    length: u8,
    flags: U16,
    uid: U32,
    lint: u8,
    reserved: [u8; 3],
}

const ENABLED: u32 = 1;

/// The first ID that only an x2APIC can have: 255 is the xAPIC's broadcast.
const FIRST_X2APIC_ID: u32 = 255;

/// The entry of a vCPU's local APIC (sections 5.2.12.2 and 5.2.12.12). One that is not enabled may
/// be plugged in later.
pub fn local_apic(uid: u32, id: u32, is_enabled: bool) -> Vec<u8> {
    match (u8::try_from(uid), u8::try_from(id)) {
        (Ok(uid), Ok(id)) if u32::from(id) < FIRST_X2APIC_ID => {
            let enabled = if is_enabled { EnabledStatus::Enabled } else { EnabledStatus::Disabled };
            ProcessorLocalApic::new(uid, id, enabled).as_bytes().into()
        }
        _ => {
            let flags = if is_enabled { ENABLED } else { 0 };
            let (id, uid, flags) = (id.into(), uid.into(), flags.into());
            let entry = LocalX2Apic { kind: 9, length: 16, reserved: 0.into(), id, flags, uid };
            entry.as_bytes().into()
        }
    }
}

/// The MADT (section 5.2.12).
pub fn madt(machine: &MachineDescription) -> Vec<u8> {
    const REVISION: u8 = 3;
    /// There is an 8259 pair too.
    const PCAT_COMPATIBLE: u32 = 1;
    const ALL_CPUS: u8 = 0xff;
    const LINT1: u8 = 1;
    let mut table = header(*b"APIC", REVISION);
    table.append_slice(&LOCAL_APIC_GPA.to_le_bytes());
    table.append_slice(&PCAT_COMPATIBLE.to_le_bytes());

    for (uid, &id) in (0u32..).zip(&machine.apic_ids) {
        table.append_slice(&local_apic(uid, id, uid < machine.cpus_at_start));
    }
    append(&mut table, &IoApic::new(IO_APIC_ID, IO_APIC_GPA, 0));
    for entry in source_overrides() {
        append(&mut table, &entry);
    }
    append(
        &mut table,
        &LocalApicNmi { kind: 4, length: 6, uid: ALL_CPUS, flags: 0.into(), lint: LINT1 },
    );
    if machine.apic_ids.iter().any(|&id| id >= FIRST_X2APIC_ID) {
        let uid = u32::MAX.into();
        append(
            &mut table,
            &LocalX2ApicNmi {
                kind: 10,
                length: 12,
                flags: 0.into(),
                uid,
                lint: LINT1,
                reserved: [0; 3],
            },
        );
    }
    Vec::from(table.as_slice())
}

/// The timer's IRQ 0 comes in at input 2; the SCI and the PCI interrupts are level-triggered,
/// active high.
fn source_overrides() -> impl Iterator<Item = SourceOverride> {
    const AS_THE_BUS: u16 = 0;
    const LEVEL_HIGH: u16 = 0b1101;
    [
        (0, 2, AS_THE_BUS),
        (5, 5, LEVEL_HIGH),
        (9, 9, LEVEL_HIGH),
        (10, 10, LEVEL_HIGH),
        (11, 11, LEVEL_HIGH),
    ]
    .into_iter()
    .map(|(source, gsi, flags)| SourceOverride {
        kind: 2,
        length: 10,
        bus: 0,
        source,
        gsi: U32::new(gsi),
        flags: flags.into(),
    })
}

fn append<T: IntoBytes + Immutable>(table: &mut Sdt, structure: &T) {
    table.append_slice(structure.as_bytes());
}

/// The HPET table (IA-PC HPET specification 1.0a, section 3.2.4).
pub fn hpet() -> Vec<u8> {
    /// Intel, revision 1, three comparators, 64-bit counter, legacy replacement: as the register of
    /// the device says.
    const BLOCK_ID: u32 = 0x8086_a201;
    let mut table = header(*b"HPET", 1);
    table.append_slice(&BLOCK_ID.to_le_bytes());
    let address =
        GAS::new(AddressSpace::SystemMemory, 0, 0, AccessSize::Undefined, HPET_GPA.into());
    let mut bytes = Vec::new();
    address.to_aml_bytes(&mut bytes);
    table.append_slice(&bytes);
    // Number 0, no minimum tick, no page protection.
    table.append_slice(&[0; 4]);
    Vec::from(table.as_slice())
}
