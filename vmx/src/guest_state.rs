//! The guest's registers after RESET#.

use crate::controls::EntryControls;
use crate::field::Field;
use crate::segments;
use crate::vmcs::Vmcs;
use vmm_core::registers::{Cr0, Rflags, SegmentName};

/// Power-on contents of the page attribute table.
const PAT: u64 = 0x0007_0406_0007_0406;
const DR7: u64 = 0x400;
/// No shadow VMCS.
const NO_LINK: u64 = u64::MAX;
const RIP: u64 = 0xfff0;

/// Writes a segment register.
pub fn write_segment(vmcs: &mut Vmcs, name: SegmentName, segment: vmm_core::registers::Segment) {
    let fields = segments::fields(name);
    vmcs.write(fields.selector, segment.selector.into());
    vmcs.write(fields.base, segment.base);
    vmcs.write(fields.limit, segment.limit.into());
    vmcs.write(fields.rights, segments::rights(name, segment.attributes).into_bits().into());
}

/// CR0 after RESET#.
pub const fn cr0() -> Cr0 {
    Cr0::new().with_extension_type(true).with_not_write_through(true).with_cache_disable(true)
}

/// Writes the guest state after RESET#, but for CR0 and CR4, which are shared between guest and host.
pub fn reset(vmcs: &mut Vmcs) {
    for name in segments::NAMES {
        write_segment(vmcs, name, segments::at_reset(name));
    }
    let tables = [Field::GuestGdtrLimit, Field::GuestIdtrLimit];
    for field in tables {
        vmcs.write(field, 0xffff);
    }
    let zeroes = [
        Field::GuestGdtrBase,
        Field::GuestIdtrBase,
        Field::GuestCr3,
        Field::GuestEfer,
        Field::GuestDebugCtl,
        Field::GuestPdpte0,
        Field::GuestPdpte1,
        Field::GuestPdpte2,
        Field::GuestPdpte3,
        Field::GuestInterruptibility,
        Field::GuestActivity,
        Field::GuestPendingDebug,
        Field::GuestSysenterCs,
        Field::GuestSysenterEsp,
        Field::GuestSysenterEip,
        Field::GuestRsp,
        Field::EntryInterruption,
    ];
    for field in zeroes {
        vmcs.write(field, 0);
    }
    vmcs.write(Field::LinkPointer, NO_LINK);
    vmcs.write(Field::GuestPat, PAT);
    vmcs.write(Field::GuestDr7, DR7);
    vmcs.write(Field::GuestRip, RIP);
    vmcs.write(Field::GuestRflags, Rflags::new().into());
    set_64_bit_at_entry(vmcs, false);
}

/// Tells whether the next entry is to long mode: equal to EFER.LMA.
pub fn set_64_bit_at_entry(vmcs: &mut Vmcs, long_mode: bool) {
    let mut controls = EntryControls::from_bits_retain(vmcs.read(Field::EntryControls) as u32);
    controls.set(EntryControls::GUEST_64_BIT, long_mode);
    vmcs.write(Field::EntryControls, controls.bits().into());
}
