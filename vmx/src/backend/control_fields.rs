//! The fields that control what exits, when and for how long.

use super::{BeforeEntry, Vmx};
use crate::control_bits::{PrimaryControls, SecondaryControls};
use crate::events::{self, Window};
use crate::field::Field;
use crate::host_state;
use crate::page_log::PageLog;
use alloc::sync::Arc;
use devices::local_apic::Interface;
use vmm_core::backend::PAUSE_GAP_TICKS;
use vmm_core::backend::exit::INTERCEPTED_EXCEPTIONS;

/// No shadow VMCS.
const NO_LINK: u64 = u64::MAX;
/// Host interrupts wait no longer than this for a guest that runs. Rare enough to cost nothing.
const LONGEST_RUN_MS: u64 = 4;
/// So long a guest spins with PAUSE before it exits: longer than it waits for itself.
const LONGEST_SPIN_MS: u64 = 1;

impl Vmx {
    pub(super) fn set_up_controls(&mut self) {
        let controls = self.features.controls;
        let fields = [
            (Field::PinControls, controls.pin.bits().into()),
            (Field::PrimaryControls, controls.primary.bits().into()),
            (Field::SecondaryControls, controls.secondary.bits().into()),
            (Field::ExitControls, controls.exit.bits().into()),
            (Field::EntryControls, controls.entry.bits().into()),
            (Field::ExceptionBitmap, INTERCEPTED_EXCEPTIONS.into()),
            (Field::PageFaultMask, 0),
            (Field::PageFaultMatch, 0),
            (Field::Cr3TargetCount, 0),
            (Field::ExitMsrStoreCount, 0),
            (Field::EptPointer, self.ept_pointer),
            (Field::LinkPointer, NO_LINK),
            (Field::TscOffset, 0),
            (Field::GuestDebugCtl, 0),
            (Field::Cr0Mask, self.features.cr0.mask),
            (Field::Cr4Mask, self.features.cr4.mask),
        ];
        for (field, value) in fields {
            self.vmcs.write(field, value);
        }
        let [entry_list, exit_list] = self.msr_lists.addresses();
        self.vmcs.write(Field::EntryMsrLoadAddress, self.platform.hpa_of(entry_list));
        self.vmcs.write(Field::ExitMsrLoadAddress, self.platform.hpa_of(exit_list));
        self.apply_spec_ctrl();
        if controls.has_tpr_shadow() {
            let page_hpa = self.platform.hpa_of(Arc::as_ptr(&self.apic_page) as usize);
            self.vmcs.write(Field::VirtualApicPage, page_hpa);
            self.vmcs.write(Field::TprThreshold, 0);
        }
        if controls.has_posted_interrupts() {
            let descriptor_hpa = self.platform.hpa_of(self.apic_inbox.descriptor_address());
            self.vmcs.write(Field::PostedDescriptor, descriptor_hpa);
            self.vmcs.write(Field::PostedVector, self.platform.notification_vector().into());
        }
        if controls.has_pause_loop() {
            let window_ticks = self.platform.tsc_hz() * LONGEST_SPIN_MS / 1000;
            self.vmcs.write(Field::PauseLoopGap, PAUSE_GAP_TICKS.into());
            self.vmcs.write(Field::PauseLoopWindow, window_ticks.min(u32::MAX.into()));
        }
        if let Some(log) = &self.page_log {
            self.vmcs.write(Field::PageLogAddress, log.hpa());
            self.vmcs.write(Field::GuestPageLogIndex, PageLog::EMPTY.into());
        }
        if controls.has_xsaves() {
            self.vmcs.write(Field::XssExiting, 0);
        }
        self.apply_apic_interface(Interface::None);
    }

    /// The processor switches the guest's IA32_SPEC_CTRL.
    pub(super) fn apply_spec_ctrl(&mut self) {
        let [entries, exits] = self.msr_lists.fill(&self.defences, self.spec_ctrl);
        self.vmcs.write(Field::EntryMsrLoadCount, entries as u64);
        self.vmcs.write(Field::ExitMsrLoadCount, exits as u64);
    }

    /// Writes what is of the CPU that it has been loaded on.
    pub(super) fn follow_cpu(&mut self) {
        if self.features.controls.has_vpid() {
            self.vmcs.write(Field::Vpid, self.vpid.number().into());
        }
        // SAFETY: this is the CPU that runs the guest until `unload`, and the hypervisor's tables
        // and bases stay as they are.
        unsafe { host_state::write(&mut self.vmcs, self.switch.exit_rip()) };
    }

    pub(super) fn set_primary(&mut self, control: PrimaryControls, on: bool) {
        let mut controls =
            PrimaryControls::from_bits_retain(self.vmcs.read(Field::PrimaryControls) as u32);
        controls.set(control, on);
        self.vmcs.write(Field::PrimaryControls, controls.bits().into());
    }

    pub(super) fn set_secondary(&mut self, control: SecondaryControls, on: bool) {
        let field = Field::SecondaryControls;
        let mut controls = SecondaryControls::from_bits_retain(self.vmcs.read(field) as u32);
        controls.set(control, on);
        self.vmcs.write(field, controls.bits().into());
    }

    pub(super) fn apply_window(&mut self) {
        // A processor that delivers the local APIC's interrupts has no exit for the task priority,
        // which holds no others.
        let by_processor = self.features.controls.has_virtual_interrupts();
        let priority_class = if by_processor { 0 } else { self.apic_page.tpr() >> 4 };
        let Window { exiting, tpr_threshold } = events::window(self.wanted, priority_class);
        let nmi_waits = core::mem::take(&mut self.nmi_in_shadow);
        self.set_primary(PrimaryControls::INTERRUPT_WINDOW, exiting || nmi_waits);
        if nmi_waits {
            // For this entry only: the shared code knows of no window for an NMI.
            self.before_entry |= BeforeEntry::WINDOW;
        }
        if self.features.controls.has_tpr_shadow() {
            self.tpr_threshold = tpr_threshold;
            self.vmcs.write(Field::TprThreshold, tpr_threshold.into());
        }
    }

    /// However the guest runs, it ends after [`LONGEST_RUN_MS`]. A processor ends it for each
    /// interrupt of the host's anyway; Bochs 3.0 does not if the interrupt was pending at an
    /// entry with the guest's interrupts off.
    pub(super) fn restart_timer(&mut self) {
        if self.features.controls.has_preemption_timer() {
            let ticks = self.platform.tsc_hz() * LONGEST_RUN_MS / 1000;
            let shift = self.features.capabilities.misc.preemption_timer_shift();
            let count = u32::try_from(ticks >> shift).unwrap_or(u32::MAX);
            self.vmcs.write(Field::GuestPreemptionTimer, count.into());
        }
    }
}
