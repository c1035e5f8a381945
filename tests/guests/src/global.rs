//! Variables that assembly, interrupt handlers and the hardware change too.

use core::cell::UnsafeCell;

/// A static variable of which nobody holds a reference: it is read and written whole, or by its
/// address.
#[repr(transparent)]
pub struct Global<T>(UnsafeCell<T>);

// SAFETY: no reference into the variable is given out. Variables that several CPUs change are
// atomics instead, or addresses that they access by instructions of the topic's choice.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// With a value.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Where it is.
    pub const fn address(&self) -> *mut T {
        self.0.get()
    }

    /// Its value.
    pub fn get(&self) -> T
    where
        T: Copy,
    {
        unsafe { self.address().read_volatile() }
    }

    /// Replaces its value.
    pub fn set(&self, value: T) {
        unsafe { self.address().write_volatile(value) }
    }
}
