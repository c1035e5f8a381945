//! The PIIX3 IDE function: two channels at the legacy ports, disks and CD-ROM drives, PIO and
//! bus-master DMA.

mod ata;
mod atapi;
mod busmaster;
mod channel;
mod dma;
mod identify;
mod mmc;
pub mod spec;
mod taskfile;
mod unit;

use crate::bus::{Access, PioDevice, Region, read_element, write_element};
use crate::irq::IrqLine;
use crate::lock::DeviceLock;
use crate::memory::GuestMemory;
use crate::pci::{Bar, ConfigEffect, ConfigSpace, Identity, PciFunction, PciRegion};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use atapi::CdState;
use block::{Client, Completion, Medium, Opened, User};
use channel::Channel;
use unit::{DiskState, Unit, UnitKind};

/// Vendor 8086h, device 7010h.
const DEVICE: u16 = 0x7010;
/// IDE timing, both channels; bit 15 of each half: the channel's ports are decoded, which they
/// always are.
const IDE_TIMING: u8 = 0x40;
const BUS_MASTER_BAR: u8 = 4;

/// Regions, as numbered in accesses: the command and control blocks of each channel, then the bus
/// master.
const PRIMARY_COMMAND: u8 = 0;
const PRIMARY_CONTROL: u8 = 1;
const SECONDARY_COMMAND: u8 = 2;
const SECONDARY_CONTROL: u8 = 3;
const BUS_MASTER: u8 = BUS_MASTER_BAR;
/// The bus master's ports of one channel.
const BUS_MASTER_CHANNEL_PORTS: u64 = 8;

/// The device at one position.
#[derive(Clone)]
pub enum Drive {
    /// A hard disk.
    Disk(Arc<dyn Medium>),
    /// A CD-ROM drive with this disc in it, or with none.
    Cdrom(Option<Arc<dyn Medium>>),
}

impl Drive {
    fn split(drive: Option<Self>) -> (UnitKind, Option<Arc<dyn Medium>>) {
        match drive {
            None => (UnitKind::Absent, None),
            Some(Self::Disk(medium)) => {
                let sectors = medium.geometry().size_bytes / u64::from(spec::SECTOR_BYTES);
                (UnitKind::Disk(DiskState::new(sectors)), Some(medium))
            }
            Some(Self::Cdrom(medium)) => {
                (UnitKind::Cdrom(CdState::power_on(disc_sectors(medium.as_ref()))), medium)
            }
        }
    }
}

fn disc_sectors(disc: Option<&Arc<dyn Medium>>) -> u32 {
    let bytes = disc.map_or(0, |disc| disc.geometry().size_bytes);
    u32::try_from(bytes / u64::from(spec::CD_SECTOR_BYTES)).unwrap_or(u32::MAX)
}

/// The guest has locked a drive's door. It has been told that someone wants it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorLocked;

/// A channel as its drives' media see it.
struct ChannelPort(DeviceLock<Channel>);

impl ChannelPort {
    fn new(
        drives: [Option<Drive>; 2],
        first: u8,
        irq: IrqLine,
        memory: Arc<dyn GuestMemory>,
        user: User,
    ) -> Arc<Self> {
        let [(kind_0, medium_0), (kind_1, medium_1)] = drives.map(Drive::split);
        let units = [Unit::new(kind_0, first), Unit::new(kind_1, first + 1)];
        Arc::new_cyclic(|port: &Weak<Self>| {
            let open = |medium: Arc<dyn Medium>| Opened::new(medium, port.clone(), user);
            let media = [medium_0, medium_1].map(|medium| medium.map(open));
            Self(DeviceLock::new(Channel::new(units, media, irq, memory)))
        })
    }
}

impl Client for ChannelPort {
    fn complete(&self, completion: Completion) {
        let mut channel = self.0.lock();
        channel.completed(completion);
        channel.pump();
    }
}

/// The IDE function.
pub struct Ide {
    config: DeviceLock<ConfigSpace>,
    channels: [Arc<ChannelPort>; 2],
    user: User,
}

