//! Locks that have a place in an order, so that no two CPUs wait for each other: whoever holds one
//! takes only such as come after it.
//!
//! On the development host each lock that is taken is compared with those that its thread holds, in
//! builds with debug assertions: tests and fuzz targets. In the image a lock is `spin`'s, and costs
//! nothing more.

use core::fmt;
use core::ops::{Deref, DerefMut};

/// The places, from the first to be taken to the last.
pub mod rank {
    /// A virtual CPU, by the CPU that it is on.
    pub const VCPU: u8 = 0;
    /// The timers that a CPU keeps for others: what they do when they ring is done with it held.
    pub const TIMEKEEPER: u8 = 10;
    /// The guest's bus, by a locked instruction.
    pub const BUS: u8 = 20;
    /// The places in the guest's memory where things are shown.
    pub const LAYOUT: u8 = 30;
    /// XenStore, and the list of guests that are connected to it.
    pub const PV_STORE: u8 = 32;
    /// A PV back end, or a guest's connection to XenStore.
    pub const PV_BACK_END: u8 = 33;
    /// The lists of a back end's that are looked into for a moment.
    pub const PV_LIST: u8 = 34;
    /// The event channels of a guest.
    pub const PV_PORTS: u8 = 35;
    /// The grants of a guest that are in use.
    pub const PV_GRANTS: u8 = 36;
    /// The rest of a guest's PV-on-HVM platform.
    pub const PV_STATE: u8 = 37;
    /// A device.
    pub const DEVICE: u8 = 40;
    /// A bridge of the virtual switch: its ports, and behind which of them an address is.
    pub const NET_BRIDGE: u8 = 42;
    /// The frames that wait at a port of a bridge.
    pub const NET_PORT: u8 = 43;
    /// The account of a timer's ticks: those that are owed are put on its line.
    pub const TICKS: u8 = 45;
    /// A junction of interrupt lines.
    pub const LINE: u8 = 50;
    /// An interrupt controller.
    pub const CONTROLLER: u8 = 60;
    /// A disk in memory, while a piece of it is copied.
    pub const MEDIUM: u8 = 75;
    /// The guest's address space: second-level tables.
    pub const SPACE: u8 = 80;
    /// The clearing of memory that is touched for the first time.
    pub const CLEARING: u8 = 90;
    /// The scheduler, which a wake-up asks.
    pub const SCHEDULER: u8 = 100;
}

/// A lock with a place in the order, one of [`rank`].
///
/// ```
/// use devices::lock::{Ranked, rank};
///
/// let device = Ranked::<_, { rank::DEVICE }>::new(1);
/// let controller = Ranked::<_, { rank::CONTROLLER }>::new(2);
/// let state = device.lock();
/// assert_eq!(*state + *controller.lock(), 3);
/// ```
///
/// The other way round:
///
/// ```should_panic
/// # use devices::lock::{Ranked, rank};
/// # let device = Ranked::<_, { rank::DEVICE }>::new(1);
/// # let controller = Ranked::<_, { rank::CONTROLLER }>::new(2);
/// let state = controller.lock();
/// assert_eq!(*state + *device.lock(), 3);
/// ```
#[derive(Default)]
pub struct Ranked<T: ?Sized, const RANK: u8>(spin::Mutex<T>);

/// A device's own lock.
pub type DeviceLock<T> = Ranked<T, { rank::DEVICE }>;
/// An interrupt controller's.
pub type ControllerLock<T> = Ranked<T, { rank::CONTROLLER }>;

/// The right to what a [`Ranked`] guards.
pub struct Guard<'a, T: ?Sized, const RANK: u8> {
    inner: spin::MutexGuard<'a, T>,
    // Dropped last.
    _place: Place<RANK>,
}

impl<T, const RANK: u8> Ranked<T, RANK> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }
}

impl<T: ?Sized, const RANK: u8> Ranked<T, RANK> {
    /// Waits for the lock.
    #[inline(always)]
    pub fn lock(&self) -> Guard<'_, T, RANK> {
        let place = Place::take();
        Guard { inner: self.0.lock(), _place: place }
    }

    /// The value itself, which nothing else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized, const RANK: u8> Deref for Guard<'_, T, RANK> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized, const RANK: u8> DerefMut for Guard<'_, T, RANK> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized + fmt::Debug, const RANK: u8> fmt::Debug for Ranked<T, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place that this CPU has taken.
struct Place<const RANK: u8>;

impl<const RANK: u8> Place<RANK> {
    #[inline(always)]
    fn take() -> Self {
        take(RANK);
        Self
    }
}

impl<const RANK: u8> Drop for Place<RANK> {
    #[inline(always)]
    fn drop(&mut self) {
        leave(RANK);
    }
}

#[cfg(not(all(debug_assertions, not(target_os = "none"))))]
mod order {
    /// Notes that this CPU is about to wait for a lock of this rank.
    #[inline(always)]
    pub const fn take(_rank: u8) {}

    /// Notes that it holds that no more.
    #[inline(always)]
    pub const fn leave(_rank: u8) {}
}

#[cfg(all(debug_assertions, not(target_os = "none")))]
mod order {
    extern crate std;

    use core::cell::RefCell;
    use std::thread_local;
    use std::vec::Vec;

    thread_local! {
        /// The ranks that this thread holds.
        static HELD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    /// Notes that this thread is about to wait for a lock of this rank.
    ///
    /// # Panics
    /// If it holds one of that rank or of one behind.
    pub fn take(rank: u8) {
        HELD.with_borrow_mut(|held| {
            let last = held.iter().max();
            assert!(
                last.is_none_or(|&last| last < rank),
                "a lock of rank {rank} is taken with those of ranks {held:?} held"
            );
            held.push(rank);
        });
    }

    /// Notes that it holds that no more.
    pub fn leave(rank: u8) {
        HELD.with_borrow_mut(|held| {
            if let Some(index) = held.iter().rposition(|&other| other == rank) {
                held.remove(index);
            }
        });
    }
}

pub use order::{leave, take};

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    type First = Ranked<u8, 1>;
    type Second = Ranked<u8, 2>;

    #[test]
    fn locks_are_given_back_in_any_order_and_taken_again() {
        let (first, second) = (First::new(1), Second::new(2));
        for _ in 0..2 {
            let (one, two) = (first.lock(), second.lock());
            drop(one);
            assert_eq!(*two, 2);
        }
        *first.lock() += 1;
        assert_eq!(*first.lock(), 2);
    }

    #[test]
    #[should_panic = "a lock of rank 2 is taken with those of ranks [2] held"]
    fn two_of_one_rank_have_no_order() {
        let (one, other) = (Second::new(1), Second::new(2));
        let _one = one.lock();
        other.lock();
    }

    #[test]
    #[should_panic = "a lock of rank 1 is taken with those of ranks [2] held"]
    fn a_place_that_was_passed_by_is_not_taken() {
        let (first, second) = (First::new(1), Second::new(2));
        let one = first.lock();
        let _two = second.lock();
        drop(one);
        first.lock();
    }

    #[test]
    fn threads_hold_their_own() {
        let (first, second) = (First::new(1), Second::new(2));
        let _two = second.lock();
        std::thread::scope(|scope| scope.spawn(|| assert_eq!(*first.lock(), 1)).join()).unwrap();
    }
}
