//! One guest's platform: its pages, ports, parameters and timers.

use crate::errno::Errno;
use crate::events::{BackEnd, Ports, Sent, UPCALL_PENDING, VIRQ_TIMER, Words};
use crate::grants::{self, CONSOLE_REFERENCE, Grants, NoGrant, STORE_REFERENCE};
use crate::machine::{Caller, Machine};
use crate::pages::{self, PAGE_BYTES, Pages, Shared};
use crate::params::{Callback, Params};
use crate::time::{RunState, RunTimes, TimeScale};
use crate::width::Width;
use alloc::boxed::Box;
use alloc::sync::Arc;
use devices::time::GuestTime;
use spin::Mutex;
use zerocopy::IntoBytes;

/// Virtual CPUs that have a part of the shared info.
const LEGACY_VCPUS: usize = 32;
/// Bytes of a virtual CPU's part, `vcpu_info`.
pub const VCPU_INFO_BYTES: u64 = 64;
const TIME_OFFSET: u64 = 32;
/// A timer that is set for later than this rings sooner: an overflow of the guest's (Xen's
/// `do_set_timer_op`).
const FARTHEST_NS: u64 = 1 << 50;
const SOONER_NS: u64 = 100_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// The part of a virtual CPU that it alone uses.
#[derive(Debug)]
pub struct PvVcpu {
    /// How long it has been in which state.
    pub times: RunTimes,
    /// Linear address at which the guest wants to see them.
    pub run_state_area: Option<u64>,
    /// Linear address at which the guest wants another copy of its time.
    pub time_area: Option<u64>,
    /// It sleeps in a hypercall until an event comes.
    pub waits: bool,
    /// An upcall is to be delivered past the local APIC, if it is still pending then.
    pub upcall_due: bool,
}

impl Default for PvVcpu {
    fn default() -> Self {
        Self {
            times: RunTimes::new(RunState::Runnable),
            run_state_area: None,
            time_area: None,
            waits: false,
            upcall_due: false,
        }
    }
}

/// The ports that a virtual CPU sleeps for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Polling {
    #[default]
    None,
    One(u32),
    /// Several: any event wakes it.
    Any,
}

/// The part of a virtual CPU that others use.
#[derive(Debug, Default)]
struct VcpuState {
    /// Guest-physical address of its own `vcpu_info`.
    info_gpa: Option<u64>,
    /// Its own vector for events.
    upcall_vector: Option<u8>,
    scale: TimeScale,
    time_version: u32,
    single_shot: Option<GuestTime>,
    /// Period and next moment.
    periodic: Option<(u64, GuestTime)>,
    polling: Polling,
    poll_until: Option<GuestTime>,
}

impl VcpuState {
    fn next_alarm(&self) -> Option<GuestTime> {
        let periodic = self.periodic.map(|(_, at)| at);
        [self.single_shot, periodic, self.poll_until].into_iter().flatten().min()
    }
}

/// The state that calls change, apart from the ports.
struct State {
    pages: Pages,
    params: Params,
    width: Width,
    /// The guest wants to see that run states are being written.
    marks_updates: bool,
    wall_version: u32,
    /// Frames of the grant table.
    grant_frames: usize,
    vcpus: Box<[VcpuState]>,
}

/// The facts about a guest that its platform is made with.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Its number.
    pub domain: u16,
    /// Its virtual CPUs.
    pub vcpus: usize,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Nanoseconds a tick of its time stamp counters, with 32 fractional bits.
    pub ns_per_tick_q32: u64,
    /// UTC at guest time 0, in nanoseconds since 1970 began.
    pub utc_start_ns: u64,
}

/// One guest's platform.
pub struct PvPlatform {
    machine: Arc<dyn Machine>,
    identity: Identity,
    /// Locked in this order, and before locks of the machine.
    ports: Mutex<Ports>,
    grants: Mutex<Grants>,
    state: Mutex<State>,
}

