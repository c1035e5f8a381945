//! Far transfers and events that switch tasks, told before the processor carries them out.

use super::descriptor::{Descriptor, is_local, is_null};
use super::{Linear, Source, TaskCpu, TaskSwitch};
use crate::event::Event;
use crate::registers::{Exception, SegmentName, TableRegister};

const TASK_GATE: u8 = 5;
const NMI_VECTOR: u8 = 2;
const GATE_BYTES: u64 = 8;

/// A far transfer of control, which may be one within the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// CALL, JMP, or IRET with RFLAGS.NT set.
    pub source: Source,
    /// The selector that it names; IRET names none.
    pub selector: u16,
    /// Behind it.
    pub next_rip: u64,
}

/// The task switch that a transfer is, unless it is none, or is refused before the new task's
/// descriptor is looked at (SDM volume 3, 9.3, and volume 2, CALL, "Task gate", "Task state
/// segment").
pub fn of_transfer(cpu: &impl TaskCpu, cpl: u8, transfer: Transfer) -> Option<TaskSwitch> {
    let Transfer { source, selector, next_rip } = transfer;
    let selector = match source {
        Source::Iret => link(cpu)?,
        Source::Call | Source::Jump => target(cpu, cpl, selector)?,
        Source::Gate => return None,
    };
    Some(TaskSwitch { selector, source, resume_rip: next_rip, event: None })
}

/// The task switch that delivers an event, if its gate is a task gate that is present (SDM volume
/// 3, 7.11 and 7.14.1).
pub fn of_event(
    cpu: &impl TaskCpu,
    idtr: TableRegister,
    event: Event,
    rip: u64,
) -> Option<TaskSwitch> {
    let vector = match event {
        Event::Interrupt(vector) => vector,
        Event::Nmi => NMI_VECTOR,
        Event::Fault(fault) => fault.exception as u8,
    };
    let offset = u64::from(vector) * GATE_BYTES;
    if offset + GATE_BYTES - 1 > idtr.limit.into() {
        return None;
    }
    let mut bytes = [0; GATE_BYTES as usize];
    Linear::new(cpu).read(idtr.base.wrapping_add(offset), &mut bytes).ok()?;
    let gate = Descriptor::from_bits(u64::from_le_bytes(bytes));
    let attributes = gate.attributes();
    let leads_to_task =
        gate.kind() == TASK_GATE && !attributes.code_or_data() && attributes.present();
    let selector = gate.gate_selector();
    leads_to_task.then_some(TaskSwitch {
        selector,
        source: Source::Gate,
        resume_rip: rip,
        event: Some(event),
    })
}

/// The task that is interrupted by this one.
fn link(cpu: &impl TaskCpu) -> Option<u16> {
    let mut link = [0; 2];
    let base = cpu.segment(SegmentName::Tr).base;
    Linear::new(cpu).read(base, &mut link).ok()?;
    Some(u16::from_le_bytes(link))
}

/// The TSS that a selector leads to.
fn target(cpu: &impl TaskCpu, cpl: u8, selector: u16) -> Option<u16> {
    if is_null(selector) {
        return None;
    }
    let found = Descriptor::read(cpu, selector, Exception::GeneralProtection).ok()?;
    let attributes = found.attributes();
    let least = cpl.max((selector & 3) as u8);
    if attributes.code_or_data() || attributes.dpl() < least {
        return None;
    }
    if found.kind() == TASK_GATE {
        return attributes.present().then_some(found.gate_selector());
    }
    found.tss_type().filter(|_| !is_local(selector)).map(|_| selector)
}
