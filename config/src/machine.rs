//! A configured guest as it is described to the firmware.

use alloc::vec::Vec;

use devices::ram_layout::RamLayout;
use firmware::MachineDescription;
use firmware::boot_order::{self, BootDevice, Bootable};

use super::guest::Serial;
use super::{DiskKind, GuestConfig};

impl GuestConfig {
    /// The machine that the firmware finds. `uuid` stands in where the configuration names none;
    /// `apic_ids` are those of all vCPUs that there may be, in their order.
    pub fn machine_description(&self, uuid: [u8; 16], apic_ids: Vec<u32>) -> MachineDescription {
        MachineDescription {
            ram: RamLayout::new(self.ram_mib() << 20),
            apic_ids,
            cpus_at_start: self.vcpus,
            cpu_mhz: 0,
            com_ports: self.serial.map(|serial| serial != Serial::None),
            hpet: self.hpet,
            uuid: self.uuid.unwrap_or(uuid),
            generation_id: None,
            boot_order: self.boot_devices(),
            boot_menu: false,
            boot_fail_wait_ms: None,
            vga_bios: None,
            boot_rom: None,
        }
    }

    /// The RAM that the guest finds when it starts: with PV drivers it can give back what it is not
    /// to have.
    pub const fn ram_mib(&self) -> u64 {
        if self.xen_platform_pci { self.max_memory_mib } else { self.memory_mib }
    }

    /// The drives in the order of `boot=`.
    fn boot_devices(&self) -> Vec<BootDevice> {
        let drives = self.disks.iter().filter_map(|disk| {
            let (channel, unit) = disk.device.ide_position()?;
            let letter = match disk.kind {
                DiskKind::HardDisk => 'c',
                DiskKind::CdRom => 'd',
            };
            Some(Bootable { letter, device: BootDevice::Ide { channel, unit } })
        });
        boot_order::order(&self.boot, &drives.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_is_told_what_the_file_says() {
        let text = "name='g'; memory=64; boot='dc'; hpet=0\nserial=['none','pty']\n\
                    disk=['x,,xvdb', 'y,,hdc,cdrom', 'z,,hda']";
        let config = GuestConfig::parse("g.cfg", text.as_bytes()).0.unwrap();
        let machine = config.machine_description([9; 16], Vec::from([0]));
        assert_eq!((machine.ram.bytes(), machine.uuid, machine.hpet), (64 << 20, [9; 16], false));
        assert_eq!(machine.com_ports, [false, true, false, false]);
        let ide = |channel, unit| BootDevice::Ide { channel, unit };
        assert_eq!(machine.boot_order, [ide(1, 0), ide(0, 1), ide(0, 0)]);
    }
}
