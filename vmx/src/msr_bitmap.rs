//! Which MSRs exit (SDM volume 3, 25.6.9). It is the same for every guest.

use vmm_core::registers::DIRECT_MSRS;

/// One bit an MSR: reads of 0 to 1FFFh, reads of C0000000h to C0001FFFh, writes of both.
#[repr(C, align(4096))]
pub struct MsrBitmap([u8; 4096]);

/// Every MSR exits but those of [`DIRECT_MSRS`].
pub static MSR_BITMAP: MsrBitmap = MsrBitmap(bitmap());

const HIGH: u32 = 0xc000_0000;

const fn bitmap() -> [u8; 4096] {
    let mut map = [0xff; 4096];
    let mut i = 0;
    while i < DIRECT_MSRS.len() {
        let msr = DIRECT_MSRS[i];
        let index = if msr < HIGH { msr as usize } else { (msr - HIGH) as usize + 0x2000 };
        map[index / 8] &= !(1 << (index % 8));
        map[2048 + index / 8] &= !(1 << (index % 8));
        i += 1;
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exits(index: usize) -> (bool, bool) {
        let bit = |byte: usize| MSR_BITMAP.0[byte] >> (index % 8) & 1 != 0;
        (bit(index / 8), bit(2048 + index / 8))
    }

    #[test]
    fn only_the_listed_msrs_are_direct() {
        assert_eq!(exits(0x174), (false, false));
        assert_eq!(exits(0x173), (true, true));
        assert_eq!(exits(0x2000 + 0x82), (false, false));
        assert_eq!(exits(0x2000 + 0x80), (true, true), "EFER");
    }
}
