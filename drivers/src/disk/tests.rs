//! Requests through all of the driver, to a virtio-blk device that is a program.

use super::*;
use crate::pci::Address;
use crate::testing::{Bench, FakeBlock, Options};
use alloc::vec;
use alloc::vec::Vec;
use block::Data;
use proptest::prelude::*;

const AT: Address = Address { bus: 0, device: 5, function: 0 };
const MIB: usize = 1 << 20;
const S_NS: u64 = 1_000_000_000;
/// SEG_MAX, BLK_SIZE, FLUSH, DISCARD, WRITE_ZEROES, INDIRECT.
const ALL: u64 = 1 << 2 | 1 << 6 | 1 << 9 | 1 << 13 | 1 << 14 | 1 << 28;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const DURABLE: Op = Op::Write { is_durable: true };

fn content() -> Vec<u8> {
    (0..2 * MIB).map(|at| (at / 512) as u8 ^ at as u8).collect()
}

fn options(features: u64) -> Options {
    Options::new(features, 2 * MIB as u64 / 512, 126, 512)
}

fn bench_of(options: Options) -> (Arc<FakeBlock>, Bench) {
    let (device, function) = FakeBlock::new(AT, options, content());
    let bench = Bench::new(vec![function]);
    device.state.lock().log.clear();
    (device, bench)
}

fn bench(features: u64) -> (Arc<FakeBlock>, Bench) {
    bench_of(options(features))
}

#[test]
fn a_disk_is_found_with_its_names_and_its_geometry() {
    let (device, function) = FakeBlock::new(AT, options(ALL), content());
    let bench = Bench::new(vec![function]);
    assert_eq!(device.state.lock().log, [GET_ID]);
    let disk = bench.disk();
    assert_eq!(
        (&*disk.name, &*disk.serial, &disk.ids[..]),
        ("vda", "abc", &["virtio-abc".into()][..])
    );
    let geometry = disk.medium.geometry();
    assert_eq!((geometry.size_bytes, geometry.sector_bytes), (2 * MIB as u64, 512));
    assert!(geometry.has_discard && !geometry.is_read_only);
}

#[test]
fn requests_of_any_length_are_carried_out_on_queues_of_any_kind() {
    let small = Options { queue_size: 16, has_msi_x: false, ..options(1 << 2 | 1 << 9) };
    for options in [options(ALL), options(0), small, Options { queue_size: 4, ..options(ALL) }] {
        let (device, bench) = bench_of(options.clone());
        let length = 1280 << 10;
        let (result, data) = bench.run(Op::Read, 512, Data::zeroed(length));
        assert_eq!(
            (result, data[..] == content()[512..512 + length]),
            (Ok(()), true),
            "{options:?}"
        );
        let written: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        assert_eq!(bench.run(Op::WRITE, 1024, Data::Heap(written.clone())).0, Ok(()));
        let mut expected = content();
        expected[1024..1024 + length].copy_from_slice(&written);
        assert!(device.state.lock().content == expected, "{options:?}");
        assert_eq!(bench.run(Op::Read, 0, Data::zeroed(512)).1, expected[..512]);
    }
}

#[test]
fn a_durable_write_is_flushed_before_it_is_answered() {
    let (device, bench) = bench(ALL);
    assert_eq!(bench.run(DURABLE, 0, Data::zeroed(256 << 10)).0, Ok(()));
    assert_eq!(device.state.lock().log, [OUT, OUT, FLUSH]);
    // The cache is empty: there is nothing to flush.
    assert_eq!(bench.run(Op::Flush, 0, Data::NONE).0, Ok(()));
    assert_eq!(device.state.lock().log.len(), 3);
    assert_eq!(bench.run(Op::WRITE, 0, Data::zeroed(512)).0, Ok(()));
    assert_eq!(bench.run(Op::Flush, 0, Data::NONE).0, Ok(()));
    assert_eq!(device.state.lock().log[3..], [OUT, FLUSH]);
}

#[test]
fn without_a_cache_nothing_is_flushed() {
    let (device, bench) = bench(ALL & !(1 << 9));
    assert_eq!(bench.run(DURABLE, 0, Data::zeroed(512)).0, Ok(()));
    assert_eq!(bench.run(Op::Flush, 0, Data::NONE).0, Ok(()));
    assert_eq!(device.state.lock().log, [OUT]);
}

