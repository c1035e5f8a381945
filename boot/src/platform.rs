//! The bare machine as the hypervisor's common part sees it.

use crate::cpu::interrupts::{self, KICK_VECTOR, NOTIFICATION_VECTOR};
use crate::cpu::{self, lapic, start_up, tsc};
use crate::drivers::serial::{COM1, COM2};
use crate::drivers::{display, i8042};
use crate::memory::image;
use crate::memory::{heap, host, owners};
use crate::power;
use crate::report::{log, panic};
use alloc::vec::Vec;
use control::host::{Display, Host, InputEvent, SerialPort};
use drivers::Disks;
use vmm_core::host::machine_check::Registers;
use vmm_core::host::owner::Owner;
use vmm_core::host::platform::{CpuInterrupt, CrashDump, Frame, FrameSize, Platform};

/// The bare machine.
pub struct Machine {
    /// The machine's clock when the hypervisor started.
    pub boot_time_unix_s: u64,
    /// The APIC IDs of its CPUs.
    pub apic_ids: Vec<u32>,
    /// The page below 1 MiB where other CPUs start, if there is one for it.
    pub start_up_page: Option<u8>,
    /// Its disks.
    pub disks: Disks,
}

impl Host for Machine {
    fn tsc(&self) -> u64 {
        tsc::read()
    }

    fn tsc_hz(&self) -> u64 {
        tsc::hz()
    }

    fn free_bytes(&self) -> u64 {
        host::free_bytes()
    }

    fn heap_bytes(&self) -> u64 {
        heap::used_bytes()
    }

    fn reserve_heap(&self, bytes: u64) -> bool {
        heap::reserve(bytes)
    }

    fn return_heap(&self, bytes: u64) {
        heap::give_back(bytes);
    }

    fn drain_log(&self) -> bool {
        log::drain()
    }

    fn serial_write(&self, port: SerialPort, bytes: &[u8]) -> usize {
        log::send_foreign(port, bytes)
    }

    fn serial_read(&self, port: SerialPort) -> Option<u8> {
        match port {
            SerialPort::Com1 => COM1.take(),
            SerialPort::Com2 => COM2.take(),
        }
    }

    fn take_input(&self) -> Option<InputEvent> {
        i8042::take_event()
    }

    fn display(&self) -> Option<&dyn Display> {
        display::get()
    }

    fn log_text(&self) -> Vec<u8> {
        log::text()
    }

    fn log_bytes(&self) -> u64 {
        log::TEXT_BYTES as u64
    }

    fn call_attendant(&self) {
        start_up::call_boot_cpu();
    }

    fn power_off(&self) {
        self.disks.shut_down();
        power::power_off();
    }

    fn reboot(&self) -> ! {
        self.disks.shut_down();
        power::reset()
    }
}

impl Platform for Machine {
    fn boot_time_unix_s(&self) -> u64 {
        self.boot_time_unix_s
    }

    fn boot_tsc(&self) -> u64 {
        image::boot_tsc()
    }

    fn allocate_frame(&self, size: FrameSize, owner: Owner) -> Option<Frame> {
        host::allocate(size, owner)
    }

    fn free_frame(&self, frame: Frame) {
        host::free(frame);
    }

    fn split_frame(&self, hpa: u64, size: FrameSize) {
        // The frame map knows small frames in any case.
        owners::split(hpa, size);
    }

    fn address_of(&self, hpa: u64) -> usize {
        hpa as usize
    }

    #[cfg(feature = "owner-map")]
    fn owners(&self) -> &vmm_core::host::owner_map::OwnerMap {
        owners::map()
    }

    fn hpa_of(&self, address: usize) -> u64 {
        // All RAM is mapped at its physical address.
        address as u64
    }

    fn cpu(&self) -> usize {
        start_up::this_cpu()
    }

    fn start_cpus(&self, main: &'static (dyn Fn() + Sync)) -> usize {
        match self.start_up_page {
            Some(page) => start_up::start(&self.apic_ids, page, main),
            None => 0,
        }
    }

    fn interrupt_cpu(&self, cpu: usize, interrupt: CpuInterrupt) {
        let vector = match interrupt {
            CpuInterrupt::Kick => KICK_VECTOR,
            CpuInterrupt::Notification => NOTIFICATION_VECTOR,
        };
        start_up::interrupt(cpu, vector);
    }

    fn notification_vector(&self) -> u8 {
        NOTIFICATION_VECTOR
    }

    fn handle_interrupt(&self, vector: u8) {
        interrupts::handle_vector(vector);
    }

    fn set_timer(&self, deadline_tsc: u64) {
        lapic::set_timer(deadline_tsc);
    }

    fn interrupt_self(&self) {
        lapic::interrupt_self();
    }

    fn attend_disks(&self) -> u64 {
        self.disks.attend()
    }

    fn idle(&self) {
        cpu::idle();
    }

    fn handle_interrupts(&self) -> bool {
        cpu::interrupt_window()
    }

    fn machine_check_registers(&self) -> Option<&dyn Registers> {
        cpu::machine_check::registers()
    }

    fn take_machine_check(&self) -> bool {
        cpu::machine_check::take()
    }

    fn clear_breakpoints(&self) {
        cpu::clear_breakpoints();
    }

    fn report_hang(&self, cpu: usize) -> ! {
        panic::report_hang(cpu)
    }

    fn set_crash_dump(&self, dump: CrashDump) {
        panic::set_crash_dump(dump);
    }
}
