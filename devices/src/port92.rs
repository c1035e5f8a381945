//! System control port A, I/O port 92h: fast A20 and fast INIT (PS/2 model 50/60 technical
//! reference; 82371SB datasheet, Intel 290550, section "Port 92").

use crate::bus::{Access, PioDevice, Region};
use crate::system_control::SystemControl;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitfield_struct::bitfield;
use core::sync::atomic::{AtomicBool, Ordering};

#[bitfield(u8)]
struct Control {
    /// A change from 0 to 1 pulses INIT#; it has to be written back to 0 before the next.
    fast_init: bool,
    a20: bool,
    #[bits(6)]
    __: u8,
}

/// Port 92h.
pub struct Port92 {
    system: Arc<dyn SystemControl>,
    fast_init: AtomicBool,
}

impl Port92 {
    /// The port, wired to the gate that the keyboard controller drives too.
    pub fn new(system: Arc<dyn SystemControl>) -> Self {
        Self { system, fast_init: AtomicBool::new(false) }
    }
}

impl PioDevice for Port92 {
    fn ports(&self) -> Vec<Region> {
        alloc::vec![Region::new(0, 0x92, 1)]
    }

    fn pio_read(&self, _access: Access) -> Option<u32> {
        let control = Control::new()
            .with_fast_init(self.fast_init.load(Ordering::Relaxed))
            .with_a20(self.system.a20());
        Some(control.into_bits().into())
    }

    fn pio_write(&self, _access: Access, value: u32) {
        let control = Control::from_bits(value as u8);
        self.system.set_a20(control.a20());
        let was_high = self.fast_init.swap(control.fast_init(), Ordering::Relaxed);
        if control.fast_init() && !was_high {
            self.system.init();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_control::SystemProbe;

    const PORT: Access = Access::new(0, 1);

    fn port() -> (Arc<SystemProbe>, Port92) {
        let system = Arc::new(SystemProbe::default());
        (system.clone(), Port92::new(system))
    }

    #[test]
    fn gate() {
        let (system, port) = port();
        port.pio_write(PORT, 2);
        assert!(system.a20());
        assert_eq!(port.pio_read(PORT), Some(2));
        port.pio_write(PORT, 0);
        assert!(!system.a20());
        assert_eq!(system.take_inits(), 0);
    }

    #[test]
    fn init_comes_at_each_rising_edge_and_the_bit_stays_until_it_is_written_back() {
        let (system, port) = port();
        port.pio_write(PORT, 3);
        assert_eq!((system.take_inits(), port.pio_read(PORT)), (1, Some(3)));
        port.pio_write(PORT, 3);
        assert_eq!(system.take_inits(), 0, "no edge");
        port.pio_write(PORT, 2);
        port.pio_write(PORT, 3);
        assert_eq!(system.take_inits(), 1);
    }
}
