//! The seam between the shared virtual CPU and the two vendors' hardware.

pub mod address_tags;
pub mod exit;
pub mod extended_state;
pub mod live_registers;
mod nested_paging;
pub mod reset;
pub mod speculation;

pub use nested_paging::{NestedPaging, WriteTracking};

use crate::host::owner::GuestId;
use crate::host::platform::Platform;
use alloc::string::String;
use alloc::sync::Arc;
use config::CommandLine;
use core::fmt;
use devices::local_apic::{ApicInbox, Interface, RegisterPage};
use emulator::event::Event;
use emulator::registers::{
    Cr0, Cr4, Efer, Gpr, Gprs, Rflags, Segment, SegmentAttributes, SegmentName, TableRegister,
};
use exit::Exit;
use extended_state::{ExtendedState, SavedState};
use speculation::{Barrier, Defences};

/// The hardware cannot do what is required; the text says what is missing and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported(pub &'static str);

/// Ticks of the TSC that are between two PAUSEs of a loop at the most, where the processor looks at
/// that; one alone takes some 140 since Skylake.
pub const PAUSE_GAP_TICKS: u16 = 1024;

/// Registers of the guest's that the shared code reads or writes seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SystemRegister {
    Cr2,
    Cr3,
    Dr6,
    Dr7,
    Pat,
    Star,
    LStar,
    CStar,
    SfMask,
    KernelGsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    TscAux,
    /// IA32_SPEC_CTRL as the guest wrote it.
    SpecCtrl,
}

impl SystemRegister {
    /// How many there are.
    pub const COUNT: usize = Self::SpecCtrl as usize + 1;
}

/// Instructions that a processor may have although its virtualisation does not let guests have
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// RDTSCP and RDPID.
    pub rdtscp: bool,
    /// INVPCID.
    pub invpcid: bool,
    /// XSAVES and XRSTORS.
    pub xsaves: bool,
}

/// The parts that a virtual CPU is made with.
#[derive(Clone)]
pub struct VcpuSetup {
    /// The guest that it belongs to.
    pub guest: GuestId,
    /// Host-physical address of the top table of the second-level page tables.
    pub nested_root_hpa: u64,
    /// The registers of the local APIC. The guest runs with the task priority that they have, and
    /// they have the guest's after an exit: it changes CR8 without one.
    pub apic_page: Arc<RegisterPage>,
    /// Where others post interrupts: a processor that has posted interrupts takes them out of its
    /// descriptor.
    pub apic_inbox: Arc<ApicInbox>,
    /// Host-physical address of a page that stands for the registers in the guest's address space.
    /// Nothing is in it.
    pub apic_access_hpa: u64,
}

