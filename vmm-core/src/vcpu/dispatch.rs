//! The answer to each exit.

use super::counters::ExitKind;
use super::{Activity, Vcpu};
use crate::backend::exit::{Direction, Exit, PortAccess};
use crate::backend::{Backend, SystemRegister};
use crate::vm::Stop;
use crate::vm::cpuid::CpuidState;
use crate::vm::memory::{FaultCause, PAGE_BYTES, SpaceError};
use emulator::MemoryAccess;
use emulator::breakpoints;
use emulator::instruction;
use emulator::registers::{Dr6, Dr7, Exception, Fault, Gpr};
use emulator::task_switch::{self, TaskSwitch};
use raw_cpuid::CpuIdResult;

const XCR0_X87: u64 = 1;
const XCR0_SSE: u64 = 2;
const XCR0_AVX: u64 = 4;
const XCR0_AVX512: u64 = 0xe0;

impl<B: Backend> Vcpu<B> {
    /// Answers an exit; returns what to count it as.
    #[inline(always)]
    pub(super) fn dispatch(&mut self, exit: Exit) -> ExitKind {
        match exit {
            Exit::Port(access) => self.port(access),
            Exit::Memory(access) => self.memory(access),
            Exit::ApicWrite { offset } => {
                self.apic.written(offset);
                self.backend.note_vectors();
                ExitKind::ApicWrite
            }
            Exit::EndOfInterrupt { vector } => {
                self.apic.ended(vector);
                self.note_taken_vector(vector);
                self.watch_handler();
                self.await_ends_of_ticks();
                ExitKind::EndOfInterrupt
            }
            Exit::Cpuid => self.on_cpuid(),
            Exit::ReadMsr => self.on_read_msr(),
            Exit::WriteMsr => self.on_write_msr(),
            Exit::Halt => {
                self.instruction(|vcpu| {
                    vcpu.activity = Activity::Halted;
                    vcpu.halt_at_tick_gate();
                    Ok(())
                });
                self.tell_platform_of_halt();
                ExitKind::Halt
            }
            Exit::Hypercall => self.on_hypercall(),
            Exit::Xsetbv => {
                self.instruction(Self::xsetbv);
                ExitKind::Xsetbv
            }
            // The hypervisor's caches are the guest's memory too: nothing is thrown away.
            Exit::CacheInvalidate => {
                self.instruction(|_| Ok(()));
                ExitKind::Cache
            }
            Exit::Undefined => {
                self.raise(Fault::UNDEFINED);
                ExitKind::Undefined
            }
            Exit::Forbidden => {
                self.raise(Fault::PROTECTION);
                ExitKind::Undefined
            }
            Exit::ControlRegister => ExitKind::ControlRegister,
            Exit::WriteCr0 => self.on_write_cr0(),
            Exit::WriteCr4 => self.on_control_register(Self::write_cr4),
            Exit::ReadCr4 => self.on_control_register(Self::read_cr4),
            Exit::WriteCr8 => self.on_control_register(Self::write_cr8),
            Exit::AccessedCr8 => {
                self.instruction(|_| Ok(()));
                ExitKind::ControlRegister
            }
            Exit::TaskSwitch(task) => {
                self.task_switch(task);
                ExitKind::TaskSwitch
            }
            Exit::TaskSwitchAhead { selector, source } => {
                self.task_switch_ahead(selector, source);
                ExitKind::TaskSwitch
            }
            Exit::InterruptWindow => {
                self.pass_tick_gate();
                ExitKind::InterruptWindow
            }
            Exit::NmiWindow => ExitKind::NmiWindow,
            Exit::ExternalInterrupt => ExitKind::HostInterrupt,
            Exit::Pause => ExitKind::Pause,
            Exit::HostNmi => ExitKind::HostNmi,
            Exit::Exception(Exception::MachineCheck) => self.machine_check(),
            Exit::Exception(Exception::X87) if !self.backend.cr0().numeric_error() => {
                self.coprocessor_error();
                ExitKind::Exception
            }
            Exit::Exception(exception) => {
                self.reflect(exception);
                ExitKind::Exception
            }
            Exit::Fault { exception, error_code } => {
                self.raise(Fault { exception, error_code, address: None });
                ExitKind::Exception
            }
            Exit::PushFlags => {
                self.emulate(None);
                ExitKind::PushFlags
            }
            Exit::Stepped => ExitKind::Step,
            Exit::Descriptor(access) => {
                self.catch(access);
                ExitKind::Descriptor
            }
            Exit::TripleFault => {
                self.triple_fault();
                ExitKind::Fatal
            }
            Exit::WriteLogFull => {
                self.note_writes();
                ExitKind::WriteLog
            }
            Exit::TableMisconfigured { gpa } => self.table_misconfigured(gpa),
            Exit::EntryFailure => self.crash("the CPU refused the guest's state", ExitKind::Fatal),
            Exit::Unknown(_) => self.crash("an exit that Bulkhead does not know", ExitKind::Fatal),
        }
    }

