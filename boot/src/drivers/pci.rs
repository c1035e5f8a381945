//! PCI configuration space: by memory where the firmware says that it is there (PCI Express Base
//! Specification 3.0, 7.2.2), else by ports (PCI Local Bus Specification 3.0, 3.2.2.3).

use super::registers;
use alloc::sync::Arc;
use drivers::Registers;
use drivers::pci::{Address, ConfigSpace, Function};
use host_acpi::PciConfigSpace;
use spin::{Mutex, Once};
use x86::io::{inl, outl};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;
const BUS_BYTES: u64 = 1 << 20;

/// The machine's configuration space.
pub static CONFIG: Config = Config { memory: Once::new(), ports: Mutex::new(()) };

/// The ways to configuration space.
pub struct Config {
    memory: Once<Memory>,
    /// An address and its data are two ports, of which one pair is used at a time.
    ports: Mutex<()>,
}

/// Configuration space in memory.
struct Memory {
    /// From the first bus on.
    registers: Arc<dyn Registers>,
    place: PciConfigSpace,
}

/// Function 0 of the first device on bus 0 with this vendor and device number. Needs no heap.
pub fn find(vendor: u16, device: u16) -> Option<Function<'static>> {
    (0..32)
        .map(|device| Function::new(&CONFIG, Address { bus: 0, device, function: 0 }))
        .find(|function| function.id() == (vendor, device))
}

impl Config {
    /// Uses the configuration space in memory from now on, if what is there is what the ports show.
    pub fn use_memory(&self, place: Option<PciConfigSpace>) {
        let Some(place) = place else { return };
        let buses = u64::from(place.last_bus - place.first_bus) + 1;
        let start = place.base + u64::from(place.first_bus) * BUS_BYTES;
        let Some(registers) = registers::map(start, buses * BUS_BYTES) else { return };
        let memory = Memory { registers, place };
        let first = Address { bus: place.first_bus, device: 0, function: 0 };
        if memory.offset_of(first, 0).is_some_and(|offset| {
            memory.registers.read(offset, 4)
                == self.by_ports(first, 0, |data| {
                    // SAFETY: the configuration ports; reading has no side effect.
                    unsafe { inl(data) }
                })
        }) {
            self.memory.call_once(|| memory);
        }
    }

    /// Accesses a register by ports.
    fn by_ports<R>(&self, at: Address, offset: u8, access: impl FnOnce(u16) -> R) -> R {
        let function = u32::from(at.bus) << 16 | u32::from(at.device) << 11;
        let function = function | u32::from(at.function) << 8;
        let _ports = self.ports.lock();
        // SAFETY: the configuration address port, which selects a register and does no more.
        unsafe { outl(ADDRESS, ENABLE | function | u32::from(offset & !3)) };
        access(DATA)
    }

    fn in_memory(&self, at: Address, offset: u8) -> Option<(&dyn Registers, u64)> {
        let memory = self.memory.get()?;
        Some((&*memory.registers, memory.offset_of(at, offset)?))
    }
}

impl Memory {
    fn offset_of(&self, at: Address, offset: u8) -> Option<u64> {
        let bus = at.bus.checked_sub(self.place.first_bus)?;
        let function = u64::from(at.device) << 15 | u64::from(at.function) << 12;
        let register = function | u64::from(offset & !3);
        (at.bus <= self.place.last_bus).then(|| u64::from(bus) * BUS_BYTES + register)
    }
}

impl ConfigSpace for Config {
    fn read_config(&self, at: Address, offset: u8) -> u32 {
        match self.in_memory(at, offset) {
            Some((registers, offset)) => registers.read(offset, 4),
            // SAFETY: the configuration data port; reading has no side effect.
            None => self.by_ports(at, offset, |data| unsafe { inl(data) }),
        }
    }

    fn write_config(&self, at: Address, offset: u8, value: u32) {
        match self.in_memory(at, offset) {
            Some((registers, offset)) => registers.write(offset, 4, value),
            // SAFETY: the configuration data port; drivers write what their devices take, and see
            // to it that a device's memory accesses stay in memory that is its own.
            None => self.by_ports(at, offset, |data| unsafe { outl(data, value) }),
        }
    }
}
