//! Hardware task switches (Intel SDM volume 3, chapter 9; called 8 in newer editions), for
//! processors that leave them to the hypervisor, and for steps by RFLAGS.TF, of which a task switch
//! makes a part of the old task.

mod descriptor;
#[cfg(any(test, feature = "test-cpu"))]
pub(crate) mod fake;
mod memory;
mod state;
#[cfg(test)]
mod tests;
mod transfer;

use crate::event::Event;
use crate::paging::{AccessKind, PagingState};
use crate::registers::{Cr0, Exception, Fault, Gprs, Rflags, Segment, SegmentName, TableRegister};
use descriptor::{Descriptor, is_null};
use devices::memory::GuestMemory;
use memory::Linear;
use state::{Format, TaskState};

pub use transfer::{Transfer, of_event, of_transfer};

/// The cause of a task switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// CALL of a TSS or a task gate.
    Call,
    /// IRET with RFLAGS.NT set.
    Iret,
    /// JMP to a TSS or a task gate.
    Jump,
    /// An event whose gate in the IDT is a task gate.
    Gate,
}

/// A task switch that is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSwitch {
    /// Selector of the new task's TSS.
    pub selector: u16,
    /// The cause.
    pub source: Source,
    /// Where the old task goes on when it is switched to again.
    pub resume_rip: u64,
    /// The event that a [`Source::Gate`] delivers, unless it is a software interrupt (INT n, INT3,
    /// INTO).
    pub event: Option<Event>,
}

/// The CPU that switches tasks. It is in protected mode, and not in long mode.
pub trait TaskCpu {
    /// Guest-physical memory.
    type Memory: GuestMemory + ?Sized;
    /// The memory that holds tables, TSSs and stacks.
    fn memory(&self) -> &Self::Memory;
    /// How linear addresses are translated now.
    fn paging(&self) -> PagingState;
    /// The general registers.
    fn gprs_mut(&mut self) -> &mut Gprs;
    /// Flags.
    fn rflags(&self) -> Rflags;
    /// Sets the flags.
    fn set_rflags(&mut self, rflags: Rflags);
    /// Sets the instruction pointer; nothing of the old instruction stays in effect.
    fn set_rip(&mut self, rip: u64);
    /// A segment register.
    fn segment(&self, name: SegmentName) -> Segment;
    /// Loads a segment register with its hidden part.
    fn set_segment(&mut self, name: SegmentName, segment: Segment);
    /// GDTR.
    fn gdtr(&self) -> TableRegister;
    /// Sets CR0.
    fn set_cr0(&mut self, cr0: Cr0);
    /// Loads CR3 and, with PAE paging, the page-directory pointers.
    ///
    /// # Errors
    /// #GP(0) for page-directory pointers with reserved bits.
    fn set_cr3(&mut self, cr3: u64) -> Result<(), Fault>;
    /// Switches off the breakpoints that are the task's own (DR7.L0 to L3, LE).
    fn clear_local_breakpoints(&mut self);
    /// Notes in DR6 that a task switch is the cause of a #DB.
    fn note_task_trap(&mut self);
}

/// Error code of a fault while an event is delivered that the program did not ask for (SDM volume
/// 3, 6.13).
const EXTERNAL: u32 = 1;
const DEBUG_TRAP: Fault = Fault { exception: Exception::Debug, error_code: None, address: None };
const VIRTUAL_8086_RIGHTS: u16 = 0xf3;

/// The registers that hold a task's segments, in the order of a TSS.
const SEGMENTS: [SegmentName; 6] = [
    SegmentName::Es,
    SegmentName::Cs,
    SegmentName::Ss,
    SegmentName::Ds,
    SegmentName::Fs,
    SegmentName::Gs,
];

/// A fault whose error code names a selector.
const fn selector_fault(exception: Exception, selector: u16) -> Fault {
    Fault { exception, error_code: Some((selector & !3) as u32), address: None }
}

