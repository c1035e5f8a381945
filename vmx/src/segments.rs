//! Segment registers: between the VMCS's fields and the form that both vendors share.

use crate::field::Field;
use crate::spec::AccessRights;
use emulator::registers::{SegmentAttributes, SegmentName};

/// The four fields of a segment register.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFields {
    pub selector: Field,
    pub base: Field,
    pub limit: Field,
    pub rights: Field,
}

macro_rules! segment_fields {
    ($selector:ident, $base:ident, $limit:ident, $rights:ident) => {
        SegmentFields {
            selector: Field::$selector,
            base: Field::$base,
            limit: Field::$limit,
            rights: Field::$rights,
        }
    };
}

/// The fields of a segment register.
pub const fn fields(name: SegmentName) -> SegmentFields {
    match name {
        SegmentName::Es => {
            segment_fields!(GuestEsSelector, GuestEsBase, GuestEsLimit, GuestEsRights)
        }
        SegmentName::Cs => {
            segment_fields!(GuestCsSelector, GuestCsBase, GuestCsLimit, GuestCsRights)
        }
        SegmentName::Ss => {
            segment_fields!(GuestSsSelector, GuestSsBase, GuestSsLimit, GuestSsRights)
        }
        SegmentName::Ds => {
            segment_fields!(GuestDsSelector, GuestDsBase, GuestDsLimit, GuestDsRights)
        }
        SegmentName::Fs => {
            segment_fields!(GuestFsSelector, GuestFsBase, GuestFsLimit, GuestFsRights)
        }
        SegmentName::Gs => {
            segment_fields!(GuestGsSelector, GuestGsBase, GuestGsLimit, GuestGsRights)
        }
        SegmentName::Ldtr => {
            segment_fields!(GuestLdtrSelector, GuestLdtrBase, GuestLdtrLimit, GuestLdtrRights)
        }
        SegmentName::Tr => {
            segment_fields!(GuestTrSelector, GuestTrBase, GuestTrLimit, GuestTrRights)
        }
    }
}

/// The shared form of access rights. A segment that is unusable here is not present there.
pub fn attributes(rights: AccessRights) -> SegmentAttributes {
    // Both have a descriptor's bits in a descriptor's order: only the gap between bits 7 and 12 is
    // closed.
    let bits = rights.into_bits();
    let packed = (bits & 0xff | bits >> 4 & 0xf00) as u16;
    SegmentAttributes::from_bits(packed).with_present(rights.present() && !rights.unusable())
}

/// Type bit 1 of a TSS descriptor: busy. A VMCS takes no other task register.
const BUSY: u8 = 2;

/// The access rights of a segment register. TR cannot be unusable, and is always busy.
pub fn rights(name: SegmentName, attributes: SegmentAttributes) -> AccessRights {
    let is_tr = name == SegmentName::Tr;
    AccessRights::new()
        .with_kind(attributes.kind() | if is_tr { BUSY } else { 0 })
        .with_code_or_data(attributes.code_or_data())
        .with_dpl(attributes.dpl())
        .with_present(attributes.present() || is_tr)
        .with_available(attributes.available())
        .with_long(attributes.long())
        .with_default_big(attributes.default_big())
        .with_granularity(attributes.granularity())
        .with_unusable(!attributes.present() && !is_tr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_and_attributes_are_one_thing_in_two_forms() {
        for bits in 0..0x1000u16 {
            let shared = SegmentAttributes::from(bits);
            let there = rights(SegmentName::Ds, shared);
            assert_eq!(there.unusable(), !shared.present());
            assert_eq!(attributes(there), shared);
        }
    }

    #[test]
    fn flat_64_bit_code_has_its_bits_where_the_vmcs_wants_them() {
        // Descriptor 00AF9B000000FFFF.
        assert_eq!(rights(SegmentName::Cs, SegmentAttributes::from(0xa9b)).into_bits(), 0xa09b);
        assert_eq!(attributes(AccessRights::from(0x1c093)), SegmentAttributes::from(0xc13));
    }

    #[test]
    fn the_task_register_is_present_and_busy() {
        assert_eq!(rights(SegmentName::Tr, SegmentAttributes::from(0x89)).into_bits(), 0x8b);
        assert_eq!(rights(SegmentName::Tr, SegmentAttributes::new()).into_bits(), 0x82);
    }
}