#[test]
fn a_write_during_a_flush_leaves_the_cache_dirty() {
    let (device, bench) = bench(ALL);
    device.state.lock().is_held = true;
    assert!(matches!(bench.submit(1, Op::Flush, 0, Data::NONE), Submitted::Pending));
    assert!(matches!(bench.submit(2, Op::WRITE, 0, Data::zeroed(512)), Submitted::Pending));
    device.run(&bench.machine.memory, 2);
    bench.attend();
    assert_eq!(bench.take(), [(1, Ok(())), (2, Ok(()))]);
    assert!(matches!(bench.submit(3, Op::Flush, 0, Data::NONE), Submitted::Pending));
}

#[test]
fn ranges_are_discarded_and_zeroed_in_parts_that_the_device_takes() {
    let (device, bench) = bench(ALL);
    assert_eq!(bench.run(Op::Discard, 4096, Data::Length(128 << 10)).0, Ok(()));
    assert_eq!(device.state.lock().log, [DISCARD; 4]);
    assert_eq!(device.state.lock().last_range, (4096 + (96 << 10), 32 << 10));
    assert_eq!(bench.run(Op::WriteZeroes, 4096, Data::Length(100 << 10)).0, Ok(()));
    assert_eq!(device.state.lock().log[4..], [WRITE_ZEROES; 2]);
    let state = device.state.lock();
    assert!(state.content[4096..4096 + (100 << 10)].iter().all(|&byte| byte == 0));
    assert_eq!(state.content[..4096], content()[..4096]);
}

#[test]
fn zeroes_are_written_where_the_device_does_not_write_them_by_itself() {
    let (device, bench) = bench(ALL & !(1 << 14));
    assert_eq!(bench.run(Op::WriteZeroes, 512, Data::Length(1536 << 10)).0, Ok(()));
    let state = device.state.lock();
    assert_eq!(state.log, [OUT; 12]);
    assert!(state.content[512..512 + (1536 << 10)].iter().all(|&byte| byte == 0));
    assert_eq!(state.content[512 + (1536 << 10)..], content()[512 + (1536 << 10)..]);
}

#[test]
fn requests_that_are_none_of_the_disks_are_refused_at_once() {
    let read_only = options(ALL | 1 << 5);
    let (device, bench) =
        bench_of(Options { config: Options::new(0, 4096, 126, 4096).config, ..read_only });
    let done = |op, offset, data| match bench.submit(0, op, offset, data) {
        Submitted::Done(done) => done.result,
        Submitted::Pending => panic!("it was started"),
    };
    assert_eq!(done(Op::Read, 512, Data::zeroed(4096)), Err(Error::OutOfRange));
    assert_eq!(done(Op::Read, 2 * MIB as u64, Data::zeroed(4096)), Err(Error::OutOfRange));
    assert_eq!(done(Op::WRITE, 0, Data::zeroed(4096)), Err(Error::ReadOnly));
    assert_eq!(done(Op::Discard, 0, Data::Length(4096)), Err(Error::ReadOnly));
    assert_eq!(done(Op::Read, 0, Data::zeroed(0)), Ok(()));
    assert!(device.state.lock().log.is_empty());
    assert_eq!(bench.run(Op::Read, 4096, Data::zeroed(4096)).1, content()[4096..8192]);
}

#[test]
fn errors_of_the_device_are_those_of_the_request() {
    let (device, bench) = bench(ALL);
    for (status, error) in [(1, Error::Io), (2, Error::NotSupported), (77, Error::Io)] {
        device.state.lock().status = Some(status);
        assert_eq!(bench.run(Op::Read, 0, Data::zeroed(4096)).0, Err(error));
    }
    (device.state.lock().status, device.state.lock().is_short) = (None, true);
    assert_eq!(bench.run(Op::Read, 0, Data::zeroed(4096)).0, Err(Error::Io), "not all was read");
    assert_eq!(bench.run(Op::WRITE, 0, Data::zeroed(4096)).0, Ok(()));
}

