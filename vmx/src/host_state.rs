//! The hypervisor's own state, as exits restore it (SDM volume 3, 25.5, 28.5).
//!
//! An exit sets the limits of GDTR and IDTR to FFFFh and that of TR to 67h. The hypervisor's IDT
//! has all 256 vectors and its TSS has 104 bytes; it never loads a selector beyond its few own:
//! nothing has to be put back.

use crate::field::Field;
use crate::spec::msr;
use crate::vmcs::Vmcs;
use core::arch::asm;
use x86::controlregs::{cr0, cr3, cr4};
use x86::dtables::{DescriptorTablePointer, sgdt, sidt};
use x86::msr::rdmsr;

/// Selectors in the host-state area must not have these bits: table indicator and privilege level.
const SELECTOR_MASK: u16 = !7;

/// Writes this CPU's state into the host-state area, all but RSP; exits go on at `exit_rip`.
///
/// # Safety
/// Runs on the CPU that is to run the guest, with the GDT, IDT, TSS, page tables and bases that the
/// hypervisor keeps.
pub unsafe fn write(vmcs: &mut Vmcs, exit_rip: u64) {
    let mut gdt: DescriptorTablePointer<u64> = DescriptorTablePointer::default();
    let mut idt: DescriptorTablePointer<u64> = DescriptorTablePointer::default();
    let (cs, ss, ds, es, fs, gs, tr): (u16, u16, u16, u16, u16, u16, u16);
    // SAFETY: reading registers changes nothing.
    unsafe {
        sgdt(&mut gdt);
        sidt(&mut idt);
        asm!("mov {:x}, cs", out(reg) cs, options(nomem, nostack));
        asm!("mov {:x}, ss", out(reg) ss, options(nomem, nostack));
        asm!("mov {:x}, ds", out(reg) ds, options(nomem, nostack));
        asm!("mov {:x}, es", out(reg) es, options(nomem, nostack));
        asm!("mov {:x}, fs", out(reg) fs, options(nomem, nostack));
        asm!("mov {:x}, gs", out(reg) gs, options(nomem, nostack));
        asm!("str {:x}", out(reg) tr, options(nomem, nostack));
    }
    let selectors = [
        (Field::HostCsSelector, cs),
        (Field::HostSsSelector, ss),
        (Field::HostDsSelector, ds),
        (Field::HostEsSelector, es),
        (Field::HostFsSelector, fs),
        (Field::HostGsSelector, gs),
        (Field::HostTrSelector, tr),
    ];
    for (field, selector) in selectors {
        vmcs.write(field, (selector & SELECTOR_MASK).into());
    }
    // SAFETY: TR holds a 64-bit TSS of the GDT that is loaded; the MSRs exist in long mode.
    unsafe {
        vmcs.write(Field::HostTrBase, task_base(gdt.base as u64, tr));
        vmcs.write(Field::HostFsBase, rdmsr(msr::FS_BASE));
        vmcs.write(Field::HostGsBase, rdmsr(msr::GS_BASE));
        vmcs.write(Field::HostPat, rdmsr(msr::PAT));
        vmcs.write(Field::HostEfer, rdmsr(msr::EFER));
        vmcs.write(Field::HostCr0, cr0().bits() as u64);
        vmcs.write(Field::HostCr3, cr3());
        vmcs.write(Field::HostCr4, cr4().bits() as u64);
    }
    vmcs.write(Field::HostGdtrBase, gdt.base as u64);
    vmcs.write(Field::HostIdtrBase, idt.base as u64);
    // The hypervisor does not use SYSENTER.
    for field in [Field::HostSysenterCs, Field::HostSysenterEsp, Field::HostSysenterEip] {
        vmcs.write(field, 0);
    }
    vmcs.write(Field::HostRip, exit_rip);
}

/// The base of the TSS that `selector` names.
///
/// # Safety
/// `selector` is that of a 16-byte descriptor of the GDT at `gdt_base`.
unsafe fn task_base(gdt_base: u64, selector: u16) -> u64 {
    let descriptor = (gdt_base + u64::from(selector & SELECTOR_MASK)) as *const u64;
    // SAFETY: the caller's condition; descriptors are 8-byte aligned in our GDT.
    let (low, high) = unsafe { (descriptor.read(), descriptor.add(1).read()) };
    (low >> 16 & 0xff_ffff) | (low >> 56 & 0xff) << 24 | high << 32
}
