//! The guest's FPU and vector state, its breakpoints and TSC_AUX, which stay live in the CPU
//! because the hypervisor never uses them. Both backends reach them by this.
#![allow(unsafe_code)]

mod saved;

pub use saved::SavedState;

use core::arch::asm;
use emulator::registers::Cr4;

/// XCR0: AVX state.
const XCR0_AVX: u64 = 1 << 2;
/// XCR0: mask registers, the upper halves of the first 16 vector registers, and 16 more.
const XCR0_AVX512: u64 = 0xe0;
/// XCR0: x87 state, always set.
const XCR0_X87: u64 = 1;
/// CPUID: the bits that XCR0 may have, in EDX and EAX.
const LEAF_XSAVE: u32 = 0xd;

/// An area for FXRSTOR, or for XRSTOR with the header that says that every component has its
/// initial values; x87 control word and MXCSR as after FINIT and RESET (Intel SDM volume 1, 10.5.1
/// and 13.4).
#[repr(C, align(64))]
struct InitialState {
    x87_control: u16,
    _x87: [u8; 22],
    mxcsr: u32,
    _registers_and_header: [u8; 548],
}

static INITIAL_STATE: InitialState = InitialState {
    x87_control: 0x37f,
    _x87: [0; 22],
    mxcsr: 0x1f80,
    _registers_and_header: [0; 548],
};

/// The state of the guest that runs on this CPU.
#[derive(Clone, Copy, Debug)]
pub struct ExtendedState {
    xsave: bool,
}

impl ExtendedState {
    /// The state of this CPU, switched on in CR4; `xsave` says whether it has XSAVE.
    ///
    /// # Safety
    /// The CPU has SSE, as long mode demands, and XSAVE if `xsave` says so. CR4 keeps the bits that
    /// are set here, and the value is used on this CPU only. Nothing but guests uses the FPU
    /// and the vector registers there.
    pub unsafe fn new(xsave: bool) -> Self {
        let enables = Cr4::new().with_osfxsr(true).with_osxmmexcpt(true).with_osxsave(xsave);
        // SAFETY: the CPU has what the bits switch on (the caller's condition), which is guest
        // state alone.
        unsafe {
            asm!(
                "mov {cr4}, cr4",
                "or {cr4}, {enables}",
                "mov cr4, {cr4}",
                cr4 = out(reg) _,
                enables = in(reg) enables.into_bits(),
                options(nomem, nostack)
            );
        }
        Self { xsave }
    }

    /// That of a CPU without XSAVE that nobody looks at, for tests.
    ///
    /// # Safety
    /// It is not used.
    #[cfg(any(test, feature = "test-platform"))]
    pub const unsafe fn of_no_cpu() -> Self {
        Self { xsave: false }
    }

    /// Sets XCR0. The shared code has checked the value against CPUID leaf 0Dh.
    pub fn set_xcr0(self, xcr0: u64) {
        if self.xsave {
            // SAFETY: CR4.OSXSAVE is set (condition of `new`), and only guests have extended state.
            unsafe {
                asm!(
                    "xsetbv",
                    in("ecx") 0,
                    in("eax") xcr0 as u32,
                    in("edx") (xcr0 >> 32) as u32,
                    options(nomem, nostack)
                );
            }
        }
    }

