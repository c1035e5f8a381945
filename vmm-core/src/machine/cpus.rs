//! The machine's CPUs: each has a loop of its own that runs the virtual CPUs which the scheduler
//! gives it, keeps the timers of those that last ran there, and sleeps when there is nothing else.

use crate::backend::Backend;
use crate::host::features::CpuFeatures;
use crate::host::kick::Wake;
use crate::host::machine_check_watch::MachineCheckWatch;
use crate::host::platform::{BOOT_CPU, CpuInterrupt, MAX_CPUS, Platform};
use crate::host::timekeeper::Timekeeper;
use crate::host::timers::TimerQueue;
use crate::host::watchdog::{Finding, Pulse, Watch};
use crate::scheduler::{Affinity, CpuSet, Decision, DomainId, DomainParams, Scheduler, UnitId};
use crate::vcpu::{CpuShare, Housekeeping, RunEnd, Vcpu, VcpuWires};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use config::CommandLine;
use control::host::host_ns;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use devices::lock::{Ranked, rank};
use devices::time::ns_to_ticks;
use raw_cpuid::native_cpuid::cpuid_count;
use spin::{Mutex, Once, RwLock};

/// The machine's CPUs.
pub struct Cpus<B: Backend> {
    platform: &'static dyn Platform,
    scheduler: Ranked<Scheduler, { rank::SCHEDULER }>,
    /// The virtual CPUs, by their numbers in the scheduler.
    tasks: RwLock<Vec<Option<Arc<Task<B>>>>>,
    /// Those that all CPUs have which guests run on.
    features: CpuFeatures,
    /// There is one virtual CPU, without a cap: it has its CPU for itself, and sleeps there.
    is_one_alone: AtomicBool,
    /// When the boot CPU is to look after the guests; 0 if it is called.
    guests_due_tsc: AtomicU64,
    /// By CPU.
    seats: Box<[Seat]>,
    /// The first other CPU, if processors take posted interrupts: a guest with one virtual CPU has
    /// its timers kept there.
    keeps_by_post: Option<usize>,
    /// How long the loop of one may take for a turn, if they watch each other.
    pub(super) watchdog_s: Option<NonZeroU32>,
}

/// One CPU, as the others see it.
struct Seat {
    keeper: Timekeeper,
    /// It has to ask the scheduler again.
    asks_again: AtomicBool,
    pulse: Pulse,
}

/// A virtual CPU that the scheduler knows.
struct Task<B: Backend> {
    unit: UnitId,
    /// Its guest may not have all of a CPU.
    is_capped: AtomicBool,
    /// Locked by the CPU that runs it.
    vcpu: Ranked<Option<Vcpu<B>>, { rank::VCPU }>,
    timers: Arc<TimerQueue>,
    /// The CPU that keeps its timers; [`NOWHERE`] if none does.
    kept_by: AtomicUsize,
}

const NOWHERE: usize = usize::MAX;

/// A guest that runs.
pub struct RunningGuest<B: Backend> {
    domain: DomainId,
    tasks: Vec<Arc<Task<B>>>,
}

/// Makes a virtual CPU run that waits.
struct Waker<B: Backend> {
    cpus: &'static Cpus<B>,
    unit: UnitId,
}

impl<B: Backend> Wake for Waker<B> {
    fn wake(&self) {
        self.cpus.wake(self.unit);
    }
}

/// The other CPUs while they start.
struct Starting<B: Backend> {
    platform: &'static dyn Platform,
    options: CommandLine,
    /// By CPU from the first other one: whether virtualisation is on, and posted interrupts are
    /// taken.
    ready: Mutex<Vec<(usize, Option<bool>)>>,
    /// Those of each CPU that is used.
    features: Mutex<Vec<(usize, CpuFeatures)>>,
    cpus: Once<&'static Cpus<B>>,
}

