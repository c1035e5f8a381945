//! The tree: nodes by their paths, and what each domain's cost.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::node::Node;
use super::permissions::{Permission, Permissions};
use super::quota::Quotas;
use super::{DomId, path};

/// A domain's share of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nodes that belong to it.
    pub nodes: usize,
    /// Memory for its nodes, watches, transactions and waiting events, in bytes.
    pub memory_bytes: usize,
}

/// All nodes that there are, outside of transactions.
#[derive(Debug)]
pub(super) struct Nodes {
    by_path: BTreeMap<String, Arc<Node>>,
    usage: BTreeMap<DomId, Usage>,
    generation: u64,
    pub quotas: Quotas,
}

impl Nodes {
    /// The tree as xenstored begins it.
    pub fn new(quotas: Quotas) -> Self {
        let mut nodes =
            Self { by_path: BTreeMap::new(), usage: BTreeMap::new(), generation: 1, quotas };
        for (path, child) in [("/", "tool"), ("/tool", "xenstored"), ("/tool/xenstored", "")] {
            let mut node = Node::new(Permissions::new(Permission::none(0), &[]), vec![]);
            if !child.is_empty() {
                node.add_child(child);
            }
            nodes.put(path, node);
        }
        nodes
    }

    pub fn get(&self, path: &str) -> Option<&Arc<Node>> {
        self.by_path.get(path)
    }

    /// The generation of a node, for comparison; none if there is no such node.
    pub fn generation(&self, path: &str) -> Option<u64> {
        self.get(path).map(|node| node.generation)
    }

    /// A generation that nothing has had.
    pub fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Puts a node in its place, and counts it for its owner.
    pub fn put(&mut self, path: &str, mut node: Node) {
        node.generation = self.next_generation();
        self.remove(path);
        let usage = self.usage.entry(node.permissions.owner()).or_default();
        usage.nodes += 1;
        usage.memory_bytes += node.memory_bytes(path);
        self.by_path.insert(path.to_string(), Arc::new(node));
    }

    /// Takes a node away. Its parent still lists it.
    pub fn remove(&mut self, path: &str) {
        if let Some(node) = self.by_path.remove(path)
            && let Some(usage) = self.usage.get_mut(&node.permissions.owner())
        {
            usage.nodes -= 1;
            usage.memory_bytes -= node.memory_bytes(path);
        }
    }

    pub fn usage(&self, domain: DomId) -> Usage {
        self.usage.get(&domain).copied().unwrap_or_default()
    }

    /// Counts memory that is no node's.
    pub fn charge(&mut self, domain: DomId, bytes: usize) {
        self.usage.entry(domain).or_default().memory_bytes += bytes;
    }

    /// The reverse of [`Nodes::charge`].
    pub fn release(&mut self, domain: DomId, bytes: usize) {
        if let Some(usage) = self.usage.get_mut(&domain) {
            usage.memory_bytes -= bytes;
        }
    }

    /// True if `domain` may take as much memory more.
    pub fn has_memory(&self, domain: DomId, bytes: usize) -> bool {
        domain == 0 || self.usage(domain).memory_bytes + bytes <= self.quotas.memory_bytes
    }

    /// The topmost nodes that belong to a domain: no node above is its own as well.
    pub fn owned_roots(&self, domain: DomId) -> Vec<String> {
        let is_owned = |node: &Arc<Node>| node.permissions.owner() == domain;
        let is_root = |path: &str| {
            let parent = path::parent(path).and_then(|parent| self.get(parent));
            !parent.is_some_and(is_owned)
        };
        let owned = self.by_path.iter().filter(|(path, node)| is_owned(node) && is_root(path));
        owned.map(|(path, _)| path.clone()).collect()
    }

    /// Takes a domain that is gone out of the permissions of all nodes.
    pub fn forget_permissions(&mut self, domain: DomId) {
        let is_named = |node: &Arc<Node>| node.permissions.entries().any(|it| it.domain == domain);
        let named = self.by_path.iter().filter(|(_, node)| is_named(node));
        let paths: Vec<String> = named.map(|(path, _)| path.clone()).collect();
        for path in paths {
            let mut node = Node::clone(&self.by_path[&path]);
            node.permissions.forget(domain);
            self.put(&path, node);
        }
    }

    /// Looks whether each node but the root is listed by its parent, once, and nothing else is.
    /// Returns what each domain's nodes cost.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn check(&self) -> BTreeMap<DomId, Usage> {
        use alloc::collections::BTreeSet;
        let mut found: BTreeMap<DomId, Usage> = BTreeMap::new();
        let mut listed = 0;
        for (path, node) in &self.by_path {
            let usage = found.entry(node.permissions.owner()).or_default();
            usage.nodes += 1;
            usage.memory_bytes += node.memory_bytes(path);
            let names: BTreeSet<_> = node.child_names().collect();
            assert_eq!(names.len(), node.child_names().count(), "{path}");
            assert!(names.iter().all(|name| self.get(&path::join(path, name)).is_some()), "{path}");
            listed += names.len();
        }
        assert_eq!(listed + 1, self.by_path.len());
        found
    }
}
