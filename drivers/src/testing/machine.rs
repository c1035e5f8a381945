//! The machine: configuration space, registers, memory, a clock.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use spin::Mutex;

use crate::pci::{Address, ConfigSpace};
use crate::{Bell, DmaMemory, Hardware, MEMORY_BYTES, Message, Registers};

/// A device's registers by the number of their base address register.
pub trait FakeDevice: Send + Sync {
    fn read(&self, bar: u8, offset: u64, width_bytes: u8) -> u32;
    fn write(&self, memory: &Memory, bar: u8, offset: u64, width_bytes: u8, value: u32);
}

/// A function on PCI.
pub struct FakeFunction {
    pub address: Address,
    pub config: [u32; 64],
    /// The bits of each base address register that can be written.
    pub bar_masks: [u32; 6],
    pub device: Option<Arc<dyn FakeDevice>>,
}

impl FakeFunction {
    /// One without registers and capabilities.
    pub fn new(address: Address, vendor: u16, device: u16) -> Self {
        let mut config = [0; 64];
        config[0] = u32::from(device) << 16 | u32::from(vendor);
        Self { address, config, bar_masks: [0; 6], device: None }
    }

    /// Gives it memory of a length, a power of two, at an address below 4 GiB.
    pub fn with_bar(mut self, index: usize, address: u32, length_bytes: u32) -> Self {
        self.config[4 + index] = address;
        self.bar_masks[index] = !(length_bytes - 1);
        self
    }

    /// Puts capabilities of so many registers each behind the header: number, and the registers, of
    /// which the first has number and link filled in.
    pub fn with_capabilities(mut self, capabilities: &[(u8, &[u32])]) -> Self {
        self.config[1] |= 1 << 20;
        let mut link = 13;
        let mut at = 16;
        for &(id, registers) in capabilities {
            let shift = if link == 13 { 0 } else { 8 };
            self.config[link] |= (at as u32 * 4) << shift;
            self.config[at..at + registers.len()].copy_from_slice(registers);
            self.config[at] = self.config[at] & !0xffff | u32::from(id);
            (link, at) = (at, at + registers.len());
        }
        self
    }

    fn write(&mut self, register: usize, value: u32) {
        match register {
            0 => {}
            1 => self.config[1] = self.config[1] & !0xffff | value & 0xffff,
            4..10 => {
                let mask = self.bar_masks[register - 4];
                self.config[register] = self.config[register] & !mask | value & mask;
            }
            _ => self.config[register] = value,
        }
    }
}

/// Memory that devices reach.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<Area>>>);

/// A device's address, and the memory there.
type Area = (u64, &'static [AtomicU64]);

impl Memory {
    /// The words from a device's address on.
    ///
    /// # Panics
    /// There is no memory: the driver has given the device a wrong address.
    fn words(&self, address: u64) -> &'static [AtomicU64] {
        let areas = self.0.lock();
        let find = |&(start, words): &Area| {
            words.get((address.checked_sub(start)? / 8) as usize..).filter(|rest| !rest.is_empty())
        };
        areas.iter().find_map(find).unwrap_or_else(|| panic!("no memory at {address:#x}"))
    }

    pub fn read(&self, address: u64, length_bytes: usize) -> Vec<u8> {
        let first = (address % 8) as usize;
        let count = (first + length_bytes).div_ceil(8);
        let words = self.words(address)[..count].iter();
        let bytes = words.flat_map(|word| word.load(Ordering::Acquire).to_le_bytes());
        bytes.skip(first).take(length_bytes).collect()
    }

    pub fn number(&self, address: u64, length_bytes: usize) -> u64 {
        let bytes = self.read(address, length_bytes);
        bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    }

    pub fn write(&self, address: u64, data: &[u8]) {
        let first = (address % 8) as usize;
        let words = self.words(address);
        for (at, &byte) in (first..).zip(data) {
            let shift = 8 * (at % 8);
            let word = &words[at / 8];
            let kept = word.load(Ordering::Relaxed) & !(0xff << shift);
            word.store(kept | u64::from(byte) << shift, Ordering::Release);
        }
    }
}

