//! The guest's own page tables, walked in software: what the CPU does between a linear address and
//! a guest-physical one (Intel SDM volume 3, chapter 4; AMD APM volume 2, chapter 5).
//!
//! All modes: no paging, 32-bit with PSE and PSE-36, PAE, 4 and 5 levels; write protection, NX,
//! SMEP, SMAP, protection keys for user pages, reserved bits, accessed and dirty bits. PAE's
//! page-directory pointers are read from memory at each walk, as AMD-V does. Not here: shadow
//! stacks and supervisor protection keys, which the guest's CPUID denies.

pub mod spec;
#[cfg(test)]
mod tests;

use crate::registers::{Cr0, Cr4, Efer, Fault};
use devices::memory::GuestMemory;
use spec::{Entry, ErrorCode};

/// The registers that decide how a linear address is translated.
///
/// ```
/// use devices::memory::{GuestMemory, TestMemory};
/// use emulator::paging::{Access, AccessKind, PagingState, Privilege};
/// use emulator::registers::{Cr0, Cr4, Efer};
///
/// let memory = TestMemory::new(4096);
/// // The first entry of the page directory: a page of 4 MiB at 4 MiB, for supervisors.
/// memory.write(0, &0x40_0083u32.to_le_bytes()).expect("memory");
/// let paging = PagingState {
///     cr0: Cr0::new().with_protection(true).with_paging(true),
///     cr3: 0,
///     cr4: Cr4::new().with_pse(true),
///     efer: Efer::new(),
///     alignment_check: false,
///     pkru: 0,
///     physical_address_bits: 36,
/// };
/// let mut access = Access { kind: AccessKind::Read, privilege: Privilege::Supervisor };
/// let translation = paging.translate(&*memory, 0x123, access).expect("a page");
/// assert_eq!((translation.gpa, translation.page_bytes), (0x40_0123, 4 << 20));
/// access.privilege = Privilege::User;
/// let fault = paging.translate(&*memory, 0x123, access).expect_err("a fault");
/// assert_eq!((fault.error_code, fault.address), (Some(5), Some(0x123)));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PagingState {
    /// CR0.
    pub cr0: Cr0,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: Cr4,
    /// EFER.
    pub efer: Efer,
    /// RFLAGS.AC, which lifts SMAP for explicit accesses.
    pub alignment_check: bool,
    /// PKRU; 0, which forbids nothing, if it is not known.
    pub pkru: u32,
    /// Width of a guest-physical address that CPUID promises (MAXPHYADDR), 32 to 52.
    pub physical_address_bits: u8,
}

/// The operation of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// A data read.
    Read,
    /// A data write, or a read that will be followed by a write.
    Write,
    /// An instruction fetch.
    Execute,
}

/// The privilege with which an access is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// An instruction at CPL 0 to 2.
    Supervisor,
    /// The CPU itself, to a descriptor table or TSS, whatever the CPL: SMAP is not lifted by AC.
    ImplicitSupervisor,
    /// An instruction at CPL 3.
    User,
}

impl Privilege {
    /// That of the instructions at a privilege level.
    pub const fn of_cpl(cpl: u8) -> Self {
        if cpl == 3 { Self::User } else { Self::Supervisor }
    }
}

/// An access to be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The operation.
    pub kind: AccessKind,
    /// The privilege of the accessing code.
    pub privilege: Privilege,
}

/// Where a linear address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The guest-physical address.
    pub gpa: u64,
    /// Size of the page around it; 4 GiB without paging.
    pub page_bytes: u64,
}

/// How often a walk starts again because another CPU changed an entry under it, before it goes on
/// without having set the accessed and dirty bits.
const RETRIES: u32 = 8;

/// Whether a linear address is canonical: all bits above the translated ones equal the highest of
/// them.
pub const fn is_canonical(address: u64, la57: bool) -> bool {
    let unused_bits = if la57 { 64 - 57 } else { 64 - 48 };
    ((address << unused_bits) as i64 >> unused_bits) as u64 == address
}

