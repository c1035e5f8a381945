//! The parameters of an HVM guest (hvm/params.h): pages and ports of its console and XenStore, and
//! how events are told.

use crate::errno::Errno;
use crate::machine::EventLine;

/// How events are told.
pub const CALLBACK_IRQ: u32 = 0;
/// Page number of XenStore's ring.
pub const STORE_PFN: u32 = 1;
/// Port of XenStore.
pub const STORE_EVTCHN: u32 = 2;
/// Page number of the console's rings.
pub const CONSOLE_PFN: u32 = 17;
/// Port of the console.
pub const CONSOLE_EVTCHN: u32 = 18;

const VM86_TSS: u32 = 15;
const ACPI_IOPORTS_LOCATION: u32 = 19;
const VM_GENERATION_ID_ADDR: u32 = 34;
const ALTP2M: u32 = 35;
const X87_FIP_WIDTH: u32 = 36;
const VM86_TSS_SIZED: u32 = 37;
const COUNT: u32 = 39;
/// Of earlier versions, and gone.
const REMOVED: [u32; 10] = [4, 13, 20, 21, 22, 23, 24, 25, 26, 30];

/// The way by which events are told, for virtual CPUs without a vector of their own
/// (`HVM_PARAM_CALLBACK_IRQ`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Callback {
    /// None.
    #[default]
    None,
    /// A line, while the first virtual CPU has an upcall pending.
    Line(EventLine),
    /// This vector at each virtual CPU, past its local APIC.
    Vector(u8),
}

impl Callback {
    /// As a value of the parameter says.
    pub const fn decode(value: u64) -> Self {
        match value >> 56 {
            // No line may be raised for the number 0, which switches it off.
            0 if value as u8 != 0 => Self::Line(EventLine::Gsi(value as u8)),
            1 => Self::Line(EventLine::Pci {
                device: (value >> 11) as u8 & 31,
                pin: value as u8 & 3,
            }),
            2 => Self::Vector(value as u8),
            _ => Self::None,
        }
    }
}

/// The parameters that a guest has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params {
    /// [`CALLBACK_IRQ`] as it was written.
    pub callback: u64,
    /// [`STORE_PFN`]; none of the console's or XenStore's: 0.
    pub store_gfn: u64,
    /// [`STORE_EVTCHN`].
    pub store_port: u64,
    /// [`CONSOLE_PFN`].
    pub console_gfn: u64,
    /// [`CONSOLE_EVTCHN`].
    pub console_port: u64,
    vm86_tss: u64,
    acpi_ports: u64,
    generation_id_gpa: u64,
    x87_fip_width: u64,
    vm86_tss_sized: u64,
}

impl Params {
    fn checked(index: u32) -> Result<u32, Errno> {
        match index {
            COUNT.. => Err(Errno::Inval),
            _ if REMOVED.contains(&index) => Err(Errno::Inval),
            _ => Ok(index),
        }
    }

    /// The value of a parameter, as the guest may read it.
    ///
    /// # Errors
    /// [`Errno::Inval`] for one that there is not, [`Errno::Perm`] for one that is not the guest's.
    pub fn get(&self, index: u32) -> Result<u64, Errno> {
        Ok(match Self::checked(index)? {
            CALLBACK_IRQ => self.callback,
            STORE_PFN => self.store_gfn,
            STORE_EVTCHN => self.store_port,
            CONSOLE_PFN => self.console_gfn,
            CONSOLE_EVTCHN => self.console_port,
            VM86_TSS => self.vm86_tss,
            ACPI_IOPORTS_LOCATION => self.acpi_ports,
            VM_GENERATION_ID_ADDR => self.generation_id_gpa,
            ALTP2M => 0,
            X87_FIP_WIDTH => self.x87_fip_width,
            VM86_TSS_SIZED => self.vm86_tss_sized,
            _ => return Err(Errno::Perm),
        })
    }

    /// Sets a parameter, as the guest may.
    ///
    /// # Errors
    /// As [`Params::get`], and [`Errno::Inval`] for a value that it cannot have.
    pub fn set(&mut self, index: u32, value: u64) -> Result<(), Errno> {
        let place = match Self::checked(index)? {
            CALLBACK_IRQ => &mut self.callback,
            STORE_EVTCHN => &mut self.store_port,
            CONSOLE_EVTCHN => &mut self.console_port,
            VM86_TSS => &mut self.vm86_tss,
            ACPI_IOPORTS_LOCATION if value <= 1 => &mut self.acpi_ports,
            VM_GENERATION_ID_ADDR => &mut self.generation_id_gpa,
            X87_FIP_WIDTH if matches!(value, 0 | 4 | 8) => &mut self.x87_fip_width,
            ACPI_IOPORTS_LOCATION | X87_FIP_WIDTH => return Err(Errno::Inval),
            VM86_TSS_SIZED => &mut self.vm86_tss_sized,
            _ => return Err(Errno::Perm),
        };
        *place = value;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_is_read_by_its_type() {
        assert_eq!(Callback::decode(0), Callback::None);
        assert_eq!(Callback::decode(1), Callback::Line(EventLine::Gsi(1)));
        assert_eq!(
            Callback::decode(1 << 56 | 3 << 11 | 1),
            Callback::Line(EventLine::Pci { device: 3, pin: 1 })
        );
        assert_eq!(Callback::decode(2 << 56 | 0xf3), Callback::Vector(0xf3));
        assert_eq!(Callback::decode(3 << 56 | 0xf3), Callback::None);
    }

    #[test]
    fn parameters_are_the_guests_own_or_refused_as_xen_does() {
        let mut params = Params { store_gfn: 7, store_port: 1, ..Params::default() };
        assert_eq!(params.get(STORE_PFN), Ok(7));
        assert_eq!(params.set(STORE_PFN, 8), Err(Errno::Perm));
        assert_eq!(params.set(STORE_EVTCHN, 5), Ok(()));
        assert_eq!(params.get(STORE_EVTCHN), Ok(5));
        // Paging of the parent, of a version that is gone, and past the end.
        assert_eq!(params.get(12), Err(Errno::Perm));
        assert_eq!(params.get(4), Err(Errno::Inval));
        assert_eq!(params.get(39), Err(Errno::Inval));
        assert_eq!(params.set(X87_FIP_WIDTH, 3), Err(Errno::Inval));
        assert_eq!(params.set(ACPI_IOPORTS_LOCATION, 1), Ok(()));
    }
}
