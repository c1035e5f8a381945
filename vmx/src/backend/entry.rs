//! Into the guest and back.

use super::{BeforeEntry, Vmx};
use crate::control_bits::PrimaryControls;
use crate::decode::failed_entry;
use crate::field::Field;
use crate::instructions::{self, Scope, VmFail};
use crate::spec::{ExitReason, reason};
use crate::vmcs::{Failure, Instruction};
use crate::{checks, world_switch};
use core::fmt;
use emulator::registers::{Exception, Gpr, Gprs};
use vmm_core::backend::exit::{Exit, INTERCEPTED_EXCEPTIONS};

/// Exceptions that exit in a step: all but those that an instruction asks for (INT3, INTO).
const STEP_EXCEPTIONS: u32 = !(1 << Exception::Breakpoint as u8 | 1 << Exception::Overflow as u8);

impl Vmx {
    /// See [`vmm_core::backend::Backend::enter`]. A step on bounce pages enters too, and must not
    /// lengthen all others.
    #[inline(always)]
    pub(super) fn run(&mut self, gprs: &mut Gprs) -> Exit {
        self.vmcs.write(Field::GuestRsp, gprs.get(Gpr::Rsp));
        // An entry refuses a threshold above the task priority.
        if self.tpr_threshold > self.apic_page.tpr() >> 4 {
            self.before_entry |= BeforeEntry::WINDOW;
        }
        if !self.before_entry.is_empty()
            && let Err(exit) = self.prepare()
        {
            return exit;
        }
        let launched = match self.vmcs.before_entry() {
            Ok(launched) => launched,
            Err(failure) => return self.refused(&failure),
        };
        // SAFETY: this VMCS is current (`before_entry`), its host state was written by `host_state`
        // on this CPU, and its EPT holds the guest's own memory only (condition on the
        // shared code). Host RSP is written by this call only. Interrupts are off
        // (condition of `Backend::enter`).
        let outcome = unsafe { self.switch.run(gprs, launched) };
        self.vmcs.forget();
        match outcome {
            world_switch::EXITED => {}
            world_switch::FAILED_INVALID => return self.not_entered(VmFail::Invalid),
            _ => return self.not_entered(VmFail::Valid),
        }
        let exit_reason = ExitReason::from(self.vmcs.read(Field::ExitReason) as u32);
        let basic = exit_reason.basic();
        if exit_reason.entry_failure() {
            return self.failed(basic);
        }
        self.vmcs.note_launched();
        gprs.set(Gpr::Rsp, self.vmcs.read(Field::GuestRsp));
        self.after_exit(basic, gprs)
    }

    /// Does what is to be done before this entry; fails if an instruction does, or the guest's
    /// state breaks a rule of entry.
    #[cold]
    fn prepare(&mut self) -> Result<(), Exit> {
        // Others have used a VPID that is shared.
        let next =
            if self.vpid.is_shared() { BeforeEntry::FLUSH_GUEST } else { BeforeEntry::empty() };
        let due = core::mem::replace(&mut self.before_entry, next);
        if due.intersects(BeforeEntry::STEP | BeforeEntry::STEPPED) {
            let step = due.contains(BeforeEntry::STEP);
            self.set_primary(PrimaryControls::MONITOR_TRAP, step);
            // One that raises an exception is not done: otherwise the exception would be delivered
            // in the same step.
            let exceptions = if step { STEP_EXCEPTIONS } else { INTERCEPTED_EXCEPTIONS };
            self.vmcs.write(Field::ExceptionBitmap, exceptions.into());
            self.before_entry.set(BeforeEntry::STEPPED, step);
        }
        if due.contains(BeforeEntry::WINDOW) {
            self.apply_window();
        }
        if due.contains(BeforeEntry::VECTORS) {
            self.apply_vectors();
        }
        self.flush(due).map_err(|failure| self.refused(&failure))?;
        if due.contains(BeforeEntry::CHECK) && !self.keeps_rules() {
            return Err(Exit::EntryFailure);
        }
        Ok(())
    }

    fn flush(&self, due: BeforeEntry) -> Result<(), Failure> {
        let ept = self.features.capabilities.ept_vpid;
        if due.contains(BeforeEntry::FLUSH_NESTED) {
            let scope = if ept.invept_single() { Scope::Single } else { Scope::All };
            // SAFETY: VMX operation is on, and the processor has the scope (`Controls::new`).
            unsafe { instructions::invept(scope, self.ept_pointer) }
                .map_err(|error| self.vmcs.failure(Instruction::Invept, error))?;
        }
        // Without VPIDs every entry and exit flushes.
        if due.contains(BeforeEntry::FLUSH_GUEST) && self.features.controls.has_vpid() {
            let scope = if ept.invvpid_single() { Scope::Single } else { Scope::All };
            // SAFETY: as above.
            unsafe { instructions::invvpid(scope, self.vpid.number() as u16) }
                .map_err(|error| self.vmcs.failure(Instruction::Invvpid, error))?;
        }
        Ok(())
    }

    /// Prints the rules of entry that do not hold; true if there are none.
    #[cold]
    fn keeps_rules(&self) -> bool {
        // Not every processor has every field.
        let fields = |field| self.vmcs.read_now(field).unwrap_or(0);
        let violations = checks::check(
            &fields,
            &self.features.capabilities,
            self.physical_address_bits,
            self.apic_page.tpr(),
        );
        for violation in &violations {
            log::error!("VM entry: {violation}");
        }
        violations.is_empty()
    }

    #[cold]
    fn not_entered(&mut self, error: VmFail) -> Exit {
        let failure = self.vmcs.failure(Instruction::Entry, error);
        self.refused(&failure)
    }

    /// The entry began, and failed.
    #[cold]
    fn failed(&mut self, basic: u16) -> Exit {
        let Some((exit, event)) = failed_entry(basic, &self.vmcs) else {
            return self.refused(&reason::name(basic));
        };
        self.interrupted = event;
        self.vmcs.write(Field::EntryInterruption, 0);
        exit
    }

    /// The processor did not enter the guest.
    #[cold]
    fn refused(&mut self, why: &dyn fmt::Display) -> Exit {
        log::error!("VM entry failed: {why}");
        if self.keeps_rules() {
            log::error!("VM entry: every rule that Bulkhead knows holds");
        }
        Exit::EntryFailure
    }
}
