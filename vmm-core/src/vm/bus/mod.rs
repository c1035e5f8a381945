//! Which device answers which port and which memory. Where none does, reads give all ones.

mod lock;
mod mmio;
mod ports;

pub use lock::{BusLock, BusUse};
pub use mmio::MmioBus;
pub use ports::PortBus;
