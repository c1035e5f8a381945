//! Which device answers which port and which memory. Where none does, reads give all ones.

mod mmio;
mod ports;

pub use mmio::MmioBus;
pub use ports::PortBus;
