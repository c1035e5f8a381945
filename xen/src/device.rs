//! The platform PCI device: the ports by which guests unplug emulated devices, and addresses for
//! what the platform shares with them.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use devices::bus::{Access, MmioDevice, PioDevice, Region};
use devices::lock::DeviceLock;
use devices::pci::config::CommandStatus;
use devices::pci::{Bar, ConfigEffect, ConfigSpace, Identity, PciFunction, PciRegion, Space};

/// XenSource's, and the platform device's.
const VENDOR: u16 = 0x5853;
const DEVICE: u16 = 1;
/// Unclassified, as Xen's.
const CLASS: u32 = 0xff_80_00;
/// Base address register 0: ports; 1: addresses where guests put pages.
pub const PORTS_BAR: u8 = 0;
/// See [`PORTS_BAR`].
pub const MEMORY_BAR: u8 = 1;
/// Ports of [`PORTS_BAR`].
pub const BAR_PORTS: u32 = 256;
/// Bytes of [`MEMORY_BAR`].
pub const BAR_BYTES: u32 = 16 << 20;

/// The fixed ports, as a region of their own.
const FIXED: u8 = 6;
const FIXED_BASE: u64 = 0x10;
const FIXED_PORTS: u64 = 0x10;
const FLAGS: u64 = 0;
const PROTOCOL_OR_LOG: u64 = 2;
/// In [`PORTS_BAR`].
const BAR_LOG: u64 = 8;
/// Read at the first fixed port: the device is there.
const MAGIC: u32 = 0x49d2;
const PROTOCOL: u32 = 1;
/// The guest locks its option ROMs.
const FLAGS_WRITABLE: u8 = 1;
/// A line of the guest's, in the hypervisor's log; the rest of a longer one is another line.
const MAX_LINE_BYTES: usize = 256;
/// Lines of one life: the log is shared with others.
const MAX_LINES: u32 = 256;

/// Emulated devices that a guest no longer wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unplug {
    /// All disks.
    pub disks: bool,
    /// All disks but the first.
    pub auxiliary_disks: bool,
    /// Network cards.
    pub network: bool,
}

impl Unplug {
    const fn decode(mask: u16) -> Self {
        Self { disks: mask & 1 != 0, auxiliary_disks: mask & 4 != 0, network: mask & 2 != 0 }
    }
}

/// Takes emulated devices away, for good: CD-ROM drives stay.
pub trait EmulatedDevices: Send + Sync {
    /// The guest drives those by PV drivers.
    fn unplug(&self, unplug: Unplug);
}

struct State {
    config: ConfigSpace,
    flags: u8,
    line: String,
    lines_left: u32,
}

/// The platform PCI device.
pub struct PlatformDevice {
    guest: String,
    emulated: Arc<dyn EmulatedDevices>,
    state: DeviceLock<State>,
}

impl PlatformDevice {
    /// The device of the guest called `guest`.
    pub fn new(guest: &str, emulated: Arc<dyn EmulatedDevices>) -> Self {
        let identity = Identity {
            vendor: VENDOR,
            device: DEVICE,
            revision: 1,
            class: CLASS,
            subsystem: u32::from(DEVICE) << 16 | u32::from(VENDOR),
        };
        let memory = Bar::Memory { length: BAR_BYTES, prefetchable: true, space: Space::Mmio };
        let config = ConfigSpace::new(identity)
            .with_bar(PORTS_BAR, Bar::Pio { length: BAR_PORTS })
            .with_bar(MEMORY_BAR, memory)
            .with_interrupt_pin(1)
            .with_command_status(CommandStatus::new().with_io(true).with_memory(true));
        let state = State { config, flags: 0, line: String::new(), lines_left: MAX_LINES };
        Self { guest: guest.into(), emulated, state: DeviceLock::new(state) }
    }

    /// A byte of a line for the log.
    fn log(&self, byte: u8) {
        let mut state = self.state.lock();
        if byte != b'\n' && state.line.len() < MAX_LINE_BYTES {
            if matches!(byte, b' '..=b'~') {
                state.line.push(byte.into());
            }
            return;
        }
        let line = core::mem::take(&mut state.line);
        if let Some(left) = state.lines_left.checked_sub(1) {
            state.lines_left = left;
            log::info!("{}: PV drivers: {line}", self.guest);
        }
    }
}

impl PciFunction for PlatformDevice {
    fn config_read(&self, register: u8) -> u32 {
        self.state.lock().config.read(register)
    }

