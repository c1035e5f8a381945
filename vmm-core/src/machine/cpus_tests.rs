//! Guests with several virtual CPUs on machines with one CPU: each test is the loop of that one.

use super::cpus::{CpuLoop, Cpus};
use super::domain::Domain;
use super::fuzzing::BIOS;
use super::host_disks::HostDisks;
use super::scheduling::GuestScheduling;
use super::shared::Shared;
use crate::backend::exit::Exit;
use crate::host::features::CpuFeatures;
use crate::host::kick::VcpuKick;
use crate::host::platform::{BootInputs, CpuInterrupt};
use crate::scheduler::{Affinity, DomainParams};
use crate::test_backend::{TestBackend, TestCpu};
use crate::test_platform::TestPlatform;
use crate::vcpu::{Housekeeping, Nothing, Vcpu, VcpuWires};
use crate::vm::{Stop, Vm};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use config::GuestConfig;
use control::guest::OpenPorts;
use control::host::Host;
use control::mailbox::{Answer, Client, Mailbox, Request};
use control::scheduling::{Scheduling, Share, VcpuState};
use control::state::GuestState;
use core::num::NonZeroU32;
use devices::cpu_hotplug::CpuHotplug;
use devices::local_apic::Kick;
use devices::rtc::Battery;
use raw_cpuid::native_cpuid::cpuid_count;

const MS: u64 = 1_000_000;

/// A guest whose virtual CPUs do nothing but exit.
struct Guest {
    platform: &'static TestPlatform,
    vm: Arc<Vm>,
    mailbox: Arc<Mailbox>,
    vcpus: Vec<(Vcpu<TestBackend>, VcpuWires)>,
    sockets: Arc<CpuHotplug>,
}

impl Guest {
    fn new(exits: &[Exit]) -> Self {
        let platform = TestPlatform::leak();
        let inputs = BootInputs { bios: &BIOS, ..BootInputs::default() };
        let config = GuestConfig::new("g", 8, exits.len() as u32);
        let domain =
            Domain::new(platform, &inputs, config, &Shared::new(platform, HostDisks::default()))
                .unwrap();
        let (cpu, ports) = (TestCpu::default(), OpenPorts::new("g"));
        let features = CpuFeatures::read(cpuid_count);
        let pc =
            domain.build::<TestBackend>(&cpu, &features, &ports, Battery::new(0), None).unwrap();
        let vcpus = pc.vcpus.into_iter().zip(exits).enumerate().map(|(index, (wires, &exit))| {
            let vm = pc.vm.clone();
            let vcpu = Vcpu::<TestBackend>::new(index, platform, &cpu, vm, wires.clone(), None);
            let mut vcpu = vcpu.unwrap();
            vcpu.registers_mut().0.exit = exit;
            (vcpu, wires)
        });
        let vcpus: Vec<_> = vcpus.collect();
        let mailbox = pc.vm.mailbox.clone();
        mailbox.connect(vcpus[0].1.kick.clone());
        Self { platform, vm: pc.vm, mailbox, vcpus, sockets: pc.sockets }
    }

    fn kicks(&self) -> Vec<Arc<VcpuKick>> {
        self.vcpus.iter().map(|(_, wires)| wires.kick.clone()).collect()
    }

    /// The others start, as after INIT and a start-up message.
    fn start_others(&self) {
        for (_, wires) in &self.vcpus[1..] {
            wires.inbox.post_init();
            wires.inbox.post_sipi(8);
        }
    }

    /// Runs it; `attend` is called once a millisecond and at each change, and gets the number of
    /// the virtual CPU that is on the CPU then.
    fn run(self, attend: impl FnMut(&Vm, Option<usize>)) -> Option<Stop> {
        self.run_with(DomainParams::default(), attend)
    }

    fn run_with(
        self,
        params: DomainParams,
        mut attend: impl FnMut(&Vm, Option<usize>),
    ) -> Option<Stop> {
        self.run_scheduled(params, |vm, running, _| attend(vm, running))
    }

