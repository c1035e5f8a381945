//! `multicall`: several calls in one.

use super::{Answer, Call, Then, number};
use crate::errno::Errno;
use crate::machine::Caller;
use crate::platform::{PvPlatform, PvVcpu};
use crate::width::Width;

/// Calls that are carried out at once. Then the guest makes the call again for the rest, so that
/// the host gets its turn between.
const CALLS_A_GO: u64 = 8;

impl PvPlatform {
    pub(super) fn multicall(
        &self,
        own: &mut PvVcpu,
        caller: &mut dyn Caller,
        list: u64,
        count: u64,
    ) -> Answer {
        let now = count.min(CALLS_A_GO);
        match self.some_calls(own, caller, list, now) {
            Ok(end) if count > now => {
                Answer { result: 0, then: Then::Again { first: end, second: count - now } }
            }
            done => done.map(|_| 0).into(),
        }
    }

    /// Carries out `count` calls of a list; returns where the next is.
    fn some_calls(
        &self,
        own: &mut PvVcpu,
        caller: &mut dyn Caller,
        list: u64,
        count: u64,
    ) -> Result<u64, Errno> {
        let width = caller.width();
        let long = width.long_bytes();
        let mut entry = [0; 64];
        let entry = &mut entry[..8 * long];
        let mut at = list;
        for _ in 0..count {
            caller.read(at, entry)?;
            let mut arguments = [0; 5];
            for (number, argument) in arguments.iter_mut().enumerate() {
                *argument = width.long(entry, (2 + number) * long);
            }
            let call = Call { number: width.long(entry, 0), arguments };
            let result = match call.number {
                number::MULTICALL => Errno::Inval.result(),
                _ => self.single_call(own, caller, &call).result,
            };
            let bytes = result.to_le_bytes();
            let length = if width == Width::Bits64 { 8 } else { 4 };
            caller.write(at.wrapping_add(long as u64), &bytes[..length])?;
            at = at.wrapping_add(entry.len() as u64);
        }
        Ok(at)
    }
}
