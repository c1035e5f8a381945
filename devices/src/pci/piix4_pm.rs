//! The PIIX4 (82371AB) power management function: ACPI fixed registers, PM timer, SMI command port,
//! and an SMBus host controller without anything on its bus.

use super::config::offset;
use super::{ConfigEffect, ConfigSpace, Identity, PciFunction, PciRegion, Space, SystemPower};
use crate::bus::{Access, PioDevice, Region};
use crate::irq::IrqLine;
use crate::lock::DeviceLock;
use crate::time::{Alarm, Clock, GuestTime, Timed, ticks_to_ns};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitfield_struct::bitfield;
use spec::{Pm1Control, Pm1Event, SmbusStatus};

/// Registers of the 82371AB datasheet (Intel 290562) and of the ACPI specification, chapter 4.8.
pub mod spec {
    use super::bitfield;

    /// Vendor 8086h, device 7113h.
    pub const DEVICE: u16 = 0x7113;
    /// Rate of the power management timer.
    pub const PM_TIMER_HZ: u64 = 3_579_545;
    /// Power management base address (section 7.1.10).
    pub const PMBASE: u8 = 0x40;
    /// Device resources and activity; byte 5Bh bit 1 is APMC_EN.
    pub const DEVACTB: u8 = 0x58;
    /// Bit 0: the ports at PMBASE are decoded.
    pub const PMREGMISC: u8 = 0x80;
    /// SMBus host base address.
    pub const SMBBA: u8 = 0x90;
    /// SMBus host configuration; bit 0: the ports at SMBBA are decoded.
    pub const SMBHSTCFG: u8 = 0xd2;
    /// Written to the SMI command port: SCI_EN on.
    pub const ACPI_ENABLE: u8 = 0xf1;
    /// Written to the SMI command port: SCI_EN off.
    pub const ACPI_DISABLE: u8 = 0xf0;
    /// SLP_TYP of soft off.
    pub const SLEEP_TYPE_S5: u8 = 0;

    /// PM1 status (low half, cleared by ones) and enable (high half) at offset 0.
    #[bitfield(u32)]
    pub struct Pm1Event {
        /// Bit 23 of the timer changed.
        pub timer: bool,
        #[bits(4)]
        __: u8,
        pub global: bool,
        #[bits(2)]
        __: u8,
        pub power_button: bool,
        pub sleep_button: bool,
        pub rtc: bool,
        #[bits(4)]
        __: u8,
        pub wake: bool,
        pub timer_enable: bool,
        #[bits(4)]
        __: u8,
        pub global_enable: bool,
        #[bits(2)]
        __: u8,
        pub power_button_enable: bool,
        pub sleep_button_enable: bool,
        pub rtc_enable: bool,
        #[bits(5)]
        __: u8,
    }

    /// PM1 control at offset 4.
    #[bitfield(u32)]
    pub struct Pm1Control {
        pub sci_enable: bool,
        pub bus_master_reload: bool,
        pub global_release: bool,
        #[bits(7)]
        __: u8,
        #[bits(3)]
        pub sleep_type: u8,
        /// Write only: enter the sleeping state.
        pub sleep_enable: bool,
        #[bits(18)]
        __: u32,
    }

    /// SMBus host status (section 7.3.1); cleared by ones.
    #[bitfield(u8)]
    pub struct SmbusStatus {
        pub busy: bool,
        pub interrupt: bool,
        /// No device answered.
        pub device_error: bool,
        pub collision: bool,
        pub failed: bool,
        #[bits(3)]
        __: u8,
    }
}

/// Regions, as numbered in accesses.
mod region {
    pub const PM: u8 = 0;
    pub const SMBUS: u8 = 1;
    pub const SMI: u8 = 2;
    pub const GPE: u8 = 3;
}

const PM_EVENT: u64 = 0;
const PM_CONTROL: u64 = 4;
const PM_TIMER: u64 = 8;
const PM_LENGTH: u64 = 64;
const SMBUS_LENGTH: u64 = 16;
const SMBUS_STATUS: usize = 0;
const SMBUS_CONTROL: usize = 2;
const SMBUS_START: u8 = 1 << 6;
/// The timer is 24 bits wide.
const TIMER_MASK: u32 = 0xff_ffff;
/// Its status bit is set each time that bit 23 changes.
const TIMER_HALF_PERIOD: u64 = 1 << 23;

