//! How often a virtual CPU exited, and why.

macro_rules! counters {
    ($($name:ident $text:literal,)*) => {
        /// The kinds by which exits are counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum ExitKind { $($name,)* }

        const NAMES: &[&str] = &[$($text,)*];
    };
}

counters! {
    PortIn "port in",
    PortOut "port out",
    PortString "port string",
    Mmio "mmio",
    ApicWrite "apic write",
    EndOfInterrupt "end of interrupt",
    MemoryMap "memory map",
    WriteLog "write log full",
    Cpuid "cpuid",
    ReadMsr "rdmsr",
    WriteMsr "wrmsr",
    Halt "hlt",
    Hypercall "hypercall",
    Xsetbv "xsetbv",
    Cache "cache",
    Undefined "undefined",
    ControlRegister "control register",
    TaskSwitch "task switch",
    InterruptWindow "interrupt window",
    NmiWindow "nmi window",
    HostInterrupt "host interrupt",
    Pause "pause",
    Descriptor "descriptor table",
    HostNmi "host nmi",
    MachineCheck "machine check",
    Step "step",
    PushFlags "pushf",
    Exception "exception",
    Fatal "fatal",
}

/// One count for each [`ExitKind`].
#[derive(Clone, Debug)]
pub struct ExitCounters([u64; NAMES.len()]);

impl ExitCounters {
    /// All zero.
    pub const fn new() -> Self {
        Self([0; NAMES.len()])
    }

    /// Counts one exit.
    #[inline]
    pub fn count(&mut self, kind: ExitKind) {
        self.0[kind as usize] += 1;
    }

    /// Names and counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.iter().copied().zip(self.0)
    }

    /// All exits.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Default for ExitCounters {
    fn default() -> Self {
        Self::new()
    }
}
