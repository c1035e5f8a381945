//! What others may do to a local APIC: everything that reaches a vCPU from outside passes through here, without
//! locks.

use super::spec::{FIRST_LEGAL_VECTOR, x2apic_logical_id};
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
    /// True if a logical destination means this APIC.
    pub const fn matches_logical(self, destination: u32) -> bool {
        if !self.enabled() {
            return false;
        }
        if self.x2apic() {
            let own = x2apic_logical_id(self.id());
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

/// Bits of [`ApicInbox::pending`] that say which words of vectors hold something; those beyond are events.
const VECTOR_WORDS: u32 = 0xff;
const NMI: u32 = 1 << 8;
const INIT: u32 = 1 << 9;
const SIPI: u32 = 1 << 10;
const ERROR: u32 = 1 << 11;

/// The part of a local APIC that others reach.
pub struct ApicInbox {
    kick: Arc<dyn Kick>,
    /// Summary of all below: zero when there is nothing to do.
    pending: AtomicU32,
    /// Vectors that were posted and that the owner has not moved to its registers yet.
    posted: [AtomicU32; 8],
    /// Those whose last post was of a level-triggered interrupt.
    level: [AtomicU32; 8],
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
            posted: Default::default(),
            level: Default::default(),
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

    /// Posts a vector without kicking; true if it was not posted yet.
    pub(super) fn request(&self, vector: u8, level: bool) -> bool {
        let (word, bit) = split(vector);
        let (posted, levels) = (&self.posted[usize::from(word)], &self.level[usize::from(word)]);
        if level {
            levels.fetch_or(bit, Ordering::Relaxed);
        } else if levels.load(Ordering::Relaxed) & bit != 0 {
            levels.fetch_and(!bit, Ordering::Relaxed);
        }
        let new = posted.fetch_or(bit, Ordering::SeqCst) & bit == 0;
        self.pending.fetch_or(1 << word, Ordering::SeqCst);
        new
    }

    /// Takes what was posted: `each` gets the number of a word, its vectors, and which of them are level-triggered.
    #[inline]
    pub(super) fn take_vectors(&self, mut each: impl FnMut(u8, u32, u32)) {
        let mut words = self.pending.load(Ordering::Relaxed) & VECTOR_WORDS;
        if words == 0 {
            return;
        }
        // What is posted from here on sets its summary bit again.
        self.pending.fetch_and(!words, Ordering::SeqCst);
        while words != 0 {
            let word = words.trailing_zeros() as u8;
            words &= words - 1;
            let vectors = self.posted[usize::from(word)].swap(0, Ordering::SeqCst);
            each(word, vectors, self.level[usize::from(word)].load(Ordering::Relaxed));
        }
    }

    /// Forgets vectors and errors that were posted.
    pub(super) fn clear_vectors(&self) {
        self.pending.fetch_and(!ERROR, Ordering::SeqCst);
        self.take_vectors(|_, _, _| {});
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
            .field("posted", &self.posted)
            .field("level", &self.level)
            .field("routing", &self.routing())
            .finish_non_exhaustive()
    }
}

/// Word and bit of a vector in a 256-bit register.
pub(super) const fn split(vector: u8) -> (u8, u32) {
    (vector / 32, 1 << (vector % 32))
}
