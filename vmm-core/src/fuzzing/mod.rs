//! The functions of fuzz targets and of bounded property tests: each takes any bytes, makes of them
//! what a guest or a user could do, and panics if a promise is broken. The fuzz targets are in
//! `tests/fuzz`.

mod boot_disk;
mod config;
mod devices;
mod machine;
mod ram;
mod steps;
#[cfg(test)]
mod tests;

pub use crate::machine::fuzzing::pc_config;
pub use boot_disk::boot_disk;
pub use config::{command_line, xl_cfg};
pub use devices::devices;
#[cfg(test)]
pub(crate) use machine::{Hardware, Machine};
pub use ram::high_ram;
pub use steps::steps;
