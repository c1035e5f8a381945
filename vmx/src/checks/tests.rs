//! A guest after RESET# keeps every rule; each change below breaks the one that it should.

use super::*;
use crate::control_bits::ExitControls;
use crate::controls::Controls;
use crate::controls::tests::processor;
use crate::decode::tests::Table;
use crate::segments;
use emulator::registers::SegmentName;
use std::string::ToString;
use std::vec::Vec;
use vmm_core::backend::reset;

const ADDRESS_BITS: u8 = 39;

fn capabilities() -> Capabilities {
    processor("Core i7-5600U")
}

/// A flat protected-mode or real-mode guest under a 64-bit host, as `Vmx` and `host_state` make it.
fn after_reset() -> Table {
    let controls = Controls::new(&capabilities()).unwrap();
    let mut table = Table::new()
        .with(Field::PinControls, controls.pin.bits().into())
        .with(Field::PrimaryControls, controls.primary.bits().into())
        .with(Field::SecondaryControls, controls.secondary.bits().into())
        .with(Field::ExitControls, controls.exit.bits().into())
        .with(Field::EntryControls, controls.entry.bits().into())
        .with(Field::Vpid, 1)
        .with(Field::MsrBitmap, 0x10_0000)
        .with(Field::VirtualApicPage, 0x10_1000)
        .with(Field::EptPointer, 0x10_201e)
        .with(Field::HostCr0, 0x8001_0033)
        .with(Field::HostCr3, 0x10_3000)
        .with(Field::HostCr4, 0x42660)
        .with(Field::HostEfer, 0xd00)
        .with(Field::HostPat, 0x0007_0406_0007_0406)
        .with(Field::HostCsSelector, 8)
        .with(Field::HostTrSelector, 0x18)
        .with(Field::HostRip, 0x10_4000)
        .with(Field::GuestCr0, 0x30)
        .with(Field::GuestCr4, 0x2000)
        .with(Field::GuestPat, 0x0007_0406_0007_0406)
        .with(Field::GuestDr7, 0x400)
        .with(Field::GuestRip, 0xfff0)
        .with(Field::GuestRflags, 2)
        .with(Field::LinkPointer, u64::MAX)
        .with(Field::GuestGdtrLimit, 0xffff)
        .with(Field::GuestIdtrLimit, 0xffff);
    for name in SegmentName::ALL {
        let (fields, segment) = (segments::fields(name), reset::segment(name));
        table = table
            .with(fields.selector, segment.selector.into())
            .with(fields.base, segment.base)
            .with(fields.limit, segment.limit.into())
            .with(fields.rights, segments::rights(name, segment.attributes).into_bits().into());
    }
    table
}

/// The same in 64-bit mode.
fn in_long_mode() -> Table {
    let entry =
        after_reset().get(Field::EntryControls) | u64::from(EntryControls::GUEST_64_BIT.bits());
    after_reset()
        .with(Field::EntryControls, entry)
        .with(Field::GuestCr0, 0x8005_003b)
        .with(Field::GuestCr3, 0x1000)
        .with(Field::GuestCr4, 0x6_26f8)
        .with(Field::GuestEfer, 0xd01)
        .with(Field::GuestCsBase, 0)
        .with(Field::GuestCsLimit, 0xffff_ffff)
        .with(Field::GuestCsRights, 0xa09b)
        .with(Field::GuestSsRights, 0x1c093)
        .with(Field::GuestRip, 0xffff_ffff_8100_0000)
        .with(Field::GuestRflags, 0x246)
}

fn violations(table: &Table) -> Vec<Violation> {
    check(table, &capabilities(), ADDRESS_BITS, 0)
}

/// The one rule that `table` breaks.
fn broken(table: &Table) -> std::string::String {
    match &violations(table)[..] {
        [violation] => violation.to_string(),
        violations => std::format!("{} rules: {violations:?}", violations.len()),
    }
}

#[test]
fn guests_that_run_keep_every_rule() {
    assert_eq!(violations(&after_reset()), []);
    assert_eq!(violations(&in_long_mode()), []);
    let virtual_8086 = in_virtual_8086();
    assert_eq!(violations(&virtual_8086), []);
}

