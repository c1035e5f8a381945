//! A node: a value, the names of its children, and who may use it.

use alloc::vec::Vec;

use super::permissions::Permissions;

/// Size of a node's record in Xen's xenstored without permissions, value and children, which
/// counts for the quota of a node's size (`struct xs_tdb_record_hdr`).
const HEADER_BYTES: usize = 24;
/// The same of an entry of its permissions.
const PERMISSION_BYTES: usize = 8;
/// Memory that the tree's own bookkeeping takes for a node, about.
pub(super) const OVERHEAD_BYTES: usize = 128;

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Set anew from the store's count at each change.
    pub generation: u64,
    pub permissions: Permissions,
    pub value: Vec<u8>,
    /// The names in the order of their creation, each with a NUL, as DIRECTORY sends them.
    pub children: Vec<u8>,
}

impl Node {
    pub fn new(permissions: Permissions, value: Vec<u8>) -> Self {
        Self { generation: 0, permissions, value, children: Vec::new() }
    }

    /// Its size, as the quota counts it.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES
            + PERMISSION_BYTES * self.permissions.count()
            + self.value.len()
            + self.children.len()
    }

    /// The memory that it takes at `path`.
    pub fn memory_bytes(&self, path: &str) -> usize {
        path.len() + self.size_bytes() + OVERHEAD_BYTES
    }

    /// The names of its children.
    pub fn child_names(&self) -> impl Iterator<Item = &str> {
        let names = self.children.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        names.filter_map(|name| core::str::from_utf8(name).ok())
    }

    pub fn add_child(&mut self, name: &str) {
        self.children.extend_from_slice(name.as_bytes());
        self.children.push(0);
    }

    pub fn remove_child(&mut self, name: &str) {
        let mut kept = Vec::with_capacity(self.children.len());
        for other in self.child_names().filter(|&other| other != name) {
            kept.extend_from_slice(other.as_bytes());
            kept.push(0);
        }
        self.children = kept;
    }
}
