//! Linear memory as the CPU itself accesses it for tables and TSSs.

use super::TaskCpu;
use crate::paging::{Access, AccessKind, PagingState, Privilege};
use crate::registers::Fault;
use devices::memory::GuestMemory;

const PAGE_BYTES: u64 = 4096;

/// Accesses through the page tables that are in force now.
pub struct Linear<'a, M: ?Sized> {
    memory: &'a M,
    paging: PagingState,
}

impl<'a, M: GuestMemory + ?Sized> Linear<'a, M> {
    /// The linear memory of `cpu`.
    pub fn new<C: TaskCpu<Memory = M>>(cpu: &'a C) -> Self {
        Self { memory: cpu.memory(), paging: cpu.paging() }
    }

    /// Whether every byte can be accessed.
    pub fn probe(
        &mut self,
        linear: u64,
        length_bytes: usize,
        kind: AccessKind,
    ) -> Result<(), Fault> {
        self.pieces(linear, length_bytes, kind, |_, _, _| {})
    }

    /// Reads; what is not memory reads all ones.
    pub fn read(&mut self, linear: u64, data: &mut [u8]) -> Result<(), Fault> {
        let length_bytes = data.len();
        self.pieces(linear, length_bytes, AccessKind::Read, |memory, gpa, range| {
            let piece = data.get_mut(range).unwrap_or_default();
            if memory.read(gpa, piece).is_err() {
                piece.fill(0xff);
            }
        })
    }

    /// Writes; what is not memory ignores it.
    pub fn write(&mut self, linear: u64, data: &[u8]) -> Result<(), Fault> {
        self.pieces(linear, data.len(), AccessKind::Write, |memory, gpa, range| {
            let _ = memory.write(gpa, data.get(range).unwrap_or_default());
        })
    }

    /// Calls `access` with each piece that lies in one page.
    fn pieces(
        &self,
        linear: u64,
        length_bytes: usize,
        kind: AccessKind,
        mut access: impl FnMut(&M, u64, core::ops::Range<usize>),
    ) -> Result<(), Fault> {
        let rights = Access { kind, privilege: Privilege::ImplicitSupervisor };
        let mut done = 0;
        while done < length_bytes {
            let at = linear.wrapping_add(done as u64) & 0xffff_ffff;
            let room = (PAGE_BYTES - at % PAGE_BYTES) as usize;
            let count = room.min(length_bytes - done);
            let gpa = self.paging.translate(self.memory, at, rights)?.gpa;
            access(self.memory, gpa, done..done + count);
            done += count;
        }
        Ok(())
    }
}
