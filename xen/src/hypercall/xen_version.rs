//! `xen_version` (version.h).

use super::{done, read, write};
use crate::cpuid::VERSION;
use crate::errno::Errno;
use crate::machine::Caller;
use crate::pages::PAGE_BYTES;
use crate::platform::PvPlatform;
use crate::width::Width;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Tells that it is not Xen itself.
const EXTRAVERSION: &str = ".0-bulkhead";

/// Features (features.h, submap 0): writable page tables, translated physical addresses, the
/// callback's vector, time without a shift of its own, memory operations by node, and frame numbers
/// that are not the machine's.
const FEATURES: u32 = 1 << 0 | 1 << 2 | 1 << 8 | 1 << 9 | 1 << 13 | 1 << 16;

const CAPABILITIES: &str = "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";

/// `xen_feature_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct FeatureInfo {
    index: u32,
    submap: u32,
}

/// Writes `text` into a field of `LENGTH` characters.
fn write_text<const LENGTH: usize>(
    caller: &mut dyn Caller,
    linear: u64,
    text: &str,
) -> Result<i64, Errno> {
    let mut field = [0; LENGTH];
    let length = text.len().min(LENGTH - 1);
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
    done(caller.write(linear, &field).map_err(Errno::from))
}

impl PvPlatform {
    pub(super) fn xen_version(
        &self,
        caller: &mut dyn Caller,
        sub: u64,
        linear: u64,
    ) -> Result<i64, Errno> {
        match sub {
            0 => Ok(VERSION.into()),
            1 => write_text::<16>(caller, linear, EXTRAVERSION),
            2 => {
                // Compiler, its user, domain and date.
                write_text::<64>(caller, linear, "rustc")?;
                write_text::<16>(caller, linear.wrapping_add(64), "")?;
                write_text::<32>(caller, linear.wrapping_add(80), "")?;
                write_text::<32>(caller, linear.wrapping_add(112), "")
            }
            3 => write_text::<1024>(caller, linear, CAPABILITIES),
            4 => write_text::<64>(caller, linear, env!("CARGO_PKG_VERSION")),
            5 => {
                let start = [0; 8];
                let length = match caller.width() {
                    Width::Bits32 => 4,
                    Width::Bits64 => 8,
                };
                done(caller.write(linear, &start[..length]).map_err(Errno::from))
            }
            6 => {
                let mut info: FeatureInfo = read(caller, linear)?;
                if info.index != 0 {
                    return Err(Errno::Inval);
                }
                info.submap = FEATURES;
                done(write(caller, linear, &info))
            }
            7 if linear != 0 => Err(Errno::Inval),
            7 => Ok(PAGE_BYTES as i64),
            8 => done(caller.write(linear, &self.uuid()).map_err(Errno::from)),
            9 => write_text::<1024>(caller, linear, "<denied>"),
            10 => Err(Errno::Perm),
            _ => Err(Errno::NoSys),
        }
    }
}
