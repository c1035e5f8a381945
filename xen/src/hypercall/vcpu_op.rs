//! `vcpu_op` (vcpu.h).

use super::{done, read};
use crate::errno::Errno;
use crate::machine::Caller;
use crate::platform::{PvPlatform, PvVcpu};
use crate::time::RunTimes;
use crate::width::Width;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const MIN_PERIOD_NS: u64 = 1_000_000;

/// `vcpu_register_vcpu_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RegisterVcpuInfo {
    gfn: u64,
    offset: u32,
    reserved: u32,
}

/// `vcpu_set_singleshot_timer`, as far as both widths have it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SingleShot {
    timeout_abs_ns: U64,
    flags: U32,
}

impl PvPlatform {
    pub(super) fn vcpu_op(
        &self,
        own: &mut PvVcpu,
        caller: &mut dyn Caller,
        command: u64,
        vcpu: u64,
        linear: u64,
    ) -> Result<i64, Errno> {
        self.forget_old_areas(own);
        let vcpu = self.vcpu(vcpu)?;
        let is_own = vcpu == caller.vcpu();
        // One-shot timers, and areas at linear addresses, are for the virtual CPU itself.
        match command {
            5 | 8 | 9 | 13 if !is_own => return Err(Errno::Inval),
            _ => {}
        }
        match command {
            3 => Ok(i64::from(self.is_up(vcpu))),
            4 if is_own => {
                let now_ns = self.machine().now().as_ns();
                let (bytes, length) = own.times.until(now_ns).bytes(caller.width(), false);
                done(caller.write(linear, &bytes[..length]).map_err(Errno::from))
            }
            5 => {
                let area = area_pointer(caller, linear)?;
                own.run_state_area = (area != 0).then_some(area);
                self.write_run_state(own, caller);
                Ok(0)
            }
            6 => {
                let period: U64 = read(caller, linear)?;
                if period.get() < MIN_PERIOD_NS {
                    return Err(Errno::Inval);
                }
                self.set_periodic(vcpu, Some(period.get()));
                Ok(0)
            }
            7 => {
                self.set_periodic(vcpu, None);
                Ok(0)
            }
            8 => {
                let timer: SingleShot = read(caller, linear)?;
                self.set_single_shot(vcpu, Some(timer.timeout_abs_ns.get()));
                Ok(0)
            }
            9 => {
                self.set_single_shot(vcpu, None);
                Ok(0)
            }
            // One that runs knows where its part is.
            10 if !is_own && self.is_up(vcpu) => Err(Errno::Inval),
            10 => {
                let place: RegisterVcpuInfo = read(caller, linear)?;
                done(self.register_vcpu_info(vcpu, place.gfn, place.offset))
            }
            // send_nmi is for PV guests; Xen answers success.
            11 => Ok(0),
            13 => {
                let area = area_pointer(caller, linear)?;
                own.time_area = (area != 0).then_some(area);
                self.write_time_area(own, caller);
                Ok(0)
            }
            0..=2 | 4 | 12 => Err(Errno::Inval),
            _ => Err(Errno::NoSys),
        }
    }
}

/// The linear address of an area: a union whose first word counts in 32-bit code.
fn area_pointer(caller: &dyn Caller, linear: u64) -> Result<u64, Errno> {
    let area: U64 = read(caller, linear)?;
    Ok(match caller.width() {
        Width::Bits32 => area.get() & 0xffff_ffff,
        Width::Bits64 => area.get(),
    })
}

const _: () = assert!(RunTimes::MAX_BYTES == 48);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_public_headers() {
        assert_eq!(size_of::<RegisterVcpuInfo>(), 16);
        assert_eq!(size_of::<SingleShot>(), 12, "the wide one has padding besides");
    }
}
