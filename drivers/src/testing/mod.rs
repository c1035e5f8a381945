//! A machine that is a program, with devices that are: for tests.

mod ahci;
mod bench;
mod machine;
mod nvme;
mod virtio;

pub use ahci::FakeAhci;
pub use bench::{Bench, Keeper};
pub use machine::{FakeFunction, FakeMachine};
pub use nvme::FakeNvme;
pub use virtio::{FakeBlock, Options};
