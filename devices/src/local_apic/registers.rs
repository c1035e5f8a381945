//! The registers as the guest reaches them: memory-mapped (xAPIC), by MSR (x2APIC), and
//! IA32_APIC_BASE.

use super::bus::{Destination, Message};
use super::spec::{
    ApicBase, DeliveryMode, Divide, Esr, FIRST_LEGAL_VECTOR, Icr, Lvt, LvtEntry, Shorthand, Svr,
    X2APIC_FIRST_MSR, register,
};
use super::{LintPin, LocalApic};

/// The access raises #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpFault;

/// How the guest reaches the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Not at all: the local APIC is disabled in IA32_APIC_BASE.
    None,
    /// In memory, at this guest-physical address (xAPIC mode).
    Memory(u64),
    /// By MSRs (x2APIC mode).
    Msrs,
}

fn lvt_entry(number: u8) -> Option<LvtEntry> {
    LvtEntry::ALL.get(usize::from(number.checked_sub(register::LVT_TIMER)?)).copied()
}

impl LocalApic {
    /// Reads at byte `offset` of the memory page (xAPIC mode). The four bytes at each multiple of
    /// 16 are a register; an access into the middle of one gives its upper bytes, one between
    /// registers gives 0.
    #[inline]
    pub fn mmio_read(&mut self, offset: u16) -> u32 {
        let within = u32::from(offset % 16);
        if within > 3 {
            return 0;
        }
        let number = (offset >> 4) as u8;
        let value = match number {
            register::APR => self.page.processor_priority().into(),
            register::DFR | register::ICR_HIGH => self.page.get(number),
            // Write-only, and the remote read register, which there is none of since the Pentium 4.
            // Reads are no error: kernels for processors before the Pentium Pro write every
            // register by XCHG.
            register::EOI | register::REMOTE_READ => 0,
            _ => self.read_register(number).unwrap_or_else(|| self.illegal_register()),
        };
        value >> (8 * within)
    }

    /// Writes at byte `offset` of the memory page (xAPIC mode); only multiples of 16 are registers.
    pub fn mmio_write(&mut self, offset: u16, value: u32) {
        if !offset.is_multiple_of(16) {
            return;
        }
        let number = (offset >> 4) as u8;
        match number {
            register::EOI => self.end_of_interrupt(),
            register::ID | register::LDR => {
                self.page.set(number, value & 0xff00_0000);
                self.publish();
            }
            register::DFR => {
                self.page.set(number, value | 0x0fff_ffff);
                self.publish();
            }
            register::ESR => self.latch_errors(),
            register::ICR_LOW => {
                self.page.set(number, value & Icr::WRITABLE_LOW);
                let icr = self.icr();
                self.send_to(
                    Destination::from_u8((icr.destination() >> 24) as u8, icr.logical()),
                    icr,
                );
            }
            register::ICR_HIGH => self.page.set(number, value & 0xff00_0000),
            _ => {
                if !self.write_register(number, value) {
                    self.illegal_register();
                }
            }
        }
    }

    fn illegal_register(&mut self) -> u32 {
        self.report(Esr::new().with_illegal_register(true));
        0
    }

    /// The processor has carried out a write of the guest's to the register at byte `offset` of the
    /// page: what follows from it, and the register as it should be.
    pub fn written(&mut self, offset: u16) {
        let number = (offset >> 4) as u8;
        let value = self.page.get(number);
        if self.is_x2apic() {
            // The processor lets no write pass that faults.
            let _ = self.write_msr(X2APIC_FIRST_MSR + u32::from(number), value.into());
        } else {
            self.mmio_write(offset & !0xf, value);
        }
    }

    fn icr(&self) -> Icr {
        let (low, high) = (self.page.get(register::ICR_LOW), self.page.get(register::ICR_HIGH));
        Icr::from_bits(u64::from(high) << 32 | u64::from(low))
    }

    fn set_icr(&self, icr: Icr) {
        self.page.set(register::ICR_LOW, icr.into_bits() as u32);
        self.page.set(register::ICR_HIGH, icr.destination());
    }

    /// Reads an x2APIC register, MSR 800h to 83fh (SDM table 11-6).
    ///
    /// # Errors
    /// [`GpFault`] outside x2APIC mode, and for registers that are absent or cannot be read.
    pub fn read_msr(&mut self, index: u32) -> Result<u64, GpFault> {
        let number = self.x2apic_register(index)?;
        match number {
            register::ICR_LOW => Ok(self.icr().into_bits()),
            _ => self.read_register(number).map(u64::from).ok_or(GpFault),
        }
    }

