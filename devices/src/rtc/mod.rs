//! The MC146818 real-time clock with its CMOS memory, ports 70h to 73h.

mod battery;
mod calendar;
mod clockwork;
mod contents;
mod spec;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::bus::{Access, PioDevice, Region};
use crate::irq::IrqLine;
use crate::lock::DeviceLock;
use crate::time::{Alarm, Clock, GuestTime, Timed};
pub use battery::Battery;
use clockwork::Clockwork;
pub use contents::{BootDevice, CmosContents};
use spec::{
    CENTURY, Index, PORT_BASE, PORT_COUNT, REGISTER_A, REGISTER_B, REGISTER_C, REGISTER_D,
    RegisterD, YEAR,
};

/// The volatile state.
#[derive(Clone, Debug)]
struct State {
    index: Index,
    extended_index: Index,
    kept: Battery,
}

/// The real-time clock.
pub struct Rtc {
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    irq8: IrqLine,
    state: DeviceLock<State>,
}

impl Rtc {
    /// A clock that goes on with what `battery` has kept, except that the machine describes itself
    /// anew by `contents`. `irq8` follows IRQF: it stays high until the guest reads register C.
    pub fn new(
        clock: Arc<dyn Clock>,
        alarm: Alarm,
        irq8: IrqLine,
        mut battery: Battery,
        contents: &CmosContents,
    ) -> Self {
        battery.clockwork.shift_ns(clock.now().as_ns() as i64);
        contents.write_to(&mut battery.cmos);
        let state = State { index: Index::new(), extended_index: Index::new(), kept: battery };
        Self { clock, alarm, irq8, state: DeviceLock::new(state) }
    }

    /// The state that outlives this machine, as a reset leaves it.
    pub fn battery(&self) -> Battery {
        let now = self.clock.now();
        let mut battery = self.state.lock().kept.clone();
        battery.clockwork.settle(now);
        battery.clockwork.reset();
        battery.clockwork.shift_ns(-(now.as_ns() as i64));
        battery
    }

    /// True if the guest has masked NMI (bit 7 of port 70h).
    pub fn is_nmi_masked(&self) -> bool {
        self.state.lock().index.nmi_masked()
    }

    /// Brings wire and alarm in line with the clockwork.
    fn drive(&self, clockwork: &Clockwork) {
        self.irq8.set(clockwork.interrupt());
        self.alarm.set(clockwork.next_interrupt());
    }

    fn read_byte(&self, state: &mut State, index: u8) -> u8 {
        let clockwork = &mut state.kept.clockwork;
        match index {
            0..=YEAR | CENTURY => clockwork.read_time(index, self.clock.now()).unwrap_or(0xff),
            REGISTER_A => clockwork.read_a(self.clock.now()),
            REGISTER_B => clockwork.read_b(),
            REGISTER_C => {
                clockwork.settle(self.clock.now());
                let flags = clockwork.take_flags();
                self.drive(clockwork);
                flags
            }
            REGISTER_D => RegisterD::new().with_valid(true).into(),
            _ => state.kept.cmos.get(usize::from(index)).copied().unwrap_or(0xff),
        }
    }

    fn write_byte(&self, state: &mut State, index: u8, value: u8) {
        let now = self.clock.now();
        let clockwork = &mut state.kept.clockwork;
        match index {
            0..=REGISTER_B | CENTURY => {
                clockwork.settle(now);
                match index {
                    REGISTER_A => clockwork.write_a(value, now),
                    REGISTER_B => clockwork.write_b(value, now),
                    _ => clockwork.write_time(index, value, now),
                }
                self.drive(clockwork);
            }
            REGISTER_C | REGISTER_D => {}
            _ => {
                if let Some(byte) = state.kept.cmos.get_mut(usize::from(index)) {
                    *byte = value;
                }
            }
        }
    }

    fn read(&self, state: &mut State, offset: u64) -> Option<u8> {
        match offset {
            1 => Some(self.read_byte(state, state.index.byte())),
            3 => state.kept.extended.get(usize::from(state.extended_index.byte())).copied(),
            // The index ports are write only.
            _ => None,
        }
    }

    fn write(&self, state: &mut State, offset: u64, value: u8) {
        match offset {
            0 => state.index = Index::from(value),
            1 => self.write_byte(state, state.index.byte(), value),
            2 => state.extended_index = Index::from(value),
            3 => {
                if let Some(byte) =
                    state.kept.extended.get_mut(usize::from(state.extended_index.byte()))
                {
                    *byte = value;
                }
            }
            _ => {}
        }
    }
}

impl PioDevice for Rtc {
    fn ports(&self) -> Vec<Region> {
        vec![Region::new(0, PORT_BASE, PORT_COUNT)]
    }

    /// Wider accesses are split into bytes at consecutive ports, as the ISA bridge does it.
    fn pio_read(&self, access: Access) -> Option<u32> {
        let mut state = self.state.lock();
        let mut bytes = [0xff; 4];
        let mut decoded = false;
        for (offset, byte) in (access.offset..).zip(&mut bytes).take(usize::from(access.size_bytes))
        {
            if let Some(value) = self.read(&mut state, offset) {
                *byte = value;
                decoded = true;
            }
        }
        decoded.then_some(u32::from_le_bytes(bytes))
    }

    fn pio_write(&self, access: Access, value: u32) {
        let mut state = self.state.lock();
        for (offset, byte) in
            (access.offset..).zip(value.to_le_bytes()).take(usize::from(access.size_bytes))
        {
            self.write(&mut state, offset, byte);
        }
    }
}

impl Timed for Rtc {
    fn expired(&self, now: GuestTime) {
        let mut state = self.state.lock();
        state.kept.clockwork.settle_late(now);
        self.drive(&state.kept.clockwork);
    }
}
