//! A guest's grants and ports, for tests and fuzz targets of back ends.
#![cfg_attr(not(test), allow(dead_code, reason = "tests use more than fuzz targets"))]

use crate::guest::{BadGrant, Guest, Held};
use crate::width::Width;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Mutex;

/// The guest's port; so are the next ones.
pub const PORT: u32 = 9;
/// Ports that there are.
const PORTS: u32 = 8;

/// A granted page.
struct Page {
    bytes: Vec<u8>,
    is_read_only: bool,
    holds: u32,
}

/// A change to a page that follows a read.
struct Change {
    reference: u32,
    read_at: usize,
    offset: usize,
    bytes: Vec<u8>,
}

/// A guest's grants and ports.
pub struct TestGuest {
    change: Mutex<Option<Change>>,
    pages: Mutex<BTreeMap<u32, Page>>,
    /// Signals, by the port here.
    pub signals: Mutex<BTreeMap<u32, u32>>,
    pub calls: AtomicU32,
    pub later_calls: AtomicU32,
    pub looks: AtomicU32,
    pub bound: AtomicU32,
    pub holds: AtomicU32,
    width: Width,
    device: u32,
}

impl TestGuest {
    /// A guest of this width, with one device.
    pub fn new(width: Width, device: u32) -> Self {
        Self {
            change: Mutex::new(None),
            pages: Mutex::default(),
            signals: Mutex::default(),
            calls: 0.into(),
            later_calls: 0.into(),
            looks: 0.into(),
            bound: 0.into(),
            holds: 0.into(),
            width,
            device,
        }
    }

    pub fn grant(&self, reference: u32, is_read_only: bool) {
        let page = Page { bytes: vec![0; 4096], is_read_only, holds: 0 };
        self.pages.lock().insert(reference, page);
    }

    pub fn revoke(&self, reference: u32) {
        self.pages.lock().remove(&reference);
    }

    pub fn has(&self, reference: u32) -> bool {
        self.pages.lock().contains_key(&reference)
    }

    pub fn bytes(&self, reference: u32) -> Vec<u8> {
        self.pages.lock()[&reference].bytes.clone()
    }

    pub fn fill(&self, reference: u32, offset: usize, bytes: &[u8]) {
        let mut pages = self.pages.lock();
        let page = pages.get_mut(&reference).unwrap();
        page.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Once the back end has read at `entry` of a page, the bytes `offset` behind are others.
    pub fn change_after_read(&self, reference: u32, entry: usize, offset: usize, bytes: &[u8]) {
        let (offset, bytes) = (entry + offset, bytes.to_vec());
        *self.change.lock() = Some(Change { reference, read_at: entry, offset, bytes });
    }

    /// Pages that are held now.
    pub fn held(&self) -> Vec<u32> {
        let pages = self.pages.lock();
        pages.iter().filter(|(_, page)| page.holds > 0).map(|(&reference, _)| reference).collect()
    }
}

impl Guest for TestGuest {
    fn hold(&self, reference: u32, is_writable: bool) -> Result<Held, BadGrant> {
        let mut pages = self.pages.lock();
        let page = pages.get_mut(&reference).ok_or(BadGrant)?;
        if page.is_read_only && is_writable {
            return Err(BadGrant);
        }
        page.holds += 1;
        self.holds.fetch_add(1, Ordering::Relaxed);
        Ok(Held { reference, gpa: 0, is_writable })
    }

    fn release(&self, held: Held) {
        if let Some(page) = self.pages.lock().get_mut(&held.reference) {
            // It may be another page by now.
            page.holds = page.holds.saturating_sub(1);
        }
    }

    fn read(&self, held: &Held, offset: usize, data: &mut [u8]) -> Result<(), BadGrant> {
        let mut pages = self.pages.lock();
        let page = pages.get_mut(&held.reference).ok_or(BadGrant)?;
        data.copy_from_slice(&page.bytes[offset..offset + data.len()]);
        let is_it =
            |change: &mut Change| (change.reference, change.read_at) == (held.reference, offset);
        if let Some(change) = self.change.lock().take_if(is_it) {
            page.bytes[change.offset..][..change.bytes.len()].copy_from_slice(&change.bytes);
        }
        Ok(())
    }

    fn write(&self, held: &Held, offset: usize, data: &[u8]) -> Result<(), BadGrant> {
        assert!(held.is_writable);
        let mut pages = self.pages.lock();
        let page = pages.get_mut(&held.reference).ok_or(BadGrant)?;
        page.bytes[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn bind(&self, port: u32) -> Option<u32> {
        let is_allocated = (PORT..PORT + PORTS).contains(&port);
        is_allocated.then(|| self.bound.fetch_add(1, Ordering::Relaxed)).map(|_| 40 + port)
    }

    fn unbind(&self, local_port: u32) {
        assert!(local_port >= 40 + PORT);
        self.bound.fetch_sub(1, Ordering::Relaxed);
    }

    fn notify(&self, local_port: u32) {
        *self.signals.lock().entry(local_port).or_default() += 1;
    }

    fn width(&self) -> Width {
        self.width
    }

    fn call_back(&self, device: u32) {
        assert_eq!(device, self.device);
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    fn look_later(&self, device: u32) {
        assert_eq!(device, self.device);
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    fn call_back_later(&self, device: u32) {
        assert_eq!(device, self.device);
        self.later_calls.fetch_add(1, Ordering::Relaxed);
    }
}