#[derive(Clone, Debug)]
struct State {
    config: ConfigSpace,
    /// The timer's own status bit is not kept here: it follows from the time and
    /// `timer_status_tick`.
    event: Pm1Event,
    control: Pm1Control,
    /// The tick from which on the timer's status bit is set.
    timer_status_tick: u64,
    smi_command: u8,
    smi_status: u8,
    /// Status in the low half, enables in the high half.
    gpe: u32,
    smbus: [u8; SMBUS_LENGTH as usize],
}

impl State {
    fn event_at(&self, ticks: u64) -> Pm1Event {
        self.event.with_timer(ticks >= self.timer_status_tick)
    }

    fn sci_level(&self, ticks: u64) -> bool {
        let event = u32::from(self.event_at(ticks));
        self.control.sci_enable() && (event & event >> 16 | self.gpe & self.gpe >> 16) & 0xffff != 0
    }
}

/// Power management, usually function 3 of the device whose function 0 is the ISA bridge.
pub struct Piix4Pm {
    state: DeviceLock<State>,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    sci: IrqLine,
    power: Arc<dyn SystemPower>,
}

impl Piix4Pm {
    /// A power management function that raises `sci` (ISA interrupt 9, level-triggered, shared with
    /// PCI interrupts) and switches off through `power`.
    pub fn new(
        clock: Arc<dyn Clock>,
        alarm: Alarm,
        sci: IrqLine,
        power: Arc<dyn SystemPower>,
    ) -> Self {
        let identity = Identity {
            vendor: 0x8086,
            device: spec::DEVICE,
            revision: 3,
            class: 0x06_80_00,
            subsystem: 0x1100_1af4,
        };
        let mut config = ConfigSpace::new(identity).with_interrupt_pin(1);
        config.define(spec::PMBASE, 1, 0xffc0);
        // APMC_EN is set from the start: firmware takes it that system management mode is set up,
        // and leaves it alone.
        config.define(spec::DEVACTB, 0x0200_0000, u32::MAX);
        // Which serial and parallel ports there are: both serial ones.
        config.define(0x5c, 0x1000_0000, u32::MAX);
        config.define(0x60, 0x6000_0000, u32::MAX);
        config.define(0x64, 0x9800_0000, u32::MAX);
        config.define(spec::PMREGMISC, 0, 1);
        config.define(spec::SMBBA, 1, 0xfff0);
        config.define(spec::SMBHSTCFG & 0xfc, 0, 0x000f_0000);
        let state = State {
            config,
            event: Pm1Event::new(),
            control: Pm1Control::new(),
            timer_status_tick: TIMER_HALF_PERIOD,
            smi_command: 0,
            smi_status: 0,
            gpe: 0,
            smbus: [0; SMBUS_LENGTH as usize],
        };
        Self { state: DeviceLock::new(state), clock, alarm, sci, power }
    }

    /// Presses the guest's power button.
    pub fn press_power_button(&self) {
        self.raise(Pm1Event::new().with_power_button(true));
    }

    /// Presses its sleep button. The PIIX4 has none: it is where the ACPI specification has it
    /// (4.8.2.2.2), as in Xen's machines.
    pub fn press_sleep_button(&self) {
        self.raise(Pm1Event::new().with_sleep_button(true));
    }

    /// Sets a status bit of the general-purpose events, 0 to 15.
    pub fn raise_general_event(&self, bit: u8) {
        let mut state = self.state.lock();
        state.gpe |= 1 << (bit & 15);
        self.update_sci(&state);
    }

    fn raise(&self, status: Pm1Event) {
        let mut state = self.state.lock();
        state.event = (u32::from(state.event) | u32::from(status)).into();
        self.update_sci(&state);
    }

    fn ticks(&self) -> u64 {
        pm_ticks(self.clock.now())
    }

    fn update_sci(&self, state: &State) {
        let ticks = self.ticks();
        self.sci.set(state.sci_level(ticks));
        let waits = state.control.sci_enable()
            && state.event.timer_enable()
            && ticks < state.timer_status_tick;
        self.alarm.set(
            waits.then(|| {
                GuestTime::from_ns(ticks_to_ns(state.timer_status_tick, spec::PM_TIMER_HZ))
            }),
        );
    }

    fn pm_read(&self, register: u64) -> u32 {
        let state = self.state.lock();
        match register {
            PM_EVENT => state.event_at(self.ticks()).into(),
            PM_CONTROL => state.control.into(),
            _ => 0,
        }
    }

