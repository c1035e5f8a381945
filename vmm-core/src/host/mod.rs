//! The machine underneath: its CPUs and how they are reached, its frames, its time and its errors,
//! and what is lent of its heap.

pub mod clock;
pub mod features;
pub mod kick;
pub mod machine_check;
pub mod machine_check_watch;
pub mod owner;
#[cfg(any(test, feature = "owner-map"))]
pub mod owner_map;
pub mod platform;
pub mod processor;
pub mod timekeeper;
pub mod timers;
pub mod watchdog;
