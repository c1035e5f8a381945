//! From what the boot loader handed over to running guests.

use super::attendant::Attendant;
use super::choice::guest_config;
use super::cpus::Cpus;
use super::domain::Domain;
use crate::backend::Backend;
use crate::host::platform::{BootInputs, Platform};
use alloc::borrow::ToOwned;
use alloc::string::String;
use config::CommandLine;

/// Runs the guests that the boot loader's modules describe, until none is left. The boot CPU calls
/// this; the others are started.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub fn start<B: Backend>(
    platform: &'static dyn Platform,
    options: &CommandLine,
    inputs: &BootInputs,
) -> Result<(), String> {
    let cpu = B::enable_cpu(platform, options).map_err(|missing| missing.0.to_owned())?;
    log::info!("{}: {}", B::NAME, B::describe(&cpu));
    log::info!("speculation: {}", B::defences(&cpu));
    let cpus = Cpus::<B>::start(platform, options);
    let config = guest_config(platform.free_bytes(), options, inputs)?;
    log::info!("{}: {} MiB, {} vCPU, {}", config.name, config.memory_mib, config.vcpus, B::NAME);
    let mut attendant = Attendant::new(platform, options);
    Domain::new(platform, inputs, config)?.run::<B>(&cpu, cpus, &mut attendant)?;
    attendant.consoles.flush();
    if options.stay_on {
        keep_prompt(platform, &mut attendant);
    }
    Ok(())
}

/// No guest is left, and the machine stays on: the hypervisor's prompt goes on answering.
fn keep_prompt(platform: &'static dyn Platform, attendant: &mut Attendant) -> ! {
    loop {
        platform.set_timer(attendant.attend_alone());
        platform.idle();
    }
}