    fn pm_write(&self, register: u64, value: u32, mask: u32) {
        let mut state = self.state.lock();
        let mut off = false;
        match register {
            PM_EVENT => self.write_event(&mut state, value & mask, mask),
            PM_CONTROL => {
                let written = Pm1Control::from(u32::from(state.control) & !mask | value & mask);
                state.control = written.with_sleep_enable(false).with_global_release(false);
                off = written.sleep_enable() && written.sleep_type() == spec::SLEEP_TYPE_S5;
            }
            _ => {}
        }
        self.update_sci(&state);
        drop(state);
        if off {
            self.power.power_off();
        }
    }

    fn write_event(&self, state: &mut State, value: u32, mask: u32) {
        const ENABLES: u32 = Pm1Event::new()
            .with_timer_enable(true)
            .with_global_enable(true)
            .with_power_button_enable(true)
            .with_sleep_button_enable(true)
            .with_rtc_enable(true)
            .into_bits();
        if Pm1Event::from(value).timer() {
            let ticks = self.ticks();
            if ticks >= state.timer_status_tick {
                state.timer_status_tick = (ticks + TIMER_HALF_PERIOD) & !(TIMER_HALF_PERIOD - 1);
            }
        }
        let old = u32::from(state.event);
        let status = old & 0xffff & !value;
        let enables = (old & !mask | value & mask) & ENABLES;
        state.event = (status | enables).into();
    }

    fn smi_write(&self, offset: u64, value: u8) {
        let mut state = self.state.lock();
        if offset != 0 {
            state.smi_status = value;
            return;
        }
        state.smi_command = value;
        match value {
            spec::ACPI_ENABLE => state.control.set_sci_enable(true),
            spec::ACPI_DISABLE => state.control.set_sci_enable(false),
            _ => {}
        }
        self.update_sci(&state);
    }

    fn smbus_write(&self, offset: u64, value: u8) {
        let mut state = self.state.lock();
        let Some(register) = state.smbus.get_mut(offset as usize) else { return };
        if offset as usize == SMBUS_STATUS {
            *register &= !value;
            return;
        }
        *register = value;
        if offset as usize == SMBUS_CONTROL && value & SMBUS_START != 0 {
            *register &= !SMBUS_START;
            // No device answers on this bus.
            state.smbus[SMBUS_STATUS] |= u8::from(SmbusStatus::new().with_device_error(true));
        }
    }
}

/// The power management timer's count at `now`, before it is cut to 24 bits: exact, and without a
/// 128-bit division.
const fn pm_ticks(now: GuestTime) -> u64 {
    const SECOND_NS: u64 = 1_000_000_000;
    let ns = now.as_ns();
    (ns / SECOND_NS)
        .wrapping_mul(spec::PM_TIMER_HZ)
        .wrapping_add(ns % SECOND_NS * spec::PM_TIMER_HZ / SECOND_NS)
}

impl PciFunction for Piix4Pm {
    fn config_read(&self, register: u8) -> u32 {
        self.state.lock().config.read(register)
    }

    fn config_write(&self, register: u8, value: u32, mask: u32) -> ConfigEffect {
        let mut state = self.state.lock();
        let effect = state.config.write(register, value, mask);
        let moves = matches!(register, spec::PMBASE | spec::PMREGMISC | spec::SMBBA | 0xd0);
        if moves || register == offset::COMMAND_STATUS { ConfigEffect::Map } else { effect }
    }

    fn regions(&self) -> Vec<PciRegion> {
        let state = self.state.lock();
        let mut regions = Vec::new();
        let mut decode = |number, base: u32, length, enabled: bool| {
            if enabled && base != 0 {
                regions.push(PciRegion {
                    space: Space::Pio,
                    region: Region::new(number, base.into(), length),
                });
            }
        };
        let config = &state.config;
        decode(
            region::PM,
            config.read(spec::PMBASE) & 0xffc0,
            PM_LENGTH,
            config.byte(spec::PMREGMISC) & 1 != 0,
        );
        decode(
            region::SMBUS,
            config.read(spec::SMBBA) & 0xfff0,
            SMBUS_LENGTH,
            config.byte(spec::SMBHSTCFG) & 1 != 0,
        );
        regions
    }
}

impl PioDevice for Piix4Pm {
    /// The ports that do not move: SMI command and status, and the general purpose events.
    fn ports(&self) -> Vec<Region> {
        [Region::new(region::SMI, 0xb2, 2), Region::new(region::GPE, 0xafe0, 4)].into()
    }