impl PvPlatform {
    /// The platform of a guest, the time stamp counters of whose virtual CPUs are all 0 at guest
    /// time 0.
    pub fn new(machine: Arc<dyn Machine>, identity: Identity) -> Self {
        let Identity { vcpus, ns_per_tick_q32, .. } = identity;
        let scale = TimeScale { zero_tsc: 0, ns_per_tick_q32, stable: true };
        let state = State {
            pages: Pages::default(),
            params: Params::default(),
            width: Width::default(),
            marks_updates: false,
            wall_version: 0,
            grant_frames: 1,
            vcpus: (0..vcpus).map(|_| VcpuState { scale, ..VcpuState::default() }).collect(),
        };
        let platform = Self {
            machine,
            identity,
            ports: Mutex::new(Ports::new()),
            grants: Mutex::default(),
            state: Mutex::new(state),
        };
        let mut state = platform.state.lock();
        state.pages.show(&*platform.machine);
        for vcpu in 0..vcpus {
            platform.write_time(&mut state, vcpu);
        }
        platform.write_wall_clock(&mut state);
        let table = state.pages.at(&*platform.machine, pages::GRANTS);
        for (reference, gfn) in
            [(CONSOLE_REFERENCE, pages::CONSOLE_GFN), (STORE_REFERENCE, pages::STORE_GFN)]
        {
            if let Some((_, offset)) = grants::place(reference) {
                // It is the platform's own memory, which takes it.
                let _ = table.write(offset, &grants::reserved_entry(gfn));
            }
        }
        drop(state);
        platform
    }

    /// The machine.
    pub fn machine(&self) -> &dyn Machine {
        &*self.machine
    }

    /// The guest's number.
    pub const fn domain(&self) -> u16 {
        self.identity.domain
    }

    /// The guest's UUID.
    pub const fn uuid(&self) -> [u8; 16] {
        self.identity.uuid
    }

    /// Virtual CPUs that there may be.
    pub const fn vcpu_count(&self) -> usize {
        self.identity.vcpus
    }

    /// Virtual CPU `vcpu`, by a number of the guest's.
    ///
    /// # Errors
    /// [`Errno::NoEnt`] if there is none.
    pub fn vcpu(&self, vcpu: impl Into<u64>) -> Result<usize, Errno> {
        let vcpu = usize::try_from(vcpu.into()).map_err(|_| Errno::NoEnt)?;
        (vcpu < self.identity.vcpus).then_some(vcpu).ok_or(Errno::NoEnt)
    }

    /// The number of a domain that is the guest itself.
    ///
    /// # Errors
    /// [`Errno::Srch`] if it is another.
    pub fn own_domain(&self, domain: u16) -> Result<(), Errno> {
        const SELF: u16 = 0x7ff0;
        (domain == SELF || domain == self.identity.domain).then_some(()).ok_or(Errno::Srch)
    }

    /// The guest's layout of what is shared.
    pub fn width(&self) -> Width {
        self.state.lock().width
    }

    /// The layout is that of the mode in which the guest has just set up its hypercalls or its
    /// callback.
    pub fn latch_width(&self, width: Width) {
        let mut state = self.state.lock();
        state.width = width;
        self.write_wall_clock(&mut state);
    }

    /// The guest wants to see when run states are being written.
    pub fn mark_updates(&self, marks: bool) {
        self.state.lock().marks_updates = marks;
    }

    /// Width of run states, and whether writing them is to be marked.
    pub fn run_state_layout(&self) -> (Width, bool) {
        let state = self.state.lock();
        (state.width, state.marks_updates)
    }

    // Pages.

    /// Puts page `page` at the guest's page number `gfn`.
    ///
    /// # Errors
    /// As [`Pages::put`].
    pub fn put_page(&self, page: usize, gfn: u64) -> Result<(), Errno> {
        let mut state = self.state.lock();
        state.pages.put(&*self.machine, page, gfn)?;
        state.grant_frames = state.grant_frames.max((page + 1).saturating_sub(pages::GRANTS));
        Ok(())
    }

    /// Frames of the grant table.
    pub fn grant_frames(&self) -> usize {
        self.state.lock().grant_frames
    }

    /// The table has `frames` frames at least, of at most [`pages::MAX_GRANT_FRAMES`].
    pub fn grow_grants(&self, frames: usize) {
        let mut state = self.state.lock();
        state.grant_frames = state.grant_frames.max(frames.min(pages::MAX_GRANT_FRAMES));
    }

    /// The page number at which the guest finds frame `frame` of its table, if it does.
    pub fn grant_frame_gfn(&self, frame: usize) -> Option<u64> {
        self.state.lock().pages.gfn(pages::GRANTS + frame)
    }

