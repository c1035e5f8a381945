//! The operations of guests, as they come by the ring.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use zerocopy::byteorder::little_endian::U32;

use super::outbox::Outgoing;
use super::permissions::{Permissions, Rights};
use super::transaction::Transaction;
use super::view::View;
use super::wire::{self, Header, Kind, MAX_PAYLOAD_BYTES, Message};
use super::{DomId, Error, Peer, Store, path};

/// The answer of an operation that has nothing to say.
const OK: &[u8] = b"OK\0";

impl Store {
    /// Carries a guest's request out. The reply waits for [`Store::next_message`]. A guest that is
    /// not known is not answered.
    pub fn request(&mut self, domain: DomId, header: &Header, payload: &[u8]) {
        let peer = Peer::Ring(domain);
        let kind = Kind::from_number(header.kind.get()).unwrap_or(Kind::Error);
        let first_event = match kind {
            Kind::Watch => {
                let added = watch_arguments(payload)
                    .and_then(|(path, token)| self.add_watch(peer, path, token));
                self.reply(peer, header, kind, added.map(|_| OK.to_vec()));
                added.ok()
            }
            _ => {
                let answer = self.perform(peer, kind, header.transaction.get(), payload);
                self.reply(peer, header, kind, answer);
                None
            }
        };
        if let Some(id) = first_event {
            self.fire_first(id);
        }
    }

    /// The next message to a guest.
    pub fn next_message(&mut self, domain: DomId) -> Option<Message> {
        loop {
            match self.pop(Peer::Ring(domain))? {
                Outgoing::Reply(message) => return Some(message),
                Outgoing::Event(event) => {
                    let Some(watch) = self.watches.get(event.watch) else { continue };
                    let path = watch.shown(&event.path).as_bytes();
                    let payload = [path, b"\0", &watch.token, b"\0"].concat();
                    if payload.len() <= MAX_PAYLOAD_BYTES {
                        let zero = U32::new(0);
                        let none = Header {
                            kind: zero,
                            request: zero,
                            transaction: zero,
                            length_bytes: zero,
                        };
                        return Some(Message::answer(&none, Kind::WatchEvent, payload));
                    }
                }
            }
        }
    }

    /// True if so many replies wait that the guest is to read some before it asks again.
    pub(super) fn is_congested(&self, domain: DomId) -> bool {
        let client = self.clients.get(&Peer::Ring(domain));
        client.is_none_or(|it| it.outbox.replies() >= self.nodes.quotas.outstanding_requests)
    }

    fn reply(&mut self, peer: Peer, header: &Header, kind: Kind, answer: Result<Vec<u8>, Error>) {
        let answer = match answer {
            Ok(payload) if payload.len() > MAX_PAYLOAD_BYTES => Err(Error::TooBig),
            answer => answer,
        };
        let message = match answer {
            Ok(payload) => Message::answer(header, kind, payload),
            Err(error) => Message::answer(header, Kind::Error, format!("{error}\0").into_bytes()),
        };
        if let Some(client) = self.clients.get_mut(&peer) {
            client.outbox.push_reply(message);
        }
    }

