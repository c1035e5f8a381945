//! `multicall`: several calls in one.

use super::{Answer, Call, Outcome, Then, number};
use crate::errno::Errno;
use crate::machine::{BadPointer, Caller};
use crate::platform::{PvPlatform, PvVcpu};

/// Calls that are carried out at once. Then the guest makes the call again for the rest, so that
/// the host gets its turn between.
const CALLS_A_GO: u64 = 8;
/// Words of an entry of the list: number, result and six arguments.
const ENTRY_WORDS: usize = 8;

impl PvPlatform {
    /// Carries out a list of calls. As in Xen the virtual CPU makes the call again for the rest if
    /// one of them lets it sleep, or has to be made again itself.
    pub(super) fn multicall(
        &self,
        own: &mut PvVcpu,
        caller: &mut dyn Caller,
        list: u64,
        count: u64,
    ) -> Answer {
        let entry_bytes = (ENTRY_WORDS * caller.width().long_bytes()) as u64;
        let (mut at, mut left, mut then) = (list, count, Then::Continue);
        for _ in 0..count.min(CALLS_A_GO) {
            let Ok(answer) = self.entry(own, caller, at) else { return Err(Errno::Fault).into() };
            then = answer.then;
            if matches!(answer.outcome, Outcome::Again { .. }) {
                break;
            }
            at = at.wrapping_add(entry_bytes);
            left -= 1;
            if then != Then::Continue {
                break;
            }
        }
        let outcome = match left {
            0 => Outcome::Done(0),
            _ => Outcome::Again { first: at, second: left },
        };
        Answer { outcome, then }
    }

    /// Carries out the call of one entry, which has its result then; or, as in Xen, the arguments
    /// with which it goes on.
    fn entry(
        &self,
        own: &mut PvVcpu,
        caller: &mut dyn Caller,
        at: u64,
    ) -> Result<Answer, BadPointer> {
        let width = caller.width();
        let long = width.long_bytes();
        let mut entry = [0; 8 * ENTRY_WORDS];
        let entry = &mut entry[..ENTRY_WORDS * long];
        caller.read(at, entry)?;
        let arguments = core::array::from_fn(|argument| width.long(entry, (2 + argument) * long));
        let call = Call { number: width.long(entry, 0), arguments };
        let answer = match call.number {
            number::MULTICALL => Err(Errno::Inval).into(),
            _ => self.single_call(own, caller, &call),
        };
        let mut put = |word: usize, value: u64| {
            caller.write(at.wrapping_add((word * long) as u64), &value.to_le_bytes()[..long])
        };
        match answer.outcome {
            Outcome::Done(result) => put(1, result as u64)?,
            Outcome::Again { first, second } => {
                put(2, first)?;
                put(3, second)?;
            }
        }
        Ok(answer)
    }
}
