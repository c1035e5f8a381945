//! The hypervisor's own crash: registers, backtrace, the running vCPU; then stop or reboot.

use crate::cpu::descriptors::TrapFrame;
use crate::cpu::interrupts::CrashHandlers;
use crate::cpu::{self, lapic, machine_check, percpu, start_up, tsc};
use crate::memory::host;
use crate::memory::image;
use crate::power;
use crate::report::log::LastWords;
use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use spin::Mutex;
use vmm_core::host::platform::CrashDump;
use x86::controlregs;

static CRASH_DUMP: Mutex<Option<CrashDump>> = Mutex::new(None);
static REBOOT: AtomicBool = AtomicBool::new(false);
/// The CPU whose crash is being reported.
static CRASHED_CPU: AtomicU32 = AtomicU32::new(NO_CPU);
const NO_CPU: u32 = u32::MAX;

/// Calls that a backtrace shows at most.
const DEEPEST_CALL: usize = 64;
/// How long the message stays before the machine is reset.
const REBOOT_DELAY_S: u64 = 5;
/// How long the other CPUs are waited for that an NMI stops.
const STOP_DELAY_S: u64 = 1;

const DOUBLE_FAULT: u8 = 8;
const PAGE_FAULT: u8 = 14;

/// For [`crate::cpu::interrupts::set_crash_handlers`].
pub const HANDLERS: CrashHandlers = CrashHandlers { exception, nmi: stop_if_another_crashes };

/// Names what prints the running vCPU.
pub fn set_crash_dump(dump: CrashDump) {
    *CRASH_DUMP.lock() = Some(dump);
}

/// After a crash the machine is reset, or stops.
pub fn set_reboot(reboot: bool) {
    REBOOT.store(reboot, Ordering::Relaxed);
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let (rbp, rsp): (u64, u64);
    // SAFETY: reads two registers.
    unsafe {
        asm!("mov {}, rbp", "mov {}, rsp", out(reg) rbp, out(reg) rsp, options(nomem, nostack, preserves_flags))
    };
    crash(|words| {
        match info.location() {
            Some(place) => {
                writeln!(words, "PANIC at {}:{}: {}", place.file(), place.line(), info.message())?
            }
            None => writeln!(words, "PANIC: {}", info.message())?,
        }
        writeln!(words, "rsp {rsp:016x} rbp {rbp:016x}")?;
        control_registers(words)?;
        machine_checks(words)?;
        backtrace(words, None, rbp)
    })
}

/// An exception in the hypervisor itself.
fn exception(vector: u8, frame: &TrapFrame) -> ! {
    const NAMES: [&str; 32] = [
        "#DE divide error",
        "#DB debug",
        "NMI",
        "#BP breakpoint",
        "#OF overflow",
        "#BR bound range",
        "#UD invalid opcode",
        "#NM no FPU",
        "#DF double fault",
        "coprocessor overrun",
        "#TS invalid TSS",
        "#NP segment not present",
        "#SS stack fault",
        "#GP general protection",
        "#PF page fault",
        "reserved",
        "#MF x87",
        "#AC alignment",
        "#MC machine check",
        "#XM SIMD",
        "#VE virtualisation",
        "#CP control protection",
        "reserved",
        "reserved",
        "reserved",
        "reserved",
        "reserved",
        "reserved",
        "#HV hypervisor injection",
        "#VC VMM communication",
        "#SX security",
        "reserved",
    ];
    let name = NAMES.get(usize::from(vector)).copied().unwrap_or("interrupt");
    crash(|words| {
        write!(words, "PANIC: {name} (vector {vector}, error code {:#x})", frame.error_code)?;
        // SAFETY: reads CR2.
        let address = unsafe { controlregs::cr2() } as u64;
        if vector == PAGE_FAULT {
            write!(words, " at {address:#x}")?;
        }
        // A full stack has no room for the page fault's frame either: it becomes a double fault.
        let is_guarded = percpu::current().stacks().is_guarded(address);
        if matches!(vector, PAGE_FAULT | DOUBLE_FAULT) && is_guarded {
            write!(words, ": stack overflow")?;
        }
        writeln!(words)?;
        registers(words, frame)?;
        control_registers(words)?;
        machine_checks(words)?;
        backtrace(words, Some(frame.rip), frame.rbp)
    })
}

/// CPU `hanging` hangs: prints the registers and the stack of each CPU, as far as it can be
/// stopped.
pub fn report_hang(hanging: usize) -> ! {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    crash(|words| {
        writeln!(words, "PANIC: CPU {hanging} hangs in the hypervisor (watchdog)")?;
        let stops_until = tsc::read().saturating_add(tsc::hz().saturating_mul(STOP_DELAY_S));
        for cpu in start_up::others() {
            while cpu.stopped_at.get().is_none() && tsc::read() < stops_until {
                core::hint::spin_loop();
            }
            match cpu.stopped_at.get() {
                Some(frame) => {
                    writeln!(words, "CPU {}:", cpu.index)?;
                    registers(words, frame)?;
                    backtrace(words, Some(frame.rip), frame.rbp)?;
                }
                None => writeln!(words, "CPU {}: it takes no NMI", cpu.index)?,
            }
        }
        writeln!(words, "CPU {}, which has found it:", percpu::current().index)?;
        control_registers(words)?;
        machine_checks(words)?;
        backtrace(words, None, rbp)
    })
}