#[test]
fn posted_interrupts_have_what_they_need() {
    let capabilities = processor("Bochs corei7_skylake_x");
    let controls = Controls::new(&capabilities).unwrap();
    let posted = after_reset()
        .with(Field::PinControls, controls.pin.bits().into())
        .with(Field::SecondaryControls, controls.secondary.bits().into())
        .with(Field::ExitControls, controls.exit.bits().into())
        .with(Field::PageLogAddress, 0x10_5000)
        .with(Field::PostedDescriptor, 0x10_6040)
        .with(Field::PostedVector, 0xe2);
    let broken = |table: &Table| -> Vec<_> {
        check(table, &capabilities, ADDRESS_BITS, 0).iter().map(Violation::to_string).collect()
    };
    assert_eq!(broken(&posted), [""; 0]);
    let acknowledge = u64::from(ExitControls::ACKNOWLEDGE_INTERRUPT.bits());
    let cases = [
        (posted.clone().with(Field::PostedDescriptor, 0x10_6020), "64 bytes"),
        (posted.clone().with(Field::PostedVector, 0x100), "8 bits"),
        (
            posted
                .clone()
                .with(Field::ExitControls, posted.get(Field::ExitControls) & !acknowledge),
            "acknowledged",
        ),
    ];
    for (table, text) in cases {
        assert!(
            broken(&table).len() == 1 && broken(&table)[0].contains(text),
            "{text}: {:?}",
            broken(&table)
        );
    }
}

fn in_virtual_8086() -> Table {
    let mut table = after_reset()
        .with(Field::GuestCr0, 0x31)
        .with(Field::GuestRflags, 0x2_3202)
        .with(Field::GuestRip, 0x100);
    for name in &SegmentName::ALL[..6] {
        let fields = segments::fields(*name);
        table = table
            .with(fields.selector, 0x1234)
            .with(fields.base, 0x1_2340)
            .with(fields.limit, 0xffff)
            .with(fields.rights, 0xf3);
    }
    table
}

#[test]
fn the_broken_rule_is_named_with_its_fields() {
    let text = broken(&after_reset().with(Field::GuestCr4, 0));
    assert_eq!(text, "27.3.1.1: CR4 has the fixed bits: GuestCr4 0x0");
}

