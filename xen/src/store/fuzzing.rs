//! The store under guests that put anything into their rings.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use emulator::fuzzing::Input;

use super::wire::Kind;
use super::{Connection, DomId, PAGE_BYTES, PageGone, Permission, Permissions, Quotas, Usage};
use super::{SharedPage, Store, path as paths};

/// Steps in one run, at most.
const MAX_STEPS: usize = 200;

/// A page of a guest's, in a test.
pub(super) struct Page(pub RefCell<Vec<u8>>);

impl SharedPage for Page {
    fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), PageGone> {
        let page = self.0.borrow();
        data.copy_from_slice(page.get(offset..offset + data.len()).ok_or(PageGone)?);
        Ok(())
    }

    fn write(&self, offset: usize, data: &[u8]) -> Result<(), PageGone> {
        let mut page = self.0.borrow_mut();
        page.get_mut(offset..offset + data.len()).ok_or(PageGone)?.copy_from_slice(data);
        Ok(())
    }
}

/// A path of few names, so that the same come again, mostly in the guest's directory.
fn path(input: &mut Input) -> Option<String> {
    let names = ["data", "a", "b", "c-", "0", "_@", "local/domain/2/data", ""];
    let shape = input.u8()?;
    let mut path = String::from(if shape & 8 == 0 { "data" } else { "" });
    for _ in 0..shape & 7 {
        path.push('/');
        path.push_str(input.pick(&names)?);
    }
    Some(path)
}

/// A guest, its page, and its connection.
struct Guest {
    domain: DomId,
    page: Page,
    connection: Connection,
}

impl Guest {
    fn new(domain: DomId, store: &mut Store) -> Self {
        let data = format!("{}/data", paths::home(domain));
        let own = Permissions::new(Permission::both(domain), &[]);
        for result in [store.mkdir(&data), store.set_permissions(&data, own)] {
            assert_eq!(result, Ok(()), "{data}");
        }
        store.introduce(domain);
        let page = Page(RefCell::new(vec![0; PAGE_BYTES]));
        let connection = Connection::new(domain, &page).unwrap_or_else(|gone| panic!("{gone:?}"));
        Self { domain, page, connection }
    }

    fn index(&self, offset: usize) -> u32 {
        self.page.read_u32(offset).unwrap_or(0)
    }

    /// Appends to the request ring, over what is there if there is no room.
    fn put(&self, bytes: &[u8]) {
        let mut produced = self.index(2052);
        for &byte in bytes {
            let _ = self.page.write(produced as usize % 1024, &[byte]);
            produced = produced.wrapping_add(1);
        }
        let _ = self.page.write_u32(2052, produced);
    }
}

/// Two guests with rings, a hypervisor that watches and writes.
///
/// # Panics
/// If the tree is not one any more, a quota is passed, or something stays behind a guest.
pub fn xenstore(data: &[u8]) {
    let quotas = Quotas { nodes: 40, memory_bytes: 32 << 10, ..Quotas::default() };
    let mut store = Store::new(quotas);
    let local = store.open();
    let _ = store.watch(local, "/local", b"all");
    let mut guests = [1, 2].map(|domain| Guest::new(domain, &mut store));
    let mut input = Input::new(data);
    for _ in 0..MAX_STEPS {
        if step(&mut store, &mut guests, &mut input).is_none() {
            break;
        }
        while store.next_event(local).is_some() {}
        store.check();
        for guest in &guests {
            let usage = store.usage(guest.domain);
            // Some nodes in the guests' directories are domain 0's work.
            assert!(usage.nodes <= quotas.nodes + 9, "{usage:?}");
            assert!(usage.memory_bytes <= quotas.memory_bytes + (9 << 10), "{usage:?}");
        }
    }
    for guest in &guests {
        store.release(guest.domain);
        assert_eq!(store.usage(guest.domain), Usage::default());
    }
    store.check();
}

/// One step; none if the input has run out.
fn step(store: &mut Store, guests: &mut [Guest; 2], input: &mut Input) -> Option<()> {
    let choice = input.u8()?;
    let guest = &mut guests[usize::from(choice >> 7)];
    match choice & 0x0f {
        0..=8 => {
            guest.put(&message(guest.domain, input)?);
            guest.connection.serve(store, &guest.page);
        }
        // Any bytes.
        9 => {
            let count = usize::from(input.u8()?);
            guest.put(input.rest(count));
        }
        // Any place of the page.
        10 => {
            let offset = usize::from(input.u8()?) * 16;
            let _ = guest.page.write(offset, input.bytes(16)?);
        }
        // The replies are read.
        11 | 12 => {
            let _ = guest.page.write_u32(2056, guest.index(2060));
            guest.connection.serve(store, &guest.page);
        }
        13 => {
            let path = format!("/local/domain/{}/data/{}", guest.domain, input.u8()? % 8);
            let _ = store.write(&path, b"from above");
        }
        14 => {
            let path = format!("/local/domain/{}/{}", guest.domain, path(input)?);
            let _ = store.rm(&path);
        }
        // Its next life.
        _ => {
            store.release(guest.domain);
            assert_eq!(store.usage(guest.domain), Usage::default());
            *guest = Guest::new(guest.domain, store);
        }
    }
    Some(())
}

/// A message as a driver sends it, or nearly.
fn message(domain: DomId, input: &mut Input) -> Option<Vec<u8>> {
    let kind = u32::from(input.u8()? % 24);
    let transaction = u32::from(input.u8()? % 4);
    let mut payload = format!("{}\0", path(input)?).into_bytes();
    match Kind::from_number(kind) {
        Some(Kind::TransactionEnd) => payload = b"T\0".into(),
        Some(Kind::SetPerms) => payload.extend(format!("b{domain}\0r2\0").into_bytes()),
        Some(Kind::Watch | Kind::Unwatch) => payload.extend(b"t\0"),
        Some(Kind::Write) => payload.extend(vec![b'v'; usize::from(input.u8()?) * 4]),
        _ => {}
    }
    let length_bytes = u32::try_from(payload.len()).ok()?;
    let header = [kind, 1, transaction, length_bytes].map(u32::to_le_bytes).concat();
    Some([header, payload].concat())
}

#[cfg(test)]
mod tests {
    use super::xenstore;
    use emulator::fuzzing::replay;
    use proptest::prelude::*;

    #[test]
    fn kept_inputs_break_no_promise() {
        replay("xenstore", xenstore);
    }

    proptest! {
        #[test]
        fn random_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..1500)) {
            xenstore(&data);
        }
    }
}
