//! Reads and writes of guest memory, page by page.

use super::{FrameMemory, GuestSpace, LowPage, PAGE_BYTES};
use core::sync::atomic::Ordering;
use devices::memory::{GuestMemory, NotRam};

impl GuestSpace {
    /// True if writes at `gpa` reach RAM that reads do not show.
    pub(super) fn has_ram_beneath(&self, gpa: u64) -> bool {
        let page = self.low_pages.get((gpa / PAGE_BYTES) as usize);
        page.is_some_and(|page| {
            let page = LowPage::decode(page.load(Ordering::Relaxed));
            matches!(page, LowPage::Shadowed { .. } | LowPage::WriteOnly)
        })
    }

    /// The page of `gpa`: how many bytes are left in it.
    const fn room(gpa: u64) -> usize {
        (PAGE_BYTES - gpa % PAGE_BYTES) as usize
    }

    #[inline]
    fn read_in_page(&self, gpa: u64, data: &mut [u8]) -> Result<(), NotRam> {
        let (memory, offset, _) = self.locate(gpa).ok_or(NotRam { gpa })?;
        memory.read(offset, data).then_some(()).ok_or(NotRam { gpa })
    }

    fn read_pages(&self, mut gpa: u64, mut data: &mut [u8]) -> Result<(), NotRam> {
        while !data.is_empty() {
            let (now, later) = data.split_at_mut(data.len().min(Self::room(gpa)));
            self.read_in_page(gpa, now)?;
            gpa = gpa.wrapping_add(now.len() as u64);
            data = later;
        }
        Ok(())
    }

    #[inline]
    fn write_in_page(&self, gpa: u64, data: &[u8]) -> Result<(), NotRam> {
        match self.locate(gpa) {
            Some((memory, offset, true)) => {
                return memory.write(offset, data).then_some(()).ok_or(NotRam { gpa });
            }
            _ if self.has_ram_beneath(gpa) => {
                self.ram.write(gpa as usize, data);
            }
            Some(_) => {}
            None => return Err(NotRam { gpa }),
        }
        Ok(())
    }

    fn write_pages(&self, mut gpa: u64, mut data: &[u8]) -> Result<(), NotRam> {
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(Self::room(gpa)));
            self.write_in_page(gpa, now)?;
            gpa = gpa.wrapping_add(now.len() as u64);
            data = later;
        }
        Ok(())
    }
}

impl GuestSpace {
    /// The memory of a byte that the guest can write to, and where it is there.
    fn writable(&self, gpa: u64) -> Result<(&FrameMemory, usize), NotRam> {
        match self.locate(gpa) {
            Some((memory, offset, true)) => Ok((memory, offset)),
            _ => Err(NotRam { gpa }),
        }
    }

    /// [`GuestMemory::read`] by a virtual CPU of the guest.
    ///
    /// # Errors
    /// [`NotRam`].
    #[inline]
    pub fn read_as_vcpu(&self, gpa: u64, data: &mut [u8]) -> Result<(), NotRam> {
        if data.len() <= Self::room(gpa) {
            self.read_in_page(gpa, data)
        } else {
            self.read_pages(gpa, data)
        }
    }

    /// [`GuestMemory::write`] by a virtual CPU of the guest.
    ///
    /// # Errors
    /// [`NotRam`].
    #[inline]
    pub fn write_as_vcpu(&self, gpa: u64, data: &[u8]) -> Result<(), NotRam> {
        if data.len() <= Self::room(gpa) {
            self.write_in_page(gpa, data)
        } else {
            self.write_pages(gpa, data)
        }
    }

    /// [`GuestMemory::compare_exchange_u8`] by a virtual CPU of the guest.
    ///
    /// # Errors
    /// [`NotRam`].
    pub fn compare_exchange_as_vcpu(
        &self,
        gpa: u64,
        expected: u8,
        new: u8,
    ) -> Result<bool, NotRam> {
        let (memory, offset) = self.writable(gpa)?;
        memory.compare_exchange(offset, expected, new).ok_or(NotRam { gpa })
    }
}

/// Accesses by anybody, on any CPU. Those of the guest's virtual CPUs, which flush before pages
/// that were given back are another's, take a shorter way.
impl GuestMemory for GuestSpace {
    #[inline]
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NotRam> {
        let _outside = self.outside();
        self.read_as_vcpu(gpa, data)
    }

    #[inline]
    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), NotRam> {
        let _outside = self.outside();
        self.write_as_vcpu(gpa, data)
    }

    fn compare_exchange_u8(&self, gpa: u64, expected: u8, new: u8) -> Result<bool, NotRam> {
        let _outside = self.outside();
        self.compare_exchange_as_vcpu(gpa, expected, new)
    }

    fn fetch_or_u8(&self, gpa: u64, bits: u8) -> Result<u8, NotRam> {
        let _outside = self.outside();
        let (memory, offset) = self.writable(gpa)?;
        memory.fetch_or(offset, bits).ok_or(NotRam { gpa })
    }

    fn fetch_and_u8(&self, gpa: u64, bits: u8) -> Result<u8, NotRam> {
        let _outside = self.outside();
        let (memory, offset) = self.writable(gpa)?;
        memory.fetch_and(offset, bits).ok_or(NotRam { gpa })
    }
}
