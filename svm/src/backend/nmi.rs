//! When the guest takes NMIs. AMD-V without virtual NMIs tells neither that its handler is left,
//! nor has it a window for another one: the guest's IRET is intercepted once, and stepped over if
//! one waits.

use super::Svm;
use crate::spec::exit_code;
use vmm_core::backend::Backend;

/// Whether NMIs are blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NmiState {
    /// They are not.
    Open,
    /// They are, until the guest's IRET, which is intercepted.
    InHandler,
    /// They are as long as RIP stands at this IRET, which is intercepted no longer.
    AtIret {
        /// Its address.
        rip: u64,
    },
}

impl Svm {
    fn set_nmi_state(&mut self, state: NmiState) {
        self.nmi = state;
        let is_awaited = state == NmiState::InHandler;
        self.vmcb_mut().control.intercept_1.set_iret(is_awaited);
    }

    pub(super) fn open_nmis(&mut self) {
        self.set_nmi_state(NmiState::Open);
    }

    /// An NMI is injected.
    pub(super) fn block_nmis(&mut self) {
        self.set_nmi_state(NmiState::InHandler);
    }

    /// Another event is injected. If it comes before the IRET, that is still to be done.
    pub(super) fn hold_nmis(&mut self) {
        if self.is_at_iret() {
            self.set_nmi_state(NmiState::InHandler);
        }
    }

    fn is_at_iret(&self) -> bool {
        matches!(self.nmi, NmiState::AtIret { rip } if rip == self.vmcb().save.rip)
    }

    pub(super) fn are_nmis_blocked(&self) -> bool {
        self.nmi == NmiState::InHandler || self.is_at_iret()
    }

    /// The guest has reached the IRET.
    #[cold]
    pub(super) fn reach_iret(&mut self) {
        if self.vmcb().control.exit_code == exit_code::IRET {
            let rip = self.vmcb().save.rip;
            self.set_nmi_state(NmiState::AtIret { rip });
        }
    }

    /// The instruction at `rip` has been stepped over. An IRET may return to itself.
    pub(super) fn pass_iret(&mut self, rip: u64) {
        if self.nmi == (NmiState::AtIret { rip }) {
            self.open_nmis();
        }
    }

    /// See [`Backend::set_nmi_window`].
    pub(super) fn await_nmi_window(&mut self) -> bool {
        if self.vmcb().control.event_injection.valid() {
            // An interrupt of the host's ends the run when that event is delivered.
            self.platform.interrupt_self();
            return true;
        }
        !self.is_at_iret() && !self.interrupt_shadow()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cpu, vcpu};
    use super::*;
    use emulator::event::Event;
    use emulator::registers::{Fault, Gprs};
    use vmm_core::backend::exit::Exit;
    use vmm_core::test_platform::TestPlatform;

    const IRET: &[u8] = &[0x48, 0xcf];

    fn handling() -> Svm {
        let platform = TestPlatform::leak();
        let mut vcpu = vcpu(&cpu(platform), platform);
        vcpu.init(&mut Gprs::default());
        assert!(!vcpu.nmi_blocked());
        vcpu.inject(Event::Nmi);
        vcpu.vmcb_mut().control.event_injection = Default::default();
        vcpu.set_rip(0x1000);
        assert!(vcpu.nmi_blocked());
        vcpu
    }

    fn at_iret() -> Svm {
        let mut vcpu = handling();
        assert!(vcpu.set_nmi_window(), "the IRET exits");
        vcpu.vmcb_mut().control.exit_code = exit_code::IRET;
        vcpu.reach_iret();
        assert!(vcpu.nmi_blocked() && !vcpu.vmcb().control.intercept_1.iret());
        vcpu
    }

    #[test]
    fn nmis_are_open_when_iret_is_done() {
        let mut vcpu = at_iret();
        vcpu.set_rip(0x2000);
        assert!(!vcpu.nmi_blocked());
        vcpu.inject(Event::Nmi);
        assert!(vcpu.nmi_blocked() && vcpu.vmcb().control.intercept_1.iret());
    }

    #[test]
    fn an_nmi_that_waits_steps_over_iret_even_if_that_returns_to_itself() {
        for target in [0x1000, 0x2000] {
            let mut vcpu = at_iret();
            assert!(!vcpu.set_nmi_window(), "to be stepped over");
            let mut gprs = Gprs::default();
            vcpu.begin_step(&mut gprs, IRET);
            // #DB behind it, with the flags that it has loaded.
            vcpu.vmcb_mut().control.exit_code = exit_code::EXCEPTION_FIRST + 1;
            vcpu.vmcb_mut().save.rflags = 2;
            vcpu.vmcb_mut().save.dr6 |= 1 << 14;
            vcpu.set_rip(target);
            vcpu.end_step(&mut gprs);
            assert!(!vcpu.nmi_blocked(), "{target:#x}");
        }
    }

    #[test]
    fn an_event_at_iret_leaves_it_to_be_done() {
        for event in [Event::Interrupt(0x30), Event::Fault(Fault::PROTECTION)] {
            let mut vcpu = at_iret();
            vcpu.inject(event);
            // Its handler begins.
            vcpu.set_rip(0x3000);
            assert!(vcpu.nmi_blocked() && vcpu.vmcb().control.intercept_1.iret());
        }
    }

    #[test]
    fn an_nmi_behind_an_event_or_a_shadow_does_not_wait_for_another_exit() {
        let platform = TestPlatform::leak();
        let mut vcpu = vcpu(&cpu(platform), platform);
        vcpu.init(&mut Gprs::default());
        vcpu.inject(Event::Interrupt(0x30));
        assert!(vcpu.set_nmi_window());
        assert_eq!(platform.take_self_interrupts(), 1);
        vcpu.vmcb_mut().control.event_injection = Default::default();
        vcpu.set_interrupt_shadow();
        assert!(!vcpu.set_nmi_window());
        assert_eq!(platform.take_self_interrupts(), 0);
    }

    #[test]
    fn an_iret_that_is_carried_out_elsewhere_opens_nmis_too() {
        for mut vcpu in [handling(), at_iret()] {
            vcpu.unblock_nmis();
            assert!(!vcpu.nmi_blocked() && !vcpu.vmcb().control.intercept_1.iret());
        }
    }

    #[test]
    fn exits_other_than_that_of_iret_change_nothing() {
        let mut vcpu = handling();
        vcpu.vmcb_mut().control.exit_code = exit_code::CPUID;
        vcpu.reach_iret();
        assert!(vcpu.vmcb().control.intercept_1.iret());
        assert_eq!(crate::decode::decode(&vcpu.vmcb().control), Exit::Cpuid);
    }
}
