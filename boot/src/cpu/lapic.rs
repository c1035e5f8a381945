//! The local APIC: xAPIC or x2APIC, its timer, end of interrupt (Intel SDM volume 3, chapter 12).

use super::interrupts::{SPURIOUS_VECTOR, TIMER_VECTOR};
use super::{percpu, tsc};
use crate::memory::{PAGE_BYTES, host, paging::Mapping};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use x86::msr::{IA32_APIC_BASE, IA32_TSC_DEADLINE, rdmsr, wrmsr};

/// Registers by their xAPIC offset; the x2APIC's MSR is 800h + offset / 16.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Register {
    Id = 0x20,
    TaskPriority = 0x80,
    EndOfInterrupt = 0xb0,
    Spurious = 0xf0,
    Command = 0x300,
    CommandHigh = 0x310,
    LvtTimer = 0x320,
    LvtThermal = 0x330,
    LvtPerformance = 0x340,
    LvtLint0 = 0x350,
    LvtLint1 = 0x360,
    LvtError = 0x370,
    TimerInitial = 0x380,
    TimerCurrent = 0x390,
    TimerDivide = 0x3e0,
}

const X2APIC_MSRS: u32 = 0x800;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const SPURIOUS_ENABLE: u32 = 1 << 8;
/// The largest ID that an xAPIC can address; above it is the broadcast.
const LAST_XAPIC_ID: u32 = 0xfe;
/// The interrupt command's bits.
const COMMAND_ASSERT: u32 = 1 << 14;
const COMMAND_PENDING: u32 = 1 << 12;
const COMMAND_TO_SELF: u32 = 1 << 18;
const COMMAND_TO_OTHERS: u32 = 3 << 18;
const COMMAND_NMI: u32 = 4 << 8;
const COMMAND_INIT: u32 = 5 << 8;
const COMMAND_START_UP: u32 = 6 << 8;
const LVT_MASKED: u32 = 1 << 16;
const LVT_NMI: u32 = 4 << 8;
const TIMER_TSC_DEADLINE: u32 = 2 << 17;
const DIVIDE_BY_1: u32 = 0b1011;

/// How the timer is driven.
const MODE_ONE_SHOT: u8 = 0;
const MODE_DEADLINE: u8 = 1;

static X2APIC: AtomicBool = AtomicBool::new(false);
static BASE: AtomicUsize = AtomicUsize::new(0);
static TIMER_MODE: AtomicU8 = AtomicU8::new(MODE_ONE_SHOT);
/// Timer counts for each TSC count, times 2^64: below 1, as the TSC is the faster.
static COUNTS_PER_TSC: AtomicU64 = AtomicU64::new(0);

fn read(register: Register) -> u32 {
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: the x2APIC is on and has this register.
        return unsafe { rdmsr(X2APIC_MSRS + register as u32 / 16) as u32 };
    }
    let address = BASE.load(Ordering::Relaxed) + register as usize;
    // SAFETY: `init` has mapped the registers there, uncached.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(register: Register, value: u32) {
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: the x2APIC is on and has this register; the values written here are valid for it.
        return unsafe { wrmsr(X2APIC_MSRS + register as u32 / 16, value.into()) };
    }
    let address = BASE.load(Ordering::Relaxed) + register as usize;
    // SAFETY: `init` has mapped the registers there, uncached.
    unsafe { (address as *mut u32).write_volatile(value) };
}

/// Turns this CPU's local APIC on, with its timer stopped.
///
/// # Errors
/// A text that names the fault.
pub fn init() -> Result<(), &'static str> {
    let features = raw_cpuid::CpuId::new().get_feature_info();
    let features = features.ok_or("this CPU has no CPUID leaf 1")?;
    if !features.has_apic() {
        return Err("this machine has no local APIC, or its firmware turned it off");
    }
    // SAFETY: CPUID says that there is an APIC, so the MSR exists; setting the bits turns it on in
    // the best mode.
    let base = unsafe {
        let mut base = rdmsr(IA32_APIC_BASE) | BASE_ENABLE;
        wrmsr(IA32_APIC_BASE, base);
        if features.has_x2apic() {
            base |= BASE_X2APIC;
            wrmsr(IA32_APIC_BASE, base);
        }
        base
    };
    X2APIC.store(base & BASE_X2APIC != 0, Ordering::Relaxed);
    let address = base & BASE_ADDRESS;
    BASE.store(address as usize, Ordering::Relaxed);
    if base & BASE_X2APIC == 0 {
        host::map(address, PAGE_BYTES, Mapping::DEVICE).map_err(|_| "too little memory")?;
    }
    write(Register::Spurious, SPURIOUS_ENABLE | u32::from(SPURIOUS_VECTOR));
    write(Register::TaskPriority, 0);
    for register in
        [Register::LvtThermal, Register::LvtPerformance, Register::LvtError, Register::LvtLint0]
    {
        write(register, LVT_MASKED);
    }
    write(Register::LvtLint1, LVT_NMI);
    write(Register::TimerDivide, DIVIDE_BY_1);
    write(Register::LvtTimer, LVT_MASKED | u32::from(TIMER_VECTOR));
    write(Register::TimerInitial, 0);
    let deadline = features.has_tsc_deadline();
    TIMER_MODE.store(if deadline { MODE_DEADLINE } else { MODE_ONE_SHOT }, Ordering::Relaxed);
    Ok(())
}

