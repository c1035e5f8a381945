//! A virtual CPU: registers, local APIC, timers, and the loop that runs it.

mod attend;
mod bounce;
mod control_registers;
mod coprocessor;
pub mod counters;
mod debug;
mod dispatch;
mod emulated;
mod events;
mod inert_msrs;
mod machine_check;
mod msr;
mod mtrr;
mod pv;
mod shutdown;
mod speculation;
mod state_dump;
mod stepping;
mod task;
#[cfg(test)]
mod tests;
mod ticks;
mod timers;

use crate::backend::exit::Exit;
use crate::backend::live_registers::LiveRegisters;
use crate::backend::{Backend, Unsupported, VcpuSetup, reset};
use crate::host::kick::VcpuKick;
use crate::host::platform::Platform;
use crate::host::timekeeper::Timekeeper;
use crate::host::timers::TimerQueue;
use crate::vm::bus::BusUse;
use crate::vm::{Stop, Vm};
use alloc::boxed::Box;
use alloc::sync::Arc;
use bounce::Bouncer;
use coprocessor::ErrorCare;
use counters::{ExitCounters, ExitKind};
use devices::local_apic::spec::DEFAULT_BASE as APIC_DEFAULT_BASE;
use devices::local_apic::{ApicBus, ApicInbox, Interface, LocalApic};
use emulator::event::Event;
use emulator::registers::{Gpr, Gprs};
use msr::Msrs;
use shutdown::Shutdowns;
use stepping::Catch;
use ticks::TickGate;
use timers::Timers;
use xen::platform::PvVcpu;
use xen::time::RunState;

pub(crate) use attend::Nothing;
pub use attend::{CpuShare, Housekeeping};

/// The activity of a virtual CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Running instructions.
    Running,
    /// In HLT.
    Halted,
    /// In a hypercall, until an event or an interrupt comes.
    Polling,
    /// Before an x87 instruction, until its error has been seen to.
    Frozen,
    /// After INIT, waiting for a start-up message.
    WaitForStartup,
}

/// Why a virtual CPU has left the CPU that it was on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The guest stops.
    Stopped(Stop),
    /// It has nothing to run until it is kicked.
    Waits,
    /// It could go on, but another is to run.
    Preempted,
}

/// How long the run loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Until the guest stops.
    Stop,
    /// For one turn: a step.
    Step,
    /// For no other turn: it has nothing to run, or has to stay out of the guest.
    Waits,
    /// For no other turn: its share of the CPU is over.
    Preempted,
}

/// The wires of a virtual CPU.
#[derive(Clone)]
pub struct VcpuWires {
    /// Where others reach its local APIC.
    pub inbox: Arc<ApicInbox>,
    /// Where its local APIC reaches the others.
    pub bus: Arc<ApicBus>,
    /// By what it is reached itself.
    pub kick: Arc<VcpuKick>,
    /// Its timers and, for the first one, those of the devices.
    pub timers: Arc<TimerQueue>,
}

/// A virtual CPU.
pub struct Vcpu<B: Backend> {
    index: usize,
    platform: &'static dyn Platform,
    vm: Arc<Vm>,
    backend: B,
    /// Those that the CPU holds while this is on it.
    live: LiveRegisters,
    gprs: Gprs,
    apic: LocalApic,
    kick: Arc<VcpuKick>,
    timers: Timers,
    activity: Activity,
    /// The guest is held before its next instruction.
    paused: bool,
    until: Until,
    /// That of the guest's clock which its time stamp counter lacks.
    stood_ticks: u64,
    /// The time on this CPU is counted until here.
    used_from_tsc: u64,
    /// Accesses to registers of descriptors pause it.
    catch: Catch,
    /// The kind of the last entry's exit.
    last_exit: Option<ExitKind>,
    /// To be delivered at the next entry, before anything else.
    pending: Option<Event>,
    /// The priority class of the interrupt window that was asked for.
    window: Option<u8>,
    tick_gate: TickGate,
    /// The page whose access is being emulated, if a device (not the local APIC) answers there.
    device_page: Option<u64>,
    /// Its writes to devices, beside its siblings'.
    bus: BusUse,
    /// Breakpoints that the emulated instruction has met: bits of DR6.
    met_breakpoints: u64,
    /// The means to let the processor carry out an instruction on device memory; taken out while
    /// it does.
    bouncer: Option<Box<Bouncer>>,
    /// The exit by which such a step ended, if it concerns no device memory: to be answered like
    /// any other.
    left_exit: Option<Exit>,
    msrs: Msrs,
    shutdowns: Shutdowns,
    /// The work that an x87 error with CR0.NE clear asks for.
    error_care: ErrorCare,
    /// That of the address space that was flushed for last.
    flushed_generation: u64,
    /// When the repeated instruction at work has to let others in.
    yield_tsc: Option<u64>,
    counters: ExitCounters,
    /// Its part of the PV-on-HVM platform.
    pv: PvVcpu,
}

