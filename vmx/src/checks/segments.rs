//! 27.3.1.2: segment registers.

use super::{Checker, is_canonical};
use crate::field::Field;
use crate::segments::{SegmentFields, fields};
use crate::spec::AccessRights;
use crate::vmcs::Fields;
use emulator::registers::SegmentName;

const DATA: [SegmentName; 4] = [SegmentName::Ds, SegmentName::Es, SegmentName::Fs, SegmentName::Gs];
const LDT: u8 = 2;
const BUSY_TSS_16: u8 = 3;
const BUSY_TSS: u8 = 11;
const TABLE_INDICATOR: u64 = 4;

pub fn check(checker: &mut Checker<'_, impl Fields>) {
    if checker.rflags().virtual_8086() {
        virtual_8086(checker);
    } else {
        code(checker);
        stack(checker);
        for name in DATA {
            data(checker, name);
        }
    }
    bases(checker);
    task(checker);
    local_table(checker);
}

fn rights(checker: &Checker<'_, impl Fields>, name: SegmentName) -> AccessRights {
    AccessRights::from(checker.get(fields(name).rights) as u32)
}

const fn all(fields: SegmentFields) -> [Field; 4] {
    [fields.selector, fields.base, fields.limit, fields.rights]
}

/// A limit whose low 12 bits are not all ones is counted in bytes, one with high bits in pages.
const fn granularity_fits(limit: u64, pages: bool) -> bool {
    if pages { limit & 0xfff == 0xfff } else { limit >> 20 == 0 }
}

fn is_clean(rights: AccessRights) -> bool {
    rights.into_bits() & 0xfffe_0f00 == 0
}

fn virtual_8086(checker: &mut Checker<'_, impl Fields>) {
    const RIGHTS: u64 = 0xf3;
    let names = [
        SegmentName::Cs,
        SegmentName::Ss,
        SegmentName::Ds,
        SegmentName::Es,
        SegmentName::Fs,
        SegmentName::Gs,
    ];
    for name in names {
        let SegmentFields { selector, base, limit, rights } = fields(name);
        let holds = checker.get(base) == checker.get(selector) << 4
            && checker.get(limit) == 0xffff
            && checker.get(rights) == RIGHTS;
        checker.rule(
            holds,
            "27.3.1.2: in virtual-8086 mode base is selector * 16, limit FFFFh, access rights F3h",
            &all(fields(name)),
        );
    }
}

fn bases(checker: &mut Checker<'_, impl Fields>) {
    for field in [Field::GuestTrBase, Field::GuestFsBase, Field::GuestGsBase] {
        let holds = is_canonical(checker.get(field));
        checker.rule(holds, "27.3.1.2: the bases of TR, FS and GS are canonical", &[field]);
    }
    let holds = checker.get(Field::GuestCsBase) >> 32 == 0;
    checker.rule(holds, "27.3.1.2: the base of CS has 32 bits", &[Field::GuestCsBase]);
    for name in [SegmentName::Ss, SegmentName::Ds, SegmentName::Es] {
        let segment = fields(name);
        let holds = rights(checker, name).unusable() || checker.get(segment.base) >> 32 == 0;
        let read = [segment.base, segment.rights];
        checker.rule(holds, "27.3.1.2: the bases of SS, DS and ES have 32 bits", &read);
    }
}

fn code(checker: &mut Checker<'_, impl Fields>) {
    let cs = fields(SegmentName::Cs);
    let all =
        [cs.limit, cs.rights, Field::GuestSsRights, Field::SecondaryControls, Field::EntryControls];
    let rights_cs = rights(checker, SegmentName::Cs);
    let ss_dpl = rights(checker, SegmentName::Ss).dpl();
    let unrestricted = checker.unrestricted();
    let kind_fits =
        matches!(rights_cs.kind(), 9 | 11 | 13 | 15) || (unrestricted && rights_cs.kind() == 3);
    checker.rule(
        kind_fits && rights_cs.code_or_data(),
        "27.3.1.2: CS is accessed code, or in an unrestricted guest data",
        &all,
    );
    let dpl_fits = match rights_cs.kind() {
        3 => rights_cs.dpl() == 0,
        9 | 11 => rights_cs.dpl() == ss_dpl,
        _ => rights_cs.dpl() <= ss_dpl,
    };
    checker.rule(dpl_fits, "27.3.1.2: the privilege level of CS fits SS", &all);
    checker.rule(
        rights_cs.present() && !rights_cs.unusable() && is_clean(rights_cs),
        "27.3.1.2: CS is present, without reserved bits",
        &all,
    );
    checker.rule(
        !(checker.to_long_mode() && rights_cs.long() && rights_cs.default_big()),
        "27.3.1.2: 64-bit code has no D bit",
        &all,
    );
    let holds = granularity_fits(checker.get(cs.limit), rights_cs.granularity());
    checker.rule(holds, "27.3.1.2: the granularity of CS fits its limit", &all);
}