fn registers(words: &mut LastWords, f: &TrapFrame) -> fmt::Result {
    writeln!(
        words,
        "rip {:04x}:{:016x} rsp {:04x}:{:016x} rflags {:08x}",
        f.cs, f.rip, f.ss, f.rsp, f.rflags
    )?;
    writeln!(words, "rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}", f.rax, f.rbx, f.rcx, f.rdx)?;
    writeln!(words, "rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}", f.rsi, f.rdi, f.rbp, f.r8)?;
    writeln!(words, "r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}", f.r9, f.r10, f.r11, f.r12)?;
    writeln!(words, "r13 {:016x} r14 {:016x} r15 {:016x}", f.r13, f.r14, f.r15)
}

fn control_registers(words: &mut LastWords) -> fmt::Result {
    // SAFETY: reads registers.
    let (cr0, cr2, cr3, cr4) =
        unsafe { (controlregs::cr0(), controlregs::cr2(), controlregs::cr3(), controlregs::cr4()) };
    writeln!(words, "cr0 {:08x} cr2 {cr2:016x} cr3 {cr3:016x} cr4 {:08x}", cr0.bits(), cr4.bits())
}

/// Errors of the hardware that were not logged yet, which may be the reason.
fn machine_checks(words: &mut LastWords) -> fmt::Result {
    let Some(registers) = machine_check::registers() else { return Ok(()) };
    vmm_core::host::machine_check::errors(registers)
        .try_for_each(|bank| writeln!(words, "machine check: {bank}"))
}

/// Prints return addresses, innermost first, by the chain of frame pointers. Frame 0 is where an
/// exception came.
fn backtrace(words: &mut LastWords, rip: Option<u64>, mut rbp: u64) -> fmt::Result {
    let text = image::text();
    if let Some(rip) = rip {
        writeln!(words, "#0 {rip:#x}")?;
    }
    let mut number = 1;
    while number <= DEEPEST_CALL && rbp.is_multiple_of(8) && rbp != 0 && host::is_readable(rbp, 16)
    {
        // SAFETY: both words can be read without a fault, by the page tables.
        let [next, address] = unsafe { *(rbp as *const [u64; 2]) };
        if !text.contains(&address) {
            break;
        }
        writeln!(words, "#{number} {address:#x}")?;
        number += 1;
        // The stack grows down: a chain that does not go up is broken.
        if next <= rbp {
            break;
        }
        rbp = next;
    }
    Ok(())
}

/// The purpose of an NMI: a CPU that crashes stops the others.
fn stop_if_another_crashes(frame: &TrapFrame) {
    if CRASHED_CPU.load(Ordering::Acquire) != NO_CPU {
        percpu::current().stopped_at.call_once(|| frame.clone());
        cpu::stop();
    }
}

fn crash(report: impl FnOnce(&mut LastWords) -> fmt::Result) -> ! {
    // SAFETY: nothing goes on after this.
    unsafe { asm!("cli", options(nomem, nostack)) };
    let cpu = percpu::current().index;
    match CRASHED_CPU.compare_exchange(NO_CPU, cpu, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        // A crash in the report of a crash, which has been printed as far as it went.
        Err(crashed) if crashed == cpu => stop_or_reboot(),
        Err(_) => cpu::stop(),
    }
    if start_up::has_others() {
        lapic::interrupt_others();
    }
    let mut words = LastWords::new();
    // Nothing to do about a formatter that fails.
    let _ = report(&mut words);
    if let Some(Some(dump)) = CRASH_DUMP.try_lock().map(|dump| *dump) {
        let _ = dump(cpu as usize, &mut words);
    }
    let end = if REBOOT.load(Ordering::Relaxed) {
        "the machine reboots in 5 seconds"
    } else {
        "the machine has stopped"
    };
    let _ = writeln!(words, "Bulkhead has crashed; {end}");
    stop_or_reboot()
}

fn stop_or_reboot() -> ! {
    if !REBOOT.load(Ordering::Relaxed) {
        cpu::stop();
    }
    let end = tsc::read().saturating_add(tsc::hz().saturating_mul(REBOOT_DELAY_S));
    while tsc::read() < end {
        core::hint::spin_loop();
    }
    power::reset()
}

/// A reason why no guest can run: one line, then the machine stops.
pub fn give_up(reason: &str) -> ! {
    log::error!("{reason}");
    let mut words = LastWords::new();
    let _ = writeln!(words, "Bulkhead cannot start; the machine has stopped");
    cpu::stop()
}
