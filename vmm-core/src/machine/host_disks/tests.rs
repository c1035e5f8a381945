//! Disks with partitions by all their names, and who may have them.

use super::*;
use crate::host::platform::{BootInputs, Module};
use crate::machine::domain::Domain;
use crate::machine::shared::Shared;
use crate::test_platform::TestPlatform;
use alloc::vec;
use block::HeapDisk;
use config::GuestConfig;
use control::disks::DiskUser;
use devices::ide::Drive;

const BLOCK: usize = 512;

/// A disk of 256 blocks whose MBR has these partitions, by first block and length, with an ext2 of
/// this label in each.
fn disk(name: &str, label: &str, partitions: &[(u8, u8)]) -> HostDisk {
    let mut content = vec![0; 256 * BLOCK];
    content[510..512].copy_from_slice(&[0x55, 0xaa]);
    content[0x1b8] = 7;
    for (index, &(first, count)) in partitions.iter().enumerate() {
        let entry = 0x1be + 16 * index;
        (content[entry + 4], content[entry + 8], content[entry + 12]) = (0x83, first, count);
        let superblock = usize::from(first) * BLOCK + 1024;
        content[superblock + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
        content[superblock + 0x78..][..label.len()].copy_from_slice(label.as_bytes());
    }
    HostDisk {
        name: name.into(),
        ids: vec![format!("ata-{name}")],
        model: "MODEL".into(),
        serial: "SERIAL".into(),
        medium: Arc::new(HeapDisk::new(content, false)),
    }
}

fn read(disks: &[HostDisk]) -> HostDisks {
    HostDisks::read(TestPlatform::leak(), disks)
}

fn size(disks: &HostDisks, name: &str) -> Result<Option<u64>, String> {
    let given = disks.give(name, Access::Read, "g")?;
    Ok(given.map(|given| given.medium.geometry().size_bytes / BLOCK as u64))
}

#[test]
fn partitions_have_the_names_that_linux_gives_them() {
    let disks =
        read(&[disk("vda", "root", &[(8, 16), (32, 64)]), disk("nvme0n1", "a b", &[(9, 3)])]);
    assert_eq!(disks.names(), ["vda", "vda1", "vda2", "nvme0n1", "nvme0n1p1"]);
    for (name, expected) in [
        ("vda", Some(256)),
        ("vda2", Some(64)),
        ("vda3", None),
        ("nvme0n1p1", Some(3)),
        ("disk/by-id/ata-vda", Some(256)),
        ("disk/by-id/ata-vda-part1", Some(16)),
        ("disk/by-partuuid/00000007-02", Some(64)),
        ("disk/by-label/a\\x20b", Some(3)),
        ("disk/by-label/a b", None),
        ("disk/by-label/", None),
    ] {
        assert_eq!(size(&disks, name), Ok(expected), "{name}");
    }
}

#[test]
fn a_name_that_two_disks_have_is_refused() {
    let disks = read(&[disk("vda", "root", &[(8, 16)]), disk("vdb", "root", &[(8, 16)])]);
    let name = "disk/by-label/root";
    assert_eq!(size(&disks, name), Err(format!("{name} is vda1 as well as vdb1")));
}

#[test]
fn what_a_guest_writes_to_no_other_has() {
    let disks = read(&[disk("vda", "root", &[(8, 16), (32, 64)])]);
    let give = |name: &str, access, guest: &str| {
        disks.give(name, access, guest).map(|given| given.expect("there is such a disk"))
    };
    let refused = |name: &str, access| give(name, access, "other").err();
    let first = give("vda1", Access::Write, "one").expect("it is free");
    let held = |how: &str, name: &str, only: &str| {
        Some(format!(
            "Device /dev/{name} is mounted {how}in a guest domain, and so cannot be mounted {only}now (one \
             has it)"
        ))
    };
    assert_eq!(refused("vda1", Access::Write), held("", "vda1", ""));
    assert_eq!(refused("vda1", Access::Read), held("read-write ", "vda1", "read-only "));
    // The whole disk has the partition in it.
    assert_eq!(refused("vda", Access::Write), held("", "vda", ""));
    assert_eq!(refused("vda1", Access::Shared), None);
    assert_eq!(refused("vda2", Access::Write), None);
    let user = |guest: &str, access| DiskUser { guest: guest.into(), access };
    let users = |disks: &HostDisks| disks.facts()[0].partitions[0].volume.users.clone();
    assert_eq!(users(&disks), [user("one", "w")]);
    drop(first);
    assert_eq!(users(&disks), []);
    let readers = [give("vda1", Access::Read, "one"), give("vda", Access::Read, "two")];
    assert!(readers.iter().all(Result::is_ok));
    assert_eq!(users(&disks), [user("one", "r")]);
    assert_eq!(refused("vda1", Access::Write), held("", "vda1", ""));
    assert_eq!(
        refused("vda2", Access::Write).map(|text| text.contains("(two has it)")),
        Some(true)
    );
}

#[test]
fn what_is_given_to_read_cannot_be_written() {
    let disks = read(&[disk("vda", "root", &[(8, 16)])]);
    for (access, is_read_only) in [(Access::Read, true), (Access::Shared, false)] {
        let given = disks.give("vda1", access, "g").unwrap().unwrap();
        assert_eq!(given.medium.geometry().is_read_only, is_read_only);
    }
}

#[test]
fn a_drive_without_a_medium_is_there() {
    let medium = Arc::new(HeapDisk::new(Vec::new(), true));
    let disks = read(&[HostDisk { medium, ..disk("sr0", "", &[]) }]);
    assert_eq!((disks.names(), size(&disks, "sr0")), (vec!["sr0"], Ok(Some(0))));
}

/// The size of a guest's first disk, in blocks.
fn first_size(domain: &Domain<'_>) -> Option<u64> {
    match &domain.disks().drives()[0] {
        Some(Drive::Disk(medium) | Drive::Cdrom(Some(medium))) => {
            Some(medium.geometry().size_bytes / BLOCK as u64)
        }
        Some(Drive::Cdrom(None)) | None => None,
    }
}

#[test]
fn guests_have_disks_of_the_machine_before_modules_of_that_name() {
    let platform = TestPlatform::leak();
    let shared = Shared::new(platform, read(&[disk("vda", "root", &[(8, 16), (32, 64)])]));
    let module = |name: &str| Module { command_line: name.into(), data: &[7; 5 * BLOCK] };
    let inputs =
        BootInputs { modules: ["vda1", "vdb", "root"].map(module).into(), ..BootInputs::default() };
    let guest = |name: &str, disk: &str| {
        let text = format!("type='hvm'; name='{name}'; memory=8; disk=['{disk}']");
        let config = GuestConfig::parse("g.cfg", text.as_bytes()).0.unwrap();
        Domain::new(platform, &inputs, config, &shared)
    };
    let one = guest("one", "phy:vda1,xvda,w").ok();
    assert_eq!(one.as_ref().and_then(first_size), Some(16));
    assert_eq!(guest("two", "phy:/dev/vdb,hda,w").ok().as_ref().and_then(first_size), Some(5));
    let refused = "two: disk \"/dev/vda\": Device /dev/vda is mounted in a guest domain, and so \
                   cannot be mounted now (one has it)";
    assert_eq!(guest("two", "phy:/dev/vda,hda,w").err().as_deref(), Some(refused));
    assert_eq!(guest("two", "phy:/dev/vda,hda,w!").ok().as_ref().and_then(first_size), Some(256));
    let unknown = "two: disk \"/dev/vdc\": there is no such disk (there are [\"vda\", \"vda1\", \
                   \"vda2\"]), and there is no boot module called \"vdc\" (there are [\"vda1\", \
                   \"vdb\", \"root\"])";
    assert_eq!(guest("two", "phy:/dev/vdc,hda,w").err().as_deref(), Some(unknown));
    drop(one);
    assert_eq!(guest("two", "phy:/dev/vda,hda,w").ok().as_ref().and_then(first_size), Some(256));
}

#[test]
fn a_disc_that_is_taken_out_is_free() {
    let platform = TestPlatform::leak();
    let shared = Shared::new(platform, read(&[disk("vda", "root", &[])]));
    let inputs = BootInputs::default();
    let text = "type='hvm'; name='g'; memory=8; disk=[',,hda,cdrom']";
    let config = GuestConfig::parse("g.cfg", text.as_bytes()).0.unwrap();
    let mut domain = Domain::new(platform, &inputs, config, &shared).unwrap();
    let users = || shared.host_disks.facts()[0].volume.users.clone();
    let mut change = |target: &str| domain.change_disc("hda", target, |_, _| Ok(()));
    assert_eq!((change("/dev/vda"), users().len()), (Ok(()), 1));
    assert_eq!((change(""), users().len()), (Ok(()), 0));
}