    fn pio_read(&self, access: Access) -> Option<u32> {
        let shift = (access.offset as u32 & 3) * 8;
        match access.region {
            region::PM if access.offset & !3 == PM_TIMER => {
                Some((self.ticks() as u32 & TIMER_MASK) >> shift)
            }
            region::PM => Some(self.pm_read(access.offset & !3) >> shift),
            region::GPE => Some(self.state.lock().gpe >> shift),
            region::SMI if access.offset == 0 => {
                let state = self.state.lock();
                Some(u32::from(state.smi_status) << 8 | u32::from(state.smi_command))
            }
            region::SMI => Some(self.state.lock().smi_status.into()),
            region::SMBUS => {
                self.state.lock().smbus.get(access.offset as usize).map(|&byte| byte.into())
            }
            _ => None,
        }
    }

    fn pio_write(&self, access: Access, value: u32) {
        let shift = (access.offset as u32 & 3) * 8;
        let mask = (access.mask() as u32) << shift;
        match access.region {
            region::PM => self.pm_write(access.offset & !3, value << shift, mask),
            region::GPE => {
                let mut state = self.state.lock();
                let value = value << shift & mask;
                state.gpe = state.gpe & 0xffff & !value | (state.gpe & !mask | value) & 0xffff_0000;
                self.update_sci(&state);
            }
            region::SMI => self.smi_write(access.offset, value as u8),
            region::SMBUS => self.smbus_write(access.offset, value as u8),
            _ => {}
        }
    }
}