#[test]
fn a_device_that_hangs_is_reset_and_its_commands_are_given_anew() {
    let (device, bench) = bench(ALL);
    device.state.lock().is_held = true;
    assert!(matches!(bench.submit(1, Op::WRITE, 0, Data::Heap(vec![5; 8192])), Submitted::Pending));
    assert!(matches!(bench.submit(2, Op::Read, 8192, Data::zeroed(512)), Submitted::Pending));
    let resets = device.state.lock().resets;
    bench.attend();
    bench.machine.pass(11 * S_NS);
    let due_ns = bench.disks.attend();
    assert!(due_ns <= bench.machine.host_ns() + S_NS / 100, "it is looked after soon");
    assert_eq!(device.state.lock().resets, resets + 1);
    device.state.lock().is_held = false;
    bench.machine.pass(S_NS / 100);
    bench.disks.attend();
    bench.attend();
    assert_eq!(bench.take(), [(1, Ok(())), (2, Ok(()))]);
    assert_eq!(device.state.lock().content[..8192], [5; 8192]);
}

#[test]
fn a_device_that_hangs_after_its_reset_is_gone() {
    let (device, bench) = bench(ALL);
    device.state.lock().is_held = true;
    assert!(matches!(bench.submit(1, Op::Read, 0, Data::zeroed(512)), Submitted::Pending));
    bench.attend();
    for _ in 0..40 {
        bench.machine.pass(S_NS);
        bench.disks.attend();
    }
    assert_eq!(bench.take(), [(1, Err(Error::Gone))]);
    assert!(matches!(
        bench.submit(2, Op::Read, 0, Data::zeroed(512)),
        Submitted::Done(Completion { result: Err(Error::Gone), .. })
    ));
    assert_eq!(bench.attend(), NEVER_NS);
}

#[test]
fn a_device_that_is_pulled_out_is_gone() {
    let (device, bench) = bench(ALL);
    device.state.lock().is_held = true;
    assert!(matches!(bench.submit(1, Op::Read, 0, Data::zeroed(512)), Submitted::Pending));
    bench.attend();
    device.state.lock().is_gone = true;
    bench.machine.pass(2 * S_NS);
    bench.disks.attend();
    assert_eq!(bench.take(), [(1, Err(Error::Gone))]);
}

#[test]
fn an_idle_disk_asks_for_no_attention() {
    let (device, bench) = bench(ALL);
    assert_eq!(bench.disks.attend(), NEVER_NS);
    assert_eq!(bench.run(Op::Read, 0, Data::zeroed(512)).0, Ok(()));
    let calls = bench.machine.calls.load(Ordering::Relaxed);
    device.state.lock().is_held = true;
    assert!(matches!(bench.submit(1, Op::Read, 0, Data::zeroed(512)), Submitted::Pending));
    bench.attend();
    // While it is watched, nobody has to be called for what is submitted.
    assert!(matches!(bench.submit(2, Op::Read, 0, Data::zeroed(512)), Submitted::Pending));
    assert_eq!(bench.machine.calls.load(Ordering::Relaxed), calls + 1);
    device.run(&bench.machine.memory, 2);
    bench.attend();
    bench.machine.pass(2 * S_NS);
    assert_eq!((bench.disks.attend(), bench.take().len()), (NEVER_NS, 2));
}

#[test]
fn users_share_a_full_queue_by_their_weights() {
    let (device, bench) = bench_of(Options { queue_size: 4, ..options(ALL) });
    device.state.lock().is_held = true;
    let users = [User { id: 7, weight: 256 }, User { id: 8, weight: 768 }];
    let opened = users.map(|user| bench.open(user));
    for tag in 0..400 {
        for (_, queue) in &opened {
            let data = Data::zeroed(4096);
            let read = Request { tag, op: Op::Read, offset_bytes: 0, data };
            assert!(matches!(queue.submit(read), Submitted::Pending));
        }
    }
    for _ in 0..200 {
        device.run(&bench.machine.memory, 1);
        bench.attend();
    }
    let [small, large] = opened.map(|(client, _)| client.0.lock().len());
    assert_eq!(small + large, 200);
    assert!((135..165).contains(&large), "{small} {large}");
}

#[test]
fn a_request_that_waits_can_be_cancelled_and_one_under_way_is_carried_out() {
    let (device, bench) = bench_of(Options { queue_size: 4, ..options(ALL) });
    device.state.lock().is_held = true;
    for tag in 0..6 {
        assert!(matches!(bench.submit(tag, Op::Read, 0, Data::zeroed(512)), Submitted::Pending));
    }
    bench.queue.cancel(0);
    bench.queue.cancel(5);
    bench.queue.cancel(77);
    for _ in 0..6 {
        device.run(&bench.machine.memory, 4);
        bench.attend();
    }
    let told = bench.take();
    assert_eq!(told.len(), 6);
    assert_eq!((told[0], told[5]), ((0, Ok(())), (5, Err(Error::Cancelled))));
}

