use super::*;
use std::vec;
use std::vec::Vec;

const GIB: u64 = 1 << 30;

#[test]
fn only_whole_free_frames_are_handed_out() {
    let mut chunks = vec![Chunk::USED; FrameMap::chunks_for(8 << 20)];
    let mut map = FrameMap::new(&mut chunks);
    map.release(0x0000..0x9fc00);
    map.release(0x100_000..0x7f_e123);
    map.reserve(0..0x100_000);
    map.reserve(0x200_001..0x3f_0001);
    map.finish();
    let mut taken: Vec<u64> = core::iter::from_fn(|| map.take_small()).collect();
    taken.sort_unstable();
    let expected: Vec<u64> =
        (0x100..0x200).chain(0x3f1..0x7fe).map(|frame| frame * PAGE_BYTES).collect();
    assert_eq!(taken, expected);
    assert_eq!(map.free_bytes(), 0);
}

#[test]
fn frames_given_back_merge_into_large_and_huge_ones() {
    let mut chunks = vec![Chunk::USED; FrameMap::chunks_for(2 * GIB)];
    let mut map = FrameMap::new(&mut chunks);
    map.release(0..2 * GIB);
    map.finish();
    let small = map.take_small().unwrap();
    let large = map.take_large().unwrap();
    assert_eq!(map.take_huge(), Some(GIB));
    assert_eq!(map.take_huge(), None);
    assert_eq!(map.free_bytes(), GIB - LARGE_BYTES - PAGE_BYTES);
    assert!(map.give_back(large, LARGE_BYTES));
    assert!(map.give_back(small, PAGE_BYTES));
    assert!(!map.give_back(small, PAGE_BYTES), "a frame given back twice goes unnoticed");
    assert_eq!(map.take_huge(), Some(0));
    assert_eq!(map.free_bytes(), 0);
}

#[test]
fn runs_are_aligned_to_their_size() {
    let mut chunks = vec![Chunk::USED; 16];
    let mut map = FrameMap::new(&mut chunks);
    map.release(LARGE_BYTES..15 * LARGE_BYTES);
    map.finish();
    assert_eq!(map.take_run(8), None);
    assert_eq!(map.take_run(4), Some(8 * LARGE_BYTES));
    assert_eq!(map.take_run(4), Some(4 * LARGE_BYTES));
    assert_eq!(map.take_run(4), None);
    assert_eq!(map.take_run(2), Some(12 * LARGE_BYTES));
}

proptest::proptest! {
    #[test]
    fn no_frame_is_handed_out_twice_and_none_is_lost(operations in proptest::collection::vec((0..4u8, 0..64usize), 1..200)) {
        let mut chunks = vec![Chunk::USED; 12];
        let mut map = FrameMap::new(&mut chunks);
        map.release(0x3000..12 * LARGE_BYTES - 0x5000);
        map.finish();
        let total = map.free_bytes();
        let mut held: Vec<(u64, u64)> = Vec::new();
        for (operation, choice) in operations {
            let taken = match operation {
                0 => map.take_small().map(|address| (address, PAGE_BYTES)),
                1 => map.take_large().map(|address| (address, LARGE_BYTES)),
                2 => map.take_run(2).map(|address| (address, 2 * LARGE_BYTES)),
                _ => {
                    if !held.is_empty() {
                        let (address, bytes) = held.swap_remove(choice % held.len());
                        assert!(map.give_back(address, bytes));
                    }
                    None
                }
            };
            if let Some((address, bytes)) = taken {
                assert_eq!(address % bytes, 0);
                assert!(held.iter().all(|&(other, length)| address + bytes <= other || other + length <= address));
                held.push((address, bytes));
            }
            assert_eq!(map.free_bytes() + held.iter().map(|(_, bytes)| bytes).sum::<u64>(), total);
        }
        for (address, bytes) in held {
            assert!(map.give_back(address, bytes));
        }
        assert_eq!(map.free_bytes(), total);
        assert_eq!(core::iter::from_fn(|| map.take_large()).count(), 10);
    }
}
