//! The PIIX3 (82371SB) PCI to ISA bridge: routing of PCI interrupts to ISA lines, and the reset
//! control port CF9h.

use super::config::CommandStatus;
use super::{ConfigEffect, ConfigSpace, Identity, PciFunction, PciRegion, ResetKind, SystemPower};
use crate::bus::{Access, PioDevice, Region};
use crate::irq::{IrqLine, LineTarget};
use crate::lock::DeviceLock;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitfield_struct::bitfield;
use spec::{PirqRoute, ResetControl};

/// Registers of the 82371SB datasheet (Intel 290550).
pub mod spec {
    use super::bitfield;

    /// Vendor 8086h, device 7000h.
    pub const DEVICE: u16 = 0x7000;
    /// PIRQ route control for PIRQA to PIRQD, 60h to 63h (section 2.2.9).
    pub const PIRQ_ROUTE: u8 = 0x60;
    /// Reset control (section 2.5.4.1).
    pub const RESET_CONTROL_PORT: u64 = 0xcf9;

    /// PIRQ route control.
    #[bitfield(u8)]
    pub struct PirqRoute {
        /// The ISA interrupt.
        #[bits(4)]
        pub irq: u8,
        #[bits(3)]
        __: u8,
        /// Not routed to the 8259s.
        pub disabled: bool,
    }

    /// Reset control.
    #[bitfield(u8)]
    pub struct ResetControl {
        __: bool,
        /// The reset to come is a hard one.
        pub hard: bool,
        /// A 1 that is written resets; it is never read as 1.
        pub reset: bool,
        /// A hard reset to come is a cycle of the power. The 82371SB has no such bit, the bridges
        /// from the 82801 (ICH) on have it: systems that want a cold start set it on all
        /// of them.
        pub full: bool,
        #[bits(4)]
        __: u8,
    }
}

/// How many ISA interrupts there are.
pub const ISA_IRQS: usize = 16;
const PIRQS: usize = 4;

#[derive(Clone, Debug)]
struct State {
    config: ConfigSpace,
    /// For each PIRQ, a bit for each device that asserts it.
    asserted: [u32; PIRQS],
    reset_control: ResetControl,
}

/// The ISA bridge, function 0 of a device with more functions.
pub struct Piix3 {
    state: DeviceLock<State>,
    isa_lines: [IrqLine; ISA_IRQS],
    power: Arc<dyn SystemPower>,
}

impl Piix3 {
    /// A bridge that drives `isa_lines` on behalf of PCI functions and resets through `power`. A
    /// line that another device drives too must be shared ([`crate::shared_line::SharedLine`]).
    pub fn new(isa_lines: [IrqLine; ISA_IRQS], power: Arc<dyn SystemPower>) -> Arc<Self> {
        let identity = Identity {
            vendor: 0x8086,
            device: spec::DEVICE,
            revision: 0,
            class: 0x06_01_00,
            subsystem: 0x1100_1af4,
        };
        let command = CommandStatus::new()
            .with_io(true)
            .with_memory(true)
            .with_bus_master(true)
            .with_devsel(1);
        let mut config =
            ConfigSpace::new(identity).with_multifunction().with_command_status(command);
        // I/O recovery and X-bus chip select; PIRQs unrouted; top of memory; motherboard devices;
        // power management.
        config.define(0x4c, 0x0003_004d, u32::MAX);
        config.define(spec::PIRQ_ROUTE, 0x8080_8080, 0x8f8f_8f8f);
        config.define(0x68, 0x0000_0200, 0x0000_ff00);
        config.define(0x70, 0x0000_0080, 0x0000_00ef);
        config.define(0x74, 0x0c0c_0000, 0x8f8f_0000);
        config.define(0x78, 0x0000_0002, 0x0000_ffff);
        config.define(0xa0, 0x0000_0008, 0x00ff_00ff);
        let state = State { config, asserted: [0; PIRQS], reset_control: ResetControl::new() };
        Arc::new(Self { state: DeviceLock::new(state), isa_lines, power })
    }

    /// The wire of interrupt pin `pin` (1 for INTA to 4 for INTD) of PCI device `device` (0 to 31).
    pub fn interrupt_pin(self: &Arc<Self>, device: u8, pin: u8) -> IrqLine {
        assert!(device < 32 && (1..=4).contains(&pin), "no such PCI interrupt pin");
        IrqLine::new(self.clone(), u32::from(device) << 2 | u32::from(pin - 1))
    }

    fn drive(&self, state: &State) {
        let mut levels = [false; ISA_IRQS];
        for (pirq, asserted) in (0u8..).zip(state.asserted) {
            let route = PirqRoute::from(state.config.byte(spec::PIRQ_ROUTE + pirq));
            levels[usize::from(route.irq())] |= asserted != 0 && !route.disabled();
        }
        for (line, level) in self.isa_lines.iter().zip(levels) {
            line.set(level);
        }
    }
}

