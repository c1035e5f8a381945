//! A guest's time as consoles see and change it: shares, CPUs, states.

use crate::state::GuestState;
use alloc::vec::Vec;

/// A guest's share of the machine: xl's `cpu_weight` and `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// 1 to 65535.
    pub weight: u32,
    /// In percent of one CPU; 0: no limit.
    pub cap_percent: u32,
}

/// A virtual CPU's state, as `xl vcpu-list` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuState {
    /// On a CPU.
    Running,
    /// It could run, and waits for a CPU, or is held.
    Runnable,
    /// It has nothing to run.
    Blocked,
    /// It is not there: not plugged in.
    Offline,
}

impl VcpuState {
    /// In one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Blocked => "blocked",
            Self::Offline => "offline",
        }
    }

    /// As the column `State` of `xl vcpu-list` has it.
    pub const fn letters(self) -> &'static str {
        match self {
            Self::Running => "r--",
            Self::Runnable => "---",
            Self::Blocked => "-b-",
            Self::Offline => "--p",
        }
    }
}

/// A virtual CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuFacts {
    /// Its state.
    pub state: VcpuState,
    /// The CPU that it is on, or was last.
    pub cpu: usize,
    /// Time that CPUs spent on it.
    pub time_ns: u64,
    /// The machine's CPUs that it may run on.
    pub hard: Vec<usize>,
    /// Those that it had better.
    pub soft: Vec<usize>,
}

/// A guest that runs, for the consoles. Nothing here waits for the guest.
pub trait Scheduling: Send + Sync {
    /// The machine's CPUs.
    fn cpus(&self) -> usize;

    /// Guest time.
    fn guest_time_ns(&self) -> u64;

    /// The guest is held.
    fn is_paused(&self) -> bool;

    /// Its virtual CPUs, by their numbers; those that are not there too.
    fn vcpus(&self) -> Vec<VcpuFacts>;

    /// Says where virtual CPU `vcpu` may run from now on, and where it had better; what is not
    /// given stays. `vcpu` is one that [`Self::vcpus`] has, `hard` has one of [`Self::cpus`].
    fn pin(&self, vcpu: usize, hard: Option<&[usize]>, soft: Option<&[usize]>);

    /// The guest's share.
    fn share(&self) -> Share;

    /// Changes it.
    fn set_share(&self, share: Share);
}

/// The state of a whole guest with these virtual CPUs, as `xl list` shows it.
pub fn guest_state(is_paused: bool, vcpus: &[VcpuFacts]) -> GuestState {
    let has = |state| vcpus.iter().any(|vcpu| vcpu.state == state);
    match () {
        () if is_paused => GuestState::Paused,
        () if has(VcpuState::Running) => GuestState::Running,
        () if has(VcpuState::Runnable) => GuestState::Runnable,
        () => GuestState::Halted,
    }
}
