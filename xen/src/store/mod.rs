//! XenStore: the tree of settings that guests, back ends and the prompt share.
//!
//! [`Store`] is one tree for all guests, as a state machine without time or threads. A guest speaks
//! to it by a [`Connection`] on its ring page; the hypervisor, which is domain 0 here, calls the
//! methods of [`Store`]. Both are told of changes by watches.
//!
//! ```
//! use xen::store::Store;
//!
//! let mut store = Store::default();
//! let me = store.open();
//! store.watch(me, "/local/domain/1", b"mine")?;
//! store.write("/local/domain/1/name", b"guest")?;
//! assert_eq!(store.list("/local/domain/1")?, ["name"]);
//! let paths: Vec<_> = std::iter::from_fn(|| store.next_event(me)).map(|it| it.path).collect();
//! assert_eq!(paths, ["/local/domain/1", "/local/domain/1/name"]);
//! # Ok::<(), xen::store::Error>(())
//! ```
//!
//! Sources: the public headers `io/xs_wire.h`, `docs/misc/xenstore.txt` and
//! `docs/misc/xenstore-ring.txt` of Xen 4.17, and what its xenstored answers.

pub mod commands;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod listing;
mod node;
mod nodes;
mod outbox;
pub mod path;
mod permissions;
mod quota;
mod request;
mod ring;
#[cfg(test)]
mod tests;
mod transaction;
pub mod tree;
mod view;
mod watch;
mod wire;
pub mod xenbus;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use error::Error;
pub use nodes::Usage;
pub use permissions::{Permission, Permissions, Rights};
pub use quota::Quotas;
pub use ring::{Connection, PAGE_BYTES, PageGone, RingError, SharedPage};
pub use wire::{HEADER_BYTES, Header, Kind, MAX_PAYLOAD_BYTES, Message};

use nodes::Nodes;
use outbox::{Event, Outbox, Outgoing};
use transaction::Transaction;
use view::View;
use watch::{Change, Watch, WatchId, Watches};

/// A domain's number (`domid_t`).
pub type DomId = u16;

/// Events that wait for a part of the hypervisor, in bytes. Further ones are dropped.
pub const MAX_LOCAL_EVENT_BYTES: usize = 1 << 20;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// A guest, by its ring.
    Ring(DomId),
    /// A part of the hypervisor, with the rights of domain 0.
    Local(Local),
}

impl Peer {
    /// The domain whose rights it has.
    pub const fn domain(self) -> DomId {
        match self {
            Self::Ring(domain) => domain,
            Self::Local(_) => 0,
        }
    }
}

/// A part of the hypervisor that has watches of its own: [`Store::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Local(u32);

/// An event of a watch of the hypervisor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The node that changed, or the watched path.
    pub path: String,
    /// The mark that the watch was registered with.
    pub token: Vec<u8>,
}

/// The state of a peer.
#[derive(Debug, Default)]
struct Client {
    transactions: BTreeMap<u32, Transaction>,
    last_transaction: u32,
    watches: usize,
    outbox: Outbox,
}

/// XenStore.
#[derive(Debug)]
pub struct Store {
    nodes: Nodes,
    watches: Watches,
    clients: BTreeMap<Peer, Client>,
    ready: BTreeSet<Peer>,
    last_local: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Quotas::default())
    }
}

impl Store {
    /// A store that holds what xenstored begins with, and gives each guest as much.
    pub fn new(quotas: Quotas) -> Self {
        Self {
            nodes: Nodes::new(quotas),
            watches: Watches::default(),
            clients: BTreeMap::new(),
            ready: BTreeSet::new(),
            last_local: 0,
        }
    }

    /// Makes a guest known, so that it may connect, and tells watches of `@introduceDomain`.
    pub fn introduce(&mut self, domain: DomId) {
        self.clients.entry(Peer::Ring(domain)).or_default();
        self.fire_special("@introduceDomain");
    }

    /// True if the guest is known, and its connection has not died.
    pub fn is_introduced(&self, domain: DomId) -> bool {
        self.clients.contains_key(&Peer::Ring(domain))
    }

    /// Forgets a guest that is gone: its connection, the nodes that belong to it with all below,
    /// and its place in the permissions of others. Tells watches, also of `@releaseDomain`.
    pub fn release(&mut self, domain: DomId) {
        self.disconnect(Peer::Ring(domain));
        for root in self.nodes.owned_roots(domain) {
            // The store's own nodes are domain 0's, so that each of these has a parent.
            let _ = self.rm(&root);
        }
        self.nodes.forget_permissions(domain);
        self.fire_special("@releaseDomain");
    }