    /// The same for what the consoles know and do of its time.
    fn run_scheduled(
        self,
        params: DomainParams,
        mut attend: impl FnMut(&Vm, Option<usize>, &dyn Scheduling),
    ) -> Option<Stop> {
        let cpus: &Cpus<TestBackend> = Box::leak(Box::new(Cpus::new(self.platform, &[])));
        let (kicks, vm) = (self.kicks(), self.vm.clone());
        let guest = cpus.begin_guest(params, |_| Affinity::default(), self.vcpus)?;
        let (domain, units) = (guest.domain(), guest.units());
        let scheduling = GuestScheduling::new(cpus, vm.clone(), self.sockets, domain, units);
        let attend = |vm: &Vm, running| attend(vm, running, &scheduling);
        let mut work = Work { platform: self.platform, vm, kicks, attend };
        let mut turns = CpuLoop::new(cpus);
        while self.vm.stop.requested().is_none() {
            turns.turn(&TestCpu::default(), &mut work);
        }
        cpus.end_guest(guest);
        self.vm.stop.requested()
    }
}

struct Work<F> {
    platform: &'static TestPlatform,
    vm: Arc<Vm>,
    kicks: Vec<Arc<VcpuKick>>,
    attend: F,
}

impl<F: FnMut(&Vm, Option<usize>)> Housekeeping for Work<F> {
    fn attend(&mut self) {
        let running = self.kicks.iter().position(|kick| kick.cpu().is_some());
        // A change to another takes no time.
        self.platform.advance_ns(if running.is_some() { MS } else { 0 });
        (self.attend)(&self.vm, running);
    }

    fn take_answers(&mut self) {}

    fn due_tsc(&mut self) -> u64 {
        u64::MAX
    }
}

#[test]
fn virtual_cpus_that_compute_share_a_cpu() {
    const TURNS: usize = 3000;
    let guest = Guest::new(&[Exit::Pause; 3]);
    guest.start_others();
    let (mut turns, mut ran) = (0, [0; 3]);
    let stop = guest.run(|vm, running| {
        running.into_iter().for_each(|number| ran[number] += 1);
        turns += 1;
        if turns == TURNS {
            vm.stop.request(Stop::Reset);
        }
    });
    assert_eq!(stop, Some(Stop::Reset));
    let all: usize = ran.iter().sum();
    for turns in ran {
        assert!((all * 32 / 100..all * 35 / 100).contains(&turns), "{ran:?}");
    }
}

/// Three spin for the fourth, which computes for 100 ms.
#[test]
fn one_that_others_spin_for_is_not_left_waiting() {
    let done_after_ms = |exits: &[Exit]| {
        let guest = Guest::new(exits);
        guest.start_others();
        let (mut ran_ms, mut all_ms) = (0, 0);
        guest.run(|vm, running| {
            all_ms += usize::from(running.is_some());
            ran_ms += usize::from(running == Some(3));
            if ran_ms == 100 {
                vm.stop.request(Stop::PowerOff);
            }
        });
        all_ms
    };
    let computing = done_after_ms(&[Exit::ExternalInterrupt; 4]);
    let spinning = done_after_ms(&[Exit::Pause, Exit::Pause, Exit::Pause, Exit::ExternalInterrupt]);
    assert!((380..420).contains(&computing), "{computing}");
    assert!((180..220).contains(&spinning), "{spinning}");
}

#[test]
fn a_capped_guest_gets_no_more_than_its_share_and_the_cpu_sleeps_else() {
    const CAP_PERCENT: u64 = 40;
    for vcpus in [1, 2] {
        let guest = Guest::new(&vec![Exit::Pause; vcpus]);
        guest.start_others();
        let (platform, processors) = (guest.platform, guest.vm.processors.clone());
        let mut ran_ms = 0;
        let params = DomainParams { cap_percent: CAP_PERCENT as u32, ..DomainParams::default() };
        let stop = guest.run_with(params, |vm, running| {
            ran_ms += u64::from(running.is_some());
            if platform.tsc() > 2000 * MS {
                vm.stop.request(Stop::PowerOff);
            }
        });
        assert_eq!(stop, Some(Stop::PowerOff));
        let percent = ran_ms * MS * 100 / platform.tsc();
        assert!((CAP_PERCENT - 3..=CAP_PERCENT + 3).contains(&percent), "{vcpus}: {percent} %");
        let used_ms = processors.all_used_ticks() / MS;
        assert!(used_ms.abs_diff(ran_ms) <= 1, "{vcpus}: {used_ms} of {ran_ms} ms");
    }
}

