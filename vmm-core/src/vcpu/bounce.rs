//! Instructions on device memory that the emulator does not know: the processor itself carries them out, in a single step in
//! which pages of RAM, the bounce pages, stand for those of the devices.
//!
//! A bounce page is shown where the processor was refused an access; then the step is tried again, until it is refused nothing
//! more. Before, the page is given what the instruction reads there, and afterwards the devices are given what it wrote. Which
//! bytes these are is known of most instructions ([`Namer`]); of pages that the processor uses by itself (page tables,
//! descriptors, the stacks of interrupts) all bytes are read, and those are written that it changed.

use super::Vcpu;
use super::counters::ExitKind;
use crate::backend::{Backend, SystemRegister};
use crate::emulate::{EmulatedCpu, MAX_NAMED, NamedMemory, Namer, Writes};
use crate::exit::{Exit, MemoryAccess};
use crate::memory::{BouncePages, FaultCause, PAGE_BYTES, Side, SpaceError};
use crate::paging::{Access, AccessKind, Privilege};
use crate::registers::Dr7;
use arrayvec::ArrayVec;
use core::ops::Range;
use devices::memory::GuestMemory;

/// Entries of one step: for the pages of devices and of RAM that it touches, and for what else comes meanwhile.
const MAX_ENTRIES: usize = 4 * BouncePages::COUNT;
/// What bytes that are written but not read hold before the first and the second run of an instruction that may leave some of
/// them alone: where both runs leave the same, it has written.
const FILLS: [u8; 2] = [0x00, 0xff];
/// Pages are copied and compared in pieces of this size.
const CHUNK: usize = 16;

/// A piece of memory in one page, of one that the instruction names.
#[derive(Clone, Copy, Debug)]
struct Part {
    gpa: u64,
    size_bytes: u16,
    reads: bool,
    writes: Writes,
}

impl Part {
    /// Where its bytes are in their page.
    const fn offsets(&self) -> Range<usize> {
        let start = (self.gpa % PAGE_BYTES) as usize;
        start..start + self.size_bytes as usize
    }
}

/// What is known of an instruction before the processor carries it out.
#[derive(Clone, Debug, Default)]
struct Plan {
    parts: ArrayVec<Part, { 2 * MAX_NAMED }>,
    /// Nothing but these, and the code, is touched on pages without tables of the guest's.
    is_all: bool,
    /// The instruction, and where it is, if that is on devices.
    code: ArrayVec<u8, 15>,
    code_parts: ArrayVec<(u64, usize, usize), 2>,
}

impl Plan {
    /// The parts in the page at `page_gpa`.
    fn parts_of(&self, page_gpa: u64) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.gpa & !(PAGE_BYTES - 1) == page_gpa)
    }

    fn has_code(&self, page_gpa: u64) -> bool {
        self.code_parts.iter().any(|(gpa, ..)| gpa & !(PAGE_BYTES - 1) == page_gpa)
    }

    fn names(&self, page_gpa: u64) -> bool {
        self.has_code(page_gpa) || self.parts_of(page_gpa).next().is_some()
    }
}

/// A bounce page that is shown.
#[derive(Clone, Copy, Debug)]
struct Use {
    gpa: u64,
    /// It was given all that the device has there.
    is_whole: bool,
    is_code: bool,
}

/// What a virtual CPU needs for such steps.
pub(super) struct Bouncer {
    pages: BouncePages,
    /// Those that are shown, by their numbers.
    uses: ArrayVec<Use, { BouncePages::COUNT }>,
    namer: Namer,
}

impl Bouncer {
    pub(super) fn new(pages: BouncePages) -> Self {
        Self { pages, uses: ArrayVec::new(), namer: Namer::new() }
    }

    /// The number of the page that is shown around `gpa`.
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
    OutOfMemory,
}

impl From<SpaceError> for Stuck {
    fn from(_: SpaceError) -> Self {
        Self::OutOfMemory
    }
}