impl<B: Backend> RunningGuest<B> {
    /// Its number in the scheduler.
    pub const fn domain(&self) -> DomainId {
        self.domain
    }

    /// Those of its virtual CPUs.
    pub fn units(&self) -> Vec<UnitId> {
        self.tasks.iter().map(|task| task.unit).collect()
    }
}

impl<B: Backend> Cpus<B> {
    /// Starts the other CPUs, with virtualisation on.
    pub fn start(platform: &'static dyn Platform, options: &CommandLine) -> &'static Self {
        let starting: &'static Starting<B> = Box::leak(Box::new(Starting {
            platform,
            options: options.clone(),
            ready: Mutex::new(Vec::new()),
            features: Mutex::new(Vec::new()),
            cpus: Once::new(),
        }));
        let count = platform.start_cpus(Box::leak(Box::new(|| starting.run())));
        while starting.ready.lock().len() < count {
            core::hint::spin_loop();
        }
        let mut ready = core::mem::take(&mut *starting.ready.lock());
        ready.sort_unstable();
        let mut cpus = Self::new(platform, &ready);
        cpus.note_features(&mut starting.features.lock());
        cpus.watchdog_s = options.watchdog_s();
        let cpus: &'static Self = Box::leak(Box::new(cpus));
        starting.cpus.call_once(|| cpus);
        let enabled = ready.iter().filter(|(_, enabled)| enabled.is_some()).count();
        match cpus.keeps_by_post {
            Some(cpu) => log::info!("{enabled} more CPUs with {}; CPU {cpu} can post", B::NAME),
            None if enabled > 0 => log::info!("{enabled} more CPUs with {}", B::NAME),
            None => {}
        }
        cpus
    }

    /// The boot CPU and `others` by number: whether virtualisation is on, and posted interrupts are
    /// taken.
    pub fn new(platform: &'static dyn Platform, others: &[(usize, Option<bool>)]) -> Self {
        let count = (others.len() + 1).min(MAX_CPUS);
        let mut scheduler = Scheduler::new(count);
        for &(cpu, enabled) in others {
            if enabled.is_none() {
                scheduler.cpu_offline(cpu, host_ns(platform));
            }
        }
        let seat = |cpu| Seat {
            keeper: Timekeeper::new(platform, cpu),
            asks_again: AtomicBool::new(false),
            pulse: Pulse::default(),
        };
        let posts = others.iter().find(|&&(_, enabled)| enabled == Some(true));
        Self {
            platform,
            scheduler: Ranked::new(scheduler),
            tasks: RwLock::new(Vec::new()),
            features: CpuFeatures::read(cpuid_count),
            is_one_alone: AtomicBool::new(false),
            guests_due_tsc: AtomicU64::new(u64::MAX),
            seats: (0..count).map(seat).collect(),
            keeps_by_post: posts.map(|&(cpu, _)| cpu),
            watchdog_s: None,
        }
    }

    /// Guests see the features that all CPUs have; those of each `other` CPU that differ are
    /// logged.
    fn note_features(&mut self, others: &mut [(usize, CpuFeatures)]) {
        others.sort_unstable_by_key(|&(cpu, _)| cpu);
        let boot = self.features.clone();
        for (cpu, features) in others {
            if let Some(differences) = features.differences(&boot) {
                log::warn!(
                    "CPU {cpu} is not like CPU {BOOT_CPU}: {differences}; guests see what all have"
                );
            }
            self.features = self.features.common(features);
        }
    }

    /// The features that guests can have.
    pub const fn features(&self) -> &CpuFeatures {
        &self.features
    }

    /// The CPU that keeps the timers of a guest with so many virtual CPUs, if another than the
    /// guest's own is to.
    pub fn timekeeper(&'static self, vcpus: usize) -> Option<&'static Timekeeper> {
        let cpu = self.keeps_by_post.filter(|_| vcpus == 1)?;
        Some(&self.seats[cpu].keeper)
    }

    /// The machine.
    pub const fn platform(&self) -> &'static dyn Platform {
        self.platform
    }

    /// The CPUs that guests run on.
    pub fn online(&self) -> CpuSet {
        self.scheduler.lock().online()
    }

    /// A guest begins to run, its virtual CPUs where `affinity` says by their numbers. `None` if
    /// there are too many.
    pub fn begin_guest(
        &'static self,
        params: DomainParams,
        affinity: impl Fn(usize) -> Affinity,
        vcpus: Vec<(Vcpu<B>, VcpuWires)>,
    ) -> Option<RunningGuest<B>> {
        let domain = self.scheduler.lock().add_domain(params)?;
        let is_capped = params.cap_percent != 0;
        let mut guest = RunningGuest { domain, tasks: Vec::new() };
        for (number, (vcpu, wires)) in vcpus.into_iter().enumerate() {
            let unit = self.scheduler.lock().add_unit(domain, affinity(number));
            match unit.map(|unit| self.add(unit, is_capped, vcpu, wires)) {
                Some(task) => guest.tasks.push(task),
                None => {
                    self.end_guest(guest);
                    return None;
                }
            }
        }
        self.note_tasks();
        guest.tasks.iter().for_each(|task| self.wake(task.unit));
        Some(guest)
    }

    /// The guest has stopped, or is stopped by whoever calls this: takes its virtual CPUs apart.
    pub fn end_guest(&self, guest: RunningGuest<B>) {
        self.schedule(|scheduler, _| scheduler.remove_domain(guest.domain));
        for task in guest.tasks {
            self.tasks.write()[task.unit.index()] = None;
            // The switch that stopped the guest has made it leave the CPU that it was on.
            drop(task.vcpu.lock().take());
            self.take_timers(&task);
        }
        self.note_tasks();
    }

    /// Changes the weight and the cap of a guest with these virtual CPUs.
    pub fn set_params(&self, domain: DomainId, units: &[UnitId], params: DomainParams) {
        for task in self.tasks.read().iter().flatten().filter(|task| units.contains(&task.unit)) {
            task.is_capped.store(params.cap_percent != 0, Ordering::Relaxed);
        }
        self.note_tasks();
        self.schedule(|scheduler, now_ns| scheduler.set_domain(domain, params, now_ns));
    }

    fn add(
        &'static self,
        unit: UnitId,
        is_capped: bool,
        vcpu: Vcpu<B>,
        wires: VcpuWires,
    ) -> Arc<Task<B>> {
        let VcpuWires { kick, timers, .. } = wires;
        kick.connect(Waker { cpus: self, unit });
        let task = Arc::new(Task {
            unit,
            is_capped: AtomicBool::new(is_capped),
            vcpu: Ranked::new(Some(vcpu)),
            timers,
            kept_by: AtomicUsize::new(NOWHERE),
        });
        let mut tasks = self.tasks.write();
        if tasks.len() <= unit.index() {
            tasks.resize_with(unit.index() + 1, || None);
        }
        tasks[unit.index()] = Some(task.clone());
        task
    }

    /// Virtual CPUs have come or gone.
    fn note_tasks(&self) {
        let tasks = self.tasks.read();
        let mut tasks = tasks.iter().flatten();
        let is_one_alone = tasks
            .next()
            .is_some_and(|task| !task.is_capped.load(Ordering::Relaxed) && tasks.next().is_none());
        if self.is_one_alone.swap(is_one_alone, Ordering::SeqCst) && !is_one_alone {
            // It has thought that it would be.
            (0..self.seats.len()).for_each(|cpu| self.ask_again(cpu));
        }
    }

    /// A virtual CPU has something to run.
    fn wake(&self, unit: UnitId) {
        self.schedule(|scheduler, now_ns| scheduler.wake(unit, now_ns));
    }

    /// The next work of CPU `number`, which calls this.
    fn decide(&self, number: usize) -> Decision {
        self.seats[number].asks_again.store(false, Ordering::SeqCst);
        self.schedule(|scheduler, now_ns| scheduler.pick(number, now_ns))
    }

    /// Nothing of the virtual CPU that it ran is in CPU `number`, which calls this, any more.
    fn switched(&self, number: usize) {
        self.schedule(|scheduler, now_ns| scheduler.switched(number, now_ns));
    }

    /// Does something with the scheduler, and makes CPUs look that have to decide again.
    pub fn schedule<R>(&self, act: impl FnOnce(&mut Scheduler, u64) -> R) -> R {
        let mut scheduler = self.scheduler.lock();
        let result = act(&mut scheduler, host_ns(self.platform));
        let kicks = scheduler.take_kicks();
        drop(scheduler);
        kicks.iter().for_each(|cpu| self.ask_again(cpu));
        result
    }

    /// Makes a CPU ask the scheduler again.
    fn ask_again(&self, cpu: usize) {
        self.seats[cpu].asks_again.store(true, Ordering::SeqCst);
        self.interrupt(cpu);
    }

    fn interrupt(&self, cpu: usize) {
        if cpu == self.platform.cpu() {
            self.platform.interrupt_self();
        } else {
            self.platform.interrupt_cpu(cpu, CpuInterrupt::Kick);
        }
    }

    /// The boot CPU is to look after the guests as soon as it can: one has stopped, or something is
    /// asked of one that does not run.
    pub fn call_boot_cpu(&self) {
        self.guests_due_tsc.store(0, Ordering::SeqCst);
        self.interrupt(BOOT_CPU);
    }

    /// The boot CPU is to look after the guests at `tsc`, or when it is called before.
    pub fn call_boot_cpu_at(&self, tsc: u64) {
        self.guests_due_tsc.fetch_min(tsc, Ordering::SeqCst);
    }

    /// For the boot CPU: true if it is time to look after the guests. It has to say anew when it is
    /// the next time.
    pub fn take_call(&self) -> bool {
        let is_time = self.platform.tsc() >= self.guests_due_tsc.load(Ordering::SeqCst);
        if is_time {
            self.guests_due_tsc.store(u64::MAX, Ordering::SeqCst);
        }
        is_time
    }

    /// When CPU `number` is to look after the guests.
    fn guests_due_tsc(&self, number: usize) -> u64 {
        if number == BOOT_CPU { self.guests_due_tsc.load(Ordering::SeqCst) } else { u64::MAX }
    }

    /// CPU `number`, which calls this, does the work of the machine's disks if that is its. Returns
    /// when it has to do so the next time.
    fn attend_disks(&self, number: usize) -> u64 {
        if number != BOOT_CPU {
            return u64::MAX;
        }
        match self.platform.attend_disks() {
            u64::MAX => u64::MAX,
            due_ns => self.tsc_at(due_ns),
        }
    }

    /// Runs a virtual CPU on this CPU.
    fn run(&'static self, unit: UnitId, cpu: &B::Cpu, work: &mut CpuWork<'_, B>) -> RunEnd {
        // One that is gone has nothing to run.
        let task = self.tasks.read().get(unit.index()).cloned().flatten();
        let Some(task) = task else { return RunEnd::Waits };
        let mut vcpu = task.vcpu.lock();
        let Some(vcpu) = vcpu.as_mut() else { return RunEnd::Waits };
        self.take_timers(&task);
        let number = work.number;
        let end = vcpu.run(cpu, work);
        self.seats[number].keeper.keep(&task.timers);
        task.kept_by.store(number, Ordering::SeqCst);
        end
    }

    /// When a CPU decides again, in its time stamp counter.
    fn until_tsc(&self, decision: Decision) -> u64 {
        match self.is_one_alone.load(Ordering::Relaxed) {
            true => u64::MAX,
            false => self.tsc_at(decision.until_ns),
        }
    }

    /// Its timers are no longer kept by the CPU that it was on last.
    fn take_timers(&self, task: &Task<B>) {
        if let Some(seat) = self.seats.get(task.kept_by.swap(NOWHERE, Ordering::SeqCst)) {
            seat.keeper.release(&task.timers);
        }
    }

    /// The CPU that CPU `number` watches: the next one that is used.
    fn neighbour(&self, number: usize) -> Option<Neighbour> {
        let watch = Watch::new(self.watchdog_s?, self.platform.tsc_hz());
        let mut next = self.online().iter_round(number);
        next.find(|&next| next != number).map(|number| Neighbour { number, watch })
    }

    /// The loop of CPU `number`, which calls this, turns. Returns when it has to do so the next
    /// time for the neighbour that it watches.
    fn beat(&self, number: usize, neighbour: &mut Option<Neighbour>) -> u64 {
        self.seats[number].pulse.beat();
        let Some(Neighbour { number, watch }) = neighbour else { return u64::MAX };
        match watch.look(&self.seats[*number].pulse, self.platform.tsc()) {
            Finding::Turns => {}
            Finding::Silent => self.interrupt(*number),
            Finding::Hangs => self.platform.report_hang(*number),
        }
        watch.due_tsc()
    }

    /// The boot CPU's loop turns no more.
    pub fn end_boot_cpu(&self) {
        self.seats[BOOT_CPU].pulse.end();
    }

    fn tsc_at(&self, host_ns: u64) -> u64 {
        ns_to_ticks(host_ns, self.platform.tsc_hz())
    }
}

