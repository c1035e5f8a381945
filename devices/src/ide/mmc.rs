//! The packet commands themselves (MMC-5, SPC-3): what a CD-ROM drive answers to each.

use super::atapi::{CdState, MediaEvent, Sense, msf};
use super::spec::{CD_SECTOR_BYTES, PACKET_BYTES};
use alloc::vec;
use alloc::vec::Vec;

/// Operation codes (MMC-5, chapter 6).
mod operation {
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SENSE_6: u8 = 0x1a;
    pub const START_STOP_UNIT: u8 = 0x1b;
    pub const PREVENT_ALLOW: u8 = 0x1e;
    pub const READ_CAPACITY: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const SEEK: u8 = 0x2b;
    pub const READ_TOC: u8 = 0x43;
    pub const GET_CONFIGURATION: u8 = 0x46;
    pub const GET_EVENT_STATUS: u8 = 0x4a;
    pub const READ_DISC_INFORMATION: u8 = 0x51;
    pub const READ_TRACK_INFORMATION: u8 = 0x52;
    pub const MODE_SENSE_10: u8 = 0x5a;
    pub const READ_12: u8 = 0xa8;
    pub const READ_DVD_STRUCTURE: u8 = 0xad;
    pub const SET_CD_SPEED: u8 = 0xbb;
    pub const MECHANISM_STATUS: u8 = 0xbd;
    pub const READ_CD: u8 = 0xbe;
}

const PROFILE_CD_ROM: u16 = 0x08;
const PROFILE_DVD_ROM: u16 = 0x10;
/// More sectors than a CD holds (80 minutes) make a DVD.
const CD_MAX_SECTORS: u32 = 80 * 60 * 75;
const LEAD_OUT: u8 = 0xaa;
/// ADR and control of a data track.
const DATA_TRACK: u8 = 0x14;

/// The result of a command that succeeds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// No data.
    Done,
    /// These bytes, at least one.
    Data(Vec<u8>),
    /// Sectors from the medium, at least one.
    Sectors { first: u32, count: u32, raw: bool },
}

type Outcome = Result<Answer, Sense>;

/// A command packet. Numbers in it have the most significant byte first.
struct Packet<'a>(&'a [u8; PACKET_BYTES]);

impl Packet<'_> {
    fn byte(&self, offset: usize) -> u8 {
        self.0[offset % PACKET_BYTES]
    }

    fn word(&self, offset: usize) -> u16 {
        u16::from_be_bytes([self.byte(offset), self.byte(offset + 1)])
    }

    fn dword(&self, offset: usize) -> u32 {
        u32::from(self.word(offset)) << 16 | u32::from(self.word(offset + 2))
    }
}

/// Data cut to the length that the host allocated.
fn data(mut bytes: Vec<u8>, allocated: usize) -> Outcome {
    bytes.truncate(allocated);
    Ok(if bytes.is_empty() { Answer::Done } else { Answer::Data(bytes) })
}

fn put_word(bytes: &mut [u8], offset: usize, value: u16) {
    if let Some(target) = bytes.get_mut(offset..offset + 2) {
        target.copy_from_slice(&value.to_be_bytes());
    }
}

fn put_dword(bytes: &mut [u8], offset: usize, value: u32) {
    if let Some(target) = bytes.get_mut(offset..offset + 4) {
        target.copy_from_slice(&value.to_be_bytes());
    }
}

