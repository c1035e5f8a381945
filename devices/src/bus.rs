//! How a device answers accesses to I/O ports and to memory.
//!
//! Access errors stay inside the device: `read` returns `None` for what it does not decode, and the
//! bus alone decides what an unclaimed read returns (all ones); an unclaimed write is dropped.
//!
//! A *region* is a range that the device declared, numbered by the device itself. The bus passes
//! offsets from the start of the region, so that a region can move (PCI base address registers)
//! without the device knowing.

use alloc::vec::Vec;

/// One access: where in the device, and how wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The region's number, as the device declared it.
    pub region: u8,
    /// Bytes from the start of the region. `offset + size_bytes` may pass the region's end.
    pub offset: u64,
    /// 1, 2 or 4 for ports; 1, 2, 4 or 8 for memory.
    pub size_bytes: u8,
}

impl Access {
    /// An access of `size_bytes` at `offset` in region 0.
    pub const fn new(offset: u64, size_bytes: u8) -> Self {
        Self { region: 0, offset, size_bytes }
    }

    /// The bits that an access of this size carries.
    pub const fn mask(&self) -> u64 {
        u64::MAX >> (64 - 8 * self.size_bytes as u32)
    }
}

/// A range that a device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The number passed back in [`Access::region`].
    pub number: u8,
    /// First port, or first guest-physical address.
    pub base: u64,
    /// Length in ports or bytes.
    pub length: u64,
}

impl Region {
    /// Region `number` of `length` ports or bytes at `base`.
    pub const fn new(number: u8, base: u64, length: u64) -> Self {
        Self { number, base, length }
    }
}

/// A device that answers I/O ports.
///
/// ```
/// use devices::bus::{Access, PioDevice, Region};
/// use std::sync::atomic::{AtomicU8, Ordering};
///
/// /// A port that keeps what is written.
/// #[derive(Default)]
/// struct Scratch(AtomicU8);
///
/// impl PioDevice for Scratch {
///     fn ports(&self) -> Vec<Region> {
///         vec![Region::new(0, 0x2f0, 1)]
///     }
///
///     fn pio_read(&self, _access: Access) -> Option<u32> {
///         Some(self.0.load(Ordering::Relaxed).into())
///     }
///
///     fn pio_write(&self, _access: Access, value: u32) {
///         self.0.store(value as u8, Ordering::Relaxed);
///     }
/// }
///
/// let device = Scratch::default();
/// device.pio_write(Access::new(0, 1), 0xaa);
/// assert_eq!(device.pio_read(Access::new(0, 1)), Some(0xaa));
/// ```
pub trait PioDevice: Send + Sync {
    /// The ports that the device answers at power-on (those that do not move, or where they start).
    fn ports(&self) -> Vec<Region>;
    /// Reads; only the low `size_bytes` of the result count. `None`: not decoded.
    fn pio_read(&self, access: Access) -> Option<u32>;
    /// Writes; only the low `size_bytes` of `value` count.
    fn pio_write(&self, access: Access, value: u32);

    /// `rep ins`: fills `data` with elements of `access.size_bytes` each, read one after the other
    /// from the same port; returns the bytes filled: whole elements, at least one if `data` has
    /// room for it. A device with a data port answers many at once. The others answer one, so
    /// that the caller can stop when it has taken too long.
    fn pio_read_string(&self, access: Access, data: &mut [u8]) -> usize {
        read_element(self, access, data)
    }

    /// `rep outs`: the counterpart of [`PioDevice::pio_read_string`]; returns the bytes taken.
    fn pio_write_string(&self, access: Access, data: &[u8]) -> usize {
        write_element(self, access, data)
    }
}

/// Reads the first element of a string by [`PioDevice::pio_read`]; returns its length, or 0 if
/// `data` is shorter.
pub fn read_element(device: &(impl PioDevice + ?Sized), access: Access, data: &mut [u8]) -> usize {
    let size = usize::from(access.size_bytes);
    let Some(element) = data.get_mut(..size) else { return 0 };
    let value = device.pio_read(access).unwrap_or(u32::MAX).to_le_bytes();
    for (byte, read) in element.iter_mut().zip(value) {
        *byte = read;
    }
    size
}

/// Writes the first element of a string by [`PioDevice::pio_write`]; returns its length, or 0 if
/// `data` is shorter.
pub fn write_element(device: &(impl PioDevice + ?Sized), access: Access, data: &[u8]) -> usize {
    let size = usize::from(access.size_bytes);
    let Some(element) = data.get(..size) else { return 0 };
    let mut bytes = [0; 4];
    for (byte, sent) in bytes.iter_mut().zip(element) {
        *byte = *sent;
    }
    device.pio_write(access, u32::from_le_bytes(bytes));
    size
}

/// A device that answers guest-physical memory.
pub trait MmioDevice: Send + Sync {
    /// The ranges that the device answers at power-on.
    fn ranges(&self) -> Vec<Region>;
    /// Reads; only the low `size_bytes` of the result count. `None`: not decoded.
    fn mmio_read(&self, access: Access) -> Option<u64>;
    /// Writes; only the low `size_bytes` of `value` count.
    fn mmio_write(&self, access: Access, value: u64);

    /// Reads consecutive elements of `access.size_bytes` each into `data`, one access for each; a
    /// device with memory of its own answers all at once. The run stays inside the region.
    fn mmio_read_run(&self, access: Access, data: &mut [u8]) {
        let size = usize::from(access.size_bytes);
        for (index, element) in data.chunks_exact_mut(size).enumerate() {
            let at = Access { offset: access.offset + (index * size) as u64, ..access };
            let value = self.mmio_read(at).unwrap_or(u64::MAX);
            element.copy_from_slice(&value.to_le_bytes()[..size]);
        }
    }

    /// Writes consecutive elements: the counterpart of [`MmioDevice::mmio_read_run`].
    fn mmio_write_run(&self, access: Access, data: &[u8]) {
        let size = usize::from(access.size_bytes);
        for (index, element) in data.chunks_exact(size).enumerate() {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(element);
            let at = Access { offset: access.offset + (index * size) as u64, ..access };
            self.mmio_write(at, u64::from_le_bytes(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use spin::Mutex;

    /// Registers that hold the offset they stand at, but for those from 8 on, which do not exist.
    #[derive(Default)]
    struct Registers {
        written: Mutex<Vec<(Access, u64)>>,
    }

    impl MmioDevice for Registers {
        fn ranges(&self) -> Vec<Region> {
            Vec::new()
        }

        fn mmio_read(&self, access: Access) -> Option<u64> {
            (access.offset < 8).then_some(0xab00 + access.offset)
        }

        fn mmio_write(&self, access: Access, value: u64) {
            self.written.lock().push((access, value));
        }
    }

    #[test]
    fn a_run_is_one_access_for_each_element() {
        let device = Registers::default();
        let access = Access { region: 3, ..Access::new(4, 2) };
        let mut data = [0; 7];
        device.mmio_read_run(access, &mut data);
        // The byte that is short of an element stays as it is.
        assert_eq!(data, [0x04, 0xab, 0x06, 0xab, 0xff, 0xff, 0]);
        device.mmio_write_run(access, &[1, 2, 3, 4, 5, 6, 7]);
        let at = |offset| Access { offset, ..access };
        let expected = vec![(at(4), 0x0201), (at(6), 0x0403), (at(8), 0x0605)];
        assert_eq!(*device.written.lock(), expected);
    }
}
