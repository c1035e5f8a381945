//! Instructions on device memory that the emulator does not know: the processor itself carries them
//! out, in a single step in which pages of RAM, the bounce pages, stand for those of the devices.
//!
//! A bounce page is shown where the processor was refused an access; then the step is tried again,
//! until it is refused nothing more. Before, the page is given what the instruction reads there,
//! and afterwards the devices are given what it wrote. Which bytes these are is known of most
//! instructions ([`Namer`]); of pages that the processor uses by itself (page tables, descriptors,
//! the stacks of interrupts) all bytes are read, and those are written that it changed.

mod plan;
#[cfg(test)]
mod tests;
mod transfer;

use super::Vcpu;
use super::counters::ExitKind;
use crate::backend::exit::Exit;
use crate::backend::{Backend, SystemRegister};
use crate::vm::memory::{BouncePages, FaultCause, PAGE_BYTES, Side, SpaceError};
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use emulator::MemoryAccess;
use emulator::instruction::{Namer, Writes};
use emulator::registers::Dr7;
use plan::{Part, Plan, Source};

/// Entries of one step: for the pages of devices and of RAM that it touches, and for what else
/// comes meanwhile.
const MAX_ENTRIES: usize = 4 * BouncePages::COUNT;
const HLT: u8 = 0xf4;

/// A bounce page that is shown in each entry of the step.
#[derive(Clone, Copy, Debug)]
struct Use {
    gpa: u64,
    /// It was given all that the device has there.
    is_whole: bool,
    is_code: bool,
}

/// The state of a virtual CPU's steps on bounce pages.
pub(super) struct Bouncer {
    /// The guest's, in a step.
    pages: BouncePages,
    /// Those that are in use, by their numbers.
    uses: ArrayVec<Use, { BouncePages::COUNT }>,
    namer: Namer,
    /// That of the last step, whose room the next one takes.
    plan: Option<Box<Plan>>,
    /// An interrupt of the host's came in the step: others have to get their turn after it.
    was_interrupted: bool,
}

impl Bouncer {
    pub(super) fn new() -> Self {
        Self {
            pages: BouncePages::default(),
            uses: ArrayVec::new(),
            namer: Namer::new(),
            plan: Some(Box::default()),
            was_interrupted: false,
        }
    }

    /// The number of the page that stands for the one around `gpa`.
    fn number_at(&self, gpa: u64) -> Option<usize> {
        self.uses.iter().position(|used| used.gpa == gpa & !(PAGE_BYTES - 1))
    }

    fn fill(&self, number: usize, part: &Part, byte: u8) {
        for offset in part.offsets() {
            self.pages.write(Side::Shown, number, offset, &[byte]);
        }
    }
}

/// Why a step does not come to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuck {
    /// The instruction touches too many pages, or is refused again what it was given.
    Refused,
    Short(SpaceError),
}

impl From<SpaceError> for Stuck {
    fn from(short: SpaceError) -> Self {
        Self::Short(short)
    }
}

impl<B: Backend> Vcpu<B> {
    /// Lets the processor carry out the instruction at RIP, or deliver the event that is pending,
    /// which was refused `access` to a device.
    #[cold]
    pub(super) fn bounce(&mut self, access: MemoryAccess) -> ExitKind {
        let can_step = self.backend.can_step();
        let Some(mut bouncer) = self.bouncer.take_if(|_| can_step) else {
            return self.crash(
                "an access to a device that this processor cannot make in a step",
                ExitKind::Fatal,
            );
        };
        let Some(pages) = self.vm.space.take_bounce_pages() else {
            // Another virtual CPU makes a step: the guest is refused the access once more.
            self.bouncer = Some(bouncer);
            return ExitKind::Mmio;
        };
        bouncer.pages = pages;
        let mut plan = bouncer.plan.take().unwrap_or_default();
        self.plan(&mut bouncer, &mut plan);
        let stepped = if self.step_over_task_switch_by(&plan.code) {
            Ok(ExitKind::TaskSwitch)
        } else {
            self.step_bounced(&mut bouncer, &plan, access)
        };
        let kind = match stepped {
            Ok(kind) => kind,
            Err(Stuck::Refused) => {
                self.crash("an instruction that reaches too far", ExitKind::Fatal)
            }
            Err(Stuck::Short(short)) => self.end_for_memory(short),
        };
        bouncer.plan = Some(plan);
        self.vm.space.put_bounce_pages(core::mem::take(&mut bouncer.pages));
        self.bouncer = Some(bouncer);
        kind
    }