/// Runs a command.
pub(super) fn execute(cd: &mut CdState, packet: &[u8; PACKET_BYTES]) -> Outcome {
    use operation::{GET_CONFIGURATION, GET_EVENT_STATUS, INQUIRY, REQUEST_SENSE};
    let code = packet[0];
    // These are never refused for a unit attention (MMC-5, section 4.1.6.1).
    let passes = matches!(code, REQUEST_SENSE | INQUIRY | GET_CONFIGURATION | GET_EVENT_STATUS);
    if let Some(attention) = cd.attention
        && !passes
    {
        cd.attention = None;
        return Err(attention);
    }
    if !passes && let Some(sense) = cd.tell_change() {
        return Err(sense);
    }
    if code != REQUEST_SENSE {
        cd.sense = Sense::NONE;
    }
    let packet = Packet(packet);
    match code {
        operation::TEST_UNIT_READY => cd.readable_sectors().map(|_| Answer::Done),
        REQUEST_SENSE => request_sense(cd, &packet),
        INQUIRY => inquiry(&packet),
        operation::MODE_SENSE_6 => mode_sense(cd, &packet, 4, packet.byte(4).into()),
        operation::MODE_SENSE_10 => mode_sense(cd, &packet, 8, packet.word(7).into()),
        operation::START_STOP_UNIT => start_stop(cd, &packet),
        operation::PREVENT_ALLOW => {
            cd.tray_locked = packet.byte(4) & 1 != 0;
            Ok(Answer::Done)
        }
        operation::READ_CAPACITY => read_capacity(cd),
        operation::READ_10 => sectors(cd, packet.dword(2), packet.word(7).into(), false),
        operation::READ_12 => sectors(cd, packet.dword(2), packet.dword(6), false),
        operation::READ_CD => read_cd(cd, &packet),
        operation::SEEK => seek(cd, &packet),
        operation::READ_TOC => read_toc(cd, &packet),
        GET_CONFIGURATION => get_configuration(cd, &packet),
        GET_EVENT_STATUS => get_event_status(cd, &packet),
        operation::READ_DISC_INFORMATION => read_disc_information(cd, &packet),
        operation::READ_TRACK_INFORMATION => read_track_information(cd, &packet),
        operation::READ_DVD_STRUCTURE => read_dvd_structure(cd, &packet),
        operation::MECHANISM_STATUS => data(vec![0, 0, 0, 0, 0, 1, 0, 0], packet.word(8).into()),
        operation::SET_CD_SPEED => Ok(Answer::Done),
        _ => Err(Sense::INVALID_COMMAND),
    }
}

fn request_sense(cd: &mut CdState, packet: &Packet<'_>) -> Outcome {
    let sense = match core::mem::replace(&mut cd.sense, Sense::NONE) {
        Sense::NONE => cd.attention.take().unwrap_or(Sense::NONE),
        sense => sense,
    };
    let mut bytes = vec![0; 18];
    // Fixed format, valid, current.
    bytes[0] = 0xf0;
    bytes[2] = sense.key;
    bytes[7] = 10;
    (bytes[12], bytes[13]) = (sense.code, sense.qualifier);
    data(bytes, packet.byte(4).into())
}

fn inquiry(packet: &Packet<'_>) -> Outcome {
    // A removable CD-ROM device, ATAPI; 31 more bytes.
    let mut bytes = vec![0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0];
    bytes.extend_from_slice(b"BULKHEADDVD-ROM         0.1 ");
    data(bytes, packet.byte(4).into())
}

fn read_capacity(cd: &CdState) -> Outcome {
    let last = cd.last_sector()?;
    let mut bytes = vec![0; 8];
    put_dword(&mut bytes, 0, last);
    put_dword(&mut bytes, 4, CD_SECTOR_BYTES);
    data(bytes, 8)
}

fn sectors(cd: &CdState, first: u32, count: u32, raw: bool) -> Outcome {
    let sectors = cd.readable_sectors()?.get();
    if first.checked_add(count).is_none_or(|end| end > sectors) {
        return Err(Sense::OUT_OF_RANGE);
    }
    Ok(if count == 0 { Answer::Done } else { Answer::Sectors { first, count, raw } })
}

fn read_cd(cd: &CdState, packet: &Packet<'_>) -> Outcome {
    let (first, count) = (packet.dword(2), packet.dword(5) & 0xff_ffff);
    match packet.byte(9) & 0xf8 {
        0x00 => sectors(cd, first, 0, false),
        0x10 => sectors(cd, first, count, false),
        0xf8 => sectors(cd, first, count, true),
        _ => Err(Sense::INVALID_FIELD),
    }
}

