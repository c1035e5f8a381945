//! Media on top of each other, and requests that end in any order.

use super::*;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

const DISK_BYTES: usize = 4096;

/// A device that keeps what it is told.
#[derive(Default)]
struct Device(spin::Mutex<Vec<Completion>>);

impl Client for Device {
    fn complete(&self, completion: Completion) {
        self.0.lock().push(completion);
    }
}

/// The ranges between some places, each with what is done to it.
fn requests(mut places: Vec<(usize, u8)>, first_tag: u64) -> Vec<Request> {
    places.push((0, 1));
    places.sort_unstable();
    let ends = places.iter().skip(1).map(|it| it.0).chain([DISK_BYTES]);
    let ranges = places.iter().zip(ends).zip(first_tag..);
    ranges
        .map(|((&(start, byte), end), tag)| {
            let length = end - start;
            let (op, data) = match byte % 4 {
                0 => (Op::Read, Data::zeroed(length)),
                1 => (Op::Write { is_durable: byte > 99 }, Data::Heap(vec![byte; length])),
                2 => (Op::WriteZeroes, Data::Length(length as u64)),
                _ => (Op::Flush, Data::NONE),
            };
            Request { tag, op, offset_bytes: start as u64, data }
        })
        .collect()
}

/// Carries a request out on what the disk must be then.
fn expect(model: &mut [u8], request: &Request) -> Vec<u8> {
    let range = &mut model[request.offset_bytes as usize..];
    let range = &mut range[..request.data.length_bytes() as usize];
    match request.op {
        Op::Read => return range.to_vec(),
        Op::Write { .. } => range.copy_from_slice(request.data.heap()),
        _ => range.fill(0),
    }
    request.data.heap().to_vec()
}

proptest! {
    /// Requests that touch different ranges, and are on their way together, have the results that
    /// they have one by one on a plain vector, whatever the order in which they end.
    #[test]
    fn stacked_media_are_as_a_vector(
        rounds in prop::collection::vec(
            prop::collection::vec((0..DISK_BYTES, any::<u8>()), 0..8), 1..6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let mut model: Vec<u8> = (0..DISK_BYTES).map(|at| at as u8).collect();
        let disk = SlowDisk::new(model.clone(), false);
        let stack = Watched::new(Watched::new(disk.clone(), "inner".into()), "outer".into());
        let device = Arc::new(Device::default());
        let client: Weak<Device> = Arc::downgrade(&device);
        let queue = stack.open(client, User { id: 1, weight: 256 });
        let mut order = order.into_iter();
        for (round, places) in rounds.into_iter().enumerate() {
            let mut expected = Vec::new();
            for request in requests(places, round as u64 * 100) {
                expected.push((request.tag, request.op, expect(&mut model, &request)));
                prop_assert!(matches!(queue.submit(request), Submitted::Pending));
            }
            while let waiting @ 1.. = disk.waiting().len() {
                let place = order.next().map_or(0, |it| it.index(waiting));
                prop_assert!(disk.complete(place, Ok(())));
            }
            let mut found = core::mem::take(&mut *device.0.lock());
            found.sort_by_key(|completion| completion.request.tag);
            let found = found.into_iter().map(|Completion { request, result }| {
                assert_eq!(result, Ok(()));
                (request.tag, request.op, request.data.into_heap())
            });
            prop_assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }
}
