//! Single instructions.

use core::arch::asm;

macro_rules! ports {
    ($($name:ident $out:ident $type:ty, $read:literal, $write:literal, $register:tt;)*) => { $(
        /// Reads a port.
        pub fn $name(port: u16) -> $type {
            let value;
            unsafe { asm!($read, in("dx") port, out($register) value, options(nomem, nostack, preserves_flags)) };
            value
        }

        /// Writes a port.
        pub fn $out(port: u16, value: $type) {
            unsafe { asm!($write, in("dx") port, in($register) value, options(nomem, nostack, preserves_flags)) };
        }
    )* };
}

ports! {
    inb outb u8, "in al, dx", "out dx, al", "al";
    inw outw u16, "in ax, dx", "out dx, ax", "ax";
    inl outl u32, "in eax, dx", "out dx, eax", "eax";
}

macro_rules! registers {
    ($($name:ident $set:ident $register:literal;)*) => { $(
        /// Reads the register of that name.
        pub fn $name() -> u64 {
            let value;
            unsafe { asm!(concat!("mov {}, ", $register), out(reg) value) };
            value
        }

        /// Writes it.
        pub fn $set(value: u64) {
            unsafe { asm!(concat!("mov ", $register, ", {}"), in(reg) value) };
        }
    )* };
}

registers! {
    cr0 set_cr0 "cr0";
    cr2 set_cr2 "cr2";
    cr3 set_cr3 "cr3";
    cr4 set_cr4 "cr4";
    cr8 set_cr8 "cr8";
    dr0 set_dr0 "dr0";
    dr1 set_dr1 "dr1";
    dr2 set_dr2 "dr2";
    dr3 set_dr3 "dr3";
    dr6 set_dr6 "dr6";
    dr7 set_dr7 "dr7";
}

/// Model-specific register `EFER`.
pub const EFER: u32 = 0xc000_0080;

/// Reads a model-specific register.
pub fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
pub fn wrmsr(msr: u32, value: u64) {
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32) };
}

/// CPUID: EAX, EBX, ECX, EDX.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let registers = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [registers.eax, registers.ebx, registers.ecx, registers.edx]
}

/// Whether the bit of a register (0 is EAX) of a leaf that exists is set.
pub fn has_feature(leaf: u32, register: usize, bit: u32) -> bool {
    cpuid(leaf & 0xffff_0000, 0)[0] >= leaf && cpuid(leaf, 0)[register] >> bit & 1 != 0
}

/// The guest is not under a hypervisor, but on an emulator itself.
pub fn is_emulator() -> bool {
    const HYPERVISOR: u32 = 31;
    !has_feature(1, 2, HYPERVISOR) || is_qemu()
}

/// That emulator is QEMU, which says so where hypervisors do.
pub fn is_qemu() -> bool {
    const LEAF: u32 = 0x4000_0000;
    let [_, signature @ ..] = cpuid(LEAF, 0);
    signature == [*b"TCGT", *b"CGTC", *b"GTCG"].map(u32::from_le_bytes)
}

/// The processor's own name is QEMU's, also for a guest of a hypervisor that runs there.
pub fn has_qemus_name() -> bool {
    let [eax, ..] = cpuid(0x8000_0002, 0);
    eax == u32::from_le_bytes(*b"QEMU")
}

/// The time-stamp counter.
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// Interrupts off.
pub fn cli() {
    unsafe { asm!("cli") };
}

/// Interrupts on.
pub fn sti() {
    unsafe { asm!("sti") };
}

/// Waits for an interrupt.
pub fn hlt() {
    unsafe { asm!("hlt") };
}

/// Interrupts on, sleeps until one has been handled, interrupts off.
pub fn sleep() {
    unsafe { asm!("sti", "hlt", "cli") };
}

/// The flags.
pub fn rflags() -> u64 {
    let value;
    unsafe { asm!("pushfq", "pop {}", out(reg) value) };
    value
}

/// Forgets the translation of an address.
pub fn invlpg(address: u64) {
    unsafe { asm!("invlpg [{}]", in(reg) address) };
}

/// Reads memory once, with an access of the type's size.
pub fn peek<T: Copy>(address: u64) -> T {
    unsafe { core::ptr::with_exposed_provenance::<T>(address as usize).read_volatile() }
}

/// Writes memory once, with an access of the type's size.
pub fn poke<T: Copy>(address: u64, value: T) {
    unsafe { core::ptr::with_exposed_provenance_mut::<T>(address as usize).write_volatile(value) };
}