#[test]
fn a_cap_that_is_set_at_run_time_counts_from_then_on() {
    const CAP_PERCENT: u64 = 40;
    for vcpus in [1, 2] {
        let guest = Guest::new(&vec![Exit::Pause; vcpus]);
        guest.start_others();
        let platform = guest.platform;
        let (mut ran_ms, mut turned_tsc) = ([0; 3], [0; 3]);
        let caps = [0, CAP_PERCENT as u32, 0];
        guest.run_scheduled(DomainParams::default(), |vm, running, scheduling| {
            let part = (platform.tsc() / (1000 * MS)) as usize;
            let Some(&cap_percent) = caps.get(part) else { return vm.stop.request(Stop::PowerOff) };
            if turned_tsc[part] == 0 {
                turned_tsc[part] = platform.tsc();
                let share = Share { cap_percent, ..scheduling.share() };
                scheduling.set_share(share);
                assert_eq!(scheduling.share(), share);
            }
            ran_ms[part] += u64::from(running.is_some());
        });
        let near = |ms: u64, expected: u64| ms.abs_diff(expected) <= 30;
        let is_right = near(ran_ms[0], 1000) && near(ran_ms[1], 400) && near(ran_ms[2], 1000);
        assert!(is_right, "{vcpus}: {ran_ms:?}");
    }
}

#[test]
fn consoles_know_each_virtual_cpu_without_asking_it() {
    let guest = Guest::new(&[Exit::ExternalInterrupt, Exit::ExternalInterrupt, Exit::Halt]);
    guest.start_others();
    let mut turns = 0;
    guest.run_scheduled(DomainParams::default(), |vm, running, scheduling| {
        turns += 1;
        if turns < 100 {
            return;
        }
        let vcpus = scheduling.vcpus();
        assert_eq!(vcpus[2].state, VcpuState::Blocked);
        if let Some(running @ (0 | 1)) = running {
            assert_eq!(vcpus[running].state, VcpuState::Running);
            assert_eq!(vcpus[1 - running].state, VcpuState::Runnable);
        }
        assert!(vcpus[0].time_ns > 20 * MS && vcpus[1].time_ns > 20 * MS, "{vcpus:?}");
        assert!(vcpus[2].time_ns < 5 * MS, "{vcpus:?}");
        assert_eq!((vcpus[1].cpu, &vcpus[1].hard[..]), (0, &[0][..]));
        if turns == 200 {
            vm.stop.request(Stop::PowerOff);
        }
    });
}

#[test]
fn one_that_halts_on_a_cpu_of_its_own_is_known_to() {
    let (mut turns, mut states) = (0, Vec::new());
    Guest::new(&[Exit::Halt]).run_scheduled(DomainParams::default(), |vm, _, scheduling| {
        turns += 1;
        states.push(scheduling.vcpus()[0].state);
        if turns == 50 {
            vm.stop.request(Stop::PowerOff);
        }
    });
    assert!(states[10..].iter().all(|&state| state == VcpuState::Blocked), "{states:?}");
}

#[test]
fn one_that_was_not_started_does_not_run() {
    let (mut turns, mut others) = (0, 0);
    Guest::new(&[Exit::Pause, Exit::Pause]).run(|vm, running| {
        others += usize::from(running == Some(1));
        turns += 1;
        if turns == 500 {
            vm.stop.request(Stop::PowerOff);
        }
    });
    assert!(others <= 1, "{others}: it has looked once, and waits");
}

#[test]
fn halted_ones_leave_the_cpu_and_answer_when_they_are_asked() {
    let guest = Guest::new(&[Exit::Halt, Exit::Halt]);
    let (mailbox, platform) = (guest.mailbox.clone(), guest.platform);
    let before = platform.allocated_bytes();
    let (mut turns, mut answers) = (0, Vec::new());
    let stop = guest.run(|_, running| {
        turns += 1;
        if turns % 20 == 0 {
            assert_eq!(running, None, "it halts");
            let request = if turns < 100 { Request::Stats } else { Request::Destroy };
            assert!(mailbox.post(Client::Management, request));
        }
        answers.extend(mailbox.take_answer(Client::Management));
    });
    assert_eq!(stop, Some(Stop::Destroy));
    assert!(answers.len() >= 4, "{answers:?}");
    for answer in &answers[..4] {
        let Answer::Stats(stats) = answer else { panic!("{answer:?}") };
        assert_eq!(stats.state, GuestState::Halted);
    }
    assert!(platform.allocated_bytes() < before, "what it had goes back");
}

