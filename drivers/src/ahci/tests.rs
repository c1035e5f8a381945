//! Requests through all of the driver, to a controller that is a program.

use super::identify::{Identity, LENGTH_BYTES};
use crate::pci::Address;
use crate::testing::{Bench, FakeAhci};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use block::{Data, Error, Op, Submitted};
use proptest::prelude::*;

const AT: Address = Address { bus: 0, device: 31, function: 0 };
const MIB: usize = 1 << 20;
const S_NS: u64 = 1_000_000_000;
const READ: u8 = 0x25;
const WRITE: u8 = 0x35;
const FLUSH: u8 = 0xea;
const IDENTIFY: u8 = 0xec;

fn content(seed: u8) -> Vec<u8> {
    (0..2 * MIB).map(|at| (at / 512) as u8 ^ at as u8 ^ seed).collect()
}

fn bench() -> (Arc<FakeAhci>, Bench) {
    let (device, function) = FakeAhci::new(AT, &[(1, content(0)), (4, content(1))]);
    let bench = Bench::new(vec![function]);
    assert_eq!(core::mem::take(&mut device.0.lock().log), [(1, IDENTIFY), (4, IDENTIFY)]);
    (device, bench)
}

#[test]
fn each_port_with_a_disk_is_one() {
    let (_, bench) = bench();
    let names: Vec<_> = bench.disks.list().iter().map(|disk| &*disk.name).collect();
    assert_eq!(names, ["sda", "sdb"]);
    let disk = bench.disk();
    assert_eq!((&*disk.model, &*disk.serial), ("Some D", "abdc"));
    assert_eq!(disk.ids, ["ata-Some_D_abdc"]);
    assert_eq!(disk.medium.geometry().size_bytes, 2 * MIB as u64);
}

#[test]
fn a_controller_without_disks_is_left_as_it_is() {
    let (device, function) = FakeAhci::new(AT, &[]);
    let machine = crate::testing::FakeMachine::leak(vec![function]);
    assert!(crate::Disks::find(machine).list().is_empty());
    let state = device.0.lock();
    assert!(state.log.is_empty() && state.resets == 0);
}

#[test]
fn requests_of_any_length_are_carried_out() {
    let (device, bench) = bench();
    let length = 1280 << 10;
    let (result, data) = bench.run(Op::Read, 512, Data::zeroed(length));
    assert!(result == Ok(()) && data[..] == content(0)[512..512 + length]);
    let written: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
    let durable = Op::Write { is_durable: true };
    assert_eq!(bench.run(durable, 1024, Data::Heap(written.clone())).0, Ok(()));
    let mut expected = content(0);
    expected[1024..1024 + length].copy_from_slice(&written);
    let state = device.0.lock();
    assert!(state.contents[1].as_ref() == Some(&expected));
    assert!(state.contents[4] == Some(content(1)), "the neighbour's");
    let log: Vec<u8> = state.log.iter().map(|&(_, opcode)| opcode).collect();
    assert_eq!(log, [&[READ; 10][..], &[WRITE; 10], &[FLUSH]].concat());
}

#[test]
fn a_command_that_fails_fails_alone() {
    let (device, bench) = bench();
    device.0.lock().bad_sector = Some(8);
    device.0.lock().is_held = true;
    for tag in 0..4 {
        let read = bench.submit(tag, Op::Read, tag * 4096, Data::zeroed(4096));
        assert!(matches!(read, Submitted::Pending));
    }
    for _ in 0..4 {
        device.run(&bench.machine.memory, 2);
        bench.attend();
    }
    let expected = [(0, Ok(())), (1, Err(Error::Io)), (2, Ok(())), (3, Ok(()))];
    // Sector 8 is that of the second.
    assert_eq!(bench.take(), expected);
}

#[test]
fn a_controller_that_hangs_is_reset_and_its_commands_are_given_anew() {
    let (device, bench) = bench();
    device.0.lock().is_held = true;
    let write = bench.submit(1, Op::WRITE, 0, Data::Heap(vec![5; 8192]));
    assert!(matches!(write, Submitted::Pending));
    bench.attend();
    bench.machine.pass(11 * S_NS);
    bench.disks.attend();
    device.0.lock().is_held = false;
    for _ in 0..5 {
        bench.attend();
    }
    assert_eq!(bench.take(), [(1, Ok(()))]);
    let state = device.0.lock();
    assert_eq!((state.resets, &state.log[..]), (1, &[(1, WRITE)][..]));
}

#[test]
fn a_disk_that_is_unplugged_is_gone() {
    let (device, bench) = bench();
    device.0.lock().is_held = true;
    assert!(matches!(bench.submit(1, Op::Read, 0, Data::zeroed(512)), Submitted::Pending));
    bench.attend();
    device.0.lock().is_unplugged = true;
    bench.machine.pass(2 * S_NS);
    bench.disks.attend();
    assert_eq!(bench.take(), [(1, Err(Error::Gone))]);
}

/// A disk's description.
fn identity(sectors: u64) -> [u8; LENGTH_BYTES] {
    let mut data = [0; LENGTH_BYTES];
    (data[99], data[167]) = (1, 0x44);
    data[200..208].copy_from_slice(&sectors.to_le_bytes());
    data
}

#[test]
fn disks_that_are_not_driven_are_refused() {
    let disk = Identity::new(&identity(1 << 20)).unwrap();
    assert_eq!((disk.geometry.size_bytes, disk.geometry.sector_bytes), (512 << 20, 512));
    assert!(disk.has_cache, "it may have one");
    let mut grouped = identity(8);
    (grouped[212], grouped[213]) = (3, 0x60);
    assert_eq!(Identity::new(&grouped).unwrap().geometry.physical_sector_bytes, 4096);
    let mut long = identity(8);
    (long[213], long[235]) = (0x50, 8);
    assert_eq!(Identity::new(&long).unwrap().geometry.sector_bytes, 4096);
    let mut old = identity(8);
    old[167] = 0x40;
    assert!(Identity::new(&old).is_err(), "addresses of 28 bits");
    assert!(Identity::new(&identity(0)).is_err());
    assert!(Identity::new(&identity(u64::MAX)).is_err());
}

proptest! {
    /// A disk that describes itself in any way is driven or left out.
    #[test]
    fn any_description_is_read(bytes in proptest::collection::vec(any::<u8>(), LENGTH_BYTES)) {
        let data: [u8; LENGTH_BYTES] = bytes.try_into().unwrap();
        if let Ok(disk) = Identity::new(&data) {
            prop_assert!(disk.geometry.sector_bytes <= 4096);
        }
    }
}
