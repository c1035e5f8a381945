//! The VMX controls: what is wanted, what is required, and what the processor allows.

#[cfg(test)]
pub mod tests;

use crate::capabilities::Capabilities;
use crate::control_bits::{
    EntryControls, ExitControls, PinControls, PrimaryControls, SecondaryControls,
};
use devices::local_apic::Interface;
use vmm_core::backend::{Unsupported, Withheld};

/// How one control is to be set.
#[derive(Clone, Copy, Debug)]
enum Wish {
    /// It must be on; otherwise the text says what is missing.
    On(&'static str),
    /// It must be off; otherwise the text says what is in the way.
    Off(&'static str),
    /// It is on if the processor has it.
    IfThere,
}

use Wish::{IfThere, Off, On};

/// A requirement that names itself.
macro_rules! lacks {
    ($name:literal) => {
        concat!("this CPU's VT-x lacks ", $name, ", which Bulkhead needs")
    };
}

macro_rules! forces {
    ($name:literal) => {
        concat!(
            "this CPU's VT-x cannot run guests without ",
            $name,
            ", which Bulkhead cannot answer"
        )
    };
}

const PIN: &[(PinControls, Wish)] = &[
    (PinControls::EXTERNAL_INTERRUPT, On(lacks!("external-interrupt exiting"))),
    (PinControls::NMI, On(lacks!("NMI exiting"))),
    (PinControls::VIRTUAL_NMIS, On(lacks!("virtual NMIs"))),
    (PinControls::PREEMPTION_TIMER, IfThere),
    (PinControls::POSTED_INTERRUPTS, IfThere),
];

const PRIMARY: &[(PrimaryControls, Wish)] = &[
    (PrimaryControls::SECONDARY, On(lacks!("secondary controls (and with them EPT)"))),
    (PrimaryControls::INTERRUPT_WINDOW, Off(forces!("interrupt-window exits"))),
    (PrimaryControls::NMI_WINDOW, Off(forces!("NMI-window exits"))),
    (PrimaryControls::TSC_OFFSETTING, On(lacks!("TSC offsetting"))),
    (PrimaryControls::HLT, On(lacks!("HLT exiting"))),
    (PrimaryControls::MWAIT, On(lacks!("MWAIT exiting"))),
    (PrimaryControls::MONITOR, On(lacks!("MONITOR exiting"))),
    (PrimaryControls::RDPMC, On(lacks!("RDPMC exiting"))),
    (PrimaryControls::UNCONDITIONAL_IO, On(lacks!("unconditional I/O exiting"))),
    (PrimaryControls::MSR_BITMAPS, On(lacks!("MSR bitmaps"))),
    (PrimaryControls::TPR_SHADOW, IfThere),
    (PrimaryControls::CR3_LOAD, Off(forces!("exits at MOV to CR3"))),
    (PrimaryControls::CR3_STORE, Off(forces!("exits at MOV from CR3"))),
    (PrimaryControls::INVLPG, Off(forces!("exits at INVLPG"))),
    (PrimaryControls::RDTSC, Off(forces!("exits at RDTSC"))),
    (PrimaryControls::MOV_DR, Off(forces!("exits at MOV DR"))),
    (PrimaryControls::PAUSE, Off(forces!("exits at PAUSE"))),
    (PrimaryControls::MONITOR_TRAP, Off(forces!("the monitor trap flag"))),
    (PrimaryControls::IO_BITMAPS, Off(forces!("I/O bitmaps"))),
];

/// Switched on for a step, and while the guest leaves its debug registers alone.
const PRIMARY_AT_TIMES: &[(PrimaryControls, Wish)] =
    &[(PrimaryControls::MONITOR_TRAP, IfThere), (PrimaryControls::MOV_DR, IfThere)];

/// Without a TPR shadow, accesses to CR8 exit instead.
const NO_TPR_SHADOW: &[(PrimaryControls, Wish)] = &[
    (PrimaryControls::CR8_LOAD, On(lacks!("both a TPR shadow and exits at MOV to CR8"))),
    (PrimaryControls::CR8_STORE, On(lacks!("both a TPR shadow and exits at MOV from CR8"))),
];

const SECONDARY: &[(SecondaryControls, Wish)] = &[
    (SecondaryControls::EPT, On(lacks!("extended page tables (EPT)"))),
    (
        SecondaryControls::UNRESTRICTED_GUEST,
        On(lacks!(
            "unrestricted guest (Westmere, the first Core i5 of 32 nm, was the first to have it)"
        )),
    ),
    (SecondaryControls::DESCRIPTOR_TABLES, Off(forces!("exits at accesses to descriptor tables"))),
    (SecondaryControls::VPID, IfThere),
    (SecondaryControls::WBINVD, IfThere),
    (SecondaryControls::RDTSCP, IfThere),
    (SecondaryControls::INVPCID, IfThere),
    (SecondaryControls::XSAVES, IfThere),
    (SecondaryControls::APIC_REGISTERS, IfThere),
    (SecondaryControls::VIRTUAL_INTERRUPTS, IfThere),
    (SecondaryControls::PAUSE_LOOP, IfThere),
    (SecondaryControls::PAGE_LOG, IfThere),
];

/// Switched on as the guest switches its local APIC's interface, and while somebody who debugs it
/// asks for it.
const SECONDARY_AT_TIMES: &[(SecondaryControls, Wish)] = &[
    (SecondaryControls::APIC_ACCESSES, IfThere),
    (SecondaryControls::X2APIC, IfThere),
    (SecondaryControls::DESCRIPTOR_TABLES, IfThere),
];

const EXIT: &[(ExitControls, Wish)] = &[
    (ExitControls::HOST_64_BIT, On(lacks!("64-bit hosts"))),
    (ExitControls::SAVE_DEBUG, On(lacks!("saving of debug controls at exits"))),
    (ExitControls::SAVE_PAT, On(lacks!("saving of the PAT at exits"))),
    (ExitControls::LOAD_PAT, On(lacks!("loading of the PAT at exits"))),
    (ExitControls::SAVE_EFER, On(lacks!("saving of EFER at exits"))),
    (ExitControls::LOAD_EFER, On(lacks!("loading of EFER at exits"))),
    (ExitControls::SAVE_PREEMPTION_TIMER, IfThere),
    (ExitControls::ACKNOWLEDGE_INTERRUPT, IfThere),
];

const ENTRY: &[(EntryControls, Wish)] = &[
    (EntryControls::LOAD_DEBUG, On(lacks!("loading of debug controls at entries"))),
    (EntryControls::LOAD_PAT, On(lacks!("loading of the PAT at entries"))),
    (EntryControls::LOAD_EFER, On(lacks!("loading of EFER at entries"))),
    (EntryControls::GUEST_64_BIT, Off(forces!("64-bit mode at entries"))),
];

/// The control words of a virtual CPU that was just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controls {
    pub pin: PinControls,
    pub primary: PrimaryControls,
    /// Those that may be added to `primary`.
    pub primary_at_times: PrimaryControls,
    pub secondary: SecondaryControls,
    /// Those that may be added to `secondary`.
    pub secondary_at_times: SecondaryControls,
    pub exit: ExitControls,
    pub entry: EntryControls,
}

/// One control word: what must be 1 and what is wished, as far as the capability allows. `value` is
/// what earlier tables asked for.
fn word<B>(capability: u64, value: u32, table: &[(B, Wish)]) -> Result<u32, Unsupported>
where
    B: bitflags::Flags<Bits = u32> + Copy,
{
    let (must_be_one, may_be_one) = (capability as u32, (capability >> 32) as u32);
    let mut value = value | must_be_one;
    for &(control, wish) in table {
        let bit = control.bits();
        match wish {
            On(missing) if may_be_one & bit == 0 => return Err(Unsupported(missing)),
            Off(in_the_way) if must_be_one & bit != 0 => return Err(Unsupported(in_the_way)),
            IfThere if may_be_one & bit == 0 => {}
            Off(_) => {}
            On(_) | IfThere => value |= bit,
        }
    }
    Ok(value)
}

impl Controls {
    /// The controls that this processor's capabilities make of the wishes.
    ///
    /// # Errors
    /// [`Unsupported`] names what is missing.
    pub fn new(capabilities: &Capabilities) -> Result<Self, Unsupported> {
        let mut primary = word(capabilities.primary, 0, PRIMARY)?;
        if !PrimaryControls::from_bits_retain(primary).contains(PrimaryControls::TPR_SHADOW) {
            primary = word(capabilities.primary, primary, NO_TPR_SHADOW)?;
        }
        let primary_at_times = word(capabilities.primary, 0, PRIMARY_AT_TIMES)? & !primary;
        let secondary = word(capabilities.secondary, 0, SECONDARY)?;
        let secondary_at_times = word(capabilities.secondary, 0, SECONDARY_AT_TIMES)? & !secondary;
        let controls = Self {
            pin: PinControls::from_bits_retain(word(capabilities.pin, 0, PIN)?),
            primary: PrimaryControls::from_bits_retain(primary),
            primary_at_times: PrimaryControls::from_bits_retain(primary_at_times),
            secondary: SecondaryControls::from_bits_retain(secondary),
            secondary_at_times: SecondaryControls::from_bits_retain(secondary_at_times),
            exit: ExitControls::from_bits_retain(word(capabilities.exit, 0, EXIT)?),
            entry: EntryControls::from_bits_retain(word(capabilities.entry, 0, ENTRY)?),
        };
        let ept = capabilities.ept_vpid;
        if !ept.four_levels() {
            return Err(Unsupported(lacks!("four levels of EPT")));
        }
        if !ept.write_back_tables() {
            return Err(Unsupported(lacks!("EPT tables in write-back memory")));
        }
        if !ept.invept() || !(ept.invept_single() || ept.invept_all()) {
            return Err(Unsupported(lacks!("INVEPT")));
        }
        Ok(controls
            .without_useless_vpid(ept)
            .without_useless_timer()
            .without_useless_log(ept)
            .without_useless_apic()
            .without_useless_posting())
    }

