//! The machine's own display.
use crate::entry::Handover;
use vmm_core::platform::Display;

pub fn init(_handover: &Handover) -> &'static str {
    "no display"
}

pub fn get() -> Option<&'static dyn Display> {
    None
}
