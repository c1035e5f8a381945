//! What fuzzers drive, and bounded property tests too: each function takes any bytes, makes of them what a guest or a user
//! could do, and panics if a promise is broken. The fuzz targets are in `tests/fuzz`.

mod config;
mod devices;
mod machine;
#[cfg(test)]
mod tests;

pub use crate::console::fuzzing::{png, prompt, rpc};
pub use config::{command_line, xl_cfg};
pub use devices::devices;
#[cfg(test)]
pub(crate) use machine::{Hardware, Machine};
