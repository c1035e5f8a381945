//! A controller with its namespaces, by one pair of queues for all.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use block::{Error, Geometry, Op};

use super::identify::{self, ControllerData};
use super::queue::{Completed, Entry, QueuePair, commands_bytes, completions_bytes};
use crate::disk::{
    Command, Controller, Found, FoundDisk, Limits, MAX_PAGES, Pages, Place, Taken, Unit,
};
use crate::dma::{DmaMemory, PAGE_BYTES};
use crate::hardware::{Bell, Fault, Hardware, Window, wait_for};
use crate::names;
use crate::pci::{Function, Signal};

/// Mass storage, non-volatile memory, NVMe.
const CLASS: u32 = 0x01_08_02;

/// Offsets of registers (base specification, 3.1.3).
mod register {
    pub const CAPABILITIES: u64 = 0x00;
    pub const CONFIGURATION: u64 = 0x14;
    pub const STATUS: u64 = 0x1c;
    pub const ADMIN_SIZES: u64 = 0x24;
    pub const ADMIN_COMMANDS: u64 = 0x28;
    pub const ADMIN_COMPLETIONS: u64 = 0x30;
}

/// The configuration when it works: entries of 64 and 16 bytes, pages of 4 KiB, enabled.
const ENABLED: u32 = 4 << 20 | 6 << 16 | 1;
const SHUT_DOWN: u32 = 1 << 14;
const READY: u32 = 1 << 0;
const FATAL: u32 = 1 << 1;
const SHUTDOWN_STATE: u32 = 3 << 2;
const SHUTDOWN_DONE: u32 = 2 << 2;
/// Nothing answers.
const ABSENT: u32 = u32::MAX;

/// Admin commands.
mod admin {
    pub const CREATE_SUBMISSION: u8 = 0x01;
    pub const CREATE_COMPLETION: u8 = 0x05;
    pub const IDENTIFY: u8 = 0x06;
    pub const SET_FEATURES: u8 = 0x09;
    pub const NUMBER_OF_QUEUES: u32 = 0x07;
    /// Kinds of descriptions.
    pub const NAMESPACE: u32 = 0;
    pub const CONTROLLER: u32 = 1;
    pub const NAMESPACES: u32 = 2;
}

/// Commands of the NVM command set.
mod nvm {
    pub const FLUSH: u8 = 0x00;
    pub const WRITE: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const WRITE_ZEROES: u8 = 0x08;
    pub const DATASET: u8 = 0x09;
    pub const DISCARD: u32 = 1 << 2;
}

const ADMIN_SIZE: u16 = 32;
const MAX_SIZE: u16 = 256;
/// The record of a command: the list of its pages, or the range of a discard.
const RECORD_BYTES: usize = 256;
const _: () = assert!(MAX_PAGES * 8 <= RECORD_BYTES && PAGE_BYTES.is_multiple_of(RECORD_BYTES));
/// Numbers of namespaces that one controller lists here.
const MAX_NAMESPACES: usize = 16;
/// Blocks in one command, as it can say.
const MAX_BLOCKS: u64 = 1 << 16;
/// The unit in which a controller says how long it takes to be ready.
const READY_UNIT_NS: u64 = 500_000_000;
/// An admin command has so long at the start.
const ADMIN_NS: u64 = 10_000_000_000;

/// True if a function is such a controller.
pub fn is_nvme(function: &Function<'_>) -> bool {
    function.class() == CLASS
}

/// A namespace.
#[derive(Clone, Copy, Debug)]
struct Namespace {
    number: u32,
    /// Bytes in a block are 2 to this.
    block_exponent: u32,
}

/// How far a reset has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Disabling,
    Enabling,
    /// An admin command of the set-up is under way.
    Asked(Step),
    Works,
}

/// A step of the set-up after a controller is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Queues,
    Completions,
    Commands,
}

/// A controller.
#[derive(Debug)]
pub struct Nvme {
    function: Function<'static>,
    registers: Window,
    signal: Signal,
    admin: QueuePair,
    io: QueuePair,
    /// By slot.
    records: DmaMemory,
    namespaces: Vec<Namespace>,
    limits: Limits,
    phase: Phase,
}

/// Starts a controller.
///
/// # Errors
/// Why it cannot be used; it is kept from memory then.
pub fn start(
    hardware: &'static dyn Hardware,
    function: Function<'static>,
    place: Place,
) -> Result<Option<Found>, Fault> {
    let found = start_by(hardware, function, place.controller);
    if found.is_err() {
        function.stop();
    }
    found.map(Some)
}

