//! Turning the machine off, and resetting it.

use crate::cpu::tsc;
use crate::memory::{host, paging::Mapping};
use host_acpi::{PowerControls, Register};
use spin::Once;
use x86::io::{inw, outb, outw};

static CONTROLS: Once<PowerControls> = Once::new();

const SCI_ENABLE: u16 = 1 << 0;
const SLEEP_TYPE_SHIFT: u16 = 10;
const SLEEP_TYPE: u16 = 0b111 << SLEEP_TYPE_SHIFT;
const SLEEP_ENABLE: u16 = 1 << 13;

/// Keeps what the ACPI tables say. A reset register in memory is mapped now: a crash may come while
/// the lock of the page tables is held.
pub fn set_controls(mut controls: PowerControls) {
    if let Some((Register::Memory(address), _)) = controls.reset
        && host::map(address, 1, Mapping::DEVICE).is_err()
    {
        controls.reset = None;
    }
    CONTROLS.call_once(|| controls);
}

fn wait_ms(ms: u64, mut done: impl FnMut() -> bool) {
    let end = tsc::read().saturating_add(tsc::hz() / 1000 * ms);
    while tsc::read() < end && !done() {
        core::hint::spin_loop();
    }
}

/// Turns the machine off; returns if that does not work.
pub fn power_off() {
    let controls = CONTROLS.get().copied().unwrap_or_default();
    let (Some(port), Some([type_a, type_b])) = (controls.pm1a_control, controls.s5) else {
        log::error!("the ACPI tables do not say how to turn this machine off");
        return;
    };
    // SAFETY: the ports and values are those that the ACPI tables give for this.
    unsafe {
        if let Some((command_port, value)) = controls.enable
            && inw(port) & SCI_ENABLE == 0
        {
            outb(command_port, value);
            wait_ms(100, || inw(port) & SCI_ENABLE != 0);
        }
        let sleep = |port: u16, sleep_type: u8| {
            let control = inw(port) & !SLEEP_TYPE | u16::from(sleep_type) << SLEEP_TYPE_SHIFT;
            outw(port, control | SLEEP_ENABLE);
        };
        sleep(port, type_a);
        if let Some(port) = controls.pm1b_control {
            sleep(port, type_b);
        }
    }
    wait_ms(1000, || false);
    log::error!("the machine did not turn off");
}

/// Resets the machine, by whatever works.
pub fn reset() -> ! {
    let controls = CONTROLS.get().copied().unwrap_or_default();
    // SAFETY: the reset register as ACPI gives it, mapped by `set_controls`, then the PC's own
    // ones: CF9h, the keyboard controller's pulse.
    unsafe {
        match controls.reset {
            Some((Register::Port(port), value)) => outb(port, value),
            Some((Register::Memory(address), value)) => {
                (address as *mut u8).write_volatile(value);
            }
            None => {}
        }
        wait_ms(50, || false);
        outb(0xcf9, 0x02);
        outb(0xcf9, 0x06);
        wait_ms(50, || false);
        outb(0x64, 0xfe);
        wait_ms(50, || false);
    }
    // SAFETY: a triple fault, by an interrupt without an IDT, resets every PC.
    unsafe {
        let no_idt = [0u16; 5];
        core::arch::asm!("lidt [{}]", "int3", in(reg) no_idt.as_ptr(), options(noreturn));
    }
}
