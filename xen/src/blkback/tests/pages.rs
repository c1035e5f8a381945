//! The guest's pages as a medium gets at them.

use super::test_front::XVDA;
use crate::blkback::pages::Pages;
use crate::blkback::spec::Segment;
use crate::guest::BadGrant;
use crate::test_grants::TestGuest;
use crate::width::Width;
use block::{Buffer, Gone};
use proptest::prelude::*;
use std::sync::Arc;

/// Segments with the reference of their page, the first sector and the last.
fn segments(parts: &[(u32, u8, u8)]) -> Vec<Segment> {
    let segment = |&(reference, first_sector, last_sector): &(u32, u8, u8)| Segment {
        reference: reference.into(),
        first_sector,
        last_sector,
        padding: [0; 2],
    };
    parts.iter().map(segment).collect()
}

fn guest(pages: u32) -> Arc<TestGuest> {
    let guest = Arc::new(TestGuest::new(Width::Bits64, XVDA));
    (0..pages).for_each(|page| guest.grant(page, false));
    guest
}

#[test]
fn pages_are_let_go_if_one_of_them_cannot_be_held() {
    let guest = guest(2);
    let pages = Pages::new(guest.clone());
    let result = pages.hold(&segments(&[(0, 0, 7), (1, 0, 7), (2, 0, 7)]), true);
    assert_eq!((result.err(), guest.held()), (Some(BadGrant), vec![]));
}

#[test]
fn pages_are_not_touched_once_the_front_end_is_gone() {
    let guest = guest(1);
    let pages = Pages::new(guest.clone());
    let granted = pages.hold(&segments(&[(0, 0, 7)]), true).unwrap();
    assert_eq!(granted.write(0, &[1]), Ok(()));
    drop(pages);
    assert_eq!((granted.write(0, &[2]), granted.read(0, &mut [0])), (Err(Gone), Err(Gone)));
    assert_eq!((guest.bytes(0)[0], guest.held()), (1, vec![0]));
    drop(granted);
    assert!(guest.held().is_empty());
}

proptest! {
    /// Parts of pages, of any size and at any place, are read and written in pieces of any size.
    #[test]
    fn scattered_pages_are_as_a_vector(
        parts in prop::collection::vec((0u8..8, 0u8..8), 1..9),
        accesses in prop::collection::vec((0usize..9 * 4096, 0usize..9000, any::<u8>()), 1..12),
    ) {
        let parts: Vec<_> = (0..).zip(parts).map(|(page, (a, b))| (page, a.min(b), a.max(b))).collect();
        let guest = guest(parts.len() as u32);
        let pages = Pages::new(guest.clone());
        let granted = pages.hold(&segments(&parts), true).unwrap();
        let mut model = vec![0; granted.length_bytes()];
        for (start, length, byte) in accesses {
            let Some(range) = model.get_mut(start..).and_then(|rest| rest.get_mut(..length)) else {
                prop_assert_eq!(granted.read(start, &mut vec![0; length]), Err(Gone));
                prop_assert_eq!(granted.write(start, &vec![byte; length]), Err(Gone));
                continue;
            };
            let mut found = vec![0; length];
            prop_assert_eq!(granted.read(start, &mut found), Ok(()));
            prop_assert_eq!(&found[..], &*range);
            range.fill(byte);
            prop_assert_eq!(granted.write(start, range), Ok(()));
        }
        // Nothing beside them has changed.
        let of_page = |&(page, first, last): &(u32, u8, u8)| {
            let (start, end) = (usize::from(first) * 512, (usize::from(last) + 1) * 512);
            let bytes = guest.bytes(page);
            assert!(bytes[..start].iter().chain(&bytes[end..]).all(|&byte| byte == 0));
            bytes[start..end].to_vec()
        };
        prop_assert_eq!(parts.iter().flat_map(of_page).collect::<Vec<_>>(), model);
    }
}
