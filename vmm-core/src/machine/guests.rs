//! The machine's guests: each from its configuration to its end, through all its lives. The boot
//! CPU looks after them between the virtual CPUs that it runs, when one has stopped, when one is
//! to start, and when something is asked of one that does not run.

mod cards;
mod detaching;
mod disks;

use super::attendant::Attendant;
use super::choice::asked_config;
use super::cpus::Cpus;
use super::domain::Domain;
use super::host_disks::HostDisks;
use super::life::{Legacy, Life};
use super::shared::Shared;
use super::store::{self, Watches};
use crate::backend::Backend;
use crate::host::platform::{BootInputs, Platform};
use crate::vcpu::Housekeeping;
use crate::vm::Stop;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use config::GuestConfig;
use config::guest::Action;
use control::guest::GuestFacts;
use control::mailbox::{Answer, Request};
use control::state::{GuestState, GuestStats};
use detaching::Detaching;
use devices::local_apic::Kick;
use xen::backends::BackEnds;

/// From one start of a guest to its next, at the least. A guest that resets itself as soon as it
/// runs would otherwise take all of a CPU for being built and torn down, and fill the log with its
/// dumps.
const MIN_LIFE_S: u64 = 1;

/// The guests.
pub struct Guests<'a, B: Backend> {
    platform: &'static dyn Platform,
    cpus: &'static Cpus<B>,
    inputs: &'a BootInputs,
    list: Vec<Guest<'a, B>>,
    shared: Shared,
    watches: Watches,
}

struct Guest<'a, B: Backend> {
    domain: Domain<'a>,
    state: State<B>,
    detaching: Vec<Detaching>,
}

impl<B: Backend> Guest<'_, B> {
    /// The back ends of its present life, if it has one and may have PV drivers.
    fn back_ends(&self) -> Option<&Arc<BackEnds>> {
        match &self.state {
            State::Lives(life) => life.back_ends(),
            State::Waits { .. } | State::Ended => None,
        }
    }
}

enum State<B: Backend> {
    /// It starts when the time stamp counter is there.
    Waits {
        until_tsc: u64,
        legacy: Option<Box<Legacy>>,
    },
    Lives(Life<B>),
    /// It is gone for good.
    Ended,
}

