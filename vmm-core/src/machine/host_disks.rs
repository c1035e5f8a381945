//! The machine's own disks: their partitions, their names, and which guest has what. They are read
//! once, when the machine starts, and only their partition tables and labels: what a guest writes
//! to them afterwards changes no name.

mod claims;
#[cfg(test)]
mod tests;

use crate::host::platform::Platform;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::partitions::{self, Partition, Table};
use block::{FileSystem, HostDisk, Medium, Part, Reader, link_name};
use claims::Claims;
pub use claims::{Access, Claim};
use control::disks::{FileSystemFacts, HostDiskFacts, PartitionFacts, VolumeFacts};
use core::ops::Range;

/// A disk has so long for all that is read of it.
const READ_S: u64 = 10;
/// Disks and partitions that there are names for; a list of them stays bounded so.
pub const MAX_VOLUMES: usize = 1024;
/// Faults of a table that its line in the log names.
const MAX_FAULTS: usize = 4;
/// Names by identification that a disk has.
const MAX_IDS: usize = 8;
/// Names in a message.
const MAX_NAMES: usize = 32;

/// The machine's own disks.
#[derive(Default)]
pub struct HostDisks {
    disks: Vec<Disk>,
    claims: Claims,
}

/// A disk. Its volumes are itself, then its partitions.
struct Disk {
    host: HostDisk,
    volumes: Vec<Volume>,
}

/// A whole disk or a partition.
struct Volume {
    /// Its name below `/dev`: `vda`, `nvme0n1p2`.
    name: String,
    /// Its other names below `/dev`: `disk/by-uuid/...`.
    links: Vec<String>,
    range: Range<u64>,
    partition: Option<Partition>,
    file_system: Option<FileSystem>,
}

/// A disk as a guest is given it, and the claim to it, which lasts as long.
pub struct Given {
    /// The disk or partition.
    pub medium: Arc<dyn Medium>,
    /// The guest's claim.
    pub claim: Claim,
}

impl HostDisks {
    /// Reads the tables and labels of `disks`, which are at work meanwhile. For the boot CPU,
    /// before anything else has to go on.
    pub fn read(platform: &dyn Platform, disks: &[HostDisk]) -> Self {
        let mut left = MAX_VOLUMES;
        let read = |host: &HostDisk| {
            let mut disk = Disk::read(platform, host);
            if disk.volumes.len() > left {
                log::warn!("{}: there are more than {MAX_VOLUMES} partitions", host.name);
                disk.volumes.truncate(left);
            }
            left -= disk.volumes.len();
            disk
        };
        Self { disks: disks.iter().map(read).collect(), claims: Claims::default() }
    }

    /// Gives a guest the disk or partition with this name below `/dev`; none if there is none.
    ///
    /// # Errors
    /// Why the guest cannot have it.
    pub fn give(&self, name: &str, access: Access, guest: &str) -> Result<Option<Given>, String> {
        let Some((number, volume)) = self.find(name)? else { return Ok(None) };
        let claim = self.claims.claim(number, &volume.range, &volume.name, access, guest)?;
        let below = self.disks[number].host.medium.clone();
        let is_read_only = access == Access::Read;
        let medium = Arc::new(Part::new(below, volume.range.clone(), is_read_only));
        Ok(Some(Given { medium, claim }))
    }

    /// The names of disks and partitions, for a message.
    pub fn names(&self) -> Vec<&str> {
        let volumes = self.disks.iter().flat_map(|disk| &disk.volumes);
        volumes.map(|volume| &*volume.name).take(MAX_NAMES).collect()
    }

    /// All disks, and who has them.
    pub fn facts(&self) -> Vec<HostDiskFacts> {
        let disk = |(number, disk): (usize, &Disk)| {
            let facts = |volume: &Volume| volume.facts(self.claims.of(number, &volume.range));
            let (whole, partitions) = disk.volumes.split_first()?;
            let geometry = disk.host.medium.geometry();
            Some(HostDiskFacts {
                volume: facts(whole),
                model: disk.host.model.clone(),
                serial: disk.host.serial.clone(),
                sector_bytes: geometry.sector_bytes,
                physical_sector_bytes: geometry.physical_sector_bytes,
                is_read_only: geometry.is_read_only,
                partitions: partitions
                    .iter()
                    .filter_map(|volume| volume.partition_facts(facts(volume)))
                    .collect(),
            })
        };
        self.disks.iter().enumerate().filter_map(disk).collect()
    }

