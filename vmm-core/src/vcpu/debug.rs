//! A debugger's view of a virtual CPU: how a step ended, and the instruction that it stands before.

use control::state::{Location, MAX_INSTRUCTION_BYTES};
use emulator::instruction;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// The instruction is done, or the guest stands at the first one of a handler.
    Done,
    /// The virtual CPU is halted, and nothing came to wake it.
    Halted,
    /// Neither is anything done after many entries.
    Stuck,
    /// The guest is not paused, or it has ended.
    Refused,
    /// The processor has nothing to make steps with.
    Impossible,
}

impl StepEnd {
    /// In a word, for a step that is not done.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Done => None,
            Self::Halted => Some("halted"),
            Self::Stuck => Some("stuck"),
            Self::Refused => Some("not paused"),
            Self::Impossible => Some("this processor cannot"),
        }
    }
}

/// The instruction at the start of `bytes`, which may be more.
pub fn location(cs: u16, rip: u64, bitness: u32, bytes: &[u8]) -> Location {
    let (length, text) = match instruction::disassemble(bytes, bitness, rip) {
        Some(decoded) => decoded,
        None if bytes.is_empty() => (0, "(not readable)".into()),
        None => (bytes.len(), "(bad)".into()),
    };
    let bytes = bytes.iter().copied().take(length.min(MAX_INSTRUCTION_BYTES)).collect();
    Location { cs, rip, bitness, bytes, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn locations_in_words() {
        let line = |bitness, bytes: &[u8]| location(8, 0x1_2340, bitness, bytes).to_string();
        assert_eq!(line(32, &[0x0f, 0xa2, 0x90]), "0008:00012340  0fa2                  cpuid");
        assert_eq!(line(64, &[0x0f]), "0008:0000000000012340  0f                    (bad)");
        assert_eq!(line(32, &[]), "0008:00012340                        (not readable)");
    }
}
