//! RAM of any size, below the PCI hole and from 4 GiB on.

use super::machine::{Hardware, Machine};
use crate::test_platform::TestPlatform;
use crate::vm::memory::{FaultCause, GuestSpace, PAGE_BYTES};
use alloc::collections::BTreeMap;
use devices::memory::GuestMemory;
use emulator::fuzzing::Input;

const MIB: u64 = 1 << 20;
const FOUR_GIB: u64 = 4 << 30;
const MAX_ACCESSES: usize = 24;
/// Sizes at and around both splits, and large ones, of which little is touched.
const SIZES_MIB: [u64; 9] = [2, 5, 3072, 3583, 3584, 3585, 4096, 6144, 20480];
/// QEMU's `pc` machine: less RAM than this is all below the hole, of more there are 3 GiB.
const MAX_LOW_MIB: u64 = 3584;
const SPLIT_LOW_MIB: u64 = 3072;
const ROM_BYTES: u64 = 2 * MIB;

/// Memory as a guest of this size must find it.
struct Model {
    low_end: u64,
    high_end: u64,
    /// Bytes of RAM that were written.
    bytes: BTreeMap<u64, u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ram,
    Rom,
    Nothing,
}

impl Model {
    fn new(ram_mib: u64) -> Self {
        let low_mib = if ram_mib < MAX_LOW_MIB { ram_mib } else { SPLIT_LOW_MIB };
        let high_end = FOUR_GIB + (ram_mib - low_mib) * MIB;
        Self { low_end: low_mib * MIB, high_end, bytes: BTreeMap::new() }
    }

    /// The memory at an address above 1 MiB.
    fn kind(&self, gpa: u64) -> Kind {
        match gpa {
            _ if gpa < self.low_end || (FOUR_GIB..self.high_end).contains(&gpa) => Kind::Ram,
            _ if (FOUR_GIB - ROM_BYTES..FOUR_GIB).contains(&gpa) => Kind::Rom,
            _ => Kind::Nothing,
        }
    }

    fn byte(&self, gpa: u64) -> u8 {
        self.bytes.get(&gpa).copied().unwrap_or(0)
    }

    /// Writes as far as there is memory; true if that is all.
    fn write(&mut self, gpa: u64, data: &[u8]) -> bool {
        for (gpa, &byte) in (gpa..).zip(data) {
            match self.kind(gpa) {
                Kind::Ram => _ = self.bytes.insert(gpa, byte),
                Kind::Rom => {}
                Kind::Nothing => return false,
            }
        }
        true
    }

    /// Checks what was read; true if there is memory for all of it.
    fn check(&self, gpa: u64, data: &[u8]) -> bool {
        for (gpa, &byte) in (gpa..).zip(data) {
            if self.kind(gpa) == Kind::Nothing {
                return false;
            }
            assert_eq!(byte, self.byte(gpa), "at {gpa:#x}");
        }
        true
    }
}

/// The processor and devices read at each address the bytes that either wrote there last, in guests
/// of all sizes; behind the ends there is nothing. All memory is back in the end.
pub fn high_ram(data: &[u8]) {
    std::thread_local! {
        static PLATFORM: &'static TestPlatform = TestPlatform::leak();
    }
    let platform = PLATFORM.with(|platform| *platform);
    let before = platform.allocated_bytes();
    let mut input = Input::new(data);
    let Some(ram_mib) = input.pick(&SIZES_MIB) else { return };
    let machine =
        Machine::with(platform, Hardware { ram_mib, ..Hardware::default() }).expect("a PC");
    let mut model = Model::new(ram_mib);
    let space = &machine.vcpu.vm().space;
    for _ in 0..MAX_ACCESSES {
        if access(space, &mut model, &mut input).is_none() {
            break;
        }
    }
    for (&gpa, &byte) in &model.bytes {
        let mut found = [0];
        assert!(space.read(gpa, &mut found).is_ok() && found == [byte], "at {gpa:#x}");
    }
    drop(machine);
    assert_eq!(platform.allocated_bytes(), before, "the guest is gone, and its memory is not back");
}

fn access(space: &GuestSpace, model: &mut Model, input: &mut Input<'_>) -> Option<()> {
    let choice = input.u8()?;
    let edges = [MIB, model.low_end, FOUR_GIB - ROM_BYTES, FOUR_GIB, model.high_end, 1 << 47];
    let gpa = match choice & 7 {
        edge @ 0..6 => {
            edges[usize::from(edge)].checked_add_signed(i64::from(input.u16()? as i16 >> 5))?
        }
        6 => u64::from(input.u8()?) << 28 | u64::from(input.u8()?),
        _ => FOUR_GIB + (u64::from(input.u8()?) << 26) + u64::from(input.u8()?),
    }
    .max(MIB);
    let data = input.bytes(usize::from(choice >> 5) * 3 + 1)?;
    let mut read = data.to_vec();
    match choice >> 3 & 3 {
        0 => assert_eq!(space.write(gpa, data).is_ok(), model.write(gpa, data), "at {gpa:#x}"),
        1 => {
            let is_memory = space.read(gpa, &mut read).is_ok();
            assert!(!is_memory || model.check(gpa, &read));
            assert_eq!(
                is_memory,
                (gpa..).take(read.len()).all(|gpa| model.kind(gpa) != Kind::Nothing)
            );
        }
        kind => {
            let (write, room) = (kind == 2, (PAGE_BYTES - gpa % PAGE_BYTES) as usize);
            read.truncate(room);
            let expected = match (model.kind(gpa), write) {
                (Kind::Ram, _) | (Kind::Rom, false) => FaultCause::Memory,
                (Kind::Rom, true) => FaultCause::ReadOnly,
                (Kind::Nothing, _) => FaultCause::Device,
            };
            assert_eq!(space.resolve_fault(gpa, write), Ok(expected), "at {gpa:#x}");
            let is_allowed = space.access_as_processor(gpa, &mut read, write, false);
            assert_eq!(is_allowed, expected == FaultCause::Memory, "at {gpa:#x}");
            if is_allowed && write {
                model.write(gpa, &read);
            } else if is_allowed {
                model.check(gpa, &read);
            }
        }
    }
    Some(())
}