    /// VPIDs are used only if what is cached under them can be dropped.
    fn without_useless_vpid(mut self, ept: crate::spec::EptVpidCapabilities) -> Self {
        if !ept.invvpid() || !(ept.invvpid_single() || ept.invvpid_all()) {
            self.secondary.remove(SecondaryControls::VPID);
        }
        self
    }

    /// The preemption timer is used only if it goes on where it stopped: one that starts anew at
    /// each entry never expires in a guest that often exits.
    fn without_useless_timer(mut self) -> Self {
        let usable = self.pin.contains(PinControls::PREEMPTION_TIMER)
            && self.exit.contains(ExitControls::SAVE_PREEMPTION_TIMER);
        self.pin.set(PinControls::PREEMPTION_TIMER, usable);
        self.exit.set(ExitControls::SAVE_PREEMPTION_TIMER, usable);
        self
    }

    /// The processor logs a page when it sets its dirty flag.
    fn without_useless_log(mut self, ept: crate::spec::EptVpidCapabilities) -> Self {
        if !ept.accessed_dirty() {
            self.secondary.remove(SecondaryControls::PAGE_LOG);
        }
        self
    }

    /// A local APIC in hardware needs the TPR shadow (27.2.1.1).
    fn without_useless_apic(mut self) -> Self {
        if self.has_tpr_shadow() {
            return self;
        }
        self.secondary_at_times
            .remove(SecondaryControls::APIC_ACCESSES | SecondaryControls::X2APIC);
        self.with_emulated_apic()
    }