/// Switches to another task.
///
/// # Errors
/// A fault: in the old task if it is found before the switch, in the new one otherwise, as on a
/// processor.
pub fn switch(cpu: &mut impl TaskCpu, task: TaskSwitch) -> Result<(), Fault> {
    perform(cpu, task).map_err(|fault| match task.event {
        // The error code of a page fault has its own bits.
        Some(_) if fault.exception != Exception::PageFault => {
            Fault { error_code: fault.error_code.map(|error_code| error_code | EXTERNAL), ..fault }
        }
        _ => fault,
    })
}

fn perform(cpu: &mut impl TaskCpu, task: TaskSwitch) -> Result<(), Fault> {
    let new_tss = find_tss(cpu, task)?;
    let old_tr = cpu.segment(SegmentName::Tr);
    let old_format = Format::of_type(old_tr.attributes.kind());
    let format = Format::of_type(new_tss.kind());
    let mut memory = Linear::new(cpu);
    // All that can fault in the old task does so before anything changes.
    memory.probe(old_tr.base, old_format.length_bytes(), AccessKind::Write)?;
    memory.probe(new_tss.base().into(), format.length_bytes(), AccessKind::Write)?;
    let mut bytes = [0; state::MAX_BYTES];
    let bytes = bytes.get_mut(..format.length_bytes()).unwrap_or_default();
    memory.read(new_tss.base().into(), bytes)?;
    let new = TaskState::decode(format, bytes);

    let nests = matches!(task.source, Source::Call | Source::Gate);
    save_old(cpu, task, old_tr.base, old_format)?;
    mark_descriptors(cpu, task, old_tr.selector)?;
    if nests {
        Linear::new(cpu).write(new_tss.base().into(), &old_tr.selector.to_le_bytes())?;
    }
    let attributes = new_tss.attributes().with_kind(new_tss.kind() | descriptor::BUSY);
    let tr = Segment {
        selector: task.selector,
        attributes,
        limit: new_tss.limit(),
        base: new_tss.base().into(),
    };
    cpu.set_segment(SegmentName::Tr, tr);
    let paging = cpu.paging();
    cpu.set_cr0(paging.cr0.with_task_switched(true));
    cpu.clear_local_breakpoints();
    load_registers(cpu, &new, nests);
    if let (Some(cr3), true) = (new.cr3, paging.cr0.paging()) {
        cpu.set_cr3(cr3.into())?;
    }
    load_segments(cpu, &new)?;
    if let Some(Event::Fault(Fault { error_code: Some(error_code), .. })) = task.event {
        push_error_code(cpu, format, error_code)?;
    }
    if new.trap {
        cpu.note_task_trap();
        return Err(DEBUG_TRAP);
    }
    Ok(())
}

/// The new task's descriptor, checked (table 9-1).
fn find_tss(cpu: &impl TaskCpu, task: TaskSwitch) -> Result<Descriptor, Fault> {
    let returns = task.source == Source::Iret;
    let wrong = if returns { Exception::InvalidTss } else { Exception::GeneralProtection };
    let refuse = |exception| selector_fault(exception, task.selector);
    if is_null(task.selector) || descriptor::is_local(task.selector) {
        return Err(refuse(wrong));
    }
    let found = Descriptor::read(cpu, task.selector, wrong)?;
    let is_busy = match found.tss_type() {
        Some(descriptor::Tss { busy }) => busy,
        None => return Err(refuse(wrong)),
    };
    if is_busy != returns {
        return Err(refuse(wrong));
    }
    if !found.attributes().present() {
        return Err(refuse(Exception::SegmentNotPresent));
    }
    if (found.limit() as usize) < Format::of_type(found.kind()).length_bytes() - 1 {
        return Err(refuse(Exception::InvalidTss));
    }
    Ok(found)
}

