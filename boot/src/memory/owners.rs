//! Whose the frames are: nothing here, but in an image for tests (feature `owner-map`) a map that
//! stops the machine when a step does not fit to the owners.

use core::ops::Range;
use vmm_core::host::owner::Owner;
use vmm_core::host::platform::{Frame, FrameSize};

#[cfg(feature = "owner-map")]
mod checked {
    use vmm_core::host::owner_map::{OwnerMap, Violation};

    static MAP: OwnerMap = OwnerMap::new();

    /// The map of this machine.
    pub fn map() -> &'static OwnerMap {
        &MAP
    }

    pub fn demand(step: Result<(), Violation>) {
        if let Err(violation) = step {
            panic!("{violation}");
        }
    }
}

#[cfg(feature = "owner-map")]
pub use checked::map;

/// The hypervisor takes a run of memory for good.
#[inline]
pub fn keep(_run: Range<u64>) {
    #[cfg(feature = "owner-map")]
    checked::demand(map().keep(_run));
}

/// A frame is handed out.
#[inline]
pub fn hand_out(_hpa: u64, _size: FrameSize, _owner: Owner) {
    #[cfg(feature = "owner-map")]
    checked::demand(map().hand_out(_hpa, _size.bytes(), _owner));
}

/// A frame is given back.
#[inline]
pub fn take_back(_frame: &Frame) {
    #[cfg(feature = "owner-map")]
    checked::demand(map().take_back(_frame.hpa, _frame.size.bytes()));
}

/// A frame is 512 smaller ones from now on.
#[inline]
pub fn split(_hpa: u64, _size: FrameSize) {
    #[cfg(feature = "owner-map")]
    checked::demand(map().split(_hpa, _size.bytes()));
}
