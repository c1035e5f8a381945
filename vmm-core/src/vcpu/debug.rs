//! The wishes of a debugger: a guest is to stand still, to run one instruction, to show where it
//! is. The prompt and the management port ask; a stub for gdb would ask the same.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use emulator::instruction::{self, InstructionBytes};

/// A virtual CPU, between two of its exits.
pub trait DebugTarget {
    /// Holds the guest before its next instruction. Its time stands still too.
    fn pause(&mut self);
    /// Lets it go on.
    fn resume(&mut self);
    /// It is held.
    fn is_paused(&self) -> bool;
    /// Runs one instruction of a guest that is paused, or delivers one event to it. An instruction
    /// that the hypervisor carries out counts as one; of a repeated one, that may be a part.
    fn step(&mut self) -> StepEnd;
    /// Loads and stores of GDTR, IDTR, LDTR and TR pause the guest from now on, before they are
    /// done, or no longer. A step is not stopped by them. False if the processor cannot.
    fn catch_tables(&mut self, on: bool) -> bool;
    /// The instruction that it stands before.
    fn location(&self) -> Location;
    /// Its registers, by name.
    fn registers(&self) -> Registers;
    /// Sets a register of a guest that is paused: a general one, RIP, RFLAGS, CR0, CR2, CR3, CR4,
    /// DR6 or DR7. The value is taken as it is: the processor may refuse to run the guest with
    /// it. False if there is no such register.
    fn set_register(&mut self, name: &str, value: u64) -> bool;
}

/// A value in hexadecimal digits, with `0x` before them or not.
pub fn parse_value(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

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

/// Steps that were asked for at once, at the most.
pub const MAX_STEPS: u32 = 1000;

/// Some steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Where the guest stood before each step that is done.
    pub done: Vec<Location>,
    /// Why there are fewer than were asked for.
    pub end: Option<&'static str>,
}

/// Makes up to `count` steps, at most [`MAX_STEPS`].
pub fn steps(target: &mut dyn DebugTarget, count: u32) -> Steps {
    let mut steps = Steps::default();
    for _ in 0..count.min(MAX_STEPS) {
        let location = target.location();
        steps.end = target.step().reason();
        if steps.end.is_some() {
            break;
        }
        steps.done.push(location);
    }
    steps
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
    pub bytes: InstructionBytes,
    /// The instruction in words.
    pub text: String,
}

impl Location {
    /// The instruction at the start of `bytes`, which may be more.
    pub fn new(cs: u16, rip: u64, bitness: u32, bytes: &[u8]) -> Self {
        let (length, text) = match instruction::disassemble(bytes, bitness, rip) {
            Some(decoded) => decoded,
            None if bytes.is_empty() => (0, "(not readable)".into()),
            None => (bytes.len(), "(bad)".into()),
        };
        Self { cs, rip, bitness, bytes: bytes.iter().copied().take(length).collect(), text }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn locations_in_words() {
        let line = |bitness, bytes: &[u8]| Location::new(8, 0x1_2340, bitness, bytes).to_string();
        assert_eq!(line(32, &[0x0f, 0xa2, 0x90]), "0008:00012340  0fa2                  cpuid");
        assert_eq!(line(64, &[0x0f]), "0008:0000000000012340  0f                    (bad)");
        assert_eq!(line(32, &[]), "0008:00012340                        (not readable)");
    }
}
