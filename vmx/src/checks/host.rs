//! 27.2.2 to 27.2.4: host state.

use super::{Checker, EFER_KNOWN, is_canonical};
use crate::control_bits::ExitControls;
use crate::field::Field;
use crate::vmcs::Fields;
use emulator::paging::is_legal_pat;
use emulator::registers::{Cr4, Efer};

pub fn check(checker: &mut Checker<'_, impl Fields>) {
    let capabilities = *checker.capabilities;
    let (cr0, cr4) = (checker.get(Field::HostCr0), checker.get(Field::HostCr4));
    checker.rule(
        cr0 & capabilities.cr0_fixed0 == capabilities.cr0_fixed0
            && cr0 & !capabilities.cr0_fixed1 == 0,
        "27.2.2: host CR0 has the fixed bits",
        &[Field::HostCr0],
    );
    checker.rule(
        cr4 & capabilities.cr4_fixed0 == capabilities.cr4_fixed0
            && cr4 & !capabilities.cr4_fixed1 == 0,
        "27.2.2: host CR4 has the fixed bits",
        &[Field::HostCr4],
    );
    let holds = checker.is_physical(checker.get(Field::HostCr3));
    checker.rule(holds, "27.2.2: host CR3 is a physical address", &[Field::HostCr3]);
    for field in [
        Field::HostFsBase,
        Field::HostGsBase,
        Field::HostTrBase,
        Field::HostGdtrBase,
        Field::HostIdtrBase,
        Field::HostSysenterEsp,
        Field::HostSysenterEip,
        Field::HostRip,
    ] {
        let holds = is_canonical(checker.get(field));
        checker.rule(holds, "27.2.2, 27.2.3: host addresses are canonical", &[field]);
    }
    let holds = is_legal_pat(checker.get(Field::HostPat));
    checker.rule(holds, "27.2.2: the host's PAT has legal memory types", &[Field::HostPat]);
    let efer = Efer::from(checker.get(Field::HostEfer));
    let exit = ExitControls::from_bits_retain(checker.get(Field::ExitControls) as u32);
    checker.rule(
        efer.long_mode_active()
            && efer.long_mode_enable()
            && exit.contains(ExitControls::HOST_64_BIT),
        "27.2.2, 27.2.4: the host is in long mode",
        &[Field::HostEfer, Field::ExitControls],
    );
    let holds = efer.into_bits() & !EFER_KNOWN == 0;
    checker.rule(holds, "27.2.2: host EFER has no reserved bits", &[Field::HostEfer]);
    checker.rule(Cr4::from(cr4).pae(), "27.2.4: a 64-bit host has PAE", &[Field::HostCr4]);
    for field in [
        Field::HostEsSelector,
        Field::HostCsSelector,
        Field::HostSsSelector,
        Field::HostDsSelector,
        Field::HostFsSelector,
        Field::HostGsSelector,
        Field::HostTrSelector,
    ] {
        let holds = checker.get(field) & 7 == 0;
        checker.rule(holds, "27.2.3: host selectors are of the GDT, with RPL 0", &[field]);
    }
    for field in [Field::HostCsSelector, Field::HostTrSelector] {
        let holds = checker.get(field) != 0;
        checker.rule(holds, "27.2.3: the host's CS and TR are not null", &[field]);
    }
}
