//! A virtio device on PCI (4.1), by its registers of version 1. A transitional device has them too;
//! one of before version 1 has not, and is left alone.

use crate::hardware::{Fault, Hardware, Window};
use crate::pci::{Function, capability};

/// Bits of the device's status (2.1).
pub mod status {
    pub const ACKNOWLEDGE: u8 = 1;
    pub const DRIVER: u8 = 2;
    pub const DRIVER_OK: u8 = 4;
    pub const FEATURES_OK: u8 = 8;
    pub const NEEDS_RESET: u8 = 64;
    /// Nothing answers.
    pub const ABSENT: u8 = 0xff;
}

/// Features of all devices (6).
pub mod feature {
    pub const INDIRECT: u64 = 1 << 28;
    pub const VERSION_1: u64 = 1 << 32;
    /// Addresses are those of an IOMMU, if there is one: there is none, so they are the memory's.
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
}

/// Kinds of structures that capabilities lead to (4.1.4).
mod kind {
    pub const COMMON: u8 = 1;
    pub const NOTIFY: u8 = 2;
    pub const DEVICE: u8 = 4;
}

/// Offsets of the common configuration (4.1.4.3).
mod common {
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub const DEVICE_FEATURE: u64 = 0x04;
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const CONFIG_VECTOR: u64 = 0x10;
    pub const STATUS: u64 = 0x14;
    pub const GENERATION: u64 = 0x15;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_VECTOR: u64 = 0x1a;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_NOTIFY_OFFSET: u64 = 0x1e;
    pub const QUEUE_ADDRESSES: [u64; 3] = [0x20, 0x28, 0x30];
    pub const LENGTH: u64 = 0x38;
}

/// No vector.
const NO_VECTOR: u16 = 0xffff;
/// So many times a configuration that changes meanwhile is read.
const CONFIG_READS: usize = 8;

/// The registers of a device.
#[derive(Debug)]
pub struct Transport {
    common: Window,
    notify: Window,
    notify_multiplier: u32,
    device: Window,
    /// Where queue 0 is notified.
    doorbell: u64,
}

impl Transport {
    /// Finds and maps a device's registers.
    ///
    /// # Errors
    /// It has none of version 1, or not where they could be reached.
    pub fn new(hardware: &dyn Hardware, function: &Function<'_>) -> Result<Self, Fault> {
        const NO_VERSION_1: Fault = Fault("it has no registers of virtio 1");
        let find = |wanted: u8| {
            let vendors = function.capabilities().filter(|&(id, _)| id == capability::VENDOR);
            let mut structures =
                vendors.map(|(_, at)| (at, function.read(at), function.read(at + 4)));
            let (at, _, bar) = structures.find(|&(_, header, _)| (header >> 24) as u8 == wanted)?;
            let (offset, length) = (function.read(at + 8), function.read(at + 12));
            Some((at, function.map(hardware, bar as u8, offset.into(), length.into())?))
        };
        let (_, common) = find(kind::COMMON).ok_or(NO_VERSION_1)?;
        let (notify_at, notify) = find(kind::NOTIFY).ok_or(NO_VERSION_1)?;
        let (_, device) = find(kind::DEVICE).ok_or(NO_VERSION_1)?;
        if common.length_bytes() < common::LENGTH {
            return Err(NO_VERSION_1);
        }
        let notify_multiplier = function.read(notify_at + 16);
        Ok(Self { common, notify, notify_multiplier, device, doorbell: 0 })
    }

    /// The device's status.
    pub fn status(&self) -> u8 {
        self.common.read_u8(common::STATUS)
    }

    /// Begins a reset, which is over when the status is 0.
    pub fn reset(&self) {
        self.common.write_u8(common::STATUS, 0);
    }

    /// Agrees on features with a device that was reset: those of `wanted` that it has.
    ///
    /// # Errors
    /// It is not of version 1, or refuses.
    pub fn negotiate(&self, wanted: u64) -> Result<u64, Fault> {
        self.common.write_u8(common::STATUS, status::ACKNOWLEDGE);
        self.common.write_u8(common::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        let mut offered = 0;
        for half in 0..2 {
            self.common.write_u32(common::DEVICE_FEATURE_SELECT, half);
            offered |= u64::from(self.common.read_u32(common::DEVICE_FEATURE)) << (32 * half);
        }
        if offered & feature::VERSION_1 == 0 {
            return Err(Fault("it is older than virtio 1"));
        }
        let features = offered & (wanted | feature::VERSION_1 | feature::ACCESS_PLATFORM);
        for half in 0..2 {
            self.common.write_u32(common::DRIVER_FEATURE_SELECT, half);
            self.common.write_u32(common::DRIVER_FEATURE, (features >> (32 * half)) as u32);
        }
        let agreed = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.common.write_u8(common::STATUS, agreed);
        if self.status() & status::FEATURES_OK == 0 {
            return Err(Fault("it refuses the features that it has"));
        }
        Ok(features)
    }

    /// The size of queue 0, 0 if there is none.
    pub fn queue_size(&self) -> u16 {
        self.common.write_u16(common::QUEUE_SELECT, 0);
        self.common.read_u16(common::QUEUE_SIZE)
    }

    /// Sets queue 0 up, and starts the device. True if the queue interrupts by entry 0 of the
    /// MSI-X table, if it is to.
    ///
    /// # Errors
    /// The doorbell cannot be reached.
    pub fn start(
        &mut self,
        size: u16,
        addresses: [u64; 3],
        uses_msi_x: bool,
    ) -> Result<bool, Fault> {
        self.common.write_u16(common::CONFIG_VECTOR, NO_VECTOR);
        self.common.write_u16(common::QUEUE_SELECT, 0);
        self.common.write_u16(common::QUEUE_SIZE, size);
        self.common.write_u16(common::QUEUE_VECTOR, if uses_msi_x { 0 } else { NO_VECTOR });
        let has_vector = uses_msi_x && self.common.read_u16(common::QUEUE_VECTOR) == 0;
        for (register, address) in common::QUEUE_ADDRESSES.into_iter().zip(addresses) {
            self.common.write_u64(register, address);
        }
        let offset = u64::from(self.common.read_u16(common::QUEUE_NOTIFY_OFFSET));
        self.doorbell = offset * u64::from(self.notify_multiplier);
        if self.doorbell + 2 > self.notify.length_bytes() {
            return Err(Fault("its doorbell is not among its registers"));
        }
        self.common.write_u16(common::QUEUE_ENABLE, 1);
        let agreed = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.common.write_u8(common::STATUS, agreed | status::DRIVER_OK);
        Ok(has_vector)
    }

    /// Notifies the device of what is available in queue 0.
    pub fn notify(&self) {
        self.notify.write_u16(self.doorbell, 0);
    }

    /// Reads the device's own configuration, all of it as it was at one moment.
    pub fn read_config<T>(&self, read: impl Fn(&Window) -> T) -> T {
        let generation = || self.common.read_u8(common::GENERATION);
        let mut before = generation();
        let mut config = read(&self.device);
        for _ in 0..CONFIG_READS {
            let after = generation();
            if after == before {
                break;
            }
            before = after;
            config = read(&self.device);
        }
        config
    }
}
