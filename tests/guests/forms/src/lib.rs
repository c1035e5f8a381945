//! Every form of an instruction with a memory operand that `iced-x86` knows, as cases that the
//! guest `forms` runs on RAM and on device memory.

pub mod cases;
pub mod features;
pub mod layout;
pub mod left_out;
pub mod operands;
pub mod output;
pub mod page;
pub mod preparation;
