//! The bus master half of a channel: its registers, and the walk over the guest's physical region
//! descriptors.

use super::spec::{BmCommand, BmStatus, PrdLength};
use crate::memory::{GuestMemory, NotRam};

/// A table is taken to end after this many descriptors, marked or not: 32 MiB of transfer, more
/// than any command moves.
const MAX_DESCRIPTORS: u32 = 512;
const LARGEST_REGION: u32 = 0x1_0000;

/// How a copy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    /// All of it.
    All,
    /// The table ended before the data did.
    TableEnded,
    /// A descriptor, or where it points to, is not RAM.
    Fault,
}

/// Registers, and the place in the table.
#[derive(Clone, Debug, Default)]
pub(super) struct BusMaster {
    pub command: BmCommand,
    pub status: BmStatus,
    table: u32,
    /// Descriptors taken from the table since the start.
    taken: u32,
    /// The region being filled or drained.
    region_gpa: u32,
    region_left: u32,
    is_last_region: bool,
}

impl BusMaster {
    /// The eight registers, the first in the low byte.
    pub fn registers(&self) -> u64 {
        u64::from(u8::from(self.command))
            | u64::from(u8::from(self.status)) << 16
            | u64::from(self.table) << 32
    }

    /// Writes one byte. True if the transfer is to start.
    pub fn write(&mut self, offset: u64, value: u8) -> bool {
        match offset {
            0 => return self.write_command(value.into()),
            2 => self.write_status(value.into()),
            4..=7 => {
                let shift = (offset as u32 - 4) * 8;
                self.table = (self.table & !(0xff << shift) | u32::from(value) << shift) & !3;
            }
            _ => {}
        }
        false
    }

    fn write_command(&mut self, written: BmCommand) -> bool {
        let starts = written.start() && !self.command.start();
        self.command =
            BmCommand::new().with_start(written.start()).with_to_memory(written.to_memory());
        if !written.start() {
            self.status.set_active(false);
        }
        if starts {
            self.status.set_active(true);
            (self.taken, self.region_left, self.is_last_region) = (0, 0, false);
        }
        starts
    }

    fn write_status(&mut self, written: BmStatus) {
        let status = self.status;
        self.status = status
            .with_error(status.error() && !written.error())
            .with_interrupt(status.interrupt() && !written.interrupt())
            .with_device_0_dma(written.device_0_dma())
            .with_device_1_dma(written.device_1_dma());
    }

    /// The device has no more data. The engine stays active if the table has not ended.
    pub fn finish(&mut self) {
        let ended = self.region_left == 0 && self.is_last_region;
        self.status.set_active(self.status.active() && !ended);
        self.status.set_interrupt(true);
    }

    /// The engine stops before the device does.
    pub fn stop(&mut self, fault: bool) {
        self.status.set_active(false);
        self.status.set_error(self.status.error() || fault);
    }

    /// Copies from the device to memory.
    pub fn fill_memory(&mut self, memory: &dyn GuestMemory, data: &[u8]) -> Copied {
        let mut rest = data;
        self.walk(memory, data.len(), |gpa, length| {
            let (now, later) = rest.split_at(length);
            rest = later;
            memory.write(gpa, now)
        })
    }

    /// Copies from memory to the device.
    pub fn drain_memory(&mut self, memory: &dyn GuestMemory, data: &mut [u8]) -> Copied {
        let mut done = 0;
        self.walk(memory, data.len(), |gpa, length| {
            let piece = &mut data[done..done + length];
            done += length;
            memory.read(gpa, piece)
        })
    }

    /// Hands out regions of `length` bytes together.
    fn walk(
        &mut self,
        memory: &dyn GuestMemory,
        length: usize,
        mut copy: impl FnMut(u64, usize) -> Result<(), NotRam>,
    ) -> Copied {
        let mut left = length;
        while left > 0 {
            match self.ensure_region(memory) {
                Err(NotRam { .. }) => return Copied::Fault,
                Ok(false) => return Copied::TableEnded,
                Ok(true) => {}
            }
            let piece = left.min(self.region_left as usize);
            if copy(self.region_gpa.into(), piece).is_err() {
                return Copied::Fault;
            }
            self.region_gpa = self.region_gpa.wrapping_add(piece as u32);
            self.region_left -= piece as u32;
            left -= piece;
        }
        Copied::All
    }

