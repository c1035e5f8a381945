//! A guest that runs as the consoles see it: the time that its virtual CPUs get.

use super::cpus::Cpus;
use crate::backend::Backend;
use crate::scheduler::{Affinity, CpuSet, DomainId, DomainParams, UnitId, UnitState};
use crate::vm::Vm;
use alloc::sync::Arc;
use alloc::vec::Vec;
use control::scheduling::{Scheduling, Share, VcpuFacts, VcpuState};
use devices::cpu_hotplug::CpuHotplug;
use devices::time::{Clock, ticks_to_ns};

/// A guest, from the beginning of a life to its end: the boot CPU, which ends it, is that of the
/// consoles too.
pub struct GuestScheduling<B: Backend> {
    cpus: &'static Cpus<B>,
    vm: Arc<Vm>,
    sockets: Arc<CpuHotplug>,
    domain: DomainId,
    units: Vec<UnitId>,
}

impl<B: Backend> GuestScheduling<B> {
    /// Of the guest whose virtual CPUs have these numbers in the scheduler.
    pub const fn new(
        cpus: &'static Cpus<B>,
        vm: Arc<Vm>,
        sockets: Arc<CpuHotplug>,
        domain: DomainId,
        units: Vec<UnitId>,
    ) -> Self {
        Self { cpus, vm, sockets, domain, units }
    }

    fn state(&self, vcpu: usize, unit: UnitState) -> VcpuState {
        match unit {
            _ if !self.sockets.is_there(vcpu) => VcpuState::Offline,
            // It sleeps without the scheduler's knowing: it has its CPU for itself.
            UnitState::Running if self.vm.processors.is_idle(vcpu) => VcpuState::Blocked,
            UnitState::Running => VcpuState::Running,
            UnitState::Blocked => VcpuState::Blocked,
            UnitState::Runnable | UnitState::Paused => VcpuState::Runnable,
        }
    }
}

impl<B: Backend> Scheduling for GuestScheduling<B> {
    fn cpus(&self) -> usize {
        self.cpus.online().iter().last().map_or(0, |last| last + 1)
    }

    fn guest_time_ns(&self) -> u64 {
        self.vm.clock.now().as_ns()
    }

    fn is_paused(&self) -> bool {
        self.vm.processors.are_held()
    }

    fn vcpus(&self) -> Vec<VcpuFacts> {
        let online = self.cpus.online();
        let list = |set: CpuSet| (set & online).iter().collect();
        let facts = |(vcpu, &unit): (usize, &UnitId)| {
            let (state, cpu, affinity) = self.cpus.schedule(|scheduler, _| {
                (scheduler.state(unit), scheduler.cpu_of(unit), scheduler.affinity(unit))
            });
            let ticks = self.vm.processors.used_ticks(vcpu);
            VcpuFacts {
                state: self.state(vcpu, state),
                cpu,
                time_ns: ticks_to_ns(ticks, self.cpus.platform().tsc_hz()),
                hard: list(affinity.hard),
                soft: list(affinity.soft),
            }
        };
        self.units.iter().enumerate().map(facts).collect()
    }

    fn pin(&self, vcpu: usize, hard: Option<&[usize]>, soft: Option<&[usize]>) {
        let Some(&unit) = self.units.get(vcpu) else { return };
        let online = self.cpus.online();
        let set = |cpus: &[usize]| {
            let set: CpuSet = cpus.iter().copied().collect();
            // Those that come later too.
            if set & online == online { CpuSet::ALL } else { set }
        };
        self.cpus.schedule(|scheduler, now_ns| {
            let old = scheduler.affinity(unit);
            let affinity =
                Affinity { hard: hard.map_or(old.hard, set), soft: soft.map_or(old.soft, set) };
            scheduler.set_affinity(unit, affinity, now_ns);
        });
    }

    fn share(&self) -> Share {
        let params = self.cpus.schedule(|scheduler, _| scheduler.domain(self.domain));
        Share { weight: params.weight, cap_percent: params.cap_percent }
    }

    fn set_share(&self, share: Share) {
        let params = DomainParams { weight: share.weight, cap_percent: share.cap_percent };
        self.cpus.set_params(self.domain, &self.units, params);
    }
}
