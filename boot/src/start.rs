//! From the entry code to the hypervisor proper, step by step.

use crate::cpu::{self, interrupts, ioapic, lapic, percpu, pic, tsc};
use crate::drivers::{display, i8042, rtc, serial};
use crate::entry::{Handover, handover::LoadedModule};
use crate::memory::host;
use crate::panic::{self, give_up};
use crate::platform::Machine;
use crate::{acpi, log as console, power};
use alloc::boxed::Box;
use alloc::string::ToString;
use vmm_core::config::command_line::CommandLine;
use vmm_core::platform::{BootInputs, Module, Platform, SerialPort};

/// SeaBIOS, from the distribution's package.
static BIOS: &[u8] = include_bytes!(env!("BULKHEAD_BIOS"));
/// SeaBIOS's VGA BIOS.
static VGA_BIOS: &[u8] = include_bytes!(env!("BULKHEAD_VGABIOS"));

/// The legacy interrupts that the hypervisor wants.
const ROUTES: [(u8, u8); 4] = [
    (serial::COM1_IRQ, interrupts::COM1_VECTOR),
    (serial::COM2_IRQ, interrupts::COM2_VECTOR),
    (i8042::KEYBOARD_IRQ, interrupts::KEYBOARD_VECTOR),
    (i8042::MOUSE_IRQ, interrupts::MOUSE_VECTOR),
];

/// The entry code calls this in long mode, with what the boot loader passed.
#[unsafe(no_mangle)]
extern "C" fn rust_entry(magic: u32, information: u32) -> ! {
    percpu::init_boot_cpu();
    cpu::init_control_registers();
    console::init();

    // SAFETY: the values are the loader's, the entry code mapped the first 4 GiB, and only the image's own .bss and
    // stack have been written.
    let handover = match unsafe { Handover::read(magic, information) } {
        Ok(handover) => handover,
        Err(reason) => give_up(reason),
    };
    // The search needs the entry code's page tables.
    let rsdp = handover.rsdp.or_else(acpi::search_rsdp);
    host::init(&handover).unwrap_or_else(|reason| give_up(reason));
    apply_options(handover.command_line);
    if handover.truncated {
        log::warn!("the boot loader gave more modules or memory ranges than fit; the rest is not used");
    }
    let tables = acpi::read(rsdp);
    power::set_controls(tables.power);
    pic::disable();
    lapic::init().unwrap_or_else(|reason| give_up(reason));
    tsc::calibrate(tables.pm_timer).unwrap_or_else(|reason| give_up(reason));
    let input = i8042::init();
    ioapic::init(&tables, &ROUTES);
    let screen = display::init(&handover);

    let (apic, timer) = lapic::describe();
    log::info!(
        "Bulkhead {}, loaded by {} ({})",
        env!("CARGO_PKG_VERSION"),
        handover.loader,
        handover.protocol
    );
    log::info!(
        "{} CPUs (one is used), {apic}, {timer} timer, TSC {} kHz",
        tables.cpus.len().max(1),
        tsc::hz() / 1000
    );
    log::info!("{} MiB free, {input}, {screen}", host::free_bytes() >> 20);

    let machine: &'static Machine =
        Box::leak(Box::new(Machine { boot_time_unix_s: rtc::read_unix_s(tables.century_register) }));
    start_backend(machine, inputs(&handover))
}

/// What the command line says of the machine itself; the rest is for the hypervisor proper, which names what is wrong
/// there too.
fn apply_options(text: &str) {
    let (options, _) = CommandLine::parse(text);
    serial::COM1.init(options.com1);
    serial::COM2.init(options.com2);
    console::set_consoles(&options.console);
    log::set_max_level(options.log_level);
    panic::set_reboot(!options.no_reboot);
}

fn inputs(handover: &Handover) -> BootInputs {
    BootInputs {
        command_line: handover.command_line.to_string(),
        modules: handover.modules.iter().map(module).collect(),
        bios: BIOS,
        vga_bios: VGA_BIOS,
    }
}

fn module(loaded: &LoadedModule) -> Module {
    let length = loaded.range.end.saturating_sub(loaded.range.start) as usize;
    // SAFETY: the loader put the module there, in RAM that is mapped; `host::init` keeps it from being handed out, so
    // that nobody writes to it.
    let data = unsafe { core::slice::from_raw_parts(loaded.range.start as *const u8, length) };
    Module { command_line: loaded.command_line.to_string(), data }
}

/// Starts the hypervisor proper on the backend that the CPU has.
fn start_backend(machine: &'static Machine, inputs: BootInputs) -> ! {
    let cpuid = raw_cpuid::CpuId::new();
    let svm =
        cpuid.get_extended_processor_and_feature_identifiers().is_some_and(|features| features.has_svm());
    let vmx = cpuid.get_feature_info().is_some_and(|features| features.has_vmx());
    if svm {
        placeholder(machine, &inputs)
    }
    if vmx {
        give_up("this CPU has VT-x, whose backend is not built yet; use a machine with AMD-V");
    }
    give_up(
        "this CPU has no hardware virtualisation, or its firmware hides it: turn on AMD-V (SVM) in the firmware's setup",
    )
}

fn placeholder(machine: &'static Machine, inputs: &BootInputs) -> ! {
    log::info!("command line: {:?}", inputs.command_line);
    for module in &inputs.modules {
        log::info!("module {:?}, {} bytes", module.command_line, module.data.len());
    }
    while machine.serial_read(SerialPort::Com1) != Some(b'q') {
        machine.drain_log();
        machine.idle();
    }
    machine.power_off();
    machine.reboot()
}
