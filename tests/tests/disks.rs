//! Guests on disks of the machine's own: through the driver, partitions, PV and IDE, to the file
//! that stands for the disk, and there by Debian's tools.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::{Guest, LINUX_PROMPT, Machine, Result, Spec, focus, linux, shell, start};
use xtask::emulator::host_disk::{Bus, HostDisk};
use xtask::{paths, setup};

const MIB: u64 = 1 << 20;
/// The partitions of the disk, in MiB: for bytes, for ext4, for FAT.
const BYTES: (u64, u64) = (1, 16);
const EXT4: (u64, u64) = (17, 40);
const FAT: (u64, u64) = (57, 6);
const DISK_MIB: u64 = 64;

/// Loads the drivers of disks.
const LOAD: &str = "dmesg -n 1; load-modules 2>/dev/null; echo loaded";
/// The hypervisor says so when a guest is started again by its firmware.
const RESTARTED: &str = "reset: Restart";

/// Runs one of Debian's tools, and returns what it says.
fn tool(program: &str, arguments: &[&str], file: &Path) -> Result<String> {
    setup::require(&[setup::TESTS])?;
    let output = Command::new(program).args(arguments).arg(file).output().context("no tool")?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.success(), "{program}: {}", said.concat());
    Ok(said.concat())
}

/// A disk with a GPT of three partitions, in a folder of the test's own.
fn disk(folder: &Path) -> Result<PathBuf> {
    let image = folder.join("disk.img");
    let disk = File::create(&image)?;
    disk.set_len(DISK_MIB * MIB)?;
    let place = |number: u32, (start, length): (u64, u64)| {
        format!("{number}:{}:+{}", start * MIB / 512, length * MIB / 512)
    };
    let (bytes, ext4, fat) = (place(1, BYTES), place(2, EXT4), place(3, FAT));
    let names = ["-c", "1:some bytes", "-c", "2:files"];
    tool(
        "/usr/sbin/sgdisk",
        &[&["-n", &bytes, "-n", &ext4, "-n", &fat][..], &names].concat(),
        &image,
    )?;
    for (program, arguments, (start, length)) in [
        ("/usr/sbin/mkfs.ext4", &["-q", "-L", "data"][..], EXT4),
        ("/usr/sbin/mkfs.vfat", &["-n", "BOOT", "-i", "1234abcd"], FAT),
    ] {
        let part = folder.join("part.img");
        File::create(&part)?.set_len(length * MIB)?;
        tool(program, arguments, &part)?;
        disk.write_all_at(&std::fs::read(&part)?, start * MIB)?;
    }
    Ok(image)
}

/// The content of a partition.
fn part(image: &Path, (start, length): (u64, u64)) -> Result<Vec<u8>> {
    let mut content = vec![0; (length * MIB) as usize];
    File::open(image)?.read_exact_at(&mut content, start * MIB)?;
    Ok(content)
}

/// A guest's configuration, in the folder.
fn config(folder: &Path, name: &str, more: &str) -> Result<PathBuf> {
    let file = folder.join(format!("{name}.cfg"));
    let iso = format!("{}.iso", Guest::LinuxAmd64Storage.name());
    let text = format!("type='hvm'\nname='{name}'\nmemory=128\nboot='d'\n{more}\n");
    std::fs::write(&file, text.replace("CDROM", &format!("{iso},raw,hdc,ro,cdrom")))?;
    Ok(file)
}

/// A machine with this disk, and guests by their configurations.
fn spec(image: &Path, bus: Bus, mut configs: Vec<PathBuf>) -> Result<Spec> {
    let (iso, first) = (Guest::LinuxAmd64Storage.iso()?, configs.remove(0));
    Ok(Spec {
        iso: Some(iso),
        config: Some(first),
        disks: configs,
        host_disks: vec![HostDisk { file: image.into(), bus }],
        memory_mib: 256,
        ..Spec::default()
    })
}

fn expect(machine: &mut Machine, command: &str, expected: &str) -> Result<()> {
    let said = shell(machine, command)?;
    ensure!(said == expected, "{command}: {said:?}\n{}", machine.report());
    Ok(())
}