    /// Gives every register its value after power-on. XCR0 is then all that the processor has.
    pub fn clear(self) {
        let area = &raw const INITIAL_STATE;
        if !self.xsave {
            // SAFETY: CR4.OSFXSR is set (condition of `new`), the area is as large and as aligned
            // as FXRSTOR wants it, and the registers hold nothing but guest state.
            return unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(readonly, nostack)) };
        }
        let leaf = core::arch::x86_64::__cpuid_count(LEAF_XSAVE, 0);
        self.set_xcr0(u64::from(leaf.edx) << 32 | u64::from(leaf.eax));
        // SAFETY: CR4.OSXSAVE is set (condition of `new`); the area is aligned, and nothing behind
        // its header is read, as that names no component; the registers hold nothing but
        // guest state.
        unsafe {
            asm!(
                "xrstor64 [{}]",
                in(reg) area,
                in("eax") u32::MAX,
                in("edx") u32::MAX,
                options(readonly, nostack)
            );
        }
    }

    /// The x87 status word.
    pub fn x87_status(self) -> u16 {
        let status: u16;
        // SAFETY: reads guest state, and waits for no error; CR0.EM and TS are clear wherever
        // guests run.
        unsafe { asm!("fnstsw ax", out("ax") status, options(nomem, nostack, preserves_flags)) };
        status
    }

    /// Sets the exceptions in the x87 status word, bits 6:0; the processor derives the summary from
    /// them and the control word.
    pub fn set_x87_errors(self, errors: u16) {
        /// The environment's second word is the status; exceptions, summary and busy bit in it.
        const STATUS: usize = 1;
        const ERRORS: u32 = 0x80ff;
        let mut environment = [0u32; 7];
        // SAFETY: the buffer has the 28 bytes that both take in 64-bit mode. FNSTENV masks all
        // exceptions, so that FLDENV finds no error to raise; the registers hold nothing
        // but guest state.
        unsafe {
            asm!("fnstenv [{}]", in(reg) &raw mut environment, options(nostack, preserves_flags));
            environment[STATUS] = environment[STATUS] & !ERRORS | u32::from(errors & 0x7f);
            asm!("fldenv [{}]", in(reg) &raw const environment, options(nostack, preserves_flags));
        }
    }

    /// XCR0; 1 without XSAVE. Read from the CPU: not every one lets XSETBV be intercepted.
    pub fn xcr0(self) -> u64 {
        if !self.xsave {
            return XCR0_X87;
        }
        let (low, high): (u32, u32);
        // SAFETY: CR4.OSXSAVE is set (condition of `new`).
        unsafe {
            asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack))
        };
        u64::from(high) << 32 | u64::from(low)
    }

    /// The guest switched AVX state on.
    fn has_avx(self) -> bool {
        self.xcr0() & XCR0_AVX != 0
    }

    /// The low 256 bits of vector register `index` (0 to 15), or 128 while AVX is off; the rest is
    /// zero.
    pub fn vector_register(self, index: u8) -> [u8; 32] {
        read(index, self.has_avx())
    }

    /// The guest switched the state of AVX-512 on.
    fn has_avx512(self) -> bool {
        self.xcr0() & XCR0_AVX512 == XCR0_AVX512
    }

    /// All of vector register `index` (0 to 31); what the guest has not switched on is zero.
    pub fn wide_register(self, index: u8) -> [u8; 64] {
        let mut bytes = [0; 64];
        if self.has_avx512() {
            read_wide(index, &mut bytes);
        } else if index < 16 {
            bytes[..32].copy_from_slice(&self.vector_register(index));
        }
        bytes
    }

    /// The low 16 bits of mask register `index` (0 to 7); 0 while AVX-512 is off.
    pub fn mask_register(self, index: u8) -> u16 {
        if self.has_avx512() { read_mask(index) } else { 0 }
    }

    /// Writes the low `bytes.len()` (16 or 32) bytes of a vector register.
    pub fn set_vector_register(self, index: u8, bytes: &[u8]) {
        let wide = bytes.len() == 32 && self.has_avx();
        let mut buffer = [0; 32];
        let count = bytes.len().min(32);
        buffer[..count].copy_from_slice(&bytes[..count]);
        write(index, &buffer, wide);
    }
}

/// DR0 to DR3, by number, which hold the guest's: the hypervisor sets no breakpoints.
pub fn breakpoint_address(number: u8) -> u64 {
    let address: u64;
    // SAFETY: reads a register, at CPL 0 on every CPU that runs guests; DR7.GD is clear there.
    unsafe {
        match number {
            0 => asm!("mov {}, dr0", out(reg) address, options(nomem, nostack, preserves_flags)),
            1 => asm!("mov {}, dr1", out(reg) address, options(nomem, nostack, preserves_flags)),
            2 => asm!("mov {}, dr2", out(reg) address, options(nomem, nostack, preserves_flags)),
            _ => asm!("mov {}, dr3", out(reg) address, options(nomem, nostack, preserves_flags)),
        }
    }
    address
}

/// Sets one of DR0 to DR3.
pub fn set_breakpoint_address(number: u8, address: u64) {
    // SAFETY: as above; DR7, which the hypervisor runs with, enables no breakpoint.
    unsafe {
        match number {
            0 => asm!("mov dr0, {}", in(reg) address, options(nomem, nostack, preserves_flags)),
            1 => asm!("mov dr1, {}", in(reg) address, options(nomem, nostack, preserves_flags)),
            2 => asm!("mov dr2, {}", in(reg) address, options(nomem, nostack, preserves_flags)),
            _ => asm!("mov dr3, {}", in(reg) address, options(nomem, nostack, preserves_flags)),
        }
    }
}

