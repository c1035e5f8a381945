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

/// Where a new guest's devices transmit to.
#[derive(Clone)]
pub struct OpenPorts {
    /// Of COM1.
    pub output: Arc<OutputRing>,
    /// Of the firmware's debug port.
    pub debug: Arc<dyn ByteSink>,
}

impl OpenPorts {
    /// For a guest called `name` that is being built.
    pub fn new(name: &str) -> Self {
        Self { output: Arc::new(OutputRing::new()), debug: Arc::new(DebugLines::new(name)) }
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
    /// COM1, which transmits to `output`.
    pub uart: Arc<Uart>,
    /// The output of COM1.
    pub output: Arc<OutputRing>,
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

/// PV drivers in a guest's kernel.
pub trait PvDrivers: Send + Sync {
    /// The guest reads from its PV console, not from COM1: it has written there last.
    fn reads_console(&self) -> bool;
    /// The PV console takes bytes, as many as there is room for, and returns how many.
    fn put(&self, bytes: &[u8]) -> usize;
    /// Asks the kernel to shut down; false if it has no driver that could be asked.
    fn ask_to_shut_down(&self) -> bool;
}
