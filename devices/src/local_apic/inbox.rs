//! The inbox of a local APIC: everything that reaches a vCPU from outside passes through here,
//! without locks.

use super::lint::LintPins;
use super::spec::{FIRST_LEGAL_VECTOR, x2apic_logical_id};
use crate::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use alloc::sync::Arc;
use bitfield_struct::bitfield;
use core::fmt;

/// The wire that makes a vCPU look at its inbox: it leaves the guest or wakes from HLT. Called from
/// any CPU, possibly by the vCPU itself, after the message is visible.
pub trait Kick: Send + Sync {
    /// Makes the vCPU look.
    fn kick(&self);

    /// The same for vectors that a processor with posted interrupts may take by itself, without
    /// leaving the guest.
    fn notify(&self) {
        self.kick();
    }
}

/// The address that a local APIC publishes for messages: its IDs, and whether it accepts any.
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
    /// There is no processor: not enabled, whatever its registers say.
    pub absent: bool,
    #[bits(19)]
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

/// Bits of [`Posted::pending`]. The first is Intel's "outstanding notification"; in the others
/// nobody but us is interested.
const VECTORS: u32 = 1 << 0;
const NMI: u32 = 1 << 8;
const INIT: u32 = 1 << 9;
const SIPI: u32 = 1 << 10;
const ERROR: u32 = 1 << 11;
const LEVEL_VECTORS: u32 = 1 << 12;
const RESET: u32 = 1 << 13;
const LOOK: u32 = 1 << 14;
const LOOK_AGAIN: u32 = 1 << 15;

/// Interrupts posted and not yet moved to the registers: Intel's posted-interrupt descriptor (SDM
/// volume 3, 30.6). A processor that has posted interrupts moves `vectors` to the register page
/// while the guest runs, and clears the first bit of `pending`. It has 64 bytes, and is aligned to
/// them; Bochs 3.0 wants it at the start of a page.
#[derive(Debug, Default)]
// A model's stack is small.
#[cfg_attr(not(feature = "loom"), repr(C, align(4096)))]
struct Posted {
    /// Edge-triggered vectors.
    vectors: [AtomicU32; 8],
    /// Summary of all that waits: zero when there is nothing to do.
    pending: AtomicU32,
    reserved: [u32; 7],
}

/// Why a virtual CPU looks for what is told past its local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// [`ApicInbox::post_look`].
    New,
    /// [`LocalApic::keep_look`](super::LocalApic::keep_look), and nothing new since.
    Again,
}

/// The part of a local APIC that others reach.
pub struct ApicInbox {
    posted: Posted,
    /// Level-triggered vectors, whose end the vCPU has to hear of: no processor takes them by
    /// itself.
    level: [AtomicU32; 8],
    kick: Arc<dyn Kick>,
    sipi_vector: AtomicU8,
    routing: AtomicU64,
    pub(super) pins: LintPins,
}

impl ApicInbox {
    /// An empty inbox that kicks its vCPU through `kick`. It accepts nothing until a
    /// [`LocalApic`](super::LocalApic) is built on it.
    pub fn new(kick: Arc<dyn Kick>) -> Arc<Self> {
        Arc::new(Self {
            posted: Posted::default(),
            level: Default::default(),
            kick,
            sipi_vector: AtomicU8::new(0),
            routing: AtomicU64::new(0),
            pins: LintPins::new(),
        })
    }

    /// Address of the posted-interrupt descriptor, for the processor; a multiple of 4096.
    pub fn descriptor_address(&self) -> usize {
        core::ptr::from_ref(&self.posted) as usize
    }

    /// The processor's work at a notification (SDM volume 3, 30.6).
    #[cfg(test)]
    pub(super) fn process_posted(&self, page: &super::RegisterPage) {
        use super::Vectors::Requested;
        self.posted.pending.fetch_and(!VECTORS, Ordering::SeqCst);
        for (word, vectors) in (0..).zip(&self.posted.vectors) {
            let vectors = vectors.swap(0, Ordering::SeqCst);
            page.set_vectors(Requested, word, page.vectors(Requested, word) | vectors);
        }
    }

    /// The routing that the owner has published.
    pub fn routing(&self) -> Routing {
        Routing::from_bits(self.routing.load(Ordering::Relaxed))
    }