    fn port(&mut self, access: PortAccess) -> ExitKind {
        if access.string {
            self.emulate(None);
            return ExitKind::PortString;
        }
        let next_rip = match self.next_rip() {
            Ok(next_rip) => next_rip,
            Err(fault) => {
                self.raise(fault);
                return ExitKind::PortIn;
            }
        };
        let PortAccess { port, size_bytes, .. } = access;
        let rax = self.gprs.get(Gpr::Rax);
        self.complete_instruction(next_rip);
        let kind = if access.direction == Direction::Out {
            self.vm.ports.write(port, size_bytes, rax as u32);
            ExitKind::PortOut
        } else {
            let value = u64::from(self.vm.ports.read(port, size_bytes));
            let rax = match size_bytes {
                1 => rax & !0xff | value & 0xff,
                2 => rax & !0xffff | value & 0xffff,
                _ => value,
            };
            self.gprs.set(Gpr::Rax, rax);
            ExitKind::PortIn
        };
        self.trap_port(port, size_bytes);
        kind
    }

    /// #DB after an access to a port, if it has met a breakpoint.
    #[inline]
    pub(super) fn trap_port(&mut self, port: u16, size_bytes: u8) {
        let control = self.backend.breakpoint_control();
        if control & breakpoints::ENABLES != 0 {
            self.trap_watched_port(control, port, size_bytes);
        }
    }

    #[cold]
    #[inline(never)]
    fn trap_watched_port(&mut self, control: u64, port: u16, size_bytes: u8) {
        let causes = self.read_breakpoints(control).on_port(port, size_bytes);
        self.trap(causes);
    }

    /// Address of the instruction after the one at RIP.
    #[inline]
    pub(super) fn next_rip(&self) -> Result<u64, Fault> {
        match self.backend.next_rip() {
            Some(next_rip) => Ok(next_rip),
            None => self.decode_next_rip(),
        }
    }

    fn decode_next_rip(&self) -> Result<u64, Fault> {
        // Nearly all instructions that exit are told by four bytes.
        let (rip, linear) = (self.backend.rip(), self.linear_rip());
        if linear % PAGE_BYTES <= PAGE_BYTES - 4 {
            let mut start = [0; 4];
            let gpa = self.code_gpa(linear)?;
            let is_read = self.vm.space.read_as_vcpu(gpa, &mut start).is_ok();
            if let Some(length) = instruction::simple_length(&start).filter(|_| is_read) {
                return Ok(rip.wrapping_add(length as u64));
            }
        }
        let mut bytes = [0; 15];
        let count = self.fetch(&mut bytes)?;
        let length = instruction::instruction_length(&bytes[..count], self.backend.code_bits())
            .ok_or(Fault::PROTECTION)?;
        Ok(rip.wrapping_add(length as u64))
    }

    pub(super) fn task_switch(&mut self, task: TaskSwitch) {
        if let Err(fault) = task_switch::switch(self, task) {
            // It came up while that event was delivered: together they may be a double fault.
            self.pending = task.event;
            self.raise(fault);
            // Tasks with the T flag whose #DB switches tasks again may keep the guest from ever
            // running, and with it the host's interrupts from ending its run: the host
            // gets its turn now.
            self.set_host_timer_by(self.platform.tsc());
        }
    }

    /// Gives an intercepted exception back to the guest.
    fn reflect(&mut self, exception: Exception) {
        if exception == Exception::Debug {
            // Its delivery, which did not come about, opens the debug registers to the handler.
            let dr7 = Dr7::from(self.backend.system_register(SystemRegister::Dr7));
            let dr6 = Dr6::from(self.backend.system_register(SystemRegister::Dr6));
            if dr7.general_detect() && dr6.general_detect() {
                // An access to a debug register: a fault, and no breakpoint on an instruction.
                let rflags = self.backend.rflags();
                self.backend.set_rflags(rflags.with_resume(true));
            }
            self.backend
                .set_system_register(SystemRegister::Dr7, dr7.with_general_detect(false).into());
        }
        let error_code = (exception == Exception::AlignmentCheck).then_some(0);
        self.raise(Fault { exception, error_code, address: None });
    }

