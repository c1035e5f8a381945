//! PV disks against front ends of the test's own.

mod connecting;
mod hostile;
mod pace;
mod pages;
mod requests;

use super::*;
use test_front::{Front, TestDisk};
