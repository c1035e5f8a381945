//! NVMe controllers (NVM Express Base Specification 2.0, NVM Command Set Specification 1.0, NVMe
//! over PCIe Transport Specification 1.0).

mod controller;
mod identify;
mod queue;
#[cfg(test)]
mod tests;

pub(crate) use controller::{is_nvme, start};