    /// True if anything at all waits for the vCPU, masked or not. One load.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.posted.pending.load(Ordering::Relaxed) != 0
    }

    /// Requests a vectored interrupt; false if the APIC does not accept it.
    pub fn post_vector(&self, vector: u8, level: bool) -> bool {
        let routing = self.routing();
        if !routing.enabled() || !routing.software_enabled() {
            return false;
        }
        if vector < FIRST_LEGAL_VECTOR {
            self.post_illegal_vector();
            return false;
        }
        self.post(vector, level);
        true
    }

    /// Reports that an interrupt had an illegal vector.
    pub(super) fn post_illegal_vector(&self) {
        self.post_event(ERROR);
    }

    /// Requests a non-maskable interrupt.
    pub fn post_nmi(&self) {
        self.post_event(NMI);
    }

    /// Requests INIT, which forgets an older start-up message.
    pub fn post_init(&self) {
        self.posted.pending.fetch_and(!SIPI, Ordering::SeqCst);
        self.post_event(INIT);
    }

    /// No processor is there from now on: messages pass it by. Its vCPU begins anew, as after
    /// power-on, and waits.
    pub(super) fn remove(&self) {
        self.update_routing(|routing| routing.with_absent(true).with_enabled(false));
        self.posted.pending.fetch_and(!SIPI, Ordering::SeqCst);
        self.post_event(INIT | RESET);
    }

    /// A processor is there from now on, with the local APIC enabled, as after power-on.
    pub(super) fn plug(&self) {
        self.update_routing(|routing| routing.with_absent(false).with_enabled(true));
    }

    /// Start-up message: the vCPU, if it waits for one, starts at page `vector`.
    pub fn post_sipi(&self, vector: u8) {
        self.sipi_vector.store(vector, Ordering::SeqCst);
        self.post_event(SIPI);
    }

    /// The vCPU is to look for what is told past its local APIC, and wakes for it.
    pub fn post_look(&self) {
        self.post_event(LOOK);
    }

    /// It is to look once more: what it has found must wait. Called by the vCPU itself.
    pub(super) fn keep_look(&self) {
        self.posted.pending.fetch_or(LOOK_AGAIN, Ordering::SeqCst);
    }

    pub(super) fn take_look(&self) -> Option<Look> {
        const BOTH: u32 = LOOK | LOOK_AGAIN;
        if self.posted.pending.load(Ordering::Relaxed) & BOTH == 0 {
            return None;
        }
        let taken = self.posted.pending.fetch_and(!BOTH, Ordering::SeqCst);
        Some(if taken & LOOK != 0 { Look::New } else { Look::Again })
    }

    /// True if something waits, [`ApicInbox::post_look`] apart.
    pub(super) fn has_messages(&self) -> bool {
        self.posted.pending.load(Ordering::Relaxed) & !(LOOK | LOOK_AGAIN) != 0
    }

    fn post_event(&self, event: u32) {
        self.posted.pending.fetch_or(event, Ordering::SeqCst);
        self.kick.kick();
    }

    /// Requests the edge-triggered interrupt of `vector`, which is a legal one, also of an APIC
    /// that is disabled: it is delivered when that is enabled.
    pub fn post_upcall(&self, vector: u8) {
        self.post(vector, false);
    }

    /// Posts a vector, whether the APIC accepts interrupts or not.
    pub(super) fn post(&self, vector: u8, level: bool) {
        let (word, bit) = split(vector);
        let (vectors, summary) =
            if level { (&self.level, LEVEL_VECTORS) } else { (&self.posted.vectors, VECTORS) };
        vectors[usize::from(word)].fetch_or(bit, Ordering::SeqCst);
        let is_known = self.posted.pending.fetch_or(summary, Ordering::SeqCst) & summary != 0;
        match (is_known, level) {
            (true, _) => {}
            (false, true) => self.kick.kick(),
            (false, false) => self.kick.notify(),
        }
    }

    /// Makes the vCPU look at what is not here.
    pub(super) fn kick(&self) {
        self.kick.kick();
    }

    /// Takes what was posted: `each` gets the number of a word, its edge-triggered vectors and its
    /// level-triggered ones, edges first.
    #[inline]
    pub(super) fn take_vectors(&self, mut each: impl FnMut(u8, u32, u32)) {
        // A vector that is posted from here on sets its summary bit again.
        let taken = self.take_bits(VECTORS | LEVEL_VECTORS);
        if taken & VECTORS != 0 {
            take_words(&self.posted.vectors, |word, edge| each(word, edge, 0));
        }
        if taken & LEVEL_VECTORS != 0 {
            take_words(&self.level, |word, level| each(word, 0, level));
        }
    }

    /// Forgets vectors and errors that were posted.
    pub(super) fn clear_vectors(&self) {
        self.take(ERROR);
        self.take_vectors(|_, _, _| {});
    }

    /// The owner's own routing, which counts while the processor is there.
    pub(super) fn publish(&self, routing: Routing) {
        self.update_routing(|old| {
            let is_enabled = routing.enabled() && !old.absent();
            routing.with_absent(old.absent()).with_enabled(is_enabled)
        });
    }

    fn update_routing(&self, change: impl Fn(Routing) -> Routing) {
        let change = |bits| Some(change(Routing::from_bits(bits)).into_bits());
        // Every change is one.
        let _ = self.routing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
    }

    /// Clears bits of the summary; true if one of them was set.
    #[inline]
    fn take(&self, bits: u32) -> bool {
        self.take_bits(bits) != 0
    }

    /// Clears bits of the summary, and returns those that were set.
    #[inline]
    fn take_bits(&self, bits: u32) -> u32 {
        match self.posted.pending.load(Ordering::Relaxed) & bits {
            0 => 0,
            _ => self.posted.pending.fetch_and(!bits, Ordering::SeqCst) & bits,
        }
    }

    pub(super) fn has_nmi(&self) -> bool {
        self.posted.pending.load(Ordering::Relaxed) & NMI != 0
    }

    pub(super) fn take_nmi(&self) -> bool {
        self.take(NMI)
    }

    pub(super) fn take_init(&self) -> bool {
        self.take(INIT)
    }

    pub(super) fn take_reset(&self) -> bool {
        self.take(RESET)
    }

    pub(super) fn take_sipi(&self) -> Option<u8> {
        // One that is removed meanwhile does not start.
        let starts = self.take(SIPI) && !self.routing().absent();
        starts.then(|| self.sipi_vector.load(Ordering::SeqCst))
    }

    pub(super) fn take_error(&self) -> bool {
        self.take(ERROR)
    }
}

