//! The virtual CPU as the instruction emulator sees it.

use super::Vcpu;
use super::counters::ExitKind;
use crate::backend::{Backend, SystemRegister};
use crate::vm::Vm;
use crate::vm::bus::BusUse;
use crate::vm::memory::PAGE_BYTES;
use devices::memory::GuestMemory;
use emulator::MemoryAccess;
use emulator::breakpoints::{self, Breakpoints};
use emulator::instruction::{self, EmulatedCpu, Outcome};
use emulator::paging::{Access, AccessKind, PagingState, Privilege};
use emulator::registers::{
    Cr0, Cr4, Dr6, Efer, Exception, Fault, Gprs, Rflags, Segment, SegmentAttributes, SegmentName,
};

const SINGLE_STEP: u64 = Dr6::new().with_single_step(true).into_bits();
/// A repeated instruction keeps the host no longer than this. Some devices take long for one
/// element: a move of the A20 gate changes 256 page-table entries, a mode of the display clears its
/// memory.
const MAX_STEP_US: u64 = 100;
/// The local APIC's registers.
const APIC_PAGE_BYTES: u64 = 4096;

/// The registers that say how a virtual CPU's paging works.
pub(super) fn paging_state(backend: &impl Backend, vm: &Vm) -> PagingState {
    PagingState {
        cr0: backend.cr0(),
        cr3: backend.system_register(SystemRegister::Cr3),
        cr4: backend.cr4(),
        efer: backend.efer(),
        alignment_check: backend.rflags().alignment_check(),
        pkru: 0,
        physical_address_bits: vm.cpuid.physical_address_bits(),
    }
}

impl<B: Backend> Vcpu<B> {
    /// Carries out the instruction at RIP, which the CPU could not.
    pub(super) fn emulate(&mut self, access: Option<MemoryAccess>) {
        self.yield_tsc = None;
        self.met_breakpoints = 0;
        match instruction::step(self, access) {
            Outcome::Done { trap } => {
                let single_step = if trap { SINGLE_STEP } else { 0 };
                self.trap(self.met_breakpoints | single_step);
            }
            Outcome::Continue => {}
            Outcome::Fault(fault) => self.raise(fault),
            Outcome::Unsupported(bytes) => self.bounce_unsupported(access, &bytes),
        }
    }

    #[cold]
    fn bounce_unsupported(&mut self, access: Option<MemoryAccess>, bytes: &[u8]) {
        match access {
            Some(access) => {
                self.bounce(access);
            }
            None => {
                log::error!("{}: cannot emulate {bytes:02x?}", self.vm.name);
                self.crash("an instruction that the emulator does not know", ExitKind::Fatal);
            }
        }
    }

    /// #DB after an instruction that ran with RFLAGS.TF set.
    pub(super) fn trap_single_step(&mut self) {
        self.trap(SINGLE_STEP);
    }

    /// #DB after an instruction, if there are causes: bits of DR6.
    #[inline]
    pub(super) fn trap(&mut self, causes: u64) {
        if causes != 0 {
            let dr6 = self.backend.system_register(SystemRegister::Dr6);
            self.backend.set_system_register(SystemRegister::Dr6, dr6 | causes);
            self.raise(Fault { exception: Exception::Debug, error_code: None, address: None });
        }
    }

    fn enabled_breakpoints(&mut self) -> Option<Breakpoints> {
        let control = self.backend.breakpoint_control();
        (control & breakpoints::ENABLES != 0).then(|| self.read_breakpoints(control))
    }

    #[cold]
    pub(super) fn read_breakpoints(&self, control: u64) -> Breakpoints {
        Breakpoints {
            control,
            addresses: [0, 1, 2, 3].map(|number| self.backend.breakpoint_address(number)),
            debugging_extensions: self.backend.cr4().de(),
        }
    }

    /// The bytes at RIP, as many as there are up to 15.
    pub(super) fn fetch(&self, bytes: &mut [u8; 15]) -> Result<usize, Fault> {
        self.fetch_by(&*self.vm, bytes, |_, _| {})
    }

