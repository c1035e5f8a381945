//! The boot CPU's work beside its guest: consoles, and errors that the machine has corrected.

use crate::host::machine_check_watch::MachineCheckWatch;
use crate::host::platform::Platform;
use crate::vcpu::Housekeeping;
use alloc::sync::Arc;
use config::CommandLine;
use console::Consoles;
use control::host::host_ns;
use control::mailbox::Mailbox;

/// Consoles, and a look at the machine-check banks now and then.
pub struct Attendant {
    platform: &'static dyn Platform,
    /// The consoles.
    pub consoles: Consoles,
    /// Where they ask for what concerns no guest that exists.
    pub machine: Arc<Mailbox>,
    machine_checks: MachineCheckWatch,
    /// When to look at the banks again, in host time.
    next_look_ns: Option<u64>,
}

impl Attendant {
    /// With the consoles that the command line asks for.
    pub fn new(platform: &'static dyn Platform, options: &CommandLine) -> Self {
        let machine = Arc::new(Mailbox::of_machine());
        Self {
            platform,
            consoles: Consoles::new(platform, options, machine.clone()),
            machine,
            machine_checks: MachineCheckWatch::default(),
            next_look_ns: None,
        }
    }
}

impl Housekeeping for Attendant {
    fn attend(&mut self) {
        self.next_look_ns = self.machine_checks.attend(self.platform, host_ns(self.platform));
        self.consoles.attend();
        self.consoles.set_alarm(self.next_look_ns);
    }

    fn take_answers(&mut self) {
        self.consoles.take_answers();
        self.consoles.set_alarm(self.next_look_ns);
    }

    fn due_tsc(&mut self) -> u64 {
        self.consoles.due_tsc()
    }
}
