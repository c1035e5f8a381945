//! How to turn the machine off and reset it, and what else the FADT says (5.2.9).

use crate::table::Table;
use crate::{PhysicalMemory, Tables, s5};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A register of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// An I/O port.
    Port(u16),
    /// A physical address.
    Memory(u64),
}

/// How power is controlled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerControls {
    /// Port of PM1a_CNT.
    pub pm1a_control: Option<u16>,
    /// Port of PM1b_CNT.
    pub pm1b_control: Option<u16>,
    /// Port and value that turn ACPI on.
    pub enable: Option<(u16, u8)>,
    /// Sleep types of S5 for PM1a_CNT and PM1b_CNT.
    pub s5: Option<[u8; 2]>,
    /// Register and value that reset the machine.
    pub reset: Option<(Register, u8)>,
}

/// A generic address (table 5.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GenericAddress {
    pub space: u8,
    pub width_bits: u8,
    pub offset_bits: u8,
    pub access_size: u8,
    pub address: U64,
}

/// Address spaces.
mod space {
    pub const MEMORY: u8 = 0;
    pub const IO: u8 = 1;
}

/// The fixed description (table 5.9) behind the header, as far as it is used. Earlier versions end
/// before.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Fadt {
    pub firmware_control: U32,
    pub dsdt: U32,
    reserved_44: [u8; 4],
    pub smi_command: U32,
    pub acpi_enable: u8,
    reserved_53: [u8; 11],
    pub pm1a_control: U32,
    pub pm1b_control: U32,
    reserved_72: [u8; 4],
    pub pm_timer: U32,
    reserved_80: [u8; 28],
    pub century: u8,
    reserved_109: [u8; 3],
    pub flags: U32,
    pub reset_register: GenericAddress,
    pub reset_value: u8,
    reserved_129: [u8; 11],
    pub x_dsdt: U64,
    reserved_148: [GenericAddress; 2],
    pub x_pm1a_control: GenericAddress,
    pub x_pm1b_control: GenericAddress,
    reserved_196: GenericAddress,
    pub x_pm_timer: GenericAddress,
}

const HEADER_BYTES: usize = Table::HEADER_BYTES;
const _: () = assert!(core::mem::offset_of!(Fadt, pm1a_control) + HEADER_BYTES == 64);
const _: () = assert!(core::mem::offset_of!(Fadt, century) + HEADER_BYTES == 108);
const _: () = assert!(core::mem::offset_of!(Fadt, x_dsdt) + HEADER_BYTES == 140);
const _: () = assert!(core::mem::offset_of!(Fadt, x_pm_timer) + HEADER_BYTES == 208);

/// FADT flag: the reset register exists (table 5.10).
pub const RESET_REGISTER_SUPPORTED: u32 = 1 << 10;

/// A port, if there is one.
fn port(address: u64) -> Option<u16> {
    u16::try_from(address).ok().filter(|&port| port != 0)
}

/// A port that two fields say: the later one, if it says one.
fn register_block(old: U32, new: GenericAddress) -> Option<u16> {
    match new.address.get() {
        0 => port(old.get().into()),
        address if new.space == space::IO => port(address),
        _ => None,
    }
}

/// Reads the table, and the DSDT that it leads to.
pub fn read(table: &Table<'_>, memory: &dyn PhysicalMemory, tables: &mut Tables) {
    // Fields that the table is too short for are zero.
    let mut fadt = Fadt::new_zeroed();
    fadt.as_mut_bytes().iter_mut().zip(table.content()).for_each(|(to, from)| *to = *from);
    tables.pm_timer = register_block(fadt.pm_timer, fadt.x_pm_timer);
    tables.century_register = (fadt.century != 0).then_some(fadt.century);
    let power = &mut tables.power;
    power.pm1a_control = register_block(fadt.pm1a_control, fadt.x_pm1a_control);
    power.pm1b_control = register_block(fadt.pm1b_control, fadt.x_pm1b_control);
    let enable = port(fadt.smi_command.get().into()).filter(|_| fadt.acpi_enable != 0);
    power.enable = enable.map(|port| (port, fadt.acpi_enable));
    if fadt.flags.get() & RESET_REGISTER_SUPPORTED != 0 {
        let address = fadt.reset_register.address.get();
        let register = match fadt.reset_register.space {
            space::IO => port(address).map(Register::Port),
            space::MEMORY if address != 0 => Some(Register::Memory(address)),
            _ => None,
        };
        power.reset = register.map(|register| (register, fadt.reset_value));
    }
    let dsdt =
        [fadt.x_dsdt.get(), fadt.dsdt.get().into()].into_iter().filter(|&address| address != 0);
    let dsdt = dsdt.into_iter().find_map(|address| Table::read(memory, address, b"DSDT"));
    power.s5 = dsdt.and_then(|dsdt| s5::find(dsdt.content()));
}
