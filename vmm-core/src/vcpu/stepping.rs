//! Pauses, single steps, and what pauses a guest by itself.

#[cfg(test)]
mod tests;

use super::counters::ExitKind;
use super::debug::{self, StepEnd};
use super::state_dump::GPR_NAMES;
use super::{Nothing, RunEnd, Until, Vcpu};
use crate::backend::exit::DescriptorAccess;
use crate::backend::{Backend, SystemRegister};
use control::state::{Location, Registers};
use emulator::registers::SegmentName;

/// Entries and sleeps that one step takes at most: for the page tables, interrupts of the host's,
/// windows.
const MAX_TURNS: u32 = 64;
/// A virtual CPU that is halted sleeps no longer than this at once.
const MAX_NAP_MS: u64 = 10;
/// The longest that one virtual CPU waits for the others to leave the guest: they do between two
/// instructions, or parts of one that is repeated.
const MAX_LEAVE_MS: u64 = 50;

const SEGMENTS: [(&str, SegmentName); 6] = [
    ("cs", SegmentName::Cs),
    ("ss", SegmentName::Ss),
    ("ds", SegmentName::Ds),
    ("es", SegmentName::Es),
    ("fs", SegmentName::Fs),
    ("gs", SegmentName::Gs),
];

/// Whether accesses to registers of descriptors pause the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Catch {
    /// They do not.
    Nothing,
    /// They do.
    Tables,
    /// They do, and one did: the guest stands before it.
    Caught,
}

impl<B: Backend> Vcpu<B> {
    /// Holds the guest before its next instruction: this virtual CPU leaves its CPU, and comes back
    /// to answer what is asked of the guest. Its time stands still too.
    pub(super) fn pause(&mut self) {
        self.paused = true;
        self.hold_others();
        self.vm.clock.stop();
    }

    /// Waits until the guest's other virtual CPUs are on no CPU, where they stay while they are
    /// held. Each leaves at its next exit, which the interrupt that was sent is.
    fn hold_others(&self) {
        let patience_ticks = self.platform.tsc_hz() / 1000 * MAX_LEAVE_MS;
        let end_tsc = self.platform.tsc().saturating_add(patience_ticks);
        self.vm.processors.hold();
        while !self.vm.processors.is_alone(self.index) && self.platform.tsc() < end_tsc {
            core::hint::spin_loop();
        }
    }

    /// Lets it go on.
    pub(super) fn resume(&mut self) {
        if self.catch == Catch::Caught {
            // It would be caught again.
            self.step();
        }
        self.paused = false;
        self.start_time();
        self.vm.processors.release();
    }

    /// Runs one instruction of a guest that is paused, or delivers one event to it. An instruction
    /// that the hypervisor carries out counts as one; of a repeated one, that may be a part.
    pub(super) fn step(&mut self) -> StepEnd {
        if !self.paused {
            return StepEnd::Refused;
        }
        if !self.backend.can_step() {
            return StepEnd::Impossible;
        }
        self.start_time();
        let end = self.step_uncaught();
        // Interrupts that came meanwhile, and one that the backend itself may have asked for.
        self.after_host_interrupt();
        self.vm.clock.stop();
        end
    }

    /// Loads and stores of GDTR, IDTR, LDTR and TR pause the guest from now on, before they are
    /// done, or no longer. A step is not stopped by them. False if the processor cannot.
    pub(super) fn catch_tables(&mut self, on: bool) -> bool {
        if !(self.backend.can_step() && self.backend.set_descriptor_exits(on)) {
            return false;
        }
        self.catch = match (on, self.catch) {
            (false, _) => Catch::Nothing,
            (true, Catch::Caught) => Catch::Caught,
            (true, _) => Catch::Tables,
        };
        true
    }

    /// The instruction that it stands before.
    pub(super) fn location(&self) -> Location {
        let mut bytes = [0; 15];
        let count = self.fetch(&mut bytes).unwrap_or(0);
        let cs = self.backend.segment(SegmentName::Cs).selector;
        debug::location(cs, self.backend.rip(), self.backend.code_bits(), &bytes[..count])
    }

    /// Its registers, by name.
    pub(super) fn registers(&self) -> Registers {
        let backend = &self.backend;
        let gprs = GPR_NAMES.into_iter().zip(self.gprs.0);
        let flow = [("rip", backend.rip()), ("rflags", backend.rflags().into())];
        let selectors =
            SEGMENTS.map(|(name, segment)| (name, backend.segment(segment).selector.into()));
        let system = [
            ("cr0", backend.cr0().into()),
            ("cr2", backend.system_register(SystemRegister::Cr2)),
            ("cr3", backend.system_register(SystemRegister::Cr3)),
            ("cr4", backend.cr4().into()),
            ("cr8", u64::from(self.apic.tpr() >> 4)),
            ("efer", backend.efer().into()),
            ("dr6", backend.system_register(SystemRegister::Dr6)),
            ("dr7", backend.system_register(SystemRegister::Dr7)),
            ("fs base", backend.segment_base(SegmentName::Fs)),
            ("gs base", backend.segment_base(SegmentName::Gs)),
            ("gdt", backend.gdtr().base),
            ("idt", backend.idtr().base),
            ("ldtr", backend.segment(SegmentName::Ldtr).selector.into()),
            ("tr", backend.segment(SegmentName::Tr).selector.into()),
        ];
        Registers(gprs.chain(flow).chain(selectors).chain(system).collect())
    }

