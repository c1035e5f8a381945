//! The guest, as a back end reaches it.

use crate::width::Width;

/// A granted page that is held: the guest cannot take it back meanwhile.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// The grant reference.
    pub reference: u32,
    /// The page's guest-physical address.
    pub gpa: u64,
    /// It may be written.
    pub is_writable: bool,
}

/// The grant is none, or not for this use, or its page is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadGrant;

/// A guest with a grant table and event channels. Offsets and lengths stay within a page.
pub trait Guest: Send + Sync {
    /// Holds a granted page.
    ///
    /// # Errors
    /// [`BadGrant`].
    fn hold(&self, reference: u32, is_writable: bool) -> Result<Held, BadGrant>;

    /// Holds several pages, and tells `take` of each.
    ///
    /// # Errors
    /// [`BadGrant`], after those before it have been told.
    fn hold_all(
        &self,
        references: &mut dyn Iterator<Item = u32>,
        is_writable: bool,
        take: &mut dyn FnMut(Held),
    ) -> Result<(), BadGrant> {
        for reference in references {
            take(self.hold(reference, is_writable)?);
        }
        Ok(())
    }

    /// Lets a page go.
    fn release(&self, held: Held);

    /// Lets several pages go.
    fn release_all(&self, held: &mut dyn Iterator<Item = Held>) {
        held.for_each(|held| self.release(held));
    }

    /// Copies from a page: an aligned number of 4 bytes in one access.
    ///
    /// # Errors
    /// [`BadGrant`] if it is gone.
    fn read(&self, held: &Held, offset: usize, data: &mut [u8]) -> Result<(), BadGrant>;

    /// Copies to a page that is writable: an aligned number of 4 bytes in one access.
    ///
    /// # Errors
    /// [`BadGrant`] if it is gone.
    fn write(&self, held: &Held, offset: usize, data: &[u8]) -> Result<(), BadGrant>;

    /// Reads an index of a ring.
    ///
    /// # Errors
    /// [`BadGrant`] if the page is gone.
    fn read_u32(&self, held: &Held, offset: usize) -> Result<u32, BadGrant> {
        let mut bytes = [0; 4];
        self.read(held, offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes an index of a ring.
    ///
    /// # Errors
    /// [`BadGrant`] if the page is gone.
    fn write_u32(&self, held: &Held, offset: usize, value: u32) -> Result<(), BadGrant> {
        self.write(held, offset, &value.to_le_bytes())
    }

    /// Connects to a port that the guest has allocated for domain 0, and returns the end here;
    /// none if there is no such port.
    fn bind(&self, port: u32) -> Option<u32>;

    /// Ends that.
    fn unbind(&self, local_port: u32);

    /// Signals the guest's end.
    fn notify(&self, local_port: u32);

    /// The layout of structures that the guest has shown to be its own.
    fn width(&self) -> Width;

    /// Asks that the device `device` be served and attended to soon, from elsewhere.
    fn call_back(&self, device: u32);

    /// Asks that the disk `device` look for requests in a while, and be served whenever the guest
    /// has nothing to run before that.
    fn look_later(&self, device: u32);

    /// The same for a little later.
    fn call_back_later(&self, device: u32);
}
