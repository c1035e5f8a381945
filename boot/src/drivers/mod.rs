//! Drivers for the machine's own devices.

#[cfg(target_os = "none")]
pub mod display;
#[cfg(target_os = "none")]
pub mod hardware;
#[cfg(target_os = "none")]
pub mod i8042;
pub mod mouse;
#[cfg(target_os = "none")]
pub mod pci;
#[cfg(target_os = "none")]
pub mod registers;
pub mod ring;
pub mod rtc;
#[cfg(target_os = "none")]
pub mod serial;