    /// Takes the next descriptor if the region is used up; false if there is none.
    fn ensure_region(&mut self, memory: &dyn GuestMemory) -> Result<bool, NotRam> {
        if self.region_left > 0 {
            return Ok(true);
        }
        if self.is_last_region || self.taken >= MAX_DESCRIPTORS {
            return Ok(false);
        }
        let descriptor = memory.read_u64(u64::from(self.table) + u64::from(self.taken) * 8)?;
        self.taken += 1;
        let length = PrdLength::from((descriptor >> 32) as u32);
        let bytes = u32::from(length.bytes() & !1);
        self.region_gpa = descriptor as u32 & !1;
        self.region_left = if bytes == 0 { LARGEST_REGION } else { bytes };
        self.is_last_region = length.last();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::TestMemory;
    use alloc::vec;
    use proptest::prelude::*;

    fn started(memory: &TestMemory, descriptors: &[(u32, u32)]) -> BusMaster {
        for (index, (gpa, length)) in descriptors.iter().enumerate() {
            let entry = u64::from(*gpa) | u64::from(*length) << 32;
            GuestMemory::write(memory, 0x100 + index as u64 * 8, &entry.to_le_bytes())
                .expect("RAM");
        }
        let mut engine = BusMaster::default();
        for (offset, byte) in (4..).zip(0x103u32.to_le_bytes()) {
            engine.write(offset, byte);
        }
        assert!(engine.write(0, 0x09));
        engine
    }

    const LAST: u32 = 1 << 31;

    #[test]
    fn data_is_scattered_in_order() {
        let memory = TestMemory::new(0x4000);
        let mut engine = started(&memory, &[(0x1000, 4), (0x2001, 3), (0x3000, 2 | LAST)]);
        assert_eq!(engine.fill_memory(&*memory, &[1, 2, 3, 4, 5]), Copied::All);
        assert_eq!(engine.fill_memory(&*memory, &[6, 7, 8]), Copied::All);
        engine.finish();
        assert_eq!((engine.status.active(), engine.status.interrupt()), (false, true));
        let mut bytes = [0; 4];
        GuestMemory::read(&*memory, 0x1000, &mut bytes).expect("RAM");
        assert_eq!(bytes, [1, 2, 3, 4]);
        // Bit 0 of addresses and lengths is ignored.
        assert_eq!(GuestMemory::read_u32(&*memory, 0x2000), Ok(0x0605));
        assert_eq!(GuestMemory::read_u32(&*memory, 0x3000), Ok(0x0807));
    }

    #[test]
    fn a_longer_table_leaves_the_engine_active_and_a_shorter_one_ends_it() {
        let memory = TestMemory::new(0x4000);
        let mut engine = started(&memory, &[(0x1000, 8 | LAST)]);
        assert_eq!(engine.fill_memory(&*memory, &[0; 4]), Copied::All);
        engine.finish();
        assert_eq!((engine.status.active(), engine.status.interrupt()), (true, true));
        assert_eq!(engine.fill_memory(&*memory, &[0; 6]), Copied::TableEnded);
        engine.write(0, 0);
        assert!(!engine.status.active());
        engine.write(2, 0x64);
        assert_eq!(u8::from(engine.status), 0x60);
    }

    #[test]
    fn a_region_of_zero_is_64_kib_and_what_is_not_ram_faults() {
        let memory = TestMemory::new(0x1_2000);
        let mut engine = started(&memory, &[(0x1000, LAST)]);
        assert_eq!(engine.fill_memory(&*memory, &vec![7; 0x1_0000]), Copied::All);
        assert_eq!(engine.fill_memory(&*memory, &[7]), Copied::TableEnded);
        let mut engine = started(&memory, &[(0xffff_f000, 0x10 | LAST)]);
        assert_eq!(engine.drain_memory(&*memory, &mut [0; 4]), Copied::Fault);
    }

    #[test]
    fn an_endless_table_is_cut_off() {
        let memory = TestMemory::new(0x4000);
        let table = vec![(0x3000, 2); 600];
        let mut engine = started(&memory, &table);
        assert_eq!(engine.fill_memory(&*memory, &[0; 1024]), Copied::All);
        assert_eq!(engine.fill_memory(&*memory, &[0]), Copied::TableEnded);
    }

    proptest! {
        #[test]
        fn no_table_makes_the_walk_copy_too_much(
            table in prop::collection::vec((any::<u32>(), any::<u32>()), 1..20), length in 0usize..200_000
        ) {
            let memory = TestMemory::new(0x2_0000);
            let mut engine = started(&memory, &table);
            let outcome = engine.fill_memory(&*memory, &vec![0xa5; length]);
            prop_assert!(engine.region_left <= LARGEST_REGION && engine.taken <= MAX_DESCRIPTORS);
            prop_assert!(length != 0 || outcome == Copied::All);
        }
    }
}
