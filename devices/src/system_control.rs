//! The two signals that the keyboard controller and port 92h share: the A20 gate and INIT# of the
//! processors.

/// The wire to both. Never called by a device that holds its lock.
pub trait SystemControl: Send + Sync {
    /// Opens or closes the A20 gate. While it is closed, physical address bit 20 reads as zero.
    fn set_a20(&self, enabled: bool);
    /// True if the A20 gate is open.
    fn a20(&self) -> bool;
    /// Pulses INIT#: the processors begin anew at the reset vector; memory and devices stay as they
    /// are (82371SB datasheet, Intel 290550, signal INIT: the keyboard controller's reset, port
    /// 92h, a soft reset and a shutdown of the processor).
    fn init(&self);
}

/// The gate and a count of pulses, for tests.
#[derive(Debug, Default)]
pub struct SystemProbe {
    a20: core::sync::atomic::AtomicBool,
    inits: core::sync::atomic::AtomicU32,
}

impl SystemProbe {
    /// Pulses of INIT# since the last call.
    pub fn take_inits(&self) -> u32 {
        self.inits.swap(0, core::sync::atomic::Ordering::Relaxed)
    }
}

impl SystemControl for SystemProbe {
    fn set_a20(&self, enabled: bool) {
        self.a20.store(enabled, core::sync::atomic::Ordering::Relaxed);
    }

    fn a20(&self) -> bool {
        self.a20.load(core::sync::atomic::Ordering::Relaxed)
    }

    fn init(&self) {
        self.inits.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    }
}
