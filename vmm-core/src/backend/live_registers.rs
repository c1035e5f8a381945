//! The registers of a guest that stay live in the CPU, since the hypervisor uses none of them: the
//! one place where they are swapped, when a virtual CPU comes to a CPU and when it leaves.

use super::extended_state::SavedState;
use super::{Backend, SystemRegister};

/// How many breakpoints there are: DR0 to DR3.
const BREAKPOINTS: u8 = 4;

/// The live registers of one virtual CPU while it is on no CPU.
///
/// IA32_XSS is not among them: a guest can give it no value but 0, which is the host's.
#[derive(Debug, Default)]
pub struct LiveRegisters {
    extended: SavedState,
    breakpoints: [u64; BREAKPOINTS as usize],
    /// By number; those that are live with this backend ([`Backend::LIVE_REGISTERS`]).
    system: [u64; SystemRegister::COUNT],
}

impl LiveRegisters {
    /// Takes them out of the CPU that the virtual CPU leaves. They are there still, but not to be
    /// used.
    pub fn save<B: Backend>(&mut self, backend: &B) {
        backend.save_extended_state(&mut self.extended);
        for (number, address) in (0..BREAKPOINTS).zip(&mut self.breakpoints) {
            *address = backend.breakpoint_address(number);
        }
        for &register in B::LIVE_REGISTERS {
            self.system[register as usize] = backend.system_register(register);
        }
    }

    /// Puts them into the CPU that the virtual CPU has come to, in the place of another's.
    pub fn load<B: Backend>(&self, backend: &mut B) {
        backend.load_extended_state(&self.extended);
        for (number, &address) in (0..BREAKPOINTS).zip(&self.breakpoints) {
            backend.set_breakpoint_address(number, address);
        }
        for &register in B::LIVE_REGISTERS {
            backend.set_system_register(register, self.system[register as usize]);
        }
    }
}