    /// Writes an x2APIC register, MSR 800h to 83fh (SDM table 11-6).
    ///
    /// # Errors
    /// [`GpFault`] outside x2APIC mode, for registers that are absent or cannot be written, and for
    /// reserved bits.
    pub fn write_msr(&mut self, index: u32, value: u64) -> Result<(), GpFault> {
        let number = self.x2apic_register(index)?;
        if number == register::ICR_LOW {
            if value & Icr::X2APIC_RESERVED != 0 {
                return Err(GpFault);
            }
            let icr = Icr::from_bits(value);
            self.set_icr(icr);
            self.send_x2apic(icr);
            return Ok(());
        }
        let value = u32::try_from(value).map_err(|_| GpFault)?;
        let reserved = match number {
            register::EOI | register::ESR => u32::MAX,
            register::TPR | register::SELF_IPI => !0xff,
            register::SVR => !0x3ff,
            register::DIVIDE => !0xb,
            register::INITIAL_COUNT => 0,
            // The status bits of an entry are read-only, not reserved.
            _ => lvt_entry(number).map_or(u32::MAX, |entry| !(entry.writable() | 0x1000 | 0x4000)),
        };
        if value & reserved != 0 {
            return Err(GpFault);
        }
        match number {
            register::EOI => self.end_of_interrupt(),
            register::ESR => self.latch_errors(),
            register::SELF_IPI => {
                let icr = Icr::new().with_vector(value as u8).with_shorthand(Shorthand::ToSelf);
                self.send_x2apic(icr);
            }
            _ => return if self.write_register(number, value) { Ok(()) } else { Err(GpFault) },
        }
        Ok(())
    }

    fn x2apic_register(&self, index: u32) -> Result<u8, GpFault> {
        if !self.state.base.x2apic() {
            return Err(GpFault);
        }
        match index.checked_sub(X2APIC_FIRST_MSR) {
            Some(number @ 0..=0x3f) => Ok(number as u8),
            _ => Err(GpFault),
        }
    }

    /// The registers that are the same in both modes.
    fn read_register(&mut self, number: u8) -> Option<u32> {
        match number {
            register::PPR => return Some(self.page.processor_priority().into()),
            register::CURRENT_COUNT => return Some(self.timer.current_count(self.clock.now())),
            register::ISR_FIRST..=register::IRR_LAST => self.collect(),
            register::ID
            | register::VERSION
            | register::TPR
            | register::LDR
            | register::SVR
            | register::ESR
            | register::ICR_LOW
            | register::INITIAL_COUNT
            | register::DIVIDE => {}
            _ => match lvt_entry(number)? {
                LvtEntry::Lint0 => return Some(self.inbox.pin_entry(LintPin::Lint0)),
                LvtEntry::Lint1 => return Some(self.inbox.pin_entry(LintPin::Lint1)),
                _ => {}
            },
        }
        Some(self.page.get(number))
    }

    fn write_register(&mut self, number: u8, value: u32) -> bool {
        match number {
            register::TPR => self.set_tpr(value as u8),
            register::SVR => self.write_svr(Svr::from_bits(value & 0x3ff)),
            register::INITIAL_COUNT => {
                self.change_timer(|timer, now| timer.set_initial_count(value, now));
            }
            register::DIVIDE => {
                let divide = Divide::from_bits(value & 0xb);
                self.change_timer(|timer, now| timer.set_divide(divide, now));
            }
            // Read-only: writes have no effect.
            register::VERSION
            | register::APR
            | register::PPR
            | register::REMOTE_READ
            | register::ISR_FIRST..=register::IRR_LAST
            | register::CURRENT_COUNT => return !self.is_x2apic(),
            _ => {
                let Some(entry) = lvt_entry(number) else { return false };
                self.write_lvt(entry, value);
            }
        }
        true
    }

    fn write_svr(&mut self, svr: Svr) {
        self.page.set(register::SVR, svr.into());
        if !svr.enabled() {
            // SDM 11.4.7.2: all entries are masked, and stay so.
            for entry in LvtEntry::ALL {
                self.page.set(entry.register(), self.lvt(entry).with_masked(true).into());
            }
            self.set_timer_entry(self.lvt(LvtEntry::Timer));
        }
        self.publish();
    }

