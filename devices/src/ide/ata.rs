//! The commands of a disk.

use super::channel::{Channel, Extent, Transport};
use super::identify;
use super::spec::{Error, SECTOR_BYTES, command, feature};
use super::unit::{DiskState, MAX_MULTIPLE, TransferMode, UnitKind};

/// A read or a write, as its command code names it.
#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
    /// Answered when it is on the medium (force unit access).
    WriteThrough,
}

/// How the code wants its data moved.
#[derive(Clone, Copy)]
enum Mode {
    Sectors,
    Multiple,
    Dma,
}

/// Direction, mode, and whether addresses have 48 bits.
const fn transfer(code: u8) -> Option<(Direction, Mode, bool)> {
    use Direction::{Read, Write, WriteThrough};
    use Mode::{Dma, Multiple, Sectors};
    Some(match code {
        command::READ_SECTORS | command::READ_SECTORS_NO_RETRY => (Read, Sectors, false),
        command::READ_SECTORS_EXT => (Read, Sectors, true),
        command::READ_MULTIPLE => (Read, Multiple, false),
        command::READ_MULTIPLE_EXT => (Read, Multiple, true),
        command::READ_DMA | command::READ_DMA_NO_RETRY => (Read, Dma, false),
        command::READ_DMA_EXT => (Read, Dma, true),
        command::WRITE_SECTORS | command::WRITE_SECTORS_NO_RETRY | command::WRITE_VERIFY => {
            (Write, Sectors, false)
        }
        command::WRITE_SECTORS_EXT => (Write, Sectors, true),
        command::WRITE_MULTIPLE => (Write, Multiple, false),
        command::WRITE_MULTIPLE_EXT => (Write, Multiple, true),
        command::WRITE_DMA | command::WRITE_DMA_NO_RETRY => (Write, Dma, false),
        command::WRITE_DMA_EXT => (Write, Dma, true),
        command::WRITE_MULTIPLE_FUA_EXT => (WriteThrough, Multiple, true),
        command::WRITE_DMA_FUA_EXT => (WriteThrough, Dma, true),
        _ => return None,
    })
}

impl Channel {
    /// Runs a command on the selected device, a disk.
    pub(super) fn execute_ata(&mut self, code: u8) {
        if let Some((direction, mode, wide)) = transfer(code) {
            self.transfer_sectors(direction, mode, wide);
            return;
        }
        match code {
            command::IDENTIFY => self.identify_disk(),
            command::SET_FEATURES => self.set_features(),
            command::FLUSH_CACHE | command::FLUSH_CACHE_EXT => self.flush_medium(),
            command::READ_VERIFY | command::READ_VERIFY_NO_RETRY => self.verify(false),
            command::READ_VERIFY_EXT => self.verify(true),
            command::SET_MULTIPLE => self.set_multiple(),
            command::INITIALIZE_PARAMETERS => self.initialize_parameters(),
            command::READ_NATIVE_MAX => self.read_native_max(false),
            command::READ_NATIVE_MAX_EXT => self.read_native_max(true),
            // RECALIBRATE and SEEK: there are no heads to move.
            0x10..=0x1f | 0x70..=0x7f | command::SECURITY_FREEZE => self.succeed(),
            _ => self.execute_power(code),
        }
    }

    /// The power management commands, which disks and packet devices share. The drive never sleeps.
    pub(super) fn execute_power(&mut self, code: u8) {
        const ACTIVE_OR_IDLE: u8 = 0xff;
        match code {
            command::CHECK_POWER | 0x98 => {
                self.task().count.current = ACTIVE_OR_IDLE;
                self.succeed();
            }
            command::STANDBY_IMMEDIATE
            | command::IDLE_IMMEDIATE
            | command::STANDBY
            | command::IDLE
            | command::SLEEP
            | 0x94..=0x97
            | 0x99 => self.succeed(),
            _ => self.abort(),
        }
    }

    fn disk(&mut self) -> Option<&mut DiskState> {
        match &mut self.unit().kind {
            UnitKind::Disk(disk) => Some(disk),
            UnitKind::Absent | UnitKind::Cdrom(_) => None,
        }
    }

