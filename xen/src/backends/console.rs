//! The PV console: a page with two rings, `hvc0` of Linux (io/console.h).

use super::WORK_DELAY_NS;
use crate::events::BackEnd;
use crate::pages::{CONSOLE, Shared};
use crate::platform::PvPlatform;
use alloc::sync::{Arc, Weak};
use devices::lock::{Ranked, rank};

const INPUT: u64 = 0;
const INPUT_BYTES: u32 = 1024;
const OUTPUT: u64 = 1024;
const OUTPUT_BYTES: u32 = 2048;
const IN_CONS: u64 = 3072;
const IN_PROD: u64 = 3076;
const OUT_CONS: u64 = 3080;
const OUT_PROD: u64 = 3084;
/// Taken from the ring at once.
const PIECE_BYTES: usize = 256;

/// Where a console writes to.
pub trait ConsoleOutput: Send + Sync {
    /// Takes bytes, and returns how many; the rest is offered again later.
    fn write(&self, bytes: &[u8]) -> usize;
}

/// The console of a guest.
pub struct Console {
    platform: Weak<PvPlatform>,
    output: Arc<dyn ConsoleOutput>,
    itself: Weak<Self>,
    /// Held while bytes are moved.
    moving: Ranked<(), { rank::PV_BACK_END }>,
}

impl Console {
    /// The console of the guest that has `platform`.
    pub fn new(platform: &Arc<PvPlatform>, output: Arc<dyn ConsoleOutput>) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            platform: Arc::downgrade(platform),
            output,
            itself: itself.clone(),
            moving: Ranked::new(()),
        })
    }

    /// Moves what the guest has written to where it goes, as far as there is room there; true if
    /// something is left.
    pub fn pass_output(&self) -> bool {
        let Some(platform) = self.platform.upgrade() else { return false };
        let moving = self.moving.lock();
        let (moved, left) = platform.with_page(CONSOLE, |page| self.take_output(page));
        drop(moving);
        if moved {
            self.tell(&platform);
        }
        left
    }

    /// True if something was moved, and if something is left.
    fn take_output(&self, page: Shared<'_>) -> (bool, bool) {
        let (begin, end) = (page.u32(OUT_CONS), page.u32(OUT_PROD));
        // Indices that cannot be are the guest's own fault.
        if end.wrapping_sub(begin) > OUTPUT_BYTES {
            return (false, false);
        }
        let mut at = begin;
        while at != end {
            let offset = at % OUTPUT_BYTES;
            let length = (end.wrapping_sub(at)).min(OUTPUT_BYTES - offset) as usize;
            let mut piece = [0; PIECE_BYTES];
            let piece = &mut piece[..length.min(PIECE_BYTES)];
            if page.read(OUTPUT + u64::from(offset), piece).is_err() {
                break;
            }
            let taken = self.output.write(piece);
            at = at.wrapping_add(taken as u32);
            if taken < piece.len() {
                break;
            }
        }
        let is_shown = page.write(OUT_CONS, &at.to_le_bytes()).is_ok();
        (at != begin && is_shown, at != end)
    }

    /// Gives typed bytes to the guest, as many as there is room for, and returns how many.
    pub fn put_input(&self, bytes: &[u8]) -> usize {
        let Some(platform) = self.platform.upgrade() else { return 0 };
        let moving = self.moving.lock();
        let count = platform.with_page(CONSOLE, |page| {
            let (begin, end) = (page.u32(IN_CONS), page.u32(IN_PROD));
            let Some(room) = INPUT_BYTES.checked_sub(end.wrapping_sub(begin)) else { return 0 };
            let mut count = 0;
            for &byte in bytes.iter().take(room as usize) {
                let at = end.wrapping_add(count) % INPUT_BYTES;
                if page.write(INPUT + u64::from(at), &[byte]).is_err() {
                    break;
                }
                count += 1;
            }
            match page.write(IN_PROD, &end.wrapping_add(count).to_le_bytes()) {
                Ok(()) => count as usize,
                Err(_) => 0,
            }
        });
        drop(moving);
        if count > 0 {
            self.tell(&platform);
        }
        count
    }

    fn tell(&self, platform: &PvPlatform) {
        if let Some(itself) = self.itself.upgrade() {
            let back_end: Arc<dyn BackEnd> = itself;
            platform.notify(&back_end);
        }
    }
}

impl BackEnd for Console {
    fn notified(&self) {
        if self.pass_output()
            && let Some(platform) = self.platform.upgrade()
        {
            platform.machine().work_in(WORK_DELAY_NS);
        }
    }
}
