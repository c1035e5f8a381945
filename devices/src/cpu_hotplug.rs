//! CPUs that come and go while the guest runs: the register block that QEMU's documentation
//! describes (`docs/specs/acpi_cpu_hotplug.rst`), at port AF00h. The ACPI tables drive it; the
//! guest is told by a general-purpose event.

use crate::bus::{Access, PioDevice, Region};
use crate::local_apic::ApicBus;
use crate::lock::DeviceLock;
use crate::nospec;
use crate::pci::piix4_pm::Piix4Pm;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitfield_struct::bitfield;

/// The first port.
pub const PORT: u16 = 0xaf00;
/// How many there are.
pub const PORTS: u8 = 12;
/// The bit of the general-purpose events.
pub const EVENT: u8 = 2;

/// Offsets of the registers.
mod register {
    pub const SELECTOR: u64 = 0;
    pub const STATUS: u64 = 4;
    pub const COMMAND: u64 = 5;
    pub const DATA: u64 = 8;
}

/// Values of the command register.
mod command {
    /// Selects the next CPU of which there is something to tell.
    pub const NEXT: u8 = 0;
    /// The data register is the low half of the selected CPU's APIC ID.
    pub const APIC_ID: u8 = 3;
}

/// The selected CPU: its status when read; what to do when written.
#[bitfield(u8)]
struct Status {
    /// It is there.
    enabled: bool,
    /// It is new; written as one: the guest knows.
    inserting: bool,
    /// It is to go; written as one: the guest knows.
    removing: bool,
    /// Write only: the guest has done with it, and it goes.
    eject: bool,
    #[bits(4)]
    __: u8,
}

#[derive(Debug)]
struct State {
    /// By CPU.
    cpus: Box<[Status]>,
    selector: u32,
    command: u8,
    /// The CPUs that were asked for last.
    wanted: u32,
}

/// The sockets of all the CPUs that there may be. The first one's is never empty.
pub struct CpuHotplug {
    state: DeviceLock<State>,
    processors: Arc<ApicBus>,
    power: Arc<Piix4Pm>,
}

impl CpuHotplug {
    /// Sockets for the CPUs of `processors`, of which the first `count` are there; the others'
    /// local APICs leave the bus. Before any CPU runs.
    pub fn new(processors: Arc<ApicBus>, power: Arc<Piix4Pm>, count: u32) -> Self {
        let count = count.max(1);
        let cpu = |number| {
            let enabled = number < count as usize;
            if !enabled {
                processors.remove(number);
            }
            Status::new().with_enabled(enabled)
        };
        let cpus = (0..processors.len()).map(cpu).collect();
        let state = State { cpus, selector: 0, command: command::NEXT, wanted: count };
        Self { state: DeviceLock::new(state), processors, power }
    }

    /// The CPUs that there may be.
    pub fn max(&self) -> u32 {
        self.processors.len() as u32
    }

    /// The CPUs that are there now.
    pub fn count(&self) -> u32 {
        self.state.lock().cpus.iter().filter(|cpu| cpu.enabled()).count() as u32
    }

    /// True if the CPU with this number is there.
    pub fn is_there(&self, cpu: usize) -> bool {
        self.state.lock().cpus.get(cpu).is_some_and(|cpu| cpu.enabled())
    }

    /// The CPUs that were asked for last: those that there are when the guest is done with it.
    pub fn wanted(&self) -> u32 {
        self.state.lock().wanted
    }

    /// The first `count` CPUs are to be there, and no others: those that lack are plugged in, and
    /// the guest is asked to give the others up. False if there are not as many, or none.
    pub fn set_count(&self, count: u32) -> bool {
        if count == 0 || count > self.max() {
            return false;
        }
        let mut state = self.state.lock();
        state.wanted = count;
        for (number, cpu) in (0..).zip(&mut state.cpus) {
            let is_new = number < count && !cpu.enabled();
            if is_new {
                *cpu = Status::new().with_enabled(true).with_inserting(true);
                self.processors.plug(number as usize);
            }
            cpu.set_removing(number >= count && cpu.enabled());
        }
        drop(state);
        self.power.raise_general_event(EVENT);
        true
    }

    fn write_status(&self, state: &mut State, written: Status) {
        let number = state.selector as usize;
        let Some(mut cpu) = nospec::get(&state.cpus, number).copied() else { return };
        if written.inserting() {
            cpu.set_inserting(false);
        }
        if written.removing() {
            cpu.set_removing(false);
        }
        if written.eject() && cpu.enabled() && number != 0 {
            cpu = Status::new();
            self.processors.remove(number);
        }
        state.cpus[number] = cpu;
    }
}