/// Whether a page attribute table has legal memory types only (SDM volume 3, 12.12.2).
pub fn is_legal_pat(value: u64) -> bool {
    value.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
}

/// Bits of a page-directory pointer of PAE paging that must be clear if it is present, with those
/// beyond the physical address (SDM volume 3, table 5-8).
pub const POINTER_RESERVED: u64 = 0x1e6;

impl PagingState {
    /// Translates a linear address (canonical, in long mode) and sets the accessed and dirty bits
    /// on the way.
    ///
    /// # Errors
    /// The page fault that the CPU would raise.
    #[inline]
    pub fn translate<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        linear: u64,
        access: Access,
    ) -> Result<Translation, Fault> {
        if !self.cr0.paging() {
            return Ok(Translation { gpa: linear & 0xffff_ffff, page_bytes: 1 << 32 });
        }
        self.walk(memory, linear, access)
    }

    #[inline(never)]
    fn walk<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        linear: u64,
        access: Access,
    ) -> Result<Translation, Fault> {
        let mut attempt = 0;
        loop {
            let mut walk = Walk { state: self, memory, access, linear, insist: attempt == RETRIES };
            match walk.run() {
                Ok(translation) => return Ok(translation),
                Err(Stop::Fault(error_code)) => {
                    return Err(Fault::page(
                        walk.complete_error_code(error_code).into_bits(),
                        walk.linear,
                    ));
                }
                Err(Stop::Changed) => attempt += 1,
            }
        }
    }
}

/// Why a walk ended early.
enum Stop {
    /// The access is not allowed; the cause bits of the error code.
    Fault(ErrorCode),
    /// An entry changed between reading it and marking it.
    Changed,
}

const NOT_PRESENT: Stop = Stop::Fault(ErrorCode::new());
const PROTECTION: Stop = Stop::Fault(ErrorCode::new().with_present(true));
const RESERVED: Stop = Stop::Fault(ErrorCode::new().with_present(true).with_reserved(true));
const PROTECTION_KEY: Stop =
    Stop::Fault(ErrorCode::new().with_present(true).with_protection_key(true));

/// The rights that all entries of a walk together allow.
#[derive(Clone, Copy)]
struct Rights {
    /// Bits that all entries have: writable, user.
    all: u64,
    /// Bits that some entry has: no-execute.
    any: u64,
}

impl Rights {
    const ALL: Self = Self { all: u64::MAX, any: 0 };

    #[inline]
    const fn narrow(self, entry: Entry) -> Self {
        Self { all: self.all & entry.into_bits(), any: self.any | entry.into_bits() }
    }

    const fn writable(self) -> bool {
        Entry::from_bits(self.all).writable()
    }

    const fn user(self) -> bool {
        Entry::from_bits(self.all).user()
    }

    const fn no_execute(self) -> bool {
        Entry::from_bits(self.any).no_execute()
    }
}

struct Walk<'a, M: ?Sized> {
    state: &'a PagingState,
    memory: &'a M,
    access: Access,
    linear: u64,
    /// Goes on if an entry cannot be marked.
    insist: bool,
}

