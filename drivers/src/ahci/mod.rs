//! SATA disks behind AHCI controllers (Serial ATA AHCI 1.3.1; ATA/ATAPI Command Set 3).

mod controller;
mod identify;
mod port;
#[cfg(test)]
mod tests;

pub(crate) use controller::{is_ahci, start};
