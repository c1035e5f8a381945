//! Configuration mechanism 1 and the functions on bus 0 (PCI Local Bus Specification 3.0, section
//! 3.2.2.3.2).

use super::{Bdf, ConfigEffect, PciFunction, PciRegion};
use crate::bus::{Access, PioDevice, Region};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use bitfield_struct::bitfield;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Once;

/// The configuration address register, port CF8h.
#[bitfield(u32)]
struct ConfigAddress {
    #[bits(2)]
    __: u8,
    #[bits(6)]
    register: u8,
    devfn: u8,
    bus: u8,
    #[bits(7)]
    __: u8,
    enable: bool,
}

const ADDRESS_REGION: u8 = 0;
const DATA_REGION: u8 = 1;

/// Told when the port or memory map has to be made anew.
pub trait MapObserver: Send + Sync {
    /// A configuration write to `function` changed what [`PciFunction::regions`] returns; at the
    /// host bridge, PAM or SMRAM. Called after the write, on the writing vCPU, with no lock
    /// held.
    fn map_changed(&self, function: Bdf);
}

/// PCI bus 0 and the ports that configure it (CF8h, and CFCh to CFFh; the bytes between belong to
/// others).
pub struct PciBus {
    /// Indexed by device and function.
    functions: Box<[Option<Arc<dyn PciFunction>>; 256]>,
    observer: Once<Weak<dyn MapObserver>>,
    address: AtomicU32,
}

impl Default for PciBus {
    fn default() -> Self {
        Self::new()
    }
}

impl PciBus {
    /// A bus without functions.
    pub fn new() -> Self {
        Self {
            functions: Box::new([const { None }; 256]),
            observer: Once::new(),
            address: AtomicU32::new(0),
        }
    }

    /// Puts a function on the bus.
    pub fn attach(&mut self, bdf: Bdf, function: Arc<dyn PciFunction>) {
        self.functions[usize::from(bdf.devfn())] = Some(function);
    }

    /// Names the observer, once.
    pub fn observe(&self, observer: Weak<dyn MapObserver>) {
        self.observer.call_once(|| observer);
    }

    /// Every range that some function decodes now.
    pub fn regions(&self) -> Vec<(Bdf, PciRegion)> {
        let mut all = Vec::new();
        for (devfn, function) in (0..=255u8).zip(self.functions.iter()) {
            let Some(function) = function else { continue };
            let bdf = Bdf { device: devfn >> 3, function: devfn & 7 };
            all.extend(function.regions().into_iter().map(|region| (bdf, region)));
        }
        all
    }

    fn selected(&self) -> Option<(Bdf, &Arc<dyn PciFunction>, u8)> {
        let address = ConfigAddress::from(self.address.load(Ordering::Relaxed));
        if !address.enable() || address.bus() != 0 {
            return None;
        }
        let devfn = address.devfn();
        let function = self.functions[usize::from(devfn)].as_ref()?;
        Some((Bdf { device: devfn >> 3, function: devfn & 7 }, function, address.register() << 2))
    }

    fn data_write(&self, offset: u64, size_bytes: u8, value: u32) {
        let Some((bdf, function, register)) = self.selected() else { return };
        let shift = (offset as u32 & 3) * 8;
        let mask = (Access::new(0, size_bytes).mask() as u32) << shift;
        if function.config_write(register, value << shift, mask) == ConfigEffect::Map
            && let Some(observer) = self.observer.get().and_then(Weak::upgrade)
        {
            observer.map_changed(bdf);
        }
    }
}

impl PioDevice for PciBus {
    fn ports(&self) -> Vec<Region> {
        [Region::new(ADDRESS_REGION, 0xcf8, 1), Region::new(DATA_REGION, 0xcfc, 4)].into()
    }

    fn pio_read(&self, access: Access) -> Option<u32> {
        match (access.region, access.size_bytes) {
            (DATA_REGION, _) => {
                let (_, function, register) = self.selected()?;
                let shift = (access.offset as u32 & 3) * 8;
                // Bytes past the register's end read as ones.
                let ones = !(u32::MAX >> shift);
                Some(function.config_read(register) >> shift | ones)
            }
            // Only a 32-bit access reaches the address register; others go to whatever else is at
            // CF8h.
            (ADDRESS_REGION, 4) => Some(self.address.load(Ordering::Relaxed)),
            _ => None,
        }
    }

