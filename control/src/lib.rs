//! Where guests, their consoles and the machine's own ports meet, below all three.
//!
//! A guest is asked by its [`mailbox::Mailbox`]: consoles leave requests, the guest's vCPU answers
//! between two exits, and neither waits for the other. It transmits into an
//! [`output::OutputRing`], which a console empties. A [`host::Host`] is the machine as far as its
//! consoles need it: serial ports, display, keyboard, log and heap, of which
//! [`budget::Budget`] sets a part aside before a request is carried out.
//!
//! ```
//! use control::budget::Budget;
//! use control::mailbox::{Answer, Client, Mailbox, Request};
//! use control::output::OutputRing;
//! use devices::console::ByteSink;
//! # use control::test_host::TestHost;
//! # let host: &'static dyn control::host::Host = TestHost::leak();
//!
//! let mailbox = Mailbox::new(1, "small");
//! // A console asks, if the heap has room for the answer, ...
//! let budget = Budget::reserve(host, 512 << 10).expect("half a MiB");
//! assert!(mailbox.post(Client::Prompt, Request::Reset));
//! // ... the guest's vCPU answers, ...
//! let (client, request) = mailbox.take_request().expect("it waits");
//! assert_eq!(request, Request::Reset);
//! mailbox.put_answer(client, Answer::Done);
//! // ... and the console picks the answer up when it comes by.
//! assert_eq!(mailbox.take_answer(Client::Prompt), Some(Answer::Done));
//! drop(budget);
//!
//! // The guest's serial port puts; the console takes.
//! let output = OutputRing::new();
//! assert!(output.put(b'>'));
//! let mut bytes = [0; 8];
//! assert_eq!((output.take(&mut bytes), bytes[0]), (1, b'>'));
//! ```
#![cfg_attr(not(any(test, feature = "test-host")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod alarm;
pub mod budget;
pub mod cards;
pub mod disks;
pub mod guest;
pub mod host;
pub mod mailbox;
pub mod output;
pub mod printable;
pub mod scheduling;
pub mod state;
#[cfg(any(test, feature = "test-host"))]
pub mod test_host;