fn start_by(
    hardware: &'static dyn Hardware,
    function: Function<'static>,
    number: usize,
) -> Result<Found, Fault> {
    const NO_REGISTERS: Fault = Fault("its registers cannot be reached");
    let bar = function.memory_bar(0).ok_or(NO_REGISTERS)?;
    // Registers, and the doorbells of two pairs of queues however far apart.
    let length_bytes = bar.length_bytes.min(1 << 20);
    let registers = function.map(hardware, 0, 0, length_bytes).ok_or(NO_REGISTERS)?;
    let mut memory = hardware.allocate_dma().ok_or(Fault("there is no memory for it"))?;
    function.enable();
    let bell = Arc::new(Bell::default());
    let signal = Signal::connect(hardware, &function, &bell);
    let mut nvme = Nvme::new(function, registers, signal, &mut memory)?;
    let mut pages = Pages::new(memory);
    nvme.begin_reset();
    wait_for(hardware, nvme.ready_ns(), || nvme.finish_reset())?;

    let mut ask = |what, namespace| nvme.identify(hardware, &mut pages, what, namespace);
    let controller = ControllerData::new(&ask(admin::CONTROLLER, 0)?);
    let numbers = numbers(&ask(admin::NAMESPACES, 0)?);
    let mut disks = Vec::new();
    let mut namespaces = Vec::new();
    for namespace in numbers {
        let name = format!("nvme{number}n{namespace}");
        let data = ask(admin::NAMESPACE, namespace)?;
        match identify::geometry(&data, controller.has_discard) {
            Ok(geometry) => {
                let block_exponent = geometry.sector_bytes.ilog2();
                namespaces.push(Namespace { number: namespace, block_exponent });
                disks.push(disk(name, &controller, namespace, geometry));
            }
            Err(fault) => log::warn!("{name}: {fault}: it is left out"),
        }
    }
    if disks.is_empty() {
        return Err(Fault("it has no disk"));
    }
    nvme.namespaces = namespaces;
    nvme.set_limits(&controller);
    let name = format!("nvme{number}");
    Ok(Found { controller: Box::new(nvme), name, disks, pages, bell })
}

/// The numbers in a list of namespaces, which a 0 ends.
fn numbers(list: &[u8; identify::LENGTH_BYTES]) -> Vec<u32> {
    let numbers = list.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes));
    numbers.take_while(|&number| number != 0).take(MAX_NAMESPACES).collect()
}

fn disk(name: String, of: &ControllerData, namespace: u32, geometry: Geometry) -> FoundDisk {
    let mut ids = names::by_id("nvme", &[&of.model, &of.serial]);
    let numbered = names::by_id("nvme", &[&of.model, &of.serial, &format!("{namespace}")]);
    // The shorter name is the first namespace's.
    if namespace == 1 {
        ids.extend(numbered);
    } else {
        ids = numbered;
    }
    FoundDisk { name, ids, model: of.model.clone(), serial: of.serial.clone(), geometry }
}

impl Nvme {
    /// # Errors
    /// It cannot be driven.
    fn new(
        function: Function<'static>,
        registers: Window,
        signal: Signal,
        memory: &mut DmaMemory,
    ) -> Result<Self, Fault> {
        let capabilities = registers.read_u64(register::CAPABILITIES);
        if registers.read_u32(register::STATUS) == ABSENT {
            return Err(Fault("it is not there any more"));
        }
        if capabilities >> 48 & 0xf != 0 {
            return Err(Fault("it has no pages of 4 KiB"));
        }
        if capabilities >> 37 & 1 == 0 {
            return Err(Fault("it has no NVM command set"));
        }
        let doorbell_bytes = 4 << (capabilities >> 32 & 0xf);
        let size = (capabilities & 0xffff).clamp(1, u64::from(MAX_SIZE) - 1) as u16 + 1;
        let mut pair = |size, number| {
            let commands = memory.take(commands_bytes(size));
            let completions = memory.take(completions_bytes(size));
            QueuePair::new(commands, completions, size, number, doorbell_bytes)
        };
        let (admin, io) = (pair(ADMIN_SIZE, 0), pair(size, 1));
        if io.registers_end() > registers.length_bytes() {
            return Err(Fault("its doorbells are not among its registers"));
        }
        let records = memory.take(usize::from(size) * RECORD_BYTES);
        let limits = Limits {
            // A queue that is full is empty to the device.
            depth: usize::from(size) - 1,
            max_pages: 1,
            max_discard_bytes: None,
            max_zeroes_bytes: None,
            has_cache: true,
            is_polled: signal == Signal::Polled,
        };
        let (namespaces, phase) = (Vec::new(), Phase::Disabling);
        Ok(Self { function, registers, signal, admin, io, records, namespaces, limits, phase })
    }