    /// Posted interrupts need virtual-interrupt delivery, and the host's interrupts acknowledged at
    /// exits (27.2.1.1), for which nothing else asks.
    fn without_useless_posting(mut self) -> Self {
        let usable = self.pin.contains(PinControls::POSTED_INTERRUPTS)
            && self.exit.contains(ExitControls::ACKNOWLEDGE_INTERRUPT)
            && self.has_virtual_interrupts();
        self.pin.set(PinControls::POSTED_INTERRUPTS, usable);
        self.exit.set(ExitControls::ACKNOWLEDGE_INTERRUPT, usable);
        self
    }

    /// The processor keeps no registers of the local APIC but the task priority, and delivers none
    /// of its interrupts.
    pub fn with_emulated_apic(mut self) -> Self {
        self.secondary
            .remove(SecondaryControls::APIC_REGISTERS | SecondaryControls::VIRTUAL_INTERRUPTS);
        self.without_useless_posting()
    }

    /// The secondary controls that are added while the guest reaches its local APIC by
    /// `interface`.
    pub const fn apic_interface(&self, interface: Interface) -> SecondaryControls {
        let wanted = match interface {
            Interface::None => SecondaryControls::empty(),
            Interface::Memory(_) => SecondaryControls::APIC_ACCESSES,
            Interface::Msrs => SecondaryControls::X2APIC,
        };
        self.secondary_at_times.intersection(wanted)
    }

