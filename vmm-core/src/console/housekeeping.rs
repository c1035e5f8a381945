//! The consoles between two exits of a virtual CPU.

use super::{Consoles, GuestControl, GuestStats};
use crate::backend::Backend;
use crate::vcpu::{Activity, Housekeeping, Vcpu};
use crate::vm::Stop;
use alloc::string::{String, ToString};
use devices::time::Clock;

/// A guest with one virtual CPU, between two of its exits.
struct Running<'a, B: Backend>(&'a Vcpu<B>);

impl<B: Backend> GuestControl for Running<'_, B> {
    fn stats(&self) -> GuestStats {
        let counters = self.0.counters();
        GuestStats {
            state: match self.0.activity() {
                Activity::Running => "running",
                Activity::Halted => "halted",
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
}

impl Housekeeping for Consoles {
    fn attend<B: Backend>(&mut self, vcpu: &mut Vcpu<B>) {
        self.attend_guest(&Running(vcpu));
    }
}