    fn write_lvt(&mut self, entry: LvtEntry, value: u32) {
        let lvt = Lvt::from_bits(value & entry.writable());
        let lvt = lvt.with_masked(lvt.masked() || !self.svr().enabled());
        self.page.set(entry.register(), lvt.into());
        match entry {
            LvtEntry::Timer => self.set_timer_entry(lvt),
            LvtEntry::Lint0 | LvtEntry::Lint1 => self.configure_pins(),
            _ => {}
        }
    }

    fn set_timer_entry(&self, lvt: Lvt) {
        self.show_timer(&self.timer.set_entry(self.clock.now(), lvt));
    }

    fn latch_errors(&mut self) {
        if self.inbox.take_error() {
            self.state.errors.set_receive_illegal_vector(true);
        }
        self.page.set(register::ESR, self.state.errors.into());
        self.state.errors = Esr::new();
    }

    // Interprocessor interrupts.

    fn send_x2apic(&mut self, icr: Icr) {
        self.send_to(Destination::from_u32(icr.destination(), icr.logical()), icr);
    }

    fn send_to(&mut self, destination: Destination<'_>, icr: Icr) {
        let mode = icr.mode();
        let vectored = matches!(mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
        if vectored && icr.vector() < FIRST_LEGAL_VECTOR {
            self.report(Esr::new().with_send_illegal_vector(true));
            return;
        }
        // INIT level de-assert only synchronised the arbitration IDs of APICs before the Pentium 4.
        if mode == DeliveryMode::Init && icr.level() && !icr.assert() {
            return;
        }
        // Nothing but a fixed interrupt goes to the sender by shorthand (SDM table 11-3).
        let to_sender = matches!(icr.shorthand(), Shorthand::ToSelf | Shorthand::All);
        if to_sender && mode != DeliveryMode::Fixed {
            return;
        }
        let destination = match icr.shorthand() {
            Shorthand::None => destination,
            Shorthand::ToSelf => Destination::Only(&self.inbox),
            Shorthand::All => Destination::All,
            Shorthand::Others => Destination::Others(&self.inbox),
        };
        self.bus.deliver(&Message { destination, mode, vector: icr.vector(), level: false });
    }

    // IA32_APIC_BASE.

    /// IA32_APIC_BASE.
    pub fn apic_base(&self) -> u64 {
        self.state.base.into_bits()
    }

    /// How the guest reaches the registers now.
    #[inline]
    pub fn interface(&self) -> Interface {
        let base = self.state.base;
        match (base.enabled(), base.x2apic()) {
            (false, _) => Interface::None,
            (true, false) => Interface::Memory(base.page() << 12),
            (true, true) => Interface::Msrs,
        }
    }

    /// The guest-physical address of the register page, if there is one: the APIC is enabled and in
    /// xAPIC mode.
    #[inline]
    pub fn mmio_base(&self) -> Option<u64> {
        match self.interface() {
            Interface::Memory(gpa) => Some(gpa),
            Interface::None | Interface::Msrs => None,
        }
    }

    /// True in x2APIC mode.
    pub fn is_x2apic(&self) -> bool {
        self.state.base.x2apic()
    }

    /// Writes IA32_APIC_BASE (SDM 11.12.5). Whether this vCPU is the bootstrap processor does not
    /// change.
    ///
    /// # Errors
    /// [`GpFault`] for reserved bits and for the transitions that hardware refuses: x2APIC without
    /// enable, disabled to x2APIC, x2APIC to xAPIC.
    pub fn set_apic_base(&mut self, value: u64) -> Result<(), GpFault> {
        let old = self.state.base;
        let new = ApicBase::from_bits(value);
        let reserved = new.reserved_low() != 0 || new.reserved_high() != 0 || value & 1 << 9 != 0;
        let illegal = match (new.enabled(), new.x2apic()) {
            (false, x2apic) => x2apic,
            (true, true) => !old.enabled(),
            (true, false) => old.x2apic(),
        };
        if reserved || illegal {
            return Err(GpFault);
        }
        let new = new.with_bootstrap(old.bootstrap());
        match (old.enabled(), new.enabled()) {
            (true, false) => self.start_over(new, self.initial_id),
            (true, true) if new.x2apic() && !old.x2apic() => self.enter_x2apic(new),
            _ => self.state.base = new,
        }
        self.publish();
        Ok(())
    }

    fn enter_x2apic(&mut self, base: ApicBase) {
        // SDM 11.12.5.1: the ID is the initial one again, the ICR loses its upper half, the rest
        // stays.
        self.state.base = base;
        self.set_id(self.initial_id);
        self.page.set(register::ICR_HIGH, 0);
    }
}
