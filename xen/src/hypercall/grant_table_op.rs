//! `grant_table_op` (grant_table.h), version 1 of the tables.

use super::{done, read, write};
use crate::errno::Errno;
use crate::machine::Caller;
use crate::pages::MAX_GRANT_FRAMES;
use crate::platform::PvPlatform;
use crate::width::Width;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const OKAY: i16 = 0;
const BAD_DOMAIN: i16 = -2;
const GENERAL_ERROR: i16 = -1;

/// `gnttab_query_size`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct QuerySize {
    domain: u16,
    pad: u16,
    frames: u32,
    max_frames: u32,
    status: i16,
    pad_1: u16,
}

/// `gnttab_get_version`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct GetVersion {
    domain: u16,
    pad: u16,
    version: u32,
}

/// `gnttab_setup_table`, of 64-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SetupTable64 {
    domain: u16,
    pad: u16,
    frames: u32,
    status: i16,
    pad_1: [u16; 3],
    list: u64,
}

/// The same of 32-bit code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SetupTable32 {
    domain: u16,
    pad: u16,
    frames: u32,
    status: i16,
    pad_1: u16,
    list: u32,
}

impl PvPlatform {
    pub(super) fn grant_table_op(
        &self,
        caller: &mut dyn Caller,
        command: u64,
        linear: u64,
        count: u64,
    ) -> Result<i64, Errno> {
        match command {
            2 | 6 if count != 1 => Err(Errno::Inval),
            2 => self.setup_table(caller, linear),
            6 => {
                let mut size: QuerySize = read(caller, linear)?;
                (size.frames, size.max_frames) = (0, 0);
                size.status = match self.own_domain(size.domain) {
                    Ok(()) => {
                        size.frames = self.grant_frames() as u32;
                        size.max_frames = MAX_GRANT_FRAMES as u32;
                        OKAY
                    }
                    Err(_) => BAD_DOMAIN,
                };
                done(write(caller, linear, &size))
            }
            8 => match read::<u32>(caller, linear)? {
                1 => Ok(0),
                2 => Err(Errno::NoSys),
                _ => Err(Errno::Inval),
            },
            10 => {
                let mut version: GetVersion = read(caller, linear)?;
                self.own_domain(version.domain)?;
                version.version = 1;
                done(write(caller, linear, &version))
            }
            _ => Err(Errno::NoSys),
        }
    }

    /// The page numbers of the table's frames, the way of PV guests.
    fn setup_table(&self, caller: &mut dyn Caller, linear: u64) -> Result<i64, Errno> {
        let width = caller.width();
        let (domain, frames, list) = match width {
            Width::Bits64 => {
                let call: SetupTable64 = read(caller, linear)?;
                (call.domain, call.frames, call.list)
            }
            Width::Bits32 => {
                let call: SetupTable32 = read(caller, linear)?;
                (call.domain, call.frames, call.list.into())
            }
        };
        let long = width.long_bytes();
        let mut status = OKAY;
        if self.own_domain(domain).is_err() {
            status = BAD_DOMAIN;
        } else if frames as usize > MAX_GRANT_FRAMES {
            status = GENERAL_ERROR;
        } else {
            self.grow_grants(frames as usize);
            for frame in 0..frames as usize {
                // One that is shown nowhere has no number: all ones.
                let gfn = self.grant_frame_gfn(frame).unwrap_or(u64::MAX).to_le_bytes();
                caller.write(list.wrapping_add((frame * long) as u64), &gfn[..long])?;
            }
        }
        done(write(caller, linear.wrapping_add(8), &status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_public_headers() {
        assert_eq!((size_of::<QuerySize>(), size_of::<GetVersion>()), (16, 8));
        assert_eq!((size_of::<SetupTable64>(), size_of::<SetupTable32>()), (24, 16));
    }
}
