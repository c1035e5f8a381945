//! The registers after RESET# (SDM volume 3, table 10-1; APM volume 2, 14.1.3), which are the same on both vendors' processors.

use crate::backend::{Backend, SystemRegister};
use crate::registers::{Cr0, Cr4, Efer, Rflags, Segment, SegmentAttributes, SegmentName, TableRegister};

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

const SYSTEM_REGISTERS: [(SystemRegister, u64); 14] = [
    (SystemRegister::Cr2, 0),
    (SystemRegister::Cr3, 0),
    (SystemRegister::Dr6, 0xffff_0ff0),
    (SystemRegister::Dr7, 0x400),
    (SystemRegister::Pat, 0x0007_0406_0007_0406),
    (SystemRegister::Star, 0),
    (SystemRegister::LStar, 0),
    (SystemRegister::CStar, 0),
    (SystemRegister::SfMask, 0),
    (SystemRegister::KernelGsBase, 0),
    (SystemRegister::SysenterCs, 0),
    (SystemRegister::SysenterEsp, 0),
    (SystemRegister::SysenterEip, 0),
    (SystemRegister::DebugCtl, 0),
];

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

/// CR0.
pub const fn cr0() -> Cr0 {
    Cr0::new().with_extension_type(true).with_not_write_through(true).with_cache_disable(true)
}

/// Puts back what the guest sees of a backend's registers; what is pending or cached is the backend's to forget.
pub fn registers(backend: &mut impl Backend) {
    backend.set_efer(Efer::new());
    backend.set_cr0(cr0());
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