const TSC_AUX: u32 = 0xc000_0103;

/// The CPU has TSC_AUX: RDTSCP or RDPID read it.
fn has_tsc_aux() -> bool {
    const LEAF_FEATURES: u32 = 7;
    const ECX_RDPID: u32 = 1 << 22;
    const LEAF_EXTENDED: u32 = 0x8000_0001;
    const EDX_RDTSCP: u32 = 1 << 27;
    let cpuid = |leaf| core::arch::x86_64::__cpuid_count(leaf, 0);
    cpuid(LEAF_EXTENDED).edx & EDX_RDTSCP != 0
        || cpuid(0).eax >= LEAF_FEATURES && cpuid(LEAF_FEATURES).ecx & ECX_RDPID != 0
}

/// TSC_AUX, which holds the guest's; 0 where there is none.
pub fn tsc_aux() -> u64 {
    if !has_tsc_aux() {
        return 0;
    }
    let (low, high): (u32, u32);
    // SAFETY: the CPU has the register, and runs at CPL 0 wherever guests run.
    unsafe {
        asm!("rdmsr", in("ecx") TSC_AUX, out("eax") low, out("edx") high, options(nomem, nostack))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Sets TSC_AUX, of which 32 bits can be set.
pub fn set_tsc_aux(value: u64) {
    if has_tsc_aux() {
        // SAFETY: as above; the hypervisor does not use the register, and the high half is zero.
        unsafe {
            asm!(
                "wrmsr",
                in("ecx") TSC_AUX,
                in("eax") value as u32,
                in("edx") 0,
                options(nomem, nostack)
            )
        };
    }
}

/// One instruction with the register whose number is known at run time only.
macro_rules! with_register {
    ($index:expr, $pointer:expr, $before:literal, $after:literal) => {
        with_register!($index, $pointer, $before, $after; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($index:expr, $pointer:expr, $before:literal, $after:literal; $($number:literal)+) => {
        match $index {
            $($number => asm!(
                concat!($before, $number, $after),
                pointer = in(reg) $pointer,
                options(nostack, preserves_flags)
            ),)+
            _ => {}
        }
    };
}

fn read(index: u8, wide: bool) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    let pointer = bytes.as_mut_ptr();
    // SAFETY: the buffer holds 32 bytes. CR4.OSFXSR, and OSXSAVE with AVX state in XCR0 for `wide`,
    // are set on every CPU that runs guests (condition of `ExtendedState::new`; the caller asks
    // for `wide` only if XCR0 has AVX).
    unsafe {
        if wide {
            with_register!(index, pointer, "vmovups [{pointer}], ymm", "");
        } else {
            with_register!(index, pointer, "movups [{pointer}], xmm", "");
        }
    }
    bytes
}

fn read_wide(index: u8, bytes: &mut [u8; 64]) {
    let pointer = bytes.as_mut_ptr();
    // SAFETY: the buffer holds 64 bytes; CR4.OSXSAVE is set, and the caller has found the state of
    // AVX-512 in XCR0.
    unsafe {
        with_register!(
            index, pointer, "vmovups [{pointer}], zmm", "";
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        );
    }
}

fn read_mask(index: u8) -> u16 {
    let mut mask = 0u16;
    let pointer = &raw mut mask;
    // SAFETY: as in `read_wide`, for two bytes.
    unsafe {
        with_register!(index, pointer, "kmovw [{pointer}], k", ""; 0 1 2 3 4 5 6 7);
    }
    mask
}

/// Writes the low 16 bytes and leaves the rest of the register, or, with `wide`, all 32 bytes.
fn write(index: u8, bytes: &[u8; 32], wide: bool) {
    let pointer = bytes.as_ptr();
    // SAFETY: as in `read`; the register holds nothing but guest state.
    unsafe {
        if wide {
            with_register!(index, pointer, "vmovups ymm", ", [{pointer}]");
        } else {
            with_register!(index, pointer, "movups xmm", ", [{pointer}]");
        }
    }
}
