//! String instructions: MOVS, STOS, LODS, SCAS and CMPS, with or without a repeat prefix.
//!
//! A repeated instruction works in runs: as many elements as lie in one page on each side. After about
//! [`BATCH_BYTES`] it stops with its registers advanced, so that interrupts are not held up, and goes on when the guest
//! is entered again.

use super::address::{PAGE_BYTES, Reference};
use super::alu::{self, Binary, Width};
use super::arithmetic::accumulator;
use super::operand::{Place, segment_name};
use super::{EmulatedCpu, Execution, Flow, Step, Stop};
use crate::paging::AccessKind;
use crate::registers::{Gpr, SegmentName};
use devices::memory::GuestMemory;
use iced_x86::{Mnemonic, OpKind};

/// What a repeated instruction moves before it lets interrupts in.
const BATCH_BYTES: usize = 4096;

/// Elements that a repeated instruction moves one by one before it lets interrupts in.
const BATCH_ELEMENTS: u64 = 512;

/// The buffer on the stack between source and destination.
pub(super) const BUFFER_BYTES: usize = 2048;

/// A string operand: the register that walks along it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    segment: SegmentName,
    register: Gpr,
    mask: u64,
}

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
}

impl<C: EmulatedCpu> Execution<'_, C> {
    pub(super) fn string(&mut self) -> Step<Flow> {
        use Mnemonic as M;
        match self.instruction.mnemonic() {
            M::Movsb | M::Movsw | M::Movsd | M::Movsq => self.movs(),
            M::Stosb | M::Stosw | M::Stosd | M::Stosq => self.stos(),
            M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => self.lods(),
            M::Scasb | M::Scasw | M::Scasd | M::Scasq => self.scas(),
            M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq => self.cmps(),
            M::Insb | M::Insw | M::Insd => self.ins(),
            M::Outsb | M::Outsw | M::Outsd => self.outs(),
            _ => Err(Stop::Unsupported),
        }
    }

    fn movs(&mut self) -> Step<Flow> {
        let width = self.element_width()?;
        let (to, from) = (self.cursor(0)?, self.cursor(1)?);
        let mut batch = self.batch(&to, width);
        while let Some(wanted) = batch.next() {
            let source = self.run(&from, width, wanted, AccessKind::Read)?;
            let destination = self.run(&to, width, source.elements, AccessKind::Write)?;
            let elements = self.move_run(width, source.place, destination.place, destination.elements);
            self.advance(&from, width, elements);
            self.advance(&to, width, elements);
            self.count_down(&mut batch, elements);
        }
        Ok(batch.flow())
    }

    /// Moves up to `elements`, as many as can be moved at once without changing what the CPU would do one by one;
    /// returns how many.
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
        self.cpu.memory().read(gpa, &mut [0]).is_ok()
    }

    fn stos(&mut self) -> Step<Flow> {
        let width = self.element_width()?;
        let to = self.cursor(0)?;
        let value = self.cpu.gprs().get(Gpr::Rax) & width.mask();
        let mut batch = self.batch(&to, width);
        while let Some(wanted) = batch.next() {
            let destination = self.run(&to, width, wanted, AccessKind::Write)?;
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

    fn lods(&mut self) -> Step<Flow> {
        let width = self.element_width()?;
        let from = self.cursor(1)?;
        let mut batch = self.batch_of_singles(&from);
        while batch.next().is_some() {
            let source = self.run(&from, width, 1, AccessKind::Read)?;
            let value = self.read_place(source.place);
            self.set_register(accumulator(width), value)?;
            self.advance(&from, width, 1);
            self.count_down(&mut batch, 1);
        }
        Ok(batch.flow())
    }

    fn scas(&mut self) -> Step<Flow> {
        let width = self.element_width()?;
        let at = self.cursor(1)?;
        let accumulator = self.cpu.gprs().get(Gpr::Rax);
        let mut batch = self.batch_of_singles(&at);
        while batch.next().is_some() {
            let source = self.run(&at, width, 1, AccessKind::Read)?;
            let value = self.read_place(source.place);
            self.advance(&at, width, 1);
            self.compare_element(&mut batch, width, accumulator, value);
        }
        Ok(batch.flow())
    }

    fn cmps(&mut self) -> Step<Flow> {
        let width = self.element_width()?;
        let (first, second) = (self.cursor(0)?, self.cursor(1)?);
        let mut batch = self.batch_of_singles(&first);
        while batch.next().is_some() {
            let first_run = self.run(&first, width, 1, AccessKind::Read)?;
            let second_run = self.run(&second, width, 1, AccessKind::Read)?;
            let (a, b) = (self.read_place(first_run.place), self.read_place(second_run.place));
            self.advance(&first, width, 1);
            self.advance(&second, width, 1);
            self.compare_element(&mut batch, width, a, b);
        }
        Ok(batch.flow())
    }

    /// Sets the flags for one pair of elements; REPE ends at the first difference, REPNE at the first match.
    fn compare_element(&mut self, batch: &mut Batch, width: Width, a: u64, b: u64) {
        (_, self.rflags) = alu::binary(Binary::Sub, width, a, b, self.rflags);
        // A fault at a later element finds the flags of this one.
        self.cpu.set_rflags(self.rflags);
        self.count_down(batch, 1);
        let goes_on_while_equal = !self.instruction.has_repne_prefix();
        if self.rflags.zero() != goes_on_while_equal {
            batch.count = 0;
        }
    }

    pub(super) fn element_width(&self) -> Step<Width> {
        Width::of_bytes(self.instruction.memory_size().size()).ok_or(Stop::Unsupported)
    }

    /// The string operand's register and segment.
    pub(super) fn cursor(&self, operand: u32) -> Step<Cursor> {
        let (register, mask) = match self.instruction.op_kind(operand) {
            OpKind::MemorySegSI => (Gpr::Rsi, Width::Word),
            OpKind::MemorySegESI => (Gpr::Rsi, Width::Dword),
            OpKind::MemorySegRSI => (Gpr::Rsi, Width::Qword),
            OpKind::MemoryESDI => (Gpr::Rdi, Width::Word),
            OpKind::MemoryESEDI => (Gpr::Rdi, Width::Dword),
            OpKind::MemoryESRDI => (Gpr::Rdi, Width::Qword),
            _ => return Err(Stop::Unsupported),
        };
        let segment = match register {
            Gpr::Rdi => SegmentName::Es,
            _ => segment_name(self.instruction.memory_segment()).ok_or(Stop::Unsupported)?,
        };
        Ok(Cursor { segment, register, mask: mask.mask() })
    }

    /// How much work this step may do, in runs of many elements. With single-stepping, one element.
    pub(super) fn batch(&self, cursor: &Cursor, width: Width) -> Batch {
        self.batch_of(cursor, BATCH_BYTES as u64 / u64::from(width.bytes()))
    }

    /// The same for instructions that go element by element.
    fn batch_of_singles(&self, cursor: &Cursor) -> Batch {
        self.batch_of(cursor, BATCH_ELEMENTS)
    }

    fn batch_of(&self, cursor: &Cursor, budget_elements: u64) -> Batch {
        if !(self.instruction.has_rep_prefix() || self.instruction.has_repne_prefix()) {
            return Batch { count: 1, budget_elements: 1, count_mask: 0 };
        }
        let count = self.cpu.gprs().get(Gpr::Rcx) & cursor.mask;
        let budget_elements = if self.mode.rflags.trap() { 1 } else { budget_elements };
        Batch { count, budget_elements, count_mask: cursor.mask }
    }

    /// Translates at most `wanted` elements from the cursor on.
    pub(super) fn run(&self, cursor: &Cursor, width: Width, wanted: u64, kind: AccessKind) -> Step<Run> {
        let size = u64::from(width.bytes());
        let offset = self.cpu.gprs().get(cursor.register) & cursor.mask;
        let reference = Reference { segment: cursor.segment, offset, mask: cursor.mask };
        let place = self.place(reference, size, kind)?;
        if self.mode.rflags.direction() || wanted <= 1 || place.crossing.is_some() {
            return Ok(Run { place, elements: 1 });
        }
        let in_page = (PAGE_BYTES - place.gpa % PAGE_BYTES) / size;
        let in_address_size = (cursor.mask - offset) / size;
        let elements = wanted.min(in_page).min(in_address_size).min(BUFFER_BYTES as u64 / size).max(1);
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
    /// How many elements may be moved next; `None`: no more in this step.
    pub(super) fn next(&self) -> Option<u64> {
        let elements = self.count.min(self.budget_elements);
        (elements > 0).then_some(elements)
    }

    /// How this step ends.
    pub(super) const fn flow(&self) -> Flow {
        if self.count > 0 { Flow::Repeat } else { Flow::Next }
    }
}

/// Writes a register of the address size: a 16-bit one keeps what is above it, a 32-bit one clears it.
const fn within(old: u64, new: u64, mask: u64) -> u64 {
    if mask == 0xffff { (old & !mask) | (new & mask) } else { new & mask }
}
