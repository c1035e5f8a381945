//! Descriptors: reading, checking and loading them as a task switch does (SDM volume 3, 3.4.5,
//! table 9-1).

use super::memory::Linear;
use super::{TaskCpu, selector_fault};
use crate::registers::{Exception, Fault, Segment, SegmentAttributes, SegmentName, TableRegister};
use bitfield_struct::bitfield;

const DESCRIPTOR_BYTES: u16 = 8;
/// Where the access byte, with the type, is in a descriptor.
const ACCESS_BYTE: u64 = 5;
/// Type bit of a TSS: it belongs to a task that runs or is nested.
pub const BUSY: u8 = 2;
const ACCESSED: u8 = 1;
const LDT: u8 = 2;
/// Type bits of code and data segments.
const CODE: u8 = 8;
const CONFORMING: u8 = 4;
const READ_OR_WRITE: u8 = 2;
const OUTERMOST: u8 = 3;

/// A segment descriptor.
#[bitfield(u64)]
pub struct Descriptor {
    limit_low: u16,
    #[bits(24)]
    base_low: u32,
    access: u8,
    #[bits(4)]
    limit_high: u8,
    #[bits(4)]
    flags: u8,
    base_high: u8,
}

/// A TSS descriptor.
pub struct Tss {
    /// Its task runs or is nested.
    pub busy: bool,
}

/// Selectors 0 to 3.
pub const fn is_null(selector: u16) -> bool {
    selector < 4
}

/// The selector is of the LDT.
pub const fn is_local(selector: u16) -> bool {
    selector & 4 != 0
}

const fn privilege(selector: u16) -> u8 {
    (selector & 3) as u8
}

impl Descriptor {
    /// Reads the descriptor of a selector that is not null; `beyond` is the exception if the table
    /// has none there.
    pub fn read(cpu: &impl TaskCpu, selector: u16, beyond: Exception) -> Result<Self, Fault> {
        let linear = address(cpu, selector).ok_or(selector_fault(beyond, selector))?;
        let mut bytes = [0; 8];
        Linear::new(cpu).read(linear, &mut bytes)?;
        Ok(Self::from_bits(u64::from_le_bytes(bytes)))
    }

    /// Type.
    pub const fn kind(self) -> u8 {
        self.access() & 0xf
    }

    /// Base address.
    pub const fn base(self) -> u32 {
        self.base_low() | (self.base_high() as u32) << 24
    }

    /// Limit in bytes.
    pub const fn limit(self) -> u32 {
        let limit = self.limit_low() as u32 | (self.limit_high() as u32) << 16;
        if self.attributes().granularity() { limit << 12 | 0xfff } else { limit }
    }

    /// Where a gate leads: the place of a segment's low base.
    pub const fn gate_selector(self) -> u16 {
        self.base_low() as u16
    }

    /// Attributes in the packed form.
    pub const fn attributes(self) -> SegmentAttributes {
        SegmentAttributes::from_bits(self.access() as u16 | (self.flags() as u16) << 8)
    }

    /// The task's state in it, if it is a TSS.
    pub const fn tss_type(self) -> Option<Tss> {
        let is_tss = !self.attributes().code_or_data() && matches!(self.kind(), 1 | 3 | 9 | 11);
        if is_tss { Some(Tss { busy: self.kind() & BUSY != 0 }) } else { None }
    }

    fn segment(self, selector: u16) -> Segment {
        Segment {
            selector,
            attributes: self.attributes(),
            limit: self.limit(),
            base: self.base().into(),
        }
    }
}

/// The linear address of a selector's descriptor; `None` if it is beyond its table.
fn address(cpu: &impl TaskCpu, selector: u16) -> Option<u64> {
    let table = if is_local(selector) {
        let local = cpu.segment(SegmentName::Ldtr);
        if !local.attributes.present() {
            return None;
        }
        TableRegister { base: local.base, limit: local.limit.min(0xffff) as u16 }
    } else {
        cpu.gdtr()
    };
    let offset = selector & !7;
    let last = offset.checked_add(DESCRIPTOR_BYTES - 1)?;
    (last <= table.limit).then(|| table.base.wrapping_add(offset.into()))
}

/// Changes the access byte of a selector's descriptor in its table.
fn change_access(
    cpu: &mut impl TaskCpu,
    selector: u16,
    change: impl FnOnce(u8) -> u8,
) -> Result<(), Fault> {
    let Some(linear) = address(cpu, selector) else { return Ok(()) };
    let at = linear.wrapping_add(ACCESS_BYTE);
    let mut memory = Linear::new(cpu);
    let mut byte = [0];
    memory.read(at, &mut byte)?;
    let changed = change(byte[0]);
    if [changed] == byte { Ok(()) } else { memory.write(at, &[changed]) }
}

/// Sets or clears the busy bit of a TSS.
pub fn set_busy(cpu: &mut impl TaskCpu, selector: u16, busy: bool) -> Result<(), Fault> {
    change_access(cpu, selector, |access| if busy { access | BUSY } else { access & !BUSY })
}

