//! Which ports and MSRs exit (15.10.1, 15.11). They are the same for every guest.

use alloc::boxed::Box;
use emulator::registers::DIRECT_MSRS;
use spin::Once;

/// One bit a port, 64 KiB of them and one more byte that is read for accesses that wrap.
const PORT_BYTES: usize = 3 * 4096;
/// Two bits an MSR (read, write) in three ranges of 8192 MSRs.
const MSR_BYTES: usize = 2 * 4096;

/// Both maps, as the processor reads them. They are made when they are first needed: in the image
/// they would be five pages.
#[repr(C, align(4096))]
pub struct PermissionMaps {
    /// Every port exits.
    pub ports: [u8; PORT_BYTES],
    /// Every MSR exits but those of [`DIRECT_MSRS`].
    pub msrs: [u8; MSR_BYTES],
}

impl PermissionMaps {
    /// The maps of all guests.
    pub fn get() -> &'static Self {
        static MAPS: Once<Box<PermissionMaps>> = Once::new();
        MAPS.call_once(Self::new)
    }

    fn new() -> Box<Self> {
        let mut maps = Box::new(Self { ports: [0xff; PORT_BYTES], msrs: [0xff; MSR_BYTES] });
        for msr in DIRECT_MSRS {
            let index = if msr < 0x2000 { msr } else { msr - 0xc000_0000 + 0x2000 } as usize;
            maps.msrs[index / 4] &= !(0b11 << (2 * (index % 4)));
        }
        maps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intercepts(msr_index: usize) -> (bool, bool) {
        let bits = PermissionMaps::get().msrs[msr_index / 4] >> (2 * (msr_index % 4));
        (bits & 1 != 0, bits & 2 != 0)
    }

    #[test]
    fn only_the_listed_msrs_are_direct() {
        assert_eq!(intercepts(0x174), (false, false));
        assert_eq!(intercepts(0x173), (true, true));
        assert_eq!(intercepts(0x2000 + 0x82), (false, false));
        assert_eq!(intercepts(0x2000 + 0x80), (true, true), "EFER");
    }
}
