//! The commands of a CD-ROM drive: those of an ATA packet device, and the packets (MMC-5) that run
//! on it.

use super::DoorLocked;
use super::channel::{CHUNK_BYTES, Channel, Extent, Transport};
use super::identify;
use super::mmc;
use super::spec::{
    CD_RAW_SECTOR_BYTES, CD_SECTOR_BYTES, Error, PACKET_BYTES, SECTOR_BYTES, Status, command,
};
use super::taskfile::Signature;
use super::unit::{TransferMode, UnitKind};
use alloc::vec::Vec;
use bitfield_struct::bitfield;
use core::num::NonZeroU32;

/// Why a packet command failed: sense key, additional sense code and qualifier (MMC-5, annex F).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sense {
    pub key: u8,
    pub code: u8,
    pub qualifier: u8,
}

impl Sense {
    pub const NONE: Self = Self { key: 0, code: 0, qualifier: 0 };
    pub const NO_MEDIUM: Self = Self { key: 2, code: 0x3a, qualifier: 0 };
    pub const TRAY_OPEN: Self = Self { key: 2, code: 0x3a, qualifier: 2 };
    pub const UNRECOVERED_READ: Self = Self { key: 3, code: 0x11, qualifier: 0 };
    pub const INVALID_COMMAND: Self = Self { key: 5, code: 0x20, qualifier: 0 };
    pub const OUT_OF_RANGE: Self = Self { key: 5, code: 0x21, qualifier: 0 };
    pub const INVALID_FIELD: Self = Self { key: 5, code: 0x24, qualifier: 0 };
    pub const INCOMPATIBLE_MEDIUM: Self = Self { key: 5, code: 0x30, qualifier: 0 };
    pub const NO_SAVED_PAGES: Self = Self { key: 5, code: 0x39, qualifier: 0 };
    pub const REMOVAL_PREVENTED: Self = Self { key: 5, code: 0x53, qualifier: 2 };
    pub const POWER_ON: Self = Self { key: 6, code: 0x29, qualifier: 0 };
    pub const MEDIUM_CHANGED: Self = Self { key: 6, code: 0x28, qualifier: 0 };
}

/// Features register of PACKET.
#[bitfield(u8)]
struct PacketFeature {
    dma: bool,
    overlapped: bool,
    #[bits(6)]
    __: u8,
}

/// An event of class media (MMC-5, table 306).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MediaEvent {
    #[default]
    None = 0,
    /// Someone wants to open the tray, which is locked.
    EjectRequest = 1,
    NewMedia = 2,
    Removal = 3,
}

/// How much a system that does not ask for events has been told of a disc put in place of another.
/// As with a drive that is slow to load (and with QEMU's), commands find no medium, and then one
/// that has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Change {
    /// All of it.
    #[default]
    Told,
    /// Nothing: the next command finds no medium.
    Removed,
    /// That the old disc is gone: the next command finds another.
    Inserted,
}

/// A CD-ROM drive.
#[derive(Clone, Debug, Default)]
pub(super) struct CdState {
    /// Sectors of 2048 bytes on the medium; 0 without one.
    pub sectors: u32,
    /// Why the last command failed.
    pub sense: Sense,
    /// The sense with which the next command that can be refused is refused.
    pub attention: Option<Sense>,
    pub tray_open: bool,
    pub tray_locked: bool,
    /// Not yet told by GET EVENT STATUS NOTIFICATION.
    pub event: MediaEvent,
    /// Not yet told by commands that need the medium.
    pub change: Change,
    pub transfer_mode: TransferMode,
}

impl CdState {
    /// After power-on: the first command that can be refused is refused with a unit attention.
    pub fn power_on(sectors: u32) -> Self {
        Self { sectors, attention: Some(Sense::POWER_ON), ..Self::default() }
    }

    /// Sectors that can be read now: a medium without any is none.
    pub fn readable_sectors(&self) -> Result<NonZeroU32, Sense> {
        if self.tray_open {
            return Err(Sense::TRAY_OPEN);
        }
        NonZeroU32::new(self.sectors).ok_or(Sense::NO_MEDIUM)
    }

    /// Another disc of so many sectors is put in, or none with 0: the tray is open then.
    ///
    /// # Errors
    /// [`DoorLocked`], of which the system is told: it may want to unlock it.
    pub fn change_disc(&mut self, sectors: u32) -> Result<(), DoorLocked> {
        if self.tray_locked && !self.tray_open {
            self.event = MediaEvent::EjectRequest;
            return Err(DoorLocked);
        }
        let had_disc = self.readable_sectors().is_ok();
        self.sectors = sectors;
        self.tray_open = sectors == 0;
        self.change = Change::Removed;
        match (self.tray_open, had_disc) {
            (false, _) => self.event = MediaEvent::NewMedia,
            (true, true) => self.event = MediaEvent::Removal,
            (true, false) => {}
        }
        Ok(())
    }

    /// The sense with which a command that can be refused is refused, as it is the first or second
    /// one since another disc was put in.
    pub fn tell_change(&mut self) -> Option<Sense> {
        self.readable_sectors().ok()?;
        let (next, sense) = match self.change {
            Change::Told => return None,
            Change::Removed => (Change::Inserted, Sense::NO_MEDIUM),
            Change::Inserted => (Change::Told, Sense::MEDIUM_CHANGED),
        };
        self.change = next;
        Some(sense)
    }

