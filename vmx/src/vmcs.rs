//! A VMCS and what is known of its fields without asking the processor.

use crate::field::Field;
use crate::instructions::{self, VmFail};
use crate::spec::instruction_error;
use alloc::sync::Arc;
use core::cell::Cell;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use vmm_core::backend::Unsupported;
use vmm_core::host::owner::Owner;
use vmm_core::host::platform::{Frame, FrameSize, Platform};

/// A source of field values: a VMCS, or a table in tests.
pub trait Fields {
    /// The field's value.
    fn get(&self, field: Field) -> u64;
}

impl<F: Fn(Field) -> u64> Fields for F {
    fn get(&self, field: Field) -> u64 {
        self(field)
    }
}

/// The VMCS that is current on a physical CPU: its host-physical address, or [`NONE`].
pub type Current = Arc<AtomicU64>;

/// No VMCS is current.
pub const NONE: u64 = u64::MAX;

/// A VMX instruction that failed. The guest must not run after it: what it was to change is as it
/// was.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    instruction: Instruction,
    why: &'static str,
}

/// The operation that failed.
#[derive(Clone, Copy, Debug)]
pub enum Instruction {
    Vmptrld,
    Vmclear,
    /// Of a value to a field.
    Vmwrite(Field, u64),
    Invept,
    Invvpid,
    /// VMLAUNCH or VMRESUME.
    Entry,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instruction {
            Instruction::Vmptrld => write!(f, "VMPTRLD")?,
            Instruction::Vmclear => write!(f, "VMCLEAR")?,
            Instruction::Vmwrite(field, value) => write!(f, "VMWRITE of {value:#x} to {field:?}")?,
            Instruction::Invept => write!(f, "INVEPT")?,
            Instruction::Invvpid => write!(f, "INVVPID")?,
            Instruction::Entry => write!(f, "VMLAUNCH or VMRESUME")?,
        }
        write!(f, ": {}", self.why)
    }
}

/// A bit for each field, in words that an instruction can take as an immediate operand.
type FieldSet = [u32; Field::COUNT.div_ceil(32)];

/// Fields that the processor leaves alone while the guest runs.
const STABLE: FieldSet = {
    let mut set = [0; _];
    let mut i = 0;
    while i < Field::COUNT {
        if !Field::ALL[i].is_volatile() {
            set[i / 32] |= 1 << (i % 32);
        }
        i += 1;
    }
    set
};

/// A virtual-machine control structure in a page of its own.
///
/// Values that were read or written stay known until the guest runs, those of stable fields for
/// ever: VMREAD and VMWRITE are slow, most of all under another hypervisor. Both are about the VMCS
/// that is current on this CPU: this one, from [`Vmcs::new`], [`Vmcs::load`] or an entry on until
/// another is made current.
pub struct Vmcs {
    region: Option<Frame>,
    hpa: u64,
    platform: &'static dyn Platform,
    current: Current,
    launched: bool,
    /// The first VMWRITE that failed.
    failure: Option<Failure>,
    known: [Cell<u32>; STABLE.len()],
    values: [Cell<u64>; Field::COUNT],
}

impl Vmcs {
    /// A clear VMCS, made current on this CPU.
    ///
    /// # Errors
    /// [`Unsupported`] if memory is short or the processor does not take it.
    ///
    /// # Safety
    /// VMX operation is on for this CPU, of which `current` tells, and `revision` is the
    /// processor's VMCS revision.
    pub unsafe fn new(
        platform: &'static dyn Platform,
        current: Current,
        revision: u32,
    ) -> Result<Self, Unsupported> {
        let region = platform
            .allocate_frame(FrameSize::Small, Owner::Hypervisor)
            .ok_or(Unsupported("too little memory for a VMCS"))?;
        let hpa = region.hpa;
        // SAFETY: the frame is a page of our own that nobody refers to yet; VMCLEAR then makes it a
        // VMCS.
        let made = unsafe {
            write_revision(&region, revision);
            instructions::vmclear(hpa)
        };
        if made.is_err() {
            platform.free_frame(region);
            return Err(Unsupported("the CPU did not take a new VMCS (VMCLEAR failed)"));
        }
        let vmcs = Self {
            region: Some(region),
            hpa,
            platform,
            current,
            launched: false,
            failure: None,
            known: Default::default(),
            values: [const { Cell::new(0) }; Field::COUNT],
        };
        vmcs.load().map_err(|_| Unsupported("the CPU did not take a new VMCS (VMPTRLD failed)"))?;
        Ok(vmcs)
    }

    /// Makes this VMCS the current one of this CPU, of which `current` tells. It is on no CPU, or
    /// on this one already.
    pub fn load_on(&mut self, current: &Current) {
        self.current = current.clone();
        // If the processor does not take it, the next entry says so.
        let _ = self.load();
    }

    /// The CPU writes what it holds of this VMCS to memory, and has no current one: another CPU may
    /// load it (25.11.1). It is to be launched again.
    pub fn unload(&mut self) {
        // SAFETY: VMX operation is on (condition of `new`).
        if let Err(error) = unsafe { instructions::vmclear(self.hpa) } {
            let failure = self.failure(Instruction::Vmclear, error);
            self.failure.get_or_insert(failure);
        }
        self.launched = false;
        if self.is_current() {
            self.current.store(NONE, Ordering::Relaxed);
        }
    }

    #[inline]
    fn is_current(&self) -> bool {
        self.current.load(Ordering::Relaxed) == self.hpa
    }

    /// Makes this VMCS the current one, if it is not.
    ///
    /// # Errors
    /// The processor does not take it, or it did not take a value before.
    #[inline]
    pub fn load(&self) -> Result<(), Failure> {
        if self.is_current() { Ok(()) } else { self.make_current() }
    }