/// The loop of a CPU.
pub struct CpuLoop<B: Backend> {
    cpus: &'static Cpus<B>,
    number: usize,
    decision: Decision,
    neighbour: Option<Neighbour>,
}

/// The CPU that another one watches.
struct Neighbour {
    number: usize,
    watch: Watch,
}

impl<B: Backend> CpuLoop<B> {
    /// Of this CPU.
    pub fn new(cpus: &'static Cpus<B>) -> Self {
        let number = cpus.platform.cpu();
        Self { cpus, number, decision: cpus.decide(number), neighbour: cpus.neighbour(number) }
    }

    /// Does as it was decided last, on this CPU, which is `cpu`: runs a virtual CPU, or sleeps
    /// until an interrupt. Then decides anew.
    pub fn turn(&mut self, cpu: &B::Cpu, housekeeping: &mut dyn Housekeeping) {
        let Self { cpus, number, decision, .. } = *self;
        let watch_tsc = cpus.beat(number, &mut self.neighbour);
        housekeeping.attend();
        let disks_tsc = cpus.attend_disks(number);
        let kept_tsc = cpus.seats[number].keeper.serve().min(disks_tsc);
        let Some(unit) = decision.unit else {
            let due_tsc = kept_tsc.min(cpus.tsc_at(decision.until_ns));
            let due_tsc = due_tsc.min(cpus.guests_due_tsc(number)).min(watch_tsc);
            cpus.platform.set_timer(due_tsc.min(housekeeping.due_tsc()));
            cpus.platform.idle();
            self.decision = cpus.decide(number);
            return;
        };
        let until_tsc = cpus.until_tsc(decision);
        let neighbour = &mut self.neighbour;
        let mut work =
            CpuWork { cpus, number, unit, until_tsc, next: None, neighbour, housekeeping };
        let end = cpus.run(unit, cpu, &mut work);
        self.decision = work.next.unwrap_or_else(|| {
            if end != RunEnd::Preempted {
                cpus.schedule(|scheduler, _| scheduler.block(unit));
            }
            cpus.decide(number)
        });
        if self.decision.left.is_some() {
            cpus.switched(number);
        }
        if matches!(end, RunEnd::Stopped(_)) {
            cpus.call_boot_cpu();
        }
    }
}