/// The machine.
pub struct FakeMachine {
    functions: Mutex<Vec<FakeFunction>>,
    pub memory: Memory,
    clock_ns: AtomicU64,
    bells: Mutex<Vec<Arc<Bell>>>,
    /// How often the attendant was called.
    pub calls: AtomicUsize,
}

impl FakeMachine {
    /// With some functions; it lives for ever, as machines do.
    pub fn leak(functions: Vec<FakeFunction>) -> &'static Self {
        Box::leak(Box::new(Self {
            functions: Mutex::new(functions),
            memory: Memory::default(),
            clock_ns: AtomicU64::new(1),
            bells: Mutex::new(Vec::new()),
            calls: AtomicUsize::new(0),
        }))
    }

    /// Rings all bells, as interrupts do.
    pub fn interrupt(&self) {
        self.bells.lock().iter().for_each(|bell| bell.ring());
    }

    /// Lets time pass.
    pub fn pass(&self, ns: u64) {
        self.clock_ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn function<R>(&self, at: Address, act: impl FnOnce(&mut FakeFunction) -> R) -> Option<R> {
        self.functions.lock().iter_mut().find(|function| function.address == at).map(act)
    }

    /// The device and the base address register that answer at a physical address.
    fn find(&self, address: u64, length_bytes: u64) -> Option<Mapped> {
        let functions = self.functions.lock();
        let mut bars = functions.iter().flat_map(|function| {
            (0..6).filter(|&bar| function.bar_masks[bar] != 0).map(move |bar| (function, bar))
        });
        bars.find_map(|(function, bar)| {
            let mask = function.bar_masks[bar];
            let start = u64::from(function.config[4 + bar] & mask);
            let end = start + u64::from(!mask) + 1;
            (start <= address && address + length_bytes <= end).then(|| Mapped {
                device: function.device.clone(),
                memory: self.memory.clone(),
                bar: bar as u8,
                offset: address - start,
            })
        })
    }
}

/// Registers that are mapped.
struct Mapped {
    device: Option<Arc<dyn FakeDevice>>,
    memory: Memory,
    bar: u8,
    offset: u64,
}

impl Registers for Mapped {
    fn read(&self, offset: u64, width_bytes: u8) -> u32 {
        let ones = u32::MAX >> (32 - 8 * u32::from(width_bytes));
        let device = self.device.as_ref();
        device
            .map_or(ones, |device| device.read(self.bar, self.offset + offset, width_bytes) & ones)
    }

    fn write(&self, offset: u64, width_bytes: u8, value: u32) {
        if let Some(device) = &self.device {
            device.write(&self.memory, self.bar, self.offset + offset, width_bytes, value);
        }
    }
}

impl ConfigSpace for FakeMachine {
    fn read_config(&self, address: Address, offset: u8) -> u32 {
        let register = usize::from(offset / 4);
        self.function(address, |function| function.config[register]).unwrap_or(u32::MAX)
    }

    fn write_config(&self, address: Address, offset: u8, value: u32) {
        self.function(address, |function| function.write(usize::from(offset / 4), value));
    }
}

impl Hardware for FakeMachine {
    fn host_ns(&self) -> u64 {
        self.clock_ns.fetch_add(1000, Ordering::Relaxed)
    }

    fn map(&self, address: u64, length_bytes: u64) -> Option<Arc<dyn Registers>> {
        Some(Arc::new(self.find(address, length_bytes)?))
    }

    fn allocate_dma(&self) -> Option<DmaMemory> {
        let words = vec![0_u64; MEMORY_BYTES / 8].into_iter().map(AtomicU64::new);
        let words: &'static [AtomicU64] = Box::leak(words.collect());
        let mut areas = self.memory.0.lock();
        // Above 4 GiB, and none behind the other.
        let start = (areas.len() as u64 + 1) << 33;
        areas.push((start, words));
        Some(DmaMemory::new(start, words))
    }

    fn connect_interrupt(&self, bell: Arc<Bell>) -> Option<Message> {
        let mut bells = self.bells.lock();
        bells.push(bell);
        Some(Message { address: 0xfee0_0000, data: 0x50 + bells.len() as u32 })
    }

    fn call_attendant(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}
