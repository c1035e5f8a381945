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

    pub fn memory_bytes(&self) -> usize {
        2 * self.path.len() + self.token.len() + OVERHEAD_BYTES
    }
}

/// All watches.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_id: BTreeMap<WatchId, Watch>,
    by_path: BTreeMap<String, Vec<WatchId>>,
    last_id: WatchId,
}

impl Watches {
    pub fn get(&self, id: WatchId) -> Option<&Watch> {
        self.by_id.get(&id)
    }

    /// The watch of a peer with this path and token.
    pub fn find(&self, peer: Peer, path: &str, token: &[u8]) -> Option<WatchId> {
        let ids = self.by_path.get(path)?;
        let is_it = |watch: &Watch| watch.peer == peer && watch.token == token;
        ids.iter().copied().find(|id| self.by_id.get(id).is_some_and(is_it))
    }

    /// The watches of a peer.
    pub fn of(&self, peer: Peer) -> Vec<WatchId> {
        let own = self.by_id.iter().filter(|(_, watch)| watch.peer == peer);
        own.map(|(&id, _)| id).collect()
    }

    pub fn add(&mut self, watch: Watch) -> WatchId {
        self.last_id += 1;
        self.by_path.entry(watch.path.clone()).or_default().push(self.last_id);
        self.by_id.insert(self.last_id, watch);
        self.last_id
    }

    pub fn remove(&mut self, id: WatchId) -> Option<Watch> {
        let watch = self.by_id.remove(&id)?;
        if let Some(ids) = self.by_path.get_mut(&watch.path) {
            ids.retain(|&other| other != id);
            if ids.is_empty() {
                self.by_path.remove(&watch.path);
            }
        }
        Some(watch)
    }

    /// The watches that are to tell of a change.
    pub fn concerned(&self, change: &Change) -> Vec<WatchId> {
        let mut concerned = Vec::new();
        let mut path = Some(change.path.as_str());
        while let Some(watched) = path {
            concerned.extend(self.by_path.get(watched).into_iter().flatten());
            path = path::parent(watched).filter(|_| !change.is_exact);
        }
        let is_visible = |id: &WatchId| {
            self.by_id.get(id).is_some_and(|watch| change.is_visible_to(watch.peer.domain()))
        };
        concerned.retain(is_visible);
        concerned
    }

    /// The watches of something that is no node.
    pub fn of_special(&self, name: &str) -> Vec<WatchId> {
        let is_privileged =
            |id: &WatchId| self.by_id.get(id).is_some_and(|watch| watch.peer.domain() == 0);
        let mut ids = self.by_path.get(name).cloned().unwrap_or_default();
        ids.retain(is_privileged);
        ids
    }
}
