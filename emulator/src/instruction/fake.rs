//! A CPU of plain memory: RAM from 0 on, and from [`MMIO_GPA`] on a device that remembers every
//! access.

use crate::instruction::{EmulatedCpu, InstructionBytes, Outcome, step};
use crate::registers::{
    Cr0, Cr4, Efer, Gpr, Gprs, Rflags, Segment, SegmentAttributes, SegmentName,
};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use devices::memory::{GuestMemory, TestMemory};

const RAM_BYTES: usize = 1 << 20;
/// Where the device is.
pub const MMIO_GPA: u64 = RAM_BYTES as u64;
const MMIO_BYTES: usize = 1 << 16;
/// Tables of [`FakeCpu::map`] are handed out from here on.
const FIRST_TABLE: u64 = 0x1000;

/// One access that the device saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Access {
    Read { offset: u64, size_bytes: u8 },
    Write { offset: u64, size_bytes: u8, value: u64 },
}

/// The CPU. It asserts what the emulator promises: sizes, and no access across pages.
#[allow(missing_docs)]
pub struct FakeCpu {
    pub ram: Arc<TestMemory>,
    pub device: Vec<u8>,
    pub accesses: Vec<Access>,
    /// Each time the bus was locked (`true`) or released, with the number of accesses before.
    pub bus: Vec<(bool, usize)>,
    pub gprs: Gprs,
    pub rip: u64,
    pub saved_bytes: Option<InstructionBytes>,
    pub rflags: Rflags,
    pub segments: [Segment; 6],
    pub cpl: u8,
    pub cr0: Cr0,
    pub cr3: u64,
    pub cr4: Cr4,
    pub efer: Efer,
    pub vectors: [[u8; 32]; 16],
    /// The value that INS reads: each element counts one up.
    pub port_value: u32,
    /// The elements that OUTS wrote, those of each call together.
    pub port_writes: Vec<(u16, Vec<u8>)>,
    pub port_reads: Vec<(u16, usize)>,
    /// Ports take one element at a time, and a step may take so many parts.
    pub patience: Option<u32>,
    next_table: u64,
}

impl FakeCpu {
    fn flat(bitness: u32) -> Self {
        let attributes = SegmentAttributes::new()
            .with_kind(3)
            .with_code_or_data(true)
            .with_present(true)
            .with_default_big(bitness == 32);
        let data = Segment { selector: 0x10, attributes, limit: u32::MAX, base: 0 };
        let code_attributes = attributes.with_kind(0xb).with_long(bitness == 64);
        let mut segments = [data; 6];
        segments[SegmentName::Cs as usize] = Segment { attributes: code_attributes, ..data };
        Self {
            ram: TestMemory::new(RAM_BYTES),
            device: vec![0; MMIO_BYTES],
            accesses: Vec::new(),
            bus: Vec::new(),
            gprs: Gprs::default(),
            rip: 0x8000,
            saved_bytes: None,
            rflags: Rflags::new(),
            segments,
            cpl: 0,
            cr0: Cr0::new().with_protection(true),
            cr3: 0,
            cr4: Cr4::new(),
            efer: Efer::new(),
            vectors: [[0; 32]; 16],
            port_value: 0,
            port_writes: Vec::new(),
            port_reads: Vec::new(),
            patience: None,
            next_table: FIRST_TABLE,
        }
    }

    /// Real mode: all segments at 0, 64 KiB long.
    pub fn real() -> Self {
        let mut cpu = Self::flat(16);
        cpu.cr0 = Cr0::new();
        for segment in &mut cpu.segments {
            *segment = Segment { selector: 0, limit: 0xffff, ..*segment };
        }
        cpu
    }

    /// Protected mode with flat 32-bit segments and no paging.
    pub fn protected() -> Self {
        Self::flat(32)
    }

    /// 64-bit mode; the first 2 MiB are mapped to themselves.
    pub fn long() -> Self {
        let mut cpu = Self::flat(64);
        cpu.cr0 = Cr0::new().with_protection(true).with_paging(true).with_write_protect(true);
        cpu.cr4 = Cr4::new().with_pae(true);
        cpu.efer = Efer::new().with_long_mode_enable(true).with_long_mode_active(true);
        cpu.cr3 = cpu.allocate_table();
        // The tables of a page beyond, and in the same directory one large page at 0.
        cpu.map(0x20_0000, 0);
        let directory = FIRST_TABLE + 0x2000;
        cpu.put(directory, &0x87u64.to_le_bytes());
        cpu
    }

    fn allocate_table(&mut self) -> u64 {
        self.next_table += 0x1000;
        self.next_table - 0x1000
    }

    /// Writes the entry of a 4 KiB page into 4-level tables.
    pub fn map(&mut self, linear: u64, entry: u64) {
        let mut table = self.cr3;
        for shift in [39, 30, 21] {
            let gpa = table + ((linear >> shift) & 0x1ff) * 8;
            let mut next = self.ram.read_u64(gpa).unwrap();
            if next == 0 {
                next = self.allocate_table() | 7;
                self.put(gpa, &next.to_le_bytes());
            }
            table = next & !0xfff;
        }
        self.put(table + ((linear >> 12) & 0x1ff) * 8, &entry.to_le_bytes());
    }

    /// Writes RAM.
    pub fn put(&self, gpa: u64, bytes: &[u8]) {
        GuestMemory::write(&*self.ram, gpa, bytes).unwrap();
    }

