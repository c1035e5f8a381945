//! One bank of error-reporting registers (Intel SDM volume 3, 16.3.2; AMD APM volume 2, 9.3).

use super::error_code::ErrorCode;
use super::{Capabilities, Maker, Register, Registers};
use bitfield_struct::bitfield;
use core::fmt;

/// MCi_STATUS.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct BankStatus {
    /// The kind of error, which both vendors number alike.
    pub error_code: u16,
    /// More about it, by model.
    pub model_code: u16,
    #[bits(6)]
    _other: u8,
    /// Intel, where [`Capabilities::counts_corrected`]: how many errors were corrected.
    #[bits(15)]
    pub corrected_count: u16,
    #[bits(2)]
    _threshold: u8,
    /// Intel, where [`Capabilities::recovers`]: software has to act before it goes on (AR).
    pub action_required: bool,
    /// Likewise: a #MC tells of it (S).
    pub is_signalled: bool,
    /// The processor's state may be wrong (PCC).
    pub context_corrupt: bool,
    /// MCi_ADDR belongs to it.
    pub address_valid: bool,
    /// MCi_MISC belongs to it.
    pub misc_valid: bool,
    /// It was to be told of.
    pub enabled: bool,
    /// The hardware has not corrected it.
    pub uncorrected: bool,
    /// There were others before.
    pub overflow: bool,
    /// The bank holds an error.
    pub valid: bool,
}

impl BankStatus {
    /// AMD: wrong data is marked as such, and nothing has used it yet. Bit 44.
    const DEFERRED: u64 = 1 << 44;
}

/// The consequence of an error, from the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// None.
    Corrected,
    /// None yet: the data is lost, and nothing has used it.
    Contained,
    /// The instruction that met it cannot be carried out.
    Consumed,
    /// Nothing can be relied on.
    Fatal,
}

/// A bank that holds an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bank {
    /// Its number.
    pub number: u8,
    /// MCi_STATUS.
    pub status: BankStatus,
    /// MCi_ADDR.
    pub address: Option<u64>,
    /// MCi_MISC.
    pub misc: Option<u64>,
    capabilities: Capabilities,
    maker: Maker,
}

/// MCi_MISC of an error that software can recover from (SDM volume 3, 16.3.2.4): how many low bits
/// of the address do not count, and what kind of address it is.
#[bitfield(u64)]
struct AddressMisc {
    #[bits(6)]
    ignored_bits: u32,
    #[bits(3)]
    kind: u8,
    #[bits(55)]
    _rest: u64,
}

const PHYSICAL: u8 = 2;

impl Bank {
    /// The error that a bank holds, if it holds one.
    pub(super) fn read(
        registers: &dyn Registers,
        capabilities: Capabilities,
        number: u8,
    ) -> Option<Self> {
        let status = BankStatus::from(registers.read(Register::BankStatus(number)));
        status.valid().then(|| Self {
            number,
            status,
            address: status.address_valid().then(|| registers.read(Register::BankAddress(number))),
            misc: status.misc_valid().then(|| registers.read(Register::BankMisc(number))),
            capabilities,
            maker: registers.maker(),
        })
    }

    /// The consequence, as SDM volume 3, 16.6 and table 16-8, and APM volume 2, 9.3.2.1, have it.
    pub fn severity(&self) -> Severity {
        let status = self.status;
        let is_deferred = self.is_amd() && u64::from(status) & BankStatus::DEFERRED != 0;
        if status.context_corrupt() {
            Severity::Fatal
        } else if is_deferred || status.uncorrected() && !status.enabled() {
            Severity::Contained
        } else if !status.uncorrected() {
            Severity::Corrected
        } else if self.tells_what_to_do() && !status.action_required() {
            Severity::Contained
        } else if status.overflow()
            || self.tells_what_to_do() && !status.is_signalled()
            || self.maker == (Maker::Amd { contains: false })
        {
            // The other errors may have been anything; what must be acted on must be signalled; and
            // what is not contained may be anywhere.
            Severity::Fatal
        } else {
            Severity::Consumed
        }
    }

    const fn is_amd(&self) -> bool {
        matches!(self.maker, Maker::Amd { .. })
    }

    const fn tells_what_to_do(&self) -> bool {
        self.capabilities.recovers() && !self.is_amd()
    }

    /// The host-physical address that the error is about, if that is known.
    pub fn physical_address(&self) -> Option<u64> {
        let address = self.address?;
        if self.is_amd() {
            // Of other kinds of errors it may be an index into the bank's hardware.
            return ErrorCode(self.status.error_code()).is_of_cache().then_some(address);
        }
        let misc = AddressMisc::from(self.misc.filter(|_| self.capabilities.recovers())?);
        (misc.kind() == PHYSICAL).then_some(address & u64::MAX << misc.ignored_bits())
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status;
        let severity = match self.severity() {
            Severity::Corrected => "corrected",
            Severity::Contained => "uncorrected, not used yet",
            Severity::Consumed => "uncorrected, met by an instruction",
            Severity::Fatal => "uncorrected, the processor's state may be wrong",
        };
        write!(f, "bank {}: {}: {severity}", self.number, ErrorCode(status.error_code()))?;
        if self.capabilities.counts_corrected() && !self.is_amd() && status.corrected_count() > 1 {
            write!(f, ", {} times", status.corrected_count())?;
        }
        if status.overflow() {
            write!(f, ", others before it are lost")?;
        }
        write!(f, " (status {:#x}", u64::from(status))?;
        for (name, value) in [("address", self.address), ("misc", self.misc)] {
            if let Some(value) = value {
                write!(f, ", {name} {value:#x}")?;
            }
        }
        write!(f, ")")
    }
}
