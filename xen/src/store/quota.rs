//! Quotas: what a guest may cost. Domain 0 has none.

/// The limits of one guest. The default is that of Xen 4.17's xenstored.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Nodes that belong to it.
    pub nodes: usize,
    /// A node's value, list of children and permissions, in bytes; it has to stay below.
    pub node_bytes: usize,
    /// Entries in a node's permissions.
    pub permissions: usize,
    /// Watches; Xen compares so that one more is granted.
    pub watches: usize,
    /// Transactions at once; again one more is granted.
    pub transactions: usize,
    /// Nodes that one transaction touches.
    pub transaction_nodes: usize,
    /// Replies that wait for room in the ring, before no request is taken any more.
    pub outstanding_requests: usize,
    /// Memory for its nodes, watches, transactions and events that wait, in bytes.
    pub memory_bytes: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            nodes: 1000,
            node_bytes: 2048,
            permissions: 5,
            watches: 128,
            transactions: 10,
            transaction_nodes: 1024,
            outstanding_requests: 20,
            memory_bytes: 5 << 19,
        }
    }
}