impl Ide {
    /// An IDE function with `drives` (primary device 0 and 1, secondary device 0 and 1), whose
    /// channels raise `irqs` (ISA interrupts 14 and 15) and do DMA in `memory`. It opens media as
    /// `user`.
    pub fn new(
        drives: [Option<Drive>; 4],
        irqs: [IrqLine; 2],
        memory: Arc<dyn GuestMemory>,
        user: User,
    ) -> Self {
        let identity = Identity {
            vendor: 0x8086,
            device: DEVICE,
            revision: 0,
            class: 0x01_01_80,
            subsystem: 0x1100_1af4,
        };
        let mut config =
            ConfigSpace::new(identity).with_bar(BUS_MASTER_BAR, Bar::Pio { length: 16 });
        config.define(IDE_TIMING, 0x8000_8000, 0x7fff_7fff);
        config.define(IDE_TIMING + 4, 0, 0xff);
        let [drive_0, drive_1, drive_2, drive_3] = drives;
        let [primary_irq, secondary_irq] = irqs;
        let channels = [
            ChannelPort::new([drive_0, drive_1], 0, primary_irq, memory.clone(), user),
            ChannelPort::new([drive_2, drive_3], 2, secondary_irq, memory, user),
        ];
        Self { config: DeviceLock::new(config), channels, user }
    }

    /// Takes the hard disks away, all or all but the first drive, until the machine restarts.
    pub fn remove_disks(&self, keep_first: bool) {
        for channel in &self.channels {
            channel.0.lock().remove_disks(|unit| keep_first && unit.number == 0);
        }
    }

    /// The disc in the CD-ROM drive at `place` (0 to 3), if the tray is closed.
    pub fn disc(&self, place: usize) -> Option<Arc<dyn Medium>> {
        self.channels.get(place / 2)?.0.lock().disc(place % 2)
    }

    /// Puts another disc into the CD-ROM drive at `place`, or takes the disc out, which leaves the
    /// tray open. Does nothing where there is no such drive.
    ///
    /// # Errors
    /// [`DoorLocked`].
    pub fn change_disc(
        &self,
        place: usize,
        disc: Option<Arc<dyn Medium>>,
    ) -> Result<(), DoorLocked> {
        let Some(port) = self.channels.get(place / 2) else { return Ok(()) };
        let sectors = disc_sectors(disc.as_ref());
        let client: Weak<ChannelPort> = Arc::downgrade(port);
        let disc = disc.map(|disc| Opened::new(disc, client, self.user));
        port.0.lock().change_disc(place % 2, sectors, disc)
    }

    fn channel(&self, region: u8) -> &DeviceLock<Channel> {
        &self.channels[usize::from(region >= SECONDARY_COMMAND)].0
    }

    fn bus_master_channel(&self, offset: u64) -> &DeviceLock<Channel> {
        &self.channels[usize::from(offset >= BUS_MASTER_CHANNEL_PORTS)].0
    }
}

/// The offsets of the bytes of an access, as far as they are inside a region of `length`.
fn bytes_of(access: Access, length: u64) -> impl Iterator<Item = u64> {
    access.offset..access.offset.saturating_add(access.size_bytes.into()).min(length)
}

const COMMAND_BLOCK_PORTS: u64 = 8;

impl PioDevice for Ide {
    /// The legacy ports. The bus master's are where base address register 4 says.
    fn ports(&self) -> Vec<Region> {
        [
            Region::new(PRIMARY_COMMAND, 0x1f0, COMMAND_BLOCK_PORTS),
            Region::new(PRIMARY_CONTROL, 0x3f6, 1),
            Region::new(SECONDARY_COMMAND, 0x170, COMMAND_BLOCK_PORTS),
            Region::new(SECONDARY_CONTROL, 0x376, 1),
        ]
        .into()
    }

