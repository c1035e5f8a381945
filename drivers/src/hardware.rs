//! The machine as drivers need it. `boot` implements it on bare metal, tests with devices that
//! are programs. All `unsafe` that reaching a device takes is behind these traits.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::dma::DmaMemory;

/// A function of a device on a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Bus.
    pub bus: u8,
    /// Device on the bus, less than 32.
    pub device: u8,
    /// Function of the device, less than 8.
    pub function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// The configuration space of all functions, in registers of 4 bytes. Where none is, it reads as
/// all ones.
pub trait ConfigSpace: Send + Sync {
    /// Reads the register at an offset, a multiple of 4.
    fn read_config(&self, address: Address, offset: u8) -> u32;
    /// Writes it.
    fn write_config(&self, address: Address, offset: u8, value: u32);
}

/// The machine, as drivers of its devices see it. Methods return at once.
pub trait Hardware: ConfigSpace {
    /// Time since the machine started, in nanoseconds.
    fn host_ns(&self) -> u64;
    /// Maps registers of a device, uncached; `None` if they cannot be.
    fn map(&self, address: u64, length_bytes: u64) -> Option<Arc<dyn Registers>>;
    /// Memory for a device and its driver for good, [`crate::dma::MEMORY_BYTES`] of zeroes; `None`
    /// if there is none left.
    fn allocate_dma(&self) -> Option<DmaMemory>;
    /// An interrupt that rings `bell` and then makes the boot CPU attend to the drivers: the write
    /// by which a device signals it. `None` if there is none left.
    fn connect_interrupt(&self, bell: Arc<Bell>) -> Option<Message>;
    /// Makes the boot CPU attend to the drivers.
    fn call_attendant(&self);
}

/// Registers of a device. Drivers keep inside those that were mapped.
pub trait Registers: Send + Sync {
    /// Reads 1, 2 or 4 bytes at an offset that is a multiple of that.
    fn read(&self, offset: u64, width_bytes: u8) -> u32;
    /// Writes 1, 2 or 4 bytes.
    fn write(&self, offset: u64, width_bytes: u8, value: u32);
}

/// A message-signalled interrupt: a device writes `data` to `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to, in the address space of devices.
    pub address: u64,
    /// The value.
    pub data: u32,
}

/// A note that a driver has work. A handler of an interrupt rings it, and does no more.
#[derive(Debug, Default)]
pub struct Bell(AtomicBool);

impl Bell {
    /// Notes that there is work.
    pub fn ring(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// True if it was rung since the last call.
    pub(crate) fn take(&self) -> bool {
        // Most calls find nothing, and a read leaves the line where it is.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Acquire)
    }
}

/// A part of a device's registers. Past its end all reads give ones, as where no device answers,
/// and writes nothing.
#[derive(Clone)]
pub struct Window {
    registers: Arc<dyn Registers>,
    start: u64,
    length_bytes: u64,
}

impl Window {
    /// All of the registers that were mapped.
    pub(crate) const fn new(registers: Arc<dyn Registers>, length_bytes: u64) -> Self {
        Self { registers, start: 0, length_bytes }
    }

    pub(crate) const fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// A part of it, if it has all of that.
    pub(crate) fn part(&self, offset: u64, length_bytes: u64) -> Option<Self> {
        let end = offset.checked_add(length_bytes)?;
        let (registers, start) = (self.registers.clone(), self.start + offset);
        (end <= self.length_bytes).then_some(Self { registers, start, length_bytes })
    }

    fn find(&self, offset: u64, width_bytes: u8) -> Option<u64> {
        let end = offset.checked_add(width_bytes.into())?;
        (end <= self.length_bytes).then(|| self.start + offset)
    }

    fn read(&self, offset: u64, width_bytes: u8) -> u32 {
        self.find(offset, width_bytes)
            .map_or(u32::MAX, |offset| self.registers.read(offset, width_bytes))
    }

    fn write(&self, offset: u64, width_bytes: u8, value: u32) {
        if let Some(offset) = self.find(offset, width_bytes) {
            self.registers.write(offset, width_bytes, value);
        }
    }

    pub(crate) fn read_u8(&self, offset: u64) -> u8 {
        self.read(offset, 1) as u8
    }

    pub(crate) fn read_u16(&self, offset: u64) -> u16 {
        self.read(offset, 2) as u16
    }

    pub(crate) fn read_u32(&self, offset: u64) -> u32 {
        self.read(offset, 4)
    }

    /// In two halves, the low one first.
    pub(crate) fn read_u64(&self, offset: u64) -> u64 {
        u64::from(self.read_u32(offset)) | u64::from(self.read_u32(offset.saturating_add(4))) << 32
    }

    pub(crate) fn write_u8(&self, offset: u64, value: u8) {
        self.write(offset, 1, value.into());
    }

    pub(crate) fn write_u16(&self, offset: u64, value: u16) {
        self.write(offset, 2, value.into());
    }

    pub(crate) fn write_u32(&self, offset: u64, value: u32) {
        self.write(offset, 4, value);
    }

    /// In two halves, the low one first.
    pub(crate) fn write_u64(&self, offset: u64, value: u64) {
        self.write_u32(offset, value as u32);
        self.write_u32(offset.saturating_add(4), (value >> 32) as u32);
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({:#x}, {:#x} bytes)", self.start, self.length_bytes)
    }
}

/// A fault of a device, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(pub &'static str);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Waits until `done`, for so long at the most; only at the start, when nothing else runs yet.
pub(crate) fn wait_for(
    hardware: &dyn Hardware,
    limit_ns: u64,
    mut done: impl FnMut() -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let end_ns = hardware.host_ns().saturating_add(limit_ns);
    while !done()? {
        if hardware.host_ns() > end_ns {
            return Err(Fault("it does not answer"));
        }
        core::hint::spin_loop();
    }
    Ok(())
}