fn stack(checker: &mut Checker<'_, impl Fields>) {
    let ss = fields(SegmentName::Ss);
    let all = [
        ss.selector,
        ss.limit,
        ss.rights,
        Field::GuestCsSelector,
        Field::GuestCsRights,
        Field::GuestCr0,
        Field::SecondaryControls,
    ];
    let rights_ss = rights(checker, SegmentName::Ss);
    let cs_kind = rights(checker, SegmentName::Cs).kind();
    let zero_required = cs_kind == 3 || !checker.cr0().protection();
    checker.rule(
        !zero_required || rights_ss.dpl() == 0,
        "27.3.1.2: in real mode, and with data in CS, the privilege level of SS is 0",
        &all,
    );
    if !checker.unrestricted() {
        let same = checker.get(ss.selector) & 3 == checker.get(Field::GuestCsSelector) & 3
            && u64::from(rights_ss.dpl()) == checker.get(ss.selector) & 3;
        checker.rule(same, "27.3.1.2: RPL of SS and CS and DPL of SS are the same", &all);
    }
    if rights_ss.unusable() {
        return;
    }
    checker.rule(
        matches!(rights_ss.kind(), 3 | 7)
            && rights_ss.code_or_data()
            && rights_ss.present()
            && is_clean(rights_ss),
        "27.3.1.2: SS is accessed writable data, present, without reserved bits",
        &all,
    );
    let holds = granularity_fits(checker.get(ss.limit), rights_ss.granularity());
    checker.rule(holds, "27.3.1.2: the granularity of SS fits its limit", &all);
}

fn data(checker: &mut Checker<'_, impl Fields>, name: SegmentName) {
    const CODE: u8 = 8;
    const READABLE: u8 = 2;
    let segment = fields(name);
    let all = all(segment);
    let rights = rights(checker, name);
    if rights.unusable() {
        return;
    }
    let kind = rights.kind();
    let readable = kind & CODE == 0 || kind & READABLE != 0;
    checker.rule(
        kind & 1 != 0 && readable && rights.code_or_data() && rights.present() && is_clean(rights),
        "27.3.1.2: a data segment is accessed, readable, present, without reserved bits",
        &all,
    );
    let rpl = (checker.get(segment.selector) & 3) as u8;
    checker.rule(
        checker.unrestricted() || kind > 11 || rights.dpl() >= rpl,
        "27.3.1.2: the privilege level of a data segment is not below its selector's",
        &all,
    );
    let holds = granularity_fits(checker.get(segment.limit), rights.granularity());
    checker.rule(holds, "27.3.1.2: the granularity of a data segment fits its limit", &all);
}

fn task(checker: &mut Checker<'_, impl Fields>) {
    let tr = fields(SegmentName::Tr);
    let all = [tr.selector, tr.limit, tr.rights, Field::EntryControls];
    let rights = rights(checker, SegmentName::Tr);
    let kind_fits =
        rights.kind() == BUSY_TSS || (rights.kind() == BUSY_TSS_16 && !checker.to_long_mode());
    checker.rule(
        kind_fits
            && !rights.code_or_data()
            && rights.present()
            && !rights.unusable()
            && is_clean(rights),
        "27.3.1.2: TR is a busy TSS, in long mode of 64 bits, present",
        &all,
    );
    let holds = checker.get(tr.selector) & TABLE_INDICATOR == 0;
    checker.rule(holds, "27.3.1.2: TR is of the GDT", &all);
    let holds = granularity_fits(checker.get(tr.limit), rights.granularity());
    checker.rule(holds, "27.3.1.2: the granularity of TR fits its limit", &all);
}

fn local_table(checker: &mut Checker<'_, impl Fields>) {
    let ldtr = fields(SegmentName::Ldtr);
    let all = all(ldtr);
    let rights = rights(checker, SegmentName::Ldtr);
    if rights.unusable() {
        return;
    }
    checker.rule(
        rights.kind() == LDT && !rights.code_or_data() && rights.present() && is_clean(rights),
        "27.3.1.2: LDTR is an LDT, present",
        &all,
    );
    let holds =
        checker.get(ldtr.selector) & TABLE_INDICATOR == 0 && is_canonical(checker.get(ldtr.base));
    checker.rule(holds, "27.3.1.2: LDTR is of the GDT, with a canonical base", &all);
    let holds = granularity_fits(checker.get(ldtr.limit), rights.granularity());
    checker.rule(holds, "27.3.1.2: the granularity of LDTR fits its limit", &all);
}