    fn config_write(&self, register: u8, value: u32, mask: u32) -> ConfigEffect {
        self.state.lock().config.write(register, value, mask)
    }

    fn regions(&self) -> Vec<PciRegion> {
        self.state.lock().config.regions()
    }
}

impl PioDevice for PlatformDevice {
    fn ports(&self) -> Vec<Region> {
        [Region::new(FIXED, FIXED_BASE, FIXED_PORTS)].into()
    }

    fn pio_read(&self, access: Access) -> Option<u32> {
        match (access.region, access.offset, access.size_bytes) {
            (FIXED, FLAGS, 2) => Some(MAGIC),
            (FIXED | PORTS_BAR, FLAGS, 1) => Some(self.state.lock().flags.into()),
            (FIXED, PROTOCOL_OR_LOG, 1) => Some(PROTOCOL),
            _ => None,
        }
    }

    fn pio_write(&self, access: Access, value: u32) {
        match (access.region, access.offset, access.size_bytes) {
            (FIXED, FLAGS, 2) => {
                let unplug = Unplug::decode(value as u16);
                if unplug != Unplug::default() {
                    self.emulated.unplug(unplug);
                }
            }
            (FIXED | PORTS_BAR, FLAGS, 1) => {
                self.state.lock().flags = value as u8 & FLAGS_WRITABLE;
            }
            (FIXED, PROTOCOL_OR_LOG, 1) | (PORTS_BAR, BAR_LOG, 1) => self.log(value as u8),
            // Number of the product and its build: no driver is refused.
            _ => {}
        }
    }
}

impl MmioDevice for PlatformDevice {
    fn ranges(&self) -> Vec<Region> {
        Vec::new()
    }

    /// Where no page is, zeroes are.
    fn mmio_read(&self, _access: Access) -> Option<u64> {
        Some(0)
    }

    fn mmio_write(&self, _access: Access, _value: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use spin::Mutex;

    #[derive(Default)]
    struct Probe(Mutex<Vec<Unplug>>);

    impl EmulatedDevices for Probe {
        fn unplug(&self, unplug: Unplug) {
            self.0.lock().push(unplug);
        }
    }

    fn at(region: u8, offset: u64, size_bytes: u8) -> Access {
        Access { region, offset, size_bytes }
    }

    #[test]
    fn linux_unplugs_disks_and_network_cards() {
        let probe = Arc::new(Probe::default());
        let device = PlatformDevice::new("g", probe.clone());
        assert_eq!(device.pio_read(at(FIXED, 0, 2)), Some(0x49d2));
        assert_eq!(device.pio_read(at(FIXED, 2, 1)), Some(1));
        // Product and build of Linux's drivers.
        device.pio_write(at(FIXED, 2, 2), 3);
        device.pio_write(at(FIXED, 0, 4), 1);
        assert!(probe.0.lock().is_empty());
        device.pio_write(at(FIXED, 0, 2), 3);
        let all = Unplug { disks: true, network: true, auxiliary_disks: false };
        assert_eq!(*probe.0.lock(), [all]);
    }

    #[test]
    fn drivers_find_the_device_with_its_registers() {
        let device = PlatformDevice::new("g", Arc::new(Probe::default()));
        assert_eq!(device.config_read(0), 0x0001_5853);
        assert_eq!(device.config_read(8), 0xff80_0001);
        assert_eq!(device.config_read(0x2c), 0x0001_5853);
        assert_eq!(device.config_read(4) & 3, 3, "it decodes its registers at power-on");
        assert_eq!(device.config_read(0x3c) >> 8, 1);
        let _ = device.config_write(0x14, u32::MAX, u32::MAX);
        assert_eq!(device.config_read(0x14), 0xff00_0008);
    }

    #[test]
    fn flags_are_one_bit_and_what_is_not_there_is_not_decoded() {
        let device = PlatformDevice::new("g", Arc::new(Probe::default()));
        device.pio_write(at(PORTS_BAR, 0, 1), 0xff);
        assert_eq!(device.pio_read(at(FIXED, 0, 1)), Some(1));
        assert_eq!(device.pio_read(at(FIXED, 4, 4)), None);
        assert_eq!(device.mmio_read(at(MEMORY_BAR, 0x1000, 8)), Some(0));
        for byte in 0..=255 {
            device.pio_write(at(FIXED, 2, 1), byte);
        }
        assert!(device.state.lock().line.len() <= MAX_LINE_BYTES);
    }
}
