//! The registers after RESET# and INIT (SDM volume 3, table 10-1; APM volume 2, 14.1.3), which are
//! the same on both vendors' processors.

use crate::backend::{Backend, SystemRegister};
use emulator::registers::{
    Cr0, Cr4, Efer, Rflags, Segment, SegmentAttributes, SegmentName, TableRegister,
};

/// The reset vector: the last paragraph of the first 4 GiB, by the base of CS.
const RIP: u64 = 0xfff0;
const CS_SELECTOR: u16 = 0xf000;
const CS_BASE: u64 = 0xffff_0000;
/// Every limit.
const LIMIT: u16 = 0xffff;
/// Present, writable or readable, accessed; LDT and busy TSS.
const CODE: u16 = 0x9b;
const DATA: u16 = 0x93;
const LDT: u16 = 0x82;
const BUSY_TSS: u16 = 0x8b;

const SYSTEM_REGISTERS: [(SystemRegister, u64); 4] = [
    (SystemRegister::Cr2, 0),
    (SystemRegister::Cr3, 0),
    (SystemRegister::Dr6, 0xffff_0ff0),
    (SystemRegister::Dr7, 0x400),
];

/// Those that INIT leaves alone.
const MODEL_SPECIFIC_REGISTERS: [(SystemRegister, u64); 11] = [
    (SystemRegister::Pat, 0x0007_0406_0007_0406),
    (SystemRegister::Star, 0),
    (SystemRegister::LStar, 0),
    (SystemRegister::CStar, 0),
    (SystemRegister::SfMask, 0),
    (SystemRegister::KernelGsBase, 0),
    (SystemRegister::SysenterCs, 0),
    (SystemRegister::SysenterEsp, 0),
    (SystemRegister::SysenterEip, 0),
    (SystemRegister::TscAux, 0),
    (SystemRegister::SpecCtrl, 0),
];
const XCR0: u64 = 1;

/// A segment register.
pub fn segment(name: SegmentName) -> Segment {
    let (selector, base, attributes) = match name {
        SegmentName::Cs => (CS_SELECTOR, CS_BASE, CODE),
        SegmentName::Ldtr => (0, 0, LDT),
        SegmentName::Tr => (0, 0, BUSY_TSS),
        _ => (0, 0, DATA),
    };
    Segment { selector, base, limit: LIMIT.into(), attributes: SegmentAttributes::from(attributes) }
}

/// RESET#, without what [`init`] does too.
pub fn power_on(backend: &mut impl Backend) {
    backend.set_cr0(Cr0::new().with_not_write_through(true).with_cache_disable(true));
    for (register, value) in MODEL_SPECIFIC_REGISTERS {
        backend.set_system_register(register, value);
    }
    // Another guest may have left its own.
    backend.clear_extended_state();
    backend.set_xcr0(XCR0);
}

/// INIT, as far as the guest sees a backend's registers; what is pending or cached is the backend's
/// to forget.
pub fn init(backend: &mut impl Backend) {
    let caching = backend.cr0();
    let cr0 = Cr0::new()
        .with_extension_type(true)
        .with_not_write_through(caching.not_write_through())
        .with_cache_disable(caching.cache_disable());
    backend.set_efer(Efer::new());
    backend.set_cr0(cr0);
    backend.set_cr4(Cr4::new());
    for name in SegmentName::ALL {
        backend.set_segment(name, segment(name));
    }
    let table = TableRegister { base: 0, limit: LIMIT };
    backend.set_gdtr(table);
    backend.set_idtr(table);
    for (register, value) in SYSTEM_REGISTERS {
        backend.set_system_register(register, value);
    }
    backend.set_rflags(Rflags::new());
    backend.set_rip(RIP);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::Machine;
    use crate::test_platform::TestPlatform;

    #[test]
    fn every_register_has_a_value_after_power_on() {
        let mut found = [0; SystemRegister::COUNT];
        for (register, _) in MODEL_SPECIFIC_REGISTERS.into_iter().chain(SYSTEM_REGISTERS) {
            found[register as usize] += 1;
        }
        assert_eq!(found, [1; SystemRegister::COUNT]);
    }

    #[test]
    fn init_leaves_caching_and_model_specific_registers_alone() {
        let mut machine = Machine::new(TestPlatform::leak());
        let (backend, _) = machine.vcpu.registers_mut();
        power_on(backend);
        init(backend);
        assert_eq!(u64::from(backend.cr0()), 0x6000_0010);
        let lstar = backend.system_register(SystemRegister::LStar);
        assert_eq!((lstar, backend.xcr0()), (0, 1));
        backend.set_cr0(0x8000_0013.into());
        backend.set_xcr0(7);
        backend.set_efer(Efer::new().with_syscall(true));
        for (register, _) in MODEL_SPECIFIC_REGISTERS.into_iter().chain(SYSTEM_REGISTERS) {
            backend.set_system_register(register, 0x1234);
        }
        init(backend);
        assert_eq!((u64::from(backend.cr0()), u64::from(backend.efer())), (0x10, 0));
        assert_eq!(backend.xcr0(), 7);
        for (register, _) in MODEL_SPECIFIC_REGISTERS {
            assert_eq!(backend.system_register(register), 0x1234, "{register:?}");
        }
        for (register, value) in SYSTEM_REGISTERS {
            assert_eq!(backend.system_register(register), value, "{register:?}");
        }
    }
}
