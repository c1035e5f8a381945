//! Two tasks in flat memory, for tests.

use super::*;
use crate::registers::{Cr4, Efer, SegmentAttributes};
use alloc::sync::Arc;
use devices::memory::TestMemory;

pub const GDT: u64 = 0x1000;
pub const GDT_BYTES: u64 = 0x48;
pub const OLD_TSS: u64 = 0x2000;
pub const NEW_TSS: u64 = 0x3000;
pub const CODE: u16 = 0x08;
pub const DATA: u16 = 0x10;
pub const OLD: u16 = 0x18;
pub const NEW: u16 = 0x20;

/// A processor of plain memory, and two tasks.
#[allow(missing_docs)]
pub struct Cpu {
    pub memory: Arc<TestMemory>,
    pub gprs: Gprs,
    pub rflags: Rflags,
    pub rip: u64,
    pub segments: [Segment; 8],
    pub cr0: Cr0,
    pub cr3: u64,
    pub dr7: u64,
    pub trapped: bool,
}

impl TaskCpu for Cpu {
    type Memory = TestMemory;
    fn memory(&self) -> &TestMemory {
        &self.memory
    }
    fn paging(&self) -> PagingState {
        PagingState {
            cr0: self.cr0,
            cr3: self.cr3,
            cr4: Cr4::new(),
            efer: Efer::new(),
            alignment_check: false,
            pkru: 0,
            physical_address_bits: 36,
        }
    }
    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.gprs
    }
    fn rflags(&self) -> Rflags {
        self.rflags
    }
    fn set_rflags(&mut self, rflags: Rflags) {
        self.rflags = rflags;
    }
    fn set_rip(&mut self, rip: u64) {
        self.rip = rip;
    }
    fn segment(&self, name: SegmentName) -> Segment {
        self.segments[name as usize]
    }
    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        self.segments[name as usize] = segment;
    }
    fn gdtr(&self) -> TableRegister {
        TableRegister { base: GDT, limit: GDT_BYTES as u16 - 1 }
    }
    fn set_cr0(&mut self, cr0: Cr0) {
        self.cr0 = cr0;
    }
    fn set_cr3(&mut self, cr3: u64) -> Result<(), Fault> {
        self.cr3 = cr3;
        Ok(())
    }
    fn clear_local_breakpoints(&mut self) {
        self.dr7 &= !0x155;
    }
    fn note_task_trap(&mut self) {
        self.trapped = true;
    }
}

impl Cpu {
    /// The length of its memory.
    pub const MEMORY_BYTES: usize = 0x2_0000;

    /// Its registers, with the same memory.
    pub fn clone_state(&self) -> Self {
        Self { memory: self.memory.clone(), gprs: self.gprs.clone(), ..*self }
    }

