//! Machine checks of the machine underneath (Intel SDM volume 3, chapter 16; AMD APM volume 2,
//! chapter 9).
//!
//! Errors that the hardware finds stand in banks of registers until they are read and cleared.
//! Those that were corrected are found by looking from time to time
//! ([`crate::host::machine_check_watch`]); of others a #MC tells, in a guest or in the hypervisor,
//! and [`verdict`] says whether all goes on.

mod bank;
mod error_code;
#[cfg(test)]
pub(crate) mod tests;

pub use bank::{Bank, BankStatus, Severity};

use bitfield_struct::bitfield;

/// A register of a CPU's machine-check architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// MCG_CAP.
    Capabilities,
    /// MCG_STATUS.
    Status,
    /// MCG_CTL, where [`Capabilities::has_control`] says so.
    Control,
    /// MCi_CTL of a bank that [`Capabilities::banks`] counts.
    BankControl(u8),
    /// MCi_STATUS.
    BankStatus(u8),
    /// MCi_ADDR, which exists at least while MCi_STATUS says that it is valid.
    BankAddress(u8),
    /// MCi_MISC, likewise.
    BankMisc(u8),
}

impl Register {
    /// The number of the model-specific register.
    pub const fn msr(self) -> u32 {
        const FIRST_BANK: u32 = 0x400;
        match self {
            Self::Capabilities => 0x179,
            Self::Status => 0x17a,
            Self::Control => 0x17b,
            Self::BankControl(bank) => FIRST_BANK + 4 * bank as u32,
            Self::BankStatus(bank) => FIRST_BANK + 4 * bank as u32 + 1,
            Self::BankAddress(bank) => FIRST_BANK + 4 * bank as u32 + 2,
            Self::BankMisc(bank) => FIRST_BANK + 4 * bank as u32 + 3,
        }
    }
}

/// The machine-check registers of the CPU that this is called on, which has them.
pub trait Registers {
    /// Reads one that exists.
    fn read(&self, register: Register) -> u64;
    /// Writes one that exists.
    fn write(&self, register: Register, value: u64);
    /// Whose CPU it is.
    fn maker(&self) -> Maker;
}

/// The maker of a CPU, as far as errors are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Intel, and all who follow it.
    Intel {
        /// The first bank's control register is the firmware's alone: family 6 before model 1Ah.
        keeps_first_control: bool,
    },
    /// AMD, and Hygon.
    Amd {
        /// An error that is not corrected stays where it is until software sees to it (SUCCOR,
        /// CPUID 8000_0007h EBX bit 1).
        contains: bool,
    },
}

/// MCG_CAP (SDM volume 3, 16.3.1.1).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Capabilities {
    /// Banks, at the most 32 of which have registers at the numbers that all processors use.
    pub bank_count: u8,
    /// There is MCG_CTL.
    pub has_control: bool,
    _extended: bool,
    /// Corrected errors are counted, and may interrupt.
    pub counts_corrected: bool,
    #[bits(13)]
    _other: u16,
    /// Errors tell what is to be done about them (S and AR in MCi_STATUS).
    pub recovers: bool,
    #[bits(39)]
    _rest: u64,
}

impl Capabilities {
    /// The numbers of the banks. Those beyond 1Fh would have registers of other purposes.
    pub fn banks(self) -> impl Iterator<Item = u8> {
        0..self.bank_count().min(32)
    }
}

/// MCG_STATUS (SDM volume 3, 16.3.1.2).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct GlobalStatus {
    /// The interrupted code can go on where it was.
    pub can_restart: bool,
    /// The error has to do with the instruction that was interrupted.
    pub is_of_instruction: bool,
    /// A machine check is being dealt with: another one would shut the processor down.
    pub in_progress: bool,
    #[bits(61)]
    _rest: u64,
}

/// The code that a #MC interrupted.
#[derive(Clone, Copy)]
pub enum Interrupted<'a> {
    /// The hypervisor's.
    Hypervisor,
    /// A guest's, whose memory is at the host-physical addresses that the function knows.
    Guest(&'a dyn Fn(u64) -> bool),
}

