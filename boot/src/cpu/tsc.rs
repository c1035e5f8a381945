//! The time stamp counter and its rate.

use super::lapic;
use core::sync::atomic::{AtomicU64, Ordering};
use x86::io::{inb, inl, outb};

const PIT_HZ: u64 = 1_193_182;
const PM_TIMER_HZ: u64 = 3_579_545;
/// How long the rate is measured for.
const MEASURE_MS: u64 = 10;
/// Samples at each end; the one that took least time counts.
const SAMPLES: usize = 8;
/// Differences that a measurement is believed over the CPU's own statement: parts per million.
const TRUST_PPM: u64 = 500;

static HZ: AtomicU64 = AtomicU64::new(0);

/// The counter now.
pub fn read() -> u64 {
    // SAFETY: every 64-bit CPU has it, and the hypervisor runs at privilege level 0.
    unsafe { x86::time::rdtsc() }
}

/// Its rate; 0 before [`calibrate`].
pub fn hz() -> u64 {
    HZ.load(Ordering::Relaxed)
}

/// Nanoseconds in `ticks`.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    match hz() {
        0 => 0,
        hz => (u128::from(ticks) * 1_000_000_000 / u128::from(hz)) as u64,
    }
}

/// A clock of known rate to measure against.
#[derive(Clone, Copy)]
enum Reference {
    /// The ACPI PM timer at a port; 24 bits are used.
    PmTimer(u16),
    /// Channel 2 of the PIT, counting down from 65536.
    Pit,
}

impl Reference {
    fn hz(self) -> u64 {
        match self {
            Self::PmTimer(_) => PM_TIMER_HZ,
            Self::Pit => PIT_HZ,
        }
    }

    fn start(self) {
        if let Self::Pit = self {
            // SAFETY: the PIT's and port 61h's own registers: gate on, speaker off, channel 2 in
            // mode 0 from 65536.
            unsafe {
                outb(0x61, inb(0x61) & !0b10 | 0b01);
                outb(0x43, 0b1011_0000);
                outb(0x42, 0);
                outb(0x42, 0);
            }
        }
    }

    /// Counts upwards, modulo [`Reference::modulus`].
    fn count(self) -> u64 {
        match self {
            // SAFETY: the FADT says that the PM timer is at this port; reading has no side effect.
            Self::PmTimer(port) => u64::from(unsafe { inl(port) } & 0xff_ffff),
            // SAFETY: latches and reads channel 2.
            Self::Pit => unsafe {
                outb(0x43, 0b1000_0000);
                let low = u64::from(inb(0x42));
                0xffff - (low | u64::from(inb(0x42)) << 8)
            },
        }
    }

    fn modulus(self) -> u64 {
        match self {
            Self::PmTimer(_) => 1 << 24,
            Self::Pit => 1 << 16,
        }
    }

    fn works(self) -> bool {
        let start = self.count();
        (0..1000).any(|_| self.count() != start)
    }
}

struct Sample {
    tsc: u64,
    reference: u64,
    lapic: u32,
    took: u64,
}

/// All clocks at one moment: the quickest of several tries, as a try may be interrupted by firmware
/// or a host below.
fn sample(reference: Reference) -> Sample {
    let one = || {
        let before = read();
        let count = reference.count();
        let lapic = lapic::measured_counts();
        let after = read();
        Sample { tsc: before + (after - before) / 2, reference: count, lapic, took: after - before }
    };
    (1..SAMPLES)
        .map(|_| one())
        .fold(one(), |best, next| if next.took < best.took { next } else { best })
}

/// Measures the rates of the TSC and of the local APIC's timer.
///
/// # Errors
/// No clock works to measure against.
pub fn calibrate(pm_timer: Option<u16>) -> Result<(), &'static str> {
    let candidates = [pm_timer.map(Reference::PmTimer), Some(Reference::Pit)];
    let reference = candidates.into_iter().flatten().find(|reference| {
        reference.start();
        reference.works()
    });
    let reference = reference
        .ok_or("neither the PM timer nor the PIT counts: there is nothing to measure time by")?;
    lapic::start_measuring();
    let start = sample(reference);
    let wanted = reference.hz() * MEASURE_MS / 1000;
    let passed = |count: u64| (count + reference.modulus() - start.reference) % reference.modulus();
    while passed(reference.count()) < wanted {
        core::hint::spin_loop();
    }
    let end = sample(reference);
    let ticks = end.tsc.saturating_sub(start.tsc);
    let measured_hz = (u128::from(ticks) * u128::from(reference.hz())
        / u128::from(passed(end.reference).max(1))) as u64;
    HZ.store(believed_hz(measured_hz, stated_hz()), Ordering::Relaxed);
    lapic::finish_measuring(u64::from(end.lapic.wrapping_sub(start.lapic)), ticks);
    Ok(())
}

/// The frequency that CPUID 15h states, if it states all of it.
fn stated_hz() -> Option<u64> {
    raw_cpuid::CpuId::new().get_tsc_info()?.tsc_frequency()
}

/// The stated rate is exact where it is right, and on some machines it is wrong.
fn believed_hz(measured_hz: u64, stated_hz: Option<u64>) -> u64 {
    let agrees = |stated: &u64| stated.abs_diff(measured_hz) <= measured_hz / 1_000_000 * TRUST_PPM;
    stated_hz.filter(agrees).unwrap_or(measured_hz)
}
