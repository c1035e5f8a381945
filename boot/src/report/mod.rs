//! Words of the hypervisor's own: the log, and the report of a crash.

#[cfg(target_os = "none")]
pub mod log;
mod log_ring;
#[cfg(target_os = "none")]
pub mod panic;
