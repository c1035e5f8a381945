//! Tags of address spaces: by them a CPU tells the cached translations of its guests apart. AMD
//! calls them ASIDs (APM volume 2, 15.16), Intel VPIDs (SDM volume 3, 29.4).

use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::Mutex;

/// The tags of one physical CPU.
#[derive(Debug)]
pub struct TagPool {
    /// The highest one, which virtual CPUs share when the others are taken.
    last: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The lowest one that was never taken.
    next: u32,
    given_back: Vec<u32>,
}

/// A tag, given back when it is dropped. The default is none: that of a virtual CPU on no CPU.
#[derive(Debug, Default)]
pub struct Tag {
    number: u32,
    /// Where it goes back to; `None` if it is the shared one, or none.
    pool: Option<Arc<TagPool>>,
}

impl TagPool {
    /// The pool of a CPU with tags 0, which is the host's, to `count - 1`.
    pub fn new(count: u32) -> Arc<Self> {
        let last = count.saturating_sub(1).max(1);
        Arc::new(Self { last, state: Mutex::new(State { next: 1, given_back: Vec::new() }) })
    }

    /// A tag for a virtual CPU: one of its own while there are any. Translations that the CPU
    /// cached for a former owner are still there: the new one flushes them before it runs.
    pub fn take(self: &Arc<Self>) -> Tag {
        let mut state = self.state.lock();
        let number = match state.given_back.pop() {
            Some(number) => number,
            None if state.next < self.last => {
                state.next += 1;
                state.next - 1
            }
            None => return Tag { number: self.last, pool: None },
        };
        Tag { number, pool: Some(self.clone()) }
    }
}

impl Tag {
    /// The value for the VMCB or VMCS.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// True if others use it too: then each entry must flush.
    pub const fn is_shared(&self) -> bool {
        self.pool.is_none()
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.state.lock().given_back.push(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_until_they_run_out() {
        let pool = TagPool::new(4);
        let (first, second, third) = (pool.take(), pool.take(), pool.take());
        assert_eq!([first.number(), second.number(), third.number()], [1, 2, 3]);
        assert_eq!(
            [first.is_shared(), second.is_shared(), third.is_shared()],
            [false, false, true]
        );
        assert!(TagPool::new(1).take().is_shared());
    }

    #[test]
    fn a_guest_that_restarts_for_ever_leaves_some_for_the_others() {
        let pool = TagPool::new(4);
        for _ in 0..100 {
            assert!(!pool.take().is_shared());
        }
        let (first, second) = (pool.take(), pool.take());
        assert!(!first.is_shared() && !second.is_shared() && first.number() != second.number());
    }
}
