//! The local APIC in hardware (SDM volume 3, chapter 30).

use super::{BeforeEntry, Vmx};
use crate::control_bits::SecondaryControls;
use crate::field::Field;
use crate::msr_bitmap::MsrBitmaps;
use crate::spec::InterruptStatus;
use devices::local_apic::{Interface, Vectors};

/// The vectors whose end exits, 64 each.
const EOI_EXIT: [Field; 4] = [Field::EoiExit0, Field::EoiExit1, Field::EoiExit2, Field::EoiExit3];

impl Vmx {
    /// See [`vmm_core::backend::Backend::set_apic_interface`].
    pub(super) fn apply_apic_interface(&mut self, interface: Interface) -> bool {
        let controls = self.features.controls;
        let used = controls.apic_interface(interface);
        let by_msrs = used.contains(SecondaryControls::X2APIC);
        let bitmaps = MsrBitmaps::get();
        let bitmap =
            match (by_msrs, controls.has_apic_registers() && controls.has_virtual_interrupts()) {
                (false, _) => &bitmaps.usual,
                (true, false) => &bitmaps.x2apic_tpr,
                (true, true) => &bitmaps.x2apic,
            };
        let in_memory = used.contains(SecondaryControls::APIC_ACCESSES);
        if in_memory {
            self.vmcs.write(Field::ApicAccessPage, self.apic_access_hpa);
        }
        self.vmcs
            .write(Field::MsrBitmap, self.platform.hpa_of(core::ptr::from_ref(bitmap) as usize));
        self.set_secondary(SecondaryControls::X2APIC, by_msrs);
        self.set_secondary(SecondaryControls::APIC_ACCESSES, in_memory);
        // Cached translations may remember the access page (30.4.5).
        self.before_entry |= BeforeEntry::FLUSH_NESTED | BeforeEntry::FLUSH_GUEST;
        in_memory
    }

    /// Tells the processor the highest vectors of the register page, and whose end exits: that of
    /// the level-triggered ones, and of those that are awaited.
    pub(super) fn apply_vectors(&mut self) {
        let status = InterruptStatus::new()
            .with_requested(self.apic_page.highest(Vectors::Requested).unwrap_or(0))
            .with_in_service(self.apic_page.highest(Vectors::InService).unwrap_or(0));
        self.vmcs.write(Field::GuestInterruptStatus, status.into_bits().into());
        for (field, word) in EOI_EXIT.into_iter().zip((0..).step_by(2)) {
            let [low, high] = [word, word + 1]
                .map(|word| u64::from(self.apic_page.vectors(Vectors::Level, word)));
            let awaited =
                self.awaited_ends.iter().flatten().filter(|&&vector| vector / 32 / 2 == word / 2);
            let awaited = awaited.fold(0, |all, vector| all | 1u64 << (vector % 64));
            self.vmcs.write(field, high << 32 | low | awaited);
        }
    }
}
