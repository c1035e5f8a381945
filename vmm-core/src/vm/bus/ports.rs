//! The 65,536 I/O ports.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use devices::bus::{Access, PioDevice, Region};

const PORTS: usize = 1 << 16;
const UNCLAIMED: u8 = u8::MAX;
const UNMAPPED: u32 = u32::MAX;

struct Entry {
    device: Arc<dyn PioDevice>,
    region: u8,
    length: u32,
    /// First port, or [`UNMAPPED`].
    base: AtomicU32,
}

impl Entry {
    fn covers(&self, port: u32) -> bool {
        let base = self.base.load(Ordering::Relaxed);
        base != UNMAPPED && port.wrapping_sub(base) < self.length
    }
}

/// The ports. Devices are attached while the machine is built; after that their regions may move.
///
/// ```
/// use devices::debug_port::PostCode;
/// # use std::sync::Arc;
/// use vmm_core::vm::bus::PortBus;
///
/// let mut ports = PortBus::new();
/// ports.attach(Arc::new(PostCode::new()));
/// ports.write(0x80, 1, 0xaa);
/// assert_eq!(ports.read(0x80, 1), 0xaa);
/// // No device is at this port.
/// assert_eq!(ports.read(0x300, 4), u32::MAX);
/// ```
pub struct PortBus {
    /// For each port the index of the entry that answers.
    owners: Box<[AtomicU8]>,
    entries: Vec<Entry>,
}

impl PortBus {
    /// No device answers.
    pub fn new() -> Self {
        Self { owners: (0..PORTS).map(|_| AtomicU8::new(UNCLAIMED)).collect(), entries: Vec::new() }
    }

    /// Attaches a device at the ports that it declares.
    pub fn attach(&mut self, device: Arc<dyn PioDevice>) {
        for region in device.ports() {
            self.attach_region(device.clone(), region, true);
        }
    }

    /// Attaches one region, mapped at its base or nowhere yet; returns its number for
    /// [`PortBus::move_region`].
    ///
    /// # Panics
    /// With more than 255 regions: a fault of the machine's builder.
    pub fn attach_region(
        &mut self,
        device: Arc<dyn PioDevice>,
        region: Region,
        mapped: bool,
    ) -> usize {
        let index = self.entries.len();
        assert!(index < usize::from(UNCLAIMED), "too many port regions");
        let base = AtomicU32::new(UNMAPPED);
        self.entries.push(Entry {
            device,
            region: region.number,
            length: region.length as u32,
            base,
        });
        self.move_region(index, mapped.then_some(region.base as u16));
        index
    }

    /// Moves a region to another base, or takes it off the bus.
    pub fn move_region(&self, index: usize, base: Option<u16>) {
        let Some(entry) = self.entries.get(index) else { return };
        let new = base.map_or(UNMAPPED, u32::from);
        let old = entry.base.swap(new, Ordering::Relaxed);
        if old == new {
            return;
        }
        self.for_ports(old, entry.length, |port, owner| {
            let other = self.entries.iter().position(|entry| entry.covers(port));
            owner.store(other.map_or(UNCLAIMED, |other| other as u8), Ordering::Relaxed);
        });
        self.for_ports(new, entry.length, |_, owner| owner.store(index as u8, Ordering::Relaxed));
    }

    /// First port and length of each region, for tests; `None` if it is mapped nowhere.
    #[cfg(any(test, feature = "test-platform"))]
    pub fn regions(&self) -> Vec<Option<(u32, u32)>> {
        let place = |entry: &Entry| (entry.base.load(Ordering::Relaxed), entry.length);
        self.entries.iter().map(place).map(|place| (place.0 != UNMAPPED).then_some(place)).collect()
    }

    fn for_ports(&self, base: u32, length: u32, visit: impl Fn(u32, &AtomicU8)) {
        if base == UNMAPPED {
            return;
        }
        let (start, end) = (base as usize, (base.saturating_add(length) as usize).min(PORTS));
        for (port, owner) in self.owners[..end].iter().enumerate().skip(start) {
            visit(port as u32, owner);
        }
    }

    #[inline]
    fn find(&self, port: u16, size_bytes: u8) -> Option<(&Entry, Access)> {
        let owner = self.owners[usize::from(port)].load(Ordering::Relaxed);
        let entry = self.entries.get(usize::from(owner))?;
        let offset = u32::from(port).wrapping_sub(entry.base.load(Ordering::Relaxed));
        Some((entry, Access { region: entry.region, offset: u64::from(offset), size_bytes }))
    }

    /// IN.
    #[inline]
    pub fn read(&self, port: u16, size_bytes: u8) -> u32 {
        self.find(port, size_bytes)
            .and_then(|(entry, access)| entry.device.pio_read(access))
            .unwrap_or(u32::MAX)
    }

    /// OUT.
    #[inline]
    pub fn write(&self, port: u16, size_bytes: u8, value: u32) {
        if let Some((entry, access)) = self.find(port, size_bytes) {
            entry.device.pio_write(access, value);
        }
    }

    /// REP INS: fills `data` with whole elements; returns the bytes filled.
    pub fn read_string(&self, port: u16, size_bytes: u8, data: &mut [u8]) -> usize {
        match self.find(port, size_bytes) {
            Some((entry, access)) => entry.device.pio_read_string(access, data),
            None => {
                data.fill(0xff);
                data.len()
            }
        }
    }

    /// REP OUTS: returns the bytes taken.
    pub fn write_string(&self, port: u16, size_bytes: u8, data: &[u8]) -> usize {
        match self.find(port, size_bytes) {
            Some((entry, access)) => entry.device.pio_write_string(access, data),
            None => data.len(),
        }
    }
}

impl Default for PortBus {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    struct Echo(u64);

    impl PioDevice for Echo {
        fn ports(&self) -> Vec<Region> {
            vec![Region::new(3, self.0, 4)]
        }

        fn pio_read(&self, access: Access) -> Option<u32> {
            assert_eq!(access.region, 3);
            (access.offset != 2).then_some(access.offset as u32 + 0x10)
        }

        fn pio_write(&self, _access: Access, _value: u32) {}
    }

    #[test]
    fn an_unclaimed_or_undecoded_port_reads_all_ones() {
        let mut bus = PortBus::new();
        bus.attach(Arc::new(Echo(0x100)));
        assert_eq!(bus.read(0x103, 1), 0x13);
        assert_eq!(bus.read(0x102, 1), u32::MAX);
        assert_eq!(bus.read(0x104, 1), u32::MAX);
        let mut data = [0; 3];
        assert_eq!(bus.read_string(0x200, 1, &mut data), 3);
        assert_eq!(data, [0xff; 3]);
    }

    #[test]
    fn a_region_that_moves_uncovers_what_was_beneath() {
        let mut bus = PortBus::new();
        bus.attach(Arc::new(Echo(0x100)));
        let moving = bus.attach_region(Arc::new(Echo(0)), Region::new(3, 0x102, 4), true);
        assert_eq!(bus.read(0x103, 1), 0x11);
        bus.move_region(moving, Some(0xfffe));
        assert_eq!(bus.read(0x103, 1), 0x13);
        assert_eq!(bus.read(0xffff, 1), 0x11);
        bus.move_region(moving, None);
        assert_eq!(bus.read(0xffff, 1), u32::MAX);
    }
}
