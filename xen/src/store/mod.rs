//! XenStore: the tree of settings that guests and back ends share.

/// The longest payload of a message, either way (xs_wire.h, `XENSTORE_PAYLOAD_MAX`).
pub const MAX_PAYLOAD_BYTES: usize = 4096;
