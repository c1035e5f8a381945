//! Configuration files in the forms that guides and tools have published: `tests/configs`.

use std::path::{Path, PathBuf};

use xtask::paths;

use tests::{Backend, Guest, Result, Spec, on_both_backends, start};

on_both_backends! { an_hvm_guest_is_installed_from_a_cd }

/// The beginning of the guest's disk.
const DISK_TEXT: &str = "the disk web-hvm";
const DISK_BYTES: usize = 1 << 20;
/// Instead of what the file asks for, which is more than the machines that run tests should need.
const MEMORY_MIB: u32 = 96;

/// The file of that name, with less memory.
fn config(name: &str, folder: &Path) -> Result<PathBuf> {
    let text = std::fs::read_to_string(paths::root().join("tests/configs").join(name))?;
    let file = folder.join(name);
    std::fs::write(&file, text.replace("memory = 4096", &format!("memory = {MEMORY_MIB}")))?;
    Ok(file)
}

/// The guest boots from the CD, in the second IDE drive, and finds its disk, the first one, and its
/// video memory.
fn an_hvm_guest_is_installed_from_a_cd(backend: Backend) -> Result<()> {
    let folder = paths::empty_build_folder(&format!("tests/configs-{backend:?}"))?;
    let (iso, disk) = (folder.join("install.iso"), folder.join("web-hvm"));
    std::fs::copy(Guest::FirstDisk.iso()?, &iso)?;
    let mut contents = DISK_TEXT.as_bytes().to_vec();
    contents.resize(DISK_BYTES, 0);
    std::fs::write(&disk, contents)?;
    let spec = Spec {
        backend,
        iso: Some(iso),
        disks: vec![disk],
        config: Some(config("hvm-from-cd.cfg", &folder)?),
        ..Spec::default()
    };
    let mut machine = start(&spec)?;
    machine
        .expect_serial("hvm-from-cd.cfg:11: vnc: has no effect yet: the machine's display shows")?;
    machine.expect_serial(" MiB, 2 vCPU, ")?;
    machine.expect_serial(&format!("FIRST DISK guest started; the disk holds: {DISK_TEXT}\n"))?;
    machine.expect_serial("MiB of video memory: 64\n")
}

#[test]
fn a_pv_guest_is_not_started_as_another() -> Result<()> {
    let folder = paths::empty_build_folder("tests/configs-pv")?;
    let spec = Spec {
        iso: Some(Guest::FirstDisk.iso()?),
        config: Some(config("pv-by-pygrub.cfg", &folder)?),
        ..Spec::default()
    };
    start(&spec)?
        .expect_serial("pv-by-pygrub.cfg:2: bootloader: with bootloader and no type=\"hvm\"")
}
