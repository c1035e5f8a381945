//! PV network cards against front ends of the test's own.

mod connecting;
mod frames;
mod hostile;

use super::spec::*;
use super::test_front::*;