impl<B: Backend> Vcpu<B> {
    /// Lets the processor carry out the instruction at RIP, or deliver the event that is pending, which was refused `access` to
    /// a device.
    #[cold]
    pub(super) fn bounce(&mut self, access: MemoryAccess) -> ExitKind {
        let Some(mut bouncer) = self.bouncer.take().filter(|_| self.backend.can_step()) else {
            return self
                .crash("an access to a device that this processor cannot make in a step", ExitKind::Fatal);
        };
        let plan = self.plan(&mut bouncer);
        let kind = match self.step_bounced(&mut bouncer, &plan, access) {
            Ok(kind) => kind,
            Err(Stuck::Refused) => self.crash("an instruction that reaches too far", ExitKind::Fatal),
            Err(Stuck::OutOfMemory) => {
                self.crash("the host has no memory left for page tables", ExitKind::Fatal)
            }
        };
        self.bouncer = Some(bouncer);
        kind
    }

    /// Finds out what the instruction at RIP touches.
    fn plan(&self, bouncer: &mut Bouncer) -> Plan {
        let mut plan = Plan::default();
        if self.pending.is_some() {
            return plan;
        }
        let mut bytes = [0; 15];
        let count = self.fetch(&mut bytes).unwrap_or(0);
        plan.code.extend(bytes.into_iter().take(count));
        let xsave_bytes = |compacted| self.cpuid(0xd, u32::from(compacted)).ebx as u16;
        let NamedMemory { pieces, is_all } = bouncer.namer.name(self, &plan.code, xsave_bytes);
        plan.is_all = is_all;
        let paging = self.paging_state();
        let access = Access { kind: AccessKind::Read, privilege: Privilege::of_cpl(self.backend.cpl()) };
        for piece in pieces {
            let (mut linear, mut left) = (piece.linear, u64::from(piece.size_bytes));
            while left > 0 {
                let size = left.min(PAGE_BYTES - linear % PAGE_BYTES);
                // What is not mapped is for the processor to complain about.
                if let Ok(translation) = paging.translate(&*self.vm.space, linear, access) {
                    let part = Part {
                        gpa: translation.gpa,
                        size_bytes: size as u16,
                        reads: piece.reads,
                        writes: piece.writes,
                    };
                    plan.is_all &= plan.parts.try_push(part).is_ok();
                }
                linear = linear.wrapping_add(size);
                left -= size;
            }
        }
        plan
    }

