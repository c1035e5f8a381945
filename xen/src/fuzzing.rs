//! The platform and its back ends under a guest that does anything.

use crate::backends::{BackEnds, SharedStore};
use crate::hypercall::{Outcome, Then};
use crate::machine::Machine;
use crate::pages::{CONSOLE, PAGE_BYTES, STORE};
use crate::test_guest::{ARGUMENT, Guest, RAM_BYTES, SELF, Screen, TestVcpu, Told};
use crate::width::Width;
use devices::memory::GuestMemory;
use devices::time::GuestTime;
use emulator::fuzzing::Input;
use std::sync::Arc;

/// Steps in one run, at most.
const MAX_STEPS: usize = 200;
/// Parts of one call, at most.
const MAX_PARTS: usize = 8;
const VCPUS: usize = 2;
/// Hypercalls with commands, the more often the more they can do.
const NUMBERS: [u64; 16] = [12, 12, 13, 15, 17, 20, 20, 21, 24, 24, 29, 32, 32, 32, 34, 99];
/// The first vector that a local APIC takes.
const FIRST_VECTOR: u8 = 16;

/// A guest with two virtual CPUs, XenStore, a console and a disk.
///
/// # Panics
/// If the machine is told what it must not be told, a call has no answer of Xen's, or something of
/// the guest's is left in the store at the end.
pub fn platform(data: &[u8]) {
    let mut input = Input::new(data);
    let mut guest = Guest::new(Width::Bits64, VCPUS);
    let (shared, screen) = (SharedStore::new(), Arc::new(Screen::default()));
    let back_ends = guest.back_ends(&shared, &screen, vec![0; 16 << 10]);
    for _ in 0..MAX_STEPS {
        if step(&mut guest, &back_ends, &screen, &mut input).is_none() {
            break;
        }
        let told = guest.told();
        for told in &told {
            match *told {
                Told::Interrupt { vcpu, vector } => {
                    assert!(vcpu < VCPUS && vector >= FIRST_VECTOR, "{told:?}");
                }
                Told::Look { vcpu } | Told::Timer { vcpu, .. } => assert!(vcpu < VCPUS, "{told:?}"),
                Told::Line { .. } | Told::WorkIn(_) | Told::ShutDown(_) => {}
            }
        }
        if told.iter().any(|told| matches!(told, Told::Look { .. })) {
            back_ends.work();
        }
        if told.iter().any(|told| matches!(told, Told::WorkIn(_))) {
            back_ends.work_by_the_clock();
        }
    }
    drop(back_ends);
    assert_eq!(shared.with(|store| store.list("/local/domain")), Ok(vec!["0".into()]));
}

/// One step; none if the input has run out.
fn step(guest: &mut Guest, back_ends: &BackEnds, screen: &Screen, input: &mut Input) -> Option<()> {
    match input.u8()? % 16 {
        0..=8 => call(guest, back_ends, input)?,
        9 | 10 => {
            let (gpa, length) = (u64::from(input.u16()? % 0x100) << 8, input.u8()? % 32);
            guest.poke(gpa, input.bytes(length.into())?);
        }
        // Indices of the rings, and what is in them.
        11 | 12 => {
            let page = input.pick(&[STORE, CONSOLE])?;
            let start = input.pick(&[0, 1024, 2048, 2052, 3072, 3076, 3080, 3084])?;
            let offset = page as u64 * 4096 + start + u64::from(input.u8()? % 64);
            let length = input.u8()? % 48;
            let bytes = input.bytes(length.into())?;
            // It is inside of the page.
            let _ = GuestMemory::write(&*guest.machine.pages, offset, bytes);
        }
        13 => {
            let now_ns = u64::from(input.u32()?) << (input.u8()? % 24);
            *guest.machine.now_ns.lock().unwrap() = now_ns;
            let vcpu = usize::from(input.u8()?) % VCPUS;
            guest.platform.timer_expired(vcpu, GuestTime::from_ns(now_ns));
        }
        14 => {
            *screen.room.lock().unwrap() = input.u8()?.into();
            back_ends.console().put_input(input.bytes(3)?);
            back_ends.ask("poweroff");
        }
        _ => {
            guest.width = if input.flag()? { Width::Bits64 } else { Width::Bits32 };
            let vcpu = usize::from(input.u8()?) % VCPUS;
            guest.platform.latch_width(guest.width);
            guest.platform.repeat_upcall(vcpu);
            guest.platform.holds_line(vcpu);
            guest.platform.end_poll(vcpu);
            if let Some(vector) = guest.platform.upcall_to_inject(vcpu) {
                assert!(guest.platform.params().callback as u8 == vector);
            }
            let ram = guest.machine.ram.clone();
            let mut caller = TestVcpu { number: vcpu, width: guest.width, ram: &ram };
            guest.platform.write_run_state(&mut guest.own[vcpu], &mut caller);
        }
    }
    Some(())
}

/// A hypercall whose structure is made up of numbers that may mean something.
fn call(guest: &mut Guest, back_ends: &BackEnds, input: &mut Input) -> Option<()> {
    let number = input.pick(&NUMBERS)?;
    for at in (ARGUMENT..).step_by(4).take(usize::from(input.u8()? % 8)) {
        let word = match input.u8()? {
            small @ 0..=63 => small.into(),
            64..=127 => SELF.into(),
            128..=191 => u32::from(input.u8()?) << 12 >> (input.u8()? % 13),
            _ => input.u32()?,
        };
        guest.poke(at, &word.to_le_bytes());
    }
    let argument = |input: &mut Input| {
        Some(match input.u8()? {
            small @ 0..=99 => u64::from(small % 32),
            100..=199 => ARGUMENT,
            200..=219 => RAM_BYTES - 5,
            _ => input.u64()?,
        })
    };
    let mut arguments = [argument(input)?, argument(input)?, argument(input)?];
    let vcpu = usize::from(input.u8()?) % VCPUS;
    for _ in 0..MAX_PARTS {
        let answer = guest.call_on(vcpu, number, &arguments);
        if answer.then == Then::SoftReset {
            back_ends.soft_reset();
        }
        match answer.outcome {
            Outcome::Done(result) => {
                assert!(result >= -95, "{number} {arguments:?}: {answer:?}");
                break;
            }
            // It is made in parts.
            Outcome::Again { first, second } => arguments[..2].copy_from_slice(&[first, second]),
        }
    }
    let pages = guest.machine.ram_pages();
    assert!(pages <= RAM_BYTES / PAGE_BYTES, "{pages} pages of RAM");
    Some(())
}

#[cfg(test)]
mod tests {
    use super::platform;
    use emulator::fuzzing::replay;
    use proptest::prelude::*;

    #[test]
    fn kept_inputs_break_no_promise() {
        replay("pv_platform", platform);
    }

    proptest! {
        #[test]
        fn random_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..2000)) {
            platform(&data);
        }
    }
}
