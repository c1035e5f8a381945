//! The I/O APICs: legacy interrupts that the hypervisor wants go to the boot CPU, all else is
//! masked (Intel 82093AA datasheet).

use super::lapic;
use crate::memory::{PAGE_BYTES, host, paging::Mapping};
use host_acpi::{InterruptSource, IoApicInfo, Tables};

const REGISTER_SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
const VERSION: u32 = 0x01;
const REDIRECTION: u32 = 0x10;

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

struct IoApic {
    address: usize,
    first_gsi: u32,
    pins: u32,
}

impl IoApic {
    fn new(info: &IoApicInfo) -> Option<Self> {
        host::map(info.address, PAGE_BYTES, Mapping::DEVICE).ok()?;
        let mut apic = Self { address: info.address as usize, first_gsi: info.first_gsi, pins: 0 };
        apic.pins = (apic.read(VERSION) >> 16 & 0xff) + 1;
        Some(apic)
    }

    fn select(&self, register: u32) -> *mut u32 {
        // SAFETY: `new` has mapped the registers, uncached.
        unsafe { ((self.address + REGISTER_SELECT) as *mut u32).write_volatile(register) };
        (self.address + WINDOW) as *mut u32
    }

    fn read(&self, register: u32) -> u32 {
        // SAFETY: as above.
        unsafe { self.select(register).read_volatile() }
    }

    fn write(&self, register: u32, value: u32) {
        // SAFETY: as above.
        unsafe { self.select(register).write_volatile(value) };
    }

    fn set_pin(&self, pin: u32, low: u32, destination: u32) {
        let register = REDIRECTION + 2 * pin;
        self.write(register, MASKED);
        self.write(register + 1, destination << 24);
        self.write(register, low);
    }
}

/// Masks everything, then routes each `(ISA interrupt, vector)` to this CPU.
pub fn init(tables: &Tables, routes: &[(u8, u8)]) {
    let destination = lapic::id();
    for info in &tables.io_apics {
        let Some(apic) = IoApic::new(info) else { continue };
        for pin in 0..apic.pins {
            apic.set_pin(pin, MASKED, 0);
        }
        for &(irq, vector) in routes {
            let InterruptSource { gsi, level, active_low } =
                tables.isa_interrupts[usize::from(irq)];
            let Some(pin) = gsi.checked_sub(apic.first_gsi).filter(|&pin| pin < apic.pins) else {
                continue;
            };
            let mut low = u32::from(vector);
            if level {
                low |= LEVEL;
            }
            if active_low {
                low |= ACTIVE_LOW;
            }
            apic.set_pin(pin, low, destination);
        }
    }
    if tables.io_apics.is_empty() {
        log::warn!("no I/O APIC: the serial ports and the keyboard will not be heard");
    }
}