fn seek(cd: &CdState, packet: &Packet<'_>) -> Outcome {
    sectors(cd, packet.dword(2), 1, false).map(|_| Answer::Done)
}

fn start_stop(cd: &mut CdState, packet: &Packet<'_>) -> Outcome {
    let flags = packet.byte(4);
    let (start, load_eject, power_condition) = (flags & 1 != 0, flags & 2 != 0, flags >> 4);
    if power_condition != 0 || !load_eject {
        return Ok(Answer::Done);
    }
    if !start && cd.tray_locked && !cd.tray_open {
        return Err(Sense::REMOVAL_PREVENTED);
    }
    if start && cd.tray_open && cd.sectors != 0 {
        cd.event = MediaEvent::NewMedia;
        cd.attention = Some(Sense::MEDIUM_CHANGED);
    }
    cd.tray_open = !start;
    Ok(Answer::Done)
}

fn mode_sense(cd: &CdState, packet: &Packet<'_>, header_bytes: usize, allocated: usize) -> Outcome {
    const ERROR_RECOVERY: u8 = 0x01;
    const AUDIO_CONTROL: u8 = 0x0e;
    const CAPABILITIES: u8 = 0x2a;
    const ALL_PAGES: u8 = 0x3f;
    const SAVED_VALUES: u8 = 3;
    let (control, wanted) = (packet.byte(2) >> 6, packet.byte(2) & 0x3f);
    if control == SAVED_VALUES {
        return Err(Sense::NO_SAVED_PAGES);
    }
    // Reads CD-R, CD-RW, DVD; audio play, mode 2, multi-session; lock, eject, tray; speeds in kB/s;
    // buffer in KiB.
    let locked = u8::from(cd.tray_locked) << 1;
    let pages: [&[u8]; 3] = [
        &[ERROR_RECOVERY, 6, 0, 5, 0, 0, 0, 0],
        &[AUDIO_CONTROL, 14, 4, 0, 0, 0, 0, 0, 1, 0xff, 2, 0xff, 0, 0, 0, 0],
        &[
            CAPABILITIES,
            20,
            0x3b,
            0,
            0x71,
            0x60,
            0x29 | locked,
            0,
            0x02,
            0xc0,
            0,
            2,
            2,
            0,
            0x02,
            0xc0,
            0,
            0,
            0,
            0,
            0,
            0,
        ],
    ];
    let mut bytes = vec![0; header_bytes];
    for page in pages.iter().filter(|page| wanted == ALL_PAGES || page[0] == wanted) {
        bytes.extend_from_slice(page);
    }
    if bytes.len() == header_bytes {
        return Err(Sense::INVALID_FIELD);
    }
    // Medium type: 120 mm data disc, or no disc.
    let medium_type = if cd.readable_sectors().is_ok() { 0x01 } else { 0x70 };
    if header_bytes == 4 {
        bytes[0] = (bytes.len() - 1) as u8;
        bytes[1] = medium_type;
    } else {
        let length = bytes.len() as u16 - 2;
        put_word(&mut bytes, 0, length);
        bytes[2] = medium_type;
    }
    data(bytes, allocated)
}

fn read_toc(cd: &CdState, packet: &Packet<'_>) -> Outcome {
    let sectors = cd.readable_sectors()?.get();
    let is_msf = packet.byte(1) & 2 != 0;
    let start = packet.byte(6);
    let address = |lba: u32| {
        let [minute, second, frame] = msf(lba);
        if is_msf { [0, minute, second, frame] } else { lba.to_be_bytes() }
    };
    // Older software puts the format into the upper bits of the last byte.
    let format = match packet.byte(2) & 0xf {
        0 => packet.byte(9) >> 6,
        format => format,
    };
    // Length, first and last track or session.
    let mut bytes = vec![0, 0, 1, 1];
    let mut descriptor = |track: u8, lba: u32| {
        bytes.extend_from_slice(&[0, DATA_TRACK, track, 0]);
        bytes.extend_from_slice(&address(lba));
    };
    match format {
        0 if start > 1 && start != LEAD_OUT => return Err(Sense::INVALID_FIELD),
        0 => {
            if start <= 1 {
                descriptor(1, 0);
            }
            descriptor(LEAD_OUT, sectors);
        }
        1 => descriptor(1, 0),
        2 => bytes.extend_from_slice(&raw_toc(sectors)),
        _ => return Err(Sense::INVALID_FIELD),
    }
    let length = bytes.len() as u16 - 2;
    put_word(&mut bytes, 0, length);
    data(bytes, packet.word(7).into())
}

