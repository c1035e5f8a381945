//! The second-level page tables of one guest, in frames of the platform.

use super::raw::Run;
use crate::host::owner::{GuestId, Owner};
use crate::host::platform::{Frame, FrameSize, Platform};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
#[cfg(any(test, feature = "owner-map"))]
use ept::PointsTo;
use ept::TableMemory;

const TABLE_SIZE: FrameSize = FrameSize::Small;
const TABLE_BYTES: usize = TABLE_SIZE.bytes() as usize;

/// The frames that hold a guest's tables, by host-physical address.
///
/// Tables are made of frames that were set aside for the guest when it was built, and go back to
/// these: however many it brings about, no other guest has less.
pub struct TableFrames {
    platform: &'static dyn Platform,
    guest: GuestId,
    frames: BTreeMap<u64, (Frame, Run)>,
    set_aside: Vec<Frame>,
    /// Pages of the guest's on their way back, with the generation that each virtual CPU must have
    /// flushed for.
    leaving: Vec<(u64, Frame)>,
}

impl TableFrames {
    /// No tables yet.
    pub const fn new(platform: &'static dyn Platform, guest: GuestId) -> Self {
        Self {
            platform,
            guest,
            frames: BTreeMap::new(),
            set_aside: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// Sets frames aside for `count` more tables. Those that were are kept if there are too few.
    pub(super) fn set_aside(&mut self, count: usize) -> Option<()> {
        self.set_aside.try_reserve(count).ok()?;
        for _ in 0..count {
            let frame = self.platform.allocate_frame(TABLE_SIZE, Owner::Tables(self.guest))?;
            self.set_aside.push(frame);
        }
        Some(())
    }

    /// So many pages can leave at once.
    pub(super) fn make_room_to_leave(&mut self, count: usize) -> Option<()> {
        self.leaving.try_reserve_exact(count).ok()
    }

    /// Pages that may leave now beside those that do.
    pub(super) const fn room_to_leave(&self) -> usize {
        self.leaving.capacity() - self.leaving.len()
    }

    /// A page leaves the guest, and goes back when all have flushed for this generation.
    pub(super) fn leave(&mut self, generation: u64, page: Frame) {
        self.leaving.push((generation, page));
    }

    /// All have flushed for `generation`: what has left by then goes back.
    pub(super) fn let_go(&mut self, generation: u64) {
        for (_, page) in self.leaving.extract_if(.., |(left, _)| *left <= generation) {
            self.platform.free_frame(page);
        }
    }

    /// A zeroed page for the guest, which is no table: its host-physical address. It goes back with
    /// the last of the tables.
    pub(super) fn allocate_page(&mut self) -> Option<u64> {
        self.allocate_for(Owner::Guest(self.guest))
    }

    /// The same for the hypervisor, to be shown to nobody.
    pub(super) fn allocate_note(&mut self) -> Option<u64> {
        self.allocate_for(Owner::Hypervisor)
    }

    fn allocate_for(&mut self, owner: Owner) -> Option<u64> {
        let frame = self.platform.allocate_frame(TABLE_SIZE, owner)?;
        Some(self.use_frame(frame))
    }

    fn use_frame(&mut self, frame: Frame) -> u64 {
        // SAFETY: the frame is ours alone until `free` removes it together with its run.
        #[allow(unsafe_code)]
        let run = unsafe { Run::new(frame.address, TABLE_BYTES) };
        run.clear();
        let hpa = frame.hpa;
        self.frames.insert(hpa, (frame, run));
        hpa
    }

    /// The memory of a frame that [`TableMemory::allocate`] gave. It is not to be used after it was
    /// freed.
    pub(super) fn run(&self, hpa: u64) -> Option<Run> {
        self.frames.get(&hpa).map(|(_, run)| *run)
    }
}

impl TableMemory for TableFrames {
    fn allocate(&mut self) -> Option<u64> {
        let frame = self.set_aside.pop()?;
        Some(self.use_frame(frame))
    }

    fn free(&mut self, table_hpa: u64) {
        if let Some((frame, _)) = self.frames.remove(&table_hpa) {
            #[cfg(any(test, feature = "owner-map"))]
            self.platform.owners().retire(table_hpa);
            self.set_aside.push(frame);
        }
    }

    fn read(&self, table_hpa: u64, index: usize) -> u64 {
        let mut bytes = [0; 8];
        if let Some((_, run)) = self.frames.get(&table_hpa) {
            run.read(index * 8, &mut bytes);
        }
        u64::from_le_bytes(bytes)
    }

    fn write(&mut self, table_hpa: u64, index: usize, entry: u64) {
        if let Some((_, run)) = self.frames.get(&table_hpa) {
            run.write(index * 8, &entry.to_le_bytes());
        }
    }

    #[cfg(any(test, feature = "owner-map"))]
    fn note(&mut self, table_hpa: u64, index: usize, to: PointsTo) {
        if let Err(violation) = self.platform.owners().set_entry(table_hpa, index, to) {
            panic!("{violation}");
        }
    }
}

impl Drop for TableFrames {
    fn drop(&mut self) {
        // Tables point to each other.
        #[cfg(any(test, feature = "owner-map"))]
        self.frames.keys().for_each(|&hpa| self.platform.owners().retire(hpa));
        while let Some((_, (frame, _))) = self.frames.pop_first() {
            self.platform.free_frame(frame);
        }
        for frame in self.set_aside.drain(..) {
            self.platform.free_frame(frame);
        }
        self.let_go(u64::MAX);
    }
}
