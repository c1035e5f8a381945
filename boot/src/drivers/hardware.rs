//! The machine as the drivers of its disks see it.

use super::pci::CONFIG;
use super::registers;
use crate::cpu::{interrupts, lapic, start_up, tsc};
use crate::memory::host;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::slice;
use core::sync::atomic::AtomicU64;
use drivers::pci::{Address, ConfigSpace};
use drivers::{Bell, DmaMemory, Hardware, MEMORY_BYTES, Message, Registers};
use vmm_core::host::owner::Owner;
use vmm_core::host::platform::FrameSize;

/// The bare machine.
pub struct Bare;

/// Where devices write interrupts (Intel SDM volume 3, 12.11.1).
const MESSAGE_ADDRESS: u64 = 0xfee0_0000;
/// The largest APIC ID that such an address can name; the one above is all CPUs'.
const LAST_MESSAGE_ID: u32 = 0xfe;

impl ConfigSpace for Bare {
    fn read_config(&self, address: Address, offset: u8) -> u32 {
        CONFIG.read_config(address, offset)
    }

    fn write_config(&self, address: Address, offset: u8, value: u32) {
        CONFIG.write_config(address, offset, value);
    }
}

impl Hardware for Bare {
    fn host_ns(&self) -> u64 {
        tsc::ticks_to_ns(tsc::read())
    }

    fn map(&self, address: u64, length_bytes: u64) -> Option<Arc<dyn Registers>> {
        registers::map(address, length_bytes)
    }

    fn allocate_dma(&self) -> Option<DmaMemory> {
        const _: () = assert!(MEMORY_BYTES as u64 == FrameSize::Large.bytes());
        let frame = host::allocate(FrameSize::Large, Owner::Hypervisor)?;
        host::zero(frame.hpa, MEMORY_BYTES as u64);
        // SAFETY: the frame is RAM, mapped, cleared, handed out to this alone and never given back;
        // any bytes are atomics, and a device may change them at any moment.
        let words =
            unsafe { slice::from_raw_parts(frame.address as *const AtomicU64, MEMORY_BYTES / 8) };
        Some(DmaMemory::new(frame.hpa, words))
    }

    fn connect_interrupt(&self, bell: Arc<Bell>) -> Option<Message> {
        // The boot CPU runs this, and attends to the drivers.
        let id = Some(lapic::id()).filter(|&id| id <= LAST_MESSAGE_ID)?;
        let vector = interrupts::connect(Box::leak(Box::new(move || bell.ring())))?;
        let address = MESSAGE_ADDRESS | u64::from(id) << 12;
        Some(Message { address, data: vector.into() })
    }

    fn call_attendant(&self) {
        start_up::call_boot_cpu();
    }
}
