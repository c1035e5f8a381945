//! Guests of all sizes: what they are told of their memory, by whatever way, is what is there.

use crate::backend::exit::{Direction, Exit, PortAccess};
use crate::fuzzing::{Hardware, Machine};
use crate::test_platform::TestPlatform;
use crate::vm::memory::{Backing, FaultCause};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use devices::fw_cfg::spec::{DATA_PORT, SELECTOR_PORT, key};
use devices::memory::GuestMemory;
use emulator::registers::Gpr;
use proptest::prelude::*;
use raw_cpuid::CpuIdResult;

const MIB: u64 = 1 << 20;
const FOUR_GIB: u64 = 4 << 30;

/// A guest's program, as far as it looks for RAM.
struct Program(Machine);

impl Program {
    fn port(&mut self, port: u16, size_bytes: u8, direction: Direction, value: u32) -> u32 {
        self.0.vcpu.registers_mut().1.set(Gpr::Rax, value.into());
        // Both move between EAX or a part of it and the port in DX.
        self.0.put_instruction(&[if direction == Direction::Out { 0xef } else { 0xed }]);
        self.0.exit(Exit::Port(PortAccess { port, size_bytes, direction, string: false }));
        self.0.vcpu.registers_mut().1.get(Gpr::Rax) as u32
    }

    fn cmos(&mut self, index: u8) -> u64 {
        self.port(0x70, 1, Direction::Out, index.into());
        u64::from(self.port(0x71, 1, Direction::In, 0) as u8)
    }

    fn fw_cfg(&mut self, item: u16, length_bytes: usize) -> Vec<u8> {
        self.port(SELECTOR_PORT, 2, Direction::Out, item.into());
        (0..length_bytes).map(|_| self.port(DATA_PORT, 1, Direction::In, 0) as u8).collect()
    }

    fn fw_cfg_file(&mut self, name: &str) -> Vec<u8> {
        const ENTRY_BYTES: usize = 64;
        let count =
            u32::from_be_bytes(self.fw_cfg(key::FILE_DIRECTORY, 4).try_into().unwrap()) as usize;
        let directory = self.fw_cfg(key::FILE_DIRECTORY, 4 + count * ENTRY_BYTES);
        let entry = directory[4..]
            .chunks(ENTRY_BYTES)
            .find(|entry| entry[8..].starts_with(name.as_bytes()) && entry[8 + name.len()] == 0)
            .unwrap();
        let length_bytes = u32::from_be_bytes(entry[..4].try_into().unwrap()) as usize;
        self.fw_cfg(u16::from_be_bytes(entry[4..6].try_into().unwrap()), length_bytes)
    }

    fn msr(&mut self, index: u32) -> u64 {
        self.0.vcpu.registers_mut().1.set(Gpr::Rcx, index.into());
        self.0.put_instruction(&[0x0f, 0x32]);
        self.0.exit(Exit::ReadMsr);
        self.0.vcpu.registers_mut().1.edx_eax()
    }

    /// The guest writes a byte by itself and a device reads it by DMA, and the other way.
    fn uses(&mut self, gpa: u64) -> bool {
        let space = &self.0.vcpu.vm().space;
        if space.resolve_fault(gpa, true) != Ok(FaultCause::Memory) {
            return false;
        }
        let shown = space.shown(gpa).unwrap();
        assert_eq!((shown.0, shown.2), (Backing::Ram, true), "at {gpa:#x}");
        assert_eq!(space.found(gpa), Some(shown), "DMA finds something else at {gpa:#x}");
        space.write(gpa, &[0x5a]).unwrap();
        let mut read = [0];
        space.read(gpa, &mut read).unwrap();
        read == [0x5a]
    }
}

/// A processor of AMD's, which has TOP_MEM.
fn cpuid(leaf: u32, _subleaf: u32) -> CpuIdResult {
    let number = |text: &[u8; 4]| u32::from_le_bytes(*text);
    match leaf {
        0 => CpuIdResult {
            eax: 0xd,
            ebx: number(b"Auth"),
            ecx: number(b"cAMD"),
            edx: number(b"enti"),
        },
        0x8000_0000 => CpuIdResult { eax: 0x8000_0008, ebx: 0, ecx: 0, edx: 0 },
        0x8000_0008 => CpuIdResult { eax: 0x3030, ebx: 0, ecx: 0, edx: 0 },
        _ => CpuIdResult { eax: 0x00a2_0f10, ebx: 0, ecx: 0, edx: 0 },
    }
}

