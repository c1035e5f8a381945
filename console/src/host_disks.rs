//! The machine's own disks in a list: as text at the prompt, and in JSON.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use control::disks::{HostDiskFacts, PartitionFacts, VolumeFacts};
use core::fmt::Write;
use serde_json::{Value, json};

/// A disk in a line, its other names below it, then its partitions.
pub fn show(disks: &[HostDiskFacts]) -> String {
    let mut text = String::new();
    for disk in disks {
        let HostDiskFacts { volume, model, serial, sector_bytes, .. } = disk;
        let mut facts = Vec::from([format!("sectors of {sector_bytes} bytes")]);
        if disk.physical_sector_bytes != *sector_bytes {
            facts.push(format!("physical {}", disk.physical_sector_bytes));
        }
        facts.extend(named("model", model));
        facts.extend(named("serial", serial));
        if disk.is_read_only {
            facts.push("read-only".into());
        }
        show_volume(&mut text, "", volume, facts);
        for PartitionFacts { volume, kind, label, .. } in &disk.partitions {
            let mut facts = Vec::from([format!("type {kind}")]);
            facts.extend(named("label", label));
            show_volume(&mut text, "  ", volume, facts);
        }
    }
    text
}

fn show_volume(text: &mut String, indent: &str, volume: &VolumeFacts, mut facts: Vec<String>) {
    let VolumeFacts { name, links, size_bytes, file_system, users } = volume;
    if let Some(file_system) = file_system {
        facts.push(file_system.kind.into());
    }
    for user in users {
        facts.push(format!("used by {} ({})", user.guest, user.access));
    }
    let (name, size) = (format!("{indent}{name}"), size(*size_bytes));
    // Writing to a string does not fail.
    let _ = writeln!(text, "{name:14} {size:>8}  {}", facts.join(", "));
    for link in links {
        let _ = writeln!(text, "{indent}    {link}");
    }
}

/// A name for a text, and the text in quotes, if there is one.
fn named(what: &str, text: &str) -> Option<String> {
    (!text.is_empty()).then(|| format!("{what} {text:?}"))
}

/// A size in the unit that leaves three to six digits of it.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x19_0000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// A disk with its partitions.
pub fn json(disk: &HostDiskFacts) -> Value {
    let mut object = json_volume(&disk.volume);
    object["model"] = json!(disk.model);
    object["serial"] = json!(disk.serial);
    object["sector_bytes"] = json!(disk.sector_bytes);
    object["physical_sector_bytes"] = json!(disk.physical_sector_bytes);
    object["read_only"] = json!(disk.is_read_only);
    object["partitions"] = disk.partitions.iter().map(json_partition).collect();
    object
}

fn json_partition(partition: &PartitionFacts) -> Value {
    let mut object = json_volume(&partition.volume);
    object["start_bytes"] = json!(partition.start_bytes);
    object["type"] = json!(partition.kind);
    object["label"] = json!(partition.label);
    object["uuid"] = json!(partition.uuid);
    object
}

fn json_volume(volume: &VolumeFacts) -> Value {
    let file_system = volume.file_system.as_ref();
    let users = volume.users.iter();
    json!({
        "name": volume.name,
        "names": volume.links,
        "size_bytes": volume.size_bytes,
        "file_system": file_system.map(|it| json!({
            "type": it.kind,
            "label": it.label,
            "uuid": it.uuid,
        })),
        "users": users.map(|it| json!({"guest": it.guest, "access": it.access})).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::disks::{DiskUser, FileSystemFacts};

    #[test]
    fn a_disk_is_shown_with_its_partitions_and_users() {
        let disk = HostDiskFacts {
            volume: VolumeFacts {
                name: "vda".into(),
                links: ["disk/by-id/virtio-x1".into()].into(),
                size_bytes: 1 << 40,
                file_system: None,
                users: Vec::new(),
            },
            model: String::new(),
            serial: "x1".into(),
            sector_bytes: 512,
            physical_sector_bytes: 4096,
            is_read_only: false,
            partitions: [PartitionFacts {
                volume: VolumeFacts {
                    name: "vda1".into(),
                    links: ["disk/by-label/root".into()].into(),
                    size_bytes: 64 << 20,
                    file_system: Some(FileSystemFacts {
                        kind: "ext4",
                        label: "root".into(),
                        uuid: "12-34".into(),
                    }),
                    users: [DiskUser { guest: "debian".into(), access: "w" }].into(),
                },
                start_bytes: 1 << 20,
                kind: "0x83".into(),
                label: "a \"b\"".into(),
                uuid: "00000007-01".into(),
            }]
            .into(),
        };
        let text = "\
vda            1024 GiB  sectors of 512 bytes, physical 4096, serial \"x1\"
    disk/by-id/virtio-x1
  vda1           64 MiB  type 0x83, label \"a \\\"b\\\"\", ext4, used by debian (w)
      disk/by-label/root
";
        assert_eq!(show(core::slice::from_ref(&disk)), text);
        let partition = json!({
            "name": "vda1",
            "names": ["disk/by-label/root"],
            "size_bytes": 64 << 20,
            "file_system": {"type": "ext4", "label": "root", "uuid": "12-34"},
            "users": [{"guest": "debian", "access": "w"}],
            "start_bytes": 1 << 20,
            "type": "0x83",
            "label": "a \"b\"",
            "uuid": "00000007-01",
        });
        let whole = json!({
            "name": "vda",
            "names": ["disk/by-id/virtio-x1"],
            "size_bytes": 1_u64 << 40,
            "file_system": null,
            "users": [],
            "model": "",
            "serial": "x1",
            "sector_bytes": 512,
            "physical_sector_bytes": 4096,
            "read_only": false,
            "partitions": [partition],
        });
        assert_eq!(json(&disk), whole);
    }
}
