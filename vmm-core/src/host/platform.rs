//! The machine underneath as the hypervisor sees it. `boot` implements it on bare metal; tests
//! implement it on the development host.

use crate::host::machine_check::Registers;
use crate::host::owner::Owner;
#[cfg(any(test, feature = "owner-map"))]
use crate::host::owner_map::OwnerMap;
use alloc::vec::Vec;
use block::HostDisk;
use config::modules::{self, ModuleKind};
use control::host::Host;
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

    /// The next smaller size, of which 512 make this one; of the smallest, that itself.
    pub const fn smaller(self) -> Self {
        match self {
            Self::Small | Self::Large => Self::Small,
            Self::Huge => Self::Large,
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

/// An interrupt that one CPU sends to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuInterrupt {
    /// Ends whatever the CPU does: it leaves the guest that it runs, or wakes.
    Kick,
    /// The same, but that a processor with posted interrupts does not leave its guest: it takes
    /// what was posted.
    Notification,
}

/// The CPU that loads the image, and attends to the consoles.
pub const BOOT_CPU: usize = 0;

/// CPUs that run guests: those with a higher number sleep.
pub const MAX_CPUS: usize = 256;

/// Prints the state of the vCPU that runs on this CPU, whose number it gets, for the panic message.
pub type CrashDump = fn(usize, &mut dyn fmt::Write) -> fmt::Result;

/// The machine underneath, beside what its consoles need.
///
/// Unless said otherwise, methods may be called on any CPU, with interrupts off, and return at
/// once.
pub trait Platform: Host {
    /// Seconds since 1970 UTC, read from the machine's clock when the hypervisor started.
    fn boot_time_unix_s(&self) -> u64;
    /// The time stamp counter when the image was entered.
    fn boot_tsc(&self) -> u64;

    /// Hands out memory; `None` if there is none left of this size. It holds whatever it held
    /// before: who hands it on to a guest clears it first.
    fn allocate_frame(&self, size: FrameSize, owner: Owner) -> Option<Frame>;
    /// Takes memory back.
    fn free_frame(&self, frame: Frame);
    /// A frame of [`FrameSize::Large`] or [`FrameSize::Huge`] that is handed out is 512 of the next
    /// smaller size from now on, which go back one by one.
    fn split_frame(&self, hpa: u64, size: FrameSize);
    /// Where the hypervisor reads and writes a frame that is handed out: [`Frame::address`].
    fn address_of(&self, hpa: u64) -> usize;
    /// Whose the frames are that were handed out.
    #[cfg(any(test, feature = "owner-map"))]
    fn owners(&self) -> &OwnerMap;
    /// Host-physical address of something in the hypervisor's image or heap.
    fn hpa_of(&self, address: usize) -> u64;

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
    /// Does what the machine's own disks have to do: devices are told of requests that are
    /// complete. Returns the host time at which to call this again, in nanoseconds; [`u64::MAX`] if
    /// it is enough to do so after interrupts. For the boot CPU, with no lock held that a device
    /// takes.
    fn attend_disks(&self) -> u64 {
        u64::MAX
    }
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
    /// CPU `cpu` hangs in the hypervisor: the registers and the stack of each CPU are printed, and
    /// the machine ends as after any other crash.
    fn report_hang(&self, cpu: usize) -> !;
    /// Names what prints the state of the running vCPU when the hypervisor panics. It may be called
    /// at any moment, on any CPU, so it must take no lock for good.
    fn set_crash_dump(&self, dump: CrashDump);
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
    /// The machine's own disks.
    pub disks: Vec<HostDisk>,
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