    /// All registers are the same.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.rip, self.rflags, self.gprs.0, self.segments)
            == (other.rip, other.rflags, other.gprs.0, other.segments)
            && (self.cr0, self.cr3, self.dr7, self.trapped)
                == (other.cr0, other.cr3, other.dr7, other.trapped)
    }

    /// In the old task, with the new one ready at CODE:5000h.
    pub fn new() -> Self {
        let memory = TestMemory::new(Self::MEMORY_BYTES);
        let descriptors = [
            0,
            0x00cf_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x0000_8b00_2000_0067,
            0x0000_8900_3000_0067,
            0x00cf_1300_0000_ffff,
            0x0000_8200_6000_000f,
            0x00cf_fb00_0000_ffff,
            0x00cf_f300_0000_ffff_u64,
        ];
        for (index, descriptor) in descriptors.into_iter().enumerate() {
            memory.write(GDT + 8 * index as u64, &descriptor.to_le_bytes()).unwrap();
        }
        let flat = |selector, attributes: u16| Segment {
            selector,
            attributes: SegmentAttributes::from(attributes),
            limit: u32::MAX,
            base: 0,
        };
        let mut segments = [flat(DATA, 0xc93); 8];
        segments[SegmentName::Cs as usize] = flat(CODE, 0xc9b);
        segments[SegmentName::Tr as usize] =
            Segment { limit: 0x67, base: OLD_TSS, ..flat(OLD, 0x8b) };
        segments[SegmentName::Ldtr as usize] = Segment::default();
        let mut gprs = Gprs::default();
        for (index, value) in gprs.0.iter_mut().take(8).enumerate() {
            *value = 0x100 + index as u64;
        }
        let cpu = Self {
            memory,
            gprs,
            rflags: Rflags::new().with_interrupt(true),
            rip: 0x4000,
            segments,
            cr0: Cr0::new().with_protection(true),
            cr3: 0,
            dr7: 0x7ff,
            trapped: false,
        };
        cpu.put_task(CODE, DATA);
        cpu
    }

    /// Writes 32 bits.
    pub fn put(&self, gpa: u64, value: u32) {
        GuestMemory::write(&*self.memory, gpa, &value.to_le_bytes()).unwrap();
    }

    /// Reads 32 bits.
    pub fn get(&self, gpa: u64) -> u32 {
        GuestMemory::read_u32(&*self.memory, gpa).unwrap()
    }

    /// In virtual-8086 mode.
    pub fn in_virtual_8086_mode() -> Self {
        let mut cpu = Self::new();
        cpu.rflags.set_virtual_8086(true);
        for name in SEGMENTS {
            cpu.segments[name as usize] = Segment {
                selector: 0x100,
                attributes: VIRTUAL_8086_RIGHTS.into(),
                limit: 0xffff,
                base: 0x1000,
            };
        }
        cpu
    }

    /// Whether a VM entry accepts the segments (SDM volume 3, 27.3.1.2).
    pub fn is_legal(&self) -> bool {
        let [cs, ss] = [SegmentName::Cs, SegmentName::Ss].map(|name| self.segment(name));
        if self.rflags.virtual_8086() {
            return SEGMENTS.map(|name| self.segment(name)).into_iter().all(|segment| {
                let base = u64::from(segment.selector) << 4;
                (segment.base, segment.limit, segment.attributes)
                    == (base, 0xffff, VIRTUAL_8086_RIGHTS.into())
            });
        }
        let in_pages = |segment: Segment| match segment.attributes.granularity() {
            true => segment.limit & 0xfff == 0xfff,
            false => segment.limit >> 20 == 0,
        };
        let (code, stack) = (cs.attributes, ss.attributes);
        let code_fits = match code.kind() {
            9 | 11 => code.dpl() == stack.dpl(),
            13 | 15 => code.dpl() <= stack.dpl(),
            _ => false,
        };
        let stack_fits = !stack.present()
            || matches!(stack.kind(), 3 | 7) && stack.code_or_data() && in_pages(ss);
        // The code segment alone may be one that cannot be read.
        let data = SEGMENTS.into_iter().filter(|name| *name != SegmentName::Cs);
        let data_fit = data.map(|name| self.segment(name)).all(|segment| {
            let kind = segment.attributes.kind();
            !segment.attributes.present() || kind & 1 != 0 && (kind & 8 == 0 || kind & 2 != 0)
        });
        code_fits && code.present() && code.code_or_data() && in_pages(cs) && stack_fits && data_fit
    }

    /// Puts a new task with these segments.
    pub fn put_task(&self, code: u16, data: u16) {
        self.put(NEW_TSS + 0x20, 0x5000);
        self.put(NEW_TSS + 0x24, 0x2);
        for (index, value) in (0..8).map(|index| 0x200 + index).enumerate() {
            self.put(NEW_TSS + 0x28 + 4 * index as u64, value);
        }
        for offset in [0x48, 0x50, 0x54, 0x58, 0x5c] {
            self.put(NEW_TSS + offset, data.into());
        }
        self.put(NEW_TSS + 0x4c, code.into());
    }

    /// The byte of a descriptor with its type.
    pub fn access_byte(&self, selector: u16) -> u8 {
        let gpa = GDT + u64::from(selector & !7) + 5;
        let mut byte = [0];
        GuestMemory::read(&*self.memory, gpa, &mut byte).unwrap();
        byte[0]
    }
}
