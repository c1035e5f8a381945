//! 27.2.1: VMX controls.

use super::Checker;
use crate::control_bits::{ExitControls, PinControls, PrimaryControls, SecondaryControls};
use crate::field::Field;
use crate::spec::{EptPointer, Interruption, interruption};
use crate::vmcs::Fields;

const fn allowed(value: u64, capability: u64) -> bool {
    let (must, may) = (capability as u32 as u64, capability >> 32);
    value & must == must && value & !may == 0
}

pub fn check(checker: &mut Checker<'_, impl Fields>) {
    words(checker);
    let (primary, secondary) = (checker.primary(), checker.secondary());
    let pin = PinControls::from_bits_retain(checker.get(Field::PinControls) as u32);
    checker.rule(
        !pin.contains(PinControls::VIRTUAL_NMIS) || pin.contains(PinControls::NMI),
        "27.2.1.1: virtual NMIs need NMI exiting",
        &[Field::PinControls],
    );
    checker.rule(
        !primary.contains(PrimaryControls::NMI_WINDOW) || pin.contains(PinControls::VIRTUAL_NMIS),
        "27.2.1.1: NMI-window exiting needs virtual NMIs",
        &[Field::PrimaryControls, Field::PinControls],
    );
    let exit = ExitControls::from_bits_retain(checker.get(Field::ExitControls) as u32);
    checker.rule(
        pin.contains(PinControls::PREEMPTION_TIMER)
            || !exit.contains(ExitControls::SAVE_PREEMPTION_TIMER),
        "27.2.1.2: the preemption timer is saved only if it is used",
        &[Field::PinControls, Field::ExitControls],
    );
    checker.rule(
        !checker.unrestricted() || secondary.contains(SecondaryControls::EPT),
        "27.2.1.1: unrestricted guest needs EPT",
        &[Field::SecondaryControls],
    );
    checker.rule(
        !secondary.contains(SecondaryControls::PAGE_LOG)
            || secondary.contains(SecondaryControls::EPT),
        "27.2.1.1: page-modification logging needs EPT",
        &[Field::SecondaryControls],
    );
    checker.rule(
        !secondary.contains(SecondaryControls::VPID) || checker.get(Field::Vpid) != 0,
        "27.2.1.1: the VPID is not 0",
        &[Field::Vpid],
    );
    checker.rule(
        checker.get(Field::Cr3TargetCount) <= 4,
        "27.2.1.1: at most 4 CR3 targets",
        &[Field::Cr3TargetCount],
    );
    addresses(checker);
    local_apic(checker);
    injection(checker);
}

/// 27.2.1.1: the local APIC in hardware.
fn local_apic(checker: &mut Checker<'_, impl Fields>) {
    const FIELDS: &[Field] =
        &[Field::PinControls, Field::PrimaryControls, Field::SecondaryControls];
    let (primary, secondary) = (checker.primary(), checker.secondary());
    let by_msrs = secondary.contains(SecondaryControls::X2APIC);
    let in_memory = secondary.contains(SecondaryControls::APIC_ACCESSES);
    let delivers = secondary.contains(SecondaryControls::VIRTUAL_INTERRUPTS);
    let needs_shadow = by_msrs || delivers || secondary.contains(SecondaryControls::APIC_REGISTERS);
    checker.rule(
        !needs_shadow || primary.contains(PrimaryControls::TPR_SHADOW),
        "27.2.1.1: x2APIC mode, APIC registers and virtual interrupts need the TPR shadow",
        FIELDS,
    );
    checker.rule(
        !(by_msrs && in_memory),
        "27.2.1.1: the local APIC is virtualised in memory or in x2APIC mode",
        FIELDS,
    );
    let pin = PinControls::from_bits_retain(checker.get(Field::PinControls) as u32);
    checker.rule(
        !delivers || pin.contains(PinControls::EXTERNAL_INTERRUPT),
        "27.2.1.1: virtual interrupts need external-interrupt exiting",
        FIELDS,
    );
    let exit = ExitControls::from_bits_retain(checker.get(Field::ExitControls) as u32);
    let posted = pin.contains(PinControls::POSTED_INTERRUPTS);
    checker.rule(
        !posted || delivers && exit.contains(ExitControls::ACKNOWLEDGE_INTERRUPT),
        "27.2.1.1: posted interrupts need virtual-interrupt delivery and interrupts acknowledged at exits",
        &[Field::PinControls, Field::SecondaryControls, Field::ExitControls],
    );
    checker.rule(
        !posted || checker.get(Field::PostedVector) < 256,
        "27.2.1.1: the notification vector has 8 bits",
        &[Field::PostedVector],
    );
    let descriptor = checker.get(Field::PostedDescriptor);
    checker.rule(
        !posted || descriptor.is_multiple_of(64) && checker.is_physical(descriptor),
        "27.2.1.1: the posted-interrupt descriptor is 64 bytes in memory",
        &[Field::PostedDescriptor],
    );
    let page = checker.get(Field::ApicAccessPage);
    checker.rule(
        !in_memory || page.is_multiple_of(4096) && checker.is_physical(page),
        "27.2.1.1: the APIC-access page is a page",
        &[Field::ApicAccessPage],
    );
    let has_threshold = primary.contains(PrimaryControls::TPR_SHADOW) && !delivers;
    checker.rule(
        !has_threshold || checker.get(Field::TprThreshold) < 16,
        "27.2.1.1: the TPR threshold has 4 bits",
        &[Field::TprThreshold],
    );
    checker.rule(
        !has_threshold
            || in_memory
            || checker.get(Field::TprThreshold) <= u64::from(checker.virtual_tpr >> 4),
        "27.2.1.1: the TPR threshold is not above the task priority",
        &[Field::TprThreshold, Field::PrimaryControls, Field::SecondaryControls],
    );
}

