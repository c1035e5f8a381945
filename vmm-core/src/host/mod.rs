//! The machine underneath: its CPUs and frames, its time, and what is lent of its heap.

pub mod budget;
pub mod clock;
pub mod platform;
pub mod timekeeper;
pub mod timers;
