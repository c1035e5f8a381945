//! The VMCB in words.

use crate::spec::{Vmcb, VmcbSegment};
use core::fmt;

/// Prints the control area's and the save area's fields, exit code first.
pub fn dump(vmcb: &Vmcb, f: &mut dyn fmt::Write) -> fmt::Result {
    let (control, save) = (&vmcb.control, &vmcb.save);
    writeln!(
        f,
        "exit code {:#x} info1 {:#x} info2 {:#x} interrupted {:?} injected {:?} next RIP {:#x}",
        control.exit_code,
        control.exit_info_1,
        control.exit_info_2,
        control.exit_interrupt_info,
        control.event_injection,
        control.next_rip
    )?;
    writeln!(
        f,
        "intercepts cr {:#x} dr {:#x} exceptions {:#x}\n  {:?}\n  {:?}",
        control.intercept_cr,
        control.intercept_dr,
        control.intercept_exceptions,
        control.intercept_1,
        control.intercept_2
    )?;
    writeln!(
        f,
        "{:?} shadow {} asid {} nested cr3 {:#x} tsc offset {:#x}",
        control.interrupt_control,
        control.interrupt_shadow,
        control.asid,
        control.nested_cr3,
        control.tsc_offset
    )?;
    writeln!(
        f,
        "rip {:#x} rflags {:#x} rsp {:#x} rax {:#x} cpl {}",
        save.rip, save.rflags, save.rsp, save.rax, save.cpl
    )?;
    writeln!(
        f,
        "cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x} dr6 {:#x} dr7 {:#x} pat {:#x}",
        save.cr0, save.cr2, save.cr3, save.cr4, save.efer, save.dr6, save.dr7, save.pat
    )?;
    let segments = [
        ("es", &save.es),
        ("cs", &save.cs),
        ("ss", &save.ss),
        ("ds", &save.ds),
        ("fs", &save.fs),
        ("gs", &save.gs),
        ("ldtr", &save.ldtr),
        ("tr", &save.tr),
        ("gdtr", &save.gdtr),
        ("idtr", &save.idtr),
    ];
    for (name, VmcbSegment { selector, attributes, limit, base }) in segments {
        writeln!(
            f,
            "{name:4} {selector:#06x} attributes {attributes:#05x} limit {limit:#x} base {base:#x}"
        )?;
    }
    Ok(())
}
