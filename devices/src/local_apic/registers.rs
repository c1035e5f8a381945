//! The registers as the guest reaches them: memory-mapped (xAPIC), by MSR (x2APIC), and IA32_APIC_BASE.

use super::bus::{Destination, Message};
use super::spec::{
    ApicBase, DeliveryMode, Divide, Esr, FIRST_LEGAL_VECTOR, Icr, Lvt, LvtEntry, Shorthand, Svr, VERSION,
    X2APIC_FIRST_MSR, register,
};
use super::{LocalApic, State};

/// The access raises #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpFault;

fn lvt_entry(number: u8) -> Option<LvtEntry> {
    LvtEntry::ALL.get(usize::from(number.checked_sub(register::LVT_TIMER)?)).copied()
}

impl LocalApic {
    /// Reads at byte `offset` of the memory page (xAPIC mode). The four bytes at each multiple of 16 are a register;
    /// an access into the middle of one gives its upper bytes, one between registers gives 0.
    #[inline]
    pub fn mmio_read(&mut self, offset: u16) -> u32 {
        let within = u32::from(offset % 16);
        if within > 3 {
            return 0;
        }
        let number = (offset >> 4) as u8;
        let value = match number {
            register::ID => self.state.id << 24,
            register::APR => u32::from(self.state.ppr),
            register::LDR => u32::from(self.state.ldr) << 24,
            register::DFR => self.state.dfr,
            register::ICR_HIGH => (self.state.icr.into_bits() >> 32) as u32,
            // Remote read register, not offered since the Pentium 4.
            0x0c => 0,
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
            register::ID => {
                self.state.id = value >> 24;
                self.publish();
            }
            register::LDR => {
                self.state.ldr = (value >> 24) as u8;
                self.publish();
            }
            register::DFR => {
                self.state.dfr = value | 0x0fff_ffff;
                self.publish();
            }
            register::ESR => self.latch_errors(),
            register::ICR_LOW => {
                let destination = self.state.icr.destination();
                let low = u64::from(value & Icr::WRITABLE_LOW);
                self.state.icr = Icr::from_bits(low).with_destination(destination);
                self.send((destination >> 24) as u8, self.state.icr);
            }
            register::ICR_HIGH => self.state.icr.set_destination(value & 0xff00_0000),
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

    /// Reads an x2APIC register, MSR 800h to 83fh (SDM table 11-6).
    ///
    /// # Errors
    /// [`GpFault`] outside x2APIC mode, and for registers that are absent or cannot be read.
    pub fn read_msr(&mut self, index: u32) -> Result<u64, GpFault> {
        let number = self.x2apic_register(index)?;
        match number {
            register::ID => Ok(self.state.id.into()),
            register::LDR => Ok(self.inbox.routing().x2apic_logical_id().into()),
            register::ICR_LOW => Ok(self.state.icr.into_bits()),
            _ => self.read_register(number).map(u64::from).ok_or(GpFault),
        }
    }

    /// Writes an x2APIC register, MSR 800h to 83fh (SDM table 11-6).
    ///
    /// # Errors
    /// [`GpFault`] outside x2APIC mode, for registers that are absent or cannot be written, and for reserved bits.
    pub fn write_msr(&mut self, index: u32, value: u64) -> Result<(), GpFault> {
        let number = self.x2apic_register(index)?;
        if number == register::ICR_LOW {
            if value & Icr::X2APIC_RESERVED != 0 {
                return Err(GpFault);
            }
            self.state.icr = Icr::from_bits(value);
            self.send_x2apic(self.state.icr);
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
        let state = &self.state;
        Some(match number {
            register::VERSION => VERSION,
            register::TPR => state.tpr.into(),
            register::PPR => state.ppr.into(),
            register::SVR => state.svr.into_bits(),
            register::ISR_FIRST..=register::ISR_LAST => {
                state.isr.word(usize::from(number - register::ISR_FIRST))
            }
            register::TMR_FIRST..=register::TMR_LAST => {
                self.inbox.tmr_word(usize::from(number - register::TMR_FIRST))
            }
            register::IRR_FIRST..=register::IRR_LAST => {
                self.inbox.irr_word(usize::from(number - register::IRR_FIRST))
            }
            register::ESR => state.esr.into_bits(),
            register::ICR_LOW => state.icr.into_bits() as u32,
            register::INITIAL_COUNT => state.timer.initial_count(),
            register::CURRENT_COUNT => state.timer.current_count(self.clock.now()),
            register::DIVIDE => state.timer.divide().into_bits(),
            _ => state.lvt(lvt_entry(number)?).into_bits(),
        })
    }

    fn write_register(&mut self, number: u8, value: u32) -> bool {
        match number {
            register::TPR => self.set_tpr(value as u8),
            register::SVR => self.write_svr(Svr::from_bits(value & 0x3ff)),
            register::INITIAL_COUNT => {
                self.change_timer(|state, now| state.timer.set_initial_count(value, now));
            }
            register::DIVIDE => {
                let divide = Divide::from_bits(value & 0xb);
                self.change_timer(|state, now| state.timer.set_divide(divide, now));
            }
            // Read-only: writes have no effect.
            register::VERSION | register::PPR | register::APR | register::CURRENT_COUNT | 0x0c => {
                return !self.state.base.x2apic();
            }
            register::ISR_FIRST..=register::IRR_LAST => return !self.state.base.x2apic(),
            _ => {
                let Some(entry) = lvt_entry(number) else { return false };
                self.write_lvt(entry, value);
            }
        }
        true
    }

    fn write_svr(&mut self, svr: Svr) {
        self.state.svr = svr;
        if !svr.enabled() {
            // SDM 11.4.7.2: all entries are masked, and stay so.
            self.change_timer(|state, _| {
                for lvt in &mut state.lvt {
                    lvt.set_masked(true);
                }
            });
        }
        self.publish();
    }

    fn write_lvt(&mut self, entry: LvtEntry, value: u32) {
        let mut lvt = Lvt::from_bits(value & entry.writable());
        if !self.state.svr.enabled() {
            lvt.set_masked(true);
        }
        if entry != LvtEntry::Timer {
            self.state.lvt[entry as usize] = lvt;
            return;
        }
        self.change_timer(|state, now| {
            state.lvt[LvtEntry::Timer as usize] = lvt;
            state.timer.set_mode(lvt.timer_mode(), now);
        });
    }

    fn latch_errors(&mut self) {
        if self.inbox.take_error() {
            self.state.errors.set_receive_illegal_vector(true);
        }
        self.state.esr = self.state.errors;
        self.state.errors = Esr::new();
    }

    // Interprocessor interrupts.

    fn send(&mut self, destination: u8, icr: Icr) {
        self.send_to(Destination::from_u8(destination, icr.logical()), icr);
    }

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

    /// The guest-physical address of the register page, if there is one: the APIC is enabled and in xAPIC mode.
    pub fn mmio_base(&self) -> Option<u64> {
        let base = self.state.base;
        (base.enabled() && !base.x2apic()).then(|| base.page() << 12)
    }

    /// True in x2APIC mode.
    pub fn is_x2apic(&self) -> bool {
        self.state.base.x2apic()
    }

    /// Writes IA32_APIC_BASE (SDM 11.12.5). Whether this vCPU is the bootstrap processor does not change.
    ///
    /// # Errors
    /// [`GpFault`] for reserved bits and for the transitions that hardware refuses: x2APIC without enable, disabled to
    /// x2APIC, x2APIC to xAPIC.
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
        // SDM 11.12.5.1: the ID is the initial one again, the ICR loses its upper half, the rest stays.
        let icr = self.state.icr.with_destination(0);
        self.state = State { base, id: self.initial_id, icr, ..self.state.clone() };
    }
}
