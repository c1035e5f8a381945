//! Why a guest stopped running: the form that both backends decode their exits into.

use core::fmt;
use emulator::MemoryAccess;
use emulator::registers::Exception;
use emulator::task_switch::{Source, TaskSwitch};

/// Exceptions that exit, a bit each. #DB and #AC, because their delivery can raise them again: a
/// guest with a breakpoint on its own stack, or with a misaligned one, would keep the CPU in an
/// endless delivery that no interrupt ends. #MC, because it is the host's. #MF, because VT-x raises
/// it also where a guest with CR0.NE clear is to get an interrupt.
pub const INTERCEPTED_EXCEPTIONS: u32 = 1 << Exception::Debug as u8
    | 1 << Exception::X87 as u8
    | 1 << Exception::AlignmentCheck as u8
    | 1 << Exception::MachineCheck as u8;

/// The direction of a port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// IN, INS.
    In,
    /// OUT, OUTS.
    Out,
}

/// A port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// 1, 2 or 4.
    pub size_bytes: u8,
    /// IN or OUT.
    pub direction: Direction,
    /// INS or OUTS.
    pub string: bool,
}

/// The registers that say where descriptors are (SDM volume 3, 2.4; APM volume 2, 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DescriptorRegister {
    Gdtr,
    Idtr,
    Ldtr,
    Tr,
}

/// The direction in which an instruction moves one of them: LGDT, SGDT, LIDT, SIDT, LLDT, SLDT, LTR
/// and STR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorAccess {
    /// Which one.
    pub register: DescriptorRegister,
    /// It is loaded, not stored.
    pub load: bool,
}

impl fmt::Display for DescriptorAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let register = match self.register {
            DescriptorRegister::Gdtr => "GDTR",
            DescriptorRegister::Idtr => "IDTR",
            DescriptorRegister::Ldtr => "LDTR",
            DescriptorRegister::Tr => "TR",
        };
        write!(f, "a {} of {register}", if self.load { "load" } else { "store" })
    }
}

/// A decoded exit. The raw code stays with the backend (`Backend::dump`).
///
/// Its kind is a byte of its own: one that had to be computed from what a variant holds would keep
/// the compiler from leading each case of a decoder straight to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A port access.
    Port(PortAccess),
    /// A memory access that the second-level tables refused.
    Memory(MemoryAccess),
    /// The second-level tables have an entry that the processor does not take, on the way to this
    /// guest-physical address: a fault of the hypervisor's.
    TableMisconfigured {
        /// The address.
        gpa: u64,
    },
    /// CPUID.
    Cpuid,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// HLT.
    Halt,
    /// VMMCALL or VMCALL.
    Hypercall,
    /// XSETBV.
    Xsetbv,
    /// INVD or WBINVD.
    CacheInvalidate,
    /// An instruction that the guest's CPU does not have: to be answered with #UD.
    Undefined,
    /// An instruction that the guest's CPU has and does not allow: to be answered with #GP(0).
    Forbidden,
    /// An access to a control register that the backend has dealt with: the guest goes on.
    ControlRegister,
    /// MOV to CR0, or LMSW, which is left to be done: `Backend::let_cr0_be_written`.
    WriteCr0,
    /// MOV to CR4, which is left to be done.
    WriteCr4,
    /// MOV from CR4, in which the guest sees a bit that is not so: left to be done.
    ReadCr4,
    /// MOV to CR8, which the guest is not to do unseen while an interrupt waits: left to be done.
    WriteCr8,
    /// MOV to or from CR8, which the backend has carried out but for moving on behind it.
    AccessedCr8,
    /// The processor has written the register at this byte of the local APIC's register page, and
    /// the instruction is done: what follows from the write is left to do.
    ApicWrite {
        /// Offset in the page.
        offset: u16,
    },
    /// The processor has ended a level-triggered interrupt in the register page: its source has to
    /// be told.
    EndOfInterrupt {
        /// Its vector.
        vector: u8,
    },
    /// An access to a register of descriptors, which is left to be done
    /// (`Backend::set_descriptor_exits`).
    Descriptor(DescriptorAccess),
    /// A hardware task switch that the processor left to the hypervisor.
    TaskSwitch(TaskSwitch),
    /// The same from a processor that leaves the address where the old task goes on to be found
    /// out, and reports the event that switches as an interrupted one.
    TaskSwitchAhead {
        /// Of the new task's TSS.
        selector: u16,
        /// The transfer of control that switches.
        source: Source,
    },
    /// The guest can now take an interrupt.
    InterruptWindow,
    /// The guest has left its NMI handler.
    NmiWindow,
    /// A physical interrupt arrived.
    ExternalInterrupt,
    /// The guest spins with PAUSE, which is left to be run again: it waits for something that it
    /// does not do itself.
    Pause,
    /// A physical NMI arrived.
    HostNmi,
    /// An intercepted exception.
    Exception(Exception),
    /// An exception that exits only in a step, with its error code: the guest is to take it. CR2 is
    /// set already.
    Fault {
        /// Its vector.
        exception: Exception,
        /// Its error code, if it has one.
        error_code: Option<u32>,
    },
    /// PUSHF, which in a step is left to be done.
    PushFlags,
    /// A step is done: see `Backend::begin_step`.
    Stepped,
    /// The guest's CPU shut down: triple fault.
    TripleFault,
    /// The backend refused to enter the guest: its state is invalid.
    EntryFailure,
    /// The processor's log of written pages is full (`Backend::take_written_pages`).
    WriteLogFull,
    /// Anything else: the vendor's raw code.
    Unknown(u64),
}
