//! Into the guest and back (SDM volume 3, 27.1, 28.5).

use core::arch::naked_asm;
use core::mem::offset_of;
use emulator::registers::Gprs;
use vmm_core::backend::speculation::{Defences, Work};
use vmm_core::end_guest_speculation;

/// The value that [`Switch::run`] returns after an exit.
pub const EXITED: u64 = 0;
/// There was no current VMCS (CF).
pub const FAILED_INVALID: u64 = 1;
/// The instruction-error field says why the entry failed (ZF).
pub const FAILED_VALID: u64 = 2;

/// A world switch.
type Run = unsafe extern "sysv64" fn(*mut Gprs, bool, *mut Switch) -> u64;

/// The world switch of a virtual CPU: which one, and its inputs.
#[derive(Debug)]
#[repr(C)]
pub struct Switch {
    /// The last value written to the host-RSP field.
    host_rsp: u64,
    /// VERW looks at it: a writable data segment is what it is quickest with.
    data_selector: u16,
    work: Work,
    run: Run,
    exit: unsafe extern "sysv64" fn(),
}

impl Switch {
    /// That of a virtual CPU on CPUs with these defences.
    pub fn new(defences: &Defences) -> Self {
        let data_selector = x86::segmentation::ss().bits();
        let work = Work::new(defences);
        if defences.is_guarded() {
            Self { host_rsp: 0, data_selector, work, run: run_guarded, exit: exit_guarded }
        } else {
            Self { host_rsp: 0, data_selector, work, run: run_plain, exit: exit_plain }
        }
    }

    /// Where the processor goes on at an exit: the host-RIP field.
    pub fn exit_rip(&self) -> u64 {
        self.exit as *const () as u64
    }

    /// Runs the guest of the current VMCS until its next exit; returns [`EXITED`], or why it could
    /// not be entered.
    ///
    /// RSP, RIP and RFLAGS of the guest are in the VMCS. The host's stack pointer is written to it
    /// only when it differs from the one before.
    ///
    /// # Safety
    /// - The current VMCS has [`Switch::exit_rip`] for its host RIP, the rest of its host state is
    ///   this CPU's, and its EPT gives the guest nothing but its own memory.
    /// - Its host RSP is written here alone.
    /// - `launched` tells whether the VMCS was launched on this CPU since it was last cleared.
    /// - Interrupts are off.
    #[inline(always)]
    pub unsafe fn run(&mut self, gprs: &mut Gprs, launched: bool) -> u64 {
        // SAFETY: the caller's conditions; both pointers are valid throughout.
        unsafe { (self.run)(gprs, launched, self) }
    }
}

/// Defines a world switch, the way in and the way back. `keeps` are pushed first, `drops` are their
/// bytes; `before` runs with RDX at the [`Switch`]; `after` runs when the guest's registers are
/// saved, with the stack as `keeps` left it but for one more word on top, and may use all.
macro_rules! world_switch {
    (
        $(#[$meta:meta])*
        fn $run:ident, $exit:ident;
        keeps: [$($keep:expr),*] $drops:literal;
        before: [$($before:expr),*] $($before_operand:ident = const $before_value:expr),*;
        after: [$($after:expr),*] $($after_operand:ident = const $after_value:expr),*
    ) => {
        $(#[$meta])*
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $run(
            gprs: *mut Gprs,
            launched: bool,
            switch: *mut Switch,
        ) -> u64 {
            naked_asm!(
                "push rbx",
                "push rbp",
                "push r12",
                "push r13",
                "push r14",
                "push r15",
                $($keep,)*
                "push rdi",
                "cmp rsp, [rdx + {host_rsp}]",
                "je 2f",
                "mov [rdx + {host_rsp}], rsp",
                "mov eax, {host_rsp_field}",
                "vmwrite rax, rsp",
                "2:",
                $($before,)*
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
                // Only reached if the entry failed: the registers still hold the guest's values,
                // which need no saving.
                "mov eax, {failed_valid}",
                "mov ecx, {failed_invalid}",
                "cmovc eax, ecx",
                "lea rsp, [rsp + 8 + {drops}]",
                "pop r15",
                "pop r14",
                "pop r13",
                "pop r12",
                "pop rbp",
                "pop rbx",
                "ret",
                host_rsp = const offset_of!(Switch, host_rsp),
                host_rsp_field = const crate::field::Field::HostRsp.encoding(),
                failed_valid = const FAILED_VALID,
                failed_invalid = const FAILED_INVALID,
                drops = const $drops,
                $($before_operand = const $before_value,)*
            )
        }

        /// Where the processor goes on at an exit: the stack is as the way in left it, and RFLAGS
        /// is clear. Saves the guest's registers and returns from there.
        ///
        /// # Safety
        /// For the host-RIP field only.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $exit() {
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
                $($after,)*
                "mov eax, {exited}",
                "add rsp, 8 + {drops}",
                "pop r15",
                "pop r14",
                "pop r13",
                "pop r12",
                "pop rbp",
                "pop rbx",
                "ret",
                exited = const EXITED,
                drops = const $drops,
                $($after_operand = const $after_value,)*
            )
        }
    };
}

world_switch! {
    /// Without defences.
    fn run_plain, exit_plain;
    keeps: [] 0;
    before: [];
    after: []
}

world_switch! {
    /// With those that [`Switch::work`] names, and registers that hold none of the guest's values.
    /// MSRs are in the processor's lists ([`crate::msr_lists`]).
    ///
    /// Until the return stack is filled, nothing branches indirectly or returns.
    fn run_guarded, exit_guarded;
    keeps: ["push rdx"] 8;
    before: [
        "test byte ptr [rdx + {work}], {do_verw}",
        "jz 20f",
        "verw word ptr [rdx + {data_selector}]",
        "20:"
    ]
        work = const offset_of!(Switch, work),
        data_selector = const offset_of!(Switch, data_selector),
        do_verw = const Work::VERW.bits();
    after: [
        "mov rdi, [rsp + 8]",
        "movzx ebx, byte ptr [rdi + {work}]",
        end_guest_speculation!()
    ]
        work = const offset_of!(Switch, work),
        return_stack = const Work::RETURN_STACK.bits(),
        last_return = const Work::LAST_RETURN.bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_without_defences_is_one_of_its_own() {
        let plain = Switch::new(&Defences::default());
        assert_eq!((plain.run as *const (), plain.work), (run_plain as *const (), Work::empty()));
        let clears = Defences { clears_registers: true, verw: true, ..Defences::default() };
        let guarded = Switch::new(&clears);
        assert_eq!(guarded.run as *const (), run_guarded as *const ());
        assert_eq!(guarded.work, Work::VERW);
        assert_ne!(plain.exit_rip(), guarded.exit_rip());
    }
}