    /// Nothing is shown of them between two steps, and nothing is lost. For tests.
    #[cfg(any(test, feature = "test-platform"))]
    pub(crate) fn check_bounce_pages(&self) {
        assert_eq!(self.vm.space.bounce_state(), Some((0, BouncePages::TABLES)));
    }

    fn step_bounced(
        &mut self,
        bouncer: &mut Bouncer,
        plan: &Plan,
        first: MemoryAccess,
    ) -> Result<ExitKind, Stuck> {
        let (start_rip, start_gprs) = (self.backend.rip(), self.gprs.0);
        let exit = self.prepare(bouncer, plan, first).and_then(|()| self.run_step(bouncer, plan));
        self.vm.space.hide_bounce_pages();
        // An exit of the instruction behind a load of SS finds this one done, and so does the
        // guest's own trap, perhaps behind a part of a repeated one.
        let is_done = matches!(exit, Ok(Exit::Stepped))
            || self.backend.rip() != start_rip
            || self.gprs.0 != start_gprs;
        if is_done {
            self.write_back(bouncer, plan);
        }
        bouncer.uses.clear();
        if core::mem::take(&mut bouncer.was_interrupted) {
            self.set_host_timer_by(self.platform.tsc());
        }
        match exit? {
            Exit::Stepped | Exit::Memory(_) => Ok(ExitKind::Mmio),
            // Of the HLT that was put in the next one's place.
            Exit::Halt | Exit::Fault { .. } if is_done && plan.stop_gpa.is_some() => {
                Ok(ExitKind::Mmio)
            }
            exit => {
                self.left_exit = Some(exit);
                Ok(ExitKind::Mmio)
            }
        }
    }

    /// Shows the first page, and one that stops the processor where the step would not end before
    /// the next instruction: HLT in that one's place exits, or faults where it is not allowed,
    /// before it does anything.
    fn prepare(
        &mut self,
        bouncer: &mut Bouncer,
        plan: &Plan,
        first: MemoryAccess,
    ) -> Result<(), Stuck> {
        self.add_page(bouncer, plan, first)?;
        let Some(gpa) = plan.stop_gpa else { return Ok(()) };
        if bouncer.number_at(gpa).is_none() {
            let fetch = MemoryAccess { gpa, write: false, execute: true, page_walk: false };
            self.add_page(bouncer, plan, fetch)?;
        }
        let Some(number) = bouncer.number_at(gpa) else { return Ok(()) };
        for side in [Side::Shown, Side::Note] {
            bouncer.pages.write(side, number, (gpa % PAGE_BYTES) as usize, &[HLT]);
        }
        Ok(())
    }

    /// Runs the instruction, twice if it is to be found out what it writes.
    fn run_step(&mut self, bouncer: &mut Bouncer, plan: &Plan) -> Result<Exit, Stuck> {
        if plan.parts.iter().all(|part| part.writes != Writes::Some) {
            return self.run_to_end(bouncer, plan);
        }
        let (rip, rflags) = (self.backend.rip(), self.backend.rflags());
        let dr7 = self.backend.system_register(SystemRegister::Dr7);
        // The guest's own traps are for the run that counts.
        self.backend.set_rflags(rflags.with_trap(false));
        self.backend
            .set_system_register(SystemRegister::Dr7, Dr7::from(dr7).with_enables(0).into());
        let exit = self.run_to_end(bouncer, plan);
        self.backend.set_rflags(self.backend.rflags().with_trap(rflags.trap()));
        self.backend.set_system_register(SystemRegister::Dr7, dr7);
        if !matches!(exit, Ok(Exit::Stepped)) {
            return exit;
        }
        self.keep_first_run(bouncer, plan);
        self.backend.set_rip(rip);
        self.backend.set_rflags(rflags);
        self.run_to_end(bouncer, plan)
    }

