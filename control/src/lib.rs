//! Where guests, their consoles and the machine's own ports meet, below all three.
//!
//! A [`host::Host`] is the machine as far as its consoles need it: serial ports, display, keyboard,
//! log and heap. A guest transmits into an [`output::OutputRing`], which a console empties.
//! [`budget::Budget`] sets heap aside before a request is carried out.
//!
//! ```
//! use control::budget::Budget;
//! use control::output::OutputRing;
//! # use control::test_host::TestHost;
//! # let host: &'static dyn control::host::Host = TestHost::leak();
//! use devices::console::ByteSink;
//!
//! let output = OutputRing::new();
//! // The guest's serial port puts; the console takes.
//! assert!(output.put(b'>'));
//! let mut bytes = [0; 8];
//! assert_eq!((output.take(&mut bytes), bytes[0]), (1, b'>'));
//!
//! // An answer that the heap has no room for is an error line, and no crash.
//! let budget = Budget::reserve(host, 512 << 10).expect("half a MiB");
//! drop(budget);
//! ```
#![cfg_attr(not(any(test, feature = "test-host")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod budget;
pub mod host;
pub mod output;
pub mod printable;
#[cfg(any(test, feature = "test-host"))]
pub mod test_host;
