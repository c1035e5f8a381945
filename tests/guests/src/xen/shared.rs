//! Pages that the platform shares with the guest: where they are put, and the shared info's layout.

use super::bytes::Bytes;
use super::mode::{Mode, op};
use super::{DOMAIN_SELF, PAGE_BYTES, number};
use crate::cpu::{peek, poke};

/// Spaces of [`add_to_physmap`] (memory.h).
pub const SPACE_SHARED_INFO: u32 = 0;
/// See [`SPACE_SHARED_INFO`].
pub const SPACE_GRANT_TABLE: u32 = 1;

/// Where topics put the shared info, unless they are about that.
pub const SHARED_INFO: u64 = 0x21_0000;
/// The first frame of the grant table; others may follow.
pub const GRANTS: u64 = 0x22_0000;

/// Of `memory_op`.
pub const ADD_TO_PHYSMAP: u64 = 7;
/// See [`ADD_TO_PHYSMAP`].
pub const REMOVE_FROM_PHYSMAP: u64 = 15;

/// `xen_add_to_physmap` of code of `mode`.
pub fn place(mode: Mode, domain: u16, space: u32, index: u64, gfn: u64) -> Bytes {
    Bytes::new().u16(domain).u16(0).u32(space).long(mode, index).long(mode, gfn)
}

/// Puts a page at an address.
pub fn add_to_physmap(space: u32, index: u64, gpa: u64) -> i64 {
    let place = place(Mode::Bits64, DOMAIN_SELF, space, index, gpa / PAGE_BYTES);
    op(number::MEMORY_OP, ADD_TO_PHYSMAP, place)
}

/// Takes away what is at an address.
pub fn remove_from_physmap(gpa: u64) -> i64 {
    let place = Bytes::new().u16(DOMAIN_SELF).u64(gpa / PAGE_BYTES);
    op(number::MEMORY_OP, REMOVE_FROM_PHYSMAP, place)
}

/// The layout of shared structures: the width that the guest has latched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Layout {
    pub long_bytes: u64,
    pub mask: u64,
    pub wall_clock: u64,
    pub wall_clock_high: u64,
}

/// Of 64-bit code.
pub const LAYOUT_64: Layout =
    Layout { long_bytes: 8, mask: 2560, wall_clock: 3072, wall_clock_high: 3084 };
/// Of all other code.
pub const LAYOUT_32: Layout =
    Layout { long_bytes: 4, mask: 2176, wall_clock: 2304, wall_clock_high: 2340 };

/// The bits of pending ports, in both layouts.
pub const PENDING: u64 = 2048;
/// In a `vcpu_info`.
pub const UPCALL_PENDING: u64 = 0;
/// The time, in a `vcpu_info`.
pub const TIME: u64 = 32;
/// Bytes of a `vcpu_info`.
pub const VCPU_INFO_BYTES: u64 = 64;

/// Whether bit `bit` is set, counted from `address` on.
pub fn bit(address: u64, bit: u32) -> bool {
    peek::<u8>(address + u64::from(bit / 8)) >> (bit % 8) & 1 != 0
}

/// Sets a bit by a locked instruction.
pub fn set_bit(address: u64, bit: u32) {
    byte(address, bit).fetch_or(1 << (bit % 8), core::sync::atomic::Ordering::SeqCst);
}

/// Clears a bit by a locked instruction, and says whether it was set.
pub fn clear_bit(address: u64, bit: u32) -> bool {
    let mask = 1 << (bit % 8);
    byte(address, bit).fetch_and(!mask, core::sync::atomic::Ordering::SeqCst) & mask != 0
}

fn byte(address: u64, bit: u32) -> &'static core::sync::atomic::AtomicU8 {
    let address = address as usize + bit as usize / 8;
    // SAFETY: shared pages are never given to Rust as memory of its own; the platform changes the
    // byte by locked instructions as well.
    unsafe {
        core::sync::atomic::AtomicU8::from_ptr(core::ptr::with_exposed_provenance_mut(address))
    }
}

/// A time as the platform shows it: `vcpu_time_info`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Time {
    pub version: u32,
    pub tsc: u64,
    pub system_ns: u64,
    pub mul: u32,
    pub shift: i8,
    pub flags: u8,
}

/// In [`Time`]'s flags: the same on every virtual CPU.
pub const TSC_STABLE: u8 = 1;

impl Time {
    /// The time at `address`, once it is not being written.
    pub fn read(address: u64) -> Self {
        loop {
            let time = Self {
                version: peek(address),
                tsc: peek(address + 8),
                system_ns: peek(address + 16),
                mul: peek(address + 24),
                shift: peek(address + 28),
                flags: peek(address + 29),
            };
            if time.version & 1 == 0 && time.version == peek::<u32>(address) {
                return time;
            }
        }
    }

    /// Nanoseconds at `tsc`.
    pub fn at(&self, tsc: u64) -> u64 {
        let ticks = tsc.wrapping_sub(self.tsc);
        let ticks = match self.shift {
            0.. => ticks << self.shift,
            _ => ticks >> -self.shift,
        };
        self.system_ns + ((u128::from(ticks) * u128::from(self.mul)) >> 32) as u64
    }
}

/// Fills a page with zeroes.
pub fn clear_page(gpa: u64) {
    for word in 0..PAGE_BYTES / 8 {
        poke(gpa + word * 8, 0u64);
    }
}