    fn memory(&mut self, access: MemoryAccess) -> ExitKind {
        let is_operand = !access.page_walk && !access.execute && self.pending.is_none();
        if is_operand && self.is_apic(access.gpa).is_some() {
            self.emulate(Some(access));
            return ExitKind::Mmio;
        }
        match self.vm.space.resolve_fault(access.gpa, access.write) {
            Ok(FaultCause::Memory) => ExitKind::MemoryMap,
            Ok(cause) if is_operand => {
                self.device_page = (cause == FaultCause::Device).then_some(access.gpa / PAGE_BYTES);
                self.emulate(Some(access));
                self.device_page = None;
                ExitKind::Mmio
            }
            Ok(_) => self.bounce(access),
            Err(short) => self.end_for_memory(short),
        }
    }

    /// Ends this guest, which the machine has too little memory for.
    #[cold]
    pub(super) fn end_for_memory(&self, short: SpaceError) -> ExitKind {
        self.vm.stop_if_short::<()>(Err(short));
        ExitKind::Fatal
    }

    fn on_cpuid(&mut self) -> ExitKind {
        self.instruction(|vcpu| {
            let result = vcpu.cpuid(vcpu.gprs.get32(Gpr::Rax), vcpu.gprs.get32(Gpr::Rcx));
            vcpu.gprs.set32(Gpr::Rax, result.eax);
            vcpu.gprs.set32(Gpr::Rbx, result.ebx);
            vcpu.gprs.set32(Gpr::Rcx, result.ecx);
            vcpu.gprs.set32(Gpr::Rdx, result.edx);
            Ok(())
        });
        ExitKind::Cpuid
    }

    pub(super) fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuIdResult {
        self.vm.cpuid.get(leaf, subleaf, || {
            let cr4 = self.backend.cr4();
            CpuidState {
                osxsave: cr4.osxsave(),
                pke: cr4.pke(),
                apic_enabled: self.apic.is_x2apic() || self.apic.mmio_base().is_some(),
                apic_id: self.index as u32,
                xcr0: self.backend.xcr0(),
            }
        })
    }

    fn on_read_msr(&mut self) -> ExitKind {
        self.instruction(|vcpu| {
            let value = vcpu.read_msr(vcpu.gprs.get32(Gpr::Rcx))?;
            vcpu.gprs.set_edx_eax(value);
            Ok(())
        });
        ExitKind::ReadMsr
    }

    fn on_write_msr(&mut self) -> ExitKind {
        self.instruction(|vcpu| vcpu.write_msr(vcpu.gprs.get32(Gpr::Rcx), vcpu.gprs.edx_eax()));
        ExitKind::WriteMsr
    }

    fn xsetbv(&mut self) -> Result<(), Fault> {
        if self.backend.cpl() != 0 {
            return Err(Fault::PROTECTION);
        }
        let value = self.gprs.edx_eax();
        let avx_without_sse = value & XCR0_AVX != 0 && value & XCR0_SSE == 0;
        let avx512 = value & XCR0_AVX512;
        let avx512_in_part = avx512 != 0 && (avx512 != XCR0_AVX512 || value & XCR0_AVX == 0);
        let absent = value & !self.vm.cpuid.xcr0_allowed() != 0;
        let illegal = value & XCR0_X87 == 0 || avx_without_sse || avx512_in_part || absent;
        if illegal || self.gprs.get32(Gpr::Rcx) != 0 {
            return Err(Fault::PROTECTION);
        }
        self.backend.set_xcr0(value);
        Ok(())
    }

    /// Carries out the instruction at RIP by `effect` and moves on behind it, or raises the fault.
    pub(super) fn instruction(&mut self, effect: impl FnOnce(&mut Self) -> Result<(), Fault>) {
        let done = self.next_rip().and_then(|next_rip| effect(self).map(|()| next_rip));
        match done {
            Ok(next_rip) => self.complete_instruction(next_rip),
            Err(fault) => self.raise(fault),
        }
    }

    /// Moves on behind an instruction that was carried out here; a single step traps after it.
    pub(super) fn complete_instruction(&mut self, next_rip: u64) {
        self.backend.complete_instruction(next_rip);
        if self.backend.rflags().trap() {
            self.trap_single_step();
        }
    }

    #[cold]
    fn table_misconfigured(&mut self, gpa: u64) -> ExitKind {
        log::error!("{}: no sound second-level tables for {gpa:#x}", self.vm.name);
        self.crash("the CPU refused the second-level page tables", ExitKind::Fatal)
    }

    /// Ends this guest, with all that can be said about it.
    #[cold]
    pub(super) fn crash(&mut self, why: &str, kind: ExitKind) -> ExitKind {
        log::error!(
            "{}: vCPU {}: {why}: the guest is stopped\n{}",
            self.vm.name,
            self.index,
            self.dump()
        );
        self.vm.stop.request(Stop::Crash);
        kind
    }
}