impl<M: GuestMemory + ?Sized> Walk<'_, M> {
    fn run(&mut self) -> Result<Translation, Stop> {
        if self.state.efer.long_mode_active() {
            let levels = if self.state.cr4.la57() { 5 } else { 4 };
            let table = self.state.cr3 & self.physical_mask() & !0xfff;
            return self.walk_wide(table, levels, Rights::ALL);
        }
        self.linear &= 0xffff_ffff;
        if self.state.cr4.pae() { self.walk_pae() } else { self.walk_32() }
    }

    fn walk_pae(&self) -> Result<Translation, Stop> {
        let pointer = self.read_wide((self.state.cr3 & 0xffff_ffe0) | ((self.linear >> 30) << 3));
        if !pointer.present() {
            return Err(NOT_PRESENT);
        }
        // Bits 1, 2, 6 to 8 and all above the address are reserved (SDM volume 3, table 5-8). So is
        // bit 5, but AMD's processors set it when they walk the tables in memory.
        if pointer.into_bits() & (0x1c6 | !self.physical_mask()) != 0 {
            return Err(RESERVED);
        }
        self.walk_wide(pointer.frame() << 12, 2, Rights::ALL)
    }

    /// Walks `level` levels of 512 entries of 8 bytes.
    #[inline]
    fn walk_wide(
        &self,
        mut table: u64,
        mut level: u32,
        mut rights: Rights,
    ) -> Result<Translation, Stop> {
        let reserved = self.reserved_wide();
        loop {
            let index = (self.linear >> (3 + 9 * level)) & 0x1ff;
            let address = table | (index << 3);
            let entry = self.read_wide(address);
            if !entry.present() {
                return Err(NOT_PRESENT);
            }
            if entry.into_bits() & reserved != 0 {
                return Err(RESERVED);
            }
            rights = rights.narrow(entry);
            if level == 1 || entry.page_size() {
                return self.leaf_wide(address, entry, level, rights);
            }
            if !entry.accessed() {
                self.mark(address, entry, false)?;
            }
            table = entry.frame() << 12;
            level -= 1;
        }
    }

    /// A page of 4 KiB, 2 MiB or 1 GiB.
    #[inline]
    fn leaf_wide(
        &self,
        address: u64,
        entry: Entry,
        level: u32,
        rights: Rights,
    ) -> Result<Translation, Stop> {
        let page_bytes = 1u64 << (3 + 9 * level);
        // No page is larger than 1 GiB. Bit 12 of a large page is PAT; the address bits above it,
        // up to the page's size, are reserved.
        let low_address_bits = (page_bytes - 1) & !0x1fff;
        if level > 3 || entry.into_bits() & low_address_bits != 0 {
            return Err(RESERVED);
        }
        self.check(rights, entry)?;
        self.mark(address, entry, true)?;
        let frame = (entry.frame() << 12) & !(page_bytes - 1);
        Ok(Translation { gpa: frame | (self.linear & (page_bytes - 1)), page_bytes })
    }

    fn walk_32(&self) -> Result<Translation, Stop> {
        let address = (self.state.cr3 & 0xffff_f000) | ((self.linear >> 22) << 2);
        let entry = self.read_narrow(address);
        if !entry.present() {
            return Err(NOT_PRESENT);
        }
        let rights = Rights::ALL.narrow(entry);
        if entry.page_size() && self.state.cr4.pse() {
            return self.leaf_pse(address, entry, rights);
        }
        self.mark(address, entry, false)?;
        let address = (entry.frame() << 12) | (((self.linear >> 12) & 0x3ff) << 2);
        let entry = self.read_narrow(address);
        if !entry.present() {
            return Err(NOT_PRESENT);
        }
        self.check(rights.narrow(entry), entry)?;
        self.mark(address, entry, true)?;
        Ok(Translation { gpa: (entry.frame() << 12) | (self.linear & 0xfff), page_bytes: 4 << 10 })
    }

    /// A 4 MiB page of 32-bit paging: bits 13 to 20 of its entry are address bits 32 to 39
    /// (PSE-36), as far as the CPU has them; the others and bit 21 are reserved.
    fn leaf_pse(&self, address: u64, entry: Entry, rights: Rights) -> Result<Translation, Stop> {
        const PAGE_BYTES: u64 = 4 << 20;
        let high = (entry.into_bits() >> 13) & 0x1ff;
        let gpa = (entry.into_bits() & 0xffff_ffff & !(PAGE_BYTES - 1)) | (high << 32);
        if high > 0xff || gpa & !self.physical_mask() != 0 {
            return Err(RESERVED);
        }
        self.check(rights, entry)?;
        self.mark(address, entry, true)?;
        Ok(Translation { gpa: gpa | (self.linear & (PAGE_BYTES - 1)), page_bytes: PAGE_BYTES })
    }

    /// Guest-physical addresses that exist.
    const fn physical_mask(&self) -> u64 {
        let bits = self.state.physical_address_bits;
        (1 << if bits < 52 { bits } else { 52 }) - 1
    }

    /// The bits that are reserved in every 8-byte entry.
    const fn reserved_wide(&self) -> u64 {
        let ignored = if self.state.efer.long_mode_active() { 0x7ff << 52 } else { 0 };
        let no_execute = Entry::new().with_no_execute(true).into_bits();
        let high = !self.physical_mask() & !ignored & !no_execute;
        if self.state.efer.no_execute() { high } else { high | no_execute }
    }

    /// An absent entry reads all ones, as the bus does.
    fn read_wide(&self, gpa: u64) -> Entry {
        Entry::from_bits(self.memory.read_u64(gpa).unwrap_or(u64::MAX))
    }

    fn read_narrow(&self, gpa: u64) -> Entry {
        Entry::from_bits(self.memory.read_u32(gpa).unwrap_or(u32::MAX).into())
    }

    fn check(&self, rights: Rights, leaf: Entry) -> Result<(), Stop> {
        let state = self.state;
        let by_user = self.access.privilege == Privilege::User;
        if by_user && !rights.user() {
            return Err(PROTECTION);
        }
        match self.access.kind {
            AccessKind::Execute => {
                let smep = state.cr4.smep() && rights.user() && !by_user;
                // Bit 63 means no-execute only where it is not reserved, and 32-bit entries have
                // none.
                return if rights.no_execute() || smep { Err(PROTECTION) } else { Ok(()) };
            }
            AccessKind::Write if !rights.writable() && (by_user || state.cr0.write_protect()) => {
                return Err(PROTECTION);
            }
            AccessKind::Read | AccessKind::Write => {}
        }
        let lifted = self.access.privilege == Privilege::Supervisor && state.alignment_check;
        if rights.user() && !by_user && state.cr4.smap() && !lifted {
            return Err(PROTECTION);
        }
        if rights.user() && state.cr4.pke() && state.efer.long_mode_active() {
            return self.check_key(leaf.protection_key(), by_user);
        }
        Ok(())
    }

    /// Protection keys: PKRU has an access-disable and a write-disable bit for each.
    fn check_key(&self, key: u8, by_user: bool) -> Result<(), Stop> {
        let disabled = self.state.pkru >> (2 * key);
        let access_disabled = disabled & 1 != 0;
        let write_disabled = disabled & 2 != 0 && (by_user || self.state.cr0.write_protect());
        if access_disabled || (write_disabled && self.access.kind == AccessKind::Write) {
            return Err(PROTECTION_KEY);
        }
        Ok(())
    }

    /// Sets the accessed bit, and the dirty bit of a leaf that is written.
    fn mark(&self, address: u64, entry: Entry, leaf: bool) -> Result<(), Stop> {
        let dirty = entry.dirty() || (leaf && self.access.kind == AccessKind::Write);
        let marked = entry.with_accessed(true).with_dirty(dirty);
        if marked == entry {
            return Ok(());
        }
        let [old, ..] = entry.into_bits().to_le_bytes();
        let [new, ..] = marked.into_bits().to_le_bytes();
        // Tables in memory that is not RAM cannot be marked; the translation stands.
        let done = self.memory.compare_exchange_u8(address, old, new).unwrap_or(true);
        if done || self.insist { Ok(()) } else { Err(Stop::Changed) }
    }

    /// Adds to the cause what the access was.
    fn complete_error_code(&self, cause: ErrorCode) -> ErrorCode {
        let state = self.state;
        let fetch_is_told = (state.cr4.pae() && state.efer.no_execute()) || state.cr4.smep();
        cause
            .with_write(self.access.kind == AccessKind::Write)
            .with_user(self.access.privilege == Privilege::User)
            .with_fetch(self.access.kind == AccessKind::Execute && fetch_is_told)
    }
}
