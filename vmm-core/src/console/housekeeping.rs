//! The consoles between two exits of a virtual CPU.

use super::{Consoles, GuestControl, GuestStats};
use crate::backend::Backend;
use crate::vcpu::debug::DebugTarget;
use crate::vcpu::{Activity, Housekeeping, Vcpu};
use crate::vm::Stop;
use alloc::string::{String, ToString};
use devices::time::Clock;

/// A guest with one virtual CPU, between two of its exits.
struct Running<'a, B: Backend>(&'a mut Vcpu<B>);

impl<B: Backend> GuestControl for Running<'_, B> {
    fn stats(&self) -> GuestStats {
        let counters = self.0.counters();
        GuestStats {
            state: match self.0.activity() {
                _ if self.0.is_paused() => "paused",
                Activity::Running => "running",
                Activity::Halted => "halted",
                Activity::Frozen => "frozen",
                Activity::WaitForStartup => "waiting",
            },
            total_exits: counters.total(),
            exits: counters.iter().collect(),
            guest_time_ns: self.0.vm().clock.now().as_ns(),
        }
    }

    fn power_off(&self) {
        self.0.vm().stop.request(Stop::PowerOff);
    }

    fn reset(&self) {
        self.0.vm().stop.request(Stop::Reset);
    }

    fn dump(&self) -> String {
        self.0.dump().to_string()
    }

    fn debug_target(&mut self) -> Option<&mut dyn DebugTarget> {
        Some(self.0)
    }
}

impl<B: Backend> Housekeeping<B> for Consoles {
    fn attend(&mut self, vcpu: &mut Vcpu<B>) {
        self.attend_guest(&mut Running(vcpu));
    }

    fn attend_paused(&mut self, vcpu: &mut Vcpu<B>) -> u64 {
        self.attend_by_host_time(Some(&mut Running(vcpu)))
    }
}