impl fmt::Debug for ApicInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApicInbox")
            .field("posted", &self.posted)
            .field("level", &self.level)
            .field("routing", &self.routing())
            .finish_non_exhaustive()
    }
}

/// Empties a 256-bit register: `each` gets the number of a word, and what was in it.
#[inline]
fn take_words(words: &[AtomicU32; 8], mut each: impl FnMut(u8, u32)) {
    for (number, word) in (0..).zip(words) {
        if word.load(Ordering::Relaxed) != 0 {
            each(number, word.swap(0, Ordering::SeqCst));
        }
    }
}

/// Word and bit of a vector in a 256-bit register.
pub(super) const fn split(vector: u8) -> (u8, u32) {
    (vector / 32, 1 << (vector % 32))
}

/// Every order of CPUs that post and the vCPU that takes.
#[cfg(all(test, feature = "loom"))]
mod model {
    use super::*;
    use crate::atomic::AtomicBool;

    #[derive(Default)]
    struct Wire(AtomicBool);

    impl Kick for Wire {
        fn kick(&self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_vector_is_taken_or_waits_behind_a_kick() {
        const POSTED: u32 = 0b110 << 16;
        loom::model(|| {
            let wire = Arc::new(Wire::default());
            let inbox = ApicInbox::new(wire.clone());
            let posters = [(0x31, false), (0x32, true)].map(|(vector, level)| {
                let inbox = inbox.clone();
                loom::thread::spawn(move || inbox.post(vector, level))
            });
            let (mut taken, mut left) = (0, 0);
            inbox.take_vectors(|_, edge, level| taken |= edge | level);
            posters.into_iter().for_each(|poster| poster.join().unwrap());
            // By exchanges: after a join too, loom lets a load see an older store than an exchange
            // has seen.
            for (vectors, summary) in
                [(&inbox.posted.vectors, VECTORS), (&inbox.level, LEVEL_VECTORS)]
            {
                let waiting =
                    vectors.iter().fold(0, |all, word| all | word.swap(0, Ordering::SeqCst));
                let is_known = inbox.posted.pending.fetch_or(0, Ordering::SeqCst) & summary != 0;
                assert!(waiting == 0 || is_known, "a vector waits, and nothing says so");
                left |= waiting;
            }
            assert_eq!(taken | left, POSTED, "a vector is lost");
            assert!(
                left == 0 || wire.0.swap(false, Ordering::SeqCst),
                "a vector waits, and nothing kicked"
            );
        });
    }
}