    /// The longest that it takes to be ready (CAP.TO), and then for the set-up.
    fn ready_ns(&self) -> u64 {
        let units = self.registers.read_u64(register::CAPABILITIES) >> 24 & 0xff;
        units * READY_UNIT_NS + ADMIN_NS
    }

    /// Takes the limits from the controller's description, for all its namespaces alike.
    fn set_limits(&mut self, controller: &ControllerData) {
        let exponent = controller.max_transfer_exponent.map_or(u32::MAX, u32::from);
        let smallest = self.namespaces.iter().map(|namespace| namespace.block_exponent).min();
        let max_blocks_bytes = MAX_BLOCKS << smallest.unwrap_or_default();
        self.limits.max_pages = MAX_PAGES.min(1_usize.checked_shl(exponent).unwrap_or(MAX_PAGES));
        self.limits.max_discard_bytes = controller.has_discard.then_some(max_blocks_bytes);
        self.limits.max_zeroes_bytes = controller.has_zeroes.then_some(max_blocks_bytes);
        self.limits.has_cache = controller.has_cache;
    }

    /// Asks for a description, at the start.
    ///
    /// # Errors
    /// It does not answer.
    fn identify(
        &mut self,
        hardware: &dyn Hardware,
        pages: &mut Pages,
        what: u32,
        namespace: u32,
    ) -> Result<[u8; identify::LENGTH_BYTES], Fault> {
        let list = pages.take(1).ok_or(Fault("there is no memory for it"))?;
        let data = [list.first().copied().unwrap_or_default(), 0];
        let rest = [what, 0, 0, 0, 0, 0];
        self.ask(&Entry { opcode: admin::IDENTIFY, namespace, data, rest, id: 0 });
        wait_for(hardware, ADMIN_NS, || self.is_answered())?;
        let mut answer = [0; identify::LENGTH_BYTES];
        pages.read(&list, &mut answer);
        pages.give_back(list);
        Ok(answer)
    }

    /// Gives an admin command.
    fn ask(&mut self, entry: &Entry) {
        self.admin.push(entry);
        self.admin.notify(&self.registers);
    }

    /// True if the admin command has been carried out.
    ///
    /// # Errors
    /// It failed.
    fn is_answered(&mut self) -> Result<bool, Fault> {
        match self.admin.take(&self.registers) {
            None => Ok(false),
            Some(Completed { status: 0, .. }) => Ok(true),
            Some(_) => Err(Fault("it refuses an admin command")),
        }
    }

    /// Sets the admin queues up, and enables it.
    fn enable(&mut self) {
        self.admin.clear();
        self.io.clear();
        let last = u32::from(self.admin.size() - 1);
        let [commands, completions] = self.admin.addresses();
        self.registers.write_u32(register::ADMIN_SIZES, last << 16 | last);
        self.registers.write_u64(register::ADMIN_COMMANDS, commands);
        self.registers.write_u64(register::ADMIN_COMPLETIONS, completions);
        self.registers.write_u32(register::CONFIGURATION, ENABLED);
    }

    /// Begins a step of the set-up.
    fn begin(&mut self, step: Step) {
        const NUMBER: u32 = 1;
        const CONTIGUOUS: u32 = 1 << 0;
        const INTERRUPTS: u32 = 1 << 1;
        let interrupts = if self.signal == Signal::Polled { 0 } else { INTERRUPTS };
        let number_and_size = u32::from(self.io.size() - 1) << 16 | NUMBER;
        let [commands, completions] = self.io.addresses();
        let (opcode, address, rest) = match step {
            // One of each: counted from 0.
            Step::Queues => (admin::SET_FEATURES, 0, [admin::NUMBER_OF_QUEUES, 0]),
            Step::Completions => {
                (admin::CREATE_COMPLETION, completions, [number_and_size, interrupts | CONTIGUOUS])
            }
            Step::Commands => {
                let rest = [number_and_size, NUMBER << 16 | CONTIGUOUS];
                (admin::CREATE_SUBMISSION, commands, rest)
            }
        };
        let [first, second] = rest;
        let rest = [first, second, 0, 0, 0, 0];
        self.ask(&Entry { opcode, data: [address, 0], rest, ..Entry::default() });
        self.phase = Phase::Asked(step);
    }