/// All that a guest wrote and flushed is on the disk: after its restart, and after the machine has
/// lost its power without a warning.
#[test]
fn linux_keeps_files_and_bytes_on_partitions_through_a_loss_of_power() -> Result<()> {
    let folder = paths::empty_build_folder("tests/disks-power")?;
    let image = disk(&folder)?;
    let fat_before = part(&image, FAT)?;
    let disks = "disk=['CDROM', 'phy:/dev/disk/by-label/data,xvda,w', 'phy:vda1,xvdb,w']";
    let mut machine = linux(&spec(&image, Bus::Virtio, vec![config(&folder, "one", disks)?])?)?;
    names_are_those_of_linux(&machine.call("host.disks", json!({}))?)?;
    let load = format!("{LOAD}; until [ -b /dev/xvda -a -b /dev/xvdb ]; do sleep 0.1; done");
    let mount = "mount -t ext4 /dev/xvda /mnt && echo mounted";
    expect(&mut machine, &load, "loaded")?;
    expect(&mut machine, "wc -c < /dev/xvdb", &(BYTES.1 * MIB).to_string())?;
    expect(&mut machine, mount, "mounted")?;
    expect(&mut machine, "seq 1 200000 > /mnt/numbers; sync; echo written", "written")?;
    machine.serial().write(b"reboot -f\n")?;
    machine.expect_serial(RESTARTED)?;
    machine.expect_serial(LINUX_PROMPT)?;
    expect(&mut machine, &load, "loaded")?;
    expect(&mut machine, mount, "mounted")?;
    let same = "seq 1 200000 > /tmp/same; cmp /mnt/numbers /tmp/same && echo same";
    expect(&mut machine, same, "same")?;
    // Each is answered when it is on the disk, and the machine is gone then.
    let last = "seq 1 50000 | dd of=/dev/xvdb bs=64k conv=fsync 2>/dev/null; \
                echo last words > /mnt/last; sync; echo written";
    expect(&mut machine, last, "written")?;
    drop(machine);

    let numbers: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
    ensure!(part(&image, BYTES)?.starts_with(numbers.as_bytes()));
    ensure!(part(&image, FAT)? == fat_before, "a partition that no guest has was written to");
    let table = tool("/usr/sbin/sgdisk", &["-v"], &image)?;
    ensure!(table.contains("No problems found"), "{table}");
    let files = folder.join("part.img");
    std::fs::write(&files, part(&image, EXT4)?)?;
    // The journal is replayed; there is nothing else to mend.
    let mended = Command::new("/usr/sbin/e2fsck").args(["-f", "-p"]).arg(&files).output()?;
    ensure!(matches!(mended.status.code(), Some(0 | 1)), "{mended:?}");
    tool("/usr/sbin/e2fsck", &["-f", "-n"], &files)?;
    let last = tool("/usr/sbin/debugfs", &["-R", "cat /last"], &files)?;
    ensure!(last.contains("last words"), "{last}");
    Ok(())
}

/// The partitions have the names that Linux and udev give them, by tables and labels that Debian's
/// tools have made.
fn names_are_those_of_linux(disks: &Value) -> Result<()> {
    let disk = &disks[0];
    let whole = (&disk["name"], &disk["size_bytes"], &disk["sector_bytes"], &disk["serial"]);
    ensure!(
        whole == (&json!("vda"), &json!(DISK_MIB * MIB), &json!(512), &json!("disk0")),
        "{disk}"
    );
    let partitions = disk["partitions"].as_array().context("no partitions")?;
    let has = |index: usize, name: &str| {
        let names = partitions[index]["names"].as_array();
        names.is_some_and(|names| names.contains(&json!(name)))
    };
    ensure!(
        partitions.len() == 3
            && has(0, "disk/by-partlabel/some\\x20bytes")
            && has(0, "disk/by-id/virtio-disk0-part1")
            && has(1, "disk/by-label/data")
            && has(2, "disk/by-label/BOOT")
            && has(2, "disk/by-uuid/1234-ABCD"),
        "{disk}"
    );
    let users = [&partitions[0]["users"], &partitions[1]["users"], &partitions[2]["users"]];
    let one = json!([{ "guest": "one", "access": "w" }]);
    ensure!(users == [&one, &one, &json!([])], "{disk}");
    ensure!(partitions[1]["file_system"]["type"] == "ext4", "{disk}");
    Ok(())
}