fn check(ram_mib: u64) {
    let platform = TestPlatform::leak();
    let mut program = Program(
        Machine::with(platform, Hardware { ram_mib, cpuid, ..Hardware::default() }).unwrap(),
    );
    let bytes = ram_mib * MIB;

    let map = program.fw_cfg_file("etc/e820");
    let number =
        |record: &[u8], at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    let ranges: Vec<Range<u64>> = map
        .chunks(20)
        .map(|record| number(record, 0)..number(record, 0) + number(record, 8))
        .collect();
    assert_eq!(ranges.iter().map(|range| range.end - range.start).sum::<u64>(), bytes);
    assert_eq!(program.fw_cfg(key::RAM_SIZE, 8), bytes.to_le_bytes());
    let low_end = ranges[0].end;
    let high_end = ranges.get(1).map_or(FOUR_GIB, |range| range.end);
    assert_eq!(ranges[0].start, 0);
    assert!(ranges.get(1).is_none_or(|range| range.start == FOUR_GIB));

    // CMOS, as SeaBIOS's qemu_preinit and old systems read it.
    let mut word = |index: u8| program.cmos(index) | program.cmos(index + 1) << 8;
    let (above_16m, extended) = (word(0x34), word(0x30));
    let above_4g = word(0x5b) | program.cmos(0x5d) << 16;
    assert_eq!(extended, ((low_end - MIB) >> 10).min(0xffff));
    assert_eq!(above_16m << 16, low_end.saturating_sub(16 * MIB));
    assert_eq!(above_4g << 16, (high_end - FOUR_GIB).min(0xff_ffff << 16));

    const TOP_MEM: u32 = 0xc001_001a;
    const TOP_MEM2: u32 = 0xc001_001d;
    assert_eq!(program.msr(TOP_MEM), low_end);
    assert_eq!(program.msr(TOP_MEM2), if high_end == FOUR_GIB { 0 } else { high_end });

    // The edges: the last page is RAM, the one behind it is not, and no two are the same memory.
    let mut offsets = vec![];
    for range in &ranges {
        for gpa in [range.start.max(MIB), range.end - 0x1000, range.end - 1] {
            assert!(program.uses(gpa), "no RAM at {gpa:#x} of {ram_mib} MiB");
            offsets.push(program.0.vcpu.vm().space.found(gpa).unwrap().1);
        }
    }
    offsets.dedup();
    assert!(offsets.is_sorted() && offsets.last() == Some(&(bytes - 1)), "{offsets:x?}");
    for gpa in [low_end, FOUR_GIB - 0x1000, FOUR_GIB - 1, high_end, 1 << 45, u64::MAX] {
        assert!(!program.uses(gpa), "RAM at {gpa:#x} of {ram_mib} MiB");
    }
    // An access that passes an end does not come out somewhere else.
    let space = &program.0.vcpu.vm().space;
    for range in &ranges {
        assert!(space.write(range.end - 4, &[0; 8]).is_err());
        assert!(space.read(range.end - 4, &mut [0; 8]).is_err());
    }
    // The ROM ends where the high RAM begins.
    assert_eq!(space.read(FOUR_GIB - 4, &mut [0; 8]).is_ok(), ranges.len() == 2);
    drop(program);
    assert_eq!(platform.allocated_bytes(), 0);
}

