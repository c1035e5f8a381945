//! The memory that a guest is to have, and may have.

use super::BackEnds;
use crate::pages::PAGE_BYTES;
use crate::platform::PvPlatform;
use crate::store::tree;
use core::sync::atomic::{AtomicU64, Ordering};

const PAGE_KIB: u64 = PAGE_BYTES / 1024;
/// A guest may have so much more than it is to have (libxl, `LIBXL_MAXMEM_CONSTANT`).
const SLACK_KIB: u64 = 1024;

/// The amounts, in KiB of RAM.
pub(super) struct Balloon {
    static_max_kib: u64,
    target_kib: AtomicU64,
}

impl Balloon {
    /// A guest that starts with RAM of `static_max_kib`, and is to have `target_kib` of it.
    pub fn new(platform: &PvPlatform, static_max_kib: u64, target_kib: u64) -> Self {
        let balloon = Self { static_max_kib, target_kib: AtomicU64::new(target_kib) };
        platform.set_max_pages(balloon.most_pages(target_kib));
        balloon
    }

    /// The most pages of a guest that is to have, or may have, this much.
    fn most_pages(&self, kib: u64) -> u64 {
        kib.saturating_add(SLACK_KIB).min(self.static_max_kib) / PAGE_KIB
    }
}

impl BackEnds {
    /// The RAM that the guest has.
    pub fn memory_kib(&self) -> u64 {
        self.platform.machine().ram_pages() * PAGE_KIB
    }

    /// The RAM that it is to have.
    pub fn memory_target_kib(&self) -> u64 {
        self.balloon.target_kib.load(Ordering::Relaxed)
    }

    /// Asks the guest to have so much RAM, and lets it have no more (`xl mem-set`). False if that
    /// is more than there can be.
    pub fn set_memory_target(&self, kib: u64) -> bool {
        if kib > self.balloon.static_max_kib {
            return false;
        }
        self.platform.set_max_pages(self.balloon.most_pages(kib));
        self.balloon.target_kib.store(kib, Ordering::Relaxed);
        let domain = self.platform.domain();
        // The path is valid.
        self.shared.with(|store| tree::set_memory_target(store, domain, kib)).is_ok()
    }

    /// Lets the guest have so much RAM at the most, without asking it for anything (`xl mem-max`).
    /// False if that is less than it is to have.
    pub fn set_max_memory(&self, kib: u64) -> bool {
        let is_enough = kib >= self.memory_target_kib();
        if is_enough {
            self.platform.set_max_pages(self.balloon.most_pages(kib));
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_some_slack_but_no_more_than_there_can_be() {
        let balloon = Balloon { static_max_kib: 8 << 10, target_kib: AtomicU64::new(0) };
        let pages = |mib: u64| mib << 8;
        let most = [0, 4 << 10, 7 << 10, 8 << 10, u64::MAX].map(|kib| balloon.most_pages(kib));
        assert_eq!(most, [1, 5, 8, 8, 8].map(pages));
    }
}
