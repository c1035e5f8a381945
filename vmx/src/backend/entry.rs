//! Into the guest and back.

use super::Vmx;
use crate::controls::PrimaryControls;
use crate::decode::may_interrupt_delivery;
use crate::field::Field;
use crate::instructions::{self, Scope};
use crate::spec::{ExitReason, instruction_error, reason};
use crate::{checks, running, world_switch};
use vmm_core::exit::Exit;
use vmm_core::registers::{Gpr, Gprs};

impl Vmx {
    /// See [`vmm_core::backend::Backend::enter`].
    pub(super) fn run(&mut self, gprs: &mut Gprs) -> Exit {
        self.before_entry(gprs);
        if !self.checked {
            self.checked = true;
            if !self.keeps_rules() {
                return Exit::EntryFailure;
            }
        }
        let launched = self.vmcs.before_entry();
        running::note(gprs);
        // SAFETY: reads and writes CR2, which the hypervisor does not use.
        unsafe {
            if x86::controlregs::cr2() as u64 != self.cr2 {
                x86::controlregs::cr2_write(self.cr2);
            }
        }
        // SAFETY: this VMCS is current (`before_entry`), its host state was written by `host_state` on this CPU, and its
        // EPT holds the guest's own memory only (condition on the shared code). `host_rsp` is written by this call
        // only. Interrupts are off (condition of `Backend::enter`).
        let outcome = unsafe { world_switch::run_guest(gprs, launched, &raw mut self.host_rsp) };
        // SAFETY: reads a register.
        self.cr2 = unsafe { x86::controlregs::cr2() } as u64;
        self.vmcs.forget();
        match outcome {
            world_switch::EXITED => {}
            world_switch::FAILED_INVALID => return self.refused("no current VMCS"),
            _ => return self.refused(instruction_error(self.vmcs.read(Field::InstructionError))),
        }
        let exit_reason = ExitReason::from(self.vmcs.read(Field::ExitReason) as u32);
        self.basic_reason = exit_reason.basic();
        if exit_reason.entry_failure() {
            return self.refused(reason::name(self.basic_reason));
        }
        self.vmcs.note_launched();
        gprs.set(Gpr::Rsp, self.vmcs.read(Field::GuestRsp));
        if self.stepping {
            self.stepping = false;
            self.set_primary(PrimaryControls::MONITOR_TRAP, false);
        }
        if may_interrupt_delivery(self.basic_reason) {
            self.note_interrupted();
        }
        self.after_exit(gprs)
    }

    /// What changed since the last exit and concerns the next entry.
    #[inline]
    fn before_entry(&mut self, gprs: &Gprs) {
        self.vmcs.write(Field::GuestRsp, gprs.get(Gpr::Rsp));
        // An entry refuses a threshold above the task priority.
        if self.window_changed || self.tpr_threshold > self.apic_page.tpr() >> 4 {
            self.apply_window();
        }
        if self.vectors_changed {
            self.apply_vectors();
        }
        if self.flush_guest || self.flush_nested || self.vpid.is_shared() {
            self.flush();
        }
    }

    #[cold]
    fn flush(&mut self) {
        let ept = self.features.capabilities.ept_vpid;
        if self.flush_nested {
            let scope = if ept.invept_single() { Scope::Single } else { Scope::All };
            // SAFETY: VMX operation is on, and the processor has the scope (`Controls::new`).
            if let Err(error) = unsafe { instructions::invept(scope, self.ept_pointer) } {
                log::error!("INVEPT failed: {error:?}");
            }
        }
        // Without VPIDs every entry and exit flushes.
        if (self.flush_guest || self.vpid.is_shared()) && self.features.controls.has_vpid() {
            let scope = if ept.invvpid_single() { Scope::Single } else { Scope::All };
            // SAFETY: as above.
            if let Err(error) = unsafe { instructions::invvpid(scope, self.vpid.number() as u16) } {
                log::error!("INVVPID failed: {error:?}");
            }
        }
        (self.flush_nested, self.flush_guest) = (false, false);
    }

    /// Prints the rules of entry that do not hold; true if there are none.
    #[cold]
    fn keeps_rules(&self) -> bool {
        let violations = checks::check(&self.vmcs, &self.features.capabilities, self.physical_address_bits);
        for violation in &violations {
            log::error!("VM entry: {violation}");
        }
        violations.is_empty()
    }

    /// The processor did not enter the guest.
    #[cold]
    fn refused(&mut self, why: &str) -> Exit {
        log::error!("VM entry failed: {why}");
        if self.keeps_rules() {
            log::error!("VM entry: every rule that Bulkhead knows holds");
        }
        Exit::EntryFailure
    }
}
