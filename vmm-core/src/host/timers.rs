//! The timers of a guest: the deadlines of its devices, and whom to tell when they have come.

use crate::host::clock::VmClock;
use crate::host::kick::VcpuKick;
use crate::host::platform::CpuInterrupt;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use devices::time::{Alarm, Clock, Deadlines, Timed, TimerWire};
use spin::Once;

const APIC_SLOT: usize = 0;
const FIRST_DEVICE_SLOT: usize = 1;

/// Alarms that are served at once at the most: a device that keeps asking for the past cannot keep
/// the CPU.
const MAX_EXPIRIES: usize = 64;
/// The guest runs so long at the least between two expiries: however many timers it sets however
/// fast, together they cannot take all of its CPU, nor keep the host busy with nothing else.
const MIN_RUN_US: u64 = 20;

/// No CPU keeps the devices' timers but the virtual CPU's own.
const NOT_KEPT: usize = usize::MAX;

/// The way from an alarm to the CPU whose timer rings for it.
#[derive(Debug)]
struct Wire {
    vcpu: Arc<VcpuKick>,
    /// The CPU that keeps the devices' timers.
    keeper: AtomicUsize,
}

impl Wire {
    /// The CPU to interrupt for an alarm that was set on CPU `here`; `None` if one sets its timer
    /// anyway. The virtual CPU's own does, or gives the keeper notice, before it enters the guest
    /// and before it sleeps; the keeper does when it has served what was due, but not while it runs
    /// another virtual CPU.
    fn cpu_to_tell(&self, here: usize) -> Option<usize> {
        match (self.keeper.load(Ordering::SeqCst), self.vcpu.cpu()) {
            (NOT_KEPT, None) => None,
            (_, Some(vcpu)) if vcpu == here => None,
            (NOT_KEPT, Some(vcpu)) => Some(vcpu),
            (keeper, Some(_)) => Some(keeper).filter(|&cpu| cpu != here),
            (keeper, None) => Some(keeper),
        }
    }
}

impl TimerWire for Wire {
    fn brought_forward(&self) {
        let platform = self.vcpu.platform();
        match self.cpu_to_tell(platform.cpu()) {
            Some(cpu) if cpu == platform.cpu() => platform.interrupt_self(),
            Some(cpu) => platform.interrupt_cpu(cpu, CpuInterrupt::Kick),
            None => {}
        }
    }
}

/// The deadlines, and whom to tell. Any CPU may serve them, one at a time.
pub struct TimerQueue {
    clock: Arc<VmClock>,
    deadlines: Arc<Deadlines>,
    wire: Arc<Wire>,
    /// By slot.
    timed: Box<[Once<Arc<dyn Timed>>]>,
}

impl TimerQueue {
    /// A queue for a local APIC and `device_slots` devices, which is served where
    /// the virtual CPU of `vcpu` is.
    pub fn new(clock: Arc<VmClock>, vcpu: Arc<VcpuKick>, device_slots: usize) -> Arc<Self> {
        let slots = FIRST_DEVICE_SLOT + device_slots;
        let timed = (0..slots).map(|_| Once::new()).collect();
        let wire = Arc::new(Wire { vcpu, keeper: AtomicUsize::new(NOT_KEPT) });
        Arc::new(Self { clock, deadlines: Deadlines::with_wire(slots, wire.clone()), wire, timed })
    }

    /// CPU `cpu` serves the devices' timers from now on, or none but the virtual CPU's own.
    pub(super) fn set_keeper(&self, cpu: Option<usize>) {
        self.wire.keeper.store(cpu.unwrap_or(NOT_KEPT), Ordering::SeqCst);
    }

    /// The local APIC's alarm.
    pub fn apic_alarm(&self) -> Alarm {
        self.deadlines.alarm(APIC_SLOT)
    }

    /// The alarm of device slot `slot`.
    pub fn device_alarm(&self, slot: usize) -> Alarm {
        self.deadlines.alarm(FIRST_DEVICE_SLOT + slot)
    }

    /// Names the local APIC's timer, once it is built; only the first call counts.
    pub fn connect_apic(&self, timer: Arc<dyn Timed>) {
        self.timed[APIC_SLOT].call_once(|| timer);
    }

    /// Names the device of slot `slot`, once it is built; only the first call counts.
    pub fn connect(&self, slot: usize, device: Arc<dyn Timed>) {
        if let Some(entry) = self.timed.get(FIRST_DEVICE_SLOT + slot) {
            entry.call_once(|| device);
        }
    }