/// Two guests write to two partitions of one disk at once, one by PV and one by IDE; a third that
/// wants the whole disk is not started.
fn guests_share_a_disk_by_partitions(bus: Bus, disk_name: &str, first: &str) -> Result<()> {
    let folder = paths::empty_build_folder(&format!("tests/disks-shared-{disk_name}"))?;
    let image = disk(&folder)?;
    let configs = [
        ("one", format!("disk=['CDROM', 'phy:/dev/{first}1,xvda,w']")),
        ("two", format!("disk=['CDROM', 'phy:/dev/{first}2,hda,w']\nxen_platform_pci=0")),
        ("three", format!("disk=['CDROM', 'phy:/dev/{disk_name},hda,w']")),
    ];
    let configs = configs.iter().map(|(name, more)| config(&folder, name, more));
    let mut machine = start(&Spec {
        memory_mib: 512,
        ..spec(&image, bus, configs.collect::<Result<Vec<_>>>()?)?
    })?;
    machine.expect_serial(&format!(
        "three: disk \"/dev/{disk_name}\": Device /dev/{disk_name} is mounted in a guest domain, and \
         so cannot be mounted now (one has it)"
    ))?;
    // The console has a first guest by itself, and after that as it is asked.
    machine.expect_serial("*** Serial input to ")?;
    let guests = [("one", "/dev/xvda", 3), ("two", "/dev/sda", 5)];
    for (name, device, step) in guests {
        focus(&mut machine, name)?;
        machine.serial().write(b"\n")?;
        machine.expect_serial(LINUX_PROMPT)?;
        let wait = format!("{LOAD}; until [ -b {device} ]; do sleep 0.1; done");
        expect(&mut machine, &wait, "loaded")?;
        let write = format!(
            "(seq 1 {step} 300000 | dd of={device} bs=64k conv=fsync 2>/dev/null; \
             touch /tmp/written) & echo begun"
        );
        ensure!(shell(&mut machine, &write)?.ends_with("begun"));
    }
    for (name, device, step) in guests {
        focus(&mut machine, name)?;
        machine.serial().write(b"\n")?;
        machine.expect_serial(LINUX_PROMPT)?;
        let compare = format!(
            "until [ -e /tmp/written ]; do sleep 0.1; done; echo 3 > /proc/sys/vm/drop_caches; \
             seq 1 {step} 300000 > /tmp/same; head -c $(wc -c < /tmp/same) {device} | \
             cmp - /tmp/same && echo same"
        );
        ensure!(shell(&mut machine, &compare)?.ends_with("same"), "{}", machine.report());
    }
    drop(machine);
    for ((_, _, step), place) in guests.into_iter().zip([BYTES, EXT4]) {
        let numbers: String =
            (1..=300_000).step_by(step).map(|number| format!("{number}\n")).collect();
        ensure!(part(&image, place)?.starts_with(numbers.as_bytes()));
    }
    let table = tool("/usr/sbin/sgdisk", &["-v"], &image)?;
    ensure!(table.contains("No problems found"), "{table}");
    Ok(())
}

#[test]
fn guests_share_an_nvme_disk_and_none_gets_anothers_partition() -> Result<()> {
    guests_share_a_disk_by_partitions(Bus::Nvme, "nvme0n1", "nvme0n1p")
}

#[test]
fn guests_share_a_sata_disk_and_none_gets_anothers_partition() -> Result<()> {
    guests_share_a_disk_by_partitions(Bus::Ahci, "sda", "sda")
}

/// A bad sector of a disk is an error of the guest's there and nowhere else, whatever the disk hangs
/// on.
#[test]
fn a_bad_sector_is_an_error_of_the_guests() -> Result<()> {
    let folder = paths::empty_build_folder("tests/disks-errors")?;
    let rules = folder.join("errors.conf");
    let rule = "[inject-error]\nevent = \"read_aio\"\nsector = \"4096\"\nerrno = \"5\"\n";
    std::fs::write(&rules, rule)?;
    let mut host_disks = Vec::new();
    for bus in [Bus::Virtio, Bus::Nvme, Bus::Ahci] {
        let image = folder.join(format!("{bus:?}.img"));
        std::fs::write(&image, vec![0x5a; 4 << 20])?;
        let file = format!("blkdebug:{}:{}", rules.display(), image.display());
        host_disks.push(HostDisk { file: file.into(), bus });
    }
    let disks = "disk=['CDROM', 'phy:vda,xvda,r', 'phy:nvme0n1,xvdb,r', 'phy:sda,xvdd,r']";
    let configs = vec![config(&folder, "one", disks)?];
    let mut machine = linux(&Spec { host_disks, ..spec(&folder, Bus::Virtio, configs)? })?;
    let wait = "until [ -b /dev/xvda -a -b /dev/xvdb -a -b /dev/xvdd ]; do sleep 0.1; done";
    expect(&mut machine, &format!("{LOAD}; {wait}"), "loaded")?;
    // Blocks of 4 KiB: that of the bad sector, and one before it. The log's lines come in between.
    let read = "sizes=$(for disk in xvda xvdb xvdd; do for block in 512 500; do \
                dd if=/dev/$disk bs=4096 skip=$block count=1 2>/dev/null | wc -c; done; done); \
                echo $sizes";
    let said = shell(&mut machine, read)?;
    ensure!(said.ends_with("0 4096 0 4096 0 4096"), "{said}");
    for name in ["xvda", "xvdb", "xvdd"] {
        let line = format!("one: disk {name}: Read of 4096 bytes at 2097152: the medium failed");
        ensure!(machine.serial().text().contains(&line), "{}", machine.report());
    }
    Ok(())
}
