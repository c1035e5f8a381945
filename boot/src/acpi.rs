//! The machine's own ACPI tables: interrupt controllers, the PM timer, how to turn it off and reset it.

use crate::memory::{host, paging::Mapping};
use crate::power::{PowerControls, Register};
use ::acpi::address::{AddressSpace, GenericAddress};
use ::acpi::fadt::Fadt;
use ::acpi::madt::{Madt, MadtEntry};
use ::acpi::rsdp::Rsdp;
use ::acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use alloc::vec::Vec;
use core::ptr::NonNull;

/// An I/O APIC.
#[derive(Clone, Copy, Debug)]
pub struct IoApicInfo {
    /// Physical address of its registers.
    pub address: u64,
    /// The global system interrupt of its first input.
    pub first_gsi: u32,
}

/// Where an ISA interrupt arrives.
#[derive(Clone, Copy, Debug)]
pub struct InterruptSource {
    /// Global system interrupt.
    pub gsi: u32,
    /// Level-triggered.
    pub level: bool,
    /// Active low.
    pub active_low: bool,
}

/// What the hypervisor wants of the tables.
#[derive(Debug)]
pub struct Tables {
    /// Local APIC ids of the CPUs that can be used, in the firmware's order.
    pub cpus: Vec<u32>,
    /// The I/O APICs.
    pub io_apics: Vec<IoApicInfo>,
    /// The ISA interrupts.
    pub isa_interrupts: [InterruptSource; 16],
    /// Port of the PM timer.
    pub pm_timer: Option<u16>,
    /// CMOS register of the century.
    pub century_register: Option<u8>,
    /// Power off and reset.
    pub power: PowerControls,
}

impl Tables {
    fn empty() -> Self {
        let source = |irq: usize| InterruptSource { gsi: irq as u32, level: false, active_low: false };
        Self {
            cpus: Vec::new(),
            io_apics: Vec::new(),
            isa_interrupts: core::array::from_fn(source),
            pm_timer: None,
            century_register: None,
            power: PowerControls::default(),
        }
    }

    /// Firmware may name a CPU twice, by both kinds of entries.
    fn add_cpu(&mut self, apic_id: u32) {
        if !self.cpus.contains(&apic_id) {
            self.cpus.push(apic_id);
        }
    }
}

/// Finds tables at their physical addresses.
#[derive(Clone)]
struct Identity;

impl AcpiHandler for Identity {
    unsafe fn map_physical_region<T>(
        &self,
        physical_address: usize,
        size: usize,
    ) -> PhysicalMapping<Self, T> {
        // Failing leaves the region unmapped: the page fault that follows names the address.
        if host::map(physical_address as u64, size as u64, Mapping::CONSTANTS).is_err() {
            log::error!("no memory left to map ACPI tables at {physical_address:#x}");
        }
        let start = NonNull::new(physical_address as *mut T).unwrap_or(NonNull::dangling());
        // SAFETY: the caller says that the region holds a `T`; it is mapped at its physical address now.
        unsafe { PhysicalMapping::new(physical_address, start, size, size, Self) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// Looks for the root pointer where a BIOS leaves it. Works under the entry code's page tables only, which map the
/// first page.
pub fn search_rsdp() -> Option<usize> {
    // SAFETY: the BIOS's areas below 1 MiB can be read on any PC, UEFI ones included; what is found is validated.
    unsafe { Rsdp::search_for_on_bios(Identity) }.ok().map(|rsdp| rsdp.physical_start())
}

/// Reads the tables. Whatever is missing is left at a PC's defaults.
pub fn read(rsdp: Option<usize>) -> Tables {
    let mut tables = Tables::empty();
    let Some(rsdp) = rsdp else {
        log::warn!("no ACPI tables found");
        return tables;
    };
    // SAFETY: the address is the boot loader's copy of the root pointer or a validated one; tables are validated too.
    match unsafe { AcpiTables::from_rsdp(Identity, rsdp) } {
        Ok(root) => {
            read_madt(&root, &mut tables);
            read_fadt(&root, &mut tables);
        }
        Err(error) => log::warn!("the ACPI tables cannot be read: {error:?}"),
    }
    tables
}

fn read_madt(root: &AcpiTables<Identity>, tables: &mut Tables) {
    const ENABLED: u32 = 1;
    let Ok(madt) = root.find_table::<Madt>() else {
        log::warn!("no ACPI MADT");
        return;
    };
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::LocalApic(cpu) if { cpu.flags } & ENABLED != 0 => tables.add_cpu(cpu.apic_id.into()),
            MadtEntry::LocalX2Apic(cpu) if { cpu.flags } & ENABLED != 0 => tables.add_cpu(cpu.x2apic_id),
            MadtEntry::IoApic(apic) => tables.io_apics.push(IoApicInfo {
                address: { apic.io_apic_address }.into(),
                first_gsi: apic.global_system_interrupt_base,
            }),
            MadtEntry::InterruptSourceOverride(source) => {
                if let Some(slot) = tables.isa_interrupts.get_mut(usize::from(source.irq)) {
                    let flags = source.flags;
                    *slot = InterruptSource {
                        gsi: source.global_system_interrupt,
                        active_low: flags & 0b11 == 0b11,
                        level: flags >> 2 & 0b11 == 0b11,
                    };
                }
            }
            _ => {}
        }
    }
}

fn read_fadt(root: &AcpiTables<Identity>, tables: &mut Tables) {
    let Ok(fadt) = root.find_table::<Fadt>() else {
        log::warn!("no ACPI FADT: the machine cannot be turned off by software");
        return;
    };
    let io_port = |address: GenericAddress| match address.address_space {
        AddressSpace::SystemIo => u16::try_from(address.address).ok().filter(|&port| port != 0),
        _ => None,
    };
    tables.pm_timer = fadt.pm_timer_block().ok().flatten().and_then(io_port);
    tables.century_register = (fadt.century != 0).then_some(fadt.century);
    tables.power.pm1a_control = fadt.pm1a_control_block().ok().and_then(io_port);
    tables.power.pm1b_control = fadt.pm1b_control_block().ok().flatten().and_then(io_port);
    tables.power.enable = u16::try_from(fadt.smi_cmd_port)
        .ok()
        .filter(|&port| port != 0 && fadt.acpi_enable != 0)
        .map(|port| (port, fadt.acpi_enable));
    if { fadt.flags }.supports_system_reset_via_fadt()
        && let Ok(address) = fadt.reset_register()
    {
        let register = match address.address_space {
            AddressSpace::SystemIo => u16::try_from(address.address).ok().map(Register::Port),
            AddressSpace::SystemMemory => Some(Register::Memory(address.address)),
            _ => None,
        };
        tables.power.reset = register.map(|register| (register, fadt.reset_value));
    }
    if let Ok(dsdt) = root.dsdt() {
        let length = dsdt.length as usize;
        if host::map(dsdt.address as u64, length as u64, Mapping::CONSTANTS).is_ok() {
            // SAFETY: the DSDT's own header gives its length, and it is mapped now.
            let aml = unsafe { core::slice::from_raw_parts(dsdt.address as *const u8, length) };
            tables.power.s5 = crate::power::find_s5(aml);
        }
    }
}
