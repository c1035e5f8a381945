//! System control port A, I/O port 92h: fast A20 and reset (PS/2 model 50/60 technical reference; PIIX datasheet,
//! section "Port 92").

use crate::bus::{Access, PioDevice, Region};
use crate::system_control::SystemControl;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitfield_struct::bitfield;

#[bitfield(u8)]
struct Control {
    /// A change from 0 to 1 resets the machine.
    reset: bool,
    a20: bool,
    #[bits(6)]
    __: u8,
}

/// Port 92h.
pub struct Port92 {
    system: Arc<dyn SystemControl>,
}

impl Port92 {
    /// The port, wired to the gate that the keyboard controller drives too.
    pub fn new(system: Arc<dyn SystemControl>) -> Self {
        Self { system }
    }
}

impl PioDevice for Port92 {
    fn ports(&self) -> Vec<Region> {
        alloc::vec![Region::new(0, 0x92, 1)]
    }

    fn pio_read(&self, _access: Access) -> Option<u32> {
        Some(Control::new().with_a20(self.system.a20()).into_bits().into())
    }

    fn pio_write(&self, _access: Access, value: u32) {
        let control = Control::from_bits(value as u8);
        self.system.set_a20(control.a20());
        // The bit never stays set, since its rising edge resets the machine: each one written is an edge.
        if control.reset() {
            self.system.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_control::SystemProbe;

    #[test]
    fn gate_and_reset() {
        let system = Arc::new(SystemProbe::default());
        let port = Port92::new(system.clone());
        let access = Access::new(0, 1);
        port.pio_write(access, 2);
        assert!(system.a20());
        assert_eq!(port.pio_read(access), Some(2));
        assert_eq!(system.take_resets(), 0);
        port.pio_write(access, 1);
        assert!(!system.a20());
        assert_eq!(system.take_resets(), 1);
    }
}
