//! The emulator against a CPU made of plain memory, and against the real one.

mod fake;
mod fault;
mod length;
mod memory_io;
mod random;
mod segmentation;
mod string;

use super::*;
use crate::registers::{Exception, Gpr};
use fake::{FakeCpu, MMIO_GPA};