/// Calls the boot CPU when something is asked of a guest that does not run.
struct Caller<B: Backend>(&'static Cpus<B>);

impl<B: Backend> Kick for Caller<B> {
    fn kick(&self) {
        self.0.call_boot_cpu();
    }

    fn notify(&self) {
        self.kick();
    }
}

impl<'a, B: Backend> Guests<'a, B> {
    /// None yet; `attendant` asks for more, and they can have `host_disks`.
    pub fn new(
        platform: &'static dyn Platform,
        cpus: &'static Cpus<B>,
        inputs: &'a BootInputs,
        host_disks: HostDisks,
        attendant: &Attendant,
    ) -> Self {
        attendant.machine.connect(Arc::new(Caller(cpus)));
        Self {
            platform,
            cpus,
            inputs,
            list: Vec::new(),
            shared: Shared::new(platform, host_disks),
            watches: Watches::default(),
        }
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// True if one runs.
    pub fn has_running(&self) -> bool {
        self.list.iter().any(|guest| matches!(guest.state, State::Lives(_)))
    }

    /// Stops the guest called `name`.
    #[cfg(test)]
    pub fn stop(&self, name: &str, stop: Stop) {
        for guest in self.list.iter().filter(|guest| guest.domain.config().name == name) {
            let State::Lives(life) = &guest.state else { panic!("{name} does not run") };
            life.request_stop(stop);
        }
    }

    /// One more guest, which starts when the delay is over that its configuration asks for.
    ///
    /// Returns its number.
    ///
    /// # Errors
    /// A line that says why it cannot be.
    pub fn add(&mut self, config: GuestConfig, attendant: &mut Attendant) -> Result<u32, String> {
        let name = &config.name;
        if self.list.iter().any(|guest| guest.domain.config().name == *name) {
            return Err(format!("{name}: there is a guest of this name already"));
        }
        log::info!(
            "{}: {} MiB, {} vCPU, {}",
            config.name,
            config.memory_mib,
            config.vcpus,
            B::NAME
        );
        let delay_ticks = u64::from(config.autostart_delay_s) * self.platform.tsc_hz();
        let until_tsc = self.platform.tsc().saturating_add(delay_ticks);
        let domain = Domain::new(self.platform, self.inputs, config, &self.shared)?;
        domain.mailbox().connect(Arc::new(Caller(self.cpus)));
        let facts =
            GuestFacts { memory_mib: domain.config().memory_mib, vcpus: domain.config().vcpus };
        let number = domain.mailbox().number();
        attendant.consoles.introduce(domain.mailbox().clone(), facts);
        let state = State::Waits { until_tsc, legacy: None };
        self.list.push(Guest { domain, state, detaching: Vec::new() });
        self.cpus.call_boot_cpu_at(until_tsc);
        Ok(number)
    }

    /// Looks after all guests on the boot CPU, which is `cpu`: ends those that have stopped, starts
    /// those whose time has come, answers for those that wait. Returns why one could not
    /// be started, if so.
    pub fn attend(&mut self, cpu: &B::Cpu, attendant: &mut Attendant) -> Option<String> {
        let mut refusal = None;
        self.answer_for_machine(cpu, attendant);
        for index in 0..self.list.len() {
            self.end_life(index, attendant);
            self.finish_detaching(index, attendant);
            self.answer(index, attendant);
            if let Err(reason) = self.begin_life(index, cpu, attendant) {
                refusal = Some(reason);
            }
        }
        self.list.retain(|guest| !matches!(guest.state, State::Ended));
        refusal
    }

    /// One more guest, which starts now. Returns its number.
    fn create(
        &mut self,
        config: GuestConfig,
        cpu: &B::Cpu,
        attendant: &mut Attendant,
    ) -> Result<u32, String> {
        let number = self.add(config, attendant)?;
        self.begin_life(self.list.len() - 1, cpu, attendant)?;
        Ok(number)
    }

    /// Makes the guests that consoles ask for.
    fn answer_for_machine(&mut self, cpu: &B::Cpu, attendant: &mut Attendant) {
        let machine = attendant.machine.clone();
        while let Some((client, request)) = machine.take_request() {
            let answer = match request {
                Request::Create { module, settings } => {
                    let config = asked_config(self.inputs, &module, &settings);
                    match config.and_then(|config| self.create(config, cpu, attendant)) {
                        Ok(number) => Answer::Created { number },
                        Err(reason) => Answer::Failed(reason),
                    }
                }
                Request::Store { name, words } => store::command(&self.shared.store, &name, &words),
                Request::Watch(request) => {
                    self.watches.ask(self.platform, &self.shared.store, &request)
                }
                Request::ListDisks(numbers) => self.list_disks(&numbers),
                Request::ListCards(numbers) => self.list_cards(&numbers),
                Request::ListHostDisks => Answer::HostDisks(self.shared.host_disks.facts()),
                Request::ChangeDisk { guest, change } => {
                    match self.change_disk(client, guest, &change) {
                        Some(answer) => answer,
                        None => continue,
                    }
                }
                Request::ChangeCard { guest, change } => {
                    match self.change_card(client, guest, &change) {
                        Some(answer) => answer,
                        None => continue,
                    }
                }
                _ => Answer::NoGuest,
            };
            machine.put_answer(client, answer);
            attendant.take_answers();
        }
    }

    /// Ends the guest's life, if it has stopped.
    fn end_life(&mut self, index: usize, attendant: &mut Attendant) {
        let State::Lives(life) = &self.list[index].state else { return };
        let Some(stop) = life.stop() else { return };
        self.list[index].forget_devices();
        let Guest { domain, state, .. } = &mut self.list[index];
        let State::Lives(life) = core::mem::replace(state, State::Ended) else { return };
        let restart_tsc = life.started_tsc().saturating_add(self.platform.tsc_hz() * MIN_LIFE_S);
        let stopped_tsc = self.platform.tsc();
        let legacy = life.end(stop, domain, self.cpus, attendant);
        let end_us = domain.ns_since(stopped_tsc) / 1000;
        let config = domain.config();
        let (what, action) = match stop {
            Stop::PowerOff => ("powered off", config.on_poweroff),
            Stop::Reset => ("reset", config.on_reboot),
            Stop::PowerCycle => ("power cycled", config.on_reboot),
            Stop::Crash => ("crashed", config.on_crash),
            Stop::Watchdog => ("ended by its watchdog", config.on_watchdog),
            Stop::Destroy => ("destroyed", Action::Destroy),
        };
        let free_kib = self.platform.free_bytes() >> 10;
        log::info!(
            "{}: {what}: {action:?}, taken apart in {end_us} us; {free_kib} KiB free",
            config.name
        );
        match action {
            Action::Restart | Action::RenameRestart => {
                *state = State::Waits { until_tsc: restart_tsc, legacy: legacy.map(Box::new) };
                domain.mailbox().connect(Arc::new(Caller(self.cpus)));
            }
            Action::Destroy | Action::Preserve => domain.mailbox().close(),
        }
    }

    /// Answers what is asked of a guest that waits for its start: it can be ended for good.
    fn answer(&mut self, index: usize, attendant: &mut Attendant) {
        let Guest { domain, state, .. } = &mut self.list[index];
        while matches!(state, State::Waits { .. })
            && let Some((client, request)) = domain.mailbox().take_request()
        {
            let is_ended = request == Request::Destroy;
            domain.mailbox().put_answer(client, answer(&request));
            attendant.take_answers();
            if is_ended {
                log::info!("{}: destroyed", domain.config().name);
                domain.mailbox().close();
                *state = State::Ended;
            }
        }
    }

    /// Starts the guest, if its time has come.
    fn begin_life(
        &mut self,
        index: usize,
        cpu: &B::Cpu,
        attendant: &mut Attendant,
    ) -> Result<(), String> {
        let Guest { domain, state, .. } = &mut self.list[index];
        let State::Waits { until_tsc, legacy } = state else { return Ok(()) };
        if self.platform.tsc() < *until_tsc {
            self.cpus.call_boot_cpu_at(*until_tsc);
            return Ok(());
        }
        let life = Life::begin(domain, cpu, self.cpus, attendant, legacy.take().map(|it| *it));
        let life = life.inspect_err(|reason| {
            log::error!("{reason}");
            domain.mailbox().close();
        });
        let (next, result) = match life {
            Ok(life) => (State::Lives(life), Ok(())),
            Err(reason) => (State::Ended, Err(reason)),
        };
        *state = next;
        result
    }
}

/// The answer of a guest that has no virtual CPU, and is to start.
fn answer(request: &Request) -> Answer {
    match request {
        Request::Stats => Answer::Stats(GuestStats {
            state: GuestState::Restarting,
            total_exits: 0,
            exits: Vec::new(),
            guest_time_ns: 0,
            cpu_time_ns: 0,
        }),
        Request::Destroy | Request::Reset => Answer::Done,
        _ => Answer::NoGuest,
    }
}