/// The consequence of a #MC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is lost that anybody has used: all goes on.
    GoesOn,
    /// The guest that ran cannot go on, all else can.
    GuestIsLost,
    /// The machine cannot be relied on any more.
    MachineIsLost,
}

fn capabilities(registers: &dyn Registers) -> Capabilities {
    registers.read(Register::Capabilities).into()
}

/// The banks that hold an error.
pub fn errors(registers: &dyn Registers) -> impl Iterator<Item = Bank> {
    let capabilities = capabilities(registers);
    capabilities.banks().filter_map(move |number| Bank::read(registers, capabilities, number))
}

/// Judges a #MC by what the registers hold, and leaves them as they are.
pub fn verdict(registers: &dyn Registers, interrupted: Interrupted<'_>) -> Verdict {
    let status = GlobalStatus::from(registers.read(Register::Status));
    // Where neither is known, the error is not the interrupted code's, and that cannot go on
    // either.
    let is_lost = !status.can_restart() && !status.is_of_instruction();
    let of_status = match interrupted {
        _ if status.can_restart() => Verdict::GoesOn,
        Interrupted::Guest(_) if !is_lost => Verdict::GuestIsLost,
        _ => Verdict::MachineIsLost,
    };
    errors(registers).map(|bank| bank_verdict(&bank, interrupted)).fold(of_status, worse)
}

fn bank_verdict(bank: &Bank, interrupted: Interrupted<'_>) -> Verdict {
    match (bank.severity(), interrupted) {
        (Severity::Corrected | Severity::Contained, _) => Verdict::GoesOn,
        (Severity::Fatal, _) | (Severity::Consumed, Interrupted::Hypervisor) => {
            Verdict::MachineIsLost
        }
        (Severity::Consumed, Interrupted::Guest(is_its_memory)) => match bank.physical_address() {
            Some(address) if !is_its_memory(address) => Verdict::MachineIsLost,
            // Without an address, it was an instruction of the guest's that met it.
            _ => Verdict::GuestIsLost,
        },
    }
}

const fn worse(one: Verdict, other: Verdict) -> Verdict {
    match (one, other) {
        (Verdict::MachineIsLost, _) | (_, Verdict::MachineIsLost) => Verdict::MachineIsLost,
        (Verdict::GuestIsLost, _) | (_, Verdict::GuestIsLost) => Verdict::GuestIsLost,
        _ => Verdict::GoesOn,
    }
}

/// The #MC has been dealt with: another one may come.
pub fn finish(registers: &dyn Registers) {
    registers.write(Register::Status, 0);
}

/// Logs the errors that are in the banks of this CPU, whose number is `cpu`, and empties these:
/// another #MC may come.
pub fn log_and_clear(registers: &dyn Registers, cpu: usize) {
    for bank in errors(registers) {
        if bank.severity() <= Severity::Corrected {
            log::warn!("machine check: CPU {cpu}, {bank}");
        } else {
            log::error!("machine check: CPU {cpu}, {bank}");
        }
        registers.write(Register::BankStatus(bank.number), 0);
    }
    finish(registers);
}

/// Makes this CPU tell of all errors (SDM volume 3, 16.8). Those that the banks hold are from
/// before a reset.
pub fn enable(registers: &dyn Registers, cpu: usize) {
    let capabilities = capabilities(registers);
    if errors(registers).next().is_some() {
        log::warn!("machine check: CPU {cpu}: the banks hold errors from before the start");
        log_and_clear(registers, cpu);
    }
    if capabilities.has_control() {
        registers.write(Register::Control, u64::MAX);
    }
    for bank in capabilities.banks() {
        let is_firmwares =
            bank == 0 && registers.maker() == Maker::Intel { keeps_first_control: true };
        if !is_firmwares {
            registers.write(Register::BankControl(bank), u64::MAX);
        }
        // Power-on leaves some undefined.
        registers.write(Register::BankStatus(bank), 0);
    }
}
