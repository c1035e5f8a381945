//! The wires of the PC's chipset.

use super::{Stop, StopSwitch};
use crate::vm::memory::GuestSpace;
use alloc::sync::Arc;
use devices::hpet::LegacyRoute;
use devices::io_apic::IoApic;
use devices::irq::{IrqLine, LineTarget};
use devices::local_apic::ApicBus;
use devices::pci::{ResetKind, SystemPower};
use devices::pic::Pic;
use devices::shared_line::SharedLine;
use devices::system_control::SystemControl;

const ISA_IRQS: usize = 16;
/// The timer is wired to input 2 of the I/O APIC, as the MADT says.
const TIMER_IRQ: u32 = 0;
const TIMER_IO_APIC_INPUT: u32 = 2;

/// The driver of an ISA interrupt.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum IsaSource {
    /// The ISA device that owns it.
    Device = 0,
    /// The PIIX3, for PCI interrupts.
    Pirq = 1,
    /// The PIIX4's system control interrupt.
    Sci = 2,
    /// COM3 and COM4, which share with COM1 and COM2.
    SecondDevice = 3,
    /// Events of the PV-on-HVM platform.
    Pv = 4,
}

impl IsaSource {
    /// That of serial port `number`, from 0.
    pub const fn com(number: usize) -> Self {
        if number < 2 { Self::Device } else { Self::SecondDevice }
    }
}

/// The sixteen ISA interrupts.
pub struct IsaLines([Arc<SharedLine>; ISA_IRQS]);

impl IsaLines {
    /// Lines that lead to both interrupt controllers.
    pub fn new(pic: &Arc<Pic>, io_apic: &Arc<IoApic>) -> Self {
        Self(core::array::from_fn(|irq| {
            let irq = irq as u32;
            let input = if irq == TIMER_IRQ { TIMER_IO_APIC_INPUT } else { irq };
            SharedLine::new([(pic.clone() as Arc<dyn LineTarget>, irq), (io_apic.clone(), input)])
        }))
    }

    /// The wire of one source to interrupt `irq` (0 to 15).
    pub fn wire(&self, irq: usize, source: IsaSource) -> IrqLine {
        self.0[irq].source(source as u32)
    }

    /// The wires of one source to all of them.
    pub fn all(&self, source: IsaSource) -> [IrqLine; ISA_IRQS] {
        core::array::from_fn(|irq| self.wire(irq, source))
    }
}

/// The system timer's interrupt, IRQ 0, on its way through either controller.
pub struct SystemTimer {
    /// Where PIT or HPET drive it.
    pub route: Arc<LegacyRoute>,
    /// The controller that does not say which input an interrupt came from.
    pub io_apic: Arc<IoApic>,
}

impl SystemTimer {
    /// A virtual CPU has taken `level` of the 8259 pair.
    pub fn taken_from_pic(&self, level: Option<u8>) {
        if level.map(u32::from) == Some(TIMER_IRQ) && self.route.is_watching() {
            self.route.irq0_taken();
        }
    }

    /// The vector by which it reaches a local APIC, while [`SystemTimer::taken_from_apic`] is to be
    /// called for it.
    pub fn watched_vector(&self) -> Option<u8> {
        if self.route.is_watching() {
            self.io_apic.edge_vector(TIMER_IO_APIC_INPUT as usize)
        } else {
            None
        }
    }

    /// A virtual CPU has taken `vector` of its local APIC.
    pub fn taken_from_apic(&self, vector: u8) {
        if self.watched_vector() == Some(vector) {
            self.route.irq0_taken();
        }
    }
}

/// A20 gate, reset and power: the wires that reach beyond the devices.
pub struct Chipset {
    /// The memory that the A20 gate is before.
    pub space: Arc<GuestSpace>,
    /// The processors, whose INIT# it drives.
    pub processors: Arc<ApicBus>,
    /// The switch that resets and powers off.
    pub stop: Arc<StopSwitch>,
}

impl SystemControl for Chipset {
    fn set_a20(&self, enabled: bool) {
        if self.space.set_a20(enabled).is_err() {
            log::error!("no memory to move the A20 gate: the guest is stopped");
            self.stop.request(Stop::Crash);
        }
    }

    fn a20(&self) -> bool {
        self.space.a20()
    }

    fn init(&self) {
        // Behind a closed gate no processor finds the reset vector. Its drivers still show what
        // they last had.
        self.set_a20(true);
        self.processors.init_processors();
    }
}

impl SystemPower for Chipset {
    fn reset(&self, kind: ResetKind) {
        match kind {
            ResetKind::Soft => self.init(),
            ResetKind::Hard => self.stop.request(Stop::Reset),
            ResetKind::Full => self.stop.request(Stop::PowerCycle),
        }
    }

    fn power_off(&self) {
        self.stop.request(Stop::PowerOff);
    }
}
