//! Starting the other CPUs (Intel SDM volume 3, 9.4 and 11.4.7): INIT, then start-up messages, one
//! CPU after the other.

use super::interrupts::KICK_VECTOR;
use super::percpu::{self, PerCpu};
use super::stacks::Stacks;
use super::{init_control_registers, lapic, machine_check, stop, tsc};
use crate::memory::host;
use core::slice;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::Once;
use vmm_core::host::platform::BOOT_CPU;

// The code that fills the start-up page, and the words that it reads there.
// SAFETY: `entry/start_up.s` defines these, the last two as aligned words that it and this file
// access atomically.
unsafe extern "C" {
    static start_up_begin: u8;
    static start_up_end: u8;
    static start_up_tables: AtomicU64;
    static start_up_cpu: AtomicU64;
}

/// After INIT, before the first start-up message.
const RESET_US: u64 = 10_000;
/// Until the second start-up message, if the first has no effect, and until a CPU counts as dead.
const FIRST_PATIENCE_US: u64 = 500;
const PATIENCE_US: u64 = 200_000;

/// [`PerCpu::progress`]: it has come as far as it can by itself.
const ARRIVED: u8 = 1;
/// It goes on.
const USED: u8 = 2;
/// It stops.
const REFUSED: u8 = 3;

/// The work of each CPU.
type Main = &'static (dyn Fn() + Sync);

static MAIN: Once<Main> = Once::new();
/// Interrupts may be sent to others.
static HAS_OTHERS: AtomicBool = AtomicBool::new(false);
/// The CPUs that are used by number, with the IDs of their local APICs.
static CPUS: Once<alloc::vec::Vec<(u32, &'static PerCpu)>> = Once::new();

/// Starts the CPUs whose local APICs have these IDs, as far as they are not this one; each calls
/// `main`. `page` is the number of a page of RAM below 1 MiB that nobody else uses. Returns how
/// many do.
pub fn start(apic_ids: &[u32], page: u8, main: Main) -> usize {
    let own_id = lapic::id();
    let mut numbered = alloc::vec![(own_id, percpu::current())];
    let others = || apic_ids.iter().copied().filter(|&id| id != own_id);
    let (Some(tables), true) = (host::tables_root(), others().next().is_some()) else { return 0 };
    MAIN.call_once(|| main);
    // SAFETY: the page is ours (condition of the loader's memory map), mapped at its physical
    // address, and the code fits.
    unsafe {
        let code = slice::from_raw_parts(
            &raw const start_up_begin,
            (&raw const start_up_end).offset_from_unsigned(&raw const start_up_begin),
        );
        core::ptr::copy_nonoverlapping(
            code.as_ptr(),
            (usize::from(page) << 12) as *mut u8,
            code.len(),
        );
        start_up_tables.store(tables, Ordering::SeqCst);
    }
    HAS_OTHERS.store(true, Ordering::SeqCst);
    for id in others().filter(|&id| lapic::reaches(id)) {
        lapic::reset(id);
    }
    wait_us(RESET_US, || false);
    for id in others() {
        if !lapic::reaches(id) {
            log::warn!("CPU with APIC ID {id}: without x2APIC it cannot be started");
            continue;
        }
        let Some(stacks) = Stacks::allocate() else {
            log::warn!("CPU with APIC ID {id}: no memory for its stacks");
            break;
        };
        let cpu = PerCpu::leak(numbered.len() as u32, stacks);
        match start_one(cpu, id, page) {
            Ok(()) => numbered.push((id, cpu)),
            Err(reason) => log::warn!("CPU with APIC ID {id}: {reason}: it is not used"),
        }
    }
    let started = numbered.len() - 1;
    CPUS.call_once(|| numbered);
    started
}

fn start_one(cpu: &'static PerCpu, id: u32, page: u8) -> Result<(), &'static str> {
    let before_tsc = tsc::read();
    // SAFETY: it is only ever accessed as an atomic.
    let waiting = unsafe { &start_up_cpu };
    waiting.store(core::ptr::from_ref(cpu) as u64, Ordering::SeqCst);
    for patience_us in [FIRST_PATIENCE_US, PATIENCE_US] {
        lapic::start_up(id, page);
        wait_us(patience_us, || waiting.load(Ordering::SeqCst) == 0);
        if waiting.load(Ordering::SeqCst) == 0 {
            break;
        }
    }
    if waiting.swap(0, Ordering::SeqCst) != 0 {
        return Err("it does not start");
    }
    wait_us(PATIENCE_US, || cpu.progress.load(Ordering::SeqCst) == ARRIVED);
    let fault = if cpu.progress.load(Ordering::SeqCst) != ARRIVED {
        Some("it does not get ready")
    } else if !(before_tsc..=tsc::read()).contains(&cpu.start_tsc.load(Ordering::SeqCst)) {
        // Guest time is one on all CPUs.
        Some("its time stamp counter is not that of the boot CPU")
    } else {
        None
    };
    cpu.progress.store(if fault.is_none() { USED } else { REFUSED }, Ordering::SeqCst);
    fault.map_or(Ok(()), Err)
}

/// Waits until `done`, or for so long.
fn wait_us(us: u64, done: impl Fn() -> bool) {
    let end_tsc = tsc::read().saturating_add(tsc::hz() / 1_000_000 * us);
    while tsc::read() < end_tsc && !done() {
        core::hint::spin_loop();
    }
}

/// The start-up code calls this on the CPU that took `cpu`, on its stack, under the final page
/// tables.
#[unsafe(no_mangle)]
extern "C" fn rust_start_up(cpu: &'static PerCpu) -> ! {
    // SAFETY: this is the CPU that took it, once. The tables are those that it runs under already.
    unsafe {
        cpu.load();
        init_control_registers();
        host::use_tables(x86::controlregs::cr3());
    }
    let ready = lapic::init();
    lapic::unmask_timer();
    machine_check::enable();
    cpu.start_tsc.store(tsc::read(), Ordering::SeqCst);
    if ready.is_ok() {
        // One that comes too late has been refused already.
        let _ = cpu.progress.compare_exchange(0, ARRIVED, Ordering::SeqCst, Ordering::SeqCst);
    }
    loop {
        match cpu.progress.load(Ordering::SeqCst) {
            USED => break,
            REFUSED => stop(),
            _ => core::hint::spin_loop(),
        }
    }
    if let Some(main) = MAIN.get() {
        main();
    }
    stop()
}

/// True if there may be CPUs besides this one.
pub fn has_others() -> bool {
    HAS_OTHERS.load(Ordering::SeqCst)
}

/// Interrupts the boot CPU, which looks after the consoles and the machine's disks then.
pub fn call_boot_cpu() {
    match this_cpu() {
        BOOT_CPU => lapic::interrupt_self(),
        _ => interrupt(BOOT_CPU, KICK_VECTOR),
    }
}

/// Sends an interrupt to the CPU with a number.
pub fn interrupt(cpu: usize, vector: u8) {
    if let Some(&(id, _)) = CPUS.get().and_then(|cpus| cpus.get(cpu)) {
        lapic::interrupt(id, vector);
    }
}

/// The CPUs but this one, once all are started.
pub fn others() -> impl Iterator<Item = &'static PerCpu> + Clone {
    let cpus = CPUS.get().map_or(&[][..], |cpus| cpus);
    cpus.iter().map(|&(_, cpu)| cpu).filter(|cpu| !core::ptr::eq(*cpu, percpu::current()))
}

/// The number of the CPU that this runs on.
pub fn this_cpu() -> usize {
    percpu::current().index as usize
}
