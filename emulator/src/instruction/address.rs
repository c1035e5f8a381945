//! From an instruction's operand to a linear address, and on to guest-physical memory: effective
//! addresses, segmentation (Intel SDM volume 3, chapter 5), and the page walk.

use super::place::Place;
use super::{EmulatedCpu, MemoryUnit, Step, Stop};
use crate::paging::{self, Access, AccessKind, PagingState, Privilege};
use crate::registers::{Exception, Fault, Segment, SegmentName};

pub(super) const PAGE_BYTES: u64 = 4096;

/// A reference to memory before segmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) segment: SegmentName,
    pub(super) offset: u64,
    /// The bits that addresses of this instruction have.
    pub(super) mask: u64,
}

impl Reference {
    /// The reference `distance` bytes further on, wrapped around the address size.
    pub(super) const fn moved(self, distance: i64) -> Self {
        Self { offset: self.offset.wrapping_add(distance as u64) & self.mask, ..self }
    }
}

/// A data segment's type field (SDM volume 3, 3.4.5.1).
const EXECUTABLE: u8 = 8;
const EXPAND_DOWN: u8 = 4;
/// Writable if data, readable if code.
const READ_OR_WRITE: u8 = 2;

impl<C: EmulatedCpu> MemoryUnit<'_, C> {
    /// The linear address of `size_bytes` at a reference.
    #[inline]
    pub(super) fn linear(
        &self,
        reference: Reference,
        size_bytes: u64,
        kind: AccessKind,
    ) -> Result<u64, Fault> {
        let Reference { segment: name, offset, .. } = reference;
        if self.mode.is_64() {
            return self.linear_64(name, offset, size_bytes);
        }
        let segment = self.cpu.segment(name);
        let allowed = (!self.is_protected() || allows(&segment, kind))
            && within_limit(&segment, offset, size_bytes);
        if !allowed {
            return Err(segmentation_fault(name));
        }
        Ok(segment.base.wrapping_add(offset) & 0xffff_ffff)
    }

    fn linear_64(&self, name: SegmentName, offset: u64, size_bytes: u64) -> Result<u64, Fault> {
        let linear = self.base(name).wrapping_add(offset);
        let la57 = self.cpu.cr4().la57();
        let last = linear.wrapping_add(size_bytes.wrapping_sub(1));
        if paging::is_canonical(linear, la57) && paging::is_canonical(last, la57) {
            Ok(linear)
        } else {
            Err(segmentation_fault(name))
        }
    }

    /// Protected mode, not virtual-8086: segment types are checked.
    fn is_protected(&self) -> bool {
        self.cpu.cr0().protection() && !self.mode.rflags.virtual_8086()
    }

    #[inline]
    pub(super) fn translate(&self, linear: u64, kind: AccessKind) -> Result<u64, Fault> {
        if self.cpu.cr0().paging() { self.walk(linear, kind) } else { Ok(linear & 0xffff_ffff) }
    }

    fn walk(&self, linear: u64, kind: AccessKind) -> Result<u64, Fault> {
        let (cpu, cr4) = (&*self.cpu, self.cpu.cr4());
        let paging = PagingState {
            cr0: cpu.cr0(),
            cr3: cpu.cr3(),
            cr4,
            efer: cpu.efer(),
            alignment_check: self.mode.rflags.alignment_check(),
            pkru: if cr4.pke() { cpu.pkru() } else { 0 },
            physical_address_bits: cpu.physical_address_bits(),
        };
        let access = Access { kind, privilege: Privilege::of_cpl(cpu.cpl()) };
        Ok(paging.translate(cpu.memory(), linear, access)?.gpa)
    }

    /// Translates the memory operand of an instruction that has no other one.
    pub(super) fn operand_at(
        &mut self,
        reference: Reference,
        size_bytes: u64,
        kind: AccessKind,
    ) -> Step<Place> {
        if size_bytes == 0 || size_bytes > 32 {
            return Err(Stop::Unsupported);
        }
        if let Some(gpa) = self.refused_operand(reference, size_bytes, kind) {
            return Ok(Place { gpa, size_bytes: size_bytes as u8, crossing: None });
        }
        Ok(self.place(reference, size_bytes, kind)?)
    }

    /// Where an operand is, if it is what the processor was refused: it had checked the segment and
    /// walked the page tables.
    fn refused_operand(
        &mut self,
        reference: Reference,
        size_bytes: u64,
        kind: AccessKind,
    ) -> Option<u64> {
        let refused = self.refused?;
        let linear = self.base(reference.segment).wrapping_add(reference.offset);
        let is_same = refused.gpa % PAGE_BYTES == linear % PAGE_BYTES
            && linear % PAGE_BYTES + size_bytes <= PAGE_BYTES
            && (refused.write || kind == AccessKind::Read)
            && !(refused.page_walk || refused.execute);
        if is_same && self.is_watched {
            let linear = if self.mode.is_64() { linear } else { linear & 0xffff_ffff };
            self.watch(linear, size_bytes, kind);
        }
        is_same.then_some(refused.gpa)
    }

    /// Where a segment begins: in 64-bit code only FS and GS have a say in it.
    fn base(&self, name: SegmentName) -> u64 {
        match name {
            SegmentName::Fs | SegmentName::Gs => self.cpu.segment_base(name),
            _ if self.mode.is_64() => 0,
            _ => self.cpu.segment_base(name),
        }
    }

    /// Translates `size_bytes` (at most 32) at a reference.
    pub(super) fn place(
        &mut self,
        reference: Reference,
        size_bytes: u64,
        kind: AccessKind,
    ) -> Result<Place, Fault> {
        let linear = self.linear(reference, size_bytes, kind)?;
        if self.is_watched {
            self.watch(linear, size_bytes, kind);
        }
        self.place_linear(linear, size_bytes, kind)
    }

    /// Notes the breakpoints that an access meets.
    #[cold]
    #[inline(never)]
    fn watch(&mut self, linear: u64, size_bytes: u64, kind: AccessKind) {
        if let Some(breakpoints) = self.cpu.breakpoints() {
            self.met |= breakpoints.on_data(linear, size_bytes, kind == AccessKind::Write);
        }
    }

    fn place_linear(&self, linear: u64, size_bytes: u64, kind: AccessKind) -> Result<Place, Fault> {
        let gpa = self.translate(linear, kind)?;
        let room = PAGE_BYTES - linear % PAGE_BYTES;
        let crossing = if size_bytes > room {
            let second = linear.wrapping_add(room);
            let second = if self.mode.is_64() { second } else { second & 0xffff_ffff };
            Some((room as u8, self.translate(second, kind)?))
        } else {
            None
        };
        Ok(Place { gpa, size_bytes: size_bytes as u8, crossing })
    }
}

