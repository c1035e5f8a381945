//! What others may do to a local APIC: everything that reaches a vCPU from outside passes through here, without
//! locks.

use super::spec::FIRST_LEGAL_VECTOR;
use alloc::sync::Arc;
use bitfield_struct::bitfield;
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The wire that makes a vCPU look at its inbox: it leaves the guest or wakes from HLT. Called from any CPU,
/// possibly by the vCPU itself, after the message is visible.
pub trait Kick: Send + Sync {
    /// Makes the vCPU look.
    fn kick(&self);
}

/// What a local APIC tells others about itself: whom it is, and what it accepts.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Routing {
    /// Physical ID.
    pub id: u32,
    /// Logical ID in xAPIC mode.
    pub logical_id: u8,
    /// Logical IDs are clusters, not flat (xAPIC mode).
    pub cluster: bool,
    /// In x2APIC mode.
    pub x2apic: bool,
    /// Enabled in IA32_APIC_BASE.
    pub enabled: bool,
    /// Enabled in the spurious interrupt vector register.
    pub software_enabled: bool,
    #[bits(20)]
    __: u32,
}

impl Routing {
    /// The 32-bit logical ID of x2APIC mode: cluster and one bit, derived from the physical ID (SDM 11.12.10.2).
    pub const fn x2apic_logical_id(self) -> u32 {
        (self.id() >> 4) << 16 | 1 << (self.id() & 15)
    }

    /// True if a logical destination means this APIC.
    pub const fn matches_logical(self, destination: u32) -> bool {
        if !self.enabled() {
            return false;
        }
        if self.x2apic() {
            let own = self.x2apic_logical_id();
            return destination >> 16 == own >> 16 && destination & own & 0xffff != 0;
        }
        let own = self.logical_id();
        let wanted = destination as u8;
        if destination > 0xff {
            return false;
        }
        if self.cluster() {
            (wanted >> 4 == 15 || wanted >> 4 == own >> 4) && wanted & own & 15 != 0
        } else {
            wanted & own != 0
        }
    }
}

/// Bits of [`ApicInbox::pending`] beyond the eight that say which words of the IRR hold something.
const IRR_WORDS: u32 = 0xff;
const NMI: u32 = 1 << 8;
const INIT: u32 = 1 << 9;
const SIPI: u32 = 1 << 10;
const ERROR: u32 = 1 << 11;

/// The part of a local APIC that others reach.
pub struct ApicInbox {
    kick: Arc<dyn Kick>,
    /// Summary of all below: zero when there is nothing to do.
    pending: AtomicU32,
    irr: [AtomicU32; 8],
    tmr: [AtomicU32; 8],
    sipi_vector: AtomicU8,
    routing: AtomicU64,
}

impl ApicInbox {
    /// An empty inbox that kicks its vCPU through `kick`. It accepts nothing until a
    /// [`LocalApic`](super::LocalApic) is built on it.
    pub fn new(kick: Arc<dyn Kick>) -> Arc<Self> {
        Arc::new(Self {
            kick,
            pending: AtomicU32::new(0),
            irr: Default::default(),
            tmr: Default::default(),
            sipi_vector: AtomicU8::new(0),
            routing: AtomicU64::new(0),
        })
    }

    /// What the owner has published.
    pub fn routing(&self) -> Routing {
        Routing::from_bits(self.routing.load(Ordering::Relaxed))
    }

