//! Single steps on bounce pages, on a device that behaves as memory does.

use super::machine::{Machine, Workshop};
use crate::backend::exit::Exit;
use crate::test_backend::StepAccess;
use crate::vm::Stop;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use devices::bus::{Access, MmioDevice, Region};
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::fuzzing::Input;
use emulator::registers::{Exception, Gpr};
use spin::Mutex;

const DEVICE: u64 = 0xf100_0000;
const DEVICE_BYTES: usize = 0x1_0000;
const PAGE: usize = 0x1000;
const MAX_STEPS: usize = 12;
/// Pieces of an event's delivery: each takes one bounce page at the most, of which there are 36.
const MAX_PIECES: u8 = 12;

/// Instructions with an operand at EDI that the emulator leaves to the processor: its length, and
/// whether it is written.
const FORMS: [(&[u8], usize, bool); 8] = [
    (&[0xdf, 0x2f], 8, false),         // fild qword [edi]
    (&[0xdf, 0x3f], 8, true),          // fistp qword [edi]
    (&[0xdb, 0x2f], 10, false),        // fld tbyte [edi]
    (&[0xdb, 0x3f], 10, true),         // fstp tbyte [edi]
    (&[0xd9, 0x27], 28, false),        // fldenv [edi]
    (&[0xdd, 0x27], 108, false),       // frstor [edi]
    (&[0x0f, 0xae, 0x0f], 512, false), // fxrstor [edi]
    (&[0x0f, 0xae, 0x07], 512, true),  // fxsave [edi]
];

/// Memory behind a device.
struct Memory(Mutex<Vec<u8>>);

impl MmioDevice for Memory {
    fn ranges(&self) -> Vec<Region> {
        vec![Region { number: 0, base: DEVICE, length: DEVICE_BYTES as u64 }]
    }

    fn mmio_read(&self, access: Access) -> Option<u64> {
        let mut value = [0; 8];
        let bytes = self.0.lock();
        let found = bytes.get(access.offset as usize..)?.get(..access.size_bytes.into())?;
        value[..found.len()].copy_from_slice(found);
        Some(u64::from_le_bytes(value))
    }

    fn mmio_write(&self, access: Access, value: u64) {
        let size = usize::from(access.size_bytes);
        if let Some(place) =
            self.0.lock().get_mut(access.offset as usize..).and_then(|rest| rest.get_mut(..size))
        {
            place.copy_from_slice(&value.to_le_bytes()[..size]);
        }
    }
}

/// A step on a device ends as it would on RAM: each access finds what the ones before left, and the
/// device holds all that was written, or nothing if the instruction was not done. No bounce page
/// stays.
pub fn steps(data: &[u8]) {
    Workshop::run(|workshop| {
        let before: Vec<u8> = (0..DEVICE_BYTES).map(|at| (at * 7) as u8).collect();
        let device = Arc::new(Memory(Mutex::new(before.clone())));
        let mut bench =
            Bench { machine: workshop.build_with(Some(device.clone())), device, model: before };
        let mut input = Input::new(data);
        for _ in 0..MAX_STEPS {
            if bench.step(&mut input).is_none() {
                return;
            }
        }
    });
}

struct Bench {
    machine: Machine,
    device: Arc<Memory>,
    model: Vec<u8>,
}

impl Bench {
    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (choice, at) = (input.u8()?, usize::from(input.u16()?));
        let is_event = choice & 3 == 3;
        let accesses = if is_event {
            delivery(input)?
        } else {
            let (instruction, length, writes) = FORMS[usize::from(choice >> 2) % FORMS.len()];
            self.machine.put_instruction(instruction);
            let at = at % (DEVICE_BYTES - length);
            self.machine.vcpu.registers_mut().1.set(Gpr::Rdi, DEVICE + at as u64);
            operand(at, length, writes, input)?
        };
        let first = accesses.first()?;
        let first =
            MemoryAccess { gpa: first.gpa, write: first.write, execute: false, page_walk: false };
        let is_done = input.u8()? & 7 != 0;
        let backend = self.machine.vcpu.registers_mut().0;
        (backend.step_accesses, backend.stepped) = (accesses.clone(), Vec::new());
        backend.interrupted = is_event.then_some(Event::Interrupt(0x30));
        let fault = Exit::Fault { exception: Exception::AlignmentCheck, error_code: Some(0) };
        backend.step_exit = if is_done { Exit::Stepped } else { fault };
        self.machine.exit(Exit::Memory(first));
        self.machine.vcpu.check_bounce_pages();
        assert_ne!(self.machine.vcpu.vm().stop.requested(), Some(Stop::Crash));

        let backend = self.machine.vcpu.registers_mut().0;
        assert!(!backend.stepped.is_empty(), "the emulator did it");
        let found = core::mem::take(&mut backend.step_accesses);
        let mut after = self.model.clone();
        for (asked, found) in accesses.iter().zip(&found) {
            let place = &mut after[(asked.gpa - DEVICE) as usize..][..asked.data.len()];
            if asked.write {
                place.copy_from_slice(&asked.data);
            } else {
                assert_eq!(found.data, place, "at {:#x}", asked.gpa);
            }
        }
        if is_done {
            self.model = after;
        } else {
            // The fault is what the guest takes next.
            self.machine.exit(Exit::HostNmi);
        }
        assert!(
            *self.device.0.lock() == self.model,
            "the device holds something else than RAM would"
        );
        self.machine.vcpu.registers_mut().0.injected.clear();
        Some(())
    }
}

/// The accesses of an instruction to its operand: by pieces within pages. All of it is written, or
/// some of it is read.
fn operand(
    at: usize,
    length: usize,
    write: bool,
    input: &mut Input<'_>,
) -> Option<Vec<StepAccess>> {
    let mut accesses = Vec::new();
    let (mut at, end) = (at, at + length);
    while at < end {
        let most = (PAGE - at % PAGE).min(end - at);
        let piece = (usize::from(input.u8()?) + 1).min(most);
        let data = if write { vec![input.u8()?; piece] } else { vec![0; piece] };
        accesses.push(StepAccess {
            gpa: DEVICE + at as u64,
            data,
            write,
            execute: false,
            page_walk: false,
        });
        at += piece;
    }
    if input.flag()? {
        accesses.reverse();
    }
    Some(accesses)
}

/// The accesses of an event's delivery: descriptors are read in one half of the device, a stack is
/// written in the other, as a delivery that is refused a page begins anew and finds what it has
/// pushed.
fn delivery(input: &mut Input<'_>) -> Option<Vec<StepAccess>> {
    let mut accesses = Vec::new();
    for _ in 0..input.u8()? % MAX_PIECES + 1 {
        let (at, kind) = (usize::from(input.u16()?), input.u8()?);
        let at = at % (DEVICE_BYTES / 2) + usize::from(kind & 1) * DEVICE_BYTES / 2;
        let piece = (usize::from(kind >> 2) + 1).min(PAGE - at % PAGE);
        let (write, data) = (kind & 1 != 0, vec![input.u8()?; piece]);
        accesses.push(StepAccess {
            gpa: DEVICE + at as u64,
            data,
            write,
            execute: false,
            page_walk: false,
        });
    }
    Some(accesses)
}
