//! The tree as a caller sees it: with its rights, inside a transaction or not.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::node::Node;
use super::nodes::Nodes;
use super::permissions::{Permissions, Rights};
use super::transaction::Transaction;
use super::watch::Change;
use super::{DomId, Error, path};

/// Operations on nodes. Paths are absolute and valid.
pub(super) struct View<'a> {
    domain: DomId,
    nodes: &'a mut Nodes,
    transaction: Option<&'a mut Transaction>,
    /// Changes that watches are to hear of; none inside a transaction, which tells them at its end.
    pub changes: Vec<Change>,
}

impl<'a> View<'a> {
    pub fn new(
        domain: DomId,
        nodes: &'a mut Nodes,
        transaction: Option<&'a mut Transaction>,
    ) -> Self {
        Self { domain, nodes, transaction, changes: vec![] }
    }

    /// The node at `path`, if the caller has these rights.
    ///
    /// # Errors
    /// [`Error::Access`] if it has not; [`Error::NotFound`] if there is none, and the caller has
    /// the rights at what is there of the nodes above.
    pub fn get(&mut self, path: &str, rights: Rights) -> Result<Arc<Node>, Error> {
        if let Some(node) = self.load(path)? {
            let is_allowed = node.permissions.rights(self.domain).contains(rights);
            return if is_allowed { Ok(node) } else { Err(Error::Access) };
        }
        let (_, ancestor) = self.ancestor(path)?;
        let is_allowed = ancestor.permissions.rights(self.domain).intersects(rights);
        Err(if is_allowed { Error::NotFound } else { Error::Access })
    }