impl State {
    /// Selects the next CPU of which there is something to tell, from the selected one on; if there
    /// is none, that stays.
    fn select_next(&mut self) {
        let count = self.cpus.len();
        let from = self.selector as usize % count;
        let tells =
            |number: &usize| self.cpus[*number].inserting() || self.cpus[*number].removing();
        if let Some(next) = (from..count).chain(0..from).find(tells) {
            self.selector = next as u32;
        }
    }

    fn status(&self) -> Status {
        nospec::get(&self.cpus, self.selector as usize).copied().unwrap_or_default()
    }

    fn is_selected(&self) -> bool {
        (self.selector as usize) < self.cpus.len()
    }
}

impl PioDevice for CpuHotplug {
    fn ports(&self) -> Vec<Region> {
        [Region::new(0, PORT.into(), PORTS.into())].into()
    }

    fn pio_read(&self, access: Access) -> Option<u32> {
        let state = self.state.lock();
        Some(match access.offset {
            register::STATUS => u8::from(state.status()).into(),
            // The APIC ID is the CPU's number.
            register::DATA if state.is_selected() => match state.command {
                command::NEXT | command::APIC_ID => state.selector,
                _ => 0,
            },
            _ => 0,
        })
    }

    fn pio_write(&self, access: Access, value: u32) {
        let mut state = self.state.lock();
        match access.offset {
            register::SELECTOR => state.selector = value,
            // QEMU's registers do nothing for a CPU that there is not.
            _ if !state.is_selected() => {}
            register::STATUS => self.write_status(&mut state, Status::from(value as u8)),
            register::COMMAND => {
                state.command = value as u8;
                if state.command == command::NEXT {
                    state.select_next();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::{IrqLine, LineProbe};
    use crate::local_apic::spec::DeliveryMode;
    use crate::local_apic::{ApicInbox, Destination, Kick, LocalApic, Message};
    use crate::pci::power_probe::PowerProbe;
    use crate::time::{Alarm, TestClock};
    use proptest::prelude::*;

    struct NoKick;

    impl Kick for NoKick {
        fn kick(&self) {}
    }

    struct Bench {
        sockets: CpuHotplug,
        processors: Arc<ApicBus>,
        apics: Vec<LocalApic>,
        sci: Arc<LineProbe>,
    }

    const EVENTS: Access = Access { region: 3, offset: 0, size_bytes: 2 };

    /// Four sockets, two CPUs, and a system that has enabled ACPI and the event.
    fn bench() -> Bench {
        let clock = TestClock::new();
        let (sci, line): (_, IrqLine) = LineProbe::wired();
        let probe = Arc::new(PowerProbe::default());
        let power = Piix4Pm::new(clock.clone(), Alarm::detached(), line, probe);
        power.pio_write(Access { region: 2, offset: 0, size_bytes: 1 }, 0xf1);
        power.pio_write(Access { offset: 2, ..EVENTS }, 1 << EVENT);
        let inboxes: Vec<_> = (0..4).map(|_| ApicInbox::new(Arc::new(NoKick))).collect();
        let processors = ApicBus::new(inboxes.clone());
        let sockets = CpuHotplug::new(processors.clone(), Arc::new(power), 2);
        let apics = (0..).zip(inboxes).map(|(id, inbox)| {
            let alarm = Alarm::detached();
            LocalApic::new(id, inbox, processors.clone(), clock.clone(), alarm)
        });
        let apics = apics.collect();
        Bench { sockets, processors, apics, sci }
    }

    impl Bench {
        fn out(&self, offset: u64, size_bytes: u8, value: u32) {
            self.sockets.pio_write(Access { region: 0, offset, size_bytes }, value);
        }

        fn status(&self, cpu: u32) -> u32 {
            self.out(register::SELECTOR, 4, cpu);
            self.read(register::STATUS, 1)
        }

        fn read(&self, offset: u64, size_bytes: u8) -> u32 {
            self.sockets.pio_read(Access { region: 0, offset, size_bytes }).unwrap()
        }

        /// The event was raised; it is taken back.
        fn take_event(&self) -> bool {
            let was_high = self.sci.is_high();
            self.sockets.power.pio_write(EVENTS, 1 << EVENT);
            was_high
        }

        /// A start-up message to all but CPU 0; those that got one.
        fn started(&mut self) -> Vec<usize> {
            let sender = self.processors.inbox(0).unwrap();
            self.processors.deliver(&Message {
                destination: Destination::Others(sender),
                mode: DeliveryMode::StartUp,
                vector: 8,
                level: false,
            });
            let apics = self.apics.iter_mut().enumerate();
            apics.filter_map(|(cpu, apic)| apic.take_sipi().map(|_| cpu)).collect()
        }

        /// The vCPUs take INIT; those that begin anew.
        fn begun_anew(&mut self) -> Vec<usize> {
            let apics = self.apics.iter_mut().enumerate();
            let anew = |(cpu, apic): (usize, &mut LocalApic)| {
                let is_reset = apic.take_init() && apic.take_reset();
                if is_reset {
                    apic.power_on();
                }
                is_reset.then_some(cpu)
            };
            apics.filter_map(anew).collect()
        }
    }

    #[test]
    fn a_cpu_comes_and_the_guest_is_told() {
        let mut bench = bench();
        assert_eq!(bench.begun_anew(), [2, 3], "those that are not there");
        assert_eq!((bench.sockets.count(), bench.sockets.max()), (2, 4));
        assert_eq!([0, 1, 2, 3].map(|cpu| bench.status(cpu)), [1, 1, 0, 0]);
        assert_eq!(bench.started(), [1], "the firmware counts those that are there");
        assert!(bench.sockets.set_count(3));
        assert!(bench.take_event());
        assert_eq!([0, 1, 2, 3].map(|cpu| bench.status(cpu)), [1, 1, 3, 0]);
        bench.out(register::SELECTOR, 4, 3);
        bench.out(register::COMMAND, 1, command::NEXT.into());
        assert_eq!(bench.read(register::DATA, 4), 2, "it goes round");
        bench.out(register::STATUS, 1, 2);
        assert_eq!((bench.status(2), bench.sockets.count()), (1, 3));
        assert_eq!(bench.started(), [1, 2]);
        assert!(!bench.sockets.set_count(5) && !bench.sockets.set_count(0));
        assert!(!bench.take_event());
    }

    #[test]
    fn a_cpu_goes_when_the_guest_lets_it() {
        let mut bench = bench();
        bench.begun_anew();
        assert!(bench.sockets.set_count(1));
        assert!(bench.take_event());
        assert_eq!(bench.status(1), 5);
        assert_eq!((bench.sockets.count(), bench.sockets.wanted()), (2, 1));
        assert_eq!(bench.started(), [1], "it is still there");
        bench.out(register::SELECTOR, 4, 1);
        bench.out(register::STATUS, 1, 4);
        assert_eq!(bench.status(1), 1, "the guest knows");
        bench.out(register::STATUS, 1, 8);
        assert_eq!((bench.status(1), bench.sockets.count()), (0, 1));
        assert_eq!((bench.begun_anew(), bench.started()), (Vec::from([1]), Vec::new()));
        assert!(bench.processors.inbox(1).is_none());
        // It keeps its place for the next time.
        assert!(bench.sockets.set_count(2));
        assert_eq!((bench.status(1), bench.started()), (3, Vec::from([1])));
    }

    #[test]
    fn the_first_cpu_stays_and_init_passes_by_an_empty_socket() {
        let mut bench = bench();
        bench.begun_anew();
        bench.out(register::SELECTOR, 4, 0);
        bench.out(register::STATUS, 1, 8);
        assert_eq!(bench.status(0), 1);
        bench.processors.init_processors();
        let inits = |bench: &mut Bench| {
            bench.apics.iter_mut().map(LocalApic::take_init).collect::<Vec<_>>()
        };
        assert_eq!(inits(&mut bench), [true, true, false, false]);
    }

    #[test]
    fn a_plug_before_the_old_one_has_begun_anew_is_not_lost() {
        let mut bench = bench();
        assert!(bench.sockets.set_count(4));
        assert_eq!(bench.begun_anew(), [2, 3]);
        assert_eq!(bench.started(), [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn no_guest_gets_more_cpus_than_it_was_given(
            steps in prop::collection::vec((0u64..12, 0u8..3, any::<u32>(), 0u32..6), 0..100)
        ) {
            let mut bench = bench();
            let mut given = 2;
            for (offset, size, value, count) in steps {
                let value = if value & 1 == 0 { value >> 1 & 7 } else { value };
                if count > 0 {
                    bench.out(offset, 1 << size, value);
                    let _ = bench.read(offset, 1 << size);
                } else if bench.sockets.set_count(value & 7) {
                    given = given.max(value & 7);
                }
                bench.begun_anew();
                let there: Vec<_> = (1..4).filter(|&cpu| bench.sockets.is_there(cpu)).collect();
                prop_assert!(there.len() < given as usize && bench.sockets.is_there(0));
                prop_assert_eq!(bench.started(), there);
            }
        }
    }
}
