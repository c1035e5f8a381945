//! `multicall`: several calls in one.

use super::{Call, number};
use crate::errno::Errno;
use crate::machine::Caller;
use crate::platform::{PvPlatform, PvVcpu};
use crate::width::Width;

/// Calls that are carried out at once; a guest with more is served in parts.
const MAX_CALLS: u64 = 1024;

impl PvPlatform {
    pub(super) fn multicall(
        &self,
        own: &mut PvVcpu,
        caller: &mut dyn Caller,
        list: u64,
        count: u64,
    ) -> Result<i64, Errno> {
        let width = caller.width();
        let long = width.long_bytes();
        let mut entry = [0; 64];
        let entry = &mut entry[..8 * long];
        if count > MAX_CALLS {
            return Err(Errno::Inval);
        }
        for index in 0..count {
            let at = list.wrapping_add(index * entry.len() as u64);
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
        }
        Ok(0)
    }
}