    /// The last of them.
    pub fn last_sector(&self) -> Result<u32, Sense> {
        Ok(self.readable_sectors()?.get() - 1)
    }
}

impl Channel {
    /// Runs a command on the selected device, a CD-ROM drive.
    pub(super) fn execute_atapi(&mut self, code: u8) {
        match code {
            command::PACKET => self.start_packet(),
            command::IDENTIFY_PACKET => self.identify_cdrom(),
            command::SET_FEATURES => self.set_features(),
            // Commands that tell a packet device from a disk: aborted, with the signature.
            command::IDENTIFY | command::READ_SECTORS | command::READ_SECTORS_NO_RETRY => {
                self.task().set_signature(Signature::PacketDevice);
                self.abort();
            }
            command::FLUSH_CACHE => self.succeed(),
            _ => self.execute_power(code),
        }
    }

    fn identify_cdrom(&mut self) {
        let number = self.unit().number;
        let UnitKind::Cdrom(cd) = &self.unit().kind else { return };
        let page = identify::cdrom(cd, number);
        self.state.buffer.clear();
        self.state.buffer.extend_from_slice(&page);
        // As drives of the time before ATA-4 do: drivers for DOS take the data's direction from it.
        self.task().set_reason(false, true);
        self.reply(Transport::Pio { block_bytes: SECTOR_BYTES });
    }

    fn start_packet(&mut self) {
        let features = PacketFeature::from(self.task().feature.current);
        if features.overlapped() {
            return self.abort();
        }
        self.accept_packet();
    }

    /// Runs the packet that the host has sent.
    pub(super) fn execute_packet(&mut self, packet: &[u8; PACKET_BYTES]) {
        let UnitKind::Cdrom(cd) = &mut self.unit().kind else { return };
        match mmc::execute(cd, packet) {
            Ok(mmc::Answer::Done) => self.succeed(),
            Ok(mmc::Answer::Data(data)) => {
                let Some(transport) = self.packet_transport() else { return };
                self.state.buffer.clear();
                self.state.buffer.extend_from_slice(&data);
                self.reply(transport);
            }
            Ok(mmc::Answer::Sectors { first, count, raw }) => {
                let Some(transport) = self.packet_transport() else { return };
                let bytes = |sectors: u32| u64::from(sectors) * u64::from(CD_SECTOR_BYTES);
                let extent = Extent { offset_bytes: bytes(first), left_bytes: bytes(count) };
                self.read_medium(extent, raw, transport);
            }
            Err(sense) => self.fail_packet(sense),
        }
    }

    /// How the packet command's data is to be moved; aborts it if the host left no room for a byte.
    fn packet_transport(&mut self) -> Option<Transport> {
        if PacketFeature::from(self.task().feature.current).dma() {
            return Some(Transport::Dma);
        }
        match self.task().byte_count() {
            0 => {
                self.abort();
                None
            }
            // An odd count, and the largest one, stand for the even one below (section 8.23).
            1 => Some(Transport::Pio { block_bytes: 1 }),
            limit => {
                Some(Transport::Pio { block_bytes: u32::from(limit & !1).min(CHUNK_BYTES - 2) })
            }
        }
    }

    /// Ends the packet command with a check condition.
    pub(super) fn fail_packet(&mut self, sense: Sense) {
        if let UnitKind::Cdrom(cd) = &mut self.unit().kind {
            cd.sense = sense;
        }
        self.task().set_reason(true, true);
        // The sense key is in the upper half of the error register; ABRT is for what is not
        // supported.
        let aborted = Error::new().with_aborted(sense == Sense::INVALID_COMMAND);
        self.fail((sense.key << 4 | u8::from(aborted)).into());
        self.task().status = Status::new().with_ready(true).with_error(true);
    }

    pub(super) fn fail_packet_medium(&mut self, error: block::Error) {
        self.fail_packet(match error {
            block::Error::OutOfRange => Sense::OUT_OF_RANGE,
            block::Error::Gone => Sense::NO_MEDIUM,
            _ => Sense::UNRECOVERED_READ,
        });
    }
}

/// A logical block address as minute, second and frame.
pub(super) fn msf(lba: u32) -> [u8; 3] {
    const LEAD_IN_FRAMES: u32 = 150;
    let frames = lba.saturating_add(LEAD_IN_FRAMES);
    [(frames / 75 / 60) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
}

/// Puts synchronisation, header and (empty) error correction around each sector of user data.
pub(super) fn raw_sectors(user_data: &[u8], first_sector: u64) -> Vec<u8> {
    const SYNC: [u8; 12] = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
    const MODE_1: u8 = 1;
    let raw_bytes = CD_RAW_SECTOR_BYTES as usize;
    let mut raw = Vec::with_capacity(user_data.len() / CD_SECTOR_BYTES as usize * raw_bytes);
    for (index, sector) in
        (first_sector as u32..).zip(user_data.chunks_exact(CD_SECTOR_BYTES as usize))
    {
        let end = raw.len() + raw_bytes;
        raw.extend_from_slice(&SYNC);
        raw.extend_from_slice(&msf(index));
        raw.push(MODE_1);
        raw.extend_from_slice(sector);
        raw.resize(end, 0);
    }
    raw
}