    /// The pages of a command's data as it names them.
    fn data(&self, slot: usize, pages: &[u64]) -> [u64; 2] {
        match pages {
            [] => [0, 0],
            [one] => [*one, 0],
            [first, second] => [*first, *second],
            [first, rest @ ..] => {
                let at = slot * RECORD_BYTES;
                for (offset, &page) in (at..).step_by(8).zip(rest) {
                    self.records.write_u64(offset, page);
                }
                [*first, self.records.bus_address(at)]
            }
        }
    }

    /// The range of a discard.
    fn range(&self, slot: usize, first: u64, count: u64) -> [u64; 2] {
        let at = slot * RECORD_BYTES;
        self.records.write_u64(at, count << 32);
        self.records.write_u64(at + 8, first);
        [self.records.bus_address(at), 0]
    }
}

/// The error that a status means (base specification, figure 93 on).
const fn error_of(status: u16) -> Error {
    const INVALID_OPCODE: u16 = 0x01;
    const WRITE_PROTECTED: u16 = 0x20;
    const OUT_OF_RANGE: u16 = 0x80;
    const READ_ONLY_RANGE: u16 = 0x182;
    match status {
        INVALID_OPCODE => Error::NotSupported,
        WRITE_PROTECTED | READ_ONLY_RANGE => Error::ReadOnly,
        OUT_OF_RANGE => Error::OutOfRange,
        _ => Error::Io,
    }
}

impl Controller for Nvme {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn start(&mut self, slot: usize, command: &Command<'_>) {
        let unit: Unit = command.unit;
        let Some(&Namespace { number, block_exponent }) = self.namespaces.get(unit) else { return };
        let first = command.offset_bytes >> block_exponent;
        let count = command.length_bytes >> block_exponent;
        // Lengths are counted from 0.
        let range = [first as u32, (first >> 32) as u32, count.saturating_sub(1) as u32, 0, 0, 0];
        let (opcode, data, rest) = match command.op {
            Op::Read => (nvm::READ, self.data(slot, command.pages), range),
            Op::Write { .. } => (nvm::WRITE, self.data(slot, command.pages), range),
            Op::WriteZeroes => (nvm::WRITE_ZEROES, [0, 0], range),
            Op::Flush => (nvm::FLUSH, [0, 0], [0; 6]),
            Op::Discard => {
                (nvm::DATASET, self.range(slot, first, count), [0, nvm::DISCARD, 0, 0, 0, 0])
            }
        };
        self.io.push(&Entry { opcode, id: slot as u16, namespace: number, data, rest });
    }

    fn notify(&mut self) {
        self.io.notify(&self.registers);
    }

    fn take(&mut self) -> Result<Option<Taken>, Fault> {
        let taken = self.io.take(&self.registers).map(|Completed { id, status }| Taken {
            slot: id.into(),
            written_bytes: None,
            result: if status == 0 { Ok(()) } else { Err(error_of(status)) },
        });
        Ok(taken)
    }

    fn check(&mut self) -> Result<(), Fault> {
        match self.registers.read_u32(register::STATUS) {
            ABSENT => Err(Fault("it is not there any more")),
            status if status & FATAL != 0 => Err(Fault("it has failed")),
            _ => Ok(()),
        }
    }

    fn begin_reset(&mut self) {
        self.registers.write_u32(register::CONFIGURATION, 0);
        self.phase = Phase::Disabling;
    }

    fn finish_reset(&mut self) -> Result<bool, Fault> {
        let status = self.registers.read_u32(register::STATUS);
        if status == ABSENT {
            return Err(Fault("it is not there any more"));
        }
        let is_ready = status & READY != 0;
        let phase = self.phase;
        match phase {
            Phase::Disabling if !is_ready => {
                self.enable();
                self.phase = Phase::Enabling;
            }
            Phase::Enabling if status & FATAL != 0 => return Err(Fault("it has failed")),
            Phase::Enabling if is_ready => self.begin(Step::Queues),
            Phase::Asked(step) if self.is_answered()? => match step {
                Step::Queues => self.begin(Step::Completions),
                Step::Completions => self.begin(Step::Commands),
                Step::Commands => self.phase = Phase::Works,
            },
            Phase::Disabling | Phase::Enabling | Phase::Asked(_) | Phase::Works => {}
        }
        Ok(self.phase == Phase::Works)
    }

    fn shut_down(&mut self) -> bool {
        let status = self.registers.read_u32(register::STATUS);
        if status & SHUTDOWN_STATE == 0 {
            self.registers.write_u32(register::CONFIGURATION, ENABLED | SHUT_DOWN);
        }
        status == ABSENT || status & SHUTDOWN_STATE == SHUTDOWN_DONE
    }

    fn abandon(&mut self) {
        self.registers.write_u32(register::CONFIGURATION, 0);
        self.function.stop();
    }
}