    #[cold]
    fn make_current(&self) -> Result<(), Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        // SAFETY: VMX operation is on (condition of `new`), and this CPU is the only one that uses
        // this VMCS.
        unsafe { instructions::vmptrld(self.hpa) }
            .map_err(|error| self.failure(Instruction::Vmptrld, error))?;
        self.current.store(self.hpa, Ordering::Relaxed);
        Ok(())
    }

    /// An instruction failed: why, as the current VMCS says (31.2).
    #[cold]
    pub fn failure(&self, instruction: Instruction, error: VmFail) -> Failure {
        let why = match error {
            VmFail::Invalid => "no current VMCS",
            VmFail::Valid => {
                self.read_now(Field::InstructionError).map_or("no current VMCS", instruction_error)
            }
        };
        Failure { instruction, why }
    }

    /// Reads a field from the processor; `None` if it does not have it.
    pub fn read_now(&self, field: Field) -> Option<u64> {
        // SAFETY: VMX operation is on (condition of `new`).
        unsafe { instructions::vmread(field.encoding()) }.ok()
    }

    #[inline]
    fn known(&self, field: Field) -> bool {
        self.known[field as usize / 32].get() >> (field as usize % 32) & 1 != 0
    }

    #[inline]
    fn note(&self, field: Field, value: u64) {
        let word = &self.known[field as usize / 32];
        word.set(word.get() | 1 << (field as usize % 32));
        self.values[field as usize].set(value);
    }

    /// Reads a field that the processor has.
    #[inline]
    pub fn read(&self, field: Field) -> u64 {
        if self.known(field) {
            return self.values[field as usize].get();
        }
        // SAFETY: VMX operation is on (condition of `new`).
        let value = unsafe { instructions::vmread_existing(field.encoding()) };
        self.note(field, value);
        value
    }

    /// Writes a field, unless it has that value already. If the processor does not take it, the
    /// next entry fails.
    ///
    /// The fields of the host's state and those that hold addresses are written by `host_state` and
    /// by `Vmx::new` only.
    #[inline]
    pub fn write(&mut self, field: Field, value: u64) {
        if self.known(field) && self.values[field as usize].get() == value {
            return;
        }
        // SAFETY: VMX operation is on (condition of `new`); the modules that write host state and
        // addresses say why their values are right.
        if unsafe { instructions::vmwrite(field.encoding(), value) } {
            self.note(field, value);
        } else {
            self.note_failure(field, value);
        }
    }

    /// Has the next entry look: for it this VMCS is no longer the current one, so that entries need
    /// ask no more than that.
    #[cold]
    fn note_failure(&mut self, field: Field, value: u64) {
        let failure = self.failure(Instruction::Vmwrite(field, value), VmFail::Valid);
        self.failure.get_or_insert(failure);
        self.current.store(NONE, Ordering::Relaxed);
    }

    /// Prepares for an entry; returns whether this VMCS was launched before.
    ///
    /// # Errors
    /// The processor did not take this VMCS, or a value.
    #[inline]
    pub fn before_entry(&mut self) -> Result<bool, Failure> {
        self.load()?;
        Ok(self.launched)
    }

    /// The guest ran: from now on it is resumed.
    #[inline]
    pub const fn note_launched(&mut self) {
        self.launched = true;
    }

    /// Nothing is known of the fields that the processor changes.
    #[inline]
    pub fn forget(&mut self) {
        for (word, stable) in self.known.iter().zip(STABLE) {
            word.set(word.get() & stable);
        }
    }
}

impl Fields for Vmcs {
    fn get(&self, field: Field) -> u64 {
        self.read(field)
    }
}

impl Drop for Vmcs {
    fn drop(&mut self) {
        // SAFETY: VMX operation is on (condition of `new`), and the guest never runs again.
        let cleared = unsafe { instructions::vmclear(self.hpa) };
        if self.is_current() {
            self.current.store(NONE, Ordering::Relaxed);
        }
        // A page that the processor may still write to is never given back.
        if let (Ok(()), Some(region)) = (cleared, self.region.take()) {
            self.platform.free_frame(region);
        }
    }
}

/// Clears a page and writes the VMCS revision into its first four bytes (25.2).
///
/// # Safety
/// The frame is a page that nobody refers to.
pub unsafe fn write_revision(frame: &Frame, revision: u32) {
    // SAFETY: the page is the caller's to write.
    unsafe {
        core::ptr::write_bytes(frame.address as *mut u8, 0, FrameSize::Small.bytes() as usize);
        core::ptr::write(frame.address as *mut u32, revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn failures_in_words() {
        let failure = |instruction, why| Failure { instruction, why }.to_string();
        assert_eq!(
            failure(Instruction::Vmwrite(Field::GuestCr0, 0x31), instruction_error(13)),
            "VMWRITE of 0x31 to GuestCr0: VMWRITE of a read-only field"
        );
        assert_eq!(
            failure(Instruction::Invept, instruction_error(28)),
            "INVEPT: INVEPT or INVVPID with an invalid operand"
        );
    }

    #[test]
    fn stable_fields_are_those_that_only_the_hypervisor_writes() {
        let is_stable =
            |field: Field| STABLE[field as usize / 32] >> (field as usize % 32) & 1 != 0;
        assert!(
            is_stable(Field::PrimaryControls)
                && is_stable(Field::HostCr3)
                && is_stable(Field::TscOffset)
        );
        assert!(!is_stable(Field::GuestRip) && !is_stable(Field::ExitReason));
        assert!(!is_stable(Field::EntryControls) && !is_stable(Field::EntryInterruption));
    }
}