#[test]
fn each_rule_is_found() {
    type Case = (Table, &'static str);
    let real = after_reset;
    let long = in_long_mode;
    let cases: &[Case] = &[
        (real().with(Field::PinControls, 0x40), "pin-based"),
        (real().with(Field::PinControls, 0x3e), "preemption timer"),
        (real().with(Field::Vpid, 0), "VPID"),
        (real().with(Field::EptPointer, 0x10_201c), "memory type"),
        (real().with(Field::EptPointer, 0x10_2006), "four levels"),
        (real().with(Field::EptPointer, 0x10_211e), "reserved"),
        (real().with(Field::MsrBitmap, 0x10_0008), "MSR bitmap"),
        (
            real().with(Field::EntryMsrLoadCount, 1).with(Field::EntryMsrLoadAddress, 0x10_0008),
            "load at entries",
        ),
        (
            real().with(Field::ExitMsrLoadCount, 2).with(Field::ExitMsrLoadAddress, 0x10_0004),
            "load at exits",
        ),
        (real().with(Field::VirtualApicPage, 1 << 45), "virtual-APIC"),
        (
            real().with(Field::SecondaryControls, 1 << 17 | 1 << 1).with(Field::PageLogAddress, 8),
            "log of pages",
        ),
        (real().with(Field::SecondaryControls, 1 << 17), "logging needs EPT"),
        (real().with(Field::TprThreshold, 0x10), "threshold"),
        (real().with(Field::EntryInterruption, 0x8000_0130), "known kind"),
        (real().with(Field::EntryInterruption, 0x8000_0b0d), "error code"),
        (long().with(Field::EntryInterruption, 0x8000_030d), "error code"),
        (long().with(Field::EntryInterruption, 0x8000_0203), "vector"),
        (
            long()
                .with(Field::EntryInterruption, 0x8000_0b0d)
                .with(Field::EntryErrorCode, 0x1_0000),
            "16 bits",
        ),
        (real().with(Field::EntryInterruption, 0x8000_0030), "RFLAGS.IF"),
        (real().with(Field::HostCr4, 0x660), "host CR4"),
        (real().with(Field::HostGsBase, 1 << 47), "host addresses"),
        (real().with(Field::HostSsSelector, 3), "host selectors"),
        (real().with(Field::HostTrSelector, 0), "not null"),
        (real().with(Field::HostEfer, 0), "long mode"),
        (real().with(Field::HostEfer, 0x1d00), "host EFER"),
        (long().with(Field::GuestCr3, 1 << 39), "CR3"),
        (real().with(Field::GuestCr4, 0x2_2000), "PCIDE"),
        (long().with(Field::GuestEfer, 0x901), "EFER.LMA"),
        (long().with(Field::GuestEfer, 0x1d01), "reserved"),
        (real().with(Field::GuestPat, 2), "PAT"),
        (real().with(Field::GuestDebugCtl, 4), "DEBUGCTL"),
        (real().with(Field::GuestDr7, 1 << 32), "DR7"),
        (real().with(Field::GuestGdtrLimit, 0x1_0000), "16 bits"),
        (real().with(Field::GuestRip, 1 << 32), "RIP"),
        (long().with(Field::GuestRip, 1 << 48), "RIP"),
        (real().with(Field::GuestRflags, 0), "RFLAGS"),
        (long().with(Field::GuestInterruptibility, 3), "one of STI"),
        (real().with(Field::GuestInterruptibility, 1), "STI blocks"),
        (
            long()
                .with(Field::GuestInterruptibility, 2)
                .with(Field::EntryInterruption, 0x8000_0030),
            "without blocking",
        ),
        (
            long()
                .with(Field::GuestInterruptibility, 8)
                .with(Field::EntryInterruption, 0x8000_0202),
            "virtual NMI",
        ),
        (
            long().with(Field::GuestInterruptibility, 1).with(Field::GuestRflags, 0x346),
            "single step",
        ),
        (real().with(Field::GuestActivity, 1), "active"),
        (real().with(Field::GuestPendingDebug, 1 << 20), "pending debug"),
        (real().with(Field::LinkPointer, 0), "linked"),
        (
            real()
                .with(Field::GuestCr0, 0x8000_0031)
                .with(Field::GuestCr4, 0x2020)
                .with(Field::GuestPdpte2, 0x21),
            "page-directory",
        ),
        (long().with(Field::GuestCsRights, 0xe09b), "D bit"),
        (long().with(Field::GuestCsRights, 0xa0fb), "fits SS"),
        (long().with(Field::GuestCsLimit, 0xffff_0000), "granularity of CS"),
        (real().with(Field::GuestSsRights, 0x91), "SS is"),
        (real().with(Field::GuestDsRights, 0x92), "data segment"),
        (real().with(Field::GuestEsLimit, 0x10_0000), "granularity"),
        (real().with(Field::GuestTrRights, 0x89), "TR is"),
        (long().with(Field::GuestTrRights, 0x83), "TR is"),
        (real().with(Field::GuestTrSelector, 4), "of the GDT"),
        (real().with(Field::GuestLdtrRights, 0x83), "LDT"),
        (real().with(Field::GuestFsBase, 1 << 47), "bases"),
        (real().with(Field::GuestCsBase, 1 << 32), "base of CS"),
        (in_virtual_8086().with(Field::GuestCsLimit, 0xfffff), "virtual-8086"),
    ];
    for (table, text) in cases {
        assert!(broken(table).contains(text), "{text}: {}", broken(table));
    }
}

#[test]
fn a_threshold_above_the_task_priority_is_found() {
    let without = SecondaryControls::APIC_ACCESSES | SecondaryControls::VIRTUAL_INTERRUPTS;
    let secondary = after_reset().get(Field::SecondaryControls) & !u64::from(without.bits());
    let table =
        after_reset().with(Field::SecondaryControls, secondary).with(Field::TprThreshold, 5);
    let rules = |table: &Table, tpr| {
        let broken = check(table, &capabilities(), ADDRESS_BITS, tpr);
        broken.iter().map(|violation| violation.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules(&table, 0x4f), ["27.2.1.1: the TPR threshold is not above the task priority"]);
    assert_eq!(rules(&table, 0x50), [""; 0]);
    let in_memory = secondary | u64::from(SecondaryControls::APIC_ACCESSES.bits());
    assert_eq!(rules(&table.with(Field::SecondaryControls, in_memory), 0), [""; 0]);
}

#[test]
fn an_error_code_that_is_free_still_needs_an_exception_in_protected_mode() {
    let mut capabilities = capabilities();
    capabilities.basic.set_any_error_code(true);
    let breaks = |table: Table, event| {
        !check(&table.with(Field::EntryInterruption, event), &capabilities, ADDRESS_BITS, 0)
            .is_empty()
    };
    // #UD with an error code and #GP without; then both, and an interrupt with one.
    assert!(!breaks(in_long_mode(), 0x8000_0b06) && !breaks(in_long_mode(), 0x8000_030d));
    assert!(breaks(after_reset(), 0x8000_0b0d) && !breaks(after_reset(), 0x8000_030d));
    assert!(breaks(in_long_mode(), 0x8000_0830));
}

#[test]
fn unusable_segments_are_not_looked_at() {
    let fields = segments::fields(SegmentName::Gs);
    assert_eq!(violations(&after_reset().with(fields.rights, 0x1_0000).with(fields.limit, 7)), []);
}