impl<B: Backend> Vcpu<B> {
    /// Virtual CPU `index` of `vm`, after reset: the first one runs, the others wait for a start-up
    /// message. It is made on this CPU, which is `cpu`, and may run on any. Another CPU keeps the
    /// timers if there is a `timekeeper` and this one takes posted interrupts.
    ///
    /// # Errors
    /// [`Unsupported`] if the backend cannot make one.
    pub fn new(
        index: usize,
        platform: &'static dyn Platform,
        cpu: &B::Cpu,
        vm: Arc<Vm>,
        wires: VcpuWires,
        timekeeper: Option<&'static Timekeeper>,
    ) -> Result<Self, Unsupported> {
        let VcpuWires { inbox, bus, kick, timers } = wires;
        let apic =
            LocalApic::new(index as u32, inbox.clone(), bus, vm.clock.clone(), timers.apic_alarm());
        timers.connect_apic(apic.timer().clone());
        let setup = VcpuSetup {
            guest: vm.space.guest(),
            nested_root_hpa: vm.space.nested_root_hpa(),
            apic_page: apic.page().clone(),
            apic_inbox: inbox,
            apic_access_hpa: vm.space.apic_access_hpa(),
        };
        let timekeeper = timekeeper.filter(|_| B::takes_posted_interrupts(cpu));
        let backend = B::new(cpu, platform, &setup)?;
        let several = vm.processors.are_several();
        let activity = if index == 0 { Activity::Running } else { Activity::WaitForStartup };
        let mut vcpu = Self {
            index,
            platform,
            vm,
            backend,
            live: LiveRegisters::default(),
            gprs: Gprs::default(),
            apic,
            kick,
            timers: Timers::new(timers, timekeeper),
            activity,
            paused: false,
            until: Until::Stop,
            stood_ticks: 0,
            used_from_tsc: 0,
            catch: Catch::Nothing,
            last_exit: None,
            pending: None,
            window: None,
            tick_gate: TickGate::Closed,
            device_page: None,
            bus: if several { BusUse::Shared } else { BusUse::Alone },
            met_breakpoints: 0,
            bouncer: Some(Box::new(Bouncer::new())),
            left_exit: None,
            msrs: Msrs::default(),
            shutdowns: Shutdowns::default(),
            error_care: ErrorCare::None,
            // It has flushed for none yet.
            flushed_generation: u64::MAX,
            yield_tsc: None,
            counters: ExitCounters::new(),
            pv: PvVcpu::default(),
        };
        vcpu.backend.load(cpu, &vcpu.gprs);
        reset::power_on(&mut vcpu.backend);
        vcpu.init_registers();
        vcpu.place_apic();
        vcpu.stood_ticks = vcpu.vm.clock.stood_ticks();
        vcpu.backend.set_tsc_offset(vcpu.vm.clock.start_tsc().wrapping_neg());
        vcpu.live.save(&vcpu.backend);
        vcpu.backend.unload();
        Ok(vcpu)
    }

    /// It was removed: what INIT leaves alone is as after power-on, for the time when it is plugged
    /// in again. Its time stamp counter is in step with the others'.
    #[cold]
    fn power_on(&mut self) {
        self.apic.power_on();
        reset::power_on(&mut self.backend);
        self.msrs = Msrs::default();
        self.backend.set_tsc_offset(self.vm.clock.start_tsc().wrapping_neg());
        self.note_tsc_offset();
    }

