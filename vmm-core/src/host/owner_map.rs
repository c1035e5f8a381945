//! The owner map of test builds: whose each frame is, and which second-level entries point to it.
//!
//! It stands beside the frame allocator and believes neither that nor the tables: what it is told
//! of each of their steps has to fit together. Frames that it does not know are free, or were never
//! handed out: firmware's, the image's, those of the hypervisor's heap and page tables.

use super::owner::{GuestId, Owner};
use alloc::collections::BTreeMap;
use arrayvec::ArrayVec;
use core::fmt;
use core::ops::Range;
use ept::PointsTo;
use spin::Mutex;

const TABLE_BYTES: u64 = 4 << 10;
/// Those of the next smaller size in a frame.
const PARTS: u64 = 512;
/// Runs of memory that the hypervisor takes for good; neighbours are one.
const MAX_RUNS: usize = 64;

/// A step that does not fit to the owners. It has changed nothing in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A frame was handed out of which a part is somebody's.
    HandedOutTwice {
        /// The frame.
        hpa: u64,
        /// Whose it is.
        to: Owner,
        /// Whose a part of it was before.
        of: Owner,
    },
    /// A frame was given back that was not handed out, or in another size.
    NotHandedOut {
        /// The frame.
        hpa: u64,
    },
    /// A frame was given back that entries still point to.
    StillMapped {
        /// The frame.
        hpa: u64,
        /// Whose it is.
        of: Owner,
        /// How many do.
        entries: u64,
    },
    /// An entry was written to what is no guest's table.
    NotATable {
        /// Where it was written.
        table_hpa: u64,
    },
    /// A guest's entry points to memory that is not its own.
    Foreign {
        /// The guest.
        guest: GuestId,
        /// The memory.
        hpa: u64,
        /// Whose it is; of nobody if it was not handed out.
        of: Option<Owner>,
    },
    /// The hypervisor has more runs of memory of its own than the map can hold.
    TooManyRuns,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the owner map: {self:x?}")
    }
}

struct Held {
    bytes: u64,
    owner: Owner,
    /// The entries that point into it.
    entries: u64,
}

#[derive(Default)]
struct State {
    /// By host-physical address.
    frames: BTreeMap<u64, Held>,
    /// The address that an entry, by table and index, points to, and how many bytes it shows.
    entries: BTreeMap<(u64, usize), (u64, u64)>,
}

/// The owners of all frames.
#[derive(Default)]
pub struct OwnerMap {
    state: Mutex<State>,
    /// A lock of its own, and no heap: the heap grows while the other one is held.
    runs: Mutex<ArrayVec<Range<u64>, MAX_RUNS>>,
}

impl OwnerMap {
    /// Nothing is handed out.
    pub const fn new() -> Self {
        let state = State { frames: BTreeMap::new(), entries: BTreeMap::new() };
        Self { state: Mutex::new(state), runs: Mutex::new(ArrayVec::new_const()) }
    }

    /// The hypervisor takes a run of memory, for its heap or its page tables, and keeps it.
    ///
    /// # Errors
    /// [`Violation`]; a guest's memory is found out when the run is used.
    pub fn keep(&self, run: Range<u64>) -> Result<(), Violation> {
        let mut runs = self.runs.lock();
        if let Some(before) = runs.iter_mut().find(|before| before.end == run.start) {
            before.end = run.end;
            return Ok(());
        }
        runs.try_push(run).map_err(|_| Violation::TooManyRuns)
    }

    /// The frame allocator hands a frame out.
    ///
    /// # Errors
    /// [`Violation::HandedOutTwice`].
    pub fn hand_out(&self, hpa: u64, bytes: u64, owner: Owner) -> Result<(), Violation> {
        let end = hpa + bytes;
        let twice = |of| Violation::HandedOutTwice { hpa, to: owner, of };
        if self.runs.lock().iter().any(|run| run.start < end && hpa < run.end) {
            return Err(twice(Owner::Hypervisor));
        }
        let mut state = self.state.lock();
        if let Some((&start, last)) = state.frames.range(..end).next_back()
            && start + last.bytes > hpa
        {
            return Err(twice(last.owner));
        }
        state.frames.insert(hpa, Held { bytes, owner, entries: 0 });
        Ok(())
    }

