//! The registers of one device: what the host writes before a command, and reads after it.

use super::spec::{DeviceHead, Error, InterruptReason, Status};

/// A register that is written twice for 48-bit commands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latch {
    pub current: u8,
    pub previous: u8,
}

impl Latch {
    pub fn write(&mut self, value: u8) {
        *self = Self { current: value, previous: self.current };
    }

    pub fn read(self, previous: bool) -> u8 {
        if previous { self.previous } else { self.current }
    }
}

/// How a disk counts cylinders, heads and sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub cylinders: u16,
    /// 1 to 16.
    pub heads: u8,
    /// 1 to 255.
    pub sectors: u8,
}

/// The signature that the registers show after a reset (section 9.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Disk,
    PacketDevice,
    Nothing,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TaskFile {
    pub feature: Latch,
    pub count: Latch,
    pub lba_low: Latch,
    pub lba_mid: Latch,
    pub lba_high: Latch,
    pub device: DeviceHead,
    pub status: Status,
    pub error: u8,
}

impl TaskFile {
    /// The first sector that a command names. `None` for a sector 0 or a head that the geometry
    /// lacks.
    pub fn lba(&self, wide: bool, geometry: Geometry) -> Option<u64> {
        let bytes = |select: fn(Latch) -> u8| {
            u64::from(select(self.lba_low))
                | u64::from(select(self.lba_mid)) << 8
                | u64::from(select(self.lba_high)) << 16
        };
        let low = bytes(|latch| latch.current);
        if wide {
            return Some(low | bytes(|latch| latch.previous) << 24);
        }
        let head = u64::from(self.device.head());
        if self.device.lba() {
            return Some(low | head << 24);
        }
        let (heads, sectors) = (u64::from(geometry.heads), u64::from(geometry.sectors));
        let sector = u64::from(self.lba_low.current).checked_sub(1)?;
        if sector >= sectors || head >= heads {
            return None;
        }
        Some(((low >> 8) * heads + head) * sectors + sector)
    }

    /// Shows sector `lba`.
    pub fn set_lba(&mut self, lba: u64, wide: bool, geometry: Geometry) {
        let bytes = if wide || self.device.lba() {
            if !wide {
                self.device.set_head((lba >> 24) as u8 & 0xf);
            }
            lba.to_le_bytes()
        } else {
            let track = lba / u64::from(geometry.sectors);
            let cylinder = (track / u64::from(geometry.heads)).min(0xffff);
            self.device.set_head((track % u64::from(geometry.heads)) as u8);
            (lba % u64::from(geometry.sectors) + 1 + (cylinder << 8)).to_le_bytes()
        };
        let pair = |low: usize| Latch { current: bytes[low], previous: bytes[low + 3] };
        (self.lba_low, self.lba_mid, self.lba_high) = (pair(0), pair(1), pair(2));
    }

    /// How many sectors a command names.
    pub fn sectors(&self, wide: bool) -> u32 {
        let count = u32::from(self.count.current);
        match (wide, count | u32::from(self.count.previous) << 8) {
            (true, 0) => 0x1_0000,
            (true, count) => count,
            (false, _) if count == 0 => 0x100,
            (false, _) => count,
        }
    }

    /// The byte count of packet commands.
    pub fn byte_count(&self) -> u16 {
        u16::from_le_bytes([self.lba_mid.current, self.lba_high.current])
    }

    /// Sets the byte count of packet commands.
    pub fn set_byte_count(&mut self, count: u16) {
        [self.lba_mid.current, self.lba_high.current] = count.to_le_bytes();
    }

    /// Sets the interrupt reason of packet commands.
    pub fn set_reason(&mut self, command: bool, to_host: bool) {
        self.count.current =
            InterruptReason::new().with_command(command).with_to_host(to_host).into();
    }

    /// Shows the signature by which software tells what a device is.
    pub fn set_signature(&mut self, signature: Signature) {
        let latch = |current| Latch { current, previous: 0 };
        (self.count, self.lba_low) = (latch(1), latch(1));
        let (mid, high) = match signature {
            Signature::Disk => (0, 0),
            Signature::PacketDevice => (0x14, 0xeb),
            Signature::Nothing => (0xff, 0xff),
        };
        (self.lba_mid, self.lba_high) = (latch(mid), latch(high));
        self.device.set_head(0);
    }

    /// Ends a command with an error.
    pub fn fail(&mut self, error: Error) {
        self.status = Status::FAILED;
        self.error = error.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_address_shown_is_the_address_read(lba in 0u64..1 << 48, mode in 0u8..3, heads in 1u8..=16, sectors in 1u8..=255) {
            let geometry = Geometry { cylinders: 0, heads, sectors };
            let mut task = TaskFile::default();
            task.device.set_lba(mode == 1);
            let limit = match mode { 0 => 0x1_0000 * u64::from(heads) * u64::from(sectors), 1 => 1 << 28, _ => 1 << 48 };
            let lba = lba % limit;
            task.set_lba(lba, mode == 2, geometry);
            prop_assert_eq!(task.lba(mode == 2, geometry), Some(lba));
        }
    }

    #[test]
    fn counts_of_zero_are_the_largest() {
        let mut task = TaskFile::default();
        assert_eq!((task.sectors(false), task.sectors(true)), (256, 65_536));
        task.count.write(1);
        task.count.write(0);
        assert_eq!((task.sectors(false), task.sectors(true)), (256, 256));
    }
}
