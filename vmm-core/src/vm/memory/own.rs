//! Memory made of host frames that guests never see.

use super::FrameMemory;
use crate::host::owner::Owner;
use crate::host::platform::Platform;

/// Memory that only its owner ever gets at: what a disk in memory holds. It can be borrowed,
/// therefore.
pub struct OwnMemory(FrameMemory);

impl OwnMemory {
    /// `length_bytes` of zeroes, rounded up to 2 MiB. `None` if the platform has not got them.
    pub fn new(platform: &'static dyn Platform, owner: Owner, length_bytes: usize) -> Option<Self> {
        FrameMemory::new(platform, owner, length_bytes).map(Self)
    }

    /// The bytes from `offset` on, as many of `most` as lie in one frame. `None` past the end.
    pub fn piece(&mut self, offset: usize, most: usize) -> Option<&mut [u8]> {
        let (run, at) = self.0.run_around(offset)?;
        // SAFETY: nobody else has the frame memory, which gives out no other run while it is
        // borrowed here, and keeps its frames meanwhile.
        #[allow(unsafe_code)]
        let bytes = unsafe { run.bytes_mut() };
        let rest = bytes.get_mut(at..)?;
        let count = rest.len().min(most);
        rest.get_mut(..count)
    }
}
