//! String instructions: MOVS, STOS, LODS, SCAS and CMPS, with or without a repeat prefix.
//!
//! A repeated instruction works in runs: as many elements as lie in one page on each side. After
//! about [`BATCH_BYTES`], or when its CPU says so, it stops with its registers advanced, so that
//! interrupts are not held up, and goes on when the guest is entered again.

use super::address::{PAGE_BYTES, Reference};
use super::alu::{self, Binary, Width};
use super::operand::Part;
use super::place::Place;
use super::string_form::{Cursor, Repeat, StringInstruction, StringOperation};
use super::{EmulatedCpu, Flow, MemoryUnit, Step, Stop};
use crate::paging::AccessKind;
use crate::registers::Gpr;

/// The bytes that a repeated instruction moves before it lets interrupts in.
const BATCH_BYTES: u64 = 4096;

/// Elements that a repeated instruction moves one by one before it lets interrupts in.
const BATCH_ELEMENTS: u64 = 512;

/// The buffer on the stack between source and destination.
pub(super) const BUFFER_BYTES: usize = 2048;

/// Elements of a string operand that lie next to each other, from the cursor upwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) place: Place,
    /// At least one; more than one only within a page.
    pub(super) elements: u64,
}

/// The part of a repeated instruction's work that one step may do.
pub(super) struct Batch {
    count: u64,
    budget_elements: u64,
    /// The bits of rCX that count, or 0 without a repeat prefix.
    count_mask: u64,
    has_begun: bool,
}

