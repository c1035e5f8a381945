//! Hypercalls, and what a virtual CPU does for the PV-on-HVM platform of its guest.

use super::counters::ExitKind;
use super::emulated::paging_state;
use super::{Activity, Vcpu};
use crate::backend::Backend;
use crate::host::processor::Vendor;
use crate::vm::Vm;
use crate::vm::memory::PAGE_BYTES;
use devices::local_apic::Look;
use devices::time::Clock;
use emulator::paging::{Access, AccessKind, Privilege, is_canonical};
use emulator::registers::{Fault, Gpr};
use xen::errno::Errno;
use xen::hypercall::page::{self, Instruction};
use xen::hypercall::{Answer, Call, Outcome, Then};
use xen::machine::{BadPointer, Caller};
use xen::platform::{PvPlatform, PvVcpu};
use xen::time::RunState;
use xen::width::Width;

/// The registers of the arguments, in 64-bit mode and in all others.
const ARGUMENTS_64: [Gpr; 5] = [Gpr::Rdi, Gpr::Rsi, Gpr::Rdx, Gpr::R10, Gpr::R8];
const ARGUMENTS_32: [Gpr; 5] = [Gpr::Rbx, Gpr::Rcx, Gpr::Rdx, Gpr::Rsi, Gpr::Rdi];

/// A virtual CPU as its hypercalls see it.
struct Guest<'a, B: Backend> {
    index: usize,
    backend: &'a B,
    vm: &'a Vm,
}

impl<B: Backend> Guest<'_, B> {
    /// Calls `each` for the part of a range in each page: where it is, and which part.
    fn in_pages(
        &self,
        linear: u64,
        length: usize,
        kind: AccessKind,
        mut each: impl FnMut(u64, core::ops::Range<usize>) -> Result<(), BadPointer>,
    ) -> Result<(), BadPointer> {
        let access = Access { kind, privilege: Privilege::of_cpl(0) };
        let mut done = 0;
        while done < length {
            let mut at = linear.wrapping_add(done as u64);
            match self.width() {
                Width::Bits32 => at &= 0xffff_ffff,
                Width::Bits64 if !is_canonical(at, self.backend.cr4().la57()) => {
                    return Err(BadPointer);
                }
                Width::Bits64 => {}
            }
            let room = (PAGE_BYTES - at % PAGE_BYTES) as usize;
            let part = done..done + room.min(length - done);
            let gpa = match self.backend.cr0().paging() {
                true => {
                    let paging = paging_state(self.backend, self.vm);
                    paging.translate(self.vm, at, access).map_err(|_| BadPointer)?.gpa
                }
                false => at,
            };
            done = part.end;
            each(gpa, part)?;
        }
        Ok(())
    }
}

impl<B: Backend> Caller for Guest<'_, B> {
    fn vcpu(&self) -> usize {
        self.index
    }

    fn width(&self) -> Width {
        width(self.backend)
    }

    fn read(&self, linear: u64, data: &mut [u8]) -> Result<(), BadPointer> {
        self.in_pages(linear, data.len(), AccessKind::Read, |gpa, part| {
            self.vm.space.read_as_vcpu(gpa, &mut data[part]).map_err(|_| BadPointer)
        })
    }

    fn write(&mut self, linear: u64, data: &[u8]) -> Result<(), BadPointer> {
        self.in_pages(linear, data.len(), AccessKind::Write, |gpa, part| {
            self.vm.space.write_as_vcpu(gpa, &data[part]).map_err(|_| BadPointer)
        })
    }
}

/// The width of the code that runs.
fn width(backend: &impl Backend) -> Width {
    if backend.code_bits() == 64 { Width::Bits64 } else { Width::Bits32 }
}

impl<B: Backend> Vcpu<B> {
    fn width(&self) -> Width {
        width(&self.backend)
    }

    /// VMCALL or VMMCALL.
    pub(super) fn on_hypercall(&mut self) -> ExitKind {
        if self.vm.pv.is_some() {
            return self.on_platform_call();
        }
        self.instruction(|vcpu| {
            vcpu.set_result(Errno::NoSys.result());
            Ok(())
        });
        ExitKind::Hypercall
    }

    fn set_result(&mut self, result: i64) {
        self.set_by_width(Gpr::Rax, result as u64);
    }

    /// Sets a register as code of the mode does.
    fn set_by_width(&mut self, register: Gpr, value: u64) {
        match self.width() {
            Width::Bits64 => self.gprs.set(register, value),
            Width::Bits32 => self.gprs.set32(register, value as u32),
        }
    }

    /// A hypercall of a guest that has the platform.
    #[inline(never)]
    fn on_platform_call(&mut self) -> ExitKind {
        let next_rip = match self.next_rip() {
            Ok(next_rip) => next_rip,
            Err(fault) => {
                self.raise(fault);
                return ExitKind::Hypercall;
            }
        };
        let answer = self.hypercall();
        match answer.outcome {
            Outcome::Done(result) => {
                self.set_result(result);
                self.complete_instruction(next_rip);
            }
            Outcome::Again { first, second } => {
                let [to_first, to_second, ..] = Self::argument_registers(self.width());
                self.set_by_width(to_first, first);
                self.set_by_width(to_second, second);
            }
        }
        match answer.then {
            Then::Yield => ExitKind::Pause,
            Then::Wait => {
                self.activity = Activity::Polling;
                self.halt_at_tick_gate();
                self.idle_platform();
                ExitKind::Hypercall
            }
            Then::SoftReset => {
                self.soft_reset_platform();
                ExitKind::Hypercall
            }
            Then::Continue => ExitKind::Hypercall,
        }
    }