    /// True if a deadline changed since the last call.
    #[inline]
    pub fn take_changed(&self) -> bool {
        self.deadlines.take_changed()
    }

    /// The earliest deadline, in the host's time stamp counter; `u64::MAX` if there is none, or
    /// guest time stands still.
    pub fn due_tsc(&self) -> u64 {
        match self.deadlines.earliest() {
            Some(earliest) if !self.clock.is_stopped() => self.clock.tsc_at(earliest),
            _ => u64::MAX,
        }
    }

    /// Tells those whose time has come; false if there were none.
    fn serve(&self) -> bool {
        let now = self.clock.now();
        for served in 0..MAX_EXPIRIES {
            let Some(slot) = self.deadlines.take_expired(now) else {
                return served > 0;
            };
            if let Some(device) = self.timed.get(slot).and_then(Once::get) {
                device.expired(now);
            }
        }
        true
    }
}

impl fmt::Debug for TimerQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.deadlines)
    }
}

/// A CPU's service to timers of a queue, with its own timer.
#[derive(Debug)]
pub struct TimerServer {
    queue: Arc<TimerQueue>,
    /// It serves again at this moment at the earliest.
    not_before_tsc: u64,
}

impl TimerServer {
    /// A server of all of them.
    pub const fn new(queue: Arc<TimerQueue>) -> Self {
        Self { queue, not_before_tsc: 0 }
    }

    /// The queue.
    pub const fn queue(&self) -> &Arc<TimerQueue> {
        &self.queue
    }

    /// When to serve next, in the host's time stamp counter; `u64::MAX` for never.
    pub fn due_tsc(&self) -> u64 {
        self.queue.due_tsc().max(self.not_before_tsc)
    }

    /// Tells those whose time has come at `now_tsc`.
    pub fn serve(&mut self, now_tsc: u64) {
        if self.queue.serve() {
            let min_run = self.queue.clock.tsc_hz() / 1_000_000 * MIN_RUN_US;
            self.not_before_tsc = now_tsc.saturating_add(min_run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::platform::Platform;
    use crate::test_platform::TestPlatform;
    use alloc::vec::Vec;
    use devices::time::GuestTime;

    /// The CPUs of the virtual CPU, of the keeper, and a third one.
    const VCPU: usize = 1;
    const KEEPER: usize = 2;
    const OTHER: usize = 3;
    const NONE: [usize; 0] = [];

    #[test]
    fn an_alarm_tells_the_cpu_whose_timer_rings_for_it() {
        let platform = TestPlatform::leak();
        let kick = Arc::new(VcpuKick::new(platform));
        let queue = TimerQueue::new(Arc::new(VmClock::new(platform)), kick.clone(), 1);
        let device = queue.device_alarm(0);
        // The CPUs that are interrupted if `alarm` is set on CPU `cpu`.
        let told = |alarm: &Alarm, cpu: usize| -> Vec<usize> {
            platform.be_cpu(cpu);
            alarm.set(None);
            alarm.set(Some(GuestTime::from_ns(5)));
            let count = |cpu| platform.take_interrupts(cpu, CpuInterrupt::Kick);
            (0..4).filter(|&cpu| count(cpu) != 0).collect()
        };
        assert_eq!(told(&device, OTHER), NONE, "it looks when it begins to run");
        platform.be_cpu(VCPU);
        kick.arrive();
        for alarm in [&device, &queue.apic_alarm()] {
            assert_eq!(told(alarm, VCPU), NONE);
            assert_eq!(told(alarm, OTHER), [VCPU]);
        }
        queue.set_keeper(Some(KEEPER));
        assert_eq!(told(&device, KEEPER), NONE, "it looks when it has served");
        assert_eq!(told(&device, OTHER), [KEEPER]);
        assert_eq!(told(&device, VCPU), NONE, "notice is given before the entry");
        kick.leave();
        assert_eq!(told(&device, OTHER), [KEEPER], "it keeps them while the vCPU is nowhere");
        assert_eq!(told(&device, KEEPER), NONE);
        assert_eq!(platform.take_self_interrupts(), 1, "it may run another vCPU");
        queue.set_keeper(None);
        platform.be_cpu(OTHER);
        kick.arrive();
        assert_eq!(told(&device, VCPU), [OTHER], "it has moved");
        assert_eq!(platform.cpu(), VCPU);
    }
}