    fn pio_write(&self, access: Access, value: u32) {
        match (access.region, access.size_bytes) {
            (DATA_REGION, size_bytes) => self.data_write(access.offset, size_bytes, value),
            (ADDRESS_REGION, 4) => self.address.store(value, Ordering::Relaxed),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::config::{Bar, ConfigSpace, Identity};
    use core::sync::atomic::AtomicUsize;
    use spin::Mutex;

    struct Card(Mutex<ConfigSpace>);

    impl PciFunction for Card {
        fn config_read(&self, register: u8) -> u32 {
            self.0.lock().read(register)
        }
        fn config_write(&self, register: u8, value: u32, mask: u32) -> ConfigEffect {
            self.0.lock().write(register, value, mask)
        }
        fn regions(&self) -> Vec<PciRegion> {
            self.0.lock().regions()
        }
    }

    #[derive(Default)]
    struct Changes(AtomicUsize);

    impl MapObserver for Changes {
        fn map_changed(&self, function: Bdf) {
            assert_eq!(function, Bdf::new(2, 0));
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn bus() -> PciBus {
        let identity = Identity {
            vendor: 0x8086,
            device: 0x7010,
            revision: 1,
            class: 0x01_01_80,
            subsystem: 0,
        };
        let card =
            Card(Mutex::new(ConfigSpace::new(identity).with_bar(4, Bar::Pio { length: 16 })));
        let mut bus = PciBus::new();
        bus.attach(Bdf::new(2, 0), Arc::new(card));
        bus
    }

    const fn data(offset: u64, size_bytes: u8) -> Access {
        Access { region: DATA_REGION, offset, size_bytes }
    }

    fn select(bus: &PciBus, address: u32) {
        bus.pio_write(Access::new(0, 4), address);
    }

    #[test]
    fn the_presence_check_of_operating_systems_succeeds() {
        let bus = bus();
        bus.pio_write(Access::new(3, 1), 1);
        assert_eq!(bus.pio_read(Access::new(0, 4)), Some(0));
        select(&bus, 0x8000_0000);
        assert_eq!(bus.pio_read(Access::new(0, 4)), Some(0x8000_0000));
        assert_eq!(bus.pio_read(Access::new(0, 1)), None);
    }

    #[test]
    fn parts_of_a_register_are_read_and_written() {
        let bus = bus();
        select(&bus, 0x8000_1000);
        assert_eq!(bus.pio_read(data(0, 2)).map(|value| value as u16), Some(0x8086));
        assert_eq!(bus.pio_read(data(2, 2)).map(|value| value as u16), Some(0x7010));
        assert_eq!(bus.pio_read(data(0, 4)), Some(0x7010_8086));
        assert_eq!(bus.pio_read(data(3, 1)).map(|value| value as u8), Some(0x70));
        assert_eq!(bus.pio_read(data(3, 4)), Some(0xffff_ff70));
        select(&bus, 0x8000_1020);
        bus.pio_write(data(1, 1), 0xc0);
        bus.pio_write(data(3, 4), 0xffff_ff00);
        assert_eq!(bus.pio_read(data(0, 4)), Some(0x0000_c001));
    }

    #[test]
    fn what_is_absent_is_not_decoded() {
        let bus = bus();
        for address in [0x0000_1000, 0x8001_1000, 0x8000_1100, 0x8000_0000] {
            select(&bus, address);
            assert_eq!(bus.pio_read(data(0, 4)), None);
            bus.pio_write(data(0, 4), 0);
        }
    }

    #[test]
    fn the_observer_hears_of_moves_only() {
        let bus = bus();
        let changes = Arc::new(Changes::default());
        let observer: Weak<dyn MapObserver> =
            Arc::downgrade(&(changes.clone() as Arc<dyn MapObserver>));
        bus.observe(observer);
        select(&bus, 0x8000_1020);
        bus.pio_write(data(0, 4), 0xc000);
        assert_eq!(changes.0.load(Ordering::Relaxed), 0);
        select(&bus, 0x8000_1004);
        bus.pio_write(data(0, 2), 5);
        assert_eq!(changes.0.load(Ordering::Relaxed), 1);
        assert_eq!(bus.regions().len(), 1);
        select(&bus, 0x8000_1020);
        bus.pio_write(data(0, 4), 0xd000);
        assert_eq!(changes.0.load(Ordering::Relaxed), 2);
        assert_eq!(bus.regions()[0].1.region, Region::new(4, 0xd000, 16));
    }
}