#[test]
fn the_edges_of_the_split() {
    for ram_mib in [2, 3481, 3583, 3584, 3585, 4096, 6144, 20480] {
        check(ram_mib);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_size(ram_mib in prop_oneof![2u64..64, 2000u64..2100, 3000u64..4200, 2u64..24_000]) {
        check(ram_mib);
    }
}

#[test]
fn a_card_has_the_memory_that_the_configuration_says() {
    for mib in [16, 32, 128] {
        let hardware = Hardware { video_memory_mib: mib, ..Hardware::default() };
        let mut program = Program(Machine::with(TestPlatform::leak(), hardware).unwrap());
        let mut dispi = |index: u32, value: Option<u32>| {
            program.port(0x1ce, 2, Direction::Out, index);
            match value {
                Some(value) => program.port(0x1cf, 2, Direction::Out, value),
                None => program.port(0x1cf, 2, Direction::In, 0) & 0xffff,
            }
        };
        assert_eq!(dispi(0xa, None), mib * 16, "units of 64 KiB");
        // 640 dots in 32 bits, in banks: the last bank is the end of video memory.
        for (index, value) in [(1, 640), (2, 480), (3, 32), (4, 1), (5, mib * 16 - 1)] {
            dispi(index, Some(value));
        }
        assert_eq!(dispi(5, None), mib * 16 - 1);
        let shown = |program: &mut Program, gpa| {
            program.0.vcpu.vm().refresh_layout();
            let space = &program.0.vcpu.vm().space;
            assert_eq!(space.resolve_fault(gpa, true), Ok(FaultCause::Memory));
            space.shown(gpa)
        };
        // Memory on; all planes, chained, at A0000h: the video BIOS's graphics modes.
        program.port(0x3c2, 1, Direction::Out, 0x63);
        let graphics = [(0x3c4, 0x0f02), (0x3c4, 0x0e04), (0x3ce, 0x4005), (0x3ce, 0x0506)];
        for (port, value) in graphics {
            program.port(port, 2, Direction::Out, value);
        }
        let end = u64::from(mib) * MIB;
        assert_eq!(shown(&mut program, 0xa_0000), Some((Backing::Video, end - 0x1_0000, true)));
        // Text, at B8000h and behind all that.
        program.port(0x1ce, 2, Direction::Out, 4);
        program.port(0x1cf, 2, Direction::Out, 0);
        let text =
            [(0x3c4, 0x0302), (0x3c4, 0x0204), (0x3ce, 0x1005), (0x3ce, 0x0e06), (0x3ce, 0xff08)];
        for (port, value) in text {
            program.port(port, 2, Direction::Out, value);
        }
        assert_eq!(shown(&mut program, 0xb_8000), Some((Backing::Video, end, true)));

        let mut bar = |value: Option<u32>| {
            program.port(0xcf8, 4, Direction::Out, 0x8000_1010);
            match value {
                Some(value) => program.port(0xcfc, 4, Direction::Out, value),
                None => program.port(0xcfc, 4, Direction::In, 0),
            }
        };
        bar(Some(u32::MAX));
        assert_eq!(bar(None) & !0xf, (mib << 20).wrapping_neg(), "the framebuffer's size");
        bar(Some(0xe000_0000));
        program.port(0xcf8, 4, Direction::Out, 0x8000_1004);
        program.port(0xcfc, 2, Direction::Out, 2);
        let last = 0xe000_0000 + end - 0x1000;
        assert_eq!(shown(&mut program, last), Some((Backing::Video, end - 0x1000, true)));
    }
}

#[test]
fn what_one_shows_no_other_changes_meanwhile() {
    const PLACES: [u32; 2] = [0xe000_0000, 0xd000_0000];
    let mut program = Program(Machine::new(TestPlatform::leak()));
    program.port(0xcf8, 4, Direction::Out, 0x8000_1004);
    program.port(0xcfc, 2, Direction::Out, 2);
    program.port(0xcf8, 4, Direction::Out, 0x8000_1010);
    program.port(0xcfc, 4, Direction::Out, PLACES[0]);
    let vm = program.0.vcpu.vm();
    let shown = || PLACES.map(|place| vm.space.resolve_fault(place.into(), true));
    let (memory, device) = (Ok(FaultCause::Memory), Ok(FaultCause::Device));
    let order = vm.layout.begin();
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| vm.ports.write(0xcfc, 4, PLACES[1]));
        while vm.ports.read(0xcfc, 4) & !0xf != PLACES[1] {
            std::thread::yield_now();
        }
        for _ in 0..2000 {
            assert_eq!(shown(), [memory, device]);
            std::thread::yield_now();
        }
        assert!(!mover.is_finished());
        drop(order);
    });
    assert_eq!(shown(), [device, memory]);
}
