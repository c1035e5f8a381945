//! The boot order, as SeaBIOS reads it: a file of device paths, the first choice first.
//!
//! SeaBIOS compares each device that it finds with the paths (src/boot.c, `bootprio_find_*`): PCI
//! device and function numbers and unit numbers count, most names do not.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A device to boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootDevice {
    /// A disk or CD-ROM drive at the PIIX3's IDE function, 00:01.1.
    Ide {
        /// 0 primary, 1 secondary.
        channel: u8,
        /// 0 master, 1 slave.
        unit: u8,
    },
    /// A floppy drive, 0 or 1.
    Floppy(u8),
    /// The option ROM of a network card in a PCI slot.
    Network {
        /// PCI device number on bus 0.
        slot: u8,
    },
}

impl BootDevice {
    /// The device's path.
    fn path(self) -> String {
        match self {
            Self::Ide { channel, unit } => {
                format!("/pci@i0cf8/ide@1,1/drive@{channel:x}/disk@{unit:x}")
            }
            Self::Floppy(drive) => format!("/pci@i0cf8/isa@1/fdc@03f0/floppy@{drive:x}"),
            Self::Network { slot } => format!("/pci@i0cf8/ethernet@{slot:x}/ethernet-phy@0"),
        }
    }
}

/// A device that is there, and the `boot=` letter of xl.cfg that means devices of its kind: `a`
/// floppy, `c` hard disk, `d` CD-ROM, `n` network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootable {
    /// `a`, `c`, `d` or `n`.
    pub letter: char,
    /// The device.
    pub device: BootDevice,
}

/// The order that the letters of `boot=` mean with these devices present. Devices of one letter
/// keep their order; those whose letter is not named are left out: SeaBIOS tries them last.
pub fn order(letters: &str, present: &[Bootable]) -> Vec<BootDevice> {
    let mut devices: Vec<BootDevice> = Vec::new();
    for letter in letters.chars() {
        let named = present
            .iter()
            .filter(|bootable| bootable.letter == letter)
            .map(|bootable| bootable.device);
        for device in named {
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
    }
    devices
}

/// Puts drives of one kind into the order in which SeaBIOS numbers them: those that `order` names
/// in its order, then the others, which come in the order of their positions (src/boot.c,
/// `bootentry_add` and `bcv_prepboot`).
pub fn sort_as_numbered(order: &[BootDevice], drives: &mut [BootDevice]) {
    let mut sorted = 0;
    for named in order {
        if let Some(place) = drives[sorted..].iter().position(|drive| drive == named) {
            drives[sorted..=sorted + place].rotate_right(1);
            sorted += 1;
        }
    }
}

/// The file `bootorder`: a path a line, closed by a zero.
pub fn file(devices: &[BootDevice]) -> Vec<u8> {
    let paths: Vec<String> = devices.iter().map(|device| device.path()).collect();
    let mut bytes = paths.join("\n").into_bytes();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const HDA: BootDevice = BootDevice::Ide { channel: 0, unit: 0 };
    const HDB: BootDevice = BootDevice::Ide { channel: 0, unit: 1 };
    const HDC: BootDevice = BootDevice::Ide { channel: 1, unit: 0 };

    #[test]
    fn letters_order_the_devices_that_are_there() {
        let present = [
            Bootable { letter: 'c', device: HDA },
            Bootable { letter: 'c', device: HDB },
            Bootable { letter: 'd', device: HDC },
        ];
        assert_eq!(order("dc", &present), [HDC, HDA, HDB]);
        assert_eq!(order("ndd", &present), [HDC]);
        assert_eq!(order("", &present), []);
    }

    #[test]
    fn named_drives_have_the_first_numbers() {
        let mut drives = [HDA, HDB, HDC];
        sort_as_numbered(&[BootDevice::Floppy(0), HDC, HDB], &mut drives);
        assert_eq!(drives, [HDC, HDB, HDA]);
        sort_as_numbered(&[], &mut drives);
        assert_eq!(drives, [HDC, HDB, HDA]);
    }

    #[test]
    fn paths_are_those_that_seabios_compares() {
        let file = file(&[HDC, BootDevice::Floppy(0), BootDevice::Network { slot: 3 }, HDB]);
        let expected = "/pci@i0cf8/ide@1,1/drive@1/disk@0\n/pci@i0cf8/isa@1/fdc@03f0/floppy@0\n\
                        /pci@i0cf8/ethernet@3/ethernet-phy@0\n/pci@i0cf8/ide@1,1/drive@0/disk@1\0";
        assert_eq!(core::str::from_utf8(&file), Ok(expected));
    }
}
