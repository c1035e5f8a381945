//! Exceptions: each one, its error code, and where it says the program was (Intel SDM volume 3, chapter 6).

#![no_std]
#![no_main]

use core::arch::asm;

use conformance::interrupts::{BP, DE, Event, UD, gp, pf};
use conformance::report::{check, equal, faults};

conformance::topic!(run);

fn run() {
    faults("divide-by-zero", DE, || unsafe {
        asm!("div {0:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _);
    });
    faults("ud2", UD, || unsafe { asm!("ud2") });
    faults("int3", BP, || unsafe { asm!("int3") });
    faults("int-80h", Event::plain(0x80), || unsafe { asm!("int 0x80") });
    faults("null-selector-in-ss", gp(0), || unsafe { asm!("mov ss, {0:e}", in(reg) 3) });
    let fault = faults("read-of-an-unmapped-page", pf(0), || unsafe {
        asm!("mov al, [{}]", in(reg) 0x7f_0000_1234_u64, out("al") _);
    });
    equal("cr2-of-an-unmapped-page", fault.map(|fault| fault.cr2), Some(0x7f_0000_1234));
    check("flags-saved", fault.is_some_and(|fault| fault.rflags & 2 != 0));
}
