//! Devices of the Virtual I/O Device (VIRTIO) specification, version 1.2, on PCI.

mod block;
mod ring;
mod transport;

pub(crate) use block::{is_block, start};
