//! Watches, and the changes that they tell of.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::node::Node;
use super::permissions::Rights;
use super::{DomId, Peer, path};

/// A watch's number. Later watches have higher ones.
pub(super) type WatchId = u64;

/// Memory of a watch beside its path and token, about.
const OVERHEAD_BYTES: usize = 192;

/// A node that was changed, created or removed.
#[derive(Debug)]
pub(super) struct Change {
    pub path: String,
    /// Removed together with a node above: only watches of this very path hear of it.
    is_exact: bool,
    /// The node before and after, and its parent: who may read one of them may hear of it.
    seen: [Option<Arc<Node>>; 3],
}

impl Change {
    pub fn new(path: String, is_exact: bool, seen: [Option<Arc<Node>>; 3]) -> Self {
        Self { path, is_exact, seen }
    }

    fn is_visible_to(&self, domain: DomId) -> bool {
        let may_read = |node: &Arc<Node>| node.permissions.rights(domain).contains(Rights::READ);
        self.seen.iter().flatten().any(may_read)
    }
}

/// A watch.
#[derive(Debug)]
pub(super) struct Watch {
    pub peer: Peer,
    pub path: String,
    pub token: Vec<u8>,
    /// Length of what its owner left out of the path, and does not see in events.
    hidden_bytes: usize,
}

impl Watch {
    /// A watch of `path`, which was given relative to its owner's directory or not.
    pub fn new(peer: Peer, path: String, token: Vec<u8>, is_relative: bool) -> Self {
        let hidden_bytes = if is_relative { path::home(peer.domain()).len() + 1 } else { 0 };
        Self { peer, path, token, hidden_bytes }
    }

    /// A path as the owner of the watch calls it.
    pub fn shown<'a>(&self, path: &'a str) -> &'a str {
        path.get(self.hidden_bytes..).unwrap_or("")
    }

    /// True if `change` is at or below its path.
    fn is_of(&self, change: &Change) -> bool {
        let rest = change.path.strip_prefix(&self.path);
        rest.is_some_and(|rest| {
            let is_below = self.path == "/" || rest.starts_with('/');
            rest.is_empty() || (is_below && !change.is_exact)
        })
    }

    pub fn memory_bytes(&self) -> usize {
        self.path.len() + self.token.len() + OVERHEAD_BYTES
    }
}

/// All watches.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_id: BTreeMap<WatchId, Watch>,
    last_id: WatchId,
}

impl Watches {
    pub fn get(&self, id: WatchId) -> Option<&Watch> {
        self.by_id.get(&id)
    }

    /// The watch of a peer with this path and token.
    pub fn find(&self, peer: Peer, path: &str, token: &[u8]) -> Option<WatchId> {
        let is_it =
            |watch: &Watch| watch.peer == peer && watch.token == token && watch.path == path;
        self.by_id.iter().find(|(_, watch)| is_it(watch)).map(|(&id, _)| id)
    }

    /// The watches of a peer.
    pub fn of(&self, peer: Peer) -> Vec<WatchId> {
        self.filtered(|watch| watch.peer == peer)
    }

    pub fn add(&mut self, watch: Watch) -> WatchId {
        self.last_id += 1;
        self.by_id.insert(self.last_id, watch);
        self.last_id
    }

    pub fn remove(&mut self, id: WatchId) -> Option<Watch> {
        self.by_id.remove(&id)
    }

    /// The watches that are to tell of a change, in the order in which they were registered.
    ///
    /// All are looked at: there are some hundred, while a path may have a thousand names in it.
    pub fn concerned(&self, change: &Change) -> Vec<WatchId> {
        self.filtered(|watch| watch.is_of(change) && change.is_visible_to(watch.peer.domain()))
    }

    /// The watches of something that is no node.
    pub fn of_special(&self, name: &str) -> Vec<WatchId> {
        self.filtered(|watch| watch.path == name && watch.peer.domain() == 0)
    }

    fn filtered(&self, is_wanted: impl Fn(&Watch) -> bool) -> Vec<WatchId> {
        let wanted = self.by_id.iter().filter(|(_, watch)| is_wanted(watch));
        wanted.map(|(&id, _)| id).collect()
    }
}