    /// Writes a value, and creates the node and those above as needed.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::NoSpace`], [`Error::NoMemory`].
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), Error> {
        match self.get(path, Rights::WRITE) {
            Ok(before) => {
                let mut node = Node::clone(&before);
                node.value = value.to_vec();
                self.check_size(&node)?;
                let added = value.len().saturating_sub(before.value.len());
                self.check_memory(before.permissions.owner(), added)?;
                self.save(path, Some(node))?;
            }
            Err(Error::NotFound) => self.create(path, value)?,
            Err(error) => return Err(error),
        }
        self.note(path, false, None)
    }

    /// Creates an empty node, if there is none.
    ///
    /// # Errors
    /// As [`View::write`].
    pub fn mkdir(&mut self, path: &str) -> Result<(), Error> {
        match self.get(path, Rights::WRITE) {
            Err(Error::NotFound) => {
                self.create(path, &[])?;
                self.note(path, false, None)
            }
            other => other.map(|_| ()),
        }
    }

    /// Takes a node away, and all below.
    ///
    /// # Errors
    /// [`Error::Access`]; [`Error::NotFound`] if not even its parent is there;
    /// [`Error::Invalid`] for the root.
    pub fn rm(&mut self, path: &str) -> Result<(), Error> {
        match self.get(path, Rights::WRITE) {
            Ok(_) => {}
            Err(Error::NotFound) => {
                let parent = path::parent(path).ok_or(Error::Invalid)?;
                return self.load(parent)?.map(|_| ()).ok_or(Error::NotFound);
            }
            Err(error) => return Err(error),
        }
        let parent = path::parent(path).ok_or(Error::Invalid)?;
        for below in self.walk(path)?.iter().rev() {
            self.note(below, below != path, None)?;
            self.save(below, None)?;
        }
        if let Some(node) = self.load(parent)? {
            let mut node = Node::clone(&node);
            node.remove_child(path::base(path));
            self.save(parent, Some(node))?;
        }
        Ok(())
    }

    /// Sets permissions.
    ///
    /// # Errors
    /// [`Error::Access`] for others than the owner, [`Error::NotPermitted`] if a guest gives its
    /// node away, [`Error::NoSpace`], [`Error::NoMemory`].
    pub fn set_permissions(&mut self, path: &str, permissions: Permissions) -> Result<(), Error> {
        if self.domain != 0 && permissions.count() > self.nodes.quotas.permissions {
            return Err(Error::NoSpace);
        }
        let before = self.get(path, Rights::WRITE | Rights::OWNER)?;
        if self.domain != 0 && permissions.owner() != before.permissions.owner() {
            return Err(Error::NotPermitted);
        }
        let mut node = Node::clone(&before);
        node.permissions = permissions;
        self.check_size(&node)?;
        let added = node.size_bytes().saturating_sub(before.size_bytes());
        self.check_memory(node.permissions.owner(), added)?;
        self.save(path, Some(node))?;
        self.note(path, false, Some(before))
    }

    /// A node and all below, each after the one that lists it.
    fn walk(&mut self, root: &str) -> Result<Vec<String>, Error> {
        let mut paths = vec![root.to_string()];
        let mut next = 0;
        while let Some(path) = paths.get(next).cloned() {
            if let Some(node) = self.load(&path)? {
                paths.extend(node.child_names().map(|name| path::join(&path, name)));
            }
            next += 1;
        }
        Ok(paths)
    }

    /// The nearest node above `path` that is there.
    fn ancestor(&mut self, path: &str) -> Result<(String, Arc<Node>), Error> {
        let mut path = path;
        while let Some(parent) = path::parent(path) {
            if let Some(node) = self.load(parent)? {
                return Ok((parent.to_string(), node));
            }
            path = parent;
        }
        // There is always a root.
        Err(Error::NotFound)
    }

    /// Creates a node that is not there, and those above. All quotas are looked at before the
    /// first is made.
    fn create(&mut self, path: &str, value: &[u8]) -> Result<(), Error> {
        let (top, ancestor) = self.ancestor(path)?;
        let permissions = ancestor.permissions.inherited(self.domain);
        let mut missing = vec![];
        let mut current = path;
        while current != top {
            missing.push(current);
            current = path::parent(current).ok_or(Error::Invalid)?;
        }
        self.check_nodes(missing.len())?;
        let mut added = vec![];
        for (index, &path) in missing.iter().enumerate() {
            let mut node = Node::new(permissions.clone(), vec![]);
            match index.checked_sub(1) {
                None => node.value = value.to_vec(),
                Some(below) => node.add_child(path::base(missing[below])),
            }
            self.check_size(&node)?;
            added.push((path, node));
        }
        let mut listing = Node::clone(&ancestor);
        if let Some(child) = missing.last() {
            listing.add_child(path::base(child));
        }
        self.check_size(&listing)?;
        let (owner, lister) = (permissions.owner(), ancestor.permissions.owner());
        let listed_bytes = listing.size_bytes() - ancestor.size_bytes();
        let added_bytes: usize = added.iter().map(|(path, node)| node.memory_bytes(path)).sum();
        self.check_memory(lister, listed_bytes)?;
        self.check_memory(owner, added_bytes + if owner == lister { listed_bytes } else { 0 })?;
        for (path, node) in added {
            self.save(path, Some(node))?;
        }
        self.save(&top, Some(listing))
    }

    fn load(&mut self, path: &str) -> Result<Option<Arc<Node>>, Error> {
        match &mut self.transaction {
            Some(transaction) => transaction.load(self.domain, self.nodes, path),
            None => Ok(self.nodes.get(path).cloned()),
        }
    }

    fn save(&mut self, path: &str, node: Option<Node>) -> Result<(), Error> {
        match (&mut self.transaction, node) {
            (Some(transaction), node) => transaction.save(self.domain, self.nodes, path, node)?,
            (None, Some(node)) => self.nodes.put(path, node),
            (None, None) => self.nodes.remove(path),
        }
        Ok(())
    }

    /// Tells of a change to the node that is now at `path`.
    fn note(&mut self, path: &str, is_exact: bool, before: Option<Arc<Node>>) -> Result<(), Error> {
        if let Some(transaction) = &mut self.transaction {
            transaction.note_event(path, is_exact);
            return Ok(());
        }
        let parent = path::parent(path).and_then(|parent| self.nodes.get(parent)).cloned();
        let seen = [before, self.nodes.get(path).cloned(), parent];
        self.changes.push(Change::new(path.to_string(), is_exact, seen));
        Ok(())
    }

    fn check_nodes(&self, added: usize) -> Result<(), Error> {
        let nodes = self.nodes.usage(self.domain).nodes;
        let nodes = self.transaction.as_ref().map_or(nodes, |it| it.nodes_with(nodes));
        let is_too_many = self.domain != 0 && nodes + added > self.nodes.quotas.nodes;
        if is_too_many { Err(Error::NoSpace) } else { Ok(()) }
    }

    fn check_size(&self, node: &Node) -> Result<(), Error> {
        let is_too_big = self.domain != 0 && node.size_bytes() >= self.nodes.quotas.node_bytes;
        if is_too_big { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// Looks whether a node may grow, at the cost of its owner: it may have let others write.
    fn check_memory(&self, owner: DomId, bytes: usize) -> Result<(), Error> {
        let is_allowed = self.domain == 0 || self.nodes.has_memory(owner, bytes);
        if is_allowed { Ok(()) } else { Err(Error::NoMemory) }
    }
}
