//! The functions of fuzz targets and of bounded property tests: each takes any bytes, makes of them
//! what a guest could do, and panics if a promise is broken.

mod input;
mod instruction;
mod paging;
mod task;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::vec::Vec;

pub use input::Input;
pub use instruction::emulator;
pub use paging::paging;
pub use task::task_switch;

/// Gives `run` the inputs that the repository keeps for a fuzz target.
///
/// # Panics
/// If there are none.
pub fn replay(target: &str, run: impl Fn(&[u8])) {
    let folder = format!("{}/../tests/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let inputs: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!inputs.is_empty(), "{folder} is empty");
    inputs.iter().for_each(|input| run(input));
}
