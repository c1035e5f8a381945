//! Into the guest and back (15.5, 15.6).

use core::arch::naked_asm;
use core::mem::offset_of;
use emulator::registers::Gprs;
use vmm_core::backend::speculation::{Defences, MSR_PRED_CMD, MSR_SPEC_CTRL, Work};
use vmm_core::end_guest_speculation;

/// A world switch.
type Run = unsafe extern "sysv64" fn(*const Switch, *mut Gprs);

/// The world switch of a virtual CPU on the CPU that it is loaded on: which one, and its inputs.
#[derive(Debug)]
#[repr(C)]
pub struct Switch {
    vmcb_hpa: u64,
    /// Host-physical address of the page that VMSAVE filled with this CPU's own state.
    pub host_hpa: u64,
    /// IA32_SPEC_CTRL while the guest runs, and while it does not.
    guest_control: u32,
    host_control: u32,
    /// VERW looks at it: a writable data segment is what it is quickest with.
    data_selector: u16,
    work: Work,
    run: Run,
}

impl Switch {
    /// That of a virtual CPU on a CPU with these defences, whose guest's own IA32_SPEC_CTRL is
    /// 0 or the processor's to switch.
    pub fn new(vmcb_hpa: u64, host_hpa: u64, defences: &Defences) -> Self {
        let run: Run = if defences.is_guarded() { run_guarded } else { run_plain };
        let data_selector = x86::segmentation::ss().bits();
        Self {
            vmcb_hpa,
            host_hpa,
            guest_control: 0,
            host_control: 0,
            data_selector,
            work: Work::new(defences),
            run,
        }
    }

    /// The values of IA32_SPEC_CTRL for guest and host that each entry and exit are to write.
    pub fn set_control(&mut self, values: Option<(u64, u64)>) {
        self.work.set(Work::CONTROL, values.is_some());
        let (guest, host) = values.unwrap_or_default();
        (self.guest_control, self.host_control) = (guest as u32, host as u32);
    }

    /// The values of IA32_SPEC_CTRL that are written.
    #[cfg(test)]
    pub(crate) fn control(&self) -> Option<(u32, u32)> {
        self.work.contains(Work::CONTROL).then_some((self.guest_control, self.host_control))
    }

    /// Runs the guest until its next exit.
    ///
    /// Global interrupts are off from CLGI to STGI; RFLAGS.IF is set in between, because with
    /// virtual interrupt masking it says whether physical interrupts end the guest's run. RAX and
    /// RSP of the guest are in the VMCB.
    ///
    /// # Safety
    /// - Virtualisation is on for this CPU, which is the one that the switch was made for, and its
    ///   host save area is set.
    /// - The VMCB has a consistent state whose nested page tables give the guest nothing but its
    ///   own memory.
    /// - Interrupts are off.
    #[inline(always)]
    pub unsafe fn run(&self, gprs: &mut Gprs) {
        // SAFETY: the caller's conditions; both pointers are valid throughout.
        unsafe { (self.run)(self, gprs) };
    }
}