/// Writes the old task's registers into its TSS.
fn save_old(
    cpu: &mut impl TaskCpu,
    task: TaskSwitch,
    base: u64,
    format: Format,
) -> Result<(), Fault> {
    let rflags = cpu.rflags();
    // A task that returns does not stay nested.
    let rflags = rflags.with_nested_task(rflags.nested_task() && task.source != Source::Iret);
    let old = TaskState {
        eip: task.resume_rip as u32,
        eflags: rflags.into_bits() as u32,
        gprs: core::array::from_fn(|index| cpu.gprs_mut().0[index] as u32),
        segments: SEGMENTS.map(|name| cpu.segment(name).selector),
        ..TaskState::default()
    };
    let mut bytes = [0; state::MAX_BYTES];
    let range = old.encode(format, &mut bytes);
    let (start, saved) = (range.start as u64, bytes.get(range).unwrap_or_default());
    Linear::new(cpu).write(base.wrapping_add(start), saved)
}

/// The old task is no longer busy unless the new one is nested in it; the new one is.
fn mark_descriptors(
    cpu: &mut impl TaskCpu,
    task: TaskSwitch,
    old_selector: u16,
) -> Result<(), Fault> {
    if matches!(task.source, Source::Jump | Source::Iret) {
        descriptor::set_busy(cpu, old_selector, false)?;
    }
    if task.source != Source::Iret {
        descriptor::set_busy(cpu, task.selector, true)?;
    }
    Ok(())
}

/// Loads what cannot fault of the new task's registers. Outside virtual-8086 mode its segments have
/// nothing but their selectors then, and what stands in for the rest is legal together, whatever
/// mode the old task was in.
fn load_registers(cpu: &mut impl TaskCpu, new: &TaskState, nested: bool) {
    let rflags = Rflags::from_image(new.eflags);
    let rflags = rflags.with_nested_task(rflags.nested_task() || nested);
    for (register, value) in cpu.gprs_mut().0.iter_mut().zip(new.gprs) {
        *register = value.into();
    }
    for (name, selector) in SEGMENTS.into_iter().zip(new.segments) {
        let segment = if rflags.virtual_8086() {
            let base = u64::from(selector) << 4;
            Segment { selector, base, limit: 0xffff, attributes: VIRTUAL_8086_RIGHTS.into() }
        } else {
            descriptor::not_loaded(name, selector)
        };
        cpu.set_segment(name, segment);
    }
    cpu.set_rflags(rflags);
    cpu.set_rip(new.eip.into());
}

/// Loads the new task's segments. One that cannot be loaded faults in the new task.
fn load_segments(cpu: &mut impl TaskCpu, new: &TaskState) -> Result<(), Fault> {
    descriptor::load_local_table(cpu, new.local_table)?;
    if cpu.rflags().virtual_8086() {
        return Ok(());
    }
    let [es, cs, ss, ds, fs, gs] = new.segments;
    descriptor::load_stack_and_code(cpu, cs, ss)?;
    let data = [
        (SegmentName::Es, es),
        (SegmentName::Ds, ds),
        (SegmentName::Fs, fs),
        (SegmentName::Gs, gs),
    ];
    for (name, selector) in data {
        descriptor::load_data(cpu, name, selector)?;
    }
    if new.eip > cpu.segment(SegmentName::Cs).limit {
        return Err(Fault::PROTECTION);
    }
    Ok(())
}

/// Pushes an exception's error code onto the new task's stack, in the size of its TSS.
fn push_error_code(cpu: &mut impl TaskCpu, format: Format, error_code: u32) -> Result<(), Fault> {
    use crate::registers::Gpr;
    let ss = cpu.segment(SegmentName::Ss);
    let size_bytes = format.word_bytes();
    let mask = if ss.attributes.default_big() { u32::MAX } else { 0xffff };
    let old = cpu.gprs_mut().get32(Gpr::Rsp);
    let offset = old.wrapping_sub(size_bytes as u32) & mask;
    if offset.saturating_add(size_bytes as u32 - 1) > ss.limit {
        return Err(Fault { exception: Exception::StackFault, error_code: Some(0), address: None });
    }
    let linear = ss.base.wrapping_add(offset.into()) & 0xffff_ffff;
    let bytes = error_code.to_le_bytes();
    Linear::new(cpu).write(linear, bytes.get(..size_bytes).unwrap_or_default())?;
    cpu.gprs_mut().set32(Gpr::Rsp, old & !mask | offset);
    Ok(())
}