    /// The sectors that the registers name; fails the command if they are not all on the disk.
    fn named_sectors(&mut self, wide: bool) -> Option<(u64, u32)> {
        let disk = self.disk()?;
        let (geometry, disk_sectors) = (disk.geometry, disk.sectors);
        let count = self.task().sectors(wide);
        let first = self.task().lba(wide, geometry);
        match first {
            Some(first) if first + u64::from(count) <= disk_sectors => Some((first, count)),
            _ => {
                self.fail(Error::new().with_id_not_found(true));
                None
            }
        }
    }

    fn transfer_sectors(&mut self, direction: Direction, mode: Mode, wide: bool) {
        let Some(disk) = self.disk() else { return };
        let (multiple, write_cache) = (disk.multiple, disk.write_cache);
        let transport = match mode {
            Mode::Sectors => Transport::Pio { block_bytes: SECTOR_BYTES },
            Mode::Multiple if multiple == 0 => return self.abort(),
            Mode::Multiple => Transport::Pio { block_bytes: u32::from(multiple) * SECTOR_BYTES },
            Mode::Dma => Transport::Dma,
        };
        let Some((first, count)) = self.named_sectors(wide) else { return };
        let extent = Extent {
            offset_bytes: first * u64::from(SECTOR_BYTES),
            left_bytes: u64::from(count) * u64::from(SECTOR_BYTES),
        };
        match direction {
            Direction::Read => self.read_medium(extent, false, transport),
            Direction::Write => self.write_medium(extent, !write_cache, transport),
            Direction::WriteThrough => self.write_medium(extent, true, transport),
        }
    }

    fn verify(&mut self, wide: bool) {
        if self.named_sectors(wide).is_some() {
            self.succeed();
        }
    }

    fn identify_disk(&mut self) {
        let number = self.unit().number;
        let Some(disk) = self.disk() else { return };
        let page = identify::disk(disk, number);
        self.state.buffer.clear();
        self.state.buffer.extend_from_slice(&page);
        self.reply(Transport::Pio { block_bytes: SECTOR_BYTES });
    }

    fn set_multiple(&mut self) {
        let sectors = self.task().count.current;
        if sectors > MAX_MULTIPLE || sectors != 0 && !sectors.is_power_of_two() {
            return self.abort();
        }
        if let Some(disk) = self.disk() {
            disk.multiple = sectors;
        }
        self.succeed();
    }

    fn initialize_parameters(&mut self) {
        let (sectors, heads) = (self.task().count.current, self.task().device.head() + 1);
        if sectors == 0 {
            return self.abort();
        }
        if let Some(disk) = self.disk() {
            let cylinders = disk.sectors / (u64::from(heads) * u64::from(sectors));
            disk.geometry.cylinders = cylinders.clamp(1, 0xffff) as u16;
            (disk.geometry.heads, disk.geometry.sectors) = (heads, sectors);
        }
        self.succeed();
    }

    fn read_native_max(&mut self, wide: bool) {
        let Some(disk) = self.disk() else { return };
        let (geometry, last) = (disk.geometry, disk.sectors.saturating_sub(1));
        let last = if wide { last } else { last.min(0xfff_ffff) };
        self.task().set_lba(last, wide, geometry);
        self.succeed();
    }

    pub(super) fn set_features(&mut self) {
        let count = self.task().count.current;
        match self.task().feature.current {
            feature::TRANSFER_MODE => match TransferMode::from_count(count) {
                Some(mode) => self.set_transfer_mode(mode),
                None => self.abort(),
            },
            feature::WRITE_CACHE_ON => self.set_write_cache(true),
            feature::WRITE_CACHE_OFF => self.set_write_cache(false),
            feature::READ_LOOK_AHEAD_ON
            | feature::READ_LOOK_AHEAD_OFF
            | feature::KEEP_SETTINGS
            | feature::REVERT_SETTINGS
            | feature::ADVANCED_POWER_ON
            | feature::ADVANCED_POWER_OFF => self.succeed(),
            _ => self.abort(),
        }
    }

    fn set_transfer_mode(&mut self, mode: TransferMode) {
        match &mut self.unit().kind {
            UnitKind::Disk(disk) => disk.transfer_mode = mode,
            UnitKind::Cdrom(cd) => cd.transfer_mode = mode,
            UnitKind::Absent => {}
        }
        self.succeed();
    }

    fn set_write_cache(&mut self, on: bool) {
        let Some(disk) = self.disk() else { return self.abort() };
        disk.write_cache = on;
        if on { self.succeed() } else { self.flush_medium() }
    }
}
