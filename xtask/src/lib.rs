//! The host side of Bulkhead: it builds the image, makes ISOs of it and of guests, and runs them in
//! emulators.
//!
//! The binary is `cargo xtask`; the library half is what the whole-system tests use.

#![forbid(unsafe_code)]

pub mod arrows;
pub mod bench;
pub mod build;
pub mod check;
pub mod conformance;
pub mod debian;
pub mod emulator;
pub mod files;
pub mod folder;
pub mod fuzz;
pub mod guests;
pub mod image;
pub mod licences;
pub mod machine;
pub mod paths;
pub mod picture;
pub mod progress;
pub mod release;
pub mod retry;
pub mod rpc;
pub mod run;
pub mod screen;
pub mod serial;
pub mod setup;
pub mod symbolize;
pub mod times;
pub mod toolchain;
pub mod watchdog;