    /// The same by way of page tables as `tables` has them; `found` is told where the bytes are.
    pub(super) fn fetch_by<M: GuestMemory>(
        &self,
        tables: &M,
        bytes: &mut [u8; 15],
        mut found: impl FnMut(u64, &[u8]),
    ) -> Result<usize, Fault> {
        let (linear, paging, access) =
            (self.linear_rip(), self.paging_state(), self.fetch_access());
        let mut count = 0;
        while count < bytes.len() {
            let at = linear.wrapping_add(count as u64);
            let room = (PAGE_BYTES - at % PAGE_BYTES).min((bytes.len() - count) as u64) as usize;
            let read = paging.translate(tables, at, access).and_then(|translation| {
                let part = bytes.get_mut(count..count + room).unwrap_or_default();
                self.vm.read(translation.gpa, part).map_err(|_| Fault::PROTECTION)?;
                found(translation.gpa, part);
                Ok(())
            });
            match read {
                Ok(()) => count += room,
                Err(fault) if count == 0 => return Err(fault),
                Err(_) => break,
            }
        }
        Ok(count)
    }

    pub(super) fn linear_rip(&self) -> u64 {
        let rip = self.backend.rip();
        if self.backend.code_bits() == 64 {
            return rip;
        }
        self.backend.segment_base(SegmentName::Cs).wrapping_add(rip) & 0xffff_ffff
    }

    /// Where the code at a linear address is.
    #[inline]
    pub(super) fn code_gpa(&self, linear: u64) -> Result<u64, Fault> {
        if !self.backend.cr0().paging() {
            return Ok(linear);
        }
        Ok(self.paging_state().translate(&*self.vm, linear, self.fetch_access())?.gpa)
    }

    pub(super) fn fetch_access(&self) -> Access {
        Access { kind: AccessKind::Execute, privilege: Privilege::of_cpl(self.backend.cpl()) }
    }

    pub(super) fn paging_state(&self) -> PagingState {
        paging_state(&self.backend, &self.vm)
    }

    /// The offset in the local APIC's register page, if `gpa` is there.
    pub(super) fn is_apic(&self, gpa: u64) -> Option<u16> {
        let offset = gpa.wrapping_sub(self.apic.mmio_base()?);
        (offset < APIC_PAGE_BYTES).then_some(offset as u16)
    }
}

impl<B: Backend> Vcpu<B> {
    #[inline]
    fn write_device(&mut self, gpa: u64, size_bytes: u8, value: u64) {
        match self.bus {
            BusUse::Shared => self.write_shared_device(gpa, size_bytes, value),
            BusUse::Alone | BusUse::Locked => self.vm.mmio.write(gpa, size_bytes, value),
        }
    }

    /// A sibling may be between the read and the write of a locked instruction.
    #[inline(never)]
    fn write_shared_device(&mut self, gpa: u64, size_bytes: u8, value: u64) {
        self.lock_bus();
        self.vm.mmio.write(gpa, size_bytes, value);
        self.release_bus();
    }
}

impl<B: Backend> EmulatedCpu for Vcpu<B> {
    type Memory = Vm;

    #[inline]
    fn memory(&self) -> &Vm {
        &self.vm
    }

    fn is_ram(&self, gpa: u64) -> bool {
        self.vm.space.is_memory(gpa)
    }

    #[inline]
    fn has_breakpoints(&mut self) -> bool {
        self.backend.breakpoint_control() & breakpoints::ENABLES != 0
    }

    fn breakpoints(&mut self) -> Option<Breakpoints> {
        self.enabled_breakpoints()
    }

    fn meet_breakpoints(&mut self, causes: u64) {
        self.met_breakpoints = causes;
    }

