//! The ring page.

use super::*;
use crate::store::fuzzing::Page;
use core::cell::RefCell;
use proptest::prelude::*;

/// Something that a guest does to its ring.
type Break = Box<dyn Fn(&Guest)>;

/// Guest 1 at its ring, and the store.
struct Guest {
    store: Store,
    connection: Connection,
    page: Page,
    received: Vec<u8>,
}

const REQ_CONS: usize = 2048;
const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;

impl Guest {
    fn new() -> Self {
        let page = Page(RefCell::new(vec![0xaa; PAGE_BYTES]));
        let connection = Connection::new(1, &page).unwrap();
        Self { store: two_guests(), connection, page, received: vec![] }
    }

    fn index(&self, offset: usize) -> u32 {
        self.page.read_u32(offset).unwrap()
    }

    fn set_index(&self, offset: usize, value: u32) {
        self.page.write_u32(offset, value).unwrap();
    }

    fn serve(&mut self) -> bool {
        self.connection.serve(&mut self.store, &self.page)
    }

    /// Puts as much into the request ring as there is room for.
    fn put(&self, bytes: &[u8]) -> usize {
        let (mut produced, consumed) = (self.index(REQ_PROD), self.index(REQ_CONS));
        let room = 1024 - produced.wrapping_sub(consumed) as usize;
        let count = bytes.len().min(room);
        for &byte in &bytes[..count] {
            self.page.write(produced as usize % 1024, &[byte]).unwrap();
            produced = produced.wrapping_add(1);
        }
        self.set_index(REQ_PROD, produced);
        count
    }

    /// Fetches at most `count` bytes of the reply ring.
    fn fetch(&mut self, count: usize) {
        let mut consumed = self.index(RSP_CONS);
        let waiting = self.index(RSP_PROD).wrapping_sub(consumed) as usize;
        assert!(waiting <= 1024);
        for _ in 0..waiting.min(count) {
            let mut byte = [0];
            self.page.read(1024 + consumed as usize % 1024, &mut byte).unwrap();
            self.received.push(byte[0]);
            consumed = consumed.wrapping_add(1);
        }
        self.set_index(RSP_CONS, consumed);
    }

    /// Takes the whole messages out of what was fetched.
    fn messages(&mut self) -> Vec<(u32, u32, Vec<u8>)> {
        let mut messages = vec![];
        while self.received.len() >= 16 {
            let word = |index: usize| {
                u32::from_le_bytes(self.received[index * 4..][..4].try_into().unwrap())
            };
            let (kind, request, length) = (word(0), word(1), word(3) as usize);
            if self.received.len() < 16 + length {
                break;
            }
            let payload = self.received[16..16 + length].to_vec();
            self.received.drain(..16 + length);
            messages.push((kind, request, payload));
        }
        messages
    }
}

fn message(kind: Kind, request: u32, payload: &[u8]) -> Vec<u8> {
    let header = header(kind as u32, request, 0, payload.len());
    Message { header, payload: payload.to_vec() }.to_bytes()
}

#[test]
fn the_page_begins_empty_and_connected() {
    let guest = Guest::new();
    let page = guest.page.0.borrow();
    let mut expected = vec![0; PAGE_BYTES];
    expected[2064] = 2;
    assert_eq!(*page, expected);
}