    /// Takes the page away that is at `gfn`; false if none of ours is there.
    pub fn take_page(&self, gfn: u64) -> bool {
        self.state.lock().pages.take(&*self.machine, gfn)
    }

    /// Runs `work` on page `page`, wherever it is.
    pub fn with_page<T>(&self, page: usize, work: impl FnOnce(Shared<'_>) -> T) -> T {
        let state = self.state.lock();
        work(state.pages.at(&*self.machine, page))
    }

    /// Holds a granted page, so that the guest cannot end the grant, and returns its address. Each
    /// hold is followed by a [`PvPlatform::release_grant`].
    ///
    /// # Errors
    /// [`NoGrant`].
    pub fn hold_grant(&self, reference: u32, is_writable: bool) -> Result<u64, NoGrant> {
        let (frame, offset) = grants::place(reference).ok_or(NoGrant)?;
        if frame >= self.grant_frames() {
            return Err(NoGrant);
        }
        let mut grants = self.grants.lock();
        let gpa = self.with_page(pages::GRANTS + frame, |frame| {
            grants.hold(frame, offset, reference, is_writable)
        })?;
        drop(grants);
        if !self.machine.is_ram(gpa) {
            self.release_grant(reference, is_writable);
            return Err(NoGrant);
        }
        Ok(gpa)
    }

    /// Ends a hold.
    pub fn release_grant(&self, reference: u32, is_writable: bool) {
        let Some((frame, offset)) = grants::place(reference) else { return };
        let mut grants = self.grants.lock();
        self.with_page(pages::GRANTS + frame, |frame| {
            grants.release(frame, offset, reference, is_writable);
        });
    }

    // Parameters.

    /// The parameters.
    pub fn params(&self) -> Params {
        self.state.lock().params
    }

    /// The hypervisor's own change of them.
    pub fn change_params(&self, change: impl FnOnce(&mut Params)) {
        change(&mut self.state.lock().params);
    }

    /// The guest sets a parameter, from code of `width`.
    ///
    /// # Errors
    /// As [`Params::set`].
    pub fn set_param(&self, index: u32, value: u64, width: Width) -> Result<(), Errno> {
        let ports = self.ports.lock();
        let mut state = self.state.lock();
        state.params.set(index, value)?;
        if index == crate::params::CALLBACK_IRQ {
            state.width = width;
            self.write_wall_clock(&mut state);
            for vcpu in 0..state.vcpus.len() {
                if self.has_upcall(&state, vcpu) {
                    self.deliver(&state, vcpu);
                }
            }
        }
        drop(ports);
        Ok(())
    }

    /// Virtual CPU `vcpu` has a vector of its own for events from now on.
    ///
    /// # Errors
    /// [`Errno::Inval`] for a vector that no local APIC takes.
    pub fn set_upcall_vector(&self, vcpu: usize, vector: u8) -> Result<(), Errno> {
        const FIRST_LEGAL: u8 = 16;
        if vector < FIRST_LEGAL {
            return Err(Errno::Inval);
        }
        let mut state = self.state.lock();
        state.vcpus[vcpu].upcall_vector = Some(vector);
        // As Xen does: once in any case, so that no event from before is missed.
        self.deliver(&state, vcpu);
        Ok(())
    }

    /// The local APIC of virtual CPU `vcpu` has forgotten what was requested there: an upcall that
    /// is pending is told once more. Under Xen, INIT leaves a virtual CPU alone that has not been
    /// started, and guests set up events of such.
    pub fn repeat_upcall(&self, vcpu: usize) {
        let state = self.state.lock();
        if self.has_upcall(&state, vcpu) {
            self.deliver(&state, vcpu);
        }
    }

    // Virtual CPUs' parts of the shared info.

    fn vcpu_info<'a>(&'a self, state: &State, vcpu: usize) -> Option<Shared<'a>> {
        match state.vcpus.get(vcpu)?.info_gpa {
            Some(gpa) => Some(Shared::at_gpa(&*self.machine, gpa)),
            None if vcpu < LEGACY_VCPUS => {
                let shared_info = state.pages.at(&*self.machine, pages::SHARED_INFO);
                Some(shared_info.from(vcpu as u64 * VCPU_INFO_BYTES))
            }
            None => None,
        }
    }

    /// `VCPUOP_register_vcpu_info`: the part of virtual CPU `vcpu` is at `offset` in page `gfn`.
    ///
    /// # Errors
    /// [`Errno::NxIo`] if it does not fit there, [`Errno::Inval`] if it has a place already, or no
    /// memory is there.
    pub fn register_vcpu_info(&self, vcpu: usize, gfn: u64, offset: u32) -> Result<(), Errno> {
        let offset = u64::from(offset);
        if offset > PAGE_BYTES - VCPU_INFO_BYTES || offset % 8 != 0 {
            return Err(Errno::NxIo);
        }
        let gpa = gfn.checked_mul(PAGE_BYTES).ok_or(Errno::Inval)? + offset;
        let ports = self.ports.lock();
        let mut state = self.state.lock();
        if state.vcpus[vcpu].info_gpa.is_some() || !self.machine.is_ram(gpa) {
            return Err(Errno::Inval);
        }
        let mut content = [0; VCPU_INFO_BYTES as usize];
        if let Some(old) = self.vcpu_info(&state, vcpu) {
            old.read(0, &mut content).map_err(|_| Errno::Fault)?;
        }
        let new = Shared::at_gpa(&*self.machine, gpa);
        new.write(0, &content).map_err(|_| Errno::Fault)?;
        state.vcpus[vcpu].info_gpa = Some(gpa);
        self.write_time(&mut state, vcpu);
        drop(state);
        self.with_words(|words| words.look_at_all(vcpu));
        drop(ports);
        Ok(())
    }

    // Events.

    fn has_upcall(&self, state: &State, vcpu: usize) -> bool {
        self.vcpu_info(state, vcpu).is_some_and(|info| info.bit(UPCALL_PENDING, 0))
    }

    /// Tells a virtual CPU that an upcall is pending.
    fn deliver(&self, state: &State, vcpu: usize) {
        let vcpu_state = &state.vcpus[vcpu];
        if let Some(vector) = vcpu_state.upcall_vector {
            self.machine.interrupt(vcpu, vector);
            return;
        }
        match Callback::decode(state.params.callback) {
            Callback::Vector(_) => self.machine.look_for_events(vcpu),
            Callback::Line(line) if vcpu == 0 => self.machine.set_line(line, true),
            Callback::Line(_) | Callback::None => {}
        }
    }

    /// Runs `work` on the words of events. The ports are locked.
    fn with_words<T>(&self, work: impl FnOnce(&Words<'_>) -> T) -> T {
        let state = self.state.lock();
        let state = &*state;
        let vcpu_info = |vcpu| self.vcpu_info(state, vcpu);
        let upcall = |vcpu| self.deliver(state, vcpu);
        let arrived = |_vcpu, port| {
            for (vcpu, other) in state.vcpus.iter().enumerate() {
                if matches!(other.polling, Polling::Any)
                    || matches!(other.polling, Polling::One(polled) if polled == port)
                {
                    self.machine.look_for_events(vcpu);
                }
            }
        };
        work(&Words {
            machine: &*self.machine,
            width: state.width,
            shared_info: state.pages.at(&*self.machine, pages::SHARED_INFO),
            vcpu_info: &vcpu_info,
            upcall: &upcall,
            arrived: &arrived,
        })
    }

    /// Runs `work` on the ports and their words.
    pub fn with_ports<T>(&self, work: impl FnOnce(&mut Ports, &Words<'_>) -> T) -> T {
        let mut ports = self.ports.lock();
        self.with_words(|words| work(&mut ports, words))
    }

    /// The guest sends an event.
    ///
    /// # Errors
    /// As [`Ports::send`].
    pub fn send(&self, port: u32) -> Result<(), Errno> {
        if let Sent::Tell(back_end) = self.with_ports(|ports, words| ports.send(words, port))? {
            back_end.notified();
        }
        Ok(())
    }

    /// A back end tells the guest that there is something for it.
    pub fn notify(&self, back_end: &Arc<dyn BackEnd>) {
        self.with_ports(|ports, words| ports.notify(words, back_end));
    }

    /// The vector to inject into virtual CPU `vcpu` past its local APIC, if an upcall is pending
    /// there and is told so.
    pub fn upcall_to_inject(&self, vcpu: usize) -> Option<u8> {
        let state = self.state.lock();
        if state.vcpus.get(vcpu)?.upcall_vector.is_some() {
            return None;
        }
        match Callback::decode(state.params.callback) {
            Callback::Vector(vector) if self.has_upcall(&state, vcpu) => Some(vector),
            _ => None,
        }
    }

    /// Virtual CPU `vcpu` sleeps until one of `ports` has an event, or until `deadline_ns`; false
    /// if one has already.
    pub(crate) fn begin_poll(&self, vcpu: usize, ports: &[u32], deadline_ns: u64) -> bool {
        // The ports are locked while an event is made pending.
        let locked = self.ports.lock();
        let polling = match ports {
            [] => Polling::None,
            [port] => Polling::One(*port),
            _ => Polling::Any,
        };
        let mut state = self.state.lock();
        let own = &mut state.vcpus[vcpu];
        own.polling = polling;
        own.poll_until = (deadline_ns != 0).then(|| GuestTime::from_ns(deadline_ns));
        drop(state);
        let waits = self.with_words(|words| !ports.iter().any(|&port| words.is_pending(port)));
        drop(locked);
        if !waits {
            self.end_poll(vcpu);
        }
        self.arm(&self.state.lock(), vcpu);
        waits
    }

    /// Virtual CPU `vcpu` sleeps for no ports any more.
    pub fn end_poll(&self, vcpu: usize) {
        let mut state = self.state.lock();
        let Some(own) = state.vcpus.get_mut(vcpu) else { return };
        own.polling = Polling::None;
        own.poll_until = None;
        self.arm(&state, vcpu);
    }

    // Time.

    /// Writes a virtual CPU's time, if it has a place for it.
    fn write_time(&self, state: &mut State, vcpu: usize) {
        let own = &mut state.vcpus[vcpu];
        own.time_version = own.time_version.wrapping_add(2);
        let (version, scale) = (own.time_version, own.scale);
        if let Some(info) = self.vcpu_info(state, vcpu) {
            // Places that are no memory any more are the guest's own fault.
            let time = info.from(TIME_OFFSET);
            let being_written = scale.info(version.wrapping_sub(1));
            let _ = time.write(0, being_written.as_bytes());
            let _ = time.write(0, &version.to_le_bytes());
        }
    }

    /// The bytes of a virtual CPU's time.
    pub fn time_info(&self, vcpu: usize) -> [u8; 32] {
        let state = self.state.lock();
        let own = &state.vcpus[vcpu];
        let mut bytes = [0; 32];
        bytes.copy_from_slice(own.scale.info(own.time_version).as_bytes());
        bytes
    }

    /// The guest has set the time stamp counter of virtual CPU `vcpu`: it was `zero_tsc` at guest
    /// time 0.
    pub fn set_zero_tsc(&self, vcpu: usize, zero_tsc: u64) {
        let mut state = self.state.lock();
        if state.vcpus[vcpu].scale.zero_tsc == zero_tsc {
            return;
        }
        state.vcpus[vcpu].scale.zero_tsc = zero_tsc;
        let is_stable = state.vcpus.iter().all(|other| other.scale.zero_tsc == zero_tsc);
        for vcpu in 0..state.vcpus.len() {
            state.vcpus[vcpu].scale.stable = is_stable;
            self.write_time(&mut state, vcpu);
        }
    }

    /// Writes UTC at guest time 0 into the shared info.
    fn write_wall_clock(&self, state: &mut State) {
        let (start, above) = match state.width {
            Width::Bits32 => (2304, 2340),
            Width::Bits64 => (3072, 3084),
        };
        state.wall_version = state.wall_version.wrapping_add(2);
        let shared_info = state.pages.at(&*self.machine, pages::SHARED_INFO);
        let utc_start_ns = self.identity.utc_start_ns;
        let seconds = utc_start_ns / NS_PER_S;
        let write = |offset, value: u32| {
            let _ = shared_info.write(offset, &value.to_le_bytes());
        };
        write(start, state.wall_version.wrapping_sub(1));
        write(start + 4, seconds as u32);
        write(start + 8, (utc_start_ns % NS_PER_S) as u32);
        write(above, (seconds >> 32) as u32);
        write(start, state.wall_version);
    }

    fn arm(&self, state: &State, vcpu: usize) {
        self.machine.set_timer(vcpu, state.vcpus[vcpu].next_alarm());
    }

    /// Sets the timer of virtual CPU `vcpu` to a moment of guest time, or off.
    pub fn set_single_shot(&self, vcpu: usize, at_ns: Option<u64>) {
        let now = self.machine.now();
        let at = at_ns.map(|at| match at.saturating_sub(now.as_ns()) {
            FARTHEST_NS.. => now + SOONER_NS,
            _ => GuestTime::from_ns(at),
        });
        let mut state = self.state.lock();
        state.vcpus[vcpu].single_shot = at;
        self.arm(&state, vcpu);
    }

    /// Lets the timer of virtual CPU `vcpu` ring each `period_ns`, or no more.
    pub fn set_periodic(&self, vcpu: usize, period_ns: Option<u64>) {
        let now = self.machine.now();
        let mut state = self.state.lock();
        state.vcpus[vcpu].periodic = period_ns.map(|period_ns| (period_ns, now + period_ns));
        self.arm(&state, vcpu);
    }

    /// The moment has come that [`Machine::set_timer`] was told.
    pub fn timer_expired(&self, vcpu: usize, now: GuestTime) {
        let mut state = self.state.lock();
        let own = &mut state.vcpus[vcpu];
        let mut rings = false;
        if own.single_shot.is_some_and(|at| at <= now) {
            own.single_shot = None;
            rings = true;
        }
        if let Some((period_ns, at)) = own.periodic
            && at <= now
        {
            let missed = now.since(at) / period_ns.max(1);
            own.periodic = Some((period_ns, at + (missed + 1).saturating_mul(period_ns)));
            rings = true;
        }
        let poll_is_over = own.poll_until.is_some_and(|at| at <= now);
        if poll_is_over {
            own.poll_until = None;
        }
        self.arm(&state, vcpu);
        drop(state);
        if poll_is_over {
            self.machine.look_for_events(vcpu);
        }
        if rings {
            self.with_ports(|ports, words| ports.raise_virq(words, VIRQ_TIMER, vcpu));
        }
    }

    // Areas of the guest's that a virtual CPU writes by their linear addresses.

    /// Shows the guest the run state of the virtual CPU that calls, if it has asked for that.
    pub fn write_run_state(&self, own: &PvVcpu, caller: &mut dyn Caller) {
        let Some(linear) = own.run_state_area else { return };
        let (width, marks) = self.run_state_layout();
        let now_ns = self.machine.now().as_ns();
        let (bytes, length) = own.times.bytes(width, now_ns, marks);
        let entry = RunTimes::entry_offset(width);
        // An address that leads nowhere now may lead somewhere later.
        if marks {
            let top = linear.wrapping_add(entry + 7);
            let _ = caller.write(top, &bytes[entry as usize + 7..entry as usize + 8]);
        }
        if caller.write(linear, &bytes[..length]).is_ok() && marks {
            let top = linear.wrapping_add(entry + 7);
            let _ = caller.write(top, &[bytes[entry as usize + 7] & 0x7f]);
        }
    }

    /// Shows the guest the time of the virtual CPU that calls, if it has asked for another copy.
    pub fn write_time_area(&self, own: &PvVcpu, caller: &mut dyn Caller) {
        if let Some(linear) = own.time_area {
            let _ = caller.write(linear, &self.time_info(caller.vcpu()));
        }
    }
}

/// The page of the shared info that a hypercall may put somewhere.
pub const SPACE_SHARED_INFO: u32 = 0;
/// The frames of the grant table.
pub const SPACE_GRANT_TABLE: u32 = 1;

/// The number of the page that a space and an index name.
///
/// # Errors
/// [`Errno::Inval`] beyond the end, [`Errno::NoSys`] for a space that is not offered.
pub const fn page_of(space: u32, index: u64) -> Result<usize, Errno> {
    match space {
        SPACE_SHARED_INFO if index == 0 => Ok(pages::SHARED_INFO),
        SPACE_GRANT_TABLE if index < pages::MAX_GRANT_FRAMES as u64 => {
            Ok(pages::GRANTS + index as usize)
        }
        SPACE_SHARED_INFO | SPACE_GRANT_TABLE => Err(Errno::Inval),
        _ => Err(Errno::NoSys),
    }
}
