//! 27.3.1: guest state but for segment registers.

use super::{Checker, EFER_KNOWN, is_canonical};
use crate::control_bits::{PinControls, PrimaryControls};
use crate::field::Field;
use crate::spec::{Interruptibility, PendingDebug, interruption};
use crate::vmcs::Fields;
use emulator::paging::{POINTER_RESERVED, is_legal_pat};
use emulator::registers::{Cr0, Rflags};

const DEBUG_CTL_BTF: u64 = 1 << 1;
/// LBR, BTF, TR to BTINT, BTS_OFF_OS to FREEZE_WHILE_SMM, RTM.
const DEBUG_CTL_KNOWN: u64 = 0xffc3;
const ACTIVE: u64 = 0;

pub fn check(checker: &mut Checker<'_, impl Fields>) {
    control_registers(checker);
    msrs(checker);
    tables(checker);
    rip_and_rflags(checker);
    interruptibility(checker);
    pending_debug(checker);
    let holds = checker.get(Field::LinkPointer) == u64::MAX;
    checker.rule(holds, "27.3.1.5: there is no linked VMCS", &[Field::LinkPointer]);
    page_directory_pointers(checker);
}

/// 27.3.1.1.
fn control_registers(checker: &mut Checker<'_, impl Fields>) {
    let capabilities = *checker.capabilities;
    let (cr0, cr4) = (checker.cr0(), checker.cr4());
    let free = if checker.unrestricted() {
        Cr0::new().with_protection(true).with_paging(true).into_bits()
    } else {
        0
    };
    let required = capabilities.cr0_fixed0 & !free;
    checker.rule(
        cr0.into_bits() & required == required && cr0.into_bits() & !capabilities.cr0_fixed1 == 0,
        "27.3.1.1: CR0 has the fixed bits",
        &[Field::GuestCr0],
    );
    checker.rule(
        !cr0.paging() || cr0.protection(),
        "27.3.1.1: paging needs protected mode",
        &[Field::GuestCr0],
    );
    checker.rule(
        cr4.into_bits() & capabilities.cr4_fixed0 == capabilities.cr4_fixed0
            && cr4.into_bits() & !capabilities.cr4_fixed1 == 0,
        "27.3.1.1: CR4 has the fixed bits",
        &[Field::GuestCr4],
    );
    checker.rule(
        !checker.to_long_mode() || (cr0.paging() && cr4.pae()),
        "27.3.1.1: long mode needs paging and PAE",
        &[Field::EntryControls, Field::GuestCr0, Field::GuestCr4],
    );
    checker.rule(
        checker.to_long_mode() || !cr4.pcide(),
        "27.3.1.1: PCIDE needs long mode",
        &[Field::EntryControls, Field::GuestCr4],
    );
    let holds = checker.is_physical(checker.get(Field::GuestCr3));
    checker.rule(
        holds,
        "27.3.1.1: CR3 has no bits beyond the physical address",
        &[Field::GuestCr3],
    );
}

/// 27.3.1.1.
fn msrs(checker: &mut Checker<'_, impl Fields>) {
    let holds = checker.get(Field::GuestDebugCtl) & !DEBUG_CTL_KNOWN == 0;
    checker.rule(holds, "27.3.1.1: DEBUGCTL has no reserved bits", &[Field::GuestDebugCtl]);
    let holds = checker.get(Field::GuestDr7) >> 32 == 0;
    checker.rule(holds, "27.3.1.1: DR7 has 32 bits", &[Field::GuestDr7]);
    for field in [Field::GuestSysenterEsp, Field::GuestSysenterEip] {
        let holds = is_canonical(checker.get(field));
        checker.rule(holds, "27.3.1.1: SYSENTER addresses are canonical", &[field]);
    }
    let holds = is_legal_pat(checker.get(Field::GuestPat));
    checker.rule(holds, "27.3.1.1: the PAT has legal memory types", &[Field::GuestPat]);
    let (efer, cr0) = (checker.efer(), checker.cr0());
    let holds = efer.into_bits() & !EFER_KNOWN == 0;
    checker.rule(holds, "27.3.1.1: EFER has no reserved bits", &[Field::GuestEfer]);
    checker.rule(
        efer.long_mode_active() == checker.to_long_mode()
            && (!cr0.paging() || efer.long_mode_active() == efer.long_mode_enable()),
        "27.3.1.1: EFER.LMA is the IA-32e-mode control and, with paging, EFER.LME",
        &[Field::GuestEfer, Field::EntryControls, Field::GuestCr0],
    );
}

/// 27.3.1.3.
fn tables(checker: &mut Checker<'_, impl Fields>) {
    for field in [Field::GuestGdtrBase, Field::GuestIdtrBase] {
        let holds = is_canonical(checker.get(field));
        checker.rule(holds, "27.3.1.3: the bases of GDTR and IDTR are canonical", &[field]);
    }
    for field in [Field::GuestGdtrLimit, Field::GuestIdtrLimit] {
        let holds = checker.get(field) >> 16 == 0;
        checker.rule(holds, "27.3.1.3: the limits of GDTR and IDTR have 16 bits", &[field]);
    }
}