#[test]
fn a_request_is_answered_in_the_ring() {
    let mut guest = Guest::new();
    assert!(!guest.serve());
    guest.put(&message(Kind::Read, 9, b"data\0"));
    assert!(guest.serve());
    assert_eq!((guest.index(REQ_CONS), guest.index(RSP_PROD)), (21, 16));
    let mut reply = [0; 16];
    guest.page.read(1024, &mut reply).unwrap();
    assert_eq!(reply, [2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(!guest.serve());
}

#[test]
fn indices_go_on_where_they_are_and_wrap() {
    for begin in [5_u32, 1020, u32::MAX - 3] {
        let mut guest = Guest::new();
        for offset in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
            guest.set_index(offset, begin);
        }
        for request in 0..100 {
            guest.put(&message(Kind::Write, request, b"data/a\0value"));
            assert!(guest.serve());
            guest.fetch(1024);
            assert_eq!(guest.messages(), [(11, request, b"OK\0".to_vec())]);
        }
    }
}

#[test]
fn requests_come_in_pieces() {
    let mut guest = Guest::new();
    let bytes = message(Kind::Write, 1, b"data/a\0value");
    for (index, byte) in bytes.iter().enumerate() {
        assert_eq!(guest.index(RSP_PROD), 0);
        guest.put(&[*byte]);
        assert!(guest.serve());
        assert_eq!(guest.index(REQ_CONS) as usize, index + 1);
    }
    guest.fetch(1024);
    assert_eq!(guest.messages(), [(11, 1, b"OK\0".to_vec())]);
}

#[test]
fn replies_longer_than_the_ring_come_in_pieces() {
    let mut guest = Guest::new();
    let value = vec![b'v'; MAX_PAYLOAD_BYTES];
    guest.store.write("/local/domain/1/data/a", &value).unwrap();
    guest.put(&message(Kind::Read, 1, b"data/a\0"));
    let mut messages = vec![];
    for _ in 0..100 {
        guest.serve();
        guest.fetch(100);
        messages.extend(guest.messages());
    }
    assert_eq!(messages, [(2, 1, value)]);
}

#[test]
fn a_guest_that_does_not_read_is_not_answered_further() {
    let mut guest = Guest::new();
    guest.store.write("/local/domain/1/data/a", &[b'v'; 1000]).unwrap();
    let request = message(Kind::Read, 1, b"data/a\0");
    let mut sent = 0;
    for _ in 0..100 {
        while guest.put(&request) == request.len() {
            sent += 1;
        }
        // A request that was put in part is taken back.
        let whole = guest.index(REQ_PROD);
        guest.set_index(REQ_PROD, whole - whole % u32::try_from(request.len()).unwrap());
        guest.serve();
    }
    // One in the ring, one on its way, twenty that wait, and the ring full of requests.
    let replies = 1 + 1 + 20;
    assert_eq!(sent, replies + 1024 / request.len());
    // It may go on where it was.
    let mut messages = vec![];
    for _ in 0..10 * sent {
        guest.fetch(1024);
        messages.extend(guest.messages());
        guest.serve();
    }
    assert_eq!(messages.len(), sent);
    assert_eq!(guest.connection.error(), None);
}

#[test]
fn events_of_others_are_announced() {
    let mut guest = Guest::new();
    guest.put(&message(Kind::Watch, 1, b"data\0t\0"));
    guest.serve();
    guest.fetch(1024);
    guest.messages();
    while guest.store.take_ready().is_some() {}
    guest.store.write("/local/domain/1/data/a", b"v").unwrap();
    assert_eq!(guest.store.take_ready(), Some(Peer::Ring(1)));
    assert!(guest.serve());
    guest.fetch(1024);
    assert_eq!(guest.messages(), [(15, 0, b"data/a\0t\0".to_vec())]);
    assert_eq!(guest.store.take_ready(), None);
}

#[test]
fn who_breaks_the_protocol_is_cut_off() {
    let long = header(Kind::Read as u32, 1, 0, MAX_PAYLOAD_BYTES + 1);
    let long = Message { header: long, payload: vec![] }.to_bytes();
    let send_long = move |guest: &Guest| assert_eq!(guest.put(&long), long.len());
    let set = |offset, value| move |guest: &Guest| guest.set_index(offset, value);
    let breaks: [(RingError, Break); 5] = [
        (RingError::Index, Box::new(set(REQ_PROD, 1025))),
        (RingError::Index, Box::new(set(REQ_CONS, 1))),
        (RingError::Index, Box::new(set(RSP_PROD, 1025))),
        (RingError::Index, Box::new(set(RSP_CONS, 1))),
        (RingError::Protocol, Box::new(send_long)),
    ];
    for (error, break_it) in breaks {
        let mut guest = Guest::new();
        guest.put(&message(Kind::Watch, 1, b"data\0t\0"));
        guest.serve();
        guest.fetch(1024);
        guest.set_index(REQ_CONS, 0);
        guest.set_index(REQ_PROD, 0);
        guest.set_index(RSP_CONS, 0);
        guest.set_index(RSP_PROD, 0);
        break_it(&guest);
        assert!(guest.serve());
        assert_eq!(guest.connection.error(), Some(error));
        assert_eq!(guest.index(2072), error as u32);
        // Its nodes stay, its watches do not; and it is not listened to.
        guest.store.write("/local/domain/1/data/a", b"v").unwrap();
        assert_eq!(guest.store.take_ready(), None);
        guest.set_index(REQ_PROD, guest.index(REQ_CONS));
        guest.put(&message(Kind::Read, 1, b"data\0"));
        assert!(!guest.serve());
        // The other goes on.
        ask(&mut guest.store, 2, Kind::Write, b"data/a\0v").ok();
    }
}

#[test]
fn a_page_that_is_gone_ends_the_connection() {
    let mut guest = Guest::new();
    guest.page.0.borrow_mut().clear();
    assert!(!guest.serve());
    assert_eq!(guest.connection.error(), Some(RingError::Communication));
}

proptest! {
    /// Any bytes in the page, between any changes of it: no panic, and no more memory than the
    /// quota. A guest whose connection has died begins anew.
    #[test]
    fn any_page_is_survived(
        steps in prop::collection::vec(
            (any::<[u8; 8]>(), prop_oneof![
                (0..2048_usize).prop_map(|offset| (offset, None)),
                (0..4_usize, -20..1100_i32)
                    .prop_map(|(index, distance)| (REQ_CONS + 4 * index, Some(distance))),
            ]),
            0..80,
        )
    ) {
        let mut guest = Guest::new();
        for (bytes, (offset, distance)) in steps {
            match distance {
                None => guest.page.write(offset, &bytes).unwrap(),
                // From the other index of the same ring.
                Some(distance) => {
                    let other = guest.index(offset ^ 4);
                    guest.set_index(offset, other.wrapping_add_signed(distance));
                }
            }
            guest.serve();
            prop_assert!(guest.store.usage(1).memory_bytes <= Quotas::default().memory_bytes);
            if guest.connection.error().is_some() {
                guest = Guest::new();
            }
        }
    }

    /// Well-formed rings with any messages in them.
    #[test]
    fn any_message_is_answered_once(
        messages in prop::collection::vec(
            (0..30_u32, 0..4_u32, prop::collection::vec(prop_oneof![
                Just(0_u8), Just(b'/'), Just(b'T'), Just(b'1'), b'a'..b'd', any::<u8>(),
            ], 0..40)),
            0..60,
        )
    ) {
        let mut guest = Guest::new();
        let mut replies = 0;
        for (request, (kind, transaction, payload)) in messages.iter().enumerate() {
            let request = u32::try_from(request).unwrap();
            let header = header(*kind, request, *transaction, payload.len());
            let bytes = Message { header, payload: payload.clone() }.to_bytes();
            prop_assert_eq!(guest.put(&bytes), bytes.len());
            prop_assert!(guest.serve());
            guest.fetch(1024);
            let answers = guest.messages().into_iter().filter(|&(kind, ..)| kind != 15);
            for (answer, of, _) in answers {
                prop_assert_eq!(of, request);
                prop_assert!(answer == *kind || answer == 16);
                replies += 1;
            }
        }
        prop_assert_eq!(replies, messages.len());
    }
}
