//! From what the boot loader handed over to running guests.

use super::domain::{Domain, module_name};
use super::host_cpus;
use crate::backend::Backend;
use crate::config::{CommandLine, Disk, DiskKind, GuestConfig, VirtualDevice};
use crate::console::Consoles;
use crate::platform::{BootInputs, Module, Platform};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

/// Memory of a guest that nobody gave a size: half of what is free, within these bounds.
const DEFAULT_MEMORY_MIB: core::ops::RangeInclusive<u64> = 32..=2048;
/// What the hypervisor needs for itself beside the guest.
const RESERVE_MIB: u64 = 32;
/// A configuration is text and small; an image is neither.
const MAX_CONFIG_BYTES: usize = 64 << 10;
/// The CD-ROM drive of a guest without a configuration: secondary master, as PCs have it.
const DEFAULT_CD: VirtualDevice = VirtualDevice { index: 2, ide_only: true };

/// Runs the guests that the boot loader's modules describe, on the boot CPU, which calls this, until none is left. The
/// others are started.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub fn start<B: Backend + 'static>(
    platform: &'static dyn Platform,
    options: &CommandLine,
    inputs: &BootInputs,
) -> Result<(), String> {
    let cpu = B::enable_cpu(platform, options).map_err(|missing| missing.0.to_owned())?;
    log::info!("{}: {}", B::NAME, B::describe(&cpu));
    let timekeeper = host_cpus::start::<B>(platform, options);
    let config = with_one_vcpu(guest_config(platform, options, inputs)?);
    log::info!("{}: {} MiB, {} vCPU, {}", config.name, config.memory_mib, config.vcpus, B::NAME);
    let mut consoles = Consoles::new(platform, options);
    Domain::new(platform, inputs, config)?.run::<B>(&cpu, timekeeper, &mut consoles)?;
    consoles.flush();
    if options.stay_on {
        keep_prompt(platform, &mut consoles);
    }
    Ok(())
}

/// No guest is left, and the machine stays on: the hypervisor's prompt goes on answering.
fn keep_prompt(platform: &'static dyn Platform, consoles: &mut Consoles) -> ! {
    loop {
        platform.set_timer(consoles.attend_alone());
        platform.idle();
    }
}

/// The guest to run: from a configuration module, or from an ISO image alone.
fn guest_config(
    platform: &'static dyn Platform,
    options: &CommandLine,
    inputs: &BootInputs,
) -> Result<GuestConfig, String> {
    let mut configs = inputs.modules.iter().filter(|module| is_config(options, module));
    if let Some(module) = configs.next() {
        for other in configs {
            log::warn!("{}: only one guest can run yet; left out", module_name(&other.command_line));
        }
        return parse_config(module);
    }
    let wanted = options.iso.as_deref();
    let image = inputs.modules.iter().find(|module| {
        let name = module_name(&module.command_line);
        wanted.is_none_or(|wanted| name == wanted || name.ends_with(&format!("/{wanted}")))
    });
    let Some(image) = image else {
        return Err(
            "no module to boot: give the boot loader an ISO image, or an xl.cfg and its disks, as modules"
                .to_owned(),
        );
    };
    let free_mib = platform.free_bytes() >> 20;
    let usable_mib = free_mib.saturating_sub(RESERVE_MIB);
    let default_mib = (free_mib / 2).clamp(*DEFAULT_MEMORY_MIB.start(), *DEFAULT_MEMORY_MIB.end());
    let memory_mib = options.guest_memory_mib.unwrap_or(default_mib);
    if memory_mib > usable_mib {
        return Err(format!("guest_memory={memory_mib}: only {usable_mib} MiB are free for guests"));
    }
    let mut config = GuestConfig::new("guest", memory_mib & !1, options.guest_vcpus);
    config.boot = "dc".to_owned();
    let target = module_name(&image.command_line).to_owned();
    config.disks.push(Disk { target, device: DEFAULT_CD, kind: DiskKind::CdRom, read_only: true });
    Ok(config)
}

fn is_config(options: &CommandLine, module: &Module) -> bool {
    let name = module_name(&module.command_line);
    if !options.guest_configs.is_empty() {
        let is_named = |wanted: &String| name == wanted || name.ends_with(&format!("/{wanted}"));
        return options.guest_configs.iter().any(is_named);
    }
    let start = &module.data[..module.data.len().min(MAX_CONFIG_BYTES)];
    module.data.len() <= MAX_CONFIG_BYTES && core::str::from_utf8(start).is_ok_and(|text| text.contains('='))
}

fn parse_config(module: &Module) -> Result<GuestConfig, String> {
    let name = module_name(&module.command_line);
    let text =
        core::str::from_utf8(module.data).map_err(|_| format!("{name}: not text, so not a configuration"))?;
    let (config, warnings) = GuestConfig::parse(name, text).map_err(|error| format!("{error}"))?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    Ok(config)
}

fn with_one_vcpu(config: GuestConfig) -> GuestConfig {
    if config.vcpus > 1 {
        log::warn!("{}: vcpus: {} asked for, one can run yet", config.name, config.vcpus);
    }
    GuestConfig { vcpus: 1, ..config }
}