    /// Reads RAM.
    pub fn get(&self, gpa: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        GuestMemory::read(&*self.ram, gpa, &mut bytes).unwrap();
        bytes
    }

    /// Sets a register.
    pub fn set(&mut self, register: Gpr, value: u64) {
        self.gprs.set(register, value);
    }

    /// Reads a register.
    pub fn reg(&self, register: Gpr) -> u64 {
        self.gprs.get(register)
    }

    /// A segment register, to be changed.
    pub fn segment_mut(&mut self, name: SegmentName) -> &mut Segment {
        &mut self.segments[name as usize]
    }

    /// Puts an instruction at RIP and runs it once.
    pub fn run(&mut self, instruction: &[u8]) -> Outcome {
        let code = self.segments[SegmentName::Cs as usize].base;
        self.put(code + self.rip, instruction);
        step(self, None)
    }

    /// Runs an instruction that must complete, repeating it as often as it asks for.
    pub fn complete(&mut self, instruction: &[u8]) {
        let next = self.rip + instruction.len() as u64;
        while self.rip != next {
            let outcome = self.run(instruction);
            assert!(
                matches!(outcome, Outcome::Continue | Outcome::Done { trap: false }),
                "{outcome:?}"
            );
        }
    }
}

impl EmulatedCpu for FakeCpu {
    type Memory = TestMemory;

    fn memory(&self) -> &TestMemory {
        &self.ram
    }
    fn gprs(&self) -> &Gprs {
        &self.gprs
    }
    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.gprs
    }
    fn rip(&self) -> u64 {
        self.rip
    }
    fn instruction_bytes(&self) -> Option<&[u8]> {
        self.saved_bytes.as_deref()
    }
    fn complete_instruction(&mut self, next_rip: u64) {
        self.rip = next_rip;
    }
    fn rflags(&self) -> Rflags {
        self.rflags
    }
    fn set_rflags(&mut self, rflags: Rflags) {
        self.rflags = rflags;
    }
    fn segment(&self, name: SegmentName) -> Segment {
        self.segments[name as usize]
    }
    fn cpl(&self) -> u8 {
        self.cpl
    }
    fn cr0(&self) -> Cr0 {
        self.cr0
    }
    fn cr3(&self) -> u64 {
        self.cr3
    }
    fn cr4(&self) -> Cr4 {
        self.cr4
    }
    fn efer(&self) -> Efer {
        self.efer
    }
    fn physical_address_bits(&self) -> u8 {
        40
    }
    fn vector_register(&self, index: u8) -> [u8; 32] {
        self.vectors[usize::from(index)]
    }
    fn set_vector_register(&mut self, index: u8, bytes: &[u8]) {
        assert!(bytes.len() == 16 || bytes.len() == 32);
        self.vectors[usize::from(index)][..bytes.len()].copy_from_slice(bytes);
    }

    fn lock_bus(&mut self) {
        self.bus.push((true, self.accesses.len()));
    }

    fn release_bus(&mut self) {
        self.bus.push((false, self.accesses.len()));
    }

    fn read_gpa(&mut self, gpa: u64, size_bytes: u8) -> u64 {
        let size = usize::from(size_bytes);
        assert!(matches!(size, 1 | 2 | 4 | 8), "read of {size} bytes");
        assert!(gpa % 4096 + size as u64 <= 4096, "read across pages at {gpa:#x}");
        let mut bytes = [0; 8];
        if GuestMemory::read(&*self.ram, gpa, &mut bytes[..size]).is_err() {
            let offset = gpa - MMIO_GPA;
            self.accesses.push(Access::Read { offset, size_bytes });
            match self.device.get(offset as usize..offset as usize + size) {
                Some(data) => bytes[..size].copy_from_slice(data),
                None => bytes[..size].fill(0xff),
            }
        }
        u64::from_le_bytes(bytes)
    }

    fn write_gpa(&mut self, gpa: u64, size_bytes: u8, value: u64) {
        let size = usize::from(size_bytes);
        assert!(matches!(size, 1 | 2 | 4 | 8), "write of {size} bytes");
        assert!(gpa % 4096 + size as u64 <= 4096, "write across pages at {gpa:#x}");
        let bytes = value.to_le_bytes();
        if GuestMemory::write(&*self.ram, gpa, &bytes[..size]).is_err() {
            let offset = gpa - MMIO_GPA;
            self.accesses.push(Access::Write { offset, size_bytes, value });
            if let Some(data) = self.device.get_mut(offset as usize..offset as usize + size) {
                data.copy_from_slice(&bytes[..size]);
            }
        }
    }

    fn port_in(&mut self, port: u16, size_bytes: u8, data: &mut [u8]) -> usize {
        let length = if self.patience.is_some() { size_bytes.into() } else { data.len() };
        let data = &mut data[..length];
        self.port_reads.push((port, data.len() / usize::from(size_bytes)));
        for element in data.chunks_exact_mut(size_bytes.into()) {
            element.copy_from_slice(&self.port_value.to_le_bytes()[..usize::from(size_bytes)]);
            self.port_value = self.port_value.wrapping_add(1);
        }
        data.len()
    }

    fn port_out(&mut self, port: u16, size_bytes: u8, data: &[u8]) -> usize {
        let data = if self.patience.is_some() { &data[..size_bytes.into()] } else { data };
        self.port_writes.push((port, data.to_vec()));
        data.len()
    }

    fn must_yield(&mut self) -> bool {
        let Some(left) = &mut self.patience else { return false };
        *left = left.saturating_sub(1);
        *left == 0
    }
}
