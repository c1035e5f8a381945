//! The two signals that the keyboard controller and port 92h share: the A20 gate and the processor's reset.

/// The wire to both. Never called by a device that holds its lock, so that a reset may reset the caller.
pub trait SystemControl: Send + Sync {
    /// Opens or closes the A20 gate. While it is closed, physical address bit 20 reads as zero.
    fn set_a20(&self, enabled: bool);
    /// True if the A20 gate is open.
    fn a20(&self) -> bool;
    /// Resets the machine.
    fn reset(&self);
}

/// The gate and a count of resets, for tests.
#[derive(Debug, Default)]
pub struct SystemProbe {
    a20: core::sync::atomic::AtomicBool,
    resets: core::sync::atomic::AtomicU32,
}

impl SystemProbe {
    /// Resets since the last call.
    pub fn take_resets(&self) -> u32 {
        self.resets.swap(0, core::sync::atomic::Ordering::Relaxed)
    }
}

impl SystemControl for SystemProbe {
    fn set_a20(&self, enabled: bool) {
        self.a20.store(enabled, core::sync::atomic::Ordering::Relaxed);
    }

    fn a20(&self) -> bool {
        self.a20.load(core::sync::atomic::Ordering::Relaxed)
    }

    fn reset(&self) {
        self.resets.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    }
}