/// One virtual CPU on a vendor's hardware: it owns the VMCB or VMCS and what belongs to it.
///
/// The guest's registers that are not here are in [`Gprs`], which the shared code owns (RSP and RAX
/// included).
pub trait Backend: Sized + Send + 'static {
    /// For messages: "AMD-V" or "VT-x".
    const NAME: &'static str;
    /// The state of a physical CPU that runs guests.
    type Cpu: Send;

    /// Checks this CPU and turns virtualisation on for it, until the machine is turned off, but for
    /// what the command line switches off.
    ///
    /// # Errors
    /// [`Unsupported`] says what is missing or switched off.
    fn enable_cpu(
        platform: &'static dyn Platform,
        options: &CommandLine,
    ) -> Result<Self::Cpu, Unsupported>;

    /// For the log: what this CPU has beyond what is required.
    fn describe(cpu: &Self::Cpu) -> String;

    /// The second-level paging of this CPU.
    fn nested_paging(cpu: &Self::Cpu) -> NestedPaging;

    /// This CPU takes interrupts that others post to a virtual CPU which runs on it, without an
    /// exit.
    fn takes_posted_interrupts(_cpu: &Self::Cpu) -> bool {
        false
    }

    /// The features that CPUID must not promise to a guest on this CPU.
    fn withheld(_cpu: &Self::Cpu) -> Withheld {
        Withheld::default()
    }

    /// The defences of this CPU against speculative execution, which [`Backend::enable_cpu`] has
    /// put into force.
    fn defences(_cpu: &Self::Cpu) -> Defences {
        Defences::default()
    }

    /// A virtual CPU on no CPU yet. Its registers are to be set by [`reset::power_on`] and
    /// [`Backend::init`] when it is loaded.
    ///
    /// # Errors
    /// [`Unsupported`] if memory is short or a needed control is missing.
    fn new(
        cpu: &Self::Cpu,
        platform: &'static dyn Platform,
        setup: &VcpuSetup,
    ) -> Result<Self, Unsupported>;

    /// This CPU, which is `cpu`, runs the virtual CPU from now on, and may have run another one.
    /// All that is asked and set is about this one, until [`Backend::unload`]. The host's state and
    /// the tag of the guest's translations are this CPU's from now on, and none of the translations
    /// that it has cached is used. A CPU that comes from another guest forgets its branch
    /// predictions ([`Defences::guest_barrier`]). The `gprs` are those of all entries, and stay
    /// where they are meanwhile.
    fn load(&mut self, cpu: &Self::Cpu, gprs: &Gprs);

    /// The virtual CPU leaves the CPU that it was loaded on, which keeps nothing of it: another one
    /// may load it, or this one again. Until then nothing is asked or set.
    fn unload(&mut self);

    /// The registers that stay live in the CPU, beside the extended state and DR0 to DR3.
    const LIVE_REGISTERS: &'static [SystemRegister];

    /// Puts the registers into the state after INIT, which keeps most model-specific ones, caches
    /// and the FPU.
    fn init(&mut self, gprs: &mut Gprs);

    /// [`Host::tsc`](control::host::Host::tsc), which each exit asks: in line, where the processor
    /// is known.
    #[inline]
    fn tsc(platform: &dyn Platform) -> u64 {
        platform.tsc()
    }

    /// Runs the guest until it exits. Called with interrupts off. An event that was being delivered
    /// to the guest when it exited, and is to be delivered again, is left in `interrupted`.
    fn enter(&mut self, gprs: &mut Gprs, interrupted: &mut Option<Event>) -> Exit;

    /// A step ends by a trap, which an instruction that loads SS holds off until after the next
    /// one.
    const STEPS_BY_TRAP: bool = false;

    /// The processor can make steps.
    fn can_step(&self) -> bool {
        true
    }

    /// Makes the next entry a step: the guest runs one instruction at the most, and none after an
    /// event that it takes. The entry's exit is [`Exit::Stepped`] if the instruction is done or
    /// an event delivered. By any other exit the instruction is not done, or left to be done;
    /// one that leaves a trap to the guest (a single step of its own, a breakpoint) ends by
    /// that. The guest's registers do not show afterwards how it was done. `instruction` is what
    /// could be read at RIP, for processors that have no means of their own.
    fn begin_step(&mut self, gprs: &mut Gprs, instruction: &[u8]);

    /// Loads and stores of GDTR, IDTR, LDTR and TR exit from now on ([`Exit::Descriptor`]), or no
    /// longer. False if this processor has no exits for them.
    fn set_descriptor_exits(&mut self, on: bool) -> bool;

    /// Instruction pointer.
    fn rip(&self) -> u64;
    /// Sets the instruction pointer.
    fn set_rip(&mut self, rip: u64);
    /// The instruction at RIP has been carried out: moves on to `next_rip` and ends the interrupt
    /// shadow.
    fn complete_instruction(&mut self, next_rip: u64);
    /// Address of the instruction after the one that caused this exit, if the hardware says it.
    /// Asked only of exits that the instruction at RIP is the reason for.
    fn next_rip(&self) -> Option<u64>;
    /// The bytes at RIP, if the hardware saved them (decode assists).
    fn instruction_bytes(&self) -> Option<&[u8]>;

    /// The general register of the MOV to or from a control register that exited, if the hardware
    /// says it (decode assists).
    fn control_register_operand(&self) -> Option<Gpr> {
        None
    }

    /// LMSW, which cannot switch paging on, is to run without an exit ([`Exit::WriteCr0`]).
    fn let_cr0_be_written(&mut self) {}

    /// Flags.
    fn rflags(&self) -> Rflags;
    /// Sets the flags.
    fn set_rflags(&mut self, rflags: Rflags);
    /// CR0 as the guest sees it.
    fn cr0(&self) -> Cr0;
    /// CR4 as the guest sees it.
    fn cr4(&self) -> Cr4;
    /// EFER as the guest sees it.
    fn efer(&self) -> Efer;
    /// Sets CR0 as the guest sees it.
    fn set_cr0(&mut self, cr0: Cr0);
    /// Sets CR4 as the guest sees it. Translations that the change makes stale go, as MOV to CR4
    /// has it.
    fn set_cr4(&mut self, cr4: Cr4);
    /// Loads the page-directory pointers of PAE paging, for processors that keep them: they follow
    /// the guest's own loads of CR3, but not those that the shared code does for it.
    fn set_page_directory_pointers(&mut self, _pointers: [u64; 4]) {}
    /// Sets EFER as the guest sees it.
    fn set_efer(&mut self, efer: Efer);
    /// Reads a seldom used register.
    fn system_register(&self, register: SystemRegister) -> u64;
    /// Writes a seldom used register.
    fn set_system_register(&mut self, register: SystemRegister, value: u64);
    /// DR7, or 0 if the backend knows that no breakpoint is enabled in it. Asked for at each access
    /// to a port.
    fn breakpoint_control(&mut self) -> u64 {
        self.system_register(SystemRegister::Dr7)
    }
    /// DR0 to DR3, by number; they are live in the CPU.
    fn breakpoint_address(&self, number: u8) -> u64 {
        extended_state::breakpoint_address(number)
    }
    /// Sets one of DR0 to DR3.
    fn set_breakpoint_address(&mut self, number: u8, address: u64) {
        extended_state::set_breakpoint_address(number, address);
    }
    /// Current privilege level.
    fn cpl(&self) -> u8;
    /// A segment register with its hidden part.
    fn segment(&self, name: SegmentName) -> Segment;
    /// The attributes of a segment register alone.
    fn segment_attributes(&self, name: SegmentName) -> SegmentAttributes {
        self.segment(name).attributes
    }
    /// The linear base address of a segment register alone.
    fn segment_base(&self, name: SegmentName) -> u64 {
        self.segment(name).base
    }
    /// Width of the code that runs: 16, 32 or 64.
    fn code_bits(&self) -> u32 {
        let code = self.segment_attributes(SegmentName::Cs);
        match (code.long() && self.efer().long_mode_active(), code.default_big()) {
            (true, _) => 64,
            (false, true) => 32,
            (false, false) => 16,
        }
    }
    /// Loads a segment register with its hidden part.
    fn set_segment(&mut self, name: SegmentName, segment: Segment);
    /// GDTR.
    fn gdtr(&self) -> TableRegister;
    /// IDTR.
    fn idtr(&self) -> TableRegister;
    /// Sets GDTR.
    fn set_gdtr(&mut self, gdtr: TableRegister);
    /// Sets IDTR.
    fn set_idtr(&mut self, idtr: TableRegister);

    /// Interrupts are held off for one instruction (STI, MOV SS).
    fn interrupt_shadow(&self) -> bool;
    /// The guest runs one instruction before it takes an interrupt, as behind STI. It takes
    /// interrupts, and is in no shadow.
    fn set_interrupt_shadow(&mut self);
    /// The guest is in an NMI handler.
    fn nmi_blocked(&self) -> bool;
    /// An IRET has been carried out in the place of a processor whose steps are
    /// [by trap](Backend::STEPS_BY_TRAP): the guest is in no NMI handler any more.
    fn unblock_nmis(&mut self) {}
    /// The next entry raises a #DB for the instruction before, unless an event is injected, which
    /// would make it forgotten.
    fn has_pending_debug(&self) -> bool {
        false
    }
    /// Delivers an event at the next entry. At most one between two entries; a fault has an error
    /// code only in protected mode.
    fn inject(&mut self, event: Event);
    /// Asks for [`Exit::InterruptWindow`] as soon as the guest can take an interrupt of priority
    /// class `priority` (vector / 16, or 16 for one that no task priority holds back), or withdraws
    /// the wish.
    fn set_interrupt_window(&mut self, priority: Option<u8>);
    /// Asks for an exit as soon as the guest can take an NMI. False if the processor has none for
    /// what holds it back: then the guest is to be stepped.
    fn set_nmi_window(&mut self) -> bool;

    /// The processor itself takes the interrupts that the register page of the local APIC requests,
    /// and ends them there (virtual-interrupt delivery, AVIC): none of them is injected, and no
    /// window is asked for them.
    fn delivers_interrupts(&self) -> bool {
        false
    }
    /// The shared code changed the vectors of the register page: those requested, in service, or
    /// level-triggered.
    fn note_vectors(&mut self) {}
    /// Besides those of level-triggered vectors, the ends of these are told by
    /// [`Exit::EndOfInterrupt`]. Asked only of a backend that delivers interrupts.
    fn await_ends(&mut self, _vectors: [Option<u8>; 2]) {}
    /// The guest reaches its local APIC in this way from now on. True if it must find the access
    /// page where the registers are ([`VcpuSetup::apic_access_hpa`]): the processor answers
    /// accesses to it out of the register page.
    fn set_apic_interface(&mut self, _interface: Interface) -> bool {
        false
    }

    /// Guest TSC minus host TSC.
    fn tsc_offset(&self) -> u64;
    /// Sets the difference, modulo 2^64.
    fn set_tsc_offset(&mut self, offset: u64);
    /// The guest's x87 and vector registers, and XCR0: live in the CPU.
    fn extended_state(&self) -> ExtendedState;
    /// Copies the guest's x87 and vector registers, and XCR0, out of the CPU, which need not hold
    /// them from now on.
    fn save_extended_state(&self, to: &mut SavedState) {
        self.extended_state().save(to);
    }
    /// Puts them into the CPU again.
    fn load_extended_state(&mut self, from: &SavedState) {
        self.extended_state().load(from);
    }
    /// Gives the guest's x87 and vector registers their values after power-on. To be followed by
    /// [`Backend::set_xcr0`].
    fn clear_extended_state(&mut self) {
        self.extended_state().clear();
    }
    /// Sets XCR0, which the shared code has checked against CPUID.
    fn set_xcr0(&mut self, xcr0: u64) {
        self.extended_state().set_xcr0(xcr0);
    }
    /// XCR0 as the guest has it, which not every CPU lets the hypervisor follow.
    fn xcr0(&self) -> u64 {
        self.extended_state().xcr0()
    }
    /// The x87 status word.
    fn x87_status(&self) -> u16 {
        self.extended_state().x87_status()
    }
    /// Sets the exceptions in the x87 status word, bits 6:0; its summary follows from them and the
    /// control word.
    fn set_x87_errors(&mut self, errors: u16) {
        self.extended_state().set_x87_errors(errors);
    }
    /// Reads the low 256 bits of vector register `index` of the guest's (0 to 15).
    fn vector_register(&self, index: u8) -> [u8; 32] {
        self.extended_state().vector_register(index)
    }
    /// Reads all of vector register `index` of the guest's (0 to 31).
    fn wide_register(&self, index: u8) -> [u8; 64] {
        self.extended_state().wide_register(index)
    }
    /// Reads the low 16 bits of mask register `index` of the guest's (0 to 7).
    fn mask_register(&self, index: u8) -> u16 {
        self.extended_state().mask_register(index)
    }
    /// Writes the low `bytes.len()` (16 or 32) bytes of a vector register.
    fn set_vector_register(&mut self, index: u8, bytes: &[u8]) {
        self.extended_state().set_vector_register(index, bytes);
    }

    /// The guest issues a barrier on the CPU that it runs on.
    fn issue_barrier(&mut self, _barrier: Barrier) {}

    /// The second-level page tables changed: entries that the CPU has cached must go before the
    /// next entry.
    fn flush_nested(&mut self);
    /// Hands over the guest-physical addresses of the tracked pages that the processor has logged
    /// as written ([`WriteTracking::Log`]), in no order, and empties the log.
    fn take_written_pages(&mut self, _written: impl FnMut(u64)) {}
    /// Prints the whole VMCB or VMCS, raw exit code first.
    ///
    /// # Errors
    /// Those of the formatter.
    fn dump(&self, f: &mut dyn fmt::Write) -> fmt::Result;
}