    /// A frame goes back to the frame allocator.
    ///
    /// # Errors
    /// [`Violation::NotHandedOut`], [`Violation::StillMapped`].
    pub fn take_back(&self, hpa: u64, bytes: u64) -> Result<(), Violation> {
        let mut state = self.state.lock();
        match state.frames.get(&hpa) {
            Some(held) if held.bytes != bytes => return Err(Violation::NotHandedOut { hpa }),
            None => return Err(Violation::NotHandedOut { hpa }),
            Some(&Held { entries: entries @ 1.., owner: of, .. }) => {
                return Err(Violation::StillMapped { hpa, of, entries });
            }
            Some(_) => {}
        }
        state.frames.remove(&hpa);
        Ok(())
    }

    /// A frame is 512 of the next smaller size from now on.
    ///
    /// # Errors
    /// [`Violation::NotHandedOut`]; [`Violation::StillMapped`] if one entry shows more than one of
    /// the parts.
    pub fn split(&self, hpa: u64, bytes: u64) -> Result<(), Violation> {
        let mut state = self.state.lock();
        let State { frames, entries } = &mut *state;
        let held = frames.get(&hpa).filter(|held| held.bytes == bytes);
        let &Held { owner, entries: count, .. } = held.ok_or(Violation::NotHandedOut { hpa })?;
        let part_bytes = bytes / PARTS;
        let within = |target: u64| (hpa..hpa + bytes).contains(&target);
        if entries.values().any(|&(target, shown)| within(target) && shown > part_bytes) {
            return Err(Violation::StillMapped { hpa, of: owner, entries: count });
        }
        for part in (hpa..hpa + bytes).step_by(part_bytes as usize) {
            frames.insert(part, Held { bytes: part_bytes, owner, entries: 0 });
        }
        for &target in entries.values().filter(|&&(target, _)| within(target)) {
            if let Some(part) = held_mut(frames, Some(target)) {
                part.entries += 1;
            }
        }
        Ok(())
    }

    /// An entry of a guest's tables changes.
    ///
    /// # Errors
    /// [`Violation::NotATable`], [`Violation::Foreign`].
    pub fn set_entry(&self, table_hpa: u64, index: usize, to: PointsTo) -> Result<(), Violation> {
        let mut state = self.state.lock();
        let Some(&Held { owner: Owner::Tables(guest), .. }) = state.frames.get(&table_hpa) else {
            return Err(Violation::NotATable { table_hpa });
        };
        let target = match to {
            PointsTo::Nothing => None,
            PointsTo::Table { hpa } => {
                state.check(guest, hpa, TABLE_BYTES, |owner| owner == Owner::Tables(guest))?;
                Some((hpa, TABLE_BYTES))
            }
            PointsTo::Page { hpa, bytes, write } => {
                state.check(guest, hpa, bytes, |owner| {
                    owner == Owner::Guest(guest) || owner == Owner::Shared && !write
                })?;
                Some((hpa, bytes))
            }
        };
        state.point(table_hpa, index, target);
        Ok(())
    }

    /// No processor walks a table any more: its entries point nowhere.
    pub fn retire(&self, table_hpa: u64) {
        let mut state = self.state.lock();
        while let Some((&(_, index), _)) =
            state.entries.range((table_hpa, 0)..=(table_hpa, usize::MAX)).next()
        {
            state.point(table_hpa, index, None);
        }
    }
}

impl State {
    /// Memory is in one frame of an owner that is allowed.
    fn check(
        &self,
        guest: GuestId,
        hpa: u64,
        bytes: u64,
        is_allowed: impl Fn(Owner) -> bool,
    ) -> Result<(), Violation> {
        let around = self.frames.range(..=hpa).next_back();
        let around = around.filter(|(start, held)| hpa + bytes <= *start + held.bytes);
        match around {
            Some((_, held)) if is_allowed(held.owner) => Ok(()),
            _ => Err(Violation::Foreign { guest, hpa, of: around.map(|(_, held)| held.owner) }),
        }
    }

    fn point(&mut self, table_hpa: u64, index: usize, target: Option<(u64, u64)>) {
        let old = match target {
            Some(target) => self.entries.insert((table_hpa, index), target),
            None => self.entries.remove(&(table_hpa, index)),
        };
        if let Some(held) = held_mut(&mut self.frames, target) {
            held.entries += 1;
        }
        if let Some(held) = held_mut(&mut self.frames, old) {
            held.entries -= 1;
        }
    }
}

/// The frame that an entry points into.
fn held_mut(frames: &mut BTreeMap<u64, Held>, target: Option<(u64, u64)>) -> Option<&mut Held> {
    let (hpa, _) = target?;
    let (_, held) = frames.range_mut(..=hpa).next_back()?;
    Some(held)
}

#[cfg(test)]
mod tests;
