//! The machine's other CPUs: virtualisation is on for each of them, and where processors take
//! posted interrupts one keeps the guests' timers.

use crate::backend::Backend;
use crate::host::machine_check_watch::MachineCheckWatch;
use crate::host::platform::Platform;
use crate::host::timekeeper::Timekeeper;
use alloc::boxed::Box;
use config::CommandLine;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Once;

/// The state that the other CPUs share.
struct Others<B> {
    platform: &'static dyn Platform,
    options: CommandLine,
    timekeeper: Once<Timekeeper>,
    /// How many have virtualisation on.
    enabled: AtomicUsize,
    /// How many have it on, or know that they cannot.
    ready: AtomicUsize,
    backend: PhantomData<fn() -> B>,
}

/// Starts the other CPUs; returns the one that keeps timers, if one does. None runs guests yet.
pub fn start<B: Backend + 'static>(
    platform: &'static dyn Platform,
    options: &CommandLine,
) -> Option<&'static Timekeeper> {
    let others: &'static Others<B> = Box::leak(Box::new(Others {
        platform,
        options: options.clone(),
        timekeeper: Once::new(),
        enabled: AtomicUsize::new(0),
        ready: AtomicUsize::new(0),
        backend: PhantomData,
    }));
    let count = platform.start_cpus(Box::leak(Box::new(|| others.run())));
    while others.ready.load(Ordering::Acquire) < count {
        core::hint::spin_loop();
    }
    let (enabled, timekeeper) = (others.enabled.load(Ordering::Relaxed), others.timekeeper.get());
    match timekeeper {
        Some(timekeeper) => {
            log::info!(
                "{enabled} more CPUs with {}; CPU {} keeps timers",
                B::NAME,
                timekeeper.cpu()
            );
        }
        None if enabled > 0 => log::info!("{enabled} more CPUs with {}", B::NAME),
        None => {}
    }
    timekeeper
}

impl<B: Backend> Others<B> {
    /// One CPU's life.
    fn run(&self) {
        let number = self.platform.cpu();
        let enabled = B::enable_cpu(self.platform, &self.options);
        let mut is_timekeeper = false;
        match &enabled {
            Err(missing) => log::error!("CPU {number}: {}: it is not used", missing.0),
            Ok(cpu) => {
                self.enabled.fetch_add(1, Ordering::Relaxed);
                if B::takes_posted_interrupts(cpu) {
                    self.timekeeper.call_once(|| {
                        is_timekeeper = true;
                        Timekeeper::new(self.platform, number)
                    });
                }
            }
        }
        self.ready.fetch_add(1, Ordering::Release);
        if let Some(timekeeper) = self.timekeeper.get().filter(|_| is_timekeeper) {
            timekeeper.run();
        }
        // The CPU stays in the loop, with virtualisation on.
        let mut watch = MachineCheckWatch::default();
        loop {
            self.platform.set_timer(watch.attend_by_tsc(self.platform));
            self.platform.idle();
        }
    }
}
