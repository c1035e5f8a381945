//! The guest's way to XenStore: a ring page and a port.

use super::BackEnds;
use crate::events::BackEnd;
use crate::pages::STORE;
use crate::platform::PvPlatform;
use crate::store::{PageGone, SharedPage};
use alloc::sync::Weak;

/// The page, wherever the guest has put it.
pub struct StorePage<'a>(pub &'a PvPlatform);

impl SharedPage for StorePage<'_> {
    fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), PageGone> {
        self.0.with_page(STORE, |page| page.read(offset as u64, data)).map_err(|_| PageGone)
    }

    fn write(&self, offset: usize, data: &[u8]) -> Result<(), PageGone> {
        self.0.with_page(STORE, |page| page.write(offset as u64, data)).map_err(|_| PageGone)
    }
}

/// The port.
pub struct StorePort(pub Weak<BackEnds>);

impl BackEnd for StorePort {
    fn notified(&self) {
        if let Some(back_ends) = self.0.upgrade() {
            back_ends.serve_store();
        }
    }
}
