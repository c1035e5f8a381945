//! The two sides between which the platform stands: the virtual machine that it is part of, and the
//! virtual CPU that makes a hypercall.

use crate::width::Width;
use alloc::vec::Vec;
use core::ops::Range;
use devices::memory::GuestMemory;
use devices::time::GuestTime;

/// A pointer of the guest's leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPointer;

/// Pages that are given back in one go, at the most: those of the largest extent.
pub const MAX_PAGES_A_GO: usize = 512;

/// Why a guest ends itself (sched.h, `SHUTDOWN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// Turned off.
    PowerOff,
    /// To be started anew.
    Reboot,
    /// It met what it cannot go on from.
    Crash,
    /// Its watchdog was not set anew in time.
    Watchdog,
}

/// A range of guest-physical addresses that shows pages of the platform's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownPages {
    /// The first address.
    pub gpa: u64,
    /// The first page.
    pub first_page: usize,
    /// How many pages.
    pub count: usize,
}

/// The virtual machine, as the platform needs it. Each call may come from any CPU, also while the
/// platform's own locks are held.
pub trait Machine: Send + Sync {
    /// Guest-physical memory.
    fn memory(&self) -> &dyn GuestMemory;
    /// The platform's own pages: addresses are offsets in them.
    fn pages(&self) -> &dyn GuestMemory;
    /// The guest's RAM has a page at this address, which the guest can write to.
    fn is_ram(&self, gpa: u64) -> bool;
    /// The platform's pages can be shown at this address: neither RAM nor a device is there.
    fn is_free(&self, gpa: u64) -> bool;
    /// Shows the platform's pages at these addresses, and nowhere else.
    fn show(&self, pages: &[ShownPages]);
    /// Pages of RAM that the guest has.
    fn ram_pages(&self) -> u64;
    /// The pages of RAM that the guest can have, by the addresses at which they are.
    fn ram_ranges(&self) -> Vec<Range<u64>>;
    /// Gives the RAM at these page numbers, at most [`MAX_PAGES_A_GO`], back to the host, and
    /// leaves holes. Returns how many, from the first on: it stops where no RAM is. `None`, and
    /// nothing is done, if the guest has to come again for it.
    fn give_back(&self, gfns: &[u64]) -> Option<usize>;
    /// Puts pages of zeroes into the holes at these page numbers. Returns how many, from the first
    /// on: it stops where there is no hole, when the guest has `most` pages, and when the host has
    /// no memory.
    fn take_again(&self, gfns: &[u64], most: u64) -> usize;
    /// The last page of RAM.
    fn last_ram_page(&self) -> u64;
    /// Guest time now.
    fn now(&self) -> GuestTime;
    /// Virtual CPU `vcpu` is to be told at this moment of guest time.
    fn set_timer(&self, vcpu: usize, at: Option<GuestTime>);
    /// An edge interrupt into the local APIC of virtual CPU `vcpu`, which keeps it while it is
    /// disabled by software.
    fn interrupt(&self, vcpu: usize, vector: u8);
    /// Virtual CPU `vcpu` is to look for events before it runs on, and wakes for it.
    fn look_for_events(&self, vcpu: usize);
    /// The back ends are to work by the clock in so many nanoseconds, or before if that was asked
    /// for already.
    fn work_in(&self, delay_ns: u64);
    /// The level of the line that tells of events.
    fn set_line(&self, line: EventLine, high: bool);
    /// Ends the guest.
    fn shut_down(&self, reason: ShutdownReason);
}

/// The line that tells of events (`HVM_PARAM_CALLBACK_IRQ`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLine {
    /// A global system interrupt.
    Gsi(u8),
    /// INTA to INTD (0 to 3) of a PCI device.
    Pci {
        /// 0 to 31.
        device: u8,
        /// 0 to 3.
        pin: u8,
    },
}

/// The virtual CPU that makes a hypercall.
pub trait Caller {
    /// Its number.
    fn vcpu(&self) -> usize;
    /// The mode of its code.
    fn width(&self) -> Width;
    /// Copies from a linear address, as its page tables have it.
    ///
    /// # Errors
    /// [`BadPointer`].
    fn read(&self, linear: u64, data: &mut [u8]) -> Result<(), BadPointer>;
    /// Copies to a linear address.
    ///
    /// # Errors
    /// [`BadPointer`]; a part may have been written.
    fn write(&mut self, linear: u64, data: &[u8]) -> Result<(), BadPointer>;
}
