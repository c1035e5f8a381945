//! Requests through all of the driver, to a controller that is a program.

use crate::pci::Address;
use crate::testing::{Bench, FakeMachine, FakeNvme, Keeper};
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use block::{Data, Error, Op, Request, Submitted, User};
use proptest::prelude::*;

const AT: Address = Address { bus: 0, device: 6, function: 0 };
const MIB: usize = 1 << 20;
const S_NS: u64 = 1_000_000_000;
const FLUSH: u8 = 0;
const WRITE: u8 = 1;
const READ: u8 = 2;
const WRITE_ZEROES: u8 = 8;
const DATASET: u8 = 9;

fn content(seed: u8) -> Vec<u8> {
    (0..2 * MIB).map(|at| (at / 512) as u8 ^ at as u8 ^ seed).collect()
}

fn bench(block_exponent: u8, max_transfer: u8, mqes: u16) -> (Arc<FakeNvme>, Bench) {
    let contents = [(1, content(0)), (7, content(1))];
    let (device, function) = FakeNvme::new(AT, block_exponent, max_transfer, mqes, &contents);
    (device, Bench::new(vec![function]))
}

#[test]
fn each_namespace_is_a_disk() {
    let (_, bench) = bench(12, 0, 1023);
    let names: Vec<_> = bench.disks.list().iter().map(|disk| &*disk.name).collect();
    assert_eq!(names, ["nvme0n1", "nvme0n7"]);
    let disk = bench.disk();
    assert_eq!((&*disk.model, &*disk.serial), ("Some Disk", "serial 1"));
    assert_eq!(disk.ids, ["nvme-Some_Disk_serial_1", "nvme-Some_Disk_serial_1_1"]);
    assert_eq!(bench.disks.list()[1].ids, ["nvme-Some_Disk_serial_1_7"]);
    let geometry = disk.medium.geometry();
    assert_eq!((geometry.size_bytes, geometry.sector_bytes), (2 * MIB as u64, 4096));
    assert!(geometry.has_discard);
}

#[test]
fn requests_of_any_length_are_carried_out() {
    // Any number of pages in a command, two, some; small and large queues.
    for (block_exponent, max_transfer, mqes) in [(9, 0, 1023), (9, 1, 1), (12, 3, 3), (9, 7, 255)] {
        let (device, bench) = bench(block_exponent, max_transfer, mqes);
        let length = 1280 << 10;
        let (result, data) = bench.run(Op::Read, 4096, Data::zeroed(length));
        assert!(result == Ok(()) && data[..] == content(0)[4096..4096 + length]);
        let written: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        assert_eq!(bench.run(Op::WRITE, 8192, Data::Heap(written.clone())).0, Ok(()));
        let mut expected = content(0);
        expected[8192..8192 + length].copy_from_slice(&written);
        assert!(device.state.lock().contents[&1] == expected);
        assert!(device.state.lock().contents[&7] == content(1), "the neighbour's");
        assert_eq!(bench.run(Op::Read, 0, Data::zeroed(4096)).1, expected[..4096]);
    }
}

#[test]
fn a_durable_write_is_flushed_in_its_own_namespace() {
    let (device, bench) = bench(9, 0, 1023);
    let client = Arc::new(Keeper::default());
    let weak: Weak<Keeper> = Arc::downgrade(&client);
    let other = bench.disks.list()[1].medium.clone().open(weak, User { id: 2, weight: 1 });
    let flush = |tag| Request { tag, op: Op::Flush, offset_bytes: 0, data: Data::NONE };
    assert_eq!(bench.run(Op::Flush, 0, Data::NONE).0, Ok(()));
    // The flush of one says nothing of the other's cache.
    assert!(matches!(other.submit(flush(0)), Submitted::Pending));
    bench.attend();
    assert!(matches!(other.submit(flush(1)), Submitted::Done(_)));
    let durable = Op::Write { is_durable: true };
    assert_eq!(bench.run(durable, 0, Data::zeroed(512)).0, Ok(()));
    assert_eq!(device.state.lock().log, [(FLUSH, 1), (FLUSH, 7), (WRITE, 1), (FLUSH, 1)]);
}

#[test]
fn ranges_are_discarded_and_zeroed_by_the_device() {
    let (device, bench) = bench(9, 0, 1023);
    let mut expected = content(0);
    assert_eq!(bench.run(Op::WriteZeroes, 512, Data::Length(1 << 20)).0, Ok(()));
    expected[512..512 + (1 << 20)].fill(0);
    assert_eq!(bench.run(Op::Discard, 0x18_0000, Data::Length(4096)).0, Ok(()));
    expected[0x18_0000..0x18_1000].fill(0);
    let state = device.state.lock();
    assert!(state.contents[&1] == expected);
    assert_eq!(state.log, [(WRITE_ZEROES, 1), (DATASET, 1)]);
}

