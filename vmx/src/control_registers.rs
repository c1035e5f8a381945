//! CR0 and CR4, which guest and host share bit by bit (SDM volume 3, 25.6.6).
//!
//! The guest changes most bits without an exit; the processor itself follows paging on and off,
//! long mode, and the page-directory pointers of PAE. A bit that the host keeps has its guest value
//! in the read shadow. When the guest changes such a bit, the shadow gets the new value, and the
//! instruction runs again: now it needs no exit, and the processor carries it out. A value that it
//! will refuse is refused before ([`emulator::control_registers::Mode`]), since the shadow would
//! have changed already; but for reserved bits of page-directory pointers, which are not read here.

use crate::capabilities::Capabilities;
use emulator::registers::{Cr0, Cr4};

/// Bits of CR0 that an unrestricted guest may clear although VMX operation needs them.
const UNRESTRICTED: Cr0 = Cr0::new().with_protection(true).with_paging(true);

/// Bits of CR4 that are the guest's own where the processor has them. The others it does not see
/// (VMXE), must not set (what CPUID denies), or are kept as the host has them (MCE: a machine check
/// is always the hypervisor's).
const GUEST_CR4: Cr4 = Cr4::new()
    .with_vme(true)
    .with_pvi(true)
    .with_tsd(true)
    .with_de(true)
    .with_pse(true)
    .with_pae(true)
    .with_pge(true)
    .with_pce(true)
    .with_osfxsr(true)
    .with_osxmmexcpt(true)
    .with_umip(true)
    .with_fsgsbase(true)
    .with_pcide(true)
    .with_osxsave(true)
    .with_smep(true)
    .with_smap(true)
    .with_pke(true);

/// A register that guest and host share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRegister {
    /// The bits that the host keeps.
    pub mask: u64,
    /// Those bits as they are while the guest runs.
    pub host_bits: u64,
    /// Bits of the mask that the guest may set, as far as it can see.
    pub pretended: u64,
}

impl SharedRegister {
    /// CR0: NE is always 1 in VMX operation; caches stay on whatever the guest wants, as an exit
    /// would not switch them on again.
    pub const fn cr0(capabilities: &Capabilities) -> Self {
        let required = capabilities.cr0_fixed0 & !UNRESTRICTED.into_bits();
        let caching = Cr0::new().with_cache_disable(true).with_not_write_through(true).into_bits();
        let mask = required | caching;
        Self { mask, host_bits: required, pretended: mask }
    }

    /// CR4.
    pub const fn cr4(capabilities: &Capabilities, host: Cr4) -> Self {
        let own = GUEST_CR4.into_bits() & capabilities.cr4_fixed1 & !capabilities.cr4_fixed0;
        let machine_check = Cr4::new().with_mce(true).into_bits();
        let host_bits = capabilities.cr4_fixed0 | host.into_bits() & machine_check;
        Self { mask: !own, host_bits, pretended: machine_check }
    }

    /// The guest's view of the register and its shadow.
    pub const fn guest_view(self, register: u64, shadow: u64) -> u64 {
        register & !self.mask | shadow & self.mask
    }

    /// The register's value while the guest sees `view`.
    pub const fn register(self, view: u64) -> u64 {
        view & !self.mask | self.host_bits
    }

    /// The shadow for a guest that writes `value`; `None` if that sets a bit that the guest does
    /// not have.
    pub const fn shadow_for(self, value: u64) -> Option<u64> {
        let kept = value & self.mask;
        if kept & !self.pretended == 0 { Some(kept) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::tests::processor;

    #[test]
    fn the_guest_switches_modes_without_an_exit_and_does_not_see_the_hosts_bits() {
        let cr0 = SharedRegister::cr0(&processor("Core i7-5600U"));
        assert_eq!(cr0.mask, 0x6000_0020, "CD, NW, NE");
        assert_eq!(cr0.register(0x6000_0010), 0x30);
        assert_eq!(cr0.guest_view(0x30, 0x6000_0000), 0x6000_0010);
        assert_eq!(cr0.shadow_for(0x8005_003b), Some(0x20));
    }

    #[test]
    fn cr4_hides_vmxe_and_keeps_machine_checks() {
        let cr4 = SharedRegister::cr4(
            &processor("Core i7-5600U"),
            Cr4::new().with_mce(true).with_pae(true),
        );
        assert_eq!(cr4.register(0), 0x2040);
        assert_eq!(cr4.guest_view(0x2040 | 0x20, 0), 0x20);
        assert_eq!(cr4.shadow_for(0x0006_26f8), None, "VMXE");
        assert_eq!(cr4.shadow_for(0x0006_06f8), Some(0x40), "MCE");
        assert_eq!(cr4.shadow_for(1 << 12), None, "LA57");
        assert_eq!(cr4.shadow_for(1 << 40), None);
    }

    #[test]
    fn smap_is_the_guests_only_where_the_processor_has_it() {
        let without = Capabilities { cr4_fixed1: 0x1_67ff, ..processor("Core i5-3570") };
        let cr4 = SharedRegister::cr4(&without, Cr4::new());
        assert_ne!(cr4.mask & 1 << 21, 0);
    }
}