/// 27.3.1.4.
fn rip_and_rflags(checker: &mut Checker<'_, impl Fields>) {
    const LONG_CODE: u64 = 1 << 13;
    let rip = checker.get(Field::GuestRip);
    let is_64_bit = checker.to_long_mode() && checker.get(Field::GuestCsRights) & LONG_CODE != 0;
    let upper = (rip as i64) >> 48;
    checker.rule(
        if is_64_bit { upper == 0 || upper == -1 } else { rip >> 32 == 0 },
        "27.3.1.4: RIP has 32 bits, or in 64-bit code a canonical form",
        &[Field::GuestRip, Field::GuestCsRights, Field::EntryControls],
    );
    let rflags = checker.rflags();
    checker.rule(
        rflags.into_bits() & !Rflags::DEFINED.into_bits() == 0 && rflags.always_one(),
        "27.3.1.4: RFLAGS has its fixed bits",
        &[Field::GuestRflags],
    );
    checker.rule(
        !rflags.virtual_8086() || (checker.cr0().protection() && !checker.to_long_mode()),
        "27.3.1.4: virtual-8086 mode needs protected mode, and no long mode",
        &[Field::GuestRflags, Field::GuestCr0, Field::EntryControls],
    );
    let injects_interrupt =
        checker.injection().valid() && checker.injection().kind() == interruption::EXTERNAL;
    checker.rule(
        !injects_interrupt || rflags.interrupt(),
        "27.3.1.4: an interrupt is injected only with RFLAGS.IF",
        &[Field::GuestRflags, Field::EntryInterruption],
    );
}

/// 27.3.1.5: activity and interruptibility.
fn interruptibility(checker: &mut Checker<'_, impl Fields>) {
    const FIELDS: &[Field] = &[
        Field::GuestInterruptibility,
        Field::GuestRflags,
        Field::EntryInterruption,
        Field::PinControls,
    ];
    let state = Interruptibility::from(checker.get(Field::GuestInterruptibility) as u32);
    let blocked = state.by_sti() || state.by_mov_ss();
    // No other state is used, so that the rules of those need no looking at.
    let holds = checker.get(Field::GuestActivity) == ACTIVE;
    checker.rule(holds, "27.3.1.5: the guest is active", &[Field::GuestActivity]);
    let reserved = state.into_bits() & !0x1f != 0 || state.by_smi() || state.enclave();
    checker.rule(!reserved, "27.3.1.5: interruptibility has no reserved bits", FIELDS);
    checker.rule(
        !(state.by_sti() && state.by_mov_ss()),
        "27.3.1.5: one of STI and MOV SS blocks",
        FIELDS,
    );
    checker.rule(
        !state.by_sti() || checker.rflags().interrupt(),
        "27.3.1.5: STI blocks only with RFLAGS.IF",
        FIELDS,
    );
    let event = checker.injection();
    if !event.valid() {
        return;
    }
    let kind = event.kind();
    checker.rule(
        kind != interruption::EXTERNAL || !blocked,
        "27.3.1.5: an interrupt is injected only without blocking",
        FIELDS,
    );
    checker.rule(
        kind != interruption::NMI || !state.by_mov_ss(),
        "27.3.1.5: an NMI is injected only without blocking by MOV SS",
        FIELDS,
    );
    let pin = PinControls::from_bits_retain(checker.get(Field::PinControls) as u32);
    checker.rule(
        !(kind == interruption::NMI && pin.contains(PinControls::VIRTUAL_NMIS) && state.by_nmi()),
        "27.3.1.5: a virtual NMI is injected only while NMIs are not blocked",
        FIELDS,
    );
}

/// 27.3.1.5: pending debug exceptions.
fn pending_debug(checker: &mut Checker<'_, impl Fields>) {
    const FIELDS: &[Field] = &[
        Field::GuestPendingDebug,
        Field::GuestInterruptibility,
        Field::GuestRflags,
        Field::GuestDebugCtl,
    ];
    let pending = PendingDebug::from(checker.get(Field::GuestPendingDebug));
    let reserved = pending.into_bits() & !0x1_500f != 0;
    checker.rule(!reserved, "27.3.1.5: pending debug exceptions have no reserved bits", FIELDS);
    let state = Interruptibility::from(checker.get(Field::GuestInterruptibility) as u32);
    let waits = state.by_sti() || state.by_mov_ss();
    let steps = checker.rflags().trap() && checker.get(Field::GuestDebugCtl) & DEBUG_CTL_BTF == 0;
    checker.rule(
        !waits || pending.single_step() == steps,
        "27.3.1.5: while blocking, a single step is pending exactly if RFLAGS.TF is set without BTF",
        FIELDS,
    );
}

/// 27.3.1.6: page-directory pointers of PAE paging, which EPT keeps in the VMCS.
fn page_directory_pointers(checker: &mut Checker<'_, impl Fields>) {
    const PRESENT: u64 = 1;
    let uses = checker.cr0().paging() && checker.cr4().pae() && !checker.to_long_mode();
    let has_secondary = checker.primary().contains(PrimaryControls::SECONDARY);
    if !uses || !has_secondary {
        return;
    }
    for field in [Field::GuestPdpte0, Field::GuestPdpte1, Field::GuestPdpte2, Field::GuestPdpte3] {
        let entry = checker.get(field);
        let holds =
            entry & PRESENT == 0 || (entry & POINTER_RESERVED == 0 && checker.is_physical(entry));
        checker.rule(
            holds,
            "27.3.1.6: page-directory pointers have no reserved bits",
            &[field, Field::GuestCr0, Field::GuestCr4, Field::EntryControls],
        );
    }
}