    /// Accesses to registers of descriptors can exit.
    pub const fn may_watch_descriptors(&self) -> bool {
        self.secondary_at_times.contains(SecondaryControls::DESCRIPTOR_TABLES)
    }

    /// The processor takes and ends interrupts in the register page.
    pub const fn has_virtual_interrupts(&self) -> bool {
        self.secondary.contains(SecondaryControls::VIRTUAL_INTERRUPTS)
    }

    /// The processor takes interrupts that others post while the guest runs, and acknowledges the
    /// host's at exits.
    pub const fn has_posted_interrupts(&self) -> bool {
        self.pin.contains(PinControls::POSTED_INTERRUPTS)
    }

    /// The processor reads registers from the register page, and writes them there.
    pub const fn has_apic_registers(&self) -> bool {
        self.secondary.contains(SecondaryControls::APIC_REGISTERS)
    }

    /// An exit comes when the guest spins with PAUSE.
    pub const fn has_pause_loop(&self) -> bool {
        self.secondary.contains(SecondaryControls::PAUSE_LOOP)
    }

    /// Accesses to debug registers can exit.
    pub const fn may_watch_debug_registers(&self) -> bool {
        self.primary_at_times.contains(PrimaryControls::MOV_DR)
    }

    /// The processor can stop behind an instruction.
    pub const fn has_monitor_trap(&self) -> bool {
        self.primary_at_times.contains(PrimaryControls::MONITOR_TRAP)
    }

    /// The processor logs the pages whose dirty flags it sets.
    pub const fn has_page_log(&self) -> bool {
        self.secondary.contains(SecondaryControls::PAGE_LOG)
    }

    /// An exit comes after some time whatever the guest does.
    pub const fn has_preemption_timer(&self) -> bool {
        self.pin.contains(PinControls::PREEMPTION_TIMER)
    }

    /// MOV to and from CR8 reach the TPR without an exit.
    pub const fn has_tpr_shadow(&self) -> bool {
        self.primary.contains(PrimaryControls::TPR_SHADOW)
    }

    /// The guest has XSAVES and XRSTORS.
    pub const fn has_xsaves(&self) -> bool {
        self.secondary.contains(SecondaryControls::XSAVES)
    }

    /// Instructions whose control is off: they raise #UD in guests.
    pub const fn withheld(&self) -> Withheld {
        Withheld {
            rdtscp: !self.secondary.contains(SecondaryControls::RDTSCP),
            invpcid: !self.secondary.contains(SecondaryControls::INVPCID),
            xsaves: !self.has_xsaves(),
        }
    }

    /// Translations are kept apart by VPID.
    pub const fn has_vpid(&self) -> bool {
        self.secondary.contains(SecondaryControls::VPID)
    }
}
