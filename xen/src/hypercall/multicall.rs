//! `multicall`: several calls in one.

use super::{Answer, Call, Then, number};
use crate::errno::Errno;
use crate::machine::Caller;
use crate::platform::{PvPlatform, PvVcpu};

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
            Ok((_, done)) if done == count => Ok(0).into(),
            Ok((end, done)) => {
                Answer { result: 0, then: Then::Again { first: end, second: count - done } }
            }
            Err(error) => Err(error).into(),
        }
    }

    /// Carries out `count` calls of a list, or less if one has to be made again; returns where the
    /// next is, and how many are done.
    fn some_calls(
        &self,
        own: &mut PvVcpu,
        caller: &mut dyn Caller,
        list: u64,
        count: u64,
    ) -> Result<(u64, u64), Errno> {
        let width = caller.width();
        let long = width.long_bytes();
        let mut entry = [0; 64];
        let entry = &mut entry[..8 * long];
        let mut at = list;
        for done in 0..count {
            caller.read(at, entry)?;
            let mut arguments = [0; 5];
            for (number, argument) in arguments.iter_mut().enumerate() {
                *argument = width.long(entry, (2 + number) * long);
            }
            let call = Call { number: width.long(entry, 0), arguments };
            let answer = match call.number {
                number::MULTICALL => Err(Errno::Inval).into(),
                _ => self.single_call(own, caller, &call),
            };
            if let Then::Again { first, second } = answer.then {
                // As Xen does: the entry itself says how far it is.
                for (argument, place) in [first, second].into_iter().zip(2..) {
                    let bytes = &argument.to_le_bytes()[..long];
                    caller.write(at.wrapping_add(place * long as u64), bytes)?;
                }
                return Ok((at, done));
            }
            let bytes = &answer.result.to_le_bytes()[..long];
            caller.write(at.wrapping_add(long as u64), bytes)?;
            at = at.wrapping_add(entry.len() as u64);
        }
        Ok((at, count))
    }
}
