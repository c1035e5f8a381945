//! The registers that neither the general ones nor the segments are: in the VMCS, or live in the
//! CPU.

use super::{BeforeEntry, TWO_TO_32, Vmx};
use crate::field::Field;
use crate::spec::msr;
use emulator::paging::is_canonical;
use emulator::registers::Dr7;
use vmm_core::backend::SystemRegister;
use vmm_core::backend::extended_state;
use x86::msr::{rdmsr, wrmsr};

/// The registers that are live in the CPU.
pub(super) const LIVE_REGISTERS: [SystemRegister; 8] = [
    SystemRegister::Cr2,
    SystemRegister::Dr6,
    SystemRegister::Star,
    SystemRegister::LStar,
    SystemRegister::CStar,
    SystemRegister::SfMask,
    SystemRegister::KernelGsBase,
    SystemRegister::TscAux,
];

/// The MSR that holds a register which the hypervisor does not use.
const fn live_msr(register: SystemRegister) -> Option<u32> {
    match register {
        SystemRegister::Star => Some(msr::STAR),
        SystemRegister::LStar => Some(msr::LSTAR),
        SystemRegister::CStar => Some(msr::CSTAR),
        SystemRegister::SfMask => Some(msr::SFMASK),
        SystemRegister::KernelGsBase => Some(msr::KERNEL_GS_BASE),
        _ => None,
    }
}

/// True unless a WRMSR of the value to that register would fault: most are addresses.
const fn is_taken(register: SystemRegister, value: u64) -> bool {
    match register {
        SystemRegister::Star => true,
        SystemRegister::SfMask => value < TWO_TO_32,
        _ => is_canonical(value, false),
    }
}

const fn field_of(register: SystemRegister) -> Option<Field> {
    match register {
        SystemRegister::Cr3 => Some(Field::GuestCr3),
        SystemRegister::Dr7 => Some(Field::GuestDr7),
        SystemRegister::Pat => Some(Field::GuestPat),
        SystemRegister::SysenterCs => Some(Field::GuestSysenterCs),
        SystemRegister::SysenterEsp => Some(Field::GuestSysenterEsp),
        SystemRegister::SysenterEip => Some(Field::GuestSysenterEip),
        _ => None,
    }
}

impl Vmx {
    pub(super) fn read_system_register(&self, register: SystemRegister) -> u64 {
        if let Some(field) = field_of(register) {
            return self.vmcs.read(field);
        }
        match (register, live_msr(register)) {
            // SAFETY: reads a register that holds the guest's value.
            (SystemRegister::Cr2, _) => unsafe { x86::controlregs::cr2() as u64 },
            // SAFETY: as above.
            (SystemRegister::Dr6, _) => unsafe { x86::debugregs::dr6().bits() as u64 },
            (SystemRegister::TscAux, _) => extended_state::tsc_aux(),
            (SystemRegister::SpecCtrl, _) => self.spec_ctrl,
            // SAFETY: the register exists on every processor with long mode.
            (_, Some(index)) => unsafe { rdmsr(index) },
            (_, None) => 0,
        }
    }

    pub(super) fn write_system_register(&mut self, register: SystemRegister, value: u64) {
        let value = match register {
            SystemRegister::Dr7 => Dr7::from(value % TWO_TO_32).with_always_one(true).into(),
            _ => value,
        };
        if let Some(field) = field_of(register) {
            self.vmcs.write(field, value);
            if register == SystemRegister::Cr3 {
                self.before_entry |= BeforeEntry::FLUSH_GUEST;
            }
            return;
        }
        match (register, live_msr(register)) {
            // SAFETY: the hypervisor does not use it but for its own end.
            (SystemRegister::Cr2, _) => unsafe { x86::controlregs::cr2_write(value) },
            (SystemRegister::Dr6, _) => {
                // SAFETY: the hypervisor does not use debug registers; the high half must be zero.
                unsafe {
                    core::arch::asm!(
                        "mov dr6, {}",
                        in(reg) value % TWO_TO_32,
                        options(nomem, nostack)
                    )
                };
            }
            (SystemRegister::TscAux, _) => extended_state::set_tsc_aux(value),
            (SystemRegister::SpecCtrl, _) => {
                self.spec_ctrl = value;
                self.apply_spec_ctrl();
            }
            // SAFETY: the hypervisor does not use these registers, and the value is one that they
            // take.
            (_, Some(index)) if is_taken(register, value) => unsafe { wrmsr(index, value) },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_have_to_be_canonical() {
        const SELECTORS: u64 = 0x0023_0010_0000_0000;
        assert!(is_taken(SystemRegister::Star, SELECTORS));
        assert!(!is_taken(SystemRegister::LStar, SELECTORS));
        assert!(is_taken(SystemRegister::KernelGsBase, 0xffff_8000_0000_0000));
        assert!(is_taken(SystemRegister::SfMask, 0x4_7700));
        assert!(!is_taken(SystemRegister::SfMask, SELECTORS));
    }

    #[test]
    fn each_register_is_live_or_in_the_vmcs_or_in_a_list_of_msrs() {
        for register in LIVE_REGISTERS {
            assert!(field_of(register).is_none(), "{register:?}");
        }
        let others = [SystemRegister::Cr3, SystemRegister::Dr7, SystemRegister::Pat];
        let sysenter =
            [SystemRegister::SysenterCs, SystemRegister::SysenterEsp, SystemRegister::SysenterEip];
        let in_vmcs = others.into_iter().chain(sysenter);
        assert!(in_vmcs.clone().all(|register| field_of(register).is_some()));
        assert!(field_of(SystemRegister::SpecCtrl).is_none());
        assert_eq!(in_vmcs.count() + LIVE_REGISTERS.len() + 1, SystemRegister::COUNT);
    }
}
