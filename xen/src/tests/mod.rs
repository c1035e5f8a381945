//! The platform under a machine that is none: guests' documented sequences of calls, and calls that
//! make no sense.

mod backends;
mod calls;
mod cards;
mod events;
mod linux;
mod random;
mod reservation;

use crate::machine::{EventLine, ShutdownReason};
use crate::test_guest::*;
use crate::width::Width;
use devices::memory::GuestMemory;
use devices::time::GuestTime;
use std::sync::Arc;