    fn step_bounced(
        &mut self,
        bouncer: &mut Bouncer,
        plan: &Plan,
        first: MemoryAccess,
    ) -> Result<ExitKind, Stuck> {
        let start_rip = self.backend.rip();
        let exit = self.add_page(bouncer, plan, first).and_then(|()| self.run_step(bouncer, plan));
        self.vm.space.hide_bounce_pages(&mut bouncer.pages);
        // An exit of the instruction behind a load of SS finds this one done.
        let is_done = matches!(exit, Ok(Exit::Stepped)) || self.backend.rip() != start_rip;
        if is_done {
            self.write_back(bouncer, plan);
        }
        bouncer.uses.clear();
        match exit? {
            Exit::Stepped | Exit::Memory(_) => Ok(ExitKind::Mmio),
            exit => Ok(self.dispatch_cold(exit)),
        }
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
        self.backend.set_system_register(SystemRegister::Dr7, Dr7::from(dr7).with_enables(0).into());
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
            let exit = self.enter_step(&plan.code);
            match exit {
                Exit::Memory(access) if self.backend.rip() == rip => {
                    self.answer_fault(bouncer, plan, access)?;
                }
                // The instruction has not begun.
                Exit::ExternalInterrupt => self.after_host_interrupt(),
                Exit::InterruptWindow | Exit::NmiWindow | Exit::HostNmi | Exit::WriteLogFull => {
                    self.dispatch_cold(exit);
                }
                exit => return Ok(exit),
            }
        }
        Err(Stuck::Refused)
    }

    fn enter_step(&mut self, instruction: &[u8]) -> Exit {
        if self.vm.space.needs_flush(self.index) {
            self.backend.flush_nested();
            self.vm.space.note_flush(self.index);
        }
        if let Some(event) = self.pending.take() {
            self.backend.inject(self.in_this_mode(event));
        }
        self.backend.begin_step(&mut self.gprs, instruction);
        let exit = self.backend.enter(&mut self.gprs);
        self.after_exit();
        exit
    }

    /// The step was refused one more access.
    fn answer_fault(
        &mut self,
        bouncer: &mut Bouncer,
        plan: &Plan,
        access: MemoryAccess,
    ) -> Result<(), Stuck> {
        if self.is_apic(access.gpa).is_none() {
            // RAM that is touched for the first time is mapped where the tables are as they always are.
            self.vm.space.hide_bounce_pages(&mut bouncer.pages);
            let cause = self.vm.space.resolve_fault(access.gpa, access.write);
            for used in &bouncer.uses {
                if !self.vm.space.show_bounce_page(&mut bouncer.pages, used.gpa, used.is_code) {
                    return Err(Stuck::Refused);
                }
            }
            if cause? == FaultCause::Memory {
                return Ok(());
            }
        }
        self.add_page(bouncer, plan, access)
    }

    /// Shows a bounce page where the processor was refused an access.
    fn add_page(&mut self, bouncer: &mut Bouncer, plan: &Plan, access: MemoryAccess) -> Result<(), Stuck> {
        let gpa = access.gpa & !(PAGE_BYTES - 1);
        let number = bouncer.uses.len();
        let is_whole = access.page_walk || !(plan.is_all && plan.names(gpa));
        let used = Use { gpa, is_whole, is_code: is_whole || plan.has_code(gpa) };
        let is_new = bouncer.number_at(gpa).is_none();
        if !is_new || bouncer.uses.try_push(used).is_err() {
            return Err(Stuck::Refused);
        }
        if !self.vm.space.show_bounce_page(&mut bouncer.pages, gpa, used.is_code) {
            return Err(Stuck::Refused);
        }
        if is_whole {
            self.fill_whole(bouncer, number, gpa)
        } else {
            self.fill_parts(bouncer, plan, number, gpa)
        }
        Ok(())
    }

    /// Gives a page all that the device has there.
    fn fill_whole(&mut self, bouncer: &Bouncer, number: usize, gpa: u64) {
        let mut chunk = [0; CHUNK];
        for offset in (0..PAGE_BYTES as usize).step_by(CHUNK) {
            self.read_device(gpa + offset as u64, &mut chunk);
            bouncer.pages.write(Side::Shown, number, offset, &chunk);
            bouncer.pages.write(Side::Note, number, offset, &chunk);
        }
    }

    /// Reads a piece of a page of which it is not known what of it will be used.
    fn read_device(&mut self, gpa: u64, data: &mut [u8; CHUNK]) {
        if self.is_apic(gpa).is_some() {
            // A read of what is no register is an error there.
            let register = self.apic.page().get((gpa >> 4) as u8);
            *data = [0; CHUNK];
            data[..4].copy_from_slice(&register.to_le_bytes());
        } else if self.vm.space.read(gpa, data).is_err() {
            for (piece, gpa) in data.chunks_exact_mut(4).zip((gpa..).step_by(4)) {
                piece.copy_from_slice(&self.vm.mmio.read(gpa, 4).to_le_bytes()[..4]);
            }
        }
    }

    /// Gives a page what the instruction reads there, and no more.
    fn fill_parts(&mut self, bouncer: &Bouncer, plan: &Plan, number: usize, gpa: u64) {
        for &(code_gpa, start, end) in &plan.code_parts {
            if code_gpa & !(PAGE_BYTES - 1) == gpa {
                let offset = (code_gpa % PAGE_BYTES) as usize;
                bouncer.pages.write(Side::Shown, number, offset, &plan.code[start..end]);
            }
        }
        for part in plan.parts_of(gpa) {
            if part.writes == Writes::Some {
                bouncer.fill(number, part, FILLS[0]);
            }
            if part.reads {
                self.for_pieces(*part, |vcpu, gpa, size_bytes| {
                    let value = vcpu.read_gpa(gpa, size_bytes).to_le_bytes();
                    let offset = (gpa % PAGE_BYTES) as usize;
                    bouncer.pages.write(Side::Shown, number, offset, &value[..size_bytes.into()]);
                });
            }
        }
    }

    /// Goes through a part in pieces as large as a device can be asked for.
    fn for_pieces(&mut self, part: Part, mut each: impl FnMut(&mut Self, u64, u8)) {
        let largest = if self.is_apic(part.gpa).is_some() { 4 } else { 8 };
        let (mut gpa, mut left) = (part.gpa, part.size_bytes);
        while left > 0 {
            let piece = if left >= largest { largest } else { 1 << left.ilog2() };
            each(self, gpa, piece as u8);
            (gpa, left) = (gpa + u64::from(piece), left - piece);
        }
    }

    /// The first run of two is over: notes what it left, and prepares the second.
    fn keep_first_run(&self, bouncer: &Bouncer, plan: &Plan) {
        for part in plan.parts.iter().filter(|part| part.writes == Writes::Some) {
            let Some(number) = bouncer.number_at(part.gpa).filter(|&number| !bouncer.uses[number].is_whole)
            else {
                continue;
            };
            for offset in part.offsets() {
                let mut byte = [0];
                bouncer.pages.read(Side::Shown, number, offset, &mut byte);
                bouncer.pages.write(Side::Note, number, offset, &byte);
            }
            bouncer.fill(number, part, FILLS[1]);
        }
    }

    /// Gives the devices what the instruction wrote.
    fn write_back(&mut self, bouncer: &Bouncer, plan: &Plan) {
        for part in &plan.parts {
            let Some(number) = bouncer.number_at(part.gpa) else { continue };
            match part.writes {
                Writes::Nothing => {}
                Writes::All => self.write_part(bouncer, number, *part),
                // Where the device's own bytes were, those that changed are written below.
                Writes::Some if bouncer.uses[number].is_whole => {}
                Writes::Some => self.write_where_equal(bouncer, number, *part),
            }
        }
        for (number, used) in bouncer.uses.iter().enumerate().filter(|(_, used)| used.is_whole) {
            self.write_changed(bouncer, number, used.gpa);
        }
    }

    fn write_part(&mut self, bouncer: &Bouncer, number: usize, part: Part) {
        self.for_pieces(part, |vcpu, gpa, size_bytes| {
            let mut value = [0; 8];
            let offset = (gpa % PAGE_BYTES) as usize;
            let bytes = &mut value[..size_bytes.into()];
            bouncer.pages.read(Side::Shown, number, offset, bytes);
            bouncer.pages.write(Side::Note, number, offset, bytes);
            vcpu.write_gpa(gpa, size_bytes, u64::from_le_bytes(value));
        });
    }

    /// Writes those bytes of a part that both runs left the same.
    fn write_where_equal(&mut self, bouncer: &Bouncer, number: usize, part: Part) {
        let is_written = |offset| {
            let (mut first, mut second) = ([0], [0]);
            bouncer.pages.read(Side::Note, number, offset, &mut first);
            bouncer.pages.read(Side::Shown, number, offset, &mut second);
            first == second
        };
        let mut offsets = part.offsets();
        while let Some(start) = offsets.find(|&offset| is_written(offset)) {
            let end = offsets.find(|&offset| !is_written(offset)).unwrap_or(offsets.end);
            let gpa = part.gpa & !(PAGE_BYTES - 1) | start as u64;
            self.write_part(bouncer, number, Part { gpa, size_bytes: (end - start) as u16, ..part });
        }
    }

    /// Writes what changed of a page that had all of the device's.
    fn write_changed(&mut self, bouncer: &Bouncer, number: usize, gpa: u64) {
        let (mut before, mut after) = ([0; CHUNK], [0; CHUNK]);
        for offset in (0..PAGE_BYTES as usize).step_by(CHUNK) {
            bouncer.pages.read(Side::Note, number, offset, &mut before);
            bouncer.pages.read(Side::Shown, number, offset, &mut after);
            if before == after {
                continue;
            }
            let words =
                before.chunks_exact(4).zip(after.chunks_exact(4)).zip((gpa + offset as u64..).step_by(4));
            for ((before, after), gpa) in words {
                if let (true, &[a, b, c, d]) = (before != after, after) {
                    self.write_gpa(gpa, 4, u32::from_le_bytes([a, b, c, d]).into());
                }
            }
        }
    }

    /// Answers an exit that has nothing to do with devices' memory.
    #[cold]
    #[inline(never)]
    fn dispatch_cold(&mut self, exit: Exit) -> ExitKind {
        self.dispatch(exit)
    }
}
