//! The page that the processor logs to whenever it sets a dirty flag in the EPT: page-modification
//! logging (SDM volume 3, 29.3.6).

use vmm_core::backend::Unsupported;
use vmm_core::host::owner::Owner;
use vmm_core::host::platform::{Frame, FrameSize, Platform};

const ENTRIES: u16 = 512;

/// The log: guest-physical addresses of pages. It is filled from its end.
pub struct PageLog {
    platform: &'static dyn Platform,
    frame: Frame,
}

impl PageLog {
    /// The index field while the log is empty: the entry that comes next. It ends below
    /// 0, at FFFFh.
    pub const EMPTY: u16 = ENTRIES - 1;

    /// An empty log.
    ///
    /// # Errors
    /// [`Unsupported`] if memory is short.
    pub fn new(platform: &'static dyn Platform) -> Result<Self, Unsupported> {
        let frame = platform.allocate_frame(FrameSize::Small, Owner::Hypervisor);
        Ok(Self {
            platform,
            frame: frame.ok_or(Unsupported("too little memory for a log of pages"))?,
        })
    }

    /// Its host-physical address.
    pub const fn hpa(&self) -> u64 {
        self.frame.hpa
    }

    /// The addresses logged until the index field came to be `index`.
    pub fn logged(&self, index: u16) -> impl Iterator<Item = u64> {
        let first = index.wrapping_add(1).min(ENTRIES);
        (first..ENTRIES).map(|entry| {
            let entry = (self.frame.address as *const u64).wrapping_add(entry.into());
            // SAFETY: the entry is inside the frame, which is a whole page and ours alone until
            // `drop`; the processor, which writes to it while the guest runs, writes
            // whole entries.
            unsafe { entry.read_volatile() }
        })
    }
}

impl Drop for PageLog {
    fn drop(&mut self) {
        let Frame { address, hpa, size } = self.frame;
        self.platform.free_frame(Frame { address, hpa, size });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;
    use vmm_core::test_platform::TestPlatform;

    #[test]
    fn what_is_behind_the_index_was_logged() {
        let platform = TestPlatform::leak();
        let log = PageLog::new(platform).unwrap();
        for entry in 0..512 {
            let slot = (log.frame.address as *mut u64).wrapping_add(entry);
            // SAFETY: as in `logged`.
            unsafe { slot.write_volatile(entry as u64 * 4096) };
        }
        let logged = |index| log.logged(index).collect::<Vec<_>>();
        assert_eq!(logged(PageLog::EMPTY).len(), 0);
        assert_eq!(logged(509), [510 * 4096, 511 * 4096]);
        assert_eq!(logged(0xffff).len(), 512, "full");
        assert_eq!(logged(600).len(), 0, "no index of the processor's");
        drop(log);
        assert_eq!(platform.allocated_bytes(), 0);
    }
}
