//! A guest for tests of the consoles: its devices on a clock that the test moves, and an owner that
//! notes what is asked of it.

use crate::Consoles;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use control::guest::{ConsoleKind, GuestFacts, GuestPorts};
use control::mailbox::{Answer, Mailbox, Request};
use control::output::OutputRing;
use control::scheduling::{Scheduling, Share, VcpuFacts, VcpuState};
use control::state::{GuestState, GuestStats, Location, Registers, Steps};
use core::sync::atomic::{AtomicBool, Ordering};
use devices::cpu_hotplug::CpuHotplug;
use devices::i8042::I8042;
use devices::irq::IrqLine;
use devices::local_apic::{ApicBus, ApicInbox, Kick};
use devices::memory::TestMemory;
use devices::pci::piix4_pm::Piix4Pm;
use devices::pci::power_probe::PowerProbe;
use devices::system_control::SystemProbe;
use devices::time::{Alarm, TestClock};
use devices::uart::Uart;
use devices::vga::{ODD_EVEN_BYTES, ROM_BYTES, Vga, VgaMemory};
use spin::Mutex;

/// The devices, and what is behind them.
pub struct TestGuest {
    /// Guest time.
    pub clock: Arc<TestClock>,
    /// Its devices.
    pub ports: GuestPorts,
    /// Its mailbox.
    pub mailbox: Arc<Mailbox>,
    /// The memory of text modes.
    pub odd_even: Arc<TestMemory>,
    /// The memory of graphics modes.
    pub vram: Arc<TestMemory>,
    /// The time that it gets.
    pub scheduling: Arc<TestScheduling>,
}

impl TestGuest {
    /// Number 1, called `linux`, with 4 MiB of video memory.
    pub fn new() -> Self {
        Self::called(1, "linux", 4 << 20)
    }

    /// With so many bytes of video memory.
    pub fn called(number: u32, name: &str, vram_bytes: usize) -> Self {
        let clock = TestClock::new();
        let output = ConsoleKind::ALL.map(|_| Arc::new(OutputRing::new()));
        let uart = Uart::new(
            0x3f8,
            IrqLine::detached(),
            output[0].clone(),
            clock.clone(),
            Alarm::detached(),
        );
        let (vram, odd_even) = (TestMemory::new(vram_bytes), TestMemory::new(ODD_EVEN_BYTES));
        let memory = VgaMemory {
            vram: vram.clone(),
            odd_even: odd_even.clone(),
            rom: TestMemory::new(ROM_BYTES),
        };
        let i8042 = I8042::new(
            IrqLine::detached(),
            IrqLine::detached(),
            Arc::new(SystemProbe::default()),
            clock.clone(),
            Alarm::detached(),
        );
        let (line, alarm) = (IrqLine::detached(), Alarm::detached());
        let power = Piix4Pm::new(clock.clone(), alarm, line, Arc::new(PowerProbe::default()));
        let inboxes = (0..MAX_VCPUS).map(|_| ApicInbox::new(Arc::new(NoKick))).collect();
        let (power, processors) = (Arc::new(power), ApicBus::new(inboxes));
        let sockets = CpuHotplug::new(processors.clone(), power.clone(), FACTS.vcpus);
        let sockets = Arc::new(sockets);
        let scheduling = Arc::new(TestScheduling::new(sockets.clone()));
        let ports = GuestPorts {
            uart: Arc::new(uart),
            output,
            vga: Arc::new(Vga::new(clock.clone(), memory, &[])),
            i8042: Arc::new(i8042),
            power,
            processors,
            sockets: sockets.clone(),
            scheduling: scheduling.clone(),
            pv: None,
        };
        Self {
            clock,
            ports,
            mailbox: Arc::new(Mailbox::new(number, name)),
            odd_even,
            vram,
            scheduling,
        }
    }
}

/// The machine's CPUs.
pub const CPUS: usize = 3;

/// A guest's time: what was set, on a machine of [`CPUS`].
pub struct TestScheduling {
    sockets: Arc<CpuHotplug>,
    /// The guest is held.
    pub paused: AtomicBool,
    share: Mutex<Share>,
    /// Each virtual CPU's state, and the CPUs that it may be on.
    pub vcpus: Mutex<Vec<VcpuFacts>>,
}

impl TestScheduling {
    fn new(sockets: Arc<CpuHotplug>) -> Self {
        let vcpu = |number| VcpuFacts {
            state: if number == 0 { VcpuState::Running } else { VcpuState::Blocked },
            cpu: number as usize % CPUS,
            time_ns: 625_000_000,
            hard: (0..CPUS).collect(),
            soft: (0..CPUS).collect(),
        };
        Self {
            sockets,
            paused: AtomicBool::new(false),
            share: Mutex::new(Share { weight: 256, cap_percent: 0 }),
            vcpus: Mutex::new((0..MAX_VCPUS).map(vcpu).collect()),
        }
    }
}

impl Scheduling for TestScheduling {
    fn cpus(&self) -> usize {
        CPUS
    }

    fn guest_time_ns(&self) -> u64 {
        93_784_000_000_034
    }

    fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    fn vcpus(&self) -> Vec<VcpuFacts> {
        let mut vcpus = self.vcpus.lock().clone();
        for (number, vcpu) in vcpus.iter_mut().enumerate() {
            if !self.sockets.is_there(number) {
                (vcpu.state, vcpu.time_ns) = (VcpuState::Offline, 0);
            }
        }
        vcpus
    }

    fn pin(&self, vcpu: usize, hard: Option<&[usize]>, soft: Option<&[usize]>) {
        let vcpu = &mut self.vcpus.lock()[vcpu];
        hard.inspect(|&cpus| vcpu.hard = cpus.into());
        soft.inspect(|&cpus| vcpu.soft = cpus.into());
    }

    fn share(&self) -> Share {
        *self.share.lock()
    }

    fn set_share(&self, share: Share) {
        *self.share.lock() = share;
    }
}

/// To virtual CPUs that run on no CPU.
struct NoKick;

impl Kick for NoKick {
    fn kick(&self) {}

    fn notify(&self) {}
}

/// The most virtual CPUs that each may have.
pub const MAX_VCPUS: u32 = 4;

/// The size of all guests here.
pub const FACTS: GuestFacts = GuestFacts { memory_mib: 128, vcpus: 2 };

impl Default for TestGuest {
    fn default() -> Self {
        Self::new()
    }
}

/// A note of all that was asked of the guest.
#[derive(Default)]
pub struct Control {
    /// How often it was to end for good.
    pub destroyed: u32,
    /// How often it was to be reset.
    pub resets: u32,
    /// It is paused.
    pub paused: bool,
    /// It pauses at descriptor-table accesses.
    pub catches_tables: bool,
    /// Its processor cannot do that.
    pub cannot_catch: bool,
    /// Steps made.
    pub steps: u64,
    /// It is on another CPU, which does not look now.
    pub is_away: bool,
}

impl Control {
    /// A turn of the consoles, and of the guest's vCPU as far as it is asked.
    pub fn attend(&mut self, consoles: &mut Consoles, mailbox: &Mailbox) {
        consoles.attend();
        self.answer_all(consoles, mailbox);
        consoles.set_alarm(None);
    }

    /// The guest's vCPU answers what waits.
    pub fn answer_all(&mut self, consoles: &mut Consoles, mailbox: &Mailbox) {
        while !self.is_away
            && let Some((client, request)) = mailbox.take_request()
        {
            mailbox.put_answer(client, self.answer(request));
            consoles.take_answers();
        }
    }

    fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Stats => Answer::Stats(GuestStats {
                state: if self.paused { GuestState::Paused } else { GuestState::Running },
                total_exits: 12,
                exits: vec![("cpuid", 5), ("hlt", 7)],
                guest_time_ns: 93_784_000_000_034,
                cpu_time_ns: 1_250_000_000,
            }),
            Request::Dump => Answer::Dump("rip 00001234\n".into()),
            Request::Destroy => {
                self.destroyed += 1;
                Answer::Done
            }
            Request::Reset => {
                self.resets += 1;
                Answer::Done
            }
            Request::Pause => {
                self.paused = true;
                Answer::Paused(self.location())
            }
            Request::Resume => {
                self.paused = false;
                Answer::Done
            }
            Request::CatchTables(_) if self.cannot_catch => Answer::Impossible,
            Request::CatchTables(on) => {
                self.catches_tables = on;
                Answer::Done
            }
            Request::Registers => {
                let registers = vec![("rax", 0x12), ("rip", self.steps.wrapping_add(0x1000))];
                Answer::Registers(Registers(registers), self.location())
            }
            Request::SetRegister { .. } | Request::Step(_) if !self.paused => Answer::Runs,
            Request::SetRegister { name, value } if name == "rip" => {
                self.steps = value.wrapping_sub(0x1000);
                Answer::Done
            }
            Request::SetRegister { name, .. } => Answer::NoRegister(name),
            Request::Step(count) => Answer::Steps(self.step(count)),
            Request::Create { .. }
            | Request::Store { .. }
            | Request::Watch(_)
            | Request::ListDisks(_)
            | Request::ListCards(_)
            | Request::ListHostDisks
            | Request::ChangeDisk { .. }
            | Request::ChangeCard { .. } => Answer::Impossible,
        }
    }

    /// NOPs from 1000h on; the fourth is an HLT.
    fn step(&mut self, count: u32) -> Steps {
        let (mut done, mut end) = (Vec::new(), None);
        for _ in 0..count {
            if self.steps == 4 {
                end = Some("halted");
                break;
            }
            done.push(self.location());
            self.steps = self.steps.wrapping_add(1);
        }
        Steps { done, end, next: self.location() }
    }

    fn location(&self) -> Location {
        let (byte, text) = if self.steps == 3 { (0xf4, "hlt") } else { (0x90, "nop") };
        Location {
            cs: 8,
            rip: self.steps.wrapping_add(0x1000),
            bitness: 32,
            bytes: [byte].into_iter().collect(),
            text: text.into(),
        }
    }
}