/// Defines a world switch: `before` runs between CLGI and the loads of the guest's registers, with
/// RDI at the [`Switch`], and may use RAX, RCX and RDX; `after` runs when the guest's registers are
/// saved, and may use all.
macro_rules! world_switch {
    (
        $(#[$meta:meta])*
        fn $name:ident;
        before: [$($before:expr),*];
        after: [$($after:expr),*];
        $($operand:ident = const $value:expr),*
    ) => {
        $(#[$meta])*
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name(switch: *const Switch, gprs: *mut Gprs) {
            naked_asm!(
                "push rbx",
                "push rbp",
                "push r12",
                "push r13",
                "push r14",
                "push r15",
                "push rdi",
                "push rsi",
                "clgi",
                $($before,)*
                "mov rax, [rdi + {vmcb}]",
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
                $($after,)*
                "mov rax, [rsp + 8]",
                "mov rax, [rax + {host}]",
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
                vmcb = const offset_of!(Switch, vmcb_hpa),
                host = const offset_of!(Switch, host_hpa),
                $($operand = const $value,)*
            )
        }
    };
}

world_switch! {
    /// Without defences.
    fn run_plain;
    before: [];
    after: [];
}

world_switch! {
    /// With those that [`Switch::work`] names, and registers that hold none of the guest's values.
    ///
    /// Until IA32_SPEC_CTRL is the host's and the return stack is filled, nothing branches
    /// indirectly or returns.
    fn run_guarded;
    before: [
        "test byte ptr [rdi + {work}], {control}",
        "jz 20f",
        "mov ecx, {spec_ctrl}",
        "mov eax, [rdi + {guest_control}]",
        "xor edx, edx",
        "wrmsr",
        "20:",
        "test byte ptr [rdi + {work}], {do_verw}",
        "jz 21f",
        "verw word ptr [rdi + {data_selector}]",
        "21:"
    ];
    after: [
        "mov rdi, [rsp + 8]",
        "movzx ebx, byte ptr [rdi + {work}]",
        "test bl, {control}",
        "jz 22f",
        "mov ecx, {spec_ctrl}",
        "mov eax, [rdi + {host_control}]",
        "xor edx, edx",
        "wrmsr",
        "22:",
        "test bl, {exit_barrier}",
        "jz 23f",
        "mov ecx, {pred_cmd}",
        "mov eax, 1",
        "xor edx, edx",
        "wrmsr",
        "23:",
        end_guest_speculation!()
    ];
    work = const offset_of!(Switch, work),
    guest_control = const offset_of!(Switch, guest_control),
    host_control = const offset_of!(Switch, host_control),
    data_selector = const offset_of!(Switch, data_selector),
    control = const Work::CONTROL.bits(),
    exit_barrier = const Work::EXIT_BARRIER.bits(),
    do_verw = const Work::VERW.bits(),
    return_stack = const Work::RETURN_STACK.bits(),
    last_return = const Work::LAST_RETURN.bits(),
    spec_ctrl = const MSR_SPEC_CTRL,
    pred_cmd = const MSR_PRED_CMD
}

/// Saves this CPU's FS, GS, TR, LDTR and system-call registers where [`Switch::run`] restores them
/// from.
///
/// # Safety
/// Virtualisation is on for this CPU, and `host_hpa` is a page that nothing else uses.
pub unsafe fn save_host(host_hpa: u64) {
    // SAFETY: VMSAVE writes only to the page, which is the caller's to give.
    unsafe { core::arch::asm!("vmsave rax", in("rax") host_hpa, options(nostack)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_core::backend::speculation::ReturnStack;

    /// Fills all registers that may be, ends a guest's speculation as `work` says, and returns all
    /// bits that are left in any.
    #[unsafe(naked)]
    extern "sysv64" fn left_in_registers(work: u64) -> u64 {
        naked_asm!(
            "push rbx",
            "push rbp",
            "push r12",
            "push r13",
            "push r14",
            "push r15",
            "mov ebx, edi",
            "mov rax, -1",
            "mov rcx, rax",
            "mov rdx, rax",
            "mov rbp, rax",
            "mov rsi, rax",
            "mov rdi, rax",
            "mov r8, rax",
            "mov r9, rax",
            "mov r10, rax",
            "mov r11, rax",
            "mov r12, rax",
            "mov r13, rax",
            "mov r14, rax",
            "mov r15, rax",
            end_guest_speculation!(),
            "or rax, rbx",
            "or rax, rcx",
            "or rax, rdx",
            "or rax, rbp",
            "or rax, rsi",
            "or rax, rdi",
            "or rax, r8",
            "or rax, r9",
            "or rax, r10",
            "or rax, r11",
            "or rax, r12",
            "or rax, r13",
            "or rax, r14",
            "or rax, r15",
            "pop r15",
            "pop r14",
            "pop r13",
            "pop r12",
            "pop rbp",
            "pop rbx",
            "ret",
            return_stack = const Work::RETURN_STACK.bits(),
            last_return = const Work::LAST_RETURN.bits()
        )
    }

    #[test]
    fn no_register_keeps_a_guests_value_and_the_stack_is_where_it_was() {
        for work in [Work::empty(), Work::RETURN_STACK, Work::LAST_RETURN, Work::all()] {
            assert_eq!(left_in_registers(work.bits().into()), 0, "{work:?}");
        }
    }

    #[test]
    fn the_switch_without_defences_is_one_of_its_own() {
        let is_guarded = |defences: &Defences| {
            let switch = Switch::new(0, 0, defences);
            (switch.run as *const () == run_guarded as *const (), switch.work)
        };
        assert_eq!(is_guarded(&Defences::default()), (false, Work::empty()));
        let clears = Defences { clears_registers: true, ..Defences::default() };
        assert_eq!(is_guarded(&clears), (true, Work::empty()));
        let all = Defences {
            exit_barrier: true,
            verw: true,
            return_stack: ReturnStack::All,
            ..Defences::default()
        };
        let work = Work::EXIT_BARRIER | Work::VERW | Work::RETURN_STACK;
        assert_eq!(is_guarded(&all), (true, work));
    }
}