    /// The disk or partition with this name, and its disk's number. A label that is a partition's
    /// and its whole disk's, as on an ISO image, means the disk.
    fn find(&self, name: &str) -> Result<Option<(usize, &Volume)>, String> {
        let in_disk = |(number, disk)| Some((number, Disk::find(disk, name)?));
        let mut found = self.disks.iter().enumerate().filter_map(in_disk);
        match (found.next(), found.next()) {
            (Some((_, first)), Some((_, second))) => {
                Err(format!("{name} is {} as well as {}", first.name, second.name))
            }
            (first, _) => Ok(first),
        }
    }
}

impl Disk {
    fn read(platform: &dyn Platform, host: &HostDisk) -> Self {
        let deadline = platform.tsc().saturating_add(READ_S * platform.tsc_hz());
        let mut wait = || {
            platform.attend_disks();
            platform.handle_interrupts();
            platform.tsc() < deadline
        };
        let mut reader = Reader::open(&host.medium, &mut wait);
        let size_bytes = reader.geometry().size_bytes;
        let mut volumes = Vec::new();
        let whole = Volume::new(host, 0..size_bytes, None);
        // A drive without a medium has no sectors.
        let table =
            if size_bytes == 0 { Ok(Table::default()) } else { partitions::read(&mut reader) };
        match table {
            Ok(table) => {
                if !table.partitions.is_empty() || !table.faults.is_empty() {
                    log::info!("{}: {}", host.name, description(&table));
                }
                volumes.push(whole);
                let partitions = table.partitions.into_iter();
                volumes.extend(partitions.map(|it| Volume::new(host, it.range.clone(), Some(it))));
                for volume in &mut volumes {
                    volume.add_labels(&mut reader);
                }
            }
            Err(error) => {
                log::warn!("{}: its partitions cannot be read: {error}", host.name);
                volumes.push(whole);
            }
        }
        Self { host: host.clone(), volumes }
    }

    fn find(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|it| it.name == name || it.links.iter().any(|link| link == name))
    }
}

impl Volume {
    /// The whole disk, or a partition of it.
    fn new(host: &HostDisk, range: Range<u64>, partition: Option<Partition>) -> Self {
        let (mut name, mut suffix) = (host.name.clone(), String::new());
        let mut links = Vec::new();
        if let Some(partition) = &partition {
            let number = partition.number;
            if name.ends_with(|last: char| last.is_ascii_digit()) {
                name.push('p');
            }
            name += &number.to_string();
            suffix = format!("-part{number}");
            add_link(&mut links, "partlabel", &link_name(&partition.label));
            add_link(&mut links, "partuuid", &partition.uuid);
        }
        for id in host.ids.iter().take(MAX_IDS) {
            add_link(&mut links, "id", &format!("{id}{suffix}"));
        }
        Self { name, links, range, partition, file_system: None }
    }

    fn add_labels(&mut self, reader: &mut Reader<'_>) {
        self.file_system = FileSystem::find(reader, self.range.start);
        if let Some(file_system) = &self.file_system {
            add_link(&mut self.links, "label", &link_name(&file_system.label));
            add_link(&mut self.links, "uuid", &file_system.uuid);
        }
    }

    fn facts(&self, users: Vec<control::disks::DiskUser>) -> VolumeFacts {
        VolumeFacts {
            name: self.name.clone(),
            links: self.links.clone(),
            size_bytes: self.range.end - self.range.start,
            file_system: self
                .file_system
                .clone()
                .map(|FileSystem { kind, label, uuid }| FileSystemFacts { kind, label, uuid }),
            users,
        }
    }

    fn partition_facts(&self, volume: VolumeFacts) -> Option<PartitionFacts> {
        let partition = self.partition.as_ref()?;
        Some(PartitionFacts {
            volume,
            start_bytes: partition.range.start,
            kind: partition.kind.to_string(),
            label: partition.label.clone(),
            uuid: partition.uuid.clone(),
        })
    }
}

/// A link of udev's below `/dev/disk`, if there is something to name it after.
fn add_link(links: &mut Vec<String>, by: &str, name: &str) {
    if !name.is_empty() {
        links.push(format!("disk/by-{by}/{name}"));
    }
}

/// The partitions and faults of a table, for the log.
fn description(table: &Table) -> String {
    let mut text = match table.partitions.len() {
        1 => "1 partition".into(),
        count => format!("{count} partitions"),
    };
    for fault in table.faults.iter().take(MAX_FAULTS) {
        text += &format!("; {fault}");
    }
    match table.faults.len().saturating_sub(MAX_FAULTS) {
        0 => text,
        more => text + &format!("; {more} more faults"),
    }
}