#[test]
fn errors_of_the_device_are_those_of_the_request() {
    let (device, bench) = bench(9, 0, 1023);
    let errors = [
        (0x01, Error::NotSupported),
        (0x20, Error::ReadOnly),
        (0x80, Error::OutOfRange),
        (0x281, Error::Io),
        (0x04, Error::Io),
    ];
    for (status, error) in errors {
        device.state.lock().status = status;
        assert_eq!(bench.run(Op::Read, 0, Data::zeroed(4096)).0, Err(error));
    }
}

#[test]
fn a_controller_that_hangs_is_reset_and_its_commands_are_given_anew() {
    let (device, bench) = bench(9, 0, 1023);
    device.state.lock().is_held = true;
    assert!(matches!(bench.submit(1, Op::WRITE, 0, Data::Heap(vec![5; 8192])), Submitted::Pending));
    bench.attend();
    let resets = device.state.lock().resets;
    bench.machine.pass(11 * S_NS);
    bench.disks.attend();
    device.state.lock().is_held = false;
    for _ in 0..20 {
        bench.attend();
    }
    assert_eq!(bench.take(), [(1, Ok(()))]);
    let state = device.state.lock();
    assert_eq!((state.resets, &state.contents[&1][..8192]), (resets + 1, &[5; 8192][..]));
    assert_eq!(state.log, [(WRITE, 1)]);
}

#[test]
fn a_controller_is_told_when_power_may_go() {
    let (device, bench) = bench(9, 0, 1023);
    assert_eq!(bench.run(Op::Read, 0, Data::zeroed(512)).0, Ok(()));
    bench.disks.shut_down();
    assert!(device.state.lock().is_shut_down);
    assert_eq!(device.state.lock().log, [(READ, 1)]);
}

#[derive(Clone, Debug)]
enum Deed {
    Run(u8),
    Complete(u16, u16),
    Pass(u16),
    Submit(u8, u8),
    Vanish,
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => any::<u8>().prop_map(Deed::Run),
        2 => (0_u16..300, 0_u16..0x7ff).prop_map(|(id, status)| Deed::Complete(id, status)),
        2 => any::<u16>().prop_map(Deed::Pass),
        8 => any::<(u8, u8)>().prop_map(|(kind, at)| Deed::Submit(kind, at)),
        1 => Just(Deed::Vanish),
    ]
}

proptest! {
    // Each case leaves the memory of a device behind.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each request is answered once, and nothing panics or goes on for ever, in spite of all that
    /// a controller may say.
    #[test]
    fn a_hostile_controller_hurts_none_but_its_users(
        mqes in any::<u16>(),
        deeds in proptest::collection::vec(deeds(), 0..60),
    ) {
        let (device, function) = FakeNvme::new(AT, 9, 9, mqes, &[(1, content(0))]);
        let machine = FakeMachine::leak(vec![function]);
        let disks = crate::Disks::find(machine);
        let client = Arc::new(Keeper::default());
        let weak: Weak<Keeper> = Arc::downgrade(&client);
        let queue = disks.list()[0].medium.clone().open(weak, User { id: 1, weight: 1 });
        device.state.lock().is_held = true;
        let mut pending = 0;
        for deed in deeds {
            match deed {
                Deed::Run(count) => device.run(&machine.memory, count.into()),
                Deed::Complete(id, status) => device.put_completion(&machine.memory, 1, id, status),
                Deed::Pass(ms) => machine.pass(u64::from(ms) * 1_000_000),
                Deed::Submit(kind, at) => {
                    let durable = Op::Write { is_durable: true };
                    let op = [Op::Read, Op::WRITE, durable, Op::Flush, Op::WriteZeroes];
                    let op = op[usize::from(kind) % op.len()];
                    let length = u64::from(kind / 2) * 512;
                    let data = match op {
                        Op::Read | Op::Write { .. } => Data::zeroed(length as usize),
                        _ => Data::Length(if op == Op::Flush { 0 } else { length }),
                    };
                    let offset_bytes = u64::from(at) * 512;
                    let request = Request { tag: pending, op, offset_bytes, data };
                    pending += u64::from(matches!(queue.submit(request), Submitted::Pending));
                }
                Deed::Vanish => device.state.lock().is_gone = true,
            }
            machine.interrupt();
            disks.attend();
        }
        for _ in 0..60 {
            machine.pass(S_NS);
            disks.attend();
        }
        let mut told: Vec<u64> = client.0.lock().iter().map(|done| done.request.tag).collect();
        told.sort_unstable();
        prop_assert_eq!(told, (0..pending).collect::<Vec<_>>());
    }

    /// A controller that describes itself in any way is driven or left out.
    #[test]
    fn any_description_is_read(bytes in proptest::collection::vec(any::<u8>(), 4096)) {
        let data: [u8; 4096] = bytes.try_into().unwrap();
        super::identify::ControllerData::new(&data);
        if let Ok(geometry) = super::identify::geometry(&data, true) {
            prop_assert!(geometry.size_bytes > 0 && geometry.sector_bytes <= 4096);
        }
    }
}