#[test]
fn while_a_guest_is_paused_none_of_its_virtual_cpus_runs_and_its_time_stands_still() {
    let guest = Guest::new(&[Exit::Pause, Exit::Pause]);
    guest.start_others();
    let mailbox = guest.mailbox.clone();
    let ask = |request| assert!(mailbox.post(Client::Prompt, request));
    let (mut turns, mut others, mut clock_ns) = (0, [0; 3], [0; 2]);
    let stop = guest.run(|vm, running| {
        use devices::time::Clock;
        turns += 1;
        let part = turns / 200;
        others[part.min(2)] += usize::from(running == Some(1));
        match turns {
            199 => ask(Request::Pause),
            // The first one has come to its turn, and is held.
            220 => (others[1], clock_ns[0]) = (0, vm.clock.now().as_ns()),
            399 => {
                clock_ns[1] = vm.clock.now().as_ns();
                mailbox.take_answer(Client::Prompt).expect("the answer to the pause");
                ask(Request::Resume);
            }
            600 => vm.stop.request(Stop::PowerOff),
            _ => {}
        }
    });
    assert_eq!(stop, Some(Stop::PowerOff));
    assert_eq!((others[1], clock_ns[0]), (0, clock_ns[1]), "{others:?}");
    assert!(others[0] > 40 && others[2] > 40, "{others:?}");
}

#[test]
fn a_kick_wakes_one_that_waits() {
    let guest = Guest::new(&[Exit::Halt, Exit::Halt]);
    let kicks = guest.kicks();
    let inbox = guest.vcpus[1].1.inbox.clone();
    guest.start_others();
    let (mut turns, mut woken) = (0, 0);
    guest.run(|vm, running| {
        turns += 1;
        woken += usize::from(running == Some(1));
        match turns {
            50 => woken = 0,
            60 => inbox.post_nmi(),
            80 => kicks[1].kick(),
            100 => vm.stop.request(Stop::PowerOff),
            _ => {}
        }
    });
    assert!(woken >= 2, "{woken}");
}

/// A machine with two CPUs whose loops have turned once, the boot CPU's going on.
fn boot_cpu_turns(mut after_turn: impl FnMut(&'static TestPlatform, usize, &mut dyn FnMut())) {
    let platform = TestPlatform::leak();
    let mut cpus = Cpus::<TestBackend>::new(platform, &[(1, Some(false)), (2, None)]);
    cpus.watchdog_s = NonZeroU32::new(5);
    let cpus: &'static Cpus<TestBackend> = Box::leak(Box::new(cpus));
    let mut other_turns = || {
        platform.be_cpu(1);
        CpuLoop::new(cpus).turn(&TestCpu::default(), &mut Nothing);
        platform.be_cpu(0);
    };
    other_turns();
    let mut turns = CpuLoop::new(cpus);
    for turn in 0..100 {
        turns.turn(&TestCpu::default(), &mut Nothing);
        after_turn(platform, turn, &mut other_turns);
    }
}

#[test]
fn a_cpu_that_turns_when_it_is_interrupted_is_left_alone() {
    let (mut interrupts, mut turn_tsc) = (0, Vec::new());
    boot_cpu_turns(|platform, _, other_turns| {
        let taken = platform.take_interrupts(1, CpuInterrupt::Kick);
        interrupts += taken;
        turn_tsc.push(platform.tsc());
        (taken > 0).then(other_turns);
    });
    let spans: Vec<u64> = turn_tsc.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The other one sleeps on the same clock.
    assert!(spans.iter().all(|&ticks| ticks <= 2_000 * MS), "it looks once a second: {spans:?}");
    assert!((20..60).contains(&interrupts), "{interrupts}");
}

#[test]
#[should_panic = "CPU 1 hangs"]
fn a_cpu_that_does_not_turn_although_it_is_interrupted_is_reported() {
    boot_cpu_turns(|platform, turn, _| {
        let taken = platform.take_interrupts(1, CpuInterrupt::Kick);
        assert!(turn < 10, "not found after {turn} turns; {taken} interrupts");
    });
}
