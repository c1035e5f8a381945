//! The heap behind `alloc`: a buddy allocator that takes more from the frames when it runs out.

use super::{LARGE_BYTES, host};
use buddy_system_allocator::Heap;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use spin::Mutex;

/// Orders of blocks: up to 2^32 bytes.
const ORDERS: usize = 33;
/// The least that the heap grows by.
const LEAST_GROWTH_BYTES: u64 = 2 * LARGE_BYTES;

/// Bytes in use, blocks counted whole.
pub fn used_bytes() -> u64 {
    HEAP.0.lock().stats_alloc_actual() as u64
}

struct GrowingHeap(Mutex<Heap<ORDERS>>);

#[global_allocator]
static HEAP: GrowingHeap = GrowingHeap(Mutex::new(Heap::new()));

/// Gives the heap memory.
pub fn add(start: u64, bytes: u64) {
    // SAFETY: the frame map gave this RAM to the heap alone, and it is mapped.
    unsafe { HEAP.0.lock().add_to_heap(start as usize, (start + bytes) as usize) };
}

// SAFETY: the buddy allocator hands out disjoint blocks of the size and alignment asked for; the lock keeps CPUs apart.
unsafe impl GlobalAlloc for GrowingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Ok(block) = self.0.lock().alloc(layout) {
            return block.as_ptr();
        }
        // A block is a power of two at a multiple of its size.
        let block_bytes = layout.size().max(layout.align()).next_power_of_two() as u64;
        let growth = block_bytes.max(LEAST_GROWTH_BYTES);
        let Some(start) = host::take_run(growth) else { return ptr::null_mut() };
        add(start, growth);
        self.0.lock().alloc(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller gives back what `alloc` gave with the same layout.
            unsafe { self.0.lock().dealloc(block, layout) };
        }
    }
}