    /// The share that a domain has.
    pub fn usage(&self, domain: DomId) -> Usage {
        self.nodes.usage(domain)
    }

    /// A peer for which something waits that has come since it was last asked for it: a guest
    /// whose [`Connection`] is to be served, or a part of the hypervisor that has events.
    pub fn take_ready(&mut self) -> Option<Peer> {
        self.ready.pop_first()
    }

    /// A new part of the hypervisor that watches.
    pub fn open(&mut self) -> Local {
        self.last_local += 1;
        let local = Local(self.last_local);
        self.clients.insert(Peer::Local(local), Client::default());
        local
    }

    /// Ends it, with its watches.
    pub fn close(&mut self, local: Local) {
        self.disconnect(Peer::Local(local));
    }

    /// Watches a node and all below. The first event comes at once, and has the path itself.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Exists`].
    pub fn watch(&mut self, local: Local, path: &str, token: &[u8]) -> Result<(), Error> {
        let id = self.add_watch(Peer::Local(local), path.as_bytes(), token)?;
        self.fire_first(id);
        Ok(())
    }

    /// Ends a watch. Its events that still wait do not come any more.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn unwatch(&mut self, local: Local, path: &str, token: &[u8]) -> Result<(), Error> {
        self.remove_watch(Peer::Local(local), path.as_bytes(), token)
    }

    /// The next event of one's watches.
    pub fn next_event(&mut self, local: Local) -> Option<WatchEvent> {
        let peer = Peer::Local(local);
        while let Some(outgoing) = self.pop(peer) {
            if let Outgoing::Event(event) = outgoing
                && let Some(watch) = self.watches.get(event.watch)
            {
                let path = watch.shown(&event.path).to_string();
                return Some(WatchEvent { path, token: watch.token.clone() });
            }
        }
        None
    }

    /// The value of a node.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`].
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        Ok(self.node(path)?.value.clone())
    }

    /// Writes a value; the node, and those above, are created as needed.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), Error> {
        self.change(path, |view| view.write(path, value))
    }

    /// Creates an empty node, if there is none.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn mkdir(&mut self, path: &str) -> Result<(), Error> {
        self.change(path, |view| view.mkdir(path))
    }

    /// Removes a node and all below. One that is not there counts as removed, if its parent is.
    ///
    /// # Errors
    /// [`Error::Invalid`], also for the root; [`Error::NotFound`].
    pub fn rm(&mut self, path: &str) -> Result<(), Error> {
        self.change(path, |view| view.rm(path))
    }

    /// The names of the nodes below, in the order of their creation.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`].
    pub fn list(&self, path: &str) -> Result<Vec<String>, Error> {
        Ok(self.node(path)?.child_names().map(String::from).collect())
    }

    /// The permissions of a node.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`].
    pub fn permissions(&self, path: &str) -> Result<Permissions, Error> {
        Ok(self.node(path)?.permissions.clone())
    }

    /// Sets the permissions of a node.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`].
    pub fn set_permissions(&mut self, path: &str, permissions: Permissions) -> Result<(), Error> {
        self.change(path, |view| view.set_permissions(path, permissions))
    }

    /// Looks whether the tree is one, and what each domain has is what is counted.
    ///
    /// # Panics
    /// If not.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn check(&self) {
        let mut found = self.nodes.check();
        for id in self.clients.keys().flat_map(|&peer| self.watches.of(peer)) {
            let watch = self.watches.get(id).unwrap();
            found.entry(watch.peer.domain()).or_default().memory_bytes += watch.memory_bytes();
        }
        for (peer, client) in &self.clients {
            let usage = found.entry(peer.domain()).or_default();
            usage.memory_bytes += client.outbox.event_bytes();
            let transactions = client.transactions.values();
            usage.memory_bytes += transactions.map(Transaction::charged_bytes).sum::<usize>();
            assert_eq!(client.watches, self.watches.of(*peer).len());
        }
        for (domain, usage) in found {
            assert_eq!(self.usage(domain), usage, "domain {domain}");
        }
    }

    fn node(&self, path: &str) -> Result<&node::Node, Error> {
        path::check(0, path)?;
        self.nodes.get(path).map(|node| &**node).ok_or(Error::NotFound)
    }

    /// An operation of domain 0's, and its events.
    fn change(
        &mut self,
        path: &str,
        operation: impl FnOnce(&mut View) -> Result<(), Error>,
    ) -> Result<(), Error> {
        path::check(0, path)?;
        let mut view = View::new(0, &mut self.nodes, None);
        let result = operation(&mut view);
        let changes = view.changes;
        self.fire(changes);
        result
    }

    fn add_watch(&mut self, peer: Peer, path: &[u8], token: &[u8]) -> Result<WatchId, Error> {
        let domain = peer.domain();
        let is_relative = !path.starts_with(b"/") && !path.starts_with(b"@");
        let path = path::complete(domain, path)?;
        if !path::is_special(&path) {
            path::check(domain, &path)?;
        } else if path.len() > path::MAX_RELATIVE_BYTES {
            return Err(Error::Invalid);
        }
        if self.watches.find(peer, &path, token).is_some() {
            return Err(Error::Exists);
        }
        let client = self.clients.get_mut(&peer).ok_or(Error::NotFound)?;
        if domain != 0 && client.watches > self.nodes.quotas.watches {
            return Err(Error::TooBig);
        }
        let watch = Watch::new(peer, path, token.to_vec(), is_relative);
        if !self.nodes.has_memory(domain, watch.memory_bytes()) {
            return Err(Error::NoMemory);
        }
        client.watches += 1;
        self.nodes.charge(domain, watch.memory_bytes());
        Ok(self.watches.add(watch))
    }

    fn remove_watch(&mut self, peer: Peer, path: &[u8], token: &[u8]) -> Result<(), Error> {
        let path = path::complete(peer.domain(), path)?;
        let id = self.watches.find(peer, &path, token).ok_or(Error::NotFound)?;
        self.drop_watch(id);
        Ok(())
    }

    fn drop_watch(&mut self, id: WatchId) {
        let Some(watch) = self.watches.remove(id) else { return };
        self.nodes.release(watch.peer.domain(), watch.memory_bytes());
        if let Some(client) = self.clients.get_mut(&watch.peer) {
            client.watches -= 1;
        }
    }

    /// Drops the watches and transactions of a peer.
    fn reset_watches(&mut self, peer: Peer) {
        for id in self.watches.of(peer) {
            self.drop_watch(id);
        }
        let Some(client) = self.clients.get_mut(&peer) else { return };
        for transaction in core::mem::take(&mut client.transactions).into_values() {
            transaction.release(peer.domain(), &mut self.nodes);
        }
    }

    /// Drops all that is kept of a peer, but for nodes.
    fn disconnect(&mut self, peer: Peer) {
        self.reset_watches(peer);
        if let Some(client) = self.clients.remove(&peer) {
            self.nodes.release(peer.domain(), client.outbox.event_bytes());
        }
        self.ready.remove(&peer);
    }

    fn fire(&mut self, changes: Vec<Change>) {
        for change in changes {
            let ids = self.watches.concerned(&change);
            if !ids.is_empty() {
                self.send_events(&ids, &change.path);
            }
        }
    }

    fn fire_special(&mut self, name: &str) {
        let ids = self.watches.of_special(name);
        self.send_events(&ids, name);
    }

    /// The event that a watch begins with, whether its node is there or not.
    fn fire_first(&mut self, id: WatchId) {
        if let Some(path) = self.watches.get(id).map(|watch| watch.path.clone()) {
            self.send_events(&[id], &path);
        }
    }

    fn send_events(&mut self, ids: &[WatchId], path: &str) {
        let path: Arc<str> = path.into();
        for &watch in ids {
            let Some(peer) = self.watches.get(watch).map(|watch| watch.peer) else { continue };
            let Some(client) = self.clients.get_mut(&peer) else { continue };
            let event = Event { watch, path: Arc::clone(&path) };
            let bytes = event.memory_bytes();
            let has_room = match peer {
                Peer::Ring(domain) => self.nodes.has_memory(domain, bytes),
                Peer::Local(_) => client.outbox.event_bytes() + bytes <= MAX_LOCAL_EVENT_BYTES,
            };
            if has_room && !client.outbox.has(&event) {
                self.nodes.charge(peer.domain(), bytes);
                client.outbox.push_event(event);
                self.ready.insert(peer);
            }
        }
    }

    /// Takes what is to be sent first.
    fn pop(&mut self, peer: Peer) -> Option<Outgoing> {
        let client = self.clients.get_mut(&peer)?;
        let Some(outgoing) = client.outbox.pop() else {
            self.ready.remove(&peer);
            return None;
        };
        if let Outgoing::Event(event) = &outgoing {
            self.nodes.release(peer.domain(), event.memory_bytes());
        }
        Some(outgoing)
    }
}
