//! The heap behind `alloc`: a buddy allocator that takes more from the frames when it runs out.
//! A piece of work can reserve what it will need before it begins; a part of the heap is never lent
//! so, for what the hypervisor allocates besides.

use super::{LARGE_BYTES, host};
use buddy_system_allocator::Heap;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use spin::Mutex;

/// Orders of blocks: up to 2^32 bytes.
const ORDERS: usize = 33;
/// The least that the heap grows by.
const LEAST_GROWTH_BYTES: u64 = 2 * LARGE_BYTES;
/// Never lent.
const OWN_BYTES: u64 = 4 << 20;
/// A block takes up to twice what is asked for, being a power of two.
const BLOCK_FACTOR: u64 = 2;

/// Bytes in use, blocks counted whole.
pub fn used_bytes() -> u64 {
    HEAP.0.lock().blocks.stats_alloc_actual() as u64
}

/// Sets `bytes` aside; false if that leaves less than what is lent already and the hypervisor's own
/// part. The heap grows for it if frames are left. Bytes are counted, not blocks: a single large
/// allocation out of them may still have to take frames ([`GlobalAlloc::alloc`]).
pub fn reserve(bytes: u64) -> bool {
    let wanted = bytes.saturating_mul(BLOCK_FACTOR);
    let missing = {
        let mut heap = HEAP.0.lock();
        let missing = heap.missing_for(wanted);
        if missing == 0 {
            heap.lent += wanted;
            return true;
        }
        missing
    };
    let growth = missing.max(LEAST_GROWTH_BYTES).checked_next_power_of_two();
    let Some((growth, start)) = growth.and_then(|growth| Some((growth, host::take_run(growth)?)))
    else {
        return false;
    };
    add(start, growth);
    let mut heap = HEAP.0.lock();
    // Another CPU may have been quicker.
    let is_enough = heap.missing_for(wanted) == 0;
    if is_enough {
        heap.lent += wanted;
    }
    is_enough
}

/// Ends what [`reserve`] began.
pub fn give_back(bytes: u64) {
    let mut heap = HEAP.0.lock();
    heap.lent = heap.lent.saturating_sub(bytes.saturating_mul(BLOCK_FACTOR));
}

struct State {
    blocks: Heap<ORDERS>,
    /// Bytes that are set aside. Those that their holders have allocated count as in use too, to be
    /// on the safe side.
    lent: u64,
}

impl State {
    /// How much the heap is too small to lend `wanted` bytes.
    fn missing_for(&self, wanted: u64) -> u64 {
        let free =
            self.blocks.stats_total_bytes().saturating_sub(self.blocks.stats_alloc_actual()) as u64;
        self.lent.saturating_add(OWN_BYTES).saturating_add(wanted).saturating_sub(free)
    }
}

struct GrowingHeap(Mutex<State>);

#[global_allocator]
static HEAP: GrowingHeap = GrowingHeap(Mutex::new(State { blocks: Heap::new(), lent: 0 }));

/// Gives the heap memory.
pub fn add(start: u64, bytes: u64) {
    // SAFETY: the frame map gave this RAM to the heap alone, and it is mapped.
    unsafe { HEAP.0.lock().blocks.add_to_heap(start as usize, (start + bytes) as usize) };
}

// SAFETY: the buddy allocator hands out disjoint blocks of the size and alignment asked for; the
// lock keeps CPUs apart.
unsafe impl GlobalAlloc for GrowingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Ok(block) = self.0.lock().blocks.alloc(layout) {
            return block.as_ptr();
        }
        // A block is a power of two at a multiple of its size.
        let block_bytes = layout.size().max(layout.align()).next_power_of_two() as u64;
        let growth = block_bytes.max(LEAST_GROWTH_BYTES);
        let Some(start) = host::take_run(growth) else { return ptr::null_mut() };
        add(start, growth);
        self.0.lock().blocks.alloc(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller gives back what `alloc` gave with the same layout.
            unsafe { self.0.lock().blocks.dealloc(block, layout) };
        }
    }
}