    /// Enters the guest until the instruction is done, or something is the matter with it.
    fn run_to_end(&mut self, bouncer: &mut Bouncer, plan: &Plan) -> Result<Exit, Stuck> {
        let rip = self.backend.rip();
        for _ in 0..MAX_ENTRIES {
            let exit = self.enter_step(bouncer, plan)?;
            match exit {
                Exit::Memory(access) if self.backend.rip() == rip => {
                    self.answer_fault(bouncer, plan, access)?;
                }
                Exit::ExternalInterrupt => {
                    // They have their turn behind the step, and would interrupt it for ever.
                    self.put_off_others();
                    self.after_host_interrupt();
                    bouncer.was_interrupted = true;
                }
                Exit::InterruptWindow => self.pass_tick_gate(),
                Exit::WriteLogFull => self.note_writes(),
                Exit::NmiWindow | Exit::HostNmi => {}
                exit => return Ok(exit),
            }
            // The instruction has not begun, unless the exit came at the first one of a handler.
            if self.backend.rip() != rip {
                return Ok(Exit::Stepped);
            }
        }
        Err(Stuck::Refused)
    }

    fn enter_step(&mut self, bouncer: &Bouncer, plan: &Plan) -> Result<Exit, Stuck> {
        let places = bouncer.uses.iter().map(|used| (used.gpa, used.is_code));
        if !self.vm.space.show_bounce_pages(&bouncer.pages, places) {
            return Err(Stuck::Refused);
        }
        self.follow_space();
        if let Some(event) = self.pending.take() {
            self.inject(event);
        }
        self.backend.begin_step(&mut self.gprs, &plan.code);
        Ok(self.backend.enter(&mut self.gprs, &mut self.pending))
    }

    /// The step was refused one more access.
    fn answer_fault(
        &mut self,
        bouncer: &mut Bouncer,
        plan: &Plan,
        access: MemoryAccess,
    ) -> Result<(), Stuck> {
        if self.is_apic(access.gpa).is_none()
            && self.vm.space.resolve_fault(access.gpa, access.write)? == FaultCause::Memory
        {
            return Ok(());
        }
        let is_known = bouncer.number_at(access.gpa).is_some();
        if is_known && self.vm.space.shown_bounce_pages() < bouncer.uses.len() {
            // Its page was hidden meanwhile.
            return Ok(());
        }
        self.add_page(bouncer, plan, access)
    }

    /// A bounce page is to be shown where the processor was refused an access.
    fn add_page(
        &mut self,
        bouncer: &mut Bouncer,
        plan: &Plan,
        access: MemoryAccess,
    ) -> Result<(), Stuck> {
        let gpa = access.gpa & !(PAGE_BYTES - 1);
        let number = bouncer.uses.len();
        let is_whole = !plan.is_all || plan.parts_of(gpa).next().is_none();
        let has_code = plan.parts_of(gpa).any(|part| matches!(part.source, Source::Code(_)));
        let used = Use { gpa, is_whole, is_code: is_whole || has_code };
        let is_new = bouncer.number_at(gpa).is_none();
        if !is_new || bouncer.uses.try_push(used).is_err() {
            return Err(Stuck::Refused);
        }
        if is_whole {
            self.fill_whole(bouncer, number, gpa)
        } else {
            self.fill_parts(bouncer, plan, number, gpa)
        }
        Ok(())
    }
}