/// A hostile device's next deed.
#[derive(Clone, Debug)]
enum Deed {
    /// It carries out some requests as it should.
    Run(u8),
    /// It says that it has used something.
    Use(u32, u32),
    /// Time passes.
    Pass(u16),
    /// The guest submits a request.
    Submit(u8, u16),
    /// From now on the status is this.
    Status(u8),
    /// It is pulled out.
    Vanish,
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => any::<u8>().prop_map(Deed::Run),
        2 => (0_u32..300, any::<u32>()).prop_map(|(head, length)| Deed::Use(head, length)),
        1 => any::<(u32, u32)>().prop_map(|(head, length)| Deed::Use(head, length)),
        2 => any::<u16>().prop_map(Deed::Pass),
        8 => any::<(u8, u16)>().prop_map(|(kind, at)| Deed::Submit(kind, at)),
        1 => any::<u8>().prop_map(Deed::Status),
        1 => Just(Deed::Vanish),
    ]
}

proptest! {
    // Each case leaves the memory of a device behind.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each request is answered once, and nothing panics or goes on for ever, in spite of all that
    /// a device may say.
    #[test]
    fn a_hostile_device_hurts_none_but_its_users(
        features in any::<u64>(),
        config in proptest::collection::vec(any::<u8>(), 60),
        is_plain in any::<bool>(),
        queue_exponent in 0_u32..10,
        deeds in proptest::collection::vec(deeds(), 0..60),
    ) {
        let mut options = Options { queue_size: 1 << queue_exponent, ..options(features & 0xffff_ffff) };
        if !is_plain {
            options.config = config;
            options.config[..8].copy_from_slice(&4096_u64.to_le_bytes());
        }
        let (device, function) = FakeBlock::new(AT, options, content());
        let machine = crate::testing::FakeMachine::leak(vec![function]);
        let disks = crate::Disks::find(machine);
        // One that makes no sense is left out.
        let Some(disk) = disks.list().first() else { return Ok(()) };
        let client = Arc::new(crate::testing::Keeper::default());
        let weak: Weak<crate::testing::Keeper> = Arc::downgrade(&client);
        let queue = disk.medium.clone().open(weak, User { id: 1, weight: 1 });
        let sector = u64::from(disk.medium.geometry().sector_bytes);
        device.state.lock().is_held = true;
        let mut pending = 0;
        for deed in deeds {
            match deed {
                Deed::Run(count) => device.run(&machine.memory, count.into()),
                Deed::Use(head, length) => device.put_used(&machine.memory, head, length),
                Deed::Pass(ms) => machine.pass(u64::from(ms) * 1_000_000),
                Deed::Submit(kind, at) => {
                    let op = [Op::Read, Op::WRITE, DURABLE, Op::Flush, Op::Discard, Op::WriteZeroes];
                    let op = op[usize::from(kind) % op.len()];
                    let length = u64::from(kind / 8) * sector;
                    let data = match op {
                        Op::Read | Op::Write { .. } => Data::zeroed(length as usize),
                        Op::Flush => Data::NONE,
                        Op::Discard | Op::WriteZeroes => Data::Length(length),
                    };
                    let offset_bytes = u64::from(at % 1024) * sector;
                    let request = Request { tag: pending, op, offset_bytes, data };
                    pending += u64::from(matches!(queue.submit(request), Submitted::Pending));
                }
                Deed::Status(status) => device.state.lock().status = Some(status),
                Deed::Vanish => device.state.lock().is_gone = true,
            }
            machine.interrupt();
            disks.attend();
        }
        // It does nothing any more: what is left fails in its time.
        for _ in 0..60 {
            machine.pass(S_NS);
            disks.attend();
        }
        let told: Vec<u64> = client.0.lock().iter().map(|done| done.request.tag).collect();
        let mut once = told.clone();
        once.sort_unstable();
        prop_assert_eq!(once, (0..pending).collect::<Vec<_>>());
    }
}
