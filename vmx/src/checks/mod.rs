//! The rules that an entry must keep (SDM volume 3, chapter 27), checked by ourselves: the
//! processor only says that some rule does not hold.
//!
//! Left out are the rules of features that are never switched on: posted interrupts, VMCS
//! shadowing, stores of MSRs, SMM, enclaves, CET, PKS and FRED.

mod controls;
mod guest;
mod host;
mod segments;
#[cfg(test)]
mod tests;

use crate::capabilities::Capabilities;
use crate::control_bits::{EntryControls, PrimaryControls, SecondaryControls};
use crate::field::Field;
use crate::spec::Interruption;
use crate::vmcs::Fields;
use alloc::vec::Vec;
use core::fmt;
use emulator::paging;
use emulator::registers::{Cr0, Cr4, Efer, Rflags};

/// EFER: SCE, LME, LMA, NXE.
const EFER_KNOWN: u64 = 0xd01;

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule, with the manual's section.
    pub rule: &'static str,
    /// The fields that the rule reads, and their values.
    pub fields: Vec<(Field, u64)>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.rule)?;
        for (field, value) in &self.fields {
            write!(f, " {field:?} {value:#x}")?;
        }
        Ok(())
    }
}

/// All rules that do not hold. `virtual_tpr` is the task priority in the virtual-APIC page.
pub fn check(
    fields: &impl Fields,
    capabilities: &Capabilities,
    physical_address_bits: u8,
    virtual_tpr: u8,
) -> Vec<Violation> {
    let mut checker = Checker {
        fields,
        capabilities,
        physical_address_bits,
        virtual_tpr,
        violations: Vec::new(),
    };
    controls::check(&mut checker);
    host::check(&mut checker);
    guest::check(&mut checker);
    segments::check(&mut checker);
    checker.violations
}

struct Checker<'a, F> {
    fields: &'a F,
    capabilities: &'a Capabilities,
    physical_address_bits: u8,
    virtual_tpr: u8,
    violations: Vec<Violation>,
}

impl<F: Fields> Checker<'_, F> {
    fn get(&self, field: Field) -> u64 {
        self.fields.get(field)
    }

    /// Notes a rule and the fields it reads, unless it holds.
    fn rule(&mut self, holds: bool, rule: &'static str, fields: &[Field]) {
        if !holds {
            let fields = fields.iter().map(|&field| (field, self.get(field))).collect();
            self.violations.push(Violation { rule, fields });
        }
    }

    fn entry(&self) -> EntryControls {
        EntryControls::from_bits_retain(self.get(Field::EntryControls) as u32)
    }

    fn primary(&self) -> PrimaryControls {
        PrimaryControls::from_bits_retain(self.get(Field::PrimaryControls) as u32)
    }

    fn secondary(&self) -> SecondaryControls {
        SecondaryControls::from_bits_retain(self.get(Field::SecondaryControls) as u32)
    }

    fn unrestricted(&self) -> bool {
        self.secondary().contains(SecondaryControls::UNRESTRICTED_GUEST)
    }

    fn to_long_mode(&self) -> bool {
        self.entry().contains(EntryControls::GUEST_64_BIT)
    }

    fn cr0(&self) -> Cr0 {
        self.get(Field::GuestCr0).into()
    }

    fn cr4(&self) -> Cr4 {
        self.get(Field::GuestCr4).into()
    }

    fn efer(&self) -> Efer {
        self.get(Field::GuestEfer).into()
    }

    fn rflags(&self) -> Rflags {
        self.get(Field::GuestRflags).into()
    }

    fn injection(&self) -> Interruption {
        Interruption::from(self.get(Field::EntryInterruption) as u32)
    }

    fn is_physical(&self, address: u64) -> bool {
        address >> self.physical_address_bits == 0
    }
}

/// With four levels of page tables, which is all that guests get.
const fn is_canonical(address: u64) -> bool {
    paging::is_canonical(address, false)
}
