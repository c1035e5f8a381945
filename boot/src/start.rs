//! From the entry code to the hypervisor proper, step by step.

use crate::cpu::{self, interrupts, ioapic, lapic, machine_check, percpu, pic, tsc};
use crate::drivers::hardware::Bare;
use crate::drivers::{display, i8042, pci, rtc, serial};
use crate::entry::loader_memory;
use crate::memory::host;
use crate::platform::Machine;
use crate::report::log as console;
use crate::report::panic::{self, give_up};
use crate::{acpi, boot_rom, power};
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use block::HostDisk;
use config::command_line::CommandLine;
use control::host::Host;
use drivers::Disks;
use handover::{Handover, LoadedModule};
use vmm_core::host::platform::{BootInputs, Module, Platform};

/// SeaBIOS, from the distribution's package.
static BIOS: &[u8] = include_bytes!(env!("BULKHEAD_BIOS"));
/// SeaBIOS's VGA BIOS.
static VGA_BIOS: &[u8] = include_bytes!(env!("BULKHEAD_VGABIOS"));

const NO_VIRTUALISATION: &str = "this CPU has no hardware virtualisation, or the firmware hides it; turn VT-x (VMX) or AMD-V (SVM) on in the firmware's setup";

/// The legacy interrupts that the hypervisor wants.
const ROUTES: [(u8, u8); 4] = [
    (serial::COM1_IRQ, interrupts::COM1_VECTOR),
    (serial::COM2_IRQ, interrupts::COM2_VECTOR),
    (i8042::KEYBOARD_IRQ, interrupts::KEYBOARD_VECTOR),
    (i8042::MOUSE_IRQ, interrupts::MOUSE_VECTOR),
];

/// Their handlers.
const DEVICES: [(u8, fn()); 4] = [
    (interrupts::COM1_VECTOR, || serial::COM1.interrupt()),
    (interrupts::COM2_VECTOR, || serial::COM2.interrupt()),
    (interrupts::KEYBOARD_VECTOR, i8042::interrupt),
    (interrupts::MOUSE_VECTOR, i8042::interrupt),
];

/// The entry code calls this in long mode, with what the boot loader passed.
#[unsafe(no_mangle)]
extern "C" fn rust_entry(magic: u32, information: u32) -> ! {
    interrupts::set_crash_handlers(panic::HANDLERS);
    percpu::init_boot_cpu();
    cpu::init_control_registers();
    console::init();

    // SAFETY: the values are the loader's, the entry code mapped the first 4 GiB, only the image's
    // own .bss and stack have been written, and `host::init` maps all RAM and leaves what the
    // loader uses alone.
    let handover = match unsafe { loader_memory::read(magic, information) } {
        Ok(handover) => handover,
        Err(reason) => give_up(reason),
    };
    // The search needs the entry code's page tables.
    let rsdp = handover.rsdp().or_else(acpi::find_root);
    host::init(&handover).unwrap_or_else(|reason| {
        display::init(&handover);
        give_up(reason)
    });
    // Early: it shows why the steps below fail.
    let screen = display::init(&handover);
    let options = apply_options(handover.command_line());
    let tables = acpi::read(rsdp);
    power::set_controls(tables.power);
    pic::disable();
    lapic::init().unwrap_or_else(|reason| give_up(reason));
    tsc::calibrate(tables.pm_timer).unwrap_or_else(|reason| give_up(reason));
    machine_check::enable();
    let input = i8042::init();
    for (vector, handler) in DEVICES {
        interrupts::set_device(vector, handler);
    }
    ioapic::init(&tables, &ROUTES);
    // Bytes that came before raised lines that were not connected yet.
    serial::COM1.interrupt();
    serial::COM2.interrupt();

    let (apic, timer) = lapic::describe();
    log::info!(
        "Bulkhead {}, loaded by {} ({})",
        env!("CARGO_PKG_VERSION"),
        handover.loader(),
        handover.protocol()
    );
    log::info!(
        "{} CPUs, {apic}, {timer} timer, TSC {} kHz",
        tables.cpus.len().max(1),
        tsc::hz() / 1000
    );
    log::info!("{} MiB free, {input}, {screen}", host::free_bytes() >> 20);

    pci::CONFIG.use_memory(tables.pci_config);
    let machine: &'static Machine = Box::leak(Box::new(Machine {
        boot_time_unix_s: rtc::read_unix_s(tables.century_register),
        apic_ids: tables.cpus,
        start_up_page: handover.real_mode_page(),
        disks: Disks::find(&Bare),
    }));
    run_guests(machine, &options, &inputs(&handover, &options, machine.disks.list().to_vec()));
    if !options.stay_on {
        machine.power_off();
    }
    loop {
        machine.drain_log();
        machine.idle();
    }
}

/// Reads the command line, and does what it says of the machine itself.
fn apply_options(text: &str) -> CommandLine {
    let (options, warnings) = CommandLine::parse(text);
    serial::COM1.init(options.com1);
    serial::COM2.init(options.com2);
    console::set_consoles(&options.console);
    log::set_max_level(options.log_level);
    panic::set_reboot(!options.no_reboot);
    for warning in warnings {
        log::warn!("{warning}");
    }
    options
}

fn inputs(handover: &Handover<'static>, options: &CommandLine, disks: Vec<HostDisk>) -> BootInputs {
    BootInputs {
        command_line: handover.command_line().to_string(),
        modules: handover.modules().map(|loaded| module(&loaded)).collect(),
        disks,
        bios: BIOS,
        vga_bios: VGA_BIOS,
        boot_rom: if options.boot_rom { boot_rom::image() } else { &[] },
    }
    .with_named_modules()
}

fn module(loaded: &LoadedModule<'static>) -> Module {
    let (start, length) = (loaded.range.start, loaded.range.end.saturating_sub(loaded.range.start));
    let data: &[u8] = match length {
        // An empty module may be anywhere, at address 0 too.
        0 => &[],
        _ if !host::is_readable(start, length) => give_up(
            "the boot loader put a module where there is no RAM; load the image with another version of GRUB",
        ),
        // SAFETY: the loader put the module there, in RAM that is mapped (checked above);
        // `host::init` keeps it from being handed out, so that nobody writes to it.
        _ => unsafe { core::slice::from_raw_parts(start as *const u8, length as usize) },
    };
    Module { command_line: loaded.command_line.to_string(), data }
}

/// Runs the guests on the backend that the CPU has, until none is left.
fn run_guests(machine: &'static Machine, options: &CommandLine, inputs: &BootInputs) {
    let cpuid = raw_cpuid::CpuId::new();
    let svm = cpuid
        .get_extended_processor_and_feature_identifiers()
        .is_some_and(|features| features.has_svm());
    let vmx = cpuid.get_feature_info().is_some_and(|features| features.has_vmx());
    let result = match (svm, vmx) {
        (true, _) => vmm_core::machine::start::<svm::Svm>(machine, options, inputs),
        (false, true) => vmm_core::machine::start::<vmx::Vmx>(machine, options, inputs),
        (false, false) => Err(NO_VIRTUALISATION.to_string()),
    };
    if let Err(reason) = result {
        give_up(&reason);
    }
}
