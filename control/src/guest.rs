//! A guest's devices, as far as they are joined to consoles.

use crate::output::{DebugLines, OutputRing};
use crate::scheduling::Scheduling;
use alloc::sync::Arc;
use devices::console::ByteSink;
use devices::cpu_hotplug::CpuHotplug;
use devices::i8042::I8042;
use devices::local_apic::ApicBus;
use devices::pci::piix4_pm::Piix4Pm;
use devices::uart::Uart;
use devices::vga::Vga;

/// A guest's console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleKind {
    /// COM1.
    Serial,
    /// The PV console: `hvc0` of Linux.
    Pv,
}

impl ConsoleKind {
    /// All, by their numbers.
    pub const ALL: [Self; 2] = [Self::Serial, Self::Pv];

    /// By the name that `xl console -t` has for it.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "serial" => Some(Self::Serial),
            "pv" => Some(Self::Pv),
            _ => None,
        }
    }
}

/// Where a new guest's devices transmit to.
#[derive(Clone)]
pub struct OpenPorts {
    /// Of COM1 and of the PV console.
    pub output: [Arc<OutputRing>; ConsoleKind::ALL.len()],
    /// Of the firmware's debug port.
    pub debug: Arc<dyn ByteSink>,
}

impl OpenPorts {
    /// For a guest called `name` that is being built.
    pub fn new(name: &str) -> Self {
        let output = ConsoleKind::ALL.map(|_| Arc::new(OutputRing::new()));
        Self { output, debug: Arc::new(DebugLines::new(name)) }
    }
}

/// A guest's size when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestFacts {
    /// Its RAM.
    pub memory_mib: u64,
    /// Its virtual CPUs.
    pub vcpus: u32,
}

/// The devices of one life of a guest that its consoles use.
#[derive(Clone)]
pub struct GuestPorts {
    /// COM1, which transmits to the first `output`.
    pub uart: Arc<Uart>,
    /// The output of COM1 and of the PV console.
    pub output: [Arc<OutputRing>; ConsoleKind::ALL.len()],
    /// The screen.
    pub vga: Arc<Vga>,
    /// Keyboard and mouse.
    pub i8042: Arc<I8042>,
    /// Power and sleep button.
    pub power: Arc<Piix4Pm>,
    /// The local APICs, for NMI and INIT.
    pub processors: Arc<ApicBus>,
    /// Which virtual CPUs are there.
    pub sockets: Arc<CpuHotplug>,
    /// The time that they get.
    pub scheduling: Arc<dyn Scheduling>,
    /// The way to its PV drivers, if it may have some.
    pub pv: Option<Arc<dyn PvDrivers>>,
}

impl GuestPorts {
    /// Gives typed bytes to a console, as many as it takes; returns how many.
    pub fn type_at(&self, console: ConsoleKind, bytes: &[u8]) -> usize {
        match console {
            ConsoleKind::Serial => {
                bytes.iter().take_while(|&&byte| self.uart.receive(byte)).count()
            }
            ConsoleKind::Pv => self.pv.as_ref().map_or(0, |pv| pv.put(bytes)),
        }
    }
}

/// PV drivers in a guest's kernel.
pub trait PvDrivers: Send + Sync {
    /// The PV console takes bytes, as many as there is room for, and returns how many.
    fn put(&self, bytes: &[u8]) -> usize;
    /// Asks the kernel to shut down; false if it has no driver that could be asked.
    fn ask_to_shut_down(&self) -> bool;
    /// The guest's RAM now, of which it may have given some back.
    fn memory_kib(&self) -> Option<u64>;
    /// Asks the kernel to have so much RAM, and lets it have no more; false if that is more than
    /// there can be.
    fn set_memory_target(&self, kib: u64) -> bool;
    /// Lets the guest have so much RAM at the most; false if that is less than it is to have.
    fn set_max_memory(&self, kib: u64) -> bool;
    /// Tells the kernel that it is to use the first `count` of its virtual CPUs.
    fn set_vcpus(&self, count: u32);
}