    /// The registers after INIT.
    fn init_registers(&mut self) {
        self.backend.init(&mut self.gprs);
        self.window = None;
        self.tick_gate = TickGate::Closed;
        self.platform.clear_breakpoints();
        // DX holds the processor's signature.
        let signature = self.cpuid(1, 0).eax;
        self.gprs.set32(Gpr::Rdx, signature);
    }

    /// The local APIC is somewhere else, or lost its vectors: the processor and the page tables
    /// follow.
    fn place_apic(&mut self) {
        let interface = self.apic.interface();
        let needs_page = self.backend.set_apic_interface(interface);
        self.backend.note_vectors();
        // Elsewhere it may be RAM that the guest expects to find.
        let is_in_place = interface == Interface::Memory(APIC_DEFAULT_BASE);
        let answers = needs_page && is_in_place;
        self.vm.stop_if_short(self.vm.space.show_apic(self.index, answers));
    }

    /// The virtual machine.
    pub const fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    /// Exits so far.
    pub const fn counters(&self) -> &ExitCounters {
        &self.counters
    }

    /// The vCPU's activity.
    pub const fn activity(&self) -> Activity {
        self.activity
    }

    /// Runs the guest on this CPU, which is `cpu`, until it stops, has nothing to run, or another
    /// virtual CPU is to run here. Called and returns with interrupts off. Between two calls it may
    /// move to another CPU.
    pub fn run(&mut self, cpu: &B::Cpu, housekeeping: &mut dyn Housekeeping) -> RunEnd {
        self.vm.space.end_sleep(self.index);
        self.load(cpu);
        self.used_from_tsc = self.platform.tsc();
        self.follow_clock();
        self.note_run_state(RunState::Running);
        if self.paused {
            self.attend(housekeeping);
        } else {
            self.note_share(housekeeping);
        }
        let end = match self.until {
            Until::Stop => self.take_turns(housekeeping),
            Until::Waits => RunEnd::Waits,
            Until::Step | Until::Preempted => RunEnd::Preempted,
        };
        self.until = Until::Stop;
        self.note_writes();
        self.note_use();
        self.note_run_state(if end == RunEnd::Waits {
            RunState::Blocked
        } else {
            RunState::Runnable
        });
        self.unload();
        self.vm.space.begin_sleep(self.index);
        if end == RunEnd::Waits && !self.kick.wait() { RunEnd::Preempted } else { end }
    }

    /// It is on this CPU from now on: the one place where registers, wires and timers come to it.
    pub(crate) fn load(&mut self, cpu: &B::Cpu) {
        self.backend.load(cpu, &self.gprs);
        self.live.load(&mut self.backend);
        self.kick.arrive();
        self.timers.begin();
        self.arm_host_timer();
    }

    /// It is on no CPU from now on.
    pub(crate) fn unload(&mut self) {
        self.timers.end();
        self.kick.leave();
        self.live.save(&self.backend);
        self.backend.unload();
    }

    /// Runs the guest until it stops or [`Vcpu::until`] says that it is enough. All there is of the
    /// loop stands here once, so that it is compiled in one piece.
    fn take_turns(&mut self, housekeeping: &mut dyn Housekeeping) -> RunEnd {
        loop {
            if let Some(stop) = self.vm.stop.requested() {
                return RunEnd::Stopped(stop);
            }
            self.turn(housekeeping);
            if self.until != Until::Stop
                && let Some(end) = self.last_turn_end()
            {
                return end;
            }
        }
    }

    /// The end of a run that is to have no other turn, unless it takes a second one to answer the
    /// exit by which a step ended.
    #[cold]
    fn last_turn_end(&self) -> Option<RunEnd> {
        self.left_exit.is_none().then_some(match self.until {
            Until::Waits => RunEnd::Waits,
            Until::Stop | Until::Step | Until::Preempted => RunEnd::Preempted,
        })
    }

    /// It leaves the CPU.
    const fn gives_up(&self) -> bool {
        matches!(self.until, Until::Waits | Until::Preempted)
    }

    /// It makes a step now.
    const fn is_stepping(&self) -> bool {
        matches!(self.until, Until::Step)
    }

