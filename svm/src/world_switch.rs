//! Into the guest and back (15.5, 15.6).

use core::arch::naked_asm;
use emulator::registers::Gprs;

/// Runs the guest whose VMCB is at `vmcb_hpa` until its next exit.
///
/// Global interrupts are off from CLGI to STGI; RFLAGS.IF is set in between, because with virtual
/// interrupt masking it says whether physical interrupts end the guest's run. RAX and RSP of the
/// guest are in the VMCB.
///
/// # Safety
/// - Virtualisation is on for this CPU, and its host save area is set.
/// - `vmcb_hpa` is a VMCB with a consistent state whose nested page tables give the guest nothing
///   but its own memory.
/// - `host_hpa` is a VMCB-sized page that VMSAVE filled on this CPU.
/// - `gprs` is valid for reads and writes.
/// - Interrupts are off.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn run_guest(vmcb_hpa: u64, gprs: *mut Gprs, host_hpa: u64) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        "push rsi",
        "mov rax, rdi",
        "clgi",
        "sti",
        "vmload rax",
        "mov rcx, [rsi + 8 * 1]",
        "mov rdx, [rsi + 8 * 2]",
        "mov rbx, [rsi + 8 * 3]",
        "mov rbp, [rsi + 8 * 5]",
        "mov rdi, [rsi + 8 * 7]",
        "mov r8,  [rsi + 8 * 8]",
        "mov r9,  [rsi + 8 * 9]",
        "mov r10, [rsi + 8 * 10]",
        "mov r11, [rsi + 8 * 11]",
        "mov r12, [rsi + 8 * 12]",
        "mov r13, [rsi + 8 * 13]",
        "mov r14, [rsi + 8 * 14]",
        "mov r15, [rsi + 8 * 15]",
        "mov rsi, [rsi + 8 * 6]",
        "vmrun rax",
        "vmsave rax",
        // RAX is free: VMRUN restored the host's own, the guest's is in the VMCB.
        "mov rax, [rsp]",
        "mov [rax + 8 * 1], rcx",
        "mov [rax + 8 * 2], rdx",
        "mov [rax + 8 * 3], rbx",
        "mov [rax + 8 * 5], rbp",
        "mov [rax + 8 * 6], rsi",
        "mov [rax + 8 * 7], rdi",
        "mov [rax + 8 * 8], r8",
        "mov [rax + 8 * 9], r9",
        "mov [rax + 8 * 10], r10",
        "mov [rax + 8 * 11], r11",
        "mov [rax + 8 * 12], r12",
        "mov [rax + 8 * 13], r13",
        "mov [rax + 8 * 14], r14",
        "mov [rax + 8 * 15], r15",
        "mov rax, [rsp + 8]",
        "vmload rax",
        // QEMU's VMRUN with V_IRQ may lose an interrupt that becomes pending meanwhile
        // (docs/svm.md). A write of the task priority makes its APIC look again; it is 0
        // already.
        "xor eax, eax",
        "mov cr8, rax",
        "cli",
        "stgi",
        "add rsp, 16",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "cld",
        "ret",
    )
}

/// Saves this CPU's FS, GS, TR, LDTR and system-call registers where [`run_guest`] restores them
/// from.
///
/// # Safety
/// Virtualisation is on for this CPU, and `host_hpa` is a page that nothing else uses.
pub unsafe fn save_host(host_hpa: u64) {
    // SAFETY: VMSAVE writes only to the page, which is the caller's to give.
    unsafe { core::arch::asm!("vmsave rax", in("rax") host_hpa, options(nostack)) };
}