/// The lead-in's entries: first track, last track, lead-out, track 1.
fn raw_toc(sectors: u32) -> [u8; 44] {
    let mut entries = [0; 44];
    let points = [(0xa0, [1, 0, 0]), (0xa1, [1, 0, 0]), (0xa2, msf(sectors)), (1, msf(0))];
    for (entry, (point, [minute, second, frame])) in entries.chunks_exact_mut(11).zip(points) {
        entry.copy_from_slice(&[1, DATA_TRACK, 0, point, 0, 0, 0, 0, minute, second, frame]);
    }
    entries
}

fn get_configuration(cd: &CdState, packet: &Packet<'_>) -> Outcome {
    const ONE_FEATURE: u8 = 2;
    let current = match cd.readable_sectors() {
        Ok(sectors) if sectors.get() > CD_MAX_SECTORS => PROFILE_DVD_ROM,
        Ok(_) => PROFILE_CD_ROM,
        Err(_) => 0,
    };
    let has_medium = u8::from(current != 0);
    let [is_cd, is_dvd] = [PROFILE_CD_ROM, PROFILE_DVD_ROM].map(|of| u8::from(current == of));
    // Feature code, version and persistence (bit 1) or currency (bit 0), length, contents.
    let features: [&[u8]; 7] = [
        &[0x00, 0x00, 0x03, 8, 0x00, 0x10, is_dvd, 0, 0x00, 0x08, is_cd, 0],
        // Core: ATAPI. Morphing. Removable medium: tray, eject, lock.
        &[0x00, 0x01, 0x0b, 8, 0, 0, 0, 2, 1, 0, 0, 0],
        &[0x00, 0x02, 0x07, 4, 2, 0, 0, 0],
        &[0x00, 0x03, 0x03, 4, 0x29, 0, 0, 0],
        // Random readable: 2048-byte blocks. CD read. DVD read.
        &[0x00, 0x10, has_medium, 8, 0, 0, 8, 0, 0, 1, 0, 0],
        &[0x00, 0x1e, 0x08 | is_cd, 4, 0, 0, 0, 0],
        &[0x00, 0x1f, is_dvd, 0],
    ];
    let (request, start) = (packet.byte(1) & 3, packet.word(2));
    let mut bytes = vec![0; 8];
    for feature in features {
        let code = u16::from_be_bytes([feature[0], feature[1]]);
        let wanted = if request == ONE_FEATURE { code == start } else { code >= start };
        let is_current = feature[2] & 1 != 0;
        if wanted && (request != 1 || is_current) {
            bytes.extend_from_slice(feature);
        }
    }
    let length = bytes.len() as u32 - 4;
    put_dword(&mut bytes, 0, length);
    put_word(&mut bytes, 6, current);
    data(bytes, packet.word(7).into())
}

fn get_event_status(cd: &mut CdState, packet: &Packet<'_>) -> Outcome {
    const MEDIA: u8 = 4;
    const NO_EVENT_AVAILABLE: u8 = 0x80;
    let is_polled = packet.byte(1) & 1 != 0;
    if !is_polled {
        return Err(Sense::INVALID_FIELD);
    }
    let allocated = packet.word(7).into();
    if packet.byte(4) & 1 << MEDIA == 0 {
        return data(vec![0, 2, NO_EVENT_AVAILABLE, 1 << MEDIA], allocated);
    }
    let event = core::mem::take(&mut cd.event) as u8;
    let status = u8::from(cd.tray_open) | u8::from(cd.readable_sectors().is_ok()) << 1;
    data(vec![0, 6, MEDIA, 1 << MEDIA, event, status, 0, 0], allocated)
}

