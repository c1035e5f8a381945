//! The registers by which a guest defends itself against speculative execution. It has those that
//! its CPUID tells of.

use super::Vcpu;
use crate::backend::speculation::{
    Barrier, MSR_ARCH_CAPABILITIES, MSR_FLUSH_CMD, MSR_PRED_CMD, MSR_SPEC_CTRL,
};
use crate::backend::{Backend, SystemRegister};
use emulator::registers::Fault;

impl<B: Backend> Vcpu<B> {
    /// RDMSR. The registers of barriers are write-only.
    #[cold]
    pub(super) fn read_speculation_msr(&mut self, index: u32) -> Result<u64, Fault> {
        let offer = self.vm.cpuid.speculation();
        match index {
            MSR_SPEC_CTRL if offer.control != 0 => {
                Ok(self.backend.system_register(SystemRegister::SpecCtrl))
            }
            MSR_ARCH_CAPABILITIES if offer.has_arch_capabilities() => Ok(offer.arch_capabilities),
            MSR_PRED_CMD if offer.has_pred_cmd() => Err(Fault::PROTECTION),
            MSR_FLUSH_CMD if offer.has_flush_cmd() => Err(Fault::PROTECTION),
            _ => Err(self.unknown_msr(index, "read")),
        }
    }

    /// WRMSR.
    #[cold]
    pub(super) fn write_speculation_msr(&mut self, index: u32, value: u64) -> Result<(), Fault> {
        let offer = self.vm.cpuid.speculation();
        match index {
            MSR_SPEC_CTRL if offer.control != 0 => {
                if value & !offer.control != 0 {
                    return Err(Fault::PROTECTION);
                }
                self.backend.set_system_register(SystemRegister::SpecCtrl, value);
                Ok(())
            }
            MSR_PRED_CMD if offer.has_pred_cmd() => {
                self.issue_barrier(Barrier::BranchPredictors, value)
            }
            MSR_FLUSH_CMD if offer.has_flush_cmd() => self.issue_barrier(Barrier::L1Data, value),
            MSR_ARCH_CAPABILITIES if offer.has_arch_capabilities() => Err(Fault::PROTECTION),
            _ => Err(self.unknown_msr(index, "write")),
        }
    }

    /// A write of zero has no effect.
    fn issue_barrier(&mut self, barrier: Barrier, value: u64) -> Result<(), Fault> {
        match value {
            0 => {}
            Barrier::COMMAND => self.backend.issue_barrier(barrier),
            _ => return Err(Fault::PROTECTION),
        }
        Ok(())
    }
}