/// #SS(0) for the stack segment, #GP(0) for the others.
const fn segmentation_fault(name: SegmentName) -> Fault {
    match name {
        SegmentName::Ss => {
            Fault { exception: Exception::StackFault, error_code: Some(0), address: None }
        }
        _ => Fault::PROTECTION,
    }
}

/// Whether a protected-mode segment's type allows the access; a null selector's segment is not
/// present.
const fn allows(segment: &Segment, kind: AccessKind) -> bool {
    let attributes = segment.attributes;
    let typed = attributes.kind();
    let executable = typed & EXECUTABLE != 0;
    let by_type = match kind {
        AccessKind::Write => !executable && typed & READ_OR_WRITE != 0,
        _ => !executable || typed & READ_OR_WRITE != 0,
    };
    attributes.present() && by_type
}

const fn within_limit(segment: &Segment, offset: u64, size_bytes: u64) -> bool {
    let last = offset + size_bytes - 1;
    let limit = segment.limit as u64;
    let attributes = segment.attributes;
    let expands_down =
        attributes.code_or_data() && attributes.kind() & (EXECUTABLE | EXPAND_DOWN) == EXPAND_DOWN;
    if expands_down {
        let top = if attributes.default_big() { 0xffff_ffff } else { 0xffff };
        return offset > limit && last <= top;
    }
    last <= limit
}
