//! A user's text, made into its PC.

use super::domain::Domain;
use super::host_disks::HostDisks;
use super::shared::Shared;
use crate::host::features::CpuFeatures;
use crate::host::platform::{BootInputs, Module};
use crate::test_backend::{TestBackend, TestCpu};
use crate::test_platform::TestPlatform;
use alloc::string::String;
use alloc::vec::Vec;
use config::guest::Serial;
use config::{DiskKind, GuestConfig};
use control::guest::OpenPorts;
use devices::ide::Drive;
use devices::rtc::Battery;
use raw_cpuid::native_cpuid::cpuid_count;

const GIB: u64 = 1 << 30;
const COM_BASES: [u32; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];
const HPET_BASE: u64 = 0xfed0_0000;
/// An IDE channel's status register, and what floats there if it has no drive.
const IDE_STATUS: [u16; 2] = [0x1f7, 0x177];
const FLOATING: u32 = 0x7f;

/// A BIOS with the jump at its reset vector.
pub(super) static BIOS: [u8; 128 << 10] = {
    let mut image = [0; 128 << 10];
    image[(128 << 10) - 16] = 0xea;
    image
};
static IMAGE: [u8; 4096] = [0x5a; 4096];

/// A configuration that is accepted becomes a PC with the RAM, ports, clocks and drives that it
/// names, or is refused by one line that begins with the guest's name; all memory goes back.
pub fn pc_config(data: &[u8]) {
    let Ok(config) = GuestConfig::parse("fuzz.cfg", data).0 else { return };
    std::thread_local! {
        static PLATFORM: &'static TestPlatform = TestPlatform::leak();
    }
    let platform = PLATFORM.with(|platform| *platform);
    // Some sizes need RAM above 4 GiB, and some are too large.
    platform.limit_free_bytes(6 * GIB);
    let before = platform.allocated_bytes();
    if let Err(line) = build(platform, &config) {
        assert!(line.starts_with(&config.name) && !line.contains('\n'), "{line:?}");
    }
    assert_eq!(platform.allocated_bytes(), before, "the guest is gone, and its memory is not back");
}

fn build(platform: &'static TestPlatform, config: &GuestConfig) -> Result<(), String> {
    let module = |target: &str| Module {
        command_line: target.rsplit('/').next().unwrap_or_default().into(),
        data: &IMAGE,
    };
    let modules: Vec<_> = config.disks.iter().map(|disk| module(&disk.target)).collect();
    let inputs = BootInputs { modules, bios: &BIOS, ..BootInputs::default() };
    let domain = Domain::new(
        platform,
        &inputs,
        config.clone(),
        &Shared::new(platform, HostDisks::default()),
    )?;
    let ports = OpenPorts::new(&config.name);
    let pc = domain.build::<TestBackend>(
        &TestCpu::default(),
        &CpuFeatures::read(cpuid_count),
        &ports,
        Battery::new(0),
        None,
    )?;

    assert_eq!(pc.vm.space.ram_layout().bytes(), config.ram_mib() << 20);
    let regions = pc.vm.ports.regions();
    for (base, serial) in COM_BASES.into_iter().zip(config.serial) {
        let is_there = regions.iter().flatten().any(|&(start, _)| start == base);
        assert_eq!(is_there, serial != Serial::None, "the serial port at {base:#x}");
    }
    let has_hpet = pc.vm.mmio.regions().iter().flatten().any(|&(start, _)| start == HPET_BASE);
    assert_eq!(has_hpet, config.hpet);
    let drives = domain.disks().drives();
    for (place, drive) in (0u8..).zip(&drives) {
        let disk = config.disks.iter().find(|disk| {
            disk.device.ide_position().is_some_and(|(channel, unit)| channel * 2 + unit == place)
        });
        match (disk.map(|disk| disk.kind), drive) {
            (None, None)
            | (Some(DiskKind::HardDisk), Some(Drive::Disk(_)))
            | (Some(DiskKind::CdRom), Some(Drive::Cdrom(_))) => {}
            (wanted, _) => panic!("drive {place} is not {wanted:?}"),
        }
    }
    for (port, drives) in IDE_STATUS.into_iter().zip(drives.chunks(2)) {
        let is_empty = drives.iter().all(Option::is_none);
        assert_eq!(pc.vm.ports.read(port, 1) & 0xff == FLOATING, is_empty, "channel at {port:#x}");
    }
    Ok(())
}