impl<B: Backend> Starting<B> {
    /// One CPU's life.
    fn run(&self) {
        let number = self.platform.cpu();
        let enabled = B::enable_cpu(self.platform, &self.options);
        match &enabled {
            Err(missing) => log::error!("CPU {number}: {}: it is not used", missing.0),
            Ok(_) if number >= MAX_CPUS => {
                log::warn!(
                    "CPU {number}: guests run on {MAX_CPUS} CPUs at the most: it is not used"
                );
            }
            Ok(_) => {}
        }
        let cpu = enabled.as_ref().ok().filter(|_| number < MAX_CPUS);
        if cpu.is_some() {
            self.features.lock().push((number, CpuFeatures::read(cpuid_count)));
        }
        self.ready.lock().push((number, cpu.map(B::takes_posted_interrupts)));
        let mut banks = Banks { platform: self.platform, watch: MachineCheckWatch::default() };
        if let Some(cpu) = cpu {
            let mut turns = CpuLoop::new(self.cpus.wait());
            loop {
                turns.turn(cpu, &mut banks);
            }
        }
        loop {
            self.platform.set_timer(banks.due_tsc());
            self.platform.idle();
        }
    }
}

/// The housekeeping of a CPU without consoles: its machine-check banks.
struct Banks {
    platform: &'static dyn Platform,
    watch: MachineCheckWatch,
}

