//! The machine underneath as the hypervisor sees it. `boot` implements it on bare metal; tests
//! implement it on the development host.

use crate::host::machine_check::Registers;
use alloc::vec::Vec;
use config::modules::{self, ModuleKind};
use core::fmt;

/// Sizes in which host memory is handed out. Each is also the alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameSize {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
    /// 1 GiB.
    Huge,
}

impl FrameSize {
    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Small => 4 << 10,
            Self::Large => 2 << 20,
            Self::Huge => 1 << 30,
        }
    }
}

/// One frame of host memory, owned by whom it was handed to until it is given back.
#[derive(Debug)]
pub struct Frame {
    /// Where the hypervisor reads and writes it: its address on every CPU.
    pub address: usize,
    /// Host-physical address.
    pub hpa: u64,
    /// Its size.
    pub size: FrameSize,
}

/// A host serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialPort {
    /// COM1, I/O port 3f8h.
    Com1,
    /// COM2, I/O port 2f8h.
    Com2,
}

/// Something that a person did at the machine's own keyboard or mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEvent {
    /// A byte of scan code set 1, as the host's keyboard controller translates it.
    KeyboardByte(u8),
    /// A mouse movement: counts to the right, up, wheel steps towards the user, and buttons (bit 0
    /// left, 1 right, 2 middle).
    Mouse {
        /// Counts to the right.
        dx: i16,
        /// Counts up.
        dy: i16,
        /// Wheel steps towards the user.
        dz: i8,
        /// Bit 0 left, bit 1 right, bit 2 middle.
        buttons: u8,
    },
}

