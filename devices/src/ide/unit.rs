//! One device: its kind and its state.

use super::atapi::CdState;
use super::spec::{DIAGNOSTICS_PASSED, DeviceHead, Status};
use super::taskfile::{Geometry, Signature, TaskFile};

/// The largest DRQ block of READ and WRITE MULTIPLE, in sectors.
pub(super) const MAX_MULTIPLE: u8 = 16;

/// A disk.
#[derive(Clone, Debug)]
pub(super) struct DiskState {
    pub sectors: u64,
    pub geometry: Geometry,
    /// Sectors in a DRQ block of READ and WRITE MULTIPLE; 0 if these are disabled.
    pub multiple: u8,
    pub write_cache: bool,
    pub transfer_mode: TransferMode,
}

/// The transfer mode that the host selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TransferMode {
    #[default]
    Pio,
    MultiwordDma(u8),
    UltraDma(u8),
}

impl TransferMode {
    /// The mode that SET FEATURES names in the sector count register.
    pub fn from_count(count: u8) -> Option<Self> {
        match (count >> 3, count & 7) {
            (0 | 1, _) => Some(Self::Pio),
            (4, mode @ 0..=2) => Some(Self::MultiwordDma(mode)),
            (8, mode @ 0..=5) => Some(Self::UltraDma(mode)),
            _ => None,
        }
    }
}

impl DiskState {
    /// A disk of `sectors` sectors of 512 bytes.
    pub fn new(sectors: u64) -> Self {
        Self {
            sectors,
            geometry: Self::default_geometry(sectors),
            multiple: MAX_MULTIPLE,
            write_cache: true,
            transfer_mode: TransferMode::default(),
        }
    }

    /// The geometry that ATA-1 to ATA-5 prescribe: 16 heads, 63 sectors, at most 16383 cylinders.
    pub fn default_geometry(sectors: u64) -> Geometry {
        let cylinders = (sectors / (16 * 63)).clamp(1, 16_383) as u16;
        Geometry { cylinders, heads: 16, sectors: 63 }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) enum UnitKind {
    #[default]
    Absent,
    Disk(DiskState),
    Cdrom(CdState),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    pub task: TaskFile,
    pub kind: UnitKind,
    /// 0 to 3: its place among the drives, part of its serial number.
    pub number: u8,
}

impl Unit {
    pub fn new(kind: UnitKind, number: u8) -> Self {
        Self { task: TaskFile::default(), kind, number }
    }

    pub fn is_absent(&self) -> bool {
        matches!(self.kind, UnitKind::Absent)
    }

    /// After power-on or a hard reset.
    pub fn power_on(&mut self) {
        self.task = TaskFile::default();
        match &mut self.kind {
            UnitKind::Absent => {}
            UnitKind::Disk(disk) => *disk = DiskState::new(disk.sectors),
            UnitKind::Cdrom(cd) => *cd = CdState::power_on(cd.sectors),
        }
        self.soft_reset();
    }

    /// After SRST, DEVICE RESET or a self-test: signature and status.
    pub fn soft_reset(&mut self) {
        let (signature, status) = match &mut self.kind {
            UnitKind::Absent => (Signature::Nothing, Status::new()),
            UnitKind::Disk(disk) => {
                disk.multiple = MAX_MULTIPLE;
                (Signature::Disk, Status::READY)
            }
            // A packet device does not show DRDY before its first packet command (section 9.12).
            UnitKind::Cdrom(_) => (Signature::PacketDevice, Status::new()),
        };
        self.task.device = DeviceHead::new();
        self.task.set_signature(signature);
        self.task.error = DIAGNOSTICS_PASSED;
        self.task.status = status;
    }
}
