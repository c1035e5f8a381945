//! Which device answers which port and which memory. What nobody answers reads all ones.

mod mmio;
mod ports;

pub use mmio::MmioBus;
pub use ports::PortBus;
