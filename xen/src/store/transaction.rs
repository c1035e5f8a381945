//! Transactions: what a connection has read and changed, to be compared and applied at its end.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::node::{Node, OVERHEAD_BYTES};
use super::nodes::Nodes;
use super::watch::Change;
use super::{DomId, Error, path};

/// A node that a transaction has touched.
#[derive(Debug)]
struct Touched {
    /// Its generation at first sight, none if it was not there: another one at the end is a
    /// conflict.
    generation: Option<u64>,
    /// As the transaction sees it.
    node: Option<Arc<Node>>,
    is_modified: bool,
    /// The event at the end; `true` for watches of exactly this path.
    event: Option<bool>,
}

/// A transaction of a guest's: domain 0 begins none.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    touched: BTreeMap<String, Touched>,
    /// Nodes more, or fewer, of the domain that began it.
    added_nodes: isize,
    charged_bytes: usize,
    /// It met a quota, and cannot be committed.
    has_failed: bool,
}

impl Transaction {
    /// Nodes that the domain will have, having `nodes` without the transaction.
    pub fn nodes_with(&self, nodes: usize) -> usize {
        nodes.saturating_add_signed(self.added_nodes)
    }

    /// The node as the transaction sees it, which is from now on in it.
    ///
    /// # Errors
    /// [`Error::NoSpace`] or [`Error::NoMemory`] if too many are; then the transaction fails.
    pub fn load(
        &mut self,
        domain: DomId,
        nodes: &mut Nodes,
        path: &str,
    ) -> Result<Option<Arc<Node>>, Error> {
        if let Some(touched) = self.touched.get(path) {
            return Ok(touched.node.clone());
        }
        if self.touched.len() >= nodes.quotas.transaction_nodes {
            self.has_failed = true;
            return Err(Error::NoSpace);
        }
        let node = nodes.get(path).cloned();
        let size = node.as_ref().map_or(0, |node| node.size_bytes());
        self.charge(domain, nodes, path.len() + size + OVERHEAD_BYTES)?;
        let generation = nodes.generation(path);
        let touched = Touched { generation, node: node.clone(), is_modified: false, event: None };
        self.touched.insert(path.to_string(), touched);
        Ok(node)
    }

    /// Changes a node, or takes it away.
    ///
    /// # Errors
    /// As [`Transaction::load`].
    pub fn save(
        &mut self,
        domain: DomId,
        nodes: &mut Nodes,
        path: &str,
        node: Option<Node>,
    ) -> Result<(), Error> {
        let before = self.load(domain, nodes, path)?;
        let size = |node: Option<&Node>| node.map_or(0, Node::size_bytes);
        let (old_bytes, new_bytes) = (size(before.as_deref()), size(node.as_ref()));
        self.charge(domain, nodes, new_bytes.saturating_sub(old_bytes))?;
        let owned = |node: Option<&Node>| {
            isize::from(node.is_some_and(|node| node.permissions.owner() == domain))
        };
        self.added_nodes += owned(node.as_ref()) - owned(before.as_deref());
        if let Some(touched) = self.touched.get_mut(path) {
            touched.is_modified = true;
            touched.node = node.map(|mut node| {
                node.generation = nodes.next_generation();
                Arc::new(node)
            });
        }
        Ok(())
    }

    /// Asks for an event at the end.
    pub fn note_event(&mut self, path: &str, is_exact: bool) {
        if let Some(touched) = self.touched.get_mut(path) {
            touched.event = Some(is_exact);
        }
    }

    /// Applies it as a whole, and returns the events, or not at all. Its own memory has been given
    /// back ([`Transaction::release`]).
    ///
    /// # Errors
    /// [`Error::Again`] after a conflict, [`Error::NoMemory`] and [`Error::NoSpace`] over quotas.
    pub fn commit(self, domain: DomId, nodes: &mut Nodes) -> Result<Vec<Change>, Error> {
        if self.has_failed {
            return Err(Error::NoMemory);
        }
        let is_current =
            |(path, touched): (&String, &Touched)| nodes.generation(path) == touched.generation;
        if !self.touched.iter().all(is_current) {
            return Err(Error::Again);
        }
        self.check_quotas(domain, nodes)?;
        let mut changes = vec![];
        for (path, touched) in &self.touched {
            let Some(is_exact) = touched.event else { continue };
            let parent = path::parent(path).unwrap_or(path);
            let parent_before = nodes.get(parent).cloned();
            let parent_now = self.touched.get(parent).and_then(|parent| parent.node.clone());
            let (before, now) = (nodes.get(path).cloned(), touched.node.clone());
            let seen = [before, now, parent_now.or(parent_before)];
            changes.push(Change::new(path.clone(), is_exact, seen));
        }
        for (path, touched) in self.touched.into_iter().filter(|(_, node)| node.is_modified) {
            match touched.node {
                Some(node) => nodes.put(&path, Arc::unwrap_or_clone(node)),
                None => nodes.remove(&path),
            }
        }
        Ok(changes)
    }

    /// The memory that its domain is charged for it.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn charged_bytes(&self) -> usize {
        self.charged_bytes
    }

    /// Gives its memory back. To be called at its end, however it ends.
    pub fn release(&self, domain: DomId, nodes: &mut Nodes) {
        nodes.release(domain, self.charged_bytes);
    }

    fn charge(&mut self, domain: DomId, nodes: &mut Nodes, bytes: usize) -> Result<(), Error> {
        if !nodes.has_memory(domain, bytes) {
            self.has_failed = true;
            return Err(Error::NoMemory);
        }
        nodes.charge(domain, bytes);
        self.charged_bytes += bytes;
        Ok(())
    }

    /// Looks whether the domain may have the nodes that the transaction makes, and each owner of
    /// some the memory. Other transactions may have made nodes since this one counted them.
    fn check_quotas(&self, domain: DomId, nodes: &Nodes) -> Result<(), Error> {
        let usage = nodes.usage(domain);
        if self.added_nodes > 0 && self.nodes_with(usage.nodes) > nodes.quotas.nodes {
            return Err(Error::NoSpace);
        }
        let mut bytes: BTreeMap<DomId, (usize, usize)> = BTreeMap::new();
        for (path, touched) in self.touched.iter().filter(|(_, touched)| touched.is_modified) {
            if let Some(old) = nodes.get(path) {
                bytes.entry(old.permissions.owner()).or_default().0 += old.memory_bytes(path);
            }
            if let Some(new) = &touched.node {
                bytes.entry(new.permissions.owner()).or_default().1 += new.memory_bytes(path);
            }
        }
        let may_have = |(&owner, &(old, new)): (&DomId, &(usize, usize))| {
            nodes.has_memory(owner, usize::saturating_sub(new, old))
        };
        if bytes.iter().all(may_have) { Ok(()) } else { Err(Error::NoMemory) }
    }
}