    /// Sets a register by name; false if none of this name can be set. The processor may refuse to
    /// run the guest with the value.
    pub(super) fn set_register(&mut self, name: &str, value: u64) -> bool {
        if let Some(number) = GPR_NAMES.iter().position(|&known| known == name) {
            self.gprs.0[number] = value;
            return true;
        }
        let backend = &mut self.backend;
        match name {
            "rip" => backend.set_rip(value),
            "rflags" => backend.set_rflags(value.into()),
            "cr0" => backend.set_cr0(value.into()),
            "cr2" => backend.set_system_register(SystemRegister::Cr2, value),
            "cr3" => backend.set_system_register(SystemRegister::Cr3, value),
            "cr4" => backend.set_cr4(value.into()),
            "dr6" => backend.set_system_register(SystemRegister::Dr6, value),
            "dr7" => backend.set_system_register(SystemRegister::Dr7, value),
            _ => return false,
        }
        // The guest's translations may be others now.
        backend.flush_nested();
        self.reload_page_directory_pointers();
        true
    }
}

impl<B: Backend> Vcpu<B> {
    /// Guest time goes on where it stood.
    fn start_time(&mut self) {
        self.vm.clock.start();
        self.follow_clock();
        self.after_host_interrupt();
    }

    /// The guest's time stamp counter stood still as long as guest time did.
    pub(super) fn follow_clock(&mut self) {
        let stood_ticks = self.vm.clock.stood_ticks();
        let more_ticks = stood_ticks.wrapping_sub(self.stood_ticks);
        if more_ticks != 0 {
            let offset = self.backend.tsc_offset();
            self.backend.set_tsc_offset(offset.wrapping_sub(more_ticks));
            self.stood_ticks = stood_ticks;
        }
    }

    /// The guest is about to access a register of descriptors, and is held.
    #[cold]
    pub(super) fn catch(&mut self, access: DescriptorAccess) {
        log::info!(
            "{}: vCPU {}: paused before {access}: {}",
            self.vm.name,
            self.index,
            self.location()
        );
        self.pause();
        self.catch = Catch::Caught;
    }

    /// A step is not caught.
    fn step_uncaught(&mut self) -> StepEnd {
        if self.catch == Catch::Nothing {
            return self.step_in_time();
        }
        self.backend.set_descriptor_exits(false);
        let end = self.step_in_time();
        self.backend.set_descriptor_exits(true);
        self.catch = Catch::Tables;
        end
    }

    fn step_in_time(&mut self) -> StepEnd {
        let mut end = StepEnd::Stuck;
        for _ in 0..MAX_TURNS {
            if self.step_over_task_switch() {
                return StepEnd::Done;
            }
            let rip = self.backend.rip();
            (self.until, self.last_exit) = (Until::Step, None);
            let stop = self.take_turns(&mut Nothing);
            self.until = Until::Stop;
            end = match (stop, self.last_exit) {
                (RunEnd::Stopped(_), _) => return StepEnd::Refused,
                (_, Some(kind)) if self.is_done(rip, kind) => return StepEnd::Done,
                (_, Some(_)) => StepEnd::Stuck,
                (_, None) => StepEnd::Halted,
            };
            self.after_host_interrupt();
        }
        end
    }

    /// A virtual CPU that is halted sleeps no longer than a little while in a step.
    #[cold]
    pub(super) fn limit_nap(&mut self) {
        let nap_ticks = self.vm.clock.tsc_hz() / 1000 * MAX_NAP_MS;
        self.set_host_timer_by(self.platform.tsc().saturating_add(nap_ticks));
    }

    /// An entry at `rip` was a step.
    fn is_done(&self, rip: u64, kind: ExitKind) -> bool {
        // A part of a repeated instruction, a jump to itself and a task that begins there may leave
        // RIP where it is.
        let stays = matches!(kind, ExitKind::PortString | ExitKind::Mmio | ExitKind::TaskSwitch);
        kind == ExitKind::Step || self.backend.rip() != rip || stays && self.pending.is_none()
    }

    /// The part of a turn before the entry.
    #[cold]
    pub(super) fn begin_step(&mut self) {
        let mut bytes = [0; 15];
        let count = self.fetch(&mut bytes).unwrap_or(0);
        self.backend.begin_step(&mut self.gprs, &bytes[..count]);
    }
}