    /// True if anything at all waits for the vCPU, masked or not. One load.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed) != 0
    }

    /// Requests a vectored interrupt; false if the APIC does not accept it.
    pub fn post_vector(&self, vector: u8, level: bool) -> bool {
        let routing = self.routing();
        if !routing.enabled() || !routing.software_enabled() {
            return false;
        }
        if vector < FIRST_LEGAL_VECTOR {
            self.post_event(ERROR);
            return false;
        }
        if self.request(vector, level) {
            self.kick.kick();
        }
        true
    }

    /// Requests a non-maskable interrupt.
    pub fn post_nmi(&self) {
        self.post_event(NMI);
    }

    /// Requests INIT, which forgets an older start-up message.
    pub fn post_init(&self) {
        self.pending.fetch_and(!SIPI, Ordering::SeqCst);
        self.post_event(INIT);
    }

    /// Start-up message: the vCPU, if it waits for one, starts at page `vector`.
    pub fn post_sipi(&self, vector: u8) {
        self.sipi_vector.store(vector, Ordering::SeqCst);
        self.post_event(SIPI);
    }

    fn post_event(&self, event: u32) {
        self.pending.fetch_or(event, Ordering::SeqCst);
        self.kick.kick();
    }

    /// Sets an IRR bit without kicking; true if it was clear.
    pub(super) fn request(&self, vector: u8, level: bool) -> bool {
        let (word, bit) = split(vector);
        if level {
            self.tmr[word].fetch_or(bit, Ordering::Relaxed);
        } else if self.tmr[word].load(Ordering::Relaxed) & bit != 0 {
            self.tmr[word].fetch_and(!bit, Ordering::Relaxed);
        }
        let new = self.irr[word].fetch_or(bit, Ordering::SeqCst) & bit == 0;
        self.pending.fetch_or(1 << word, Ordering::SeqCst);
        new
    }

    /// Clears an IRR bit. Only the owner calls this.
    pub(super) fn withdraw(&self, vector: u8) {
        let (word, bit) = split(vector);
        if self.irr[word].fetch_and(!bit, Ordering::SeqCst) & !bit != 0 {
            return;
        }
        // The word became empty. A bit set by others since then must find its summary bit again.
        self.pending.fetch_and(!(1 << word), Ordering::SeqCst);
        if self.irr[word].load(Ordering::SeqCst) != 0 {
            self.pending.fetch_or(1 << word, Ordering::SeqCst);
        }
    }

    /// The highest vector requested.
    #[inline]
    pub(super) fn highest(&self) -> Option<u8> {
        let words = self.pending.load(Ordering::Relaxed) & IRR_WORDS;
        if words == 0 {
            return None;
        }
        (0..8).rev().filter(|word| words & 1 << word != 0).find_map(|word| {
            let bits = self.irr[word].load(Ordering::Acquire);
            bits.checked_ilog2().map(|bit| (word as u32 * 32 + bit) as u8)
        })
    }

    pub(super) fn irr_word(&self, word: usize) -> u32 {
        self.irr[word & 7].load(Ordering::Relaxed)
    }

    pub(super) fn tmr_word(&self, word: usize) -> u32 {
        self.tmr[word & 7].load(Ordering::Relaxed)
    }

    pub(super) fn is_level(&self, vector: u8) -> bool {
        let (word, bit) = split(vector);
        self.tmr[word].load(Ordering::Relaxed) & bit != 0
    }

    pub(super) fn clear_vectors(&self) {
        for word in 0..8 {
            self.irr[word].store(0, Ordering::SeqCst);
            self.tmr[word].store(0, Ordering::SeqCst);
        }
        self.pending.fetch_and(!(IRR_WORDS | ERROR), Ordering::SeqCst);
        // A bit set meanwhile keeps its summary.
        for word in 0..8 {
            if self.irr[word].load(Ordering::SeqCst) != 0 {
                self.pending.fetch_or(1 << word, Ordering::SeqCst);
            }
        }
    }

    pub(super) fn clear_events(&self) {
        self.pending.fetch_and(!(NMI | INIT | SIPI), Ordering::SeqCst);
    }

    pub(super) fn publish(&self, routing: Routing) {
        self.routing.store(routing.into_bits(), Ordering::SeqCst);
    }

    #[inline]
    fn take(&self, event: u32) -> bool {
        self.pending.load(Ordering::Relaxed) & event != 0
            && self.pending.fetch_and(!event, Ordering::SeqCst) & event != 0
    }

    pub(super) fn take_nmi(&self) -> bool {
        self.take(NMI)
    }

    pub(super) fn take_init(&self) -> bool {
        self.take(INIT)
    }

    pub(super) fn take_sipi(&self) -> Option<u8> {
        self.take(SIPI).then(|| self.sipi_vector.load(Ordering::SeqCst))
    }

    pub(super) fn take_error(&self) -> bool {
        self.take(ERROR)
    }
}

impl fmt::Debug for ApicInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApicInbox")
            .field("pending", &self.pending)
            .field("irr", &self.irr)
            .field("tmr", &self.tmr)
            .field("routing", &self.routing())
            .finish_non_exhaustive()
    }
}

/// Word and bit of a vector in a 256-bit register.
pub(super) const fn split(vector: u8) -> (usize, u32) {
    (vector as usize / 32, 1 << (vector % 32))
}
