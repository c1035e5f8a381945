//! CR0, CR4 and EFER, in which the guest does not see all that the processor has.

use super::{Svm, set_bits};
use crate::spec::CrInfo;
use emulator::registers::{Cr0, Cr4, Efer, Gpr};
use vmm_core::backend::Backend;

/// Among the intercepts of control registers.
const INTERCEPT_CR4_READ: u32 = 1 << 4;
pub(super) const INTERCEPT_CR4_WRITE: u32 = 1 << (16 + 4);

/// A change of these makes translations stale (5.5.2).
const TRANSLATION_BITS: u64 = Cr4::new()
    .with_pse(true)
    .with_pae(true)
    .with_pge(true)
    .with_pcide(true)
    .with_smep(true)
    .into_bits();

impl Svm {
    pub(super) fn write_cr0(&mut self, cr0: Cr0) {
        self.vmcb_mut().save.cr0 = cr0.into();
        self.settle_long_mode(self.efer().long_mode_enable());
    }

    pub(super) fn write_cr4(&mut self, cr4: Cr4) {
        if (self.cr4().into_bits() ^ cr4.into_bits()) & TRANSLATION_BITS != 0 {
            self.flush_nested();
        }
        self.guest_mce = cr4.mce();
        let is_hidden = self.features.machine_checks && !cr4.mce();
        let vmcb = self.vmcb_mut();
        vmcb.save.cr4 = cr4.with_mce(cr4.mce() || is_hidden).into();
        set_bits(&mut vmcb.control.intercept_cr, INTERCEPT_CR4_READ, is_hidden);
        self.settle_long_mode(self.efer().long_mode_enable());
    }

    pub(super) fn write_efer(&mut self, efer: Efer) {
        self.vmcb_mut().save.efer = efer.with_svme(true).into();
        self.settle_long_mode(efer.long_mode_enable());
    }

    /// The general register of an access that exited, if the processor tells.
    pub(super) fn accessing_register(&self) -> Option<Gpr> {
        let info = CrInfo::from(self.vmcb().control.exit_info_1);
        (self.features.decode_assists && info.is_move()).then(|| Gpr::from_number(info.gpr()))
    }

    /// The guest wants long mode, by EFER.LME, and has neither paging nor PAE. Paging without PAE
    /// raises #GP then, for which CR0 is watched: the processor has LME when it can have long
    /// mode. (QEMU 7.2 ignores such a write, and does not find back to the host from every exit
    /// of that state.)
    fn settle_long_mode(&mut self, enable: bool) {
        let withheld = enable && !self.cr0().paging() && !self.cr4().pae();
        self.lme_withheld = withheld;
        let vmcb = self.vmcb_mut();
        let efer = Efer::from(vmcb.save.efer);
        vmcb.save.efer = efer.with_long_mode_enable(enable && !withheld).into();
        vmcb.control.intercept_1.set_cr0_selective(withheld);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cpu, vcpu};
    use super::*;
    use crate::spec::TlbControl;
    use emulator::registers::Gprs;
    use vmm_core::test_platform::TestPlatform;

    #[test]
    fn cr4_is_written_by_exits_and_keeps_machine_checks() {
        let platform = TestPlatform::leak();
        let mut vcpu = vcpu(&cpu(platform), platform);
        vcpu.init(&mut Gprs::default());
        let intercepts = |vcpu: &Svm| {
            let bits = vcpu.vmcb().control.intercept_cr;
            (bits & INTERCEPT_CR4_READ != 0, bits & INTERCEPT_CR4_WRITE != 0)
        };
        assert_eq!(intercepts(&vcpu), (true, true), "it does not see the host's MCE");
        assert_eq!((vcpu.cr4().into_bits(), vcpu.vmcb().save.cr4), (0, 0x40));
        vcpu.set_cr4(0x60.into());
        assert_eq!(intercepts(&vcpu), (false, true));
        assert_eq!((vcpu.cr4().into_bits(), vcpu.vmcb().save.cr4), (0x60, 0x60));
        // PGE, PCIDE and SMEP change translations, OSFXSR and OSXSAVE do not.
        for (bit, flushes) in [(7, true), (17, true), (20, true), (9, false), (18, false)] {
            vcpu.vmcb_mut().control.tlb_control = TlbControl::Keep;
            vcpu.set_cr4((0x60 | 1 << bit).into());
            assert_eq!(vcpu.vmcb().control.tlb_control != TlbControl::Keep, flushes, "bit {bit}");
            vcpu.set_cr4(0x60.into());
        }
        let mut without = cpu(platform);
        without.features.machine_checks = false;
        let mut vcpu = super::super::tests::vcpu(&without, platform);
        vcpu.init(&mut Gprs::default());
        assert_eq!((intercepts(&vcpu), vcpu.vmcb().save.cr4), ((false, true), 0));
    }

    #[test]
    fn long_mode_is_withheld_until_the_guest_has_pae() {
        const LME: Efer = Efer::new().with_long_mode_enable(true);
        let platform = TestPlatform::leak();
        let mut vcpu = vcpu(&cpu(platform), platform);
        vcpu.init(&mut Gprs::default());
        let state = |vcpu: &Svm| {
            let vmcb = vcpu.vmcb();
            let is_enabled = Efer::from(vmcb.save.efer).long_mode_enable();
            (vcpu.efer().long_mode_enable(), is_enabled, vmcb.control.intercept_1.cr0_selective())
        };
        assert_eq!(state(&vcpu), (false, false, false));
        vcpu.set_efer(LME);
        assert_eq!(state(&vcpu), (true, false, true));
        vcpu.set_cr4(0x20.into());
        assert_eq!(state(&vcpu), (true, true, false));
        vcpu.set_cr4(0.into());
        assert_eq!(state(&vcpu), (true, false, true));
        vcpu.set_efer(Efer::new());
        assert_eq!(state(&vcpu), (false, false, false));
    }

    #[test]
    fn the_register_of_a_control_register_access_is_the_processors_if_it_tells() {
        let platform = TestPlatform::leak();
        let mut cpu = cpu(platform);
        for (decode_assists, info, register) in [
            (false, 1 << 63 | 3, None),
            (true, 3, None),
            (true, 1 << 63 | 3, Some(Gpr::Rbx)),
            (true, 1 << 63 | 15, Some(Gpr::R15)),
        ] {
            cpu.features.decode_assists = decode_assists;
            let mut vcpu = vcpu(&cpu, platform);
            vcpu.vmcb_mut().control.exit_info_1 = info;
            assert_eq!(vcpu.control_register_operand(), register);
        }
    }
}
