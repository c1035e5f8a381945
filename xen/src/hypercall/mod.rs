//! Hypercalls: a file for each group, with the names of Xen's public headers.

pub mod event_channel_op;
pub mod grant_table_op;
pub mod hvm_op;
pub mod memory_op;
pub mod multicall;
pub mod page;
pub mod sched_op;
pub mod vcpu_op;
pub mod xen_version;

use crate::errno::Errno;
use crate::machine::{BadPointer, Caller};
use crate::platform::{PvPlatform, PvVcpu};
use crate::width::Width;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Numbers of hypercalls (xen.h, `__HYPERVISOR_*`).
mod number {
    pub const PLATFORM_OP: u64 = 7;
    pub const MEMORY_OP: u64 = 12;
    pub const MULTICALL: u64 = 13;
    pub const SET_TIMER_OP: u64 = 15;
    pub const XEN_VERSION: u64 = 17;
    pub const CONSOLE_IO: u64 = 18;
    pub const GRANT_TABLE_OP: u64 = 20;
    pub const VM_ASSIST: u64 = 21;
    pub const VCPU_OP: u64 = 24;
    pub const SCHED_OP: u64 = 29;
    pub const EVENT_CHANNEL_OP: u64 = 32;
    pub const HVM_OP: u64 = 34;
    pub const SYSCTL: u64 = 35;
    pub const DOMCTL: u64 = 36;
    pub const DM_OP: u64 = 41;
}

/// A call as the registers have it: 64 bits each in 64-bit mode, else 32.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// (R/E)AX.
    pub number: u64,
    /// RDI, RSI, RDX, R10, R8; or EBX, ECX, EDX, ESI, EDI.
    pub arguments: [u64; 5],
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To its end, with this result in (R/E)AX.
    Done(i64),
    /// The virtual CPU makes the same call again, with other values of the first two arguments.
    Again {
        /// The first argument.
        first: u64,
        /// The second one.
        second: u64,
    },
}

/// The virtual CPU's way after a call, or before it makes it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    Continue,
    /// It lets others run first.
    Yield,
    /// It sleeps until an event or an interrupt comes.
    Wait,
    /// Another kernel starts in the guest's memory: its platform and its back ends are to begin
    /// anew, and the virtual CPU goes on.
    SoftReset,
}

/// The outcome of a call, and the way after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The outcome.
    pub outcome: Outcome,
    /// The way of the virtual CPU.
    pub then: Then,
}

impl Answer {
    /// A call without a value is done.
    const fn done(then: Then) -> Self {
        Self { outcome: Outcome::Done(0), then }
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, then: Then::Continue }
    }
}

impl From<Result<i64, Errno>> for Answer {
    fn from(result: Result<i64, Errno>) -> Self {
        Outcome::Done(result.unwrap_or_else(Errno::result)).into()
    }
}

impl From<BadPointer> for Errno {
    fn from(_: BadPointer) -> Self {
        Self::Fault
    }
}

/// Reads a structure at a linear address.
fn read<T: FromBytes + IntoBytes + FromZeros>(
    caller: &dyn Caller,
    linear: u64,
) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    caller.read(linear, value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a structure to a linear address.
fn write<T: IntoBytes + Immutable>(
    caller: &mut dyn Caller,
    linear: u64,
    value: &T,
) -> Result<(), Errno> {
    Ok(caller.write(linear, value.as_bytes())?)
}

/// The result of a call that succeeds without a value.
fn done(result: Result<(), Errno>) -> Result<i64, Errno> {
    result.map(|()| 0)
}

impl PvPlatform {
    /// Carries out a hypercall of the kernel's.
    pub fn hypercall(&self, own: &mut PvVcpu, caller: &mut dyn Caller, call: &Call) -> Answer {
        if call.number == number::MULTICALL {
            return self.multicall(own, caller, call.arguments[0], call.arguments[1]);
        }
        self.single_call(own, caller, call)
    }

    fn single_call(&self, own: &mut PvVcpu, caller: &mut dyn Caller, call: &Call) -> Answer {
        let [first, second, third, ..] = call.arguments;
        let result = match call.number {
            number::MEMORY_OP => return self.memory_op(caller, first, second),
            number::SET_TIMER_OP => {
                let at_ns = match caller.width() {
                    Width::Bits32 => second << 32 | first,
                    Width::Bits64 => first,
                };
                self.set_single_shot(caller.vcpu(), (at_ns != 0).then_some(at_ns));
                Ok(0)
            }
            number::XEN_VERSION => self.xen_version(caller, first, second),
            number::GRANT_TABLE_OP => self.grant_table_op(caller, first, second, third),
            number::VM_ASSIST => self.vm_assist(first, second),
            number::VCPU_OP => self.vcpu_op(own, caller, first, second, third),
            number::SCHED_OP => return self.sched_op(caller, first, second),
            number::EVENT_CHANNEL_OP => self.event_channel_op(caller, first, second),
            number::HVM_OP => self.hvm_op(caller, first, second),
            // For the domain that manages others.
            number::CONSOLE_IO | number::SYSCTL | number::DOMCTL | number::DM_OP => {
                Err(Errno::Perm)
            }
            number::PLATFORM_OP => Err(Errno::Perm),
            _ => Err(Errno::NoSys),
        };
        result.into()
    }

    /// `vm_assist`: whether writing run states is to be seen.
    fn vm_assist(&self, command: u64, kind: u64) -> Result<i64, Errno> {
        const ENABLE: u64 = 0;
        const DISABLE: u64 = 1;
        const RUNSTATE_UPDATE_FLAG: u64 = 5;
        if kind != RUNSTATE_UPDATE_FLAG {
            return Err(Errno::Inval);
        }
        match command {
            ENABLE | DISABLE => {
                self.mark_updates(command == ENABLE);
                Ok(0)
            }
            _ => Err(Errno::NoSys),
        }
    }
}
