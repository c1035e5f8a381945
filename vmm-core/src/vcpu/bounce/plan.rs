//! All that is known of an instruction before the processor carries it out.

use super::{Bouncer, Vcpu};
use crate::backend::Backend;
use crate::vm::Vm;
use crate::vm::memory::PAGE_BYTES;
use arrayvec::ArrayVec;
use core::ops::Range;
use devices::memory::{GuestMemory, NotRam};
use emulator::instruction::{MAX_NAMED, Writes};
use emulator::paging::{Access, AccessKind, Privilege};
use spin::Mutex;

/// Entries of the guest's page tables on devices, of which an instruction may use five for each of
/// its pages.
const MAX_ENTRIES: usize = 64;
/// Twice as many as the instruction names, since each may cross a page, with the page tables'
/// entries and the code.
const MAX_PARTS: usize = 2 * MAX_NAMED + MAX_ENTRIES + 8;

/// Where the bytes of a part come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// They are not read.
    Nothing,
    /// The device has not been asked yet.
    Device,
    /// The instruction itself, read already.
    Code(u64),
    /// An entry of the guest's page tables, read already, which the processor may mark as accessed
    /// or dirty.
    Entry(u64),
}

/// A piece of memory, within a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) gpa: u64,
    pub(super) size_bytes: u16,
    pub(super) source: Source,
    pub(super) writes: Writes,
}

impl Part {
    /// Where its bytes are in their page.
    pub(super) const fn offsets(&self) -> Range<usize> {
        let start = (self.gpa % PAGE_BYTES) as usize;
        start..start + self.size_bytes as usize
    }

    /// The address of its page.
    pub(super) const fn page(&self) -> u64 {
        self.gpa & !(PAGE_BYTES - 1)
    }
}

/// The memory that the instruction at RIP touches.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) parts: ArrayVec<Part, MAX_PARTS>,
    /// Nothing else on devices is touched.
    pub(super) is_all: bool,
    /// Where the next instruction is, if the step would not end before that.
    pub(super) stop_gpa: Option<u64>,
    /// The instruction.
    pub(super) code: ArrayVec<u8, 15>,
}

impl Plan {
    /// The parts in the page at `page_gpa`.
    pub(super) fn parts_of(&self, page_gpa: u64) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.page() == page_gpa)
    }

    fn clear(&mut self) {
        self.parts.clear();
        self.code.clear();
        (self.is_all, self.stop_gpa) = (false, None);
    }

    fn add(&mut self, part: Part) {
        self.is_all &= self.parts.try_push(part).is_ok();
    }
}

/// Guest-physical memory that notes which entries of page tables come from devices, and leaves it
/// to the processor to mark them.
struct Tables<'a> {
    vm: &'a Vm,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    entries: ArrayVec<(u64, u16, u64), MAX_ENTRIES>,
    overflowed: bool,
}

impl GuestMemory for Tables<'_> {
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NotRam> {
        if self.vm.space.is_memory(gpa) {
            return self.vm.space.read(gpa, data);
        }
        let mut found = self.found.lock();
        let known =
            found.entries.iter().find(|entry| (entry.0, usize::from(entry.1)) == (gpa, data.len()));
        if let Some((.., value)) = known {
            data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
            return Ok(());
        }
        self.vm.read(gpa, data)?;
        let mut value = [0; 8];
        value[..data.len()].copy_from_slice(data);
        let entry = (gpa, data.len() as u16, u64::from_le_bytes(value));
        found.overflowed |= found.entries.try_push(entry).is_err();
        Ok(())
    }

    fn write(&self, gpa: u64, _: &[u8]) -> Result<(), NotRam> {
        Err(NotRam { gpa })
    }

    fn compare_exchange_u8(&self, _: u64, _: u8, _: u8) -> Result<bool, NotRam> {
        Ok(true)
    }
}

impl<B: Backend> Vcpu<B> {
    /// Finds out what the instruction at RIP touches.
    pub(super) fn plan(&self, bouncer: &mut Bouncer, plan: &mut Plan) {
        plan.clear();
        if self.pending.is_some() {
            // Nothing is known of the memory that the delivery of an event touches.
            return;
        }
        let mut tables = Tables { vm: &self.vm, found: Mutex::default() };
        let mut bytes = [0; 15];
        let mut code = ArrayVec::<Part, 8>::new();
        let count = self.fetch_by(&tables, &mut bytes, |gpa, piece| {
            if !self.vm.space.is_memory(gpa) {
                code.extend(code_parts(gpa, piece));
            }
        });
        plan.code.extend(bytes.into_iter().take(count.unwrap_or(0)));
        let xsave_bytes = |compacted| self.cpuid(0xd, u32::from(compacted)).ebx as u16;
        let named = bouncer.namer.name(self, &plan.code, xsave_bytes);
        plan.is_all = named.is_all;
        code.into_iter().for_each(|part| plan.add(part));
        let paging = self.paging_state();
        let access =
            Access { kind: AccessKind::Read, privilege: Privilege::of_cpl(self.backend.cpl()) };
        for piece in &named.pieces {
            let source = if piece.reads { Source::Device } else { Source::Nothing };
            let (mut linear, mut left) = (piece.linear, u64::from(piece.size_bytes));
            while left > 0 {
                let size = left.min(PAGE_BYTES - linear % PAGE_BYTES);
                // An address that is not mapped is for the processor to complain about.
                if let Ok(translation) = paging.translate(&tables, linear, access) {
                    let (gpa, size_bytes) = (translation.gpa, size as u16);
                    plan.add(Part { gpa, size_bytes, source, writes: piece.writes });
                }
                linear = linear.wrapping_add(size);
                left -= size;
            }
        }
        if B::STEPS_BY_TRAP && named.holds_off_traps {
            let next = self.linear_rip().wrapping_add(named.length_bytes as u64);
            plan.stop_gpa =
                paging.translate(&tables, next, self.fetch_access()).ok().map(|found| found.gpa);
        }
        let found = tables.found.get_mut();
        plan.is_all &= !found.overflowed;
        for &(gpa, size_bytes, value) in &found.entries {
            plan.add(Part {
                gpa,
                size_bytes,
                source: Source::Entry(value),
                writes: Writes::Nothing,
            });
        }
    }
}

/// The code at `gpa`, in parts that fit into their source.
fn code_parts(gpa: u64, code: &[u8]) -> impl Iterator<Item = Part> {
    (gpa..).step_by(8).zip(code.chunks(8)).map(|(gpa, piece)| {
        let mut value = [0; 8];
        value[..piece.len()].copy_from_slice(piece);
        let source = Source::Code(u64::from_le_bytes(value));
        Part { gpa, size_bytes: piece.len() as u16, source, writes: Writes::Nothing }
    })
}