/// For the log: mode and timer.
pub fn describe() -> (&'static str, &'static str) {
    let mode = if X2APIC.load(Ordering::Relaxed) { "x2APIC" } else { "xAPIC" };
    let deadline = TIMER_MODE.load(Ordering::Relaxed) == MODE_DEADLINE;
    (mode, if deadline { "TSC deadline" } else { "one-shot" })
}

/// This CPU's APIC id.
pub fn id() -> u32 {
    let id = read(Register::Id);
    if X2APIC.load(Ordering::Relaxed) { id } else { id >> 24 }
}

/// Starts the timer for measuring: it counts down from `u32::MAX`, masked.
pub fn start_measuring() {
    write(Register::TimerInitial, u32::MAX);
}

/// Counts since [`start_measuring`].
pub fn measured_counts() -> u32 {
    u32::MAX - read(Register::TimerCurrent)
}

/// Sets the timer's rate, counts per `tsc_ticks` of the TSC, and unmasks it.
pub fn finish_measuring(counts: u64, tsc_ticks: u64) {
    // A timer that is no slower than the TSC counts as one as fast: deadlines then come early at
    // worst.
    let ratio =
        ((u128::from(counts) << 64) / u128::from(tsc_ticks.max(1))).min(u128::from(u64::MAX));
    COUNTS_PER_TSC.store(ratio as u64, Ordering::Relaxed);
    unmask_timer();
}

/// Unmasks this CPU's timer, which stands still.
pub fn unmask_timer() {
    write(Register::TimerInitial, 0);
    let mode =
        if TIMER_MODE.load(Ordering::Relaxed) == MODE_DEADLINE { TIMER_TSC_DEADLINE } else { 0 };
    write(Register::LvtTimer, mode | u32::from(TIMER_VECTOR));
    // A deadline written right after must not overtake the mode (SDM 12.5.4.1).
    // SAFETY: a fence.
    unsafe { core::arch::asm!("mfence", options(nostack, preserves_flags)) };
}

/// Asks for the timer interrupt on this CPU when the TSC reaches `deadline_tsc`; `u64::MAX`
/// disarms.
pub fn set_timer(deadline_tsc: u64) {
    let cpu = percpu::current();
    if cpu.timer_deadline_tsc.load(Ordering::Relaxed) == deadline_tsc {
        return;
    }
    cpu.timer_deadline_tsc.store(deadline_tsc, Ordering::Relaxed);
    arm(deadline_tsc);
}

fn arm(deadline_tsc: u64) {
    if TIMER_MODE.load(Ordering::Relaxed) == MODE_DEADLINE {
        // 0 disarms; a deadline that has passed rings at once.
        let value = if deadline_tsc == u64::MAX { 0 } else { deadline_tsc.max(1) };
        // SAFETY: CPUID says that the MSR exists.
        unsafe { wrmsr(IA32_TSC_DEADLINE, value) };
    } else if deadline_tsc == u64::MAX {
        write(Register::TimerInitial, 0);
    } else {
        let ticks = deadline_tsc.saturating_sub(tsc::read());
        let ratio = COUNTS_PER_TSC.load(Ordering::Relaxed);
        let counts = (u128::from(ticks) * u128::from(ratio)) >> 64;
        write(Register::TimerInitial, counts.clamp(1, u32::MAX.into()) as u32);
    }
}

/// The timer's interrupt. A deadline farther away than the timer can count is waited for in parts.
pub fn timer_expired() {
    let cpu = percpu::current();
    let deadline_tsc = cpu.timer_deadline_tsc.load(Ordering::Relaxed);
    let early_ticks = deadline_tsc.saturating_sub(tsc::read());
    if deadline_tsc != u64::MAX && early_ticks > tsc::hz() / 100 {
        arm(deadline_tsc);
    } else {
        cpu.timer_deadline_tsc.store(u64::MAX, Ordering::Relaxed);
    }
}

/// Makes the timer's interrupt pending on this CPU, whenever the timer itself would ring.
pub fn interrupt_self() {
    command(0, COMMAND_TO_SELF | u32::from(TIMER_VECTOR));
}

/// Interrupts the CPU whose APIC has an ID.
pub fn interrupt(id: u32, vector: u8) {
    command(id, vector.into());
}

/// Resets the CPU whose APIC has an ID: it waits for [`start_up`].
pub fn reset(id: u32) {
    command(id, COMMAND_INIT);
}

/// Lets a CPU that was reset begin in real mode at `page` times 4096.
pub fn start_up(id: u32, page: u8) {
    command(id, COMMAND_START_UP | u32::from(page));
}

/// Sends an NMI to all other CPUs.
pub fn interrupt_others() {
    command(0, COMMAND_TO_OTHERS | COMMAND_NMI);
}

/// True if interrupts can be sent to the CPU whose APIC has an ID.
pub fn reaches(id: u32) -> bool {
    X2APIC.load(Ordering::Relaxed) || id <= LAST_XAPIC_ID
}

fn command(destination: u32, command: u32) {
    let command = command | COMMAND_ASSERT;
    if X2APIC.load(Ordering::Relaxed) {
        let msr = X2APIC_MSRS + Register::Command as u32 / 16;
        // SAFETY: the x2APIC is on and has this register. The fence, because what was written
        // before must be seen by whom this interrupts (SDM 12.12.3).
        unsafe {
            core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
            wrmsr(msr, u64::from(destination) << 32 | u64::from(command));
        }
        return;
    }
    while read(Register::Command) & COMMAND_PENDING != 0 {
        core::hint::spin_loop();
    }
    write(Register::CommandHigh, destination << 24);
    write(Register::Command, command);
}

/// Tells the local APIC that an interrupt has been handled.
pub fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}
