//! Defences against speculative execution: of the hypervisor against guests, and of guests against
//! each other (docs/security.md). Which of them a CPU uses is decided once, when virtualisation is
//! turned on for it; the backends carry them out.

mod decision;
mod guest;
mod means;
#[cfg(test)]
mod tests;
mod work;

pub use guest::GuestSpeculation;
pub use means::Means;
pub use work::Work;

use crate::host::owner::GuestId;
use core::cell::Cell;
use core::fmt;

/// IA32_SPEC_CTRL (Intel SDM volume 4, table 2-2; APM volume 2, 3.2.9).
pub const MSR_SPEC_CTRL: u32 = 0x48;
/// IA32_PRED_CMD.
pub const MSR_PRED_CMD: u32 = 0x49;
/// IA32_ARCH_CAPABILITIES.
pub const MSR_ARCH_CAPABILITIES: u32 = 0x10a;
/// IA32_FLUSH_CMD.
pub const MSR_FLUSH_CMD: u32 = 0x10b;

/// A command that a write-only register takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// Indirect branches that run after it do not follow what ran before (IBPB).
    BranchPredictors,
    /// The first-level data cache is emptied.
    L1Data,
}

impl Barrier {
    /// The value to write, the only one that guests may.
    pub const COMMAND: u64 = 1;

    /// The register.
    pub const fn msr(self) -> u32 {
        match self {
            Self::BranchPredictors => MSR_PRED_CMD,
            Self::L1Data => MSR_FLUSH_CMD,
        }
    }
}

/// Bits of IA32_SPEC_CTRL.
pub mod spec_ctrl {
    /// Indirect branches do not follow what less privileged code trained.
    pub const IBRS: u64 = 1 << 0;
    /// Nor what the other threads of the core trained.
    pub const STIBP: u64 = 1 << 1;
    /// Loads do not bypass stores.
    pub const SSBD: u64 = 1 << 2;
    /// Loads are not forwarded from predicted stores.
    pub const PSFD: u64 = 1 << 7;
    /// Branch history of less privileged code does not choose targets.
    pub const BHI_DIS_S: u64 = 1 << 10;
}

/// The entries of the return stack that are overwritten after an exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReturnStack {
    /// None: the processor keeps the guest's from being used.
    #[default]
    Kept,
    /// The last one, which a processor with enhanced IBRS may still take from the guest
    /// (post-barrier return stack buffer predictions).
    Last,
    /// All.
    All,
}

/// The defences of a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defences {
    /// IA32_SPEC_CTRL is used, by the hypervisor or by guests.
    pub has_control: bool,
    /// IA32_SPEC_CTRL while the hypervisor runs.
    pub host_control: u64,
    /// Its bits that stay set while a guest runs, whatever the guest wrote.
    pub kept_control: u64,
    /// The hypervisor's value is written after each exit even where the guest's is the same: IBRS
    /// that is not enhanced restricts what was trained before the write.
    pub renews_control: bool,
    /// EFER.AIBRSE is set: the processor restricts the hypervisor's branches by itself.
    pub automatic_ibrs: bool,
    /// A barrier when the CPU goes to another guest.
    pub guest_barrier: bool,
    /// A barrier after each exit.
    pub exit_barrier: bool,
    /// BP_CFG.BpSpecReduce is set.
    pub reduced_speculation: bool,
    /// The return stack after an exit.
    pub return_stack: ReturnStack,
    /// VERW before each entry.
    pub verw: bool,
    /// The first-level data cache is emptied before each entry.
    pub l1d_flush: bool,
    /// The general registers hold none of the guest's values behind the world switch.
    pub clears_registers: bool,
    /// LFENCE is to wait for all earlier instructions (DE_CFG bit 1).
    pub serializing_lfence: bool,
    /// The guests' own means.
    pub guest: GuestSpeculation,
}

impl Defences {
    /// IA32_SPEC_CTRL while a guest runs that wrote `guest`.
    pub const fn guest_control(&self, guest: u64) -> u64 {
        guest | self.kept_control
    }

    /// The register has to be written between the hypervisor and a guest that wrote `guest`.
    pub const fn switches_control(&self, guest: u64) -> bool {
        self.has_control && (self.renews_control || self.guest_control(guest) != self.host_control)
    }

    /// Entries and exits have work to do for the defences, or may have some when a guest uses its
    /// own.
    pub const fn is_guarded(&self) -> bool {
        self.has_control
            || self.clears_registers
            || self.exit_barrier
            || self.verw
            || self.l1d_flush
            || !matches!(self.return_stack, ReturnStack::Kept)
    }
}

/// The guest that a CPU ran last.
#[derive(Debug, Default)]
pub struct LastGuest(Cell<Option<GuestId>>);

impl LastGuest {
    /// The CPU runs this guest from now on; true if it has run another one, or none.
    pub fn turn_to(&self, guest: GuestId) -> bool {
        self.0.replace(Some(guest)) != Some(guest)
    }
}

impl fmt::Display for Defences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |bit| self.host_control & bit != 0;
        let names = [
            (host(spec_ctrl::IBRS), "IBRS"),
            (self.automatic_ibrs, "automatic IBRS"),
            (host(spec_ctrl::STIBP), "STIBP"),
            (host(spec_ctrl::SSBD), "SSBD"),
            (host(spec_ctrl::PSFD), "PSFD"),
            (host(spec_ctrl::BHI_DIS_S), "BHI_DIS_S"),
            (self.guest_barrier, "IBPB between guests"),
            (self.exit_barrier, "IBPB at exits"),
            (self.reduced_speculation, "BpSpecReduce"),
            (self.return_stack == ReturnStack::All, "return stack filled"),
            (self.return_stack == ReturnStack::Last, "last return filled"),
            (self.verw, "VERW"),
            (self.l1d_flush, "L1D flush"),
            (self.clears_registers, "registers cleared"),
            (self.serializing_lfence, "serialising LFENCE"),
        ];
        let mut used = names.iter().filter(|(used, _)| *used).map(|(_, name)| *name);
        f.write_str(used.next().unwrap_or("no defences"))?;
        used.try_for_each(|name| write!(f, ", {name}"))?;
        write!(f, "; guests: {}", self.guest)
    }
}