    /// One entry and its exit, or one sleep; or the answer to an exit that the turn before has
    /// left.
    #[inline(always)]
    pub(crate) fn turn(&mut self, housekeeping: &mut dyn Housekeeping) {
        let exit = if let Some(exit) = self.left_exit.take() {
            exit
        } else {
            self.deliver_events();
            if self.activity != Activity::Running {
                self.sleep_attended(housekeeping);
                return;
            }
            self.vm.refresh_layout();
            self.follow_space();
            if self.is_stepping() {
                self.begin_step();
            }
            if self.error_care != ErrorCare::None {
                self.care_for_error();
            }
            if self.timers.take_changed() {
                self.arm_host_timer();
            }
            self.backend.enter(&mut self.gprs, &mut self.pending)
        };
        let kind = self.dispatch(exit);
        self.counters.count(kind);
        self.last_exit = Some(kind);
        let gives_way =
            matches!(kind, ExitKind::HostInterrupt | ExitKind::Pause | ExitKind::Descriptor);
        if gives_way || self.is_host_timer_due() {
            self.give_way(housekeeping);
        }
    }

    /// For tests.
    #[cfg(any(test, feature = "test-platform"))]
    pub(crate) const fn has_left_exit(&self) -> bool {
        self.left_exit.is_some()
    }

    /// Flushes if the address space has changed.
    #[inline]
    fn follow_space(&mut self) {
        if self.vm.space.generation() != self.flushed_generation {
            self.flush_space();
        }
    }

    #[cold]
    fn flush_space(&mut self) {
        self.backend.flush_nested();
        self.flushed_generation = self.vm.space.note_flush(self.index);
    }

    /// A physical interrupt came, or the guest waits.
    #[inline(never)]
    fn give_way(&mut self, housekeeping: &mut dyn Housekeeping) {
        // The guest is not to be found in the middle of a step.
        if self.left_exit.is_none() {
            self.after_host_interrupt();
            if self.last_exit == Some(ExitKind::Pause) && self.vm.processors.are_several() {
                housekeeping.give_way_to_sibling();
            }
            if self.paused || self.is_attendance_due() {
                self.attend(housekeeping);
            } else {
                self.note_share(housekeeping);
            }
        }
    }

    /// Asks for its share of the CPU, and ends the run if that is over, or the guest is paused.
    fn note_share(&mut self, housekeeping: &mut dyn Housekeeping) {
        if self.is_stepping() {
            return;
        }
        let share = housekeeping.share_cpu();
        self.set_others_due(share.due_tsc, housekeeping.due_tsc());
        if self.paused || self.vm.processors.are_held() {
            self.until = Until::Waits;
        } else if share.is_over {
            self.until = Until::Preempted;
        }
    }

    /// A turn without an entry.
    #[inline(never)]
    fn sleep_attended(&mut self, housekeeping: &mut dyn Housekeeping) {
        self.vm.processors.note_idle(self.index, true);
        self.nap(housekeeping);
        self.vm.processors.note_idle(self.index, false);
    }

    fn nap(&mut self, housekeeping: &mut dyn Housekeeping) {
        self.attend(housekeeping);
        // A kick since the last turn without an entry, by the consoles just now too: the next turn
        // looks at what came.
        if self.gives_up() || self.vm.stop.requested().is_some() || self.kick.take() {
            return;
        }
        if self.is_stepping() {
            self.limit_nap();
        } else if housekeeping.has_others() {
            self.until = Until::Waits;
            return;
        }
        self.sleep();
        // The interrupt may be the last one for long.
        self.attend(housekeeping);
    }

    /// The hardware's part and the general registers, for tests.
    #[cfg(any(test, feature = "test-platform"))]
    pub fn registers_mut(&mut self) -> (&mut B, &mut Gprs) {
        (&mut self.backend, &mut self.gprs)
    }

    /// Nothing to run: the physical CPU sleeps until an interrupt.
    fn sleep(&mut self) {
        if self.vm.stop.requested().is_some() || self.timers.take_changed() {
            self.arm_host_timer();
        }
        self.note_use();
        self.note_run_state(RunState::Blocked);
        self.vm.space.begin_sleep(self.index);
        self.platform.idle();
        self.vm.space.end_sleep(self.index);
        self.note_run_state(RunState::Running);
        self.used_from_tsc = self.platform.tsc();
        self.after_host_interrupt();
    }
}
