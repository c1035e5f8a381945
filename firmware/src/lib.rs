//! The guest's firmware: SeaBIOS in memory, fw_cfg files, ACPI, SMBIOS, e820.
//!
//! Everything here is computed from a [`MachineDescription`] before the guest starts: the
//! firmware's image with the places it goes to ([`Firmware::placements`]), and the files that it
//! fetches through fw_cfg ([`fw_cfg_files`]).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod boot_order;
pub mod e820;
pub mod option_rom;
pub mod seabios;
pub mod smbios;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use boot_order::BootDevice;
use devices::fw_cfg::{File, MachineFacts};
use devices::ram_layout::RamLayout;
use seabios::{ImageError, Placement};

/// The description of the machine for the firmware and, through its tables, for the guest's system.
///
/// ```
/// use devices::ram_layout::RamLayout;
/// use firmware::MachineDescription;
///
/// let machine = MachineDescription {
///     ram: RamLayout::new(64 << 20),
///     apic_ids: vec![0],
///     cpus_at_start: 1,
///     cpu_mhz: 0,
///     com_ports: [true, false, false, false],
///     hpet: true,
///     uuid: [0; 16],
///     generation_id: None,
///     boot_order: Vec::new(),
///     boot_menu: false,
///     boot_fail_wait_ms: None,
///     vga_bios: None,
///     boot_rom: None,
/// };
/// let files = firmware::fw_cfg_files(&machine);
/// let (_, map) = files.iter().find(|(name, _)| name == "etc/e820").expect("a memory map");
/// assert_eq!(map[8..16], (64u64 << 20).to_le_bytes());
/// ```
#[derive(Clone, Debug)]
pub struct MachineDescription {
    /// The RAM, a multiple of 4 KiB.
    pub ram: RamLayout,
    /// The local APIC's ID of each vCPU that there may be, in the order of the vCPUs.
    pub apic_ids: Vec<u32>,
    /// So many of them are there when the machine starts: the first ones.
    pub cpus_at_start: u32,
    /// The processors' clock, MHz; 0 if unknown.
    pub cpu_mhz: u16,
    /// Which of COM1 to COM4 there are.
    pub com_ports: [bool; 4],
    /// True if there is an HPET.
    pub hpet: bool,
    /// The machine's UUID, in the order of its text form.
    pub uuid: [u8; 16],
    /// The VM generation ID, if the system is to find one.
    pub generation_id: Option<[u8; 16]>,
    /// Where to boot from, the first choice first.
    pub boot_order: Vec<BootDevice>,
    /// True if the firmware shall offer its boot menu (and wait 2.5 s for the key).
    pub boot_menu: bool,
    /// How long the firmware waits before it starts again when nothing could be booted; 60 s if
    /// `None`.
    pub boot_fail_wait_ms: Option<u32>,
    /// The video BIOS of the standard VGA (PCI 1234:1111), if its PCI device offers none itself.
    pub vga_bios: Option<Arc<[u8]>>,
    /// The ROM that reads CDs through [`devices::boot_disk`].
    pub boot_rom: Option<Arc<[u8]>>,
}

impl MachineDescription {
    /// The machine's facts for fw_cfg's well-known items.
    pub fn facts(&self) -> MachineFacts {
        let max_apic_id = self.apic_ids.iter().copied().max().unwrap_or(0);
        MachineFacts {
            ram_bytes: self.ram.bytes(),
            cpu_count: self.cpu_count(),
            max_cpus: u16::try_from(max_apic_id).map_or(u16::MAX, |id| id.saturating_add(1)),
            uuid: self.uuid,
            boot_menu: self.boot_menu,
        }
    }

    /// The CD-ROM drives in the order in which the BIOS numbers them, from E0h on; `present` is in
    /// the order of their positions. None if the person at the boot menu can change it.
    pub fn numbered_cds(&self, mut present: Vec<BootDevice>) -> Vec<BootDevice> {
        if self.boot_menu && present.len() > 1 {
            return Vec::new();
        }
        boot_order::sort_as_numbered(&self.boot_order, &mut present);
        present
    }

    fn cpu_count(&self) -> u16 {
        u16::try_from(self.cpus_at_start).unwrap_or(u16::MAX)
    }
}

/// The firmware that a guest starts with: its image.
#[derive(Clone, Copy, Debug)]
pub enum Firmware<'a> {
    /// SeaBIOS, the PC's BIOS.
    SeaBios(&'a [u8]),
}

