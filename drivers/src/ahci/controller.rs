//! A controller with the disks at its ports. A slot that one port uses no other does, so that all
//! together have as many commands under way as a port has slots.
//!
//! Commands are those of before NCQ: the controller gives them to a disk one after the other.
//! Ports without a disk are left as the firmware left them.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::identify::{self, Identity};
use super::port::{self, Port, SLOTS};
use crate::disk::{Command, Controller, Found, FoundDisk, Limits, MAX_PAGES, Pages, Place, Taken};
use crate::hardware::{Bell, Fault, Hardware, Window, wait_for};
use crate::names;
use crate::pci::{Function, Signal};

/// Mass storage, SATA, AHCI.
const CLASS: u32 = 0x01_06_01;
const BAR: u8 = 5;

/// Offsets of registers (3.1).
mod register {
    pub const CAPABILITIES: u64 = 0x00;
    pub const CONTROL: u64 = 0x04;
    pub const INTERRUPTS: u64 = 0x08;
    pub const PORTS: u64 = 0x0c;
    pub const CAPABILITIES_2: u64 = 0x24;
    pub const HANDOFF: u64 = 0x28;
    pub const FIRST_PORT: u64 = 0x100;
    pub const PORT_BYTES: u64 = 0x80;
}

const RESET: u32 = 1 << 0;
const INTERRUPTS: u32 = 1 << 1;
const AHCI: u32 = 1 << 31;
const WIDE_ADDRESSES: u32 = 1 << 31;
const HAS_HANDOFF: u32 = 1 << 0;
const FIRMWARE_OWNS: u32 = 1 << 0;
const SYSTEM_OWNS: u32 = 1 << 1;

/// Ports that are used at the most: each has some of the controller's memory.
const MAX_PORTS: usize = 8;
/// The firmware lets go, a port stops, and a disk describes itself in this time.
const ANSWER_NS: u64 = 3_000_000_000;
/// The longest that a disk takes to be ready, if it has to spin up first.
const READY_NS: u64 = 20_000_000_000;

/// True if a function is such a controller.
pub fn is_ahci(function: &Function<'_>) -> bool {
    function.class() == CLASS
}

/// A controller.
#[derive(Debug)]
pub struct Ahci {
    function: Function<'static>,
    registers: Window,
    /// Those with a disk that is driven, by its number.
    ports: Vec<Port>,
    limits: Limits,
    /// Its ports have been set up since its reset.
    is_set_up: bool,
}

/// Starts a controller; none if there is no disk.
///
/// # Errors
/// Why it cannot be used; it is kept from memory then.
pub fn start(
    hardware: &'static dyn Hardware,
    function: Function<'static>,
    place: Place,
) -> Result<Option<Found>, Fault> {
    const END: u64 = register::FIRST_PORT + SLOTS as u64 * register::PORT_BYTES;
    let Some(bar) = function.memory_bar(BAR) else { return Ok(None) };
    let registers = function.map(hardware, BAR, 0, bar.length_bytes.min(END));
    let registers = registers.ok_or(Fault("its registers cannot be reached"))?;
    let with_disks = ports_with_disks(&registers);
    if with_disks.is_empty() {
        return Ok(None);
    }
    let found = start_by(hardware, function, registers, with_disks, place);
    if found.is_err() {
        function.stop();
    }
    found.map(Some)
}

/// The registers of the ports at which the firmware has found disks.
fn ports_with_disks(registers: &Window) -> Vec<Window> {
    let implemented = registers.read_u32(register::PORTS);
    let ports = (0..SLOTS as u64).filter(|port| implemented >> port & 1 != 0);
    let windows = ports.filter_map(|port| {
        let start = register::FIRST_PORT + port * register::PORT_BYTES;
        registers.part(start, register::PORT_BYTES)
    });
    windows.filter(port::has_disk).take(MAX_PORTS).collect()
}

fn start_by(
    hardware: &'static dyn Hardware,
    function: Function<'static>,
    registers: Window,
    with_disks: Vec<Window>,
    place: Place,
) -> Result<Found, Fault> {
    let mut memory = hardware.allocate_dma().ok_or(Fault("there is no memory for it"))?;
    let capabilities = registers.read_u32(register::CAPABILITIES);
    if capabilities & WIDE_ADDRESSES == 0
        && memory.bus_address(memory.length_bytes()) > u64::from(u32::MAX)
    {
        return Err(Fault("it does not reach its memory"));
    }
    let ports: Vec<Port> = with_disks
        .into_iter()
        .map(|registers| Port::new(registers, memory.take(port::MEMORY_BYTES)))
        .collect();
    take_over(hardware, &registers)?;
    // They have the firmware's lists until they stand still.
    for port in &ports {
        wait_for(hardware, ANSWER_NS, || Ok(port.stop()))?;
    }
    function.enable();
    let bell = Arc::new(Bell::default());
    let signal = Signal::connect(hardware, &function, &bell);
    let limits = Limits {
        depth: (capabilities >> 8 & 0x1f) as usize + 1,
        max_pages: MAX_PAGES,
        max_discard_bytes: None,
        max_zeroes_bytes: None,
        has_cache: false,
        is_polled: signal == Signal::Polled,
    };
    let mut pages = Pages::new(memory);
    let mut ahci = Ahci { function, registers, ports: Vec::new(), limits, is_set_up: true };
    let mut disks = Vec::new();
    for mut port in ports {
        let name = format!("sd{}", names::letters(place.disk + disks.len()));
        match identify(hardware, &mut port, &mut pages) {
            Ok(Identity { serial, model, geometry, has_cache }) => {
                port.sector_exponent = geometry.sector_bytes.ilog2();
                ahci.limits.has_cache |= has_cache;
                ahci.ports.push(port);
                let ids = names::by_id("ata", &[&model, &serial]);
                disks.push(FoundDisk { name, ids, model, serial, geometry });
            }
            Err(fault) => log::warn!("a disk at {}: {fault}: it is left out", function.address()),
        }
    }
    if disks.is_empty() {
        return Err(Fault("it has no disk that is driven"));
    }
    ahci.interrupt();
    let name = format!("AHCI at {}", function.address());
    Ok(Found { controller: Box::new(ahci), name, disks, pages, bell })
}

