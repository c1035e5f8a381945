//! `hvm_op` (hvm/hvm_op.h).

use super::{done, read, write};
use crate::errno::Errno;
use crate::machine::Caller;
use crate::platform::PvPlatform;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `xen_hvm_param`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Param {
    domain: u16,
    pad: u16,
    index: u32,
    value: u64,
}

/// `xen_hvm_evtchn_upcall_vector`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct UpcallVector {
    vcpu: u32,
    vector: u8,
    pad: [u8; 3],
}

/// `xen_hvm_get_mem_type`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MemoryType {
    domain: u16,
    kind: u16,
    pad: [u16; 2],
    gfn: u64,
}

const RAM: u16 = 0;
const DEVICE: u16 = 2;

impl PvPlatform {
    pub(super) fn hvm_op(
        &self,
        caller: &mut dyn Caller,
        op: u64,
        linear: u64,
    ) -> Result<i64, Errno> {
        match op {
            0 => {
                let param: Param = read(caller, linear)?;
                self.own_domain(param.domain)?;
                done(self.set_param(param.index, param.value, caller.width()))
            }
            1 => {
                let mut param: Param = read(caller, linear)?;
                self.own_domain(param.domain)?;
                param.value = self.params().get(param.index)?;
                done(write(caller, linear, &param))
            }
            // flush_tlbs: linear translations are the guest's own matter under nested paging.
            5 if linear != 0 => Err(Errno::Inval),
            5 => Ok(0),
            // pagetable_dying: of no use under nested paging.
            9 => Err(Errno::Inval),
            10 => done(write(caller, linear, &self.machine().now().as_ns())),
            15 => {
                let mut memory: MemoryType = read(caller, linear)?;
                self.own_domain(memory.domain)?;
                let gpa = memory.gfn.checked_mul(crate::pages::PAGE_BYTES);
                let is_ram = gpa.is_some_and(|gpa| self.machine().is_ram(gpa));
                memory.kind = if is_ram { RAM } else { DEVICE };
                done(write(caller, linear, &memory))
            }
            23 => {
                let wanted: UpcallVector = read(caller, linear)?;
                done(self.set_upcall_vector(wanted.vcpu, wanted.vector))
            }
            24 => Ok(0),
            _ => Err(Errno::NoSys),
        }
    }
}
