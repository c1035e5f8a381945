//! The virtual CPU as hardware task switches see it.

use super::Vcpu;
use super::events::saves_resume_flag;
use crate::backend::{Backend, SystemRegister};
use crate::vm::Vm;
use devices::memory::GuestMemory;
use emulator::event::Event;
use emulator::instruction::far_transfer;
use emulator::paging::{POINTER_RESERVED, PagingState};
use emulator::registers::{
    Cr0, Dr6, Dr7, Fault, Gprs, Rflags, Segment, SegmentName, TableRegister,
};
use emulator::task_switch::{self, Source, TaskCpu, TaskSwitch};

/// L0 to L3.
const LOCAL_ENABLES: u8 = 0x55;
const POINTER_PRESENT: u64 = 1;
/// Where CR3 has the address of the page-directory pointers.
const POINTERS_MASK: u64 = 0xffff_ffe0;

impl<B: Backend> TaskCpu for Vcpu<B> {
    type Memory = Vm;

    fn memory(&self) -> &Vm {
        &self.vm
    }

    fn paging(&self) -> PagingState {
        self.paging_state()
    }

    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.gprs
    }

    fn rflags(&self) -> Rflags {
        self.backend.rflags()
    }

    fn set_rflags(&mut self, rflags: Rflags) {
        self.backend.set_rflags(rflags);
    }

    fn set_rip(&mut self, rip: u64) {
        self.backend.complete_instruction(rip);
    }

    fn segment(&self, name: SegmentName) -> Segment {
        self.backend.segment(name)
    }

    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        self.backend.set_segment(name, segment);
    }

    fn gdtr(&self) -> TableRegister {
        self.backend.gdtr()
    }

    fn set_cr0(&mut self, cr0: Cr0) {
        self.backend.set_cr0(cr0);
    }

    fn set_cr3(&mut self, cr3: u64) -> Result<(), Fault> {
        let physical = (1 << self.vm.cpuid.physical_address_bits()) - 1;
        if let Some(pointers) = self.page_directory_pointers(cr3) {
            let reserved = |pointer| pointer & (POINTER_RESERVED | !physical) != 0;
            if pointers
                .into_iter()
                .any(|pointer| pointer & POINTER_PRESENT != 0 && reserved(pointer))
            {
                return Err(Fault::PROTECTION);
            }
            self.backend.set_page_directory_pointers(pointers);
        }
        self.backend.set_system_register(SystemRegister::Cr3, cr3);
        Ok(())
    }

    fn clear_local_breakpoints(&mut self) {
        let dr7 = Dr7::from(self.backend.system_register(SystemRegister::Dr7));
        let dr7 = dr7.with_enables(dr7.enables() & !LOCAL_ENABLES).with_local_exact(false);
        self.backend.set_system_register(SystemRegister::Dr7, dr7.into());
    }

    fn note_task_trap(&mut self) {
        let dr6 = Dr6::from(self.backend.system_register(SystemRegister::Dr6));
        self.backend.set_system_register(SystemRegister::Dr6, dr6.with_task_switch(true).into());
    }
}

impl<B: Backend> Vcpu<B> {
    /// Carries out what comes next, the pending event or the instruction at RIP, if it switches
    /// tasks and a step by RFLAGS.TF is due. The old task would be saved with that flag, and
    /// the new one has its own; and what a processor has changed before it is refused an access
    /// is not always told.
    #[cold]
    pub(super) fn step_over_task_switch(&mut self) -> bool {
        let mut code = [0; 15];
        let count = if self.pending.is_none() { self.fetch(&mut code).unwrap_or(0) } else { 0 };
        self.step_over_task_switch_by(code.get(..count).unwrap_or_default())
    }

    /// The same where the instruction is known; none is if an event is pending.
    #[cold]
    pub(super) fn step_over_task_switch_by(&mut self, code: &[u8]) -> bool {
        let task = if B::STEPS_BY_TRAP { self.coming_task_switch(code) } else { None };
        let Some(task) = task else { return false };
        self.pending = None;
        self.carry_out(task);
        true
    }

    /// Carries out a task switch that an instruction at RIP causes, or an event that was to be
    /// delivered, INT n, INT3 and INTO among them.
    #[cold]
    pub(super) fn task_switch_ahead(&mut self, selector: u16, source: Source) {
        let event = self
            .pending
            .take()
            .filter(|&event| source == Source::Gate && self.leads_to_task(event, selector));
        let is_interrupted = event.is_some();
        let resume = if is_interrupted { Ok(self.backend.rip()) } else { self.next_rip() };
        match resume {
            Ok(resume_rip) => self.carry_out(TaskSwitch { selector, source, resume_rip, event }),
            Err(fault) => self.raise(fault),
        }
    }

    /// Whether the gate of `event` leads to the task of `selector`. Bochs 3.0 reports the event
    /// before if INT n is delivered.
    fn leads_to_task(&self, event: Event, selector: u16) -> bool {
        let (idtr, rip) = (self.backend.idtr(), self.backend.rip());
        task_switch::of_event(self, idtr, event, rip).is_some_and(|task| task.selector == selector)
    }

    fn carry_out(&mut self, task: TaskSwitch) {
        if let Some(Event::Fault(fault)) = task.event
            && saves_resume_flag(fault.exception)
        {
            let rflags = self.backend.rflags();
            self.backend.set_rflags(rflags.with_resume(true));
        }
        if task.source == Source::Iret {
            self.backend.unblock_nmis();
        }
        self.task_switch(task);
    }

    fn coming_task_switch(&mut self, code: &[u8]) -> Option<TaskSwitch> {
        let rflags = self.backend.rflags();
        let has_tasks = self.backend.cr0().protection()
            && !self.backend.efer().long_mode_active()
            && !rflags.virtual_8086();
        if !has_tasks {
            return None;
        }
        if let Some(event) = self.pending {
            return task_switch::of_event(self, self.backend.idtr(), event, self.backend.rip());
        }
        let transfer = far_transfer(self, code)?;
        if transfer.source == Source::Iret && !rflags.nested_task() {
            return None;
        }
        task_switch::of_transfer(self, self.backend.cpl(), transfer)
    }

    /// The page-directory pointers at `cr3`, if PAE paging is in force.
    fn page_directory_pointers(&self, cr3: u64) -> Option<[u64; 4]> {
        let paging = self.paging_state();
        if !paging.cr0.paging() || !paging.cr4.pae() || paging.efer.long_mode_active() {
            return None;
        }
        let base = cr3 & POINTERS_MASK;
        Some([0, 8, 16, 24].map(|offset| self.vm.read_u64(base + offset).unwrap_or(u64::MAX)))
    }

    /// CR0, CR3 or CR4 is another: loads the page-directory pointers, whatever they are, as an
    /// entry checks them.
    pub(super) fn reload_page_directory_pointers(&mut self) {
        let cr3 = self.backend.system_register(SystemRegister::Cr3);
        if let Some(pointers) = self.page_directory_pointers(cr3) {
            self.backend.set_page_directory_pointers(pointers);
        }
    }
}
