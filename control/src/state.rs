//! A guest's state, as its answers tell it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::fmt;

/// Bytes of the longest instruction.
pub const MAX_INSTRUCTION_BYTES: usize = 15;

/// A guest's activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestState {
    /// It runs.
    Running,
    /// It could run, and waits for a CPU.
    Runnable,
    /// It has executed HLT.
    Halted,
    /// It stands before an x87 instruction, until an error has been seen to.
    Frozen,
    /// It waits for a start-up message.
    Waiting,
    /// It is held.
    Paused,
    /// It is between two lives.
    Restarting,
}

impl GuestState {
    /// In one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Halted => "halted",
            Self::Frozen => "frozen",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
        }
    }

    /// As the column `State` of `xl list` has it: running, blocked, paused, shut down, the reason
    /// (`r` for reboot), dying.
    pub const fn letters(self) -> &'static str {
        match self {
            Self::Running => "r-----",
            Self::Runnable => "------",
            Self::Halted | Self::Frozen | Self::Waiting => "-b----",
            Self::Paused => "--p---",
            Self::Restarting => "---sr-",
        }
    }
}

/// A guest's statistics so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestStats {
    /// Its activity.
    pub state: GuestState,
    /// All exits.
    pub total_exits: u64,
    /// Exits by reason.
    pub exits: Vec<(&'static str, u64)>,
    /// Guest time.
    pub guest_time_ns: u64,
    /// Time that CPUs spent on its virtual CPUs.
    pub cpu_time_ns: u64,
}

/// An instruction, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Selector of the code segment.
    pub cs: u16,
    /// Instruction pointer.
    pub rip: u64,
    /// Width of the code: 16, 32 or 64.
    pub bitness: u32,
    /// The instruction's bytes; those that can be read if it is not valid, or none.
    pub bytes: ArrayVec<u8, MAX_INSTRUCTION_BYTES>,
    /// The instruction in words.
    pub text: String,
}

impl Location {
    /// The bytes, in hexadecimal digits.
    pub fn hex_bytes(&self) -> String {
        self.bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.bitness as usize / 4;
        write!(f, "{:04x}:{:0digits$x}  {:20}  {}", self.cs, self.rip, self.hex_bytes(), self.text)
    }
}

/// Some steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Where the guest stood before each step that is done.
    pub done: Vec<Location>,
    /// Why there are fewer than were asked for.
    pub end: Option<&'static str>,
    /// The instruction that it stands before now.
    pub next: Location,
}

/// Registers by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers(pub Vec<(&'static str, u64)>);

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in self.0.chunks(4) {
            for (name, value) in row {
                write!(f, "{name:>7} {value:016x} ")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
