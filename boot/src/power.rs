//! Turning the machine off, and resetting it.

/// A register of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// An I/O port.
    Port(u16),
    /// A physical address.
    Memory(u64),
}

/// What the ACPI tables say of power.
#[derive(Clone, Copy, Debug, Default)]
pub struct PowerControls {
    /// Port of PM1a_CNT.
    pub pm1a_control: Option<u16>,
    /// Port of PM1b_CNT.
    pub pm1b_control: Option<u16>,
    /// Port and value that turn ACPI on.
    pub enable: Option<(u16, u8)>,
    /// Sleep types of S5 for PM1a_CNT and PM1b_CNT.
    pub s5: Option<[u8; 2]>,
    /// Register and value that reset the machine.
    pub reset: Option<(Register, u8)>,
}

/// Finds the sleep types in the AML of `Name (_S5, Package { a, b, ... })` (ACPI 6.5, 20.2.5 and 7.4.2).
pub fn find_s5(aml: &[u8]) -> Option<[u8; 2]> {
    const PACKAGE: u8 = 0x12;
    aml.windows(5).enumerate().filter(|(_, window)| window[..4] == *b"_S5_" && window[4] == PACKAGE).find_map(
        |(at, _)| {
            let after = &aml[at + 5..];
            // The length takes 1 to 4 bytes, the count of elements one.
            let length_bytes = 1 + usize::from(after.first()? >> 6);
            let mut elements = after.get(length_bytes + 1..)?.iter().copied();
            let a = integer(&mut elements)?;
            Some([a, integer(&mut elements).unwrap_or(a)])
        },
    )
}

fn integer(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    match bytes.next()? {
        small @ 0..=1 => Some(small),
        0x0a => bytes.next(),
        0x0b => {
            let low = bytes.next();
            bytes.next();
            low
        }
        _ => None,
    }
}

#[cfg(target_os = "none")]
pub use bare::{power_off, reset, set_controls};

#[cfg(target_os = "none")]
mod bare {
    use super::{PowerControls, Register};
    use crate::cpu::tsc;
    use crate::memory::{host, paging::Mapping};
    use spin::Once;
    use x86::io::{inw, outb, outw};

    static CONTROLS: Once<PowerControls> = Once::new();

    const SCI_ENABLE: u16 = 1 << 0;
    const SLEEP_TYPE_SHIFT: u16 = 10;
    const SLEEP_TYPE: u16 = 0b111 << SLEEP_TYPE_SHIFT;
    const SLEEP_ENABLE: u16 = 1 << 13;

    /// Keeps what the ACPI tables say.
    pub fn set_controls(controls: PowerControls) {
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
        // SAFETY: the reset register as ACPI gives it, then the PC's own ones: CF9h, the keyboard controller's pulse.
        unsafe {
            match controls.reset {
                Some((Register::Port(port), value)) => outb(port, value),
                Some((Register::Memory(address), value))
                    if host::map(address, 1, Mapping::DEVICE).is_ok() =>
                {
                    (address as *mut u8).write_volatile(value);
                }
                _ => {}
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
}

#[cfg(test)]
mod tests {
    use super::find_s5;

    #[test]
    fn s5_is_found_in_every_encoding() {
        let qemu = b"..\x08_S3_\x12\x06\x04\x01\x01\x00\x00\x08_S5_\x12\x06\x04\x00\x00\x00\x00";
        assert_eq!(find_s5(qemu), Some([0, 0]));
        assert_eq!(find_s5(b"\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x07\x00\x00"), Some([5, 7]));
        assert_eq!(find_s5(b"\x08_S5_\x12\x47\x01\x04\x0a\x05\x01"), Some([5, 1]));
        assert_eq!(find_s5(b"\x08_S5_\x12\x0a\x04\x0b\x05\x00\x0b\x07\x00"), Some([5, 7]));
    }

    #[test]
    fn broken_aml_is_survived() {
        let whole = b"_S5_\x12\xc0\x04\x0a\x05\x0a\x07";
        for length in 0..whole.len() {
            find_s5(&whole[..length]);
        }
        assert_eq!(find_s5(b"_S5_\x12\x0a\x04\xff"), None);
        assert_eq!(find_s5(b"S5_\x12\x06\x04\x00\x00"), None);
    }
}
