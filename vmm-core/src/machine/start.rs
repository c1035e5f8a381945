//! From what the boot loader handed over to running guests.

use super::attendant::Attendant;
use super::choice::guest_configs;
use super::cpus::{CpuLoop, Cpus};
use super::guests::Guests;
use super::host_disks::HostDisks;
use crate::backend::Backend;
use crate::host::platform::{BootInputs, Platform};
use alloc::borrow::ToOwned;
use alloc::string::String;
use config::CommandLine;

/// Runs the guests that the boot loader's modules describe, until none is left; for ever if the
/// machine stays on then. The boot CPU calls this; the others are started.
///
/// # Errors
/// One line that says what is wrong and what to do, if no guest could be started.
pub fn start<B: Backend>(
    platform: &'static dyn Platform,
    options: &CommandLine,
    inputs: &BootInputs,
) -> Result<(), String> {
    let cpu = B::enable_cpu(platform, options).map_err(|missing| missing.0.to_owned())?;
    log::info!("{}: {}", B::NAME, B::describe(&cpu));
    log::info!("speculation: {}", B::defences(&cpu));
    let host_disks = HostDisks::read(platform, &inputs.disks);
    let cpus = Cpus::<B>::start(platform, options);
    let mut attendant = Attendant::new(platform, options);
    let mut guests = Guests::new(platform, cpus, inputs, host_disks, &attendant);
    let mut refusal = None;
    for config in guest_configs(platform.free_bytes(), options, inputs)? {
        if let Err(reason) = config.and_then(|config| guests.add(config, &mut attendant)) {
            log::error!("{reason}");
            refusal.get_or_insert(reason);
        }
    }
    let mut has_run = false;
    let mut turns = CpuLoop::new(cpus);
    loop {
        if cpus.take_call() {
            let refused = guests.attend(&cpu, &mut attendant);
            refusal = refusal.or(refused);
            has_run |= guests.has_running();
        }
        let has_failed = refusal.is_some() && !has_run;
        if guests.is_empty() && (!options.stay_on || has_failed) {
            break;
        }
        turns.turn(&cpu, &mut attendant);
    }
    cpus.end_boot_cpu();
    attendant.consoles.flush();
    refusal.filter(|_| !has_run).map_or(Ok(()), Err)
}
