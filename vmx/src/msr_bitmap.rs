//! Which MSRs exit (SDM volume 3, 25.6.9). It depends on the local APIC's interface only.

use alloc::boxed::Box;
use devices::local_apic::spec::{X2APIC_FIRST_MSR, register};
use emulator::registers::DIRECT_MSRS;
use spin::Once;

/// One bit an MSR: reads of 0 to 1FFFh, reads of C0000000h to C0001FFFh, writes of both.
#[repr(C, align(4096))]
pub struct MsrBitmap([u8; 4096]);

/// The bitmaps of all guests, made when they are first needed: in the image they would be three
/// pages.
#[repr(C)]
pub struct MsrBitmaps {
    /// Every MSR exits but those of [`DIRECT_MSRS`].
    pub usual: MsrBitmap,
    /// In x2APIC mode the processor also answers accesses to the task priority.
    pub x2apic_tpr: MsrBitmap,
    /// In x2APIC mode, with the registers in hardware and interrupts delivered by it, all reads but
    /// those of the current count and of the 64-bit ICR, and the writes whose effect the processor
    /// knows.
    pub x2apic: MsrBitmap,
}

impl MsrBitmaps {
    /// The bitmaps.
    pub fn get() -> &'static Self {
        static BITMAPS: Once<Box<MsrBitmaps>> = Once::new();
        BITMAPS.call_once(|| {
            Box::new(Self {
                usual: bitmap(&[], &[]),
                x2apic_tpr: bitmap(&[TPR], &[TPR]),
                x2apic: bitmap(&X2APIC_READ, &[TPR, EOI, SELF_IPI]),
            })
        })
    }
}

const TPR: u32 = X2APIC_FIRST_MSR + register::TPR as u32;
const EOI: u32 = X2APIC_FIRST_MSR + register::EOI as u32;
const SELF_IPI: u32 = X2APIC_FIRST_MSR + register::SELF_IPI as u32;

const X2APIC_READ: [u32; 39] = {
    let mut msrs = [0; 39];
    let (mut count, mut number) = (0, 0);
    while number <= register::LAST {
        let is_read = matches!(
            number,
            register::ID
                | register::VERSION
                | register::TPR
                | register::PPR
                | register::LDR
                | register::SVR
                | register::ISR_FIRST..=register::IRR_LAST
                | register::ESR
                | register::LVT_TIMER..=register::LVT_ERROR
                | register::INITIAL_COUNT
                | register::DIVIDE
        );
        if is_read {
            msrs[count] = X2APIC_FIRST_MSR + number as u32;
            count += 1;
        }
        number += 1;
    }
    assert!(count == msrs.len());
    msrs
};

const HIGH: u32 = 0xc000_0000;

/// Where the writes' bits begin.
const WRITES: usize = 2048;

fn bitmap(read: &[u32], written: &[u32]) -> MsrBitmap {
    let mut map = [0xff; 4096];
    let mut pass = |base, msrs: &[u32]| {
        for &msr in msrs {
            let index = if msr < HIGH { msr } else { msr - HIGH + 0x2000 } as usize;
            map[base + index / 8] &= !(1 << (index % 8));
        }
    };
    for base in [0, WRITES] {
        pass(base, &DIRECT_MSRS);
    }
    pass(0, read);
    pass(WRITES, written);
    MsrBitmap(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exits_in(bitmap: &MsrBitmap, index: usize) -> (bool, bool) {
        let bit = |byte: usize| bitmap.0[byte] >> (index % 8) & 1 != 0;
        (bit(index / 8), bit(WRITES + index / 8))
    }

    fn exits(index: usize) -> (bool, bool) {
        exits_in(&MsrBitmaps::get().usual, index)
    }

    #[test]
    fn only_the_listed_msrs_are_direct() {
        assert_eq!(exits(0x174), (false, false));
        assert_eq!(exits(0x173), (true, true));
        assert_eq!(exits(0x2000 + 0x82), (false, false));
        assert_eq!(exits(0x2000 + 0x80), (true, true), "EFER");
        assert_eq!(exits(0x808), (true, true));
    }

    #[test]
    fn x2apic_registers_exit_unless_the_processor_knows_them() {
        assert_eq!(exits_in(&MsrBitmaps::get().x2apic_tpr, 0x808), (false, false));
        assert_eq!(exits_in(&MsrBitmaps::get().x2apic_tpr, 0x80b), (true, true));
        let exits = |index| exits_in(&MsrBitmaps::get().x2apic, index);
        assert_eq!(exits(0x174), (false, false), "SYSENTER_CS");
        assert_eq!(
            (exits(0x802), exits(0x808), exits(0x820)),
            ((false, true), (false, false), (false, true))
        );
        assert_eq!((exits(0x80b), exits(0x83f)), ((true, false), (true, false)), "written only");
        for index in [0x800, 0x809, 0x80e, 0x829, 0x830, 0x831, 0x839, 0x83d, 0x840, 0x8ff] {
            assert_eq!(exits(index), (true, true), "{index:#x}");
        }
    }
}
