//! Into the guest and back (SDM volume 3, 27.1, 28.5).

use core::arch::naked_asm;
use emulator::registers::Gprs;

/// The value that [`run_guest`] returns after an exit.
pub const EXITED: u64 = 0;
/// There was no current VMCS (CF).
pub const FAILED_INVALID: u64 = 1;
/// The instruction-error field says why the entry failed (ZF).
pub const FAILED_VALID: u64 = 2;

/// Runs the guest of the current VMCS until its next exit; returns [`EXITED`], or why it could not
/// be entered.
///
/// RSP, RIP and RFLAGS of the guest are in the VMCS. The host's stack pointer is written to it only
/// when it differs from `host_rsp`, which remembers it.
///
/// # Safety
/// - The current VMCS has [`exit_entry`] for its host RIP, the rest of its host state is this
///   CPU's, and its EPT gives the guest nothing but its own memory.
/// - `gprs` and `host_rsp` are valid for reads and writes; `host_rsp` holds what was last written
///   to this VMCS's host RSP by this function, or 0.
/// - `launched` tells whether the VMCS was launched on this CPU since it was last cleared.
/// - Interrupts are off.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn run_guest(
    gprs: *mut Gprs,
    launched: bool,
    host_rsp: *mut u64,
) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "cmp rsp, [rdx]",
        "je 2f",
        "mov [rdx], rsp",
        "mov eax, {host_rsp_field}",
        "vmwrite rax, rsp",
        "2:",
        // The moves keep ZF.
        "test sil, sil",
        "mov rax, [rdi]",
        "mov rcx, [rdi + 8 * 1]",
        "mov rdx, [rdi + 8 * 2]",
        "mov rbx, [rdi + 8 * 3]",
        "mov rbp, [rdi + 8 * 5]",
        "mov rsi, [rdi + 8 * 6]",
        "mov r8,  [rdi + 8 * 8]",
        "mov r9,  [rdi + 8 * 9]",
        "mov r10, [rdi + 8 * 10]",
        "mov r11, [rdi + 8 * 11]",
        "mov r12, [rdi + 8 * 12]",
        "mov r13, [rdi + 8 * 13]",
        "mov r14, [rdi + 8 * 14]",
        "mov r15, [rdi + 8 * 15]",
        "mov rdi, [rdi + 8 * 7]",
        "jnz 3f",
        "vmlaunch",
        "jmp 4f",
        "3:",
        "vmresume",
        "4:",
        // Only reached if the entry failed: the registers still hold the guest's values, which need
        // no saving.
        "mov eax, {failed_valid}",
        "mov ecx, {failed_invalid}",
        "cmovc eax, ecx",
        "pop rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        host_rsp_field = const crate::field::Field::HostRsp.encoding(),
        failed_valid = const FAILED_VALID,
        failed_invalid = const FAILED_INVALID,
    )
}

/// Where the processor goes on at an exit: the stack is as [`run_guest`] left it, and RFLAGS is
/// clear. Saves the guest's registers and returns from [`run_guest`].
///
/// # Safety
/// For the host-RIP field only.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn exit_entry() {
    naked_asm!(
        "push rdi",
        "mov rdi, [rsp + 8]",
        "mov [rdi], rax",
        "mov [rdi + 8 * 1], rcx",
        "mov [rdi + 8 * 2], rdx",
        "mov [rdi + 8 * 3], rbx",
        "mov [rdi + 8 * 5], rbp",
        "mov [rdi + 8 * 6], rsi",
        "mov [rdi + 8 * 8], r8",
        "mov [rdi + 8 * 9], r9",
        "mov [rdi + 8 * 10], r10",
        "mov [rdi + 8 * 11], r11",
        "mov [rdi + 8 * 12], r12",
        "mov [rdi + 8 * 13], r13",
        "mov [rdi + 8 * 14], r14",
        "mov [rdi + 8 * 15], r15",
        "pop rax",
        "mov [rdi + 8 * 7], rax",
        "mov eax, {exited}",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        exited = const EXITED,
    )
}
