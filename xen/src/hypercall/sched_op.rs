//! `sched_op` (sched.h).

use super::{Answer, Outcome, Then, read};
use crate::errno::Errno;
use crate::machine::{Caller, ShutdownReason};
use crate::platform::PvPlatform;
use crate::width::Width;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Ports that can be polled at once.
const MAX_POLLED: usize = 128;

/// `sched_poll` of 64-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Poll64 {
    ports: u64,
    count: u32,
    pad: u32,
    timeout_ns: u64,
}

/// The same of 32-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Poll32 {
    ports: U32,
    count: U32,
    timeout_ns: U64,
}

/// `sched_watchdog`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Watchdog {
    id: u32,
    timeout_s: u32,
}

impl PvPlatform {
    pub(super) fn sched_op(&self, caller: &mut dyn Caller, command: u64, linear: u64) -> Answer {
        match command {
            0 => Answer::done(Then::Yield),
            1 => match self.begin_block(caller.vcpu()) {
                true => Answer::done(Then::Wait),
                false => Answer::done(Then::Continue),
            },
            2 => match self.shut_down(caller, linear) {
                Ok((result, then)) => Answer { outcome: Outcome::Done(result), then },
                Err(error) => Err(error).into(),
            },
            3 => match self.poll(caller, linear) {
                Ok(true) => Answer::done(Then::Wait),
                Ok(false) => Answer::done(Then::Continue),
                Err(error) => Err(error).into(),
            },
            4 | 7 => Err(Errno::Perm).into(),
            // The reason by which the guest will stop is told before it does.
            5 => read::<u32>(caller, linear).map(|_| 0).into(),
            6 => self.watchdog(caller, linear).into(),
            _ => Err(Errno::NoSys).into(),
        }
    }

    fn watchdog(&self, caller: &dyn Caller, linear: u64) -> Result<i64, Errno> {
        let Watchdog { id, timeout_s } = read(caller, linear)?;
        self.set_watchdog(id, timeout_s)
    }

    fn shut_down(&self, caller: &dyn Caller, linear: u64) -> Result<(i64, Then), Errno> {
        const POWER_OFF: u32 = 0;
        const REBOOT: u32 = 1;
        const SUSPEND: u32 = 2;
        const CRASH: u32 = 3;
        const WATCHDOG: u32 = 4;
        const SOFT_RESET: u32 = 5;
        /// The suspend was cancelled, and nothing has changed.
        const CANCELLED: i64 = 1;
        let reason = match read::<u32>(caller, linear)? {
            POWER_OFF => ShutdownReason::PowerOff,
            REBOOT => ShutdownReason::Reboot,
            SUSPEND => return Ok((CANCELLED, Then::Continue)),
            CRASH => ShutdownReason::Crash,
            WATCHDOG => ShutdownReason::Watchdog,
            SOFT_RESET => return Ok((0, Then::SoftReset)),
            _ => return Err(Errno::Inval),
        };
        self.machine().shut_down(reason);
        Ok((0, Then::Continue))
    }

    /// True if the virtual CPU is to sleep.
    fn poll(&self, caller: &dyn Caller, linear: u64) -> Result<bool, Errno> {
        let (list, count, timeout_ns) = match caller.width() {
            Width::Bits64 => {
                let poll: Poll64 = read(caller, linear)?;
                (poll.ports, poll.count, poll.timeout_ns)
            }
            Width::Bits32 => {
                let poll: Poll32 = read(caller, linear)?;
                (poll.ports.get().into(), poll.count.get(), poll.timeout_ns.get())
            }
        };
        let count = count as usize;
        if count > MAX_POLLED {
            return Err(Errno::Inval);
        }
        let mut ports = [0u32; MAX_POLLED];
        caller.read(list, ports[..count].as_mut_bytes())?;
        let limit = crate::events::MAX_PORTS as u32;
        if ports[..count].iter().any(|&port| port >= limit) {
            return Err(Errno::Inval);
        }
        Ok(self.begin_poll(caller.vcpu(), &ports[..count], timeout_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_public_headers() {
        assert_eq!((size_of::<Poll64>(), size_of::<Poll32>()), (24, 16));
        assert_eq!(size_of::<Watchdog>(), 8);
    }
}
