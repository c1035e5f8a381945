//! Heap memory set aside before a piece of work begins, so that the work comes to its end or does
//! not begin: a request, a picture, a guest's start. Memory that is short then shows as one error
//! line, where an allocation that fails would end the hypervisor.

use crate::host::Host;
use core::fmt;

/// Heap memory that is set aside until this is dropped.
pub struct Budget {
    host: &'static dyn Host,
    bytes: u64,
}

/// The hypervisor's heap cannot give so much away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfHeap {
    /// The bytes asked for.
    pub bytes: u64,
}

impl fmt::Display for OutOfHeap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "too little memory: {} KiB of the hypervisor's heap are not free",
            self.bytes.div_ceil(1024)
        )
    }
}

impl Budget {
    /// Sets `bytes` aside, beside all that is set aside already and what the heap keeps for the
    /// hypervisor itself.
    ///
    /// # Errors
    /// [`OutOfHeap`] if there is no room for that.
    pub fn reserve(host: &'static dyn Host, bytes: u64) -> Result<Self, OutOfHeap> {
        if host.reserve_heap(bytes) { Ok(Self { host, bytes }) } else { Err(OutOfHeap { bytes }) }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.host.return_heap(self.bytes);
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_host::TestHost;

    #[test]
    fn a_budget_is_given_back_once() {
        let host = TestHost::leak();
        let budgets = [Budget::reserve(host, 1000).unwrap(), Budget::reserve(host, 24).unwrap()];
        assert_eq!(host.reserved_heap_bytes(), 1024);
        host.refuse_heap_after(0);
        let refused = Budget::reserve(host, 5000).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "too little memory: 5 KiB of the hypervisor's heap are not free"
        );
        drop(budgets);
        assert_eq!(host.reserved_heap_bytes(), 0);
    }
}
