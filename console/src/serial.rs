//! A guest's side of the serial console, for COM1 and for the PV console each: bytes typed for it
//! and bytes that it transmitted, while neither can be passed on.

use super::escapes::EscapeFilter;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use config::command_line::Escapes;
use control::budget::Budget;
use control::host::Host;
use control::output::{OUTPUT_BYTES, OutputRing};

/// Bytes for the guest that wait at most; what is typed beyond is lost.
const MAX_INPUT: usize = 64 << 10;
/// Bytes of a guest that is not shown that are kept.
pub const BACKLOG_BYTES: usize = 64 << 10;
/// Bytes taken at once.
pub const CHUNK_BYTES: usize = 512;

/// Bytes of one guest, both ways.
pub struct SerialSide {
    name: String,
    host: &'static dyn Host,
    input: VecDeque<u8>,
    filter: EscapeFilter,
    /// The newest of what it transmitted while it was not shown, and the heap for it.
    backlog: Option<(VecDeque<u8>, Budget)>,
    /// Older bytes than those.
    lost: u64,
}

impl SerialSide {
    /// Nothing waits.
    pub fn new(name: &str, host: &'static dyn Host) -> Self {
        let (input, filter) = (VecDeque::new(), EscapeFilter::default());
        Self { name: name.into(), host, input, filter, backlog: None, lost: 0 }
    }

    /// Bytes for the guest; false if there is no room for them all.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        let fits = self.input.len() + bytes.len() <= MAX_INPUT;
        if fits {
            self.input.extend(bytes);
        }
        fits
    }

    /// The guest's device is gone, and with it its reader.
    pub fn clear_input(&mut self) {
        self.input.clear();
    }

    /// True if the guest has not yet taken everything.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Moves typed bytes to the guest: `give` takes as many as it can, and says how many.
    pub fn pass_input(&mut self, give: impl FnOnce(&[u8]) -> usize) {
        if self.has_input() {
            let count = give(self.input.make_contiguous());
            self.input.drain(..count);
        }
    }

    /// Keeps what the guest has transmitted, so that it need not wait while it is not shown; true
    /// if there was something.
    pub fn keep_output(&mut self, output: &OutputRing) -> bool {
        let mut chunk = [0; CHUNK_BYTES];
        // A guest on another CPU may go on meanwhile.
        for piece in 0..OUTPUT_BYTES / CHUNK_BYTES {
            match output.take(&mut chunk) {
                0 => return piece > 0,
                count => self.keep(&chunk[..count]),
            }
        }
        true
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.backlog.is_none() {
            match Budget::reserve(self.host, BACKLOG_BYTES as u64) {
                Ok(budget) => {
                    self.backlog = Some((VecDeque::with_capacity(BACKLOG_BYTES), budget));
                }
                Err(out_of_heap) => {
                    if self.lost == 0 {
                        log::warn!("{}: output is lost: {out_of_heap}", self.name);
                    }
                    self.lost += bytes.len() as u64;
                    return;
                }
            }
        }
        let Some((kept, _)) = &mut self.backlog else { return };
        let too_many = (kept.len() + bytes.len()).saturating_sub(BACKLOG_BYTES);
        kept.drain(..too_many);
        self.lost += too_many as u64;
        kept.extend(bytes);
    }

    /// The number of bytes that the guest transmitted unseen and that are lost; counts anew.
    pub fn take_lost(&mut self) -> u64 {
        core::mem::take(&mut self.lost)
    }

    /// True if output was kept.
    pub const fn has_kept(&self) -> bool {
        self.backlog.is_some()
    }

    /// Takes the oldest bytes: those that were kept, then those in the guest's ring, if it has one.
    pub fn take_output(&mut self, ring: Option<&OutputRing>, into: &mut [u8]) -> usize {
        let Some((kept, _)) = &mut self.backlog else {
            return ring.map_or(0, |ring| ring.take(into));
        };
        let count = kept.len().min(into.len());
        for (byte, kept) in into.iter_mut().zip(kept.drain(..count)) {
            *byte = kept;
        }
        if kept.is_empty() {
            self.backlog = None;
        }
        count
    }

    /// Adds to `out` what a terminal is to get of bytes of the guest's.
    pub fn filter(&mut self, bytes: &[u8], escapes: Escapes, out: &mut Vec<u8>) {
        self.filter.take(bytes, escapes, out);
    }

    /// Adds to `out` what gives the terminal back as it was: the guest no longer has it.
    pub fn restore(&mut self, out: &mut Vec<u8>) {
        self.filter.restore(out);
    }
}
