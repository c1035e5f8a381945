//! The extended state of a virtual CPU that is on no CPU.

use super::{ExtendedState, INITIAL_STATE, InitialState, LEAF_XSAVE};
use alloc::vec::Vec;
use core::arch::asm;

/// The area of FXSAVE, which is the first part of that of XSAVE.
const LEGACY_BYTES: usize = 512;
/// XCR0 and masks of components: x87.
const X87: u32 = 1;
/// Where the pointers to the last x87 instruction and its operand are.
const FIP: usize = 8;
const FDP: usize = 16;

/// XSAVE wants its area aligned so.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Block([u8; 64]);

/// x87 and vector registers, PKRU and XCR0 of a virtual CPU that is on no CPU.
#[derive(Debug, Default)]
pub struct SavedState {
    /// In the standard form of XSAVE, or that of FXSAVE; empty before the first save.
    area: Vec<Block>,
    xcr0: u64,
    /// The area is in the form of 64-bit pointers, which has no selectors.
    has_wide_pointers: bool,
}

impl SavedState {
    /// The area, with `bytes` at the least. The processor leaves parts of it alone that have to be
    /// zero.
    fn area(&mut self, bytes: usize) -> *mut u8 {
        let blocks = bytes.max(LEGACY_BYTES).div_ceil(size_of::<Block>());
        if self.area.len() < blocks {
            self.area.resize(blocks, Block([0; 64]));
        }
        self.area.as_mut_ptr().cast()
    }

    fn pointer(&self, offset: usize) -> u64 {
        let Some(Block(bytes)) = self.area.first() else { return 0 };
        bytes[offset..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Fills the area with `bytes`, for a backend of tests: more than FXSAVE's, less than XSAVE's.
    #[cfg(any(test, feature = "test-platform"))]
    pub(crate) fn set_bytes(&mut self, bytes: impl Iterator<Item = u8>) {
        self.area(LEGACY_BYTES + size_of::<Block>());
        let area = self.area.iter_mut().flat_map(|block| &mut block.0);
        area.zip(bytes).for_each(|(to, from)| *to = from);
    }

    /// The bytes of the area, as [`SavedState::set_bytes`] left them.
    #[cfg(any(test, feature = "test-platform"))]
    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> {
        self.area.iter().flat_map(|block| block.0)
    }
}

impl ExtendedState {
    /// All components that the processor has, and the size of an area for them.
    fn components(self) -> (u64, usize) {
        if !self.xsave {
            return (0, LEGACY_BYTES);
        }
        let leaf = core::arch::x86_64::__cpuid_count(LEAF_XSAVE, 0);
        (u64::from(leaf.edx) << 32 | u64::from(leaf.eax), leaf.ecx as usize)
    }

    /// Saves the registers. XCR0 is then all that the processor has: components that the guest
    /// switched off keep their values, and come back when it switches them on.
    ///
    /// The form of 64-bit pointers has no room for the selectors of the last x87 instruction and
    /// its operand, which 32-bit systems read; the other has none for the upper halves. An address
    /// with an upper half is one of 64-bit code.
    pub fn save(self, to: &mut SavedState) {
        to.xcr0 = self.xcr0();
        let (components, bytes) = self.components();
        self.set_xcr0(components);
        let area = to.area(bytes);
        // SAFETY: CR4.OSFXSR, and OSXSAVE with `xsave`, are set (condition of `new`), TS is clear
        // wherever guests run; the area has the bytes that CPUID names, and the alignment.
        unsafe {
            if self.xsave {
                asm!(
                    "xsave64 [{}]",
                    in(reg) area,
                    in("eax") u32::MAX,
                    in("edx") u32::MAX,
                    options(nostack)
                );
            } else {
                asm!("fxsave64 [{}]", in(reg) area, options(nostack));
            }
        }
        to.has_wide_pointers = (to.pointer(FIP) | to.pointer(FDP)) >> 32 != 0;
        if !to.has_wide_pointers {
            // SAFETY: as above; XSAVE writes the x87 state alone.
            unsafe {
                if self.xsave {
                    asm!(
                        "xsave [{}]",
                        in(reg) area,
                        in("eax") X87,
                        in("edx") 0,
                        options(nostack)
                    );
                } else {
                    asm!("fxsave [{}]", in(reg) area, options(nostack));
                }
            }
        }
    }

    /// Loads the registers that [`ExtendedState::save`] saved on this or another CPU of the
    /// machine; those after power-on if there are none.
    pub fn load(self, from: &SavedState) {
        self.forget_x87_pointers();
        if from.area.is_empty() {
            return self.clear();
        }
        let (components, _) = self.components();
        self.set_xcr0(components);
        let area = from.area.as_ptr();
        // SAFETY: as in `save`, which filled the area: its header names components that are in
        // XCR0 now, and MXCSR has no reserved bits. The registers hold nothing but guest state.
        unsafe {
            match (self.xsave, from.has_wide_pointers) {
                (true, true) => asm!(
                    "xrstor64 [{}]",
                    in(reg) area,
                    in("eax") u32::MAX,
                    in("edx") u32::MAX,
                    options(readonly, nostack)
                ),
                (true, false) => asm!(
                    "xrstor [{}]",
                    in(reg) area,
                    in("eax") u32::MAX,
                    in("edx") u32::MAX,
                    options(readonly, nostack)
                ),
                (false, true) => asm!("fxrstor64 [{}]", in(reg) area, options(readonly, nostack)),
                (false, false) => asm!("fxrstor [{}]", in(reg) area, options(readonly, nostack)),
            }
        }
        self.set_xcr0(from.xcr0);
    }

    /// Makes the x87 pointers those of an instruction of the hypervisor's: processors of AMD's load
    /// them only together with an error that is pending (APM volume 5, FXRSTOR), and would leave
    /// those of the guest before.
    fn forget_x87_pointers(self) {
        let number = &raw const INITIAL_STATE;
        // SAFETY: no error is pending and the stack is empty when FILD loads a number from memory
        // that is there; the registers hold guest state that is loaded anew.
        unsafe {
            asm!(
                "fnclex",
                "emms",
                "fild dword ptr [{}]",
                in(reg) number,
                options(readonly, nostack)
            );
        }
    }
}

// The processor reads and writes a header behind the legacy area.
const _: () = assert!(size_of::<InitialState>() == LEGACY_BYTES + size_of::<Block>());