/// Loads LDTR.
pub fn load_local_table(cpu: &mut impl TaskCpu, selector: u16) -> Result<(), Fault> {
    let none = Segment { selector, ..Segment::default() };
    cpu.set_segment(SegmentName::Ldtr, none);
    if is_null(selector) {
        return Ok(());
    }
    let wrong = selector_fault(Exception::InvalidTss, selector);
    if is_local(selector) {
        return Err(wrong);
    }
    let found = Descriptor::read(cpu, selector, Exception::InvalidTss)?;
    let attributes = found.attributes();
    if attributes.code_or_data() || found.kind() != LDT || !attributes.present() {
        return Err(wrong);
    }
    cpu.set_segment(SegmentName::Ldtr, found.segment(selector));
    Ok(())
}

/// A segment register that has its selector and is still to be loaded: unusable, but for CS, which
/// cannot be.
///
/// The privilege level is 3, so that a fault meanwhile finds the stack of its handler's ring in the
/// new TSS, for there is none in SS.
pub fn not_loaded(name: SegmentName, selector: u16) -> Segment {
    let outermost = SegmentAttributes::new().with_dpl(OUTERMOST);
    if name == SegmentName::Cs {
        return stand_in_code(selector, OUTERMOST);
    }
    Segment { selector, attributes: outermost, ..Segment::default() }
}

/// Code that is never run: CS must be usable and of SS's privilege level, or no VM entry succeeds
/// (SDM volume 3, 27.3.1.2).
fn stand_in_code(selector: u16, dpl: u8) -> Segment {
    let attributes = SegmentAttributes::new()
        .with_kind(CODE | READ_OR_WRITE | ACCESSED)
        .with_code_or_data(true)
        .with_dpl(dpl)
        .with_present(true)
        .with_default_big(true)
        .with_granularity(true);
    Segment { selector, attributes, limit: u32::MAX, base: 0 }
}

/// Loads SS and then CS, whose privilege levels belong together.
pub fn load_stack_and_code(cpu: &mut impl TaskCpu, cs: u16, ss: u16) -> Result<(), Fault> {
    let cpl = privilege(cs);
    let stack = find(cpu, ss)?;
    let wrong = selector_fault(Exception::InvalidTss, ss);
    let writable = stack.kind() & (CODE | READ_OR_WRITE) == READ_OR_WRITE;
    let fits = privilege(ss) == cpl && stack.attributes().dpl() == cpl;
    if !stack.attributes().code_or_data() || !writable || !fits {
        return Err(wrong);
    }
    if !stack.attributes().present() {
        return Err(selector_fault(Exception::StackFault, ss));
    }
    load(cpu, SegmentName::Ss, ss, stack)?;
    cpu.set_segment(SegmentName::Cs, stand_in_code(cs, cpl));
    let code = find(cpu, cs)?;
    let dpl = code.attributes().dpl();
    let dpl_fits = if code.kind() & CONFORMING != 0 { dpl <= cpl } else { dpl == cpl };
    if !code.attributes().code_or_data() || code.kind() & CODE == 0 || !dpl_fits {
        return Err(selector_fault(Exception::InvalidTss, cs));
    }
    if !code.attributes().present() {
        return Err(selector_fault(Exception::SegmentNotPresent, cs));
    }
    load(cpu, SegmentName::Cs, cs, code)
}

/// Loads DS, ES, FS or GS.
pub fn load_data(cpu: &mut impl TaskCpu, name: SegmentName, selector: u16) -> Result<(), Fault> {
    if is_null(selector) {
        cpu.set_segment(name, Segment { selector, ..Segment::default() });
        return Ok(());
    }
    let found = find(cpu, selector)?;
    let is_code = found.kind() & CODE != 0;
    let readable = !is_code || found.kind() & READ_OR_WRITE != 0;
    let anybody = is_code && found.kind() & CONFORMING != 0;
    let cpl = privilege(cpu.segment(SegmentName::Cs).selector);
    let dpl = found.attributes().dpl();
    let allowed = anybody || (dpl >= cpl && dpl >= privilege(selector));
    if !found.attributes().code_or_data() || !readable || !allowed {
        return Err(selector_fault(Exception::InvalidTss, selector));
    }
    if !found.attributes().present() {
        return Err(selector_fault(Exception::SegmentNotPresent, selector));
    }
    load(cpu, name, selector, found)
}

/// The descriptor of a code or stack selector, which must not be null.
fn find(cpu: &impl TaskCpu, selector: u16) -> Result<Descriptor, Fault> {
    if is_null(selector) {
        return Err(selector_fault(Exception::InvalidTss, selector));
    }
    Descriptor::read(cpu, selector, Exception::InvalidTss)
}

fn load(
    cpu: &mut impl TaskCpu,
    name: SegmentName,
    selector: u16,
    descriptor: Descriptor,
) -> Result<(), Fault> {
    change_access(cpu, selector, |access| access | ACCESSED)?;
    let segment = descriptor.segment(selector);
    let attributes = segment.attributes.with_kind(descriptor.kind() | ACCESSED);
    cpu.set_segment(name, Segment { attributes, ..segment });
    Ok(())
}
