//! Guests that are too large for the machine: a line that says so, and all memory is back.

use super::fuzzing::BIOS;
use super::start;
use crate::fuzzing::{Hardware, Machine};
use crate::host::owner::Owner;
use crate::host::platform::{BootInputs, Module};
use crate::test_backend::TestBackend;
use crate::test_platform::TestPlatform;
use crate::vm::memory::FrameMemory;
use alloc::string::{String, ToString};
use alloc::vec;
use config::CommandLine;

const MIB: u64 = 1 << 20;

fn module(name: &str, data: &'static [u8]) -> Module {
    Module { command_line: name.to_string(), data }
}

fn refusal(platform: &'static TestPlatform, options: &str, modules: &[Module]) -> String {
    let inputs = BootInputs { modules: modules.to_vec(), bios: &BIOS, ..BootInputs::default() };
    let (options, _) = CommandLine::parse(options);
    let before = platform.allocated_bytes();
    let reason = start::<TestBackend>(platform, &options, &inputs).unwrap_err();
    assert_eq!(platform.allocated_bytes(), before);
    assert!(!reason.contains('\n'));
    reason
}

#[test]
fn more_ram_than_there_is() {
    let platform = TestPlatform::leak();
    platform.limit_free_bytes(300 * MIB);
    for (text, expected) in [
        ("memory=16777216", "g: memory=16777216: only 266 MiB are free: give the guest less"),
        ("memory=267", "g: memory=267: only 266 MiB are free: give the guest less"),
        ("memory=267; maxmem=513", "g: memory=267: only 265 MiB are free: give the guest less"),
        (
            "memory=269; xen_platform_pci=0",
            "g: memory=269: only 268 MiB are free: give the guest less",
        ),
    ] {
        let text = alloc::format!("name='g'\n{text}\n").leak();
        assert_eq!(refusal(platform, "", &[module("g.cfg", text.as_bytes())]), expected);
    }
    let mut image = vec![0; 512];
    image[510..].copy_from_slice(&[0x55, 0xaa]);
    let image = module("a.img", image.leak());
    assert_eq!(
        refusal(platform, "guest_memory=16777216", core::slice::from_ref(&image)),
        "guest_memory=16777216: only 266 MiB are free for guests"
    );
    platform.limit_free_bytes(0);
    assert_eq!(refusal(platform, "", &[image]), "guest_memory=32: only 0 MiB are free for guests");
}

#[test]
fn a_disk_larger_than_what_is_free() {
    let platform = TestPlatform::leak();
    platform.limit_free_bytes(4 * MIB);
    let config = module("g.cfg", b"name='g'; memory=2; disk=['d.img,raw,hda,rw']");
    let disk = module("d.img", vec![0; 5 << 20].leak());
    assert_eq!(
        refusal(platform, "", &[config.clone(), disk]),
        "g: disk \"d.img\": no memory for a copy"
    );
    let empty = module("d.img", &[]);
    assert_eq!(
        refusal(platform, "", &[config, empty]),
        "g: disk \"d.img\": the boot module is empty"
    );
}

#[test]
fn the_platform_is_asked_before_anything_is_allocated() {
    let platform = TestPlatform::leak();
    platform.limit_free_bytes(4 * MIB);
    assert!(FrameMemory::new(platform, Owner::Hypervisor, 1 << 60).is_none());
    assert!(FrameMemory::new(platform, Owner::Hypervisor, 4 << 20).is_some());
    assert_eq!(platform.allocated_bytes(), 0);
}

/// Each frame that a guest's start takes is refused once.
#[test]
fn whatever_is_refused_all_goes_back() {
    let platform = TestPlatform::leak();
    let mut refusals = 0;
    loop {
        platform.limit_frames(Some(refusals));
        if Machine::with(platform, Hardware { ram_mib: 8, ..Hardware::default() }).is_some() {
            break;
        }
        assert_eq!(platform.allocated_bytes(), 0, "after {refusals} frames");
        refusals += 1;
    }
    assert!(refusals > 15, "a PC on {refusals} frames");
    assert_eq!(platform.allocated_bytes(), 0);
}
