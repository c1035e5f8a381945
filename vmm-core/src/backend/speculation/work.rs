//! The defences that the world switches carry out.

use super::{Defences, ReturnStack};
use bitflags::bitflags;

bitflags! {
    /// Work at each entry and exit.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Work: u8 {
        /// IA32_SPEC_CTRL is written, at entries and exits.
        const CONTROL = 1;
        /// A barrier for branch predictors at exits.
        const EXIT_BARRIER = 2;
        /// VERW at entries.
        const VERW = 4;
        /// The return stack is filled at exits.
        const RETURN_STACK = 8;
        /// The last return is, at exits.
        const LAST_RETURN = 16;
    }
}

impl Work {
    /// The work that does not depend on the guest.
    pub fn new(defences: &Defences) -> Self {
        let mut work = Self::empty();
        work.set(Self::EXIT_BARRIER, defences.exit_barrier);
        work.set(Self::VERW, defences.verw);
        work.set(Self::RETURN_STACK, defences.return_stack == ReturnStack::All);
        work.set(Self::LAST_RETURN, defences.return_stack == ReturnStack::Last);
        work
    }
}

/// Assembly for the end of a world switch, when the guest's registers are saved: fills the return
/// stack as the [`Work`] in BL says, and clears all registers but RSP. `return_stack` and
/// `last_return` are to be operands.
///
/// The addresses behind the calls hold INT3 for what runs ahead there. LFENCE ends what has run
/// ahead past the branches around each part.
#[macro_export]
macro_rules! end_guest_speculation {
    () => {
        "test bl, {return_stack}
        jz 31f
        .rept 32
        call 30f
        int3
        30:
        .endr
        add rsp, 32 * 8
        31:
        test bl, {last_return}
        jz 33f
        call 32f
        int3
        32:
        add rsp, 8
        33:
        lfence
        xor eax, eax
        xor ecx, ecx
        xor edx, edx
        xor ebx, ebx
        xor ebp, ebp
        xor esi, esi
        xor edi, edi
        xor r8d, r8d
        xor r9d, r9d
        xor r10d, r10d
        xor r11d, r11d
        xor r12d, r12d
        xor r13d, r13d
        xor r14d, r14d
        xor r15d, r15d"
    };
}