impl Housekeeping for Banks {
    fn attend(&mut self) {
        self.watch.attend_by_tsc(self.platform);
    }

    fn take_answers(&mut self) {}

    fn due_tsc(&mut self) -> u64 {
        self.watch.attend_by_tsc(self.platform)
    }
}

/// The work of a CPU beside the virtual CPU that it runs.
struct CpuWork<'a, B: Backend> {
    cpus: &'static Cpus<B>,
    number: usize,
    unit: UnitId,
    /// The scheduler is asked again then.
    until_tsc: u64,
    /// The one that is to run instead.
    next: Option<Decision>,
    neighbour: &'a mut Option<Neighbour>,
    housekeeping: &'a mut dyn Housekeeping,
}

impl<B: Backend> Housekeeping for CpuWork<'_, B> {
    fn attend(&mut self) {
        self.housekeeping.attend();
    }

    fn take_answers(&mut self) {
        self.housekeeping.take_answers();
    }

    fn due_tsc(&mut self) -> u64 {
        self.housekeeping.due_tsc()
    }

    fn share_cpu(&mut self) -> CpuShare {
        let seat = &self.cpus.seats[self.number];
        let watch_tsc = self.cpus.beat(self.number, self.neighbour);
        let disks_tsc = self.cpus.attend_disks(self.number);
        let kept_tsc = seat.keeper.serve().min(disks_tsc);
        let is_asked = seat.asks_again.load(Ordering::SeqCst);
        if is_asked || self.cpus.platform.tsc() >= self.until_tsc {
            let decision = self.cpus.decide(self.number);
            self.until_tsc = self.cpus.until_tsc(decision);
            self.next = Some(decision).filter(|decision| decision.unit != Some(self.unit));
        }
        let guests_tsc = self.cpus.guests_due_tsc(self.number);
        let due_tsc = kept_tsc.min(self.until_tsc).min(guests_tsc).min(watch_tsc);
        CpuShare { is_over: self.next.is_some() || self.is_called(), due_tsc }
    }

    fn give_way_to_sibling(&mut self) {
        self.cpus.scheduler.lock().yield_now(self.unit);
        self.cpus.seats[self.number].asks_again.store(true, Ordering::SeqCst);
    }

    fn has_others(&self) -> bool {
        !self.cpus.is_one_alone.load(Ordering::Relaxed) || self.is_called()
    }
}

impl<B: Backend> CpuWork<'_, B> {
    /// This CPU is to look after the guests.
    fn is_called(&self) -> bool {
        self.cpus.platform.tsc() >= self.cpus.guests_due_tsc(self.number)
    }
}
