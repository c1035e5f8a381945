//! The kinds of errors (Intel SDM volume 3, 16.9; AMD APM volume 2, 9.3.2.2), in words.

use core::fmt;

/// The low half of MCi_STATUS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode(pub u16);

const LEVELS: [&str; 4] = ["level 0", "level 1", "level 2", "any level"];
const REQUESTS: [&str; 9] = [
    "use",
    "read",
    "write",
    "data read",
    "data write",
    "instruction fetch",
    "prefetch",
    "eviction",
    "snoop",
];
const MEMORY_REQUESTS: [&str; 5] = ["use", "read", "write", "command", "scrubbing"];
/// A channel that is not known.
const ANY_CHANNEL: u16 = 0xf;

impl ErrorCode {
    /// Corrections of this kind of error are told of in part only (F), which says nothing about the
    /// kind.
    const FILTERING: u16 = 1 << 12;

    const fn kind(self) -> u16 {
        self.0 & !Self::FILTERING
    }

    /// An error of the caches and the memory behind them.
    pub const fn is_of_cache(self) -> bool {
        self.kind() & 0xff00 == 0x0100
    }

    const fn level(self) -> &'static str {
        LEVELS[(self.0 & 3) as usize]
    }

    const fn transaction(self) -> &'static str {
        match self.0 >> 2 & 3 {
            0 => "instruction ",
            1 => "data ",
            _ => "",
        }
    }

    fn request(self) -> &'static str {
        REQUESTS.get(usize::from(self.0 >> 4 & 0xf)).copied().unwrap_or(REQUESTS[0])
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.kind();
        match code {
            0 => write!(f, "no kind of error is named"),
            1 => write!(f, "error of a kind that has no name"),
            2 => write!(f, "parity error in the microcode"),
            3 => write!(f, "error that another processor tells of"),
            4 => write!(f, "functional redundancy check error"),
            5 => write!(f, "internal parity error"),
            6 => write!(f, "system management code outside its memory"),
            0xc..=0xf => write!(f, "error in a cache, {}", self.level()),
            0x10..=0x1f => write!(f, "error in the {}TLB, {}", self.transaction(), self.level()),
            0x80..=0xff | 0x280..=0x2ff => {
                let request =
                    MEMORY_REQUESTS.get(usize::from(code >> 4 & 7)).unwrap_or(&MEMORY_REQUESTS[0]);
                write!(f, "memory error, {request}")?;
                match code & ANY_CHANNEL {
                    ANY_CHANNEL => Ok(()),
                    channel => write!(f, ", channel {channel}"),
                }
            }
            0x100..=0x1ff => {
                let (transaction, level) = (self.transaction(), self.level());
                write!(f, "error in the {transaction}cache, {level}, {}", self.request())
            }
            0x400 => write!(f, "internal timer ran out"),
            0x401..=0x7ff => write!(f, "internal error {code:#x}"),
            0x800..=0xfff if code & 0x100 != 0 => {
                write!(f, "the bus did not answer in time, {}", self.request())
            }
            0x800..=0xfff => write!(f, "bus error, {}", self.request()),
            _ => write!(f, "error {code:#x}"),
        }
    }
}
