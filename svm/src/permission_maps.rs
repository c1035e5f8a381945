//! Which ports and MSRs exit (15.10.1, 15.11). They are the same for every guest.

use emulator::registers::DIRECT_MSRS;

/// One bit a port, 64 KiB of them and one more byte that is read for accesses that wrap: every port
/// exits.
#[repr(C, align(4096))]
pub struct IoPermissionMap([u8; 3 * 4096]);

/// Two bits an MSR (read, write) in three ranges of 8192 MSRs.
#[repr(C, align(4096))]
pub struct MsrPermissionMap([u8; 2 * 4096]);

/// Every port exits.
pub static IO_PERMISSIONS: IoPermissionMap = IoPermissionMap([0xff; 3 * 4096]);

/// Every MSR exits but those of [`DIRECT_MSRS`].
pub static MSR_PERMISSIONS: MsrPermissionMap = MsrPermissionMap(msr_permissions());

const fn msr_permissions() -> [u8; 2 * 4096] {
    let mut map = [0xff; 2 * 4096];
    let mut i = 0;
    while i < DIRECT_MSRS.len() {
        let msr = DIRECT_MSRS[i];
        let index = if msr < 0x2000 { msr as usize } else { (msr - 0xc000_0000) as usize + 0x2000 };
        map[index / 4] &= !(0b11 << (2 * (index % 4)));
        i += 1;
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intercepts(msr_index: usize) -> (bool, bool) {
        let bits = MSR_PERMISSIONS.0[msr_index / 4] >> (2 * (msr_index % 4));
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
