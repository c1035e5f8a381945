//! The emulator against a CPU made of plain memory, and against the real one.

mod alu;
mod decoders;
mod fault;
mod length;
mod memory_io;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod native;
mod random;
mod segmentation;
mod string;

use super::*;
use crate::instruction::fake::{self, FakeCpu, MMIO_GPA};
use crate::registers::{Exception, Gpr};
