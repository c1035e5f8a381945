//! A guest for tests of the consoles: its devices on a clock that the test moves, and an owner that
//! notes what is asked of it.

use super::{GuestControl, GuestPorts, GuestStats};
use crate::vcpu::debug::{DebugTarget, Location, Registers, StepEnd};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use control::output::OutputRing;
use core::cell::Cell;
use devices::i8042::I8042;
use devices::irq::IrqLine;
use devices::memory::TestMemory;
use devices::system_control::SystemProbe;
use devices::time::{Alarm, Deadlines, TestClock};
use devices::uart::Uart;
use devices::vga::{ODD_EVEN_BYTES, ROM_BYTES, Vga, VgaMemory};

/// The devices, and what is behind them.
pub struct TestGuest {
    /// Guest time.
    pub clock: Arc<TestClock>,
    /// A guest called `linux`.
    pub ports: GuestPorts,
    /// The memory of text modes.
    pub odd_even: Arc<TestMemory>,
    /// The memory of graphics modes.
    pub vram: Arc<TestMemory>,
}

impl TestGuest {
    /// With 4 MiB of video memory.
    pub fn new() -> Self {
        Self::with_video_memory(4 << 20)
    }

    /// With so many bytes of video memory.
    pub fn with_video_memory(vram_bytes: usize) -> Self {
        let clock = TestClock::new();
        let alarm = Deadlines::new(1).alarm(0);
        let output = Arc::new(OutputRing::new());
        let uart =
            Uart::new(0x3f8, IrqLine::detached(), output.clone(), clock.clone(), Alarm::detached());
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
        let ports = GuestPorts {
            name: "linux".into(),
            uart: Arc::new(uart),
            output,
            vga: Arc::new(Vga::new(clock.clone(), memory, &[])),
            i8042: Arc::new(i8042),
            clock: clock.clone(),
            alarm,
        };
        Self { clock, ports, odd_even, vram }
    }
}

impl Default for TestGuest {
    fn default() -> Self {
        Self::new()
    }
}

/// A note of all that was asked of the guest.
#[derive(Default)]
pub struct Control {
    /// How often its power was to be cut.
    pub powered_off: Cell<u32>,
    /// How often it was to be reset.
    pub resets: Cell<u32>,
    /// It is paused.
    pub paused: bool,
    /// It pauses at descriptor-table accesses.
    pub catches_tables: bool,
    /// Its processor cannot do that.
    pub cannot_catch: bool,
    /// Steps made.
    pub steps: u64,
}

impl GuestControl for Control {
    fn stats(&self) -> GuestStats {
        GuestStats {
            state: "running",
            total_exits: 12,
            exits: vec![("cpuid", 5), ("hlt", 7)],
            guest_time_ns: 34,
        }
    }

    fn power_off(&self) {
        self.powered_off.set(self.powered_off.get() + 1);
    }

    fn reset(&self) {
        self.resets.set(self.resets.get() + 1);
    }

    fn dump(&self) -> String {
        "rip 00001234\n".into()
    }

    fn debug_target(&mut self) -> Option<&mut dyn DebugTarget> {
        Some(self)
    }
}

/// NOPs from 1000h on; the fourth is an HLT.
impl DebugTarget for Control {
    fn pause(&mut self) {
        self.paused = true;
    }

    fn resume(&mut self) {
        self.paused = false;
    }

    fn is_paused(&self) -> bool {
        self.paused
    }

    fn step(&mut self) -> StepEnd {
        if self.steps == 4 {
            return StepEnd::Halted;
        }
        self.steps += 1;
        StepEnd::Done
    }

    fn catch_tables(&mut self, on: bool) -> bool {
        self.catches_tables = on;
        !self.cannot_catch
    }

    fn location(&self) -> Location {
        Location::new(8, 0x1000 + self.steps, 32, &[if self.steps == 3 { 0xf4 } else { 0x90 }])
    }

    fn registers(&self) -> Registers {
        Registers(vec![("rax", 0x12), ("rip", 0x1000 + self.steps)])
    }

    fn set_register(&mut self, name: &str, value: u64) -> bool {
        self.steps = value - 0x1000;
        name == "rip"
    }
}
