//! The state of a virtual CPU in words, for a guest that has to be stopped and for panics.

use super::Vcpu;
use crate::backend::Backend;
use core::fmt;
use devices::time::Clock;

pub(super) const GPR_NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// A virtual CPU that prints itself.
pub struct Dump<'a, B: Backend>(&'a Vcpu<B>);

impl<B: Backend> Vcpu<B> {
    /// Registers, the bytes at RIP, and the whole VMCB or VMCS.
    pub fn dump(&self) -> Dump<'_, B> {
        Dump(self)
    }
}

impl<B: Backend> fmt::Display for Dump<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vcpu = self.0;
        writeln!(
            f,
            "vCPU {} ({}), {:?}, {} exits",
            vcpu.index,
            B::NAME,
            vcpu.activity,
            vcpu.counters.total()
        )?;
        for (row, names) in GPR_NAMES.chunks(4).enumerate() {
            for (column, name) in names.iter().enumerate() {
                write!(f, "{name:>3} {:016x} ", vcpu.gprs.0[row * 4 + column])?;
            }
            writeln!(f)?;
        }
        let mut bytes = [0; 15];
        match vcpu.fetch(&mut bytes) {
            Ok(count) => writeln!(f, "bytes at RIP {:02x?}", &bytes[..count])?,
            Err(fault) => writeln!(f, "RIP cannot be read: {fault:?}")?,
        }
        writeln!(f, "pending {:?} window {:?}", vcpu.pending, vcpu.window)?;
        writeln!(f, "{:?}", vcpu.apic)?;
        writeln!(
            f,
            "now {:?} TSC {:#x} {:?}",
            vcpu.vm.clock.now(),
            vcpu.platform.tsc(),
            vcpu.timers
        )?;
        vcpu.backend.dump(f)
    }
}
