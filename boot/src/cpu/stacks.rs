//! A CPU's stacks, each above a guard page that is not mapped.

use crate::memory::{LARGE_BYTES, PAGE_BYTES, host};
use core::ops::Range;
use spin::Mutex;

/// The stack that a CPU runs on, then those for NMI, double fault and machine check; guard pages
/// included.
#[derive(Clone, Debug, Default)]
pub struct Stacks(pub [Range<u64>; 4]);

/// Sizes of a CPU's stacks, guard pages included, but for the boot CPU's, which are in the image.
const SIZES: [u64; 4] = [128 << 10, 32 << 10, 32 << 10, 32 << 10];
/// The stacks of one CPU together.
const BLOCK_BYTES: u64 = 256 << 10;

/// The unused rest of the memory that was taken last.
static ROOM: Mutex<Range<u64>> = Mutex::new(0..0);

impl Stacks {
    /// Stacks for another CPU; `None` if memory is short.
    pub fn allocate() -> Option<Self> {
        let mut room = ROOM.lock();
        if room.is_empty() {
            let start = host::take_run(LARGE_BYTES)?;
            *room = start..start + LARGE_BYTES;
        }
        let mut at = room.start;
        room.start += BLOCK_BYTES;
        let stacks = SIZES.map(|bytes| {
            let stack = at..at + bytes;
            at = stack.end;
            stack
        });
        for stack in &stacks {
            host::unmap_page(stack.start).ok()?;
        }
        Some(Self(stacks))
    }

    /// The one that the CPU runs on.
    pub fn main(&self) -> Range<u64> {
        self.0[0].clone()
    }

    /// The upper ends of the others.
    pub fn interrupt_tops(&self) -> [u64; 3] {
        let [_, nmi, double_fault, machine_check] = &self.0;
        [nmi.end, double_fault.end, machine_check.end]
    }

    /// The address is in a guard page: a stack is full.
    pub fn is_guarded(&self, address: u64) -> bool {
        self.0.iter().any(|stack| (stack.start..stack.start + PAGE_BYTES).contains(&address))
    }
}

const _: () = assert!(SIZES[0] + SIZES[1] + SIZES[2] + SIZES[3] <= BLOCK_BYTES);