    fn perform(
        &mut self,
        peer: Peer,
        kind: Kind,
        transaction: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, Error> {
        match kind {
            Kind::WatchEvent | Kind::Error => return Err(Error::NotImplemented),
            Kind::Control
            | Kind::Introduce
            | Kind::Release
            | Kind::IsDomainIntroduced
            | Kind::Resume
            | Kind::SetTarget => return Err(Error::Access),
            Kind::Unwatch => {
                let (path, token) = watch_arguments(payload)?;
                self.remove_watch(peer, path, token)?;
                return Ok(OK.to_vec());
            }
            _ => {}
        }
        let client = self.clients.get_mut(&peer).ok_or(Error::NotFound)?;
        if transaction != 0 && !client.transactions.contains_key(&transaction) {
            return Err(Error::NotFound);
        }
        match kind {
            Kind::TransactionStart if transaction != 0 => Err(Error::Busy),
            Kind::TransactionStart => self.start_transaction(peer),
            Kind::TransactionEnd => self.end_transaction(peer, transaction, payload),
            Kind::ResetWatches => {
                self.reset_watches(peer);
                Ok(OK.to_vec())
            }
            Kind::GetDomainPath => {
                let domain = wire::one_string(payload).ok_or(Error::Invalid)?;
                Ok(format!("/local/domain/{}\0", leading_number(domain)).into_bytes())
            }
            _ => {
                let mut open = client.transactions.remove(&transaction);
                let mut view = View::new(peer.domain(), &mut self.nodes, open.as_mut());
                let answer = on_nodes(&mut view, peer.domain(), kind, payload);
                let changes = view.changes;
                if let Some(open) = open {
                    client.transactions.insert(transaction, open);
                }
                self.fire(changes);
                answer
            }
        }
    }

    fn start_transaction(&mut self, peer: Peer) -> Result<Vec<u8>, Error> {
        let client = self.clients.get_mut(&peer).ok_or(Error::NotFound)?;
        if client.transactions.len() > self.nodes.quotas.transactions {
            return Err(Error::NoSpace);
        }
        loop {
            client.last_transaction = client.last_transaction.wrapping_add(1);
            let id = client.last_transaction;
            if id != 0 && !client.transactions.contains_key(&id) {
                client.transactions.insert(id, Transaction::default());
                return Ok(format!("{id}\0").into_bytes());
            }
        }
    }

    fn end_transaction(&mut self, peer: Peer, id: u32, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let is_committed = match wire::one_string(payload) {
            Some(b"T") => true,
            Some(b"F") => false,
            _ => return Err(Error::Invalid),
        };
        let client = self.clients.get_mut(&peer).ok_or(Error::NotFound)?;
        let transaction = client.transactions.remove(&id).ok_or(Error::NotFound)?;
        let domain = peer.domain();
        transaction.release(domain, &mut self.nodes);
        if is_committed {
            let changes = transaction.commit(domain, &mut self.nodes)?;
            self.fire(changes);
        }
        Ok(OK.to_vec())
    }
}

/// The operations on nodes.
fn on_nodes(view: &mut View, domain: DomId, kind: Kind, payload: &[u8]) -> Result<Vec<u8>, Error> {
    let only_path = || {
        let path = wire::one_string(payload).ok_or(Error::Invalid)?;
        path::absolute(domain, path)
    };
    match kind {
        Kind::Read => Ok(view.get(&only_path()?, Rights::READ)?.value.clone()),
        Kind::Directory => Ok(view.get(&only_path()?, Rights::READ)?.children.clone()),
        Kind::DirectoryPart => directory_part(view, domain, payload),
        Kind::GetPerms => Ok(view.get(&only_path()?, Rights::READ)?.permissions.to_bytes()),
        Kind::Write => {
            let end = payload.iter().position(|&byte| byte == 0).ok_or(Error::Invalid)?;
            view.write(&path::absolute(domain, &payload[..end])?, &payload[end + 1..])?;
            Ok(OK.to_vec())
        }
        Kind::Mkdir => {
            view.mkdir(&only_path()?)?;
            Ok(OK.to_vec())
        }
        Kind::Rm => {
            view.rm(&only_path()?)?;
            Ok(OK.to_vec())
        }
        Kind::SetPerms => {
            let mut strings = wire::strings(payload);
            let path = strings.next().ok_or(Error::Invalid)?;
            let permissions = Permissions::parse(strings)?;
            if path == b"@introduceDomain" || path == b"@releaseDomain" {
                return Err(Error::Access);
            }
            view.set_permissions(&path::absolute(domain, path)?, permissions)?;
            Ok(OK.to_vec())
        }
        _ => Err(Error::NotImplemented),
    }
}

/// A part of a long list of names, from an offset on: the generation of the node, by which the
/// client knows whether two parts fit, names, and an empty one after the last.
fn directory_part(view: &mut View, domain: DomId, payload: &[u8]) -> Result<Vec<u8>, Error> {
    let mut strings = wire::strings(payload);
    let (Some(path), Some(offset), None) = (strings.next(), strings.next(), strings.next()) else {
        return Err(Error::Invalid);
    };
    let node = view.get(&path::absolute(domain, path)?, Rights::READ)?;
    let offset = leading_number(offset) as usize;
    let mut answer = node.generation.to_string().into_bytes();
    answer.push(0);
    let rest = node.children.get(offset..).unwrap_or_default();
    let room = MAX_PAYLOAD_BYTES - answer.len() - 1;
    let mut taken = 0;
    for name in rest.split_inclusive(|&byte| byte == 0) {
        if taken + name.len() > room {
            break;
        }
        taken += name.len();
    }
    answer.extend_from_slice(&rest[..taken]);
    if taken == rest.len() {
        answer.push(0);
    }
    Ok(answer)
}

/// Path and token.
fn watch_arguments(payload: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let mut strings = wire::strings(payload);
    match (strings.next(), strings.next(), strings.next()) {
        (Some(path), Some(token), None) => Ok((path, token)),
        _ => Err(Error::Invalid),
    }
}

/// The number that a text begins with, as C's `atoi` has it: 0 for none.
fn leading_number(text: &[u8]) -> u32 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u32, &digit| {
        number.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
    })
}