fn words(checker: &mut Checker<'_, impl Fields>) {
    let capabilities = *checker.capabilities;
    let words = [
        (
            Field::PinControls,
            capabilities.pin,
            "27.2.1.1: pin-based controls as the capability MSR allows",
        ),
        (
            Field::PrimaryControls,
            capabilities.primary,
            "27.2.1.1: primary controls as the capability MSR allows",
        ),
        (
            Field::SecondaryControls,
            capabilities.secondary,
            "27.2.1.1: secondary controls as the capability MSR allows",
        ),
        (
            Field::ExitControls,
            capabilities.exit,
            "27.2.1.2: exit controls as the capability MSR allows",
        ),
        (
            Field::EntryControls,
            capabilities.entry,
            "27.2.1.3: entry controls as the capability MSR allows",
        ),
    ];
    for (field, capability, rule) in words {
        checker.rule(allowed(checker.get(field), capability), rule, &[field]);
    }
}

fn addresses(checker: &mut Checker<'_, impl Fields>) {
    /// Of the EPT pointer.
    const RESERVED: u64 = 0xf00;
    let is_page = |checker: &Checker<'_, _>, field| {
        let address: u64 = Checker::get(checker, field);
        address.is_multiple_of(4096) && checker.is_physical(address)
    };
    if checker.primary().contains(PrimaryControls::MSR_BITMAPS) {
        let holds = is_page(checker, Field::MsrBitmap);
        checker.rule(holds, "27.2.1.1: the MSR bitmap is a page", &[Field::MsrBitmap]);
    }
    for (count, list, rule) in [
        (
            Field::ExitMsrLoadCount,
            Field::ExitMsrLoadAddress,
            "27.2.1.2: the MSRs to load at exits are at a multiple of 16",
        ),
        (
            Field::EntryMsrLoadCount,
            Field::EntryMsrLoadAddress,
            "27.2.1.3: the MSRs to load at entries are at a multiple of 16",
        ),
    ] {
        let address = checker.get(list);
        let holds =
            checker.get(count) == 0 || address.is_multiple_of(16) && checker.is_physical(address);
        checker.rule(holds, rule, &[count, list]);
    }
    if checker.primary().contains(PrimaryControls::TPR_SHADOW) {
        let holds = is_page(checker, Field::VirtualApicPage);
        checker.rule(holds, "27.2.1.1: the virtual-APIC page is a page", &[Field::VirtualApicPage]);
    }
    if checker.secondary().contains(SecondaryControls::PAGE_LOG) {
        let holds = is_page(checker, Field::PageLogAddress);
        checker.rule(holds, "27.2.1.1: the log of pages is a page", &[Field::PageLogAddress]);
    }
    if checker.secondary().contains(SecondaryControls::EPT) {
        let pointer = EptPointer::from(checker.get(Field::EptPointer));
        let ept = checker.capabilities.ept_vpid;
        let holds = match pointer.memory_type() {
            0 => ept.uncached_tables(),
            6 => ept.write_back_tables(),
            _ => false,
        };
        checker.rule(
            holds,
            "27.2.1.1: EPT tables have a memory type that the CPU takes",
            &[Field::EptPointer],
        );
        let holds = pointer.walk_length_less_one() == 3
            && (ept.accessed_dirty() || !pointer.accessed_dirty())
            && !pointer.shadow_stack()
            && checker.get(Field::EptPointer) & RESERVED == 0
            && checker.is_physical(pointer.frame() << 12);
        checker.rule(
            holds,
            "27.2.1.1: the EPT pointer has four levels and no reserved bits",
            &[Field::EptPointer],
        );
    }
}

/// 27.2.1.3: the event to be injected.
fn injection(checker: &mut Checker<'_, impl Fields>) {
    const FIELDS: &[Field] = &[Field::EntryInterruption, Field::EntryErrorCode, Field::GuestCr0];
    let event = checker.injection();
    if !event.valid() {
        return;
    }
    let kind = event.kind();
    let reserved = Interruption::from(event.into_bits() & !0x8000_0fff) != Interruption::new();
    checker.rule(
        kind != 1 && !reserved,
        "27.2.1.3: the event has a known kind and no reserved bits",
        FIELDS,
    );
    let vector_fits = match kind {
        interruption::NMI => event.vector() == 2,
        interruption::HARDWARE_EXCEPTION => event.vector() < 32,
        interruption::OTHER => event.vector() == 0,
        _ => true,
    };
    checker.rule(vector_fits, "27.2.1.3: the vector belongs to the event's kind", FIELDS);
    let may_have_code = kind == interruption::HARDWARE_EXCEPTION && checker.cr0().protection();
    let has_code = matches!(event.vector(), 8 | 10..=14 | 17) && may_have_code;
    let is_free = may_have_code && checker.capabilities.basic.any_error_code();
    checker.rule(
        event.has_error_code() == has_code || is_free,
        "27.2.1.3: exceptions have an error code exactly if they have one in protected mode",
        FIELDS,
    );
    let clean = !event.has_error_code() || checker.get(Field::EntryErrorCode) >> 16 == 0;
    checker.rule(clean, "27.2.1.3: error codes have 16 bits", FIELDS);
}