fn read_disc_information(cd: &CdState, packet: &Packet<'_>) -> Outcome {
    cd.readable_sectors()?;
    if packet.byte(1) & 7 != 0 {
        return Err(Sense::INVALID_FIELD);
    }
    let mut bytes = vec![0; 34];
    put_word(&mut bytes, 0, 32);
    // Complete and finalised; one session, one track; unrestricted use.
    bytes[2..8].copy_from_slice(&[0x0e, 1, 1, 1, 1, 0x20]);
    data(bytes, packet.word(7).into())
}

fn read_track_information(cd: &CdState, packet: &Packet<'_>) -> Outcome {
    let sectors = cd.readable_sectors()?.get();
    let (address_type, address) = (packet.byte(1) & 3, packet.dword(2));
    let exists = match address_type {
        0 => address < sectors,
        1 | 2 => address == 1,
        _ => false,
    };
    if !exists {
        return Err(Sense::INVALID_FIELD);
    }
    let mut bytes = vec![0; 36];
    put_word(&mut bytes, 0, 34);
    // Track 1 of session 1, a data track in mode 1, from sector 0 on.
    (bytes[2], bytes[3], bytes[5], bytes[6]) = (1, 1, 4, 1);
    put_dword(&mut bytes, 24, sectors);
    data(bytes, packet.word(7).into())
}

fn read_dvd_structure(cd: &CdState, packet: &Packet<'_>) -> Outcome {
    let last = cd.last_sector()?;
    if last < CD_MAX_SECTORS {
        return Err(Sense::INCOMPATIBLE_MEDIUM);
    }
    let (layer, format) = (packet.byte(6), packet.byte(7));
    let mut bytes = match format {
        // Physical format: DVD-ROM, 120 mm, one layer; user data from 30000h on.
        0 if layer == 0 => {
            let mut bytes = vec![0; 4 + 2048];
            bytes[4..8].copy_from_slice(&[0x01, 0x0f, 0x01, 0x00]);
            put_dword(&mut bytes, 8, 0x3_0000);
            put_dword(&mut bytes, 12, last.saturating_add(0x3_0000));
            bytes
        }
        // Copyright: none.
        1 => vec![0; 4 + 4],
        // Manufacturing information: none.
        4 => vec![0; 4 + 2048],
        _ => return Err(Sense::INVALID_FIELD),
    };
    let length = bytes.len() as u16 - 2;
    put_word(&mut bytes, 0, length);
    data(bytes, packet.word(8).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(sectors: u32) -> CdState {
        CdState { attention: None, ..CdState::power_on(sectors) }
    }

    #[test]
    fn the_last_sector_is_known_of_every_medium_that_has_one() {
        const DVD_SECTORS: u32 = CD_MAX_SECTORS + 1;
        let capacity = |sectors| match read_capacity(&drive(sectors)) {
            Ok(Answer::Data(bytes)) => Ok(bytes[..4].to_vec()),
            Ok(_) => Err(None),
            Err(sense) => Err(Some(sense)),
        };
        assert_eq!(capacity(0), Err(Some(Sense::NO_MEDIUM)));
        for sectors in [1, CD_MAX_SECTORS, u32::MAX] {
            assert_eq!(capacity(sectors), Ok((sectors - 1).to_be_bytes().to_vec()));
        }
        for (sectors, last) in [
            (0, None),
            (1, None),
            (DVD_SECTORS, Some(DVD_SECTORS + 0x2_ffff)),
            (u32::MAX, Some(u32::MAX)),
        ] {
            let mut packet = [0; PACKET_BYTES];
            (packet[8], packet[9]) = (0x10, 0);
            let found = match read_dvd_structure(&drive(sectors), &Packet(&packet)) {
                Ok(Answer::Data(bytes)) => Some(bytes[12..16].to_vec()),
                _ => None,
            };
            assert_eq!(found, last.map(|last| last.to_be_bytes().to_vec()), "{sectors}");
        }
    }
}