    /// Another kernel starts in the guest's memory. The virtual CPU holds no lock here.
    #[cold]
    fn soft_reset_platform(&self) {
        match (&self.vm.back_ends, &self.vm.pv) {
            (Some(back_ends), _) => back_ends.soft_reset(),
            (None, Some(pv)) => pv.soft_reset(),
            (None, None) => {}
        }
    }

    const fn argument_registers(width: Width) -> [Gpr; 5] {
        match width {
            Width::Bits64 => ARGUMENTS_64,
            Width::Bits32 => ARGUMENTS_32,
        }
    }

    fn hypercall(&mut self) -> Answer {
        if self.backend.cpl() != 0 {
            return Err(Errno::Perm).into();
        }
        let argument = |register| match self.width() {
            Width::Bits64 => self.gprs.get(register),
            Width::Bits32 => self.gprs.get32(register).into(),
        };
        let registers = Self::argument_registers(self.width());
        let call = Call { number: argument(Gpr::Rax), arguments: registers.map(argument) };
        let answer = self.with_pv(|pv, own, guest| pv.hypercall(own, guest, &call));
        answer.unwrap_or(Err(Errno::NoSys).into())
    }

    /// Runs `work` with the platform, if there is one, what this virtual CPU has of it, and the
    /// virtual CPU.
    fn with_pv<T>(
        &mut self,
        work: impl FnOnce(&PvPlatform, &mut PvVcpu, &mut dyn Caller) -> T,
    ) -> Option<T> {
        let pv = self.vm.pv.as_deref()?;
        let mut guest = Guest { index: self.index, backend: &self.backend, vm: &self.vm };
        Some(work(pv, &mut self.pv, &mut guest))
    }

    /// The MSR by which a guest asks for the page of hypercalls; false if it is not there.
    pub(super) fn write_hypercall_msr(&mut self, index: u32, value: u64) -> Result<bool, Fault> {
        let Some(pv) = self.vm.pv.clone().filter(|_| index == xen::cpuid::HYPERCALL_MSR) else {
            return Ok(false);
        };
        let instruction = match self.vm.cpuid.processor().vendor {
            Vendor::Amd => Instruction::Vmmcall,
            _ => Instruction::Vmcall,
        };
        let (gpa, number) = (value & !(PAGE_BYTES - 1), value % PAGE_BYTES);
        if number != 0 || !self.vm.space.is_writable_ram(gpa) {
            return Err(Fault::PROTECTION);
        }
        self.vm
            .space
            .write_as_vcpu(gpa, &page::content(instruction))
            .map_err(|_| Fault::PROTECTION)?;
        pv.latch_width(self.width());
        Ok(true)
    }

    /// The virtual CPU has nothing to run: back ends take requests that they were not told of.
    #[inline(never)]
    pub(super) fn idle_platform(&self) {
        if let Some(back_ends) = &self.vm.back_ends {
            back_ends.idle();
        }
    }

    /// The virtual CPU halts. With interrupts off it is down, as under Xen, until it is started
    /// anew or an NMI comes: the firmware leaves all but the first one so, and kernels place things
    /// for them.
    #[inline(never)]
    pub(super) fn tell_platform_of_halt(&self) {
        self.set_up_if_interrupts_are_off(false);
        self.idle_platform();
    }

    /// An NMI or a trap ends its halt.
    #[cold]
    pub(super) fn tell_platform_of_wake(&self) {
        self.set_up_if_interrupts_are_off(true);
    }

    fn set_up_if_interrupts_are_off(&self, is_up: bool) {
        if let Some(pv) = self.vm.pv.as_ref().filter(|_| !self.backend.rflags().interrupt()) {
            pv.set_up(self.index, is_up);
        }
    }

    /// The virtual CPU was reset by INIT, or starts.
    #[cold]
    pub(super) fn tell_platform_of_start(&self) {
        if let Some(pv) = &self.vm.pv {
            pv.set_up(self.index, self.activity != Activity::WaitForStartup);
            pv.repeat_upcall(self.index);
        }
    }

    /// The guest has set its time stamp counter.
    pub(super) fn note_tsc_offset(&self) {
        if let Some(pv) = &self.vm.pv {
            let start_tsc = self.vm.clock.start_tsc();
            pv.set_zero_tsc(self.index, start_tsc.wrapping_add(self.backend.tsc_offset()));
        }
    }

    /// Something may be told past the local APIC: the vector of an upcall that is pending. It ends
    /// a sleep in a hypercall.
    pub(super) fn pending_upcall(&mut self) -> Option<u8> {
        let look = self.apic.take_look()?;
        let pv = self.vm.pv.clone()?;
        if look == Look::New {
            if self.activity == Activity::Polling {
                self.activity = Activity::Running;
                pv.end_poll(self.index);
            }
            if let Some(back_ends) = &self.vm.back_ends {
                back_ends.work();
            }
        }
        if pv.holds_line(self.index) {
            self.apic.keep_look();
        }
        pv.upcall_to_inject(self.index)
    }

    /// Counts the time that ends now for `state`, and lets the guest see what it has asked for.
    #[inline]
    pub(super) fn note_run_state(&mut self, state: RunState) {
        if self.vm.pv.is_some() {
            self.change_run_state(state);
        }
    }

    #[cold]
    fn change_run_state(&mut self, state: RunState) {
        let now_ns = self.vm.clock.now().as_ns();
        self.pv.times.enter(state, now_ns);
        if self.pv.run_state_area.is_some() {
            self.with_pv(|pv, own, guest| pv.write_run_state(own, guest));
        }
    }
}