/// Takes the controller from the firmware (10.6.3), and its interrupts off.
fn take_over(hardware: &dyn Hardware, registers: &Window) -> Result<(), Fault> {
    if registers.read_u32(register::CAPABILITIES_2) & HAS_HANDOFF != 0 {
        let old = registers.read_u32(register::HANDOFF);
        registers.write_u32(register::HANDOFF, old | SYSTEM_OWNS);
        let is_ours = || Ok(registers.read_u32(register::HANDOFF) & FIRMWARE_OWNS == 0);
        wait_for(hardware, ANSWER_NS, is_ours)?;
    }
    registers.write_u32(register::CONTROL, AHCI);
    Ok(())
}

/// Sets a port up that was stopped, and asks its disk for its description.
fn identify(
    hardware: &dyn Hardware,
    port: &mut Port,
    pages: &mut Pages,
) -> Result<Identity, Fault> {
    port.set_up();
    wait_for(hardware, READY_NS, || Ok(port.is_ready()))?;
    port.run();
    let list = pages.take(1).ok_or(Fault("there is no memory for it"))?;
    port.identify(list.first().copied().unwrap_or_default());
    let mut answer = None;
    wait_for(hardware, ANSWER_NS, || {
        port.look()?;
        answer = port.take();
        Ok(answer.is_some())
    })?;
    let mut data = [0; identify::LENGTH_BYTES];
    pages.read(&list, &mut data);
    pages.give_back(list);
    match answer {
        Some((0, _, Ok(()))) => Identity::new(&data),
        _ => Err(Fault("it does not describe itself")),
    }
}

impl Ahci {
    /// Takes a command that a port knows to be over.
    fn take_known(&mut self) -> Option<Taken> {
        let (slot, moved, result) = self.ports.iter_mut().find_map(Port::take)?;
        Some(Taken { slot, written_bytes: Some(moved), result })
    }

    /// Lets it interrupt.
    fn interrupt(&self) {
        self.registers.write_u32(register::INTERRUPTS, u32::MAX);
        self.registers.write_u32(register::CONTROL, AHCI | INTERRUPTS);
    }
}

impl Controller for Ahci {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn start(&mut self, slot: usize, command: &Command<'_>) {
        if let Some(port) = self.ports.get_mut(command.unit) {
            port.start(slot, command);
        }
    }

    fn notify(&mut self) {}

    fn take(&mut self) -> Result<Option<Taken>, Fault> {
        let known = self.take_known();
        if known.is_some() {
            return Ok(known);
        }
        let causes = self.registers.read_u32(register::INTERRUPTS);
        self.ports.iter_mut().try_for_each(Port::look)?;
        // After the ports' own causes: one that has come since rings anew.
        self.registers.write_u32(register::INTERRUPTS, causes);
        Ok(self.take_known())
    }

    fn check(&mut self) -> Result<(), Fault> {
        if self.ports.iter().any(Port::is_absent) {
            return Err(Fault("it is not there any more"));
        }
        if self.ports.iter().any(Port::is_unplugged) {
            return Err(Fault("a disk is not there any more"));
        }
        Ok(())
    }

    fn begin_reset(&mut self) {
        self.registers.write_u32(register::CONTROL, AHCI | RESET);
        self.is_set_up = false;
    }

    fn finish_reset(&mut self) -> Result<bool, Fault> {
        let control = self.registers.read_u32(register::CONTROL);
        if control == u32::MAX {
            return Err(Fault("it is not there any more"));
        }
        if control & RESET != 0 {
            return Ok(false);
        }
        if !self.is_set_up {
            self.registers.write_u32(register::CONTROL, AHCI);
            self.ports.iter_mut().for_each(Port::set_up);
            self.is_set_up = true;
        }
        let is_ready = self.ports.iter().all(Port::is_ready);
        if is_ready {
            self.ports.iter().for_each(Port::run);
            self.interrupt();
        }
        Ok(is_ready)
    }

    fn abandon(&mut self) {
        self.ports.iter().for_each(|port| _ = port.stop());
        self.function.stop();
    }
}