impl Timed for Piix4Pm {
    fn expired(&self, _now: GuestTime) {
        self.update_sci(&self.state.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::LineProbe;
    use crate::pci::power_probe::PowerProbe;
    use crate::time::{Deadlines, TestClock, ns_to_ticks};
    use proptest::prelude::*;

    struct Bench {
        pm: Piix4Pm,
        clock: Arc<TestClock>,
        deadlines: Arc<Deadlines>,
        sci: Arc<LineProbe>,
        power: Arc<PowerProbe>,
    }

    fn bench() -> Bench {
        let clock = TestClock::new();
        let deadlines = Deadlines::new(1);
        let (sci, line) = LineProbe::wired();
        let power = Arc::new(PowerProbe::default());
        let pm = Piix4Pm::new(clock.clone(), deadlines.alarm(0), line, power.clone());
        Bench { pm, clock, deadlines, sci, power }
    }

    const fn at(region: u8, offset: u64, size_bytes: u8) -> Access {
        Access { region, offset, size_bytes }
    }

    fn is_acpi_enabled(pm: &Piix4Pm) -> bool {
        pm.state.lock().control.sci_enable()
    }

    #[test]
    fn firmware_moves_the_ports() {
        let Bench { pm, .. } = bench();
        assert!(pm.regions().is_empty());
        assert_eq!(pm.config_write(0x40, 0x601, u32::MAX), ConfigEffect::Map);
        assert_eq!(pm.config_write(0x80, 1, 0xff), ConfigEffect::Map);
        let _ = pm.config_write(0x90, 0x701, u32::MAX);
        let _ = pm.config_write(0xd0, 0x0009_0000, 0x00ff_0000);
        let bases: Vec<_> =
            pm.regions().iter().map(|mapped| (mapped.region.number, mapped.region.base)).collect();
        assert_eq!(bases, [(region::PM, 0x600), (region::SMBUS, 0x700)]);
        assert_eq!(pm.config_read(0x40), 0x601);
    }

    #[test]
    fn acpi_is_switched_on_and_the_power_button_interrupts() {
        let Bench { pm, sci, .. } = bench();
        pm.press_power_button();
        assert!(!sci.is_high());
        pm.pio_write(at(region::SMI, 0, 1), 0xf1);
        assert_eq!(pm.pio_read(at(region::PM, 4, 2)), Some(1));
        pm.pio_write(at(region::PM, 2, 2), 0x0120);
        assert!(sci.is_high());
        assert_eq!(pm.pio_read(at(region::PM, 0, 2)).map(|value| value as u16), Some(0x0100));
        pm.pio_write(at(region::PM, 0, 2), 0x0100);
        assert!(!sci.is_high());
        assert_eq!(pm.pio_read(at(region::PM, 2, 2)), Some(0x0120));
        pm.pio_write(at(region::SMI, 0, 1), 0xf0);
        assert!(!is_acpi_enabled(&pm));
    }

    #[test]
    fn the_sleep_button_is_an_event_of_its_own() {
        let Bench { pm, sci, .. } = bench();
        pm.pio_write(at(region::SMI, 0, 1), 0xf1);
        pm.pio_write(at(region::PM, 2, 2), 0x0100);
        pm.press_sleep_button();
        assert!(!sci.is_high(), "it is not enabled");
        pm.pio_write(at(region::PM, 2, 2), 0x0300);
        assert!(sci.is_high());
        pm.pio_write(at(region::PM, 0, 2), 0x0100);
        assert_eq!(pm.pio_read(at(region::PM, 0, 2)).map(|value| value as u16), Some(0x0200));
        pm.pio_write(at(region::PM, 0, 2), 0x0200);
        assert!(!sci.is_high());
    }

    #[test]
    fn soft_off_needs_the_enable_bit() {
        let Bench { pm, power, .. } = bench();
        pm.pio_write(at(region::PM, 4, 2), 0x0001);
        pm.pio_write(at(region::PM, 4, 2), 0x2401);
        assert_eq!(power.power_offs(), 0);
        pm.pio_write(at(region::PM, 4, 2), 0x2001);
        assert_eq!(power.power_offs(), 1);
        assert_eq!(pm.pio_read(at(region::PM, 4, 2)), Some(1));
    }

    #[test]
    fn the_timer_is_exact_and_its_overflow_interrupts_once() {
        let Bench { pm, clock, deadlines, sci, .. } = bench();
        let second_ns = 1_000_000_000;
        clock.advance_ns(second_ns);
        assert_eq!(pm.pio_read(at(region::PM, 8, 4)), Some(3_579_545));
        pm.pio_write(at(region::SMI, 0, 1), 0xf1);
        pm.pio_write(at(region::PM, 2, 2), 1);
        let due = deadlines.earliest().expect("an armed alarm");
        assert_eq!(ns_to_ticks(due.as_ns(), spec::PM_TIMER_HZ), 1 << 23);
        clock.advance_ns(due.as_ns() - 1 - second_ns);
        assert_eq!(pm.pio_read(at(region::PM, 0, 2)).map(|value| value & 1), Some(0));
        clock.advance_ns(1);
        pm.expired(clock.now());
        assert!(sci.is_high());
        pm.pio_write(at(region::PM, 0, 2), 1);
        assert!(!sci.is_high());
        let next = deadlines.earliest().expect("an armed alarm");
        assert_eq!(ns_to_ticks(next.as_ns(), spec::PM_TIMER_HZ), 2 << 23);
    }

    #[test]
    fn nobody_answers_on_the_smbus() {
        let Bench { pm, .. } = bench();
        pm.pio_write(at(region::SMBUS, 2, 1), 0x48);
        assert_eq!(pm.pio_read(at(region::SMBUS, 0, 1)), Some(0x04));
        assert_eq!(pm.pio_read(at(region::SMBUS, 2, 1)), Some(0x08));
        pm.pio_write(at(region::SMBUS, 0, 1), 0xff);
        assert_eq!(pm.pio_read(at(region::SMBUS, 0, 1)), Some(0));
    }

    proptest! {
        #[test]
        fn ticks_agree_with_wide_arithmetic(ns in 0u64..u64::MAX / 4) {
            prop_assert_eq!(pm_ticks(GuestTime::from_ns(ns)), ns_to_ticks(ns, spec::PM_TIMER_HZ));
        }

        #[test]
        fn the_sci_follows_status_and_enables(
            steps in prop::collection::vec((0u8..4, 0u64..16, 0u8..3, any::<u32>(), 0u64..4_000_000_000), 0..60)
        ) {
            let Bench { pm, clock, deadlines, sci, .. } = bench();
            for (region, offset, size, value, ns) in steps {
                pm.pio_write(at(region, offset, 1 << size), value);
                clock.advance_ns(ns);
                while deadlines.take_expired(clock.now()).is_some() {
                    pm.expired(clock.now());
                }
                let event = pm.pio_read(at(region::PM, 0, 4)).unwrap_or(0);
                let gpe = pm.pio_read(at(region::GPE, 0, 4)).unwrap_or(0);
                let pending = (event & event >> 16 | gpe & gpe >> 16) != 0;
                let expected = is_acpi_enabled(&pm) && pending;
                prop_assert_eq!(sci.is_high(), expected);
            }
        }
    }
}