    fn gprs(&self) -> &Gprs {
        &self.gprs
    }

    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.gprs
    }

    fn rip(&self) -> u64 {
        self.backend.rip()
    }

    fn instruction_bytes(&self) -> Option<&[u8]> {
        self.backend.instruction_bytes()
    }

    fn complete_instruction(&mut self, next_rip: u64) {
        self.backend.complete_instruction(next_rip);
    }

    fn rflags(&self) -> Rflags {
        self.backend.rflags()
    }

    fn set_rflags(&mut self, rflags: Rflags) {
        self.backend.set_rflags(rflags);
    }

    fn segment(&self, name: SegmentName) -> Segment {
        self.backend.segment(name)
    }

    fn segment_attributes(&self, name: SegmentName) -> SegmentAttributes {
        self.backend.segment_attributes(name)
    }

    fn segment_base(&self, name: SegmentName) -> u64 {
        self.backend.segment_base(name)
    }

    fn cpl(&self) -> u8 {
        self.backend.cpl()
    }

    fn cr0(&self) -> Cr0 {
        self.backend.cr0()
    }

    fn cr3(&self) -> u64 {
        self.backend.system_register(SystemRegister::Cr3)
    }

    fn cr4(&self) -> Cr4 {
        self.backend.cr4()
    }

    fn efer(&self) -> Efer {
        self.backend.efer()
    }

    fn physical_address_bits(&self) -> u8 {
        self.vm.cpuid.physical_address_bits()
    }

    fn vector_register(&self, index: u8) -> [u8; 32] {
        self.backend.vector_register(index)
    }

    fn wide_register(&self, index: u8) -> [u8; 64] {
        self.backend.wide_register(index)
    }

    fn mask_register(&self, index: u8) -> u16 {
        self.backend.mask_register(index)
    }

    fn set_vector_register(&mut self, index: u8, bytes: &[u8]) {
        self.backend.set_vector_register(index, bytes);
    }

    fn lock_bus(&mut self) {
        if self.bus == BusUse::Shared {
            self.vm.bus_lock.acquire();
            self.bus = BusUse::Locked;
        }
    }

    fn release_bus(&mut self) {
        if self.bus == BusUse::Locked {
            self.bus = BusUse::Shared;
            self.vm.bus_lock.release();
        }
    }

    #[inline]
    fn read_gpa(&mut self, gpa: u64, size_bytes: u8) -> u64 {
        if self.device_page == Some(gpa / PAGE_BYTES) {
            return self.vm.mmio.read(gpa, size_bytes);
        }
        if let Some(offset) = self.is_apic(gpa) {
            return self.apic.mmio_read(offset).into();
        }
        let mut bytes = [0; 8];
        let part = &mut bytes[..usize::from(size_bytes).min(8)];
        match self.vm.space.read_as_vcpu(gpa, part) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => self.vm.mmio.read(gpa, size_bytes),
        }
    }

    #[inline]
    fn write_gpa(&mut self, gpa: u64, size_bytes: u8, value: u64) {
        if self.device_page == Some(gpa / PAGE_BYTES) {
            return self.write_device(gpa, size_bytes, value);
        }
        if let Some(offset) = self.is_apic(gpa) {
            self.apic.mmio_write(offset, value as u32);
            self.backend.note_vectors();
            return;
        }
        let bytes = value.to_le_bytes();
        if self.vm.space.write_as_vcpu(gpa, &bytes[..usize::from(size_bytes).min(8)]).is_err() {
            self.write_device(gpa, size_bytes, value);
        }
    }

    fn read_gpa_run(&mut self, gpa: u64, element_bytes: u8, data: &mut [u8]) {
        if self.is_apic(gpa).is_some() {
            let size = usize::from(element_bytes);
            for (element, at) in data.chunks_exact_mut(size).zip((gpa..).step_by(size)) {
                element.copy_from_slice(&self.read_gpa(at, element_bytes).to_le_bytes()[..size]);
            }
        } else if self.vm.space.read_as_vcpu(gpa, data).is_err() {
            self.vm.mmio.read_run(gpa, element_bytes, data);
        }
    }

    fn write_gpa_run(&mut self, gpa: u64, element_bytes: u8, data: &[u8]) {
        if self.is_apic(gpa).is_some() {
            let size = usize::from(element_bytes);
            for (element, at) in data.chunks_exact(size).zip((gpa..).step_by(size)) {
                let mut bytes = [0; 8];
                bytes[..size].copy_from_slice(element);
                self.write_gpa(at, element_bytes, u64::from_le_bytes(bytes));
            }
        } else if self.vm.space.write_as_vcpu(gpa, data).is_err() {
            // Only string instructions come here, which are none with LOCK.
            self.lock_bus();
            self.vm.mmio.write_run(gpa, element_bytes, data);
            self.release_bus();
        }
    }

    fn port_in(&mut self, port: u16, size_bytes: u8, data: &mut [u8]) -> usize {
        self.vm.ports.read_string(port, size_bytes, data)
    }

    fn port_out(&mut self, port: u16, size_bytes: u8, data: &[u8]) -> usize {
        self.vm.ports.write_string(port, size_bytes, data)
    }

    fn must_yield(&mut self) -> bool {
        let now_tsc = self.platform.tsc();
        // The time runs from the end of the first part, so that an instruction with one part need
        // not ask.
        let yield_tsc = self.yield_tsc.get_or_insert_with(|| {
            now_tsc.saturating_add(self.vm.clock.tsc_hz() / 1_000_000 * MAX_STEP_US)
        });
        now_tsc >= *yield_tsc
    }
}