impl<C: EmulatedCpu> MemoryUnit<'_, C> {
    pub(super) fn string(&mut self, form: &StringInstruction) -> Step<Flow> {
        match form.operation {
            StringOperation::Movs => self.movs(form),
            StringOperation::Stos => self.stos(form),
            StringOperation::Lods => self.lods(form),
            StringOperation::Scas => self.scas(form),
            StringOperation::Cmps => self.cmps(form),
            // INS and OUTS exit for their port, before they touch memory: another CPU has put this
            // one here since the exit, and nobody has checked that it may use the port.
            StringOperation::Ins | StringOperation::Outs if self.refused.is_some() => {
                Err(Stop::Changed)
            }
            StringOperation::Ins => self.ins(form),
            StringOperation::Outs => self.outs(form),
        }
    }

    fn movs(&mut self, form: &StringInstruction) -> Step<Flow> {
        let (to, from, width) = (form.destination(), form.source(), form.width);
        let mut batch = self.batch(form);
        while let Some(wanted) = self.next_part(&mut batch) {
            let source = self.elements(&from, width, wanted, AccessKind::Read)?;
            let destination = self.elements(&to, width, source.elements, AccessKind::Write)?;
            let elements =
                self.move_run(width, source.place, destination.place, destination.elements);
            self.advance(&from, width, elements);
            self.advance(&to, width, elements);
            self.count_down(&mut batch, elements);
        }
        Ok(batch.flow())
    }

    /// Moves up to `elements`, as many as can be moved at once without changing what the CPU would
    /// do one by one; returns how many.
    fn move_run(&mut self, width: Width, from: Place, to: Place, elements: u64) -> u64 {
        let size = u64::from(width.bytes());
        // Elements that this instruction wrote before it reads them must be written first.
        let ahead = match to.gpa.checked_sub(from.gpa) {
            Some(ahead @ 1..) => (ahead / size).max(1),
            _ => u64::MAX,
        };
        let elements = elements.min(ahead).min(BUFFER_BYTES as u64 / size);
        if elements == 1 {
            let value = self.read_place(from);
            self.write_place(to, value);
            return 1;
        }
        if !self.is_ram(from.gpa) && !self.is_ram(to.gpa) {
            // Between devices the order of reads and writes shows: VGA's latches, for one.
            for gpa_offset in (0..elements).map(|index| index * size) {
                let value = self.cpu.read_gpa(from.gpa + gpa_offset, width.bytes());
                self.cpu.write_gpa(to.gpa + gpa_offset, width.bytes(), value);
            }
            return elements;
        }
        let mut buffer = [0; BUFFER_BYTES];
        let Some(data) = buffer.get_mut(..(elements * size) as usize) else { return 0 };
        self.cpu.read_gpa_run(from.gpa, width.bytes(), data);
        self.cpu.write_gpa_run(to.gpa, width.bytes(), data);
        elements
    }

    fn is_ram(&self, gpa: u64) -> bool {
        self.cpu.is_ram(gpa)
    }

    fn stos(&mut self, form: &StringInstruction) -> Step<Flow> {
        let (to, width) = (form.destination(), form.width);
        let value = self.cpu.gprs().get(Gpr::Rax) & width.mask();
        let mut batch = self.batch(form);
        while let Some(wanted) = self.next_part(&mut batch) {
            let destination = self.elements(&to, width, wanted, AccessKind::Write)?;
            if destination.elements == 1 {
                self.write_place(destination.place, value);
            } else {
                self.fill_run(width, destination, value);
            }
            self.advance(&to, width, destination.elements);
            self.count_down(&mut batch, destination.elements);
        }
        Ok(batch.flow())
    }

    fn fill_run(&mut self, width: Width, run: Run, value: u64) {
        let size = usize::from(width.bytes());
        let mut buffer = [0; BUFFER_BYTES];
        let Some(data) = buffer.get_mut(..run.elements as usize * size) else { return };
        let bytes = value.to_le_bytes();
        for element in data.chunks_exact_mut(size) {
            element.copy_from_slice(bytes.get(..size).unwrap_or_default());
        }
        self.cpu.write_gpa_run(run.place.gpa, width.bytes(), data);
    }

    fn lods(&mut self, form: &StringInstruction) -> Step<Flow> {
        let (from, width) = (form.source(), form.width);
        let mut batch = self.batch_of_singles(form);
        while self.next_part(&mut batch).is_some() {
            let source = self.elements(&from, width, 1, AccessKind::Read)?;
            let value = self.read_place(source.place);
            Part::encoded(0, width, true).write(self.cpu.gprs_mut(), value);
            self.advance(&from, width, 1);
            self.count_down(&mut batch, 1);
        }
        Ok(batch.flow())
    }

    fn scas(&mut self, form: &StringInstruction) -> Step<Flow> {
        let (at, width) = (form.destination(), form.width);
        let accumulator = self.cpu.gprs().get(Gpr::Rax);
        let mut batch = self.batch_of_singles(form);
        while self.next_part(&mut batch).is_some() {
            let source = self.elements(&at, width, 1, AccessKind::Read)?;
            let value = self.read_place(source.place);
            self.advance(&at, width, 1);
            self.compare_element(form, &mut batch, accumulator, value);
        }
        Ok(batch.flow())
    }

    fn cmps(&mut self, form: &StringInstruction) -> Step<Flow> {
        let (first, second, width) = (form.source(), form.destination(), form.width);
        let mut batch = self.batch_of_singles(form);
        while self.next_part(&mut batch).is_some() {
            let first_run = self.elements(&first, width, 1, AccessKind::Read)?;
            let second_run = self.elements(&second, width, 1, AccessKind::Read)?;
            let (a, b) = (self.read_place(first_run.place), self.read_place(second_run.place));
            self.advance(&first, width, 1);
            self.advance(&second, width, 1);
            self.compare_element(form, &mut batch, a, b);
        }
        Ok(batch.flow())
    }

    /// Sets the flags for one pair of elements; REPE ends at the first difference, REPNE at the
    /// first match.
    fn compare_element(&mut self, form: &StringInstruction, batch: &mut Batch, a: u64, b: u64) {
        let (_, rflags) = alu::binary(Binary::Sub, form.width, a, b, self.cpu.rflags());
        // A fault at a later element finds the flags of this one.
        self.cpu.set_rflags(rflags);
        self.count_down(batch, 1);
        let goes_on_while_equal = form.repeat != Repeat::WhileNotEqual;
        if rflags.zero() != goes_on_while_equal {
            batch.count = 0;
        }
    }

    /// How much work this step may do, in runs of many elements. With single-stepping or
    /// breakpoints, one element.
    pub(super) fn batch(&self, form: &StringInstruction) -> Batch {
        self.batch_of(form, BATCH_BYTES / u64::from(form.width.bytes()))
    }

    /// The same for instructions that go element by element.
    fn batch_of_singles(&self, form: &StringInstruction) -> Batch {
        self.batch_of(form, BATCH_ELEMENTS)
    }

    fn batch_of(&self, form: &StringInstruction, budget_elements: u64) -> Batch {
        if form.repeat == Repeat::Once {
            return Batch { count: 1, budget_elements: 1, count_mask: 0, has_begun: false };
        }
        let count_mask = form.address_width.mask();
        let count = self.cpu.gprs().get(Gpr::Rcx) & count_mask;
        let one_by_one = self.mode.rflags.trap() || self.is_watched;
        let budget_elements = if one_by_one { 1 } else { budget_elements };
        Batch { count, budget_elements, count_mask, has_begun: false }
    }

    /// How many elements may be moved next; `None`: no more in this step.
    pub(super) fn next_part(&mut self, batch: &mut Batch) -> Option<u64> {
        let elements = batch.count.min(batch.budget_elements);
        let has_begun = core::mem::replace(&mut batch.has_begun, true);
        let goes_on = elements > 0 && !(has_begun && self.cpu.must_yield());
        goes_on.then_some(elements)
    }

    /// Translates at most `wanted` elements from the cursor on.
    pub(super) fn elements(
        &mut self,
        cursor: &Cursor,
        width: Width,
        wanted: u64,
        kind: AccessKind,
    ) -> Step<Run> {
        let size = u64::from(width.bytes());
        let offset = self.cpu.gprs().get(cursor.register) & cursor.mask;
        let reference = Reference { segment: cursor.segment, offset, mask: cursor.mask };
        let place = self.place(reference, size, kind)?;
        if self.mode.rflags.direction() || wanted <= 1 || place.crossing.is_some() {
            return Ok(Run { place, elements: 1 });
        }
        let in_page = (PAGE_BYTES - place.gpa % PAGE_BYTES) / size;
        let in_address_size = (cursor.mask - offset) / size;
        let elements =
            wanted.min(in_page).min(in_address_size).min(BUFFER_BYTES as u64 / size).max(1);
        // Near the segment's end, one by one.
        let fits = self.linear(reference, elements * size, kind).is_ok();
        Ok(Run { place, elements: if fits { elements } else { 1 } })
    }

    /// Moves the cursor on by elements that were moved.
    pub(super) fn advance(&mut self, cursor: &Cursor, width: Width, elements: u64) {
        let distance = elements.wrapping_mul(width.bytes().into());
        let gprs = self.cpu.gprs_mut();
        let old = gprs.get(cursor.register);
        let new = if self.mode.rflags.direction() {
            old.wrapping_sub(distance)
        } else {
            old.wrapping_add(distance)
        };
        gprs.set(cursor.register, within(old, new, cursor.mask));
    }

    /// Takes elements that were moved off the count and the budget.
    pub(super) fn count_down(&mut self, batch: &mut Batch, elements: u64) {
        batch.count = batch.count.saturating_sub(elements);
        batch.budget_elements = batch.budget_elements.saturating_sub(elements);
        if batch.count_mask != 0 {
            let gprs = self.cpu.gprs_mut();
            let old = gprs.get(Gpr::Rcx);
            gprs.set(Gpr::Rcx, within(old, old.wrapping_sub(elements), batch.count_mask));
        }
    }
}

impl Batch {
    /// How this step ends.
    pub(super) const fn flow(&self) -> Flow {
        if self.count > 0 { Flow::Repeat } else { Flow::Next }
    }
}

/// Writes a register of the address size: a 16-bit one keeps what is above it, a 32-bit one clears
/// it.
const fn within(old: u64, new: u64, mask: u64) -> u64 {
    if mask == 0xffff { (old & !mask) | (new & mask) } else { new & mask }
}