/// The mode of the machine's own display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayMode {
    /// VGA text: cells of character and attribute.
    Text {
        /// Characters a row.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Pixels.
    Graphics {
        /// Pixels a row.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// The machine's own display.
pub trait Display: Send + Sync {
    /// Asks for a mode; returns the one that is in force afterwards, which may be another (a fixed
    /// framebuffer, or a card that cannot go back to text). Clears the screen if the mode
    /// changed. A picture that is smaller than a fixed framebuffer is shown in its middle, with
    /// black around it; the pixels' coordinates are the picture's.
    fn request_mode(&self, wanted: DisplayMode) -> DisplayMode;
    /// Text modes: writes cells (low byte character, high byte attribute) from a position on.
    /// Outside is ignored.
    fn write_cells(&self, column: u16, row: u16, cells: &[u16]);
    /// Text modes: moves the cursor, or hides it.
    fn set_cursor(&self, position: Option<(u16, u16)>);
    /// Graphics modes: writes 0x00RRGGBB pixels of one row from (`x`, `y`) on. Outside is ignored.
    fn write_pixels(&self, x: u16, y: u16, pixels: &[u32]);
}

/// An interrupt that one CPU sends to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuInterrupt {
    /// Ends whatever the CPU does: it leaves the guest that it runs, or wakes.
    Kick,
    /// The same, but that a processor with posted interrupts does not leave its guest: it takes
    /// what was posted.
    Notification,
}

/// Prints the state of the vCPU that runs on this CPU, for the panic message.
pub type CrashDump = fn(&mut dyn fmt::Write) -> fmt::Result;

/// The machine underneath.
///
/// Unless said otherwise, methods may be called on any CPU, with interrupts off, and return at
/// once.
pub trait Platform: Send + Sync {
    /// The CPU's time stamp counter.
    fn tsc(&self) -> u64;
    /// Its rate in Hz.
    fn tsc_hz(&self) -> u64;
    /// Seconds since 1970 UTC, read from the machine's clock when the hypervisor started.
    fn boot_time_unix_s(&self) -> u64;
    /// The time stamp counter when the image was entered.
    fn boot_tsc(&self) -> u64;

    /// Hands out memory; `None` if there is none left of this size. It holds whatever it held
    /// before: who hands it on to a guest clears it first.
    fn allocate_frame(&self, size: FrameSize) -> Option<Frame>;
    /// Takes memory back.
    fn free_frame(&self, frame: Frame);
    /// Host-physical address of something in the hypervisor's image or heap.
    fn hpa_of(&self, address: usize) -> u64;
    /// Bytes that are free.
    fn free_bytes(&self) -> u64;
    /// Bytes of the hypervisor's own heap that are in use. The heap keeps the memory that it once
    /// took: what leaks into it shows here before it shows in [`Platform::free_bytes`].
    fn heap_bytes(&self) -> u64;
    /// Sets `bytes` of that heap aside for a piece of work that allocates no more than that; false
    /// if the heap has not so much, and cannot get it, beside what is set aside already and
    /// what it keeps for the hypervisor itself. For [`Budget`](crate::host::budget::Budget).
    fn reserve_heap(&self, bytes: u64) -> bool;
    /// Ends what [`Platform::reserve_heap`] began.
    fn return_heap(&self, bytes: u64);

    /// The number of this CPU. The boot CPU is 0, the others follow without a gap.
    fn cpu(&self) -> usize;
    /// Starts all other CPUs; each calls `main`, with interrupts off. Returns how many do. To be
    /// called once, by the boot CPU.
    fn start_cpus(&self, main: &'static (dyn Fn() + Sync)) -> usize;
    /// Interrupts another CPU, which is one of those that were started.
    fn interrupt_cpu(&self, cpu: usize, interrupt: CpuInterrupt);
    /// The vector of [`CpuInterrupt::Notification`].
    fn notification_vector(&self) -> u8;
    /// Handles an interrupt of this CPU that the processor has acknowledged already.
    fn handle_interrupt(&self, vector: u8);

    /// Asks for an interrupt on this CPU when its time stamp counter reaches `deadline_tsc`;
    /// `u64::MAX` disarms. Early by a little is allowed, late is not, beyond the latency of the
    /// hardware.
    fn set_timer(&self, deadline_tsc: u64);
    /// Makes an interrupt pending on this CPU, as if its timer rang: a guest that is entered next
    /// exits at once, when it has taken the event that was injected.
    fn interrupt_self(&self);
    /// Sleeps until an interrupt has been handled on this CPU. Interrupts are off before and after;
    /// one that was pending before ends the sleep.
    fn idle(&self);
    /// Lets the pending interrupts of this CPU be handled: a short window with interrupts on. True
    /// if there was work among them, and not only what other CPUs sent.
    fn handle_interrupts(&self) -> bool;
    /// The machine-check registers of whatever CPU they are used on, if it has any.
    fn machine_check_registers(&self) -> Option<&dyn Registers> {
        None
    }
    /// True once for a #MC that came while the hypervisor ran on this CPU, which goes on: its banks
    /// are full.
    fn take_machine_check(&self) -> bool {
        false
    }
    /// Clears the addresses of this CPU's breakpoints, DR0 to DR3. They stay live in the CPU:
    /// nobody but guests uses them.
    fn clear_breakpoints(&self);
    /// Drains the log ring to the console, as far as it takes it without waiting; true if something
    /// still waits.
    fn drain_log(&self) -> bool;

    /// Sends bytes; returns how many were taken without waiting.
    fn serial_write(&self, port: SerialPort, bytes: &[u8]) -> usize;
    /// Takes one received byte.
    fn serial_read(&self, port: SerialPort) -> Option<u8>;
    /// Takes one keyboard or mouse event.
    fn take_input(&self) -> Option<InputEvent>;
    /// The machine's display, if it has one that the hypervisor can drive.
    fn display(&self) -> Option<&dyn Display>;
    /// A copy of the log ring, oldest first.
    fn log_text(&self) -> Vec<u8>;
    /// The most that such a copy has.
    fn log_bytes(&self) -> u64;
    /// Names what prints the state of the running vCPU when the hypervisor panics. It may be called
    /// at any moment, on any CPU, so it must take no lock for good.
    fn set_crash_dump(&self, dump: CrashDump);

    /// Turns the machine off. Returns only if it cannot.
    fn power_off(&self);
    /// Resets the machine.
    fn reboot(&self) -> !;
}

/// Host time, in nanoseconds of the time stamp counter.
pub fn host_ns(platform: &dyn Platform) -> u64 {
    const NS_PER_S: u64 = 1_000_000_000;
    let (tsc, hz) = (platform.tsc(), platform.tsc_hz().max(1));
    (tsc / hz).wrapping_mul(NS_PER_S).wrapping_add((tsc % hz).wrapping_mul(NS_PER_S) / hz)
}

/// A boot module: a guest's configuration, or a disk image.
#[derive(Clone, Debug)]
pub struct Module {
    /// The module's command line: its name first, arguments after.
    pub command_line: alloc::string::String,
    /// Its content, in memory that nothing else uses.
    pub data: &'static [u8],
}

impl Module {
    /// The name by which messages call it.
    pub fn name(&self) -> alloc::string::String {
        modules::name(&self.command_line)
    }

    /// Its purpose.
    pub fn kind(&self) -> ModuleKind {
        ModuleKind::of(&self.command_line, self.data)
    }
}

/// The boot loader's modules and the image's own files.
#[derive(Clone, Debug, Default)]
pub struct BootInputs {
    /// The hypervisor's own command line, without the image's name.
    pub command_line: alloc::string::String,
    /// The modules, in order.
    pub modules: Vec<Module>,
    /// SeaBIOS, as the distribution builds it.
    pub bios: &'static [u8],
    /// SeaBIOS's VGA BIOS for the standard VGA.
    pub vga_bios: &'static [u8],
    /// The ROM that reads CDs through [`devices::boot_disk`], without its checksum; empty for
    /// none.
    pub boot_rom: &'static [u8],
}

impl BootInputs {
    /// Calls modules that came without a name (GRUB gives none of its own) `module1` and so on, by
    /// their place.
    pub fn with_named_modules(mut self) -> Self {
        for (module, place) in self.modules.iter_mut().zip(1..) {
            if module.name().is_empty() {
                module.command_line = alloc::format!("module{place}");
            }
        }
        self
    }

    /// The modules' names, for messages.
    pub fn module_names(&self) -> Vec<alloc::string::String> {
        self.modules.iter().map(Module::name).collect()
    }
}
