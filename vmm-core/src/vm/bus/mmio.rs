//! Device memory.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use devices::bus::{Access, MmioDevice, Region};

/// No region reaches from there to a guest-physical address, which has 52 bits at most.
const UNMAPPED: u64 = 1 << 63;

struct Entry {
    device: Arc<dyn MmioDevice>,
    region: u8,
    length: u64,
    /// First guest-physical address, or [`UNMAPPED`].
    base: AtomicU64,
}

/// The memory that devices answer. Devices are attached while the machine is built; after that
/// their regions may move.
#[derive(Default)]
pub struct MmioBus {
    entries: Vec<Entry>,
}

impl MmioBus {
    /// No device answers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Attaches a device at the ranges that it declares.
    pub fn attach(&mut self, device: Arc<dyn MmioDevice>) {
        for region in device.ranges() {
            self.attach_region(device.clone(), region, true);
        }
    }

    /// Attaches one region, mapped at its base or nowhere yet; returns its number for
    /// [`MmioBus::move_region`].
    pub fn attach_region(
        &mut self,
        device: Arc<dyn MmioDevice>,
        region: Region,
        mapped: bool,
    ) -> usize {
        let base = AtomicU64::new(if mapped { region.base } else { UNMAPPED });
        self.entries.push(Entry { device, region: region.number, length: region.length, base });
        self.entries.len() - 1
    }

    /// Moves a region to another base, or takes it off the bus.
    pub fn move_region(&self, index: usize, base: Option<u64>) {
        if let Some(entry) = self.entries.get(index) {
            entry.base.store(base.unwrap_or(UNMAPPED), Ordering::Relaxed);
        }
    }

    /// First address and length of each region, for tests; `None` if it is mapped nowhere.
    #[cfg(any(test, feature = "test-platform"))]
    pub fn regions(&self) -> Vec<Option<(u64, u64)>> {
        let place = |entry: &Entry| (entry.base.load(Ordering::Relaxed), entry.length);
        self.entries.iter().map(place).map(|place| (place.0 != UNMAPPED).then_some(place)).collect()
    }

    #[inline]
    fn find(&self, gpa: u64, size_bytes: u8) -> Option<(&Entry, Access)> {
        self.entries.iter().find_map(|entry| {
            let offset = gpa.wrapping_sub(entry.base.load(Ordering::Relaxed));
            (offset < entry.length)
                .then_some((entry, Access { region: entry.region, offset, size_bytes }))
        })
    }

    /// Reads 1, 2, 4 or 8 bytes.
    #[inline]
    pub fn read(&self, gpa: u64, size_bytes: u8) -> u64 {
        self.find(gpa, size_bytes)
            .and_then(|(entry, access)| entry.device.mmio_read(access))
            .unwrap_or(u64::MAX)
    }

    /// Writes 1, 2, 4 or 8 bytes.
    #[inline]
    pub fn write(&self, gpa: u64, size_bytes: u8, value: u64) {
        if let Some((entry, access)) = self.find(gpa, size_bytes) {
            entry.device.mmio_write(access, value);
        }
    }

    /// Reads a run of elements.
    pub fn read_run(&self, gpa: u64, element_bytes: u8, data: &mut [u8]) {
        match self.find(gpa, element_bytes) {
            Some((entry, access)) => entry.device.mmio_read_run(access, data),
            None => data.fill(0xff),
        }
    }

    /// Writes a run of elements.
    pub fn write_run(&self, gpa: u64, element_bytes: u8, data: &[u8]) {
        if let Some((entry, access)) = self.find(gpa, element_bytes) {
            entry.device.mmio_write_run(access, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeroes;

    impl MmioDevice for Zeroes {
        fn ranges(&self) -> Vec<Region> {
            Vec::new()
        }

        fn mmio_read(&self, _access: Access) -> Option<u64> {
            Some(0)
        }

        fn mmio_write(&self, _access: Access, _value: u64) {}
    }

    #[test]
    fn a_region_that_is_mapped_nowhere_answers_nowhere() {
        let mut bus = MmioBus::new();
        let region = bus.attach_region(Arc::new(Zeroes), Region::new(0, 0, 4096), false);
        for gpa in [0, 8, 4094, 4096, (1 << 52) - 8] {
            assert_eq!(bus.read(gpa, 8), u64::MAX, "at {gpa:#x}");
        }
        bus.move_region(region, Some(0x1000));
        assert_eq!(bus.read(0x1ff8, 8), 0);
    }
}