impl<'a> Firmware<'a> {
    /// The parts of the image, and where they lie at reset. Where two overlap RAM, they are what
    /// the guest reads.
    ///
    /// # Errors
    /// [`ImageError`] if the image is not one.
    pub fn placements(&self) -> Result<Vec<Placement<'a>>, ImageError> {
        match self {
            Self::SeaBios(image) => seabios::placements(image).map(Vec::from),
        }
    }
}

/// The files that the firmware finds in fw_cfg.
pub fn fw_cfg_files(machine: &MachineDescription) -> Vec<File> {
    let acpi = acpi::files(machine);
    let smbios = smbios::files(machine);
    let mut files: Vec<File> = Vec::from([
        file("etc/e820", e820::file(&machine.ram)),
        file("bootorder", boot_order::file(&machine.boot_order)),
        file("etc/boot-cpus", machine.cpu_count().to_le_bytes()),
        file("etc/acpi/tables", acpi.tables),
        file("etc/acpi/rsdp", acpi.rsdp),
        file("etc/table-loader", acpi.loader),
        file("etc/smbios/smbios-anchor", smbios.anchor),
        file("etc/smbios/smbios-tables", smbios.tables),
    ]);
    files.extend(machine.boot_fail_wait_ms.map(|ms| file("etc/boot-fail-wait", ms.to_le_bytes())));
    // SeaBIOS looks for an option ROM of this name before it looks into the PCI device
    // (src/optionroms.c).
    files.extend(machine.vga_bios.clone().map(|image| (String::from("pci1234,1111.rom"), image)));
    files.extend(
        machine.boot_rom.clone().map(|image| (String::from("genroms/bulkhead.rom"), image)),
    );
    files
}

fn file(name: &str, data: impl Into<Vec<u8>>) -> File {
    (String::from(name), Arc::from(data.into()))
}

#[cfg(test)]
mod test_machine {
    use super::*;

    /// A machine of two CPUs, 512 MiB and a CD.
    pub fn description() -> MachineDescription {
        MachineDescription {
            ram: RamLayout::new(512 << 20),
            apic_ids: Vec::from([0, 1]),
            cpus_at_start: 2,
            cpu_mhz: 2600,
            com_ports: [true, true, false, false],
            hpet: true,
            uuid: *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
            generation_id: None,
            boot_order: Vec::from([BootDevice::Ide { channel: 1, unit: 0 }]),
            boot_menu: false,
            boot_fail_wait_ms: None,
            vga_bios: None,
            boot_rom: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn files_have_unique_names_and_contents() {
        let mut machine = test_machine::description();
        machine.vga_bios = Some(Arc::from([0x55, 0xaa]));
        machine.boot_rom = Some(Arc::from([0x55, 0xaa]));
        machine.boot_fail_wait_ms = Some(5000);
        let files = fw_cfg_files(&machine);
        let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 11);
        assert!(files.iter().all(|(name, data)| !data.is_empty() && name.len() < 56));
        let wait = files.iter().find(|(name, _)| name == "etc/boot-fail-wait").unwrap();
        assert_eq!(*wait.1, 5000u32.to_le_bytes());
    }

    #[test]
    fn cds_have_no_known_numbers_where_a_menu_can_change_them() {
        let cd = |unit| BootDevice::Ide { channel: 1, unit };
        let mut machine = test_machine::description();
        machine.boot_order = Vec::from([cd(1)]);
        assert_eq!(machine.numbered_cds(Vec::from([cd(0), cd(1)])), [cd(1), cd(0)]);
        machine.boot_menu = true;
        assert_eq!(machine.numbered_cds(Vec::from([cd(0), cd(1)])), []);
        assert_eq!(machine.numbered_cds(Vec::from([cd(0)])), [cd(0)]);
    }

    #[test]
    fn facts_count_apic_ids_and_cpus() {
        let mut machine = test_machine::description();
        machine.apic_ids = Vec::from([0, 2, 4]);
        machine.cpus_at_start = 3;
        let facts = machine.facts();
        assert_eq!((facts.cpu_count, facts.max_cpus), (3, 5));
        machine.cpus_at_start = 1;
        let facts = machine.facts();
        assert_eq!((facts.cpu_count, facts.max_cpus), (1, 5), "the firmware starts those");
    }
}