impl LineTarget for Piix3 {
    fn set_line(&self, input: u32, high: bool) {
        let (device, pin) = (input >> 2 & 31, input & 3);
        // Each slot's pins are rotated by one against its neighbour's; the host bridge's device 0
        // counts as -1.
        let pirq = (pin + device + 3) as usize % PIRQS;
        let mut state = self.state.lock();
        let bit = 1 << device;
        let asserted = &mut state.asserted[pirq];
        *asserted = if high { *asserted | bit } else { *asserted & !bit };
        self.drive(&state);
    }
}

impl PciFunction for Piix3 {
    fn config_read(&self, register: u8) -> u32 {
        self.state.lock().config.read(register)
    }

    fn config_write(&self, register: u8, value: u32, mask: u32) -> ConfigEffect {
        let mut state = self.state.lock();
        let effect = state.config.write(register, value, mask);
        if register == spec::PIRQ_ROUTE {
            self.drive(&state);
        }
        effect
    }

    fn regions(&self) -> Vec<PciRegion> {
        Vec::new()
    }
}

impl PioDevice for Piix3 {
    fn ports(&self) -> Vec<Region> {
        [Region::new(0, spec::RESET_CONTROL_PORT, 1)].into()
    }

    fn pio_read(&self, _access: Access) -> Option<u32> {
        Some(u8::from(self.state.lock().reset_control).into())
    }

    fn pio_write(&self, _access: Access, value: u32) {
        let control = ResetControl::from(value as u8);
        self.state.lock().reset_control =
            ResetControl::new().with_hard(control.hard()).with_full(control.full());
        if control.reset() {
            self.power.reset(match (control.hard(), control.full()) {
                (false, _) => ResetKind::Soft,
                (true, false) => ResetKind::Hard,
                (true, true) => ResetKind::Full,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::LineProbe;
    use crate::pci::power_probe::PowerProbe;
    use alloc::vec;
    use proptest::prelude::*;

    fn bridge() -> (Arc<Piix3>, [Arc<LineProbe>; ISA_IRQS], Arc<PowerProbe>) {
        let wired = [(); ISA_IRQS].map(|()| LineProbe::wired());
        let probes = core::array::from_fn(|irq| wired[irq].0.clone());
        let power = Arc::new(PowerProbe::default());
        (Piix3::new(wired.map(|(_, line)| line), power.clone()), probes, power)
    }

    fn route(bridge: &Piix3, pirq: u8, value: u8) {
        let shift = u32::from(pirq) * 8;
        let _ = bridge.config_write(spec::PIRQ_ROUTE, u32::from(value) << shift, 0xff << shift);
    }

    #[test]
    fn pins_reach_isa_lines_as_seabios_routes_them() {
        let (bridge, probes, _) = bridge();
        for (pirq, irq) in [(0, 10), (1, 10), (2, 11), (3, 11)] {
            route(&bridge, pirq, irq);
        }
        // INTA of device 3 is PIRQC; INTA of device 4 is PIRQD; both lead to 11.
        let (third, fourth) = (bridge.interrupt_pin(3, 1), bridge.interrupt_pin(4, 1));
        third.set(true);
        fourth.set(true);
        third.set(false);
        assert!(probes[11].is_high());
        assert!(!probes[10].is_high());
        route(&bridge, 3, 0x80);
        assert!(!probes[11].is_high());
        route(&bridge, 3, 5);
        assert!(probes[5].is_high());
        fourth.set(false);
        assert!(!probes[5].is_high());
    }

    #[test]
    fn reset_control_resets_as_far_as_it_says_and_keeps_its_type() {
        let (bridge, _, power) = bridge();
        let write = |value| {
            bridge.pio_write(Access::new(0, 1), value);
            (power.take_resets(), bridge.pio_read(Access::new(0, 1)))
        };
        assert_eq!(write(0x02), (vec![], Some(2)));
        assert_eq!(write(0x06), (vec![ResetKind::Hard], Some(2)));
        assert_eq!(write(0x04), (vec![ResetKind::Soft], Some(0)));
        assert_eq!(write(0x0c), (vec![ResetKind::Soft], Some(8)), "no cycle of the power");
        assert_eq!(write(0xff), (vec![ResetKind::Full], Some(0x0a)));
    }

    proptest! {
        #[test]
        fn a_line_is_high_exactly_while_a_routed_pin_is(
            steps in prop::collection::vec((0u8..32, 1u8..5, any::<bool>(), 0u8..4, any::<u8>()), 0..40)
        ) {
            let (bridge, probes, _) = bridge();
            let mut pins = alloc::collections::BTreeMap::new();
            let mut routes = [0x80u8; 4];
            for (device, pin, high, pirq, value) in steps {
                pins.entry((device, pin)).or_insert_with(|| (bridge.interrupt_pin(device, pin), false)).1 = high;
                pins[&(device, pin)].0.set(high);
                routes[usize::from(pirq)] = value & 0x8f;
                route(&bridge, pirq, value);
                for (irq, probe) in probes.iter().enumerate() {
                    let expected = pins.iter().any(|(&(device, pin), &(_, high))| {
                        let pirq = (usize::from(device) + usize::from(pin - 1) + 3) % 4;
                        high && usize::from(routes[pirq]) == irq
                    });
                    prop_assert_eq!(probe.is_high(), expected);
                }
            }
        }
    }
}