    fn pio_read(&self, access: Access) -> Option<u32> {
        match access.region {
            PRIMARY_CONTROL | SECONDARY_CONTROL => {
                let status = self.channel(access.region).lock().alternate_status();
                Some(u32::from(status) | 0xffff_ff00)
            }
            PRIMARY_COMMAND | SECONDARY_COMMAND if access.offset != spec::register::DATA => {
                let mut channel = self.channel(access.region).lock();
                if access.size_bytes == 1 {
                    return Some(channel.read_register(access.offset).into());
                }
                let mut value = u32::MAX;
                for (byte, offset) in (0u32..).zip(bytes_of(access, COMMAND_BLOCK_PORTS)) {
                    let register = u32::from(channel.read_register(offset));
                    value = value & !(0xff << (8 * byte)) | register << (8 * byte);
                }
                Some(value)
            }
            PRIMARY_COMMAND | SECONDARY_COMMAND => {
                let mut bytes = [0; 4];
                self.pio_read_string(access, bytes.get_mut(..access.size_bytes.into())?);
                Some(u32::from_le_bytes(bytes))
            }
            BUS_MASTER => {
                let registers =
                    self.bus_master_channel(access.offset).lock().state.bus_master.registers();
                Some((registers >> (8 * (access.offset % BUS_MASTER_CHANNEL_PORTS))) as u32)
            }
            _ => None,
        }
    }

    fn pio_write(&self, access: Access, value: u32) {
        match access.region {
            PRIMARY_CONTROL | SECONDARY_CONTROL => {
                self.channel(access.region).lock().write_control(value as u8)
            }
            PRIMARY_COMMAND | SECONDARY_COMMAND if access.offset != spec::register::DATA => {
                let mut channel = self.channel(access.region).lock();
                for (byte, offset) in
                    value.to_le_bytes().into_iter().zip(bytes_of(access, COMMAND_BLOCK_PORTS))
                {
                    channel.write_register(offset, byte);
                }
                channel.pump();
            }
            PRIMARY_COMMAND | SECONDARY_COMMAND => {
                let bytes = value.to_le_bytes();
                if let Some(bytes) = bytes.get(..access.size_bytes.into()) {
                    self.pio_write_string(access, bytes);
                }
            }
            BUS_MASTER => {
                let mut channel = self.bus_master_channel(access.offset).lock();
                let offset = access.offset % BUS_MASTER_CHANNEL_PORTS;
                let access = Access { offset, ..access };
                for (byte, offset) in
                    value.to_le_bytes().into_iter().zip(bytes_of(access, BUS_MASTER_CHANNEL_PORTS))
                {
                    channel.write_bus_master(offset, byte);
                }
                channel.pump();
            }
            _ => {}
        }
    }

    fn pio_read_string(&self, access: Access, data: &mut [u8]) -> usize {
        let size = usize::from(access.size_bytes).max(1);
        let is_data = matches!(access.region, PRIMARY_COMMAND | SECONDARY_COMMAND);
        if is_data && access.offset == spec::register::DATA {
            let whole = data.len() / size * size;
            self.channel(access.region).lock().data_in(&mut data[..whole]);
            return whole;
        }
        read_element(self, access, data)
    }

    fn pio_write_string(&self, access: Access, data: &[u8]) -> usize {
        let size = usize::from(access.size_bytes).max(1);
        let whole = data.len() / size * size;
        let is_data = matches!(access.region, PRIMARY_COMMAND | SECONDARY_COMMAND);
        if is_data && access.offset == spec::register::DATA {
            self.channel(access.region).lock().data_out(&data[..whole]);
            return whole;
        }
        write_element(self, access, data)
    }
}

impl PciFunction for Ide {
    fn config_read(&self, register: u8) -> u32 {
        self.config.lock().read(register)
    }

    fn config_write(&self, register: u8, value: u32, mask: u32) -> ConfigEffect {
        self.config.lock().write(register, value, mask)
    }

    fn regions(&self) -> Vec<PciRegion> {
        self.config.lock().regions()
    }
}

#[cfg(test)]
mod tests;
