//! The VMX instructions.

use core::arch::asm;

/// How a VMX instruction fails (SDM volume 3, 31.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmFail {
    /// There is no current VMCS (VMfailInvalid: CF).
    Invalid,
    /// The instruction-error field of the current VMCS says why (VMfailValid: ZF).
    Valid,
}

const fn outcome(invalid: u8, valid: u8) -> Result<(), VmFail> {
    match (invalid, valid) {
        (0, 0) => Ok(()),
        (0, _) => Err(VmFail::Valid),
        _ => Err(VmFail::Invalid),
    }
}

/// One instruction with the outcome in CF and ZF.
macro_rules! vmx {
    ($text:literal, $($operands:tt)*) => {{
        let (invalid, valid): (u8, u8);
        asm!(
            $text,
            "setc {invalid}",
            "setz {valid}",
            $($operands)*,
            invalid = lateout(reg_byte) invalid,
            valid = lateout(reg_byte) valid,
            options(nostack)
        );
        outcome(invalid, valid)
    }};
}

/// Enters VMX operation.
///
/// # Safety
/// CR0, CR4 and FEATURE_CONTROL are as VMX operation demands, and the page at `region_hpa` starts
/// with the VMCS revision identifier and is the processor's from now on.
pub unsafe fn vmxon(region_hpa: u64) -> Result<(), VmFail> {
    // SAFETY: the caller's conditions.
    unsafe { vmx!("vmxon [{pointer}]", pointer = in(reg) &raw const region_hpa) }
}

/// Makes a VMCS inactive and writes what the processor holds of it to memory.
///
/// # Safety
/// VMX operation is on, and the page at `region_hpa` is a VMCS.
pub unsafe fn vmclear(region_hpa: u64) -> Result<(), VmFail> {
    // SAFETY: the caller's conditions.
    unsafe { vmx!("vmclear [{pointer}]", pointer = in(reg) &raw const region_hpa) }
}

/// Makes a VMCS the current one.
///
/// # Safety
/// VMX operation is on, and the page at `region_hpa` is a VMCS that no other CPU has active.
pub unsafe fn vmptrld(region_hpa: u64) -> Result<(), VmFail> {
    // SAFETY: the caller's conditions.
    unsafe { vmx!("vmptrld [{pointer}]", pointer = in(reg) &raw const region_hpa) }
}

/// Reads a field of the current VMCS.
///
/// # Safety
/// VMX operation is on.
#[inline(always)]
pub unsafe fn vmread(encoding: u32) -> Result<u64, VmFail> {
    let value: u64;
    // SAFETY: the caller's condition.
    unsafe {
        vmx!("vmread {value}, {field}", value = out(reg) value, field = in(reg) u64::from(encoding))
            .map(|()| value)
    }
}

/// Reads a field that the processor has, of the current VMCS, in one register: a VMREAD that fails
/// would leave the encoding there.
///
/// # Safety
/// VMX operation is on.
#[inline(always)]
pub unsafe fn vmread_existing(encoding: u32) -> u64 {
    let mut value = u64::from(encoding);
    // SAFETY: the caller's condition.
    unsafe { asm!("vmread {value}, {value}", value = inout(reg) value, options(nostack)) };
    value
}

/// Writes a field of the current VMCS; false if the processor refuses.
///
/// # Safety
/// VMX operation is on. The CPU runs with the host-state fields' values after the next exit, and
/// the processor or the guest will access the memory that address fields name.
#[inline(always)]
pub unsafe fn vmwrite(encoding: u32, value: u64) -> bool {
    // SAFETY: the caller's conditions.
    unsafe {
        asm!(
            "vmwrite {field}, {value}",
            "jbe {failed}",
            field = in(reg) u64::from(encoding),
            value = in(reg) value,
            failed = label { return false },
            options(nostack)
        );
    }
    true
}

/// Which cached translations INVEPT and INVVPID drop (SDM volume 3, 31.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Scope {
    /// Those of one EPT pointer or VPID.
    Single = 1,
    /// All.
    All = 2,
}

/// Drops translations that were made through second-level tables.
///
/// # Safety
/// VMX operation is on, and the processor supports the scope.
pub unsafe fn invept(scope: Scope, ept_pointer: u64) -> Result<(), VmFail> {
    let descriptor = [ept_pointer, 0];
    // SAFETY: the caller's conditions.
    unsafe {
        vmx!(
            "invept {scope}, [{pointer}]",
            scope = in(reg) scope as u64,
            pointer = in(reg) &raw const descriptor
        )
    }
}

/// Drops a virtual CPU's own translations.
///
/// # Safety
/// VMX operation is on, and the processor supports the scope.
pub unsafe fn invvpid(scope: Scope, vpid: u16) -> Result<(), VmFail> {
    let descriptor = [u64::from(vpid), 0];
    // SAFETY: the caller's conditions.
    unsafe {
        vmx!(
            "invvpid {scope}, [{pointer}]",
            scope = in(reg) scope as u64,
            pointer = in(reg) &raw const descriptor
        )
    }
}
