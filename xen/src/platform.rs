//! One guest's platform: its pages, ports, parameters and timers.

mod time;
mod upcalls;
mod watchdog;

use crate::errno::Errno;
use crate::events::Ports;
use crate::grants::{self, CONSOLE_REFERENCE, Grants, NoGrant, STORE_REFERENCE};
use crate::machine::Machine;
use crate::pages::{self, PAGE_BYTES, Pages, Shared};
use crate::params::{Callback, Params};
use crate::time::{RunState, RunTimes, TimeScale};
use crate::width::Width;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use devices::lock::{Ranked, rank};
use devices::time::GuestTime;
use watchdog::Watchdogs;

/// Virtual CPUs that have a part of the shared info.
const LEGACY_VCPUS: usize = 32;
/// Bytes of a virtual CPU's part, `vcpu_info`.
pub const VCPU_INFO_BYTES: u64 = 64;

/// The part of a virtual CPU that it alone uses.
#[derive(Debug)]
pub struct PvVcpu {
    /// How long it has been in which state.
    pub times: RunTimes,
    /// Linear address at which the guest wants to see them.
    pub run_state_area: Option<u64>,
    /// Linear address at which the guest wants another copy of its time.
    pub time_area: Option<u64>,
    /// The kernel that has asked for them: soft resets until then.
    kernel: u32,
}

impl Default for PvVcpu {
    fn default() -> Self {
        Self {
            times: RunTimes::new(RunState::Runnable),
            run_state_area: None,
            time_area: None,
            kernel: 0,
        }
    }
}

/// The events that a virtual CPU sleeps for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Polling {
    #[default]
    None,
    /// Those that it is told of, whether or not it lets interrupts in.
    Upcall,
    One(u32),
    /// Several: any event wakes it.
    Any,
}

/// The part of a virtual CPU that others use.
#[derive(Debug, Default)]
struct VcpuState {
    /// It was started, and is not off.
    is_up: bool,
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
    /// Soft resets so far.
    kernel: u32,
    pages: Pages,
    params: Params,
    width: Width,
    /// The guest wants to see that run states are being written.
    marks_updates: bool,
    wall_version: u32,
    /// Frames of the grant table.
    grant_frames: usize,
    watchdogs: Watchdogs,
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
    /// Pages of RAM that the guest may have.
    max_pages: AtomicU64,
    /// Locked in this order, and before locks of the machine.
    ports: Ranked<Ports, { rank::PV_PORTS }>,
    grants: Ranked<Grants, { rank::PV_GRANTS }>,
    state: Ranked<State, { rank::PV_STATE }>,
}

impl PvPlatform {
    /// The platform of a guest, the time stamp counters of whose virtual CPUs are all 0 at guest
    /// time 0.
    pub fn new(machine: Arc<dyn Machine>, identity: Identity) -> Self {
        let Identity { vcpus, ns_per_tick_q32, .. } = identity;
        let scale = TimeScale { zero_tsc: 0, ns_per_tick_q32, stable: true };
        let vcpu_state = |vcpu| VcpuState { is_up: vcpu == 0, scale, ..VcpuState::default() };
        let state = State {
            kernel: 0,
            pages: Pages::default(),
            params: Params::default(),
            width: Width::default(),
            marks_updates: false,
            wall_version: 0,
            grant_frames: 1,
            watchdogs: Watchdogs::default(),
            vcpus: (0..vcpus).map(vcpu_state).collect(),
        };
        let platform = Self {
            max_pages: AtomicU64::new(all_pages(&*machine)),
            machine,
            identity,
            ports: Ranked::new(Ports::new()),
            grants: Ranked::default(),
            state: Ranked::new(state),
        };
        platform.begin(&mut platform.state.lock());
        platform
    }

    /// Shows a guest that begins what is there before it asks.
    fn begin(&self, state: &mut State) {
        state.pages.show(&*self.machine);
        for vcpu in 0..self.identity.vcpus {
            self.write_time(state, vcpu);
        }
        self.write_wall_clock(state);
        let table = state.pages.at(&*self.machine, pages::GRANTS);
        for (reference, gfn) in
            [(CONSOLE_REFERENCE, pages::CONSOLE_GFN), (STORE_REFERENCE, pages::STORE_GFN)]
        {
            if let Some((_, offset)) = grants::place(reference) {
                // It is the platform's own memory, which takes it.
                let _ = table.write(offset, &grants::reserved_entry(gfn));
            }
        }
    }

    /// Another kernel starts in the guest's memory, as by kexec: all is as at the guest's start,
    /// but for time and for the virtual CPUs that run. A page that was put over RAM is that RAM
    /// from now on. To be called when no back end holds a grant or is bound to a port.
    pub fn soft_reset(&self) {
        let mut ports = self.ports.lock();
        let mut state = self.state.lock();
        if let Callback::Line(line) = Callback::decode(state.params.callback) {
            self.machine.set_line(line, false);
        }
        state.kernel = state.kernel.wrapping_add(1);
        state.pages = Pages::default();
        for page in 0..pages::COUNT {
            // It is the platform's own memory, which takes it.
            let _ = state.pages.at(&*self.machine, page).write(0, &[0; PAGE_BYTES as usize]);
        }
        state.params.callback = 0;
        state.marks_updates = false;
        state.grant_frames = 1;
        state.watchdogs = Watchdogs::default();
        for vcpu in 0..self.identity.vcpus {
            let VcpuState { is_up, scale, time_version, .. } = state.vcpus[vcpu];
            state.vcpus[vcpu] = VcpuState { is_up, scale, time_version, ..VcpuState::default() };
            self.arm(&state, vcpu);
        }
        self.begin(&mut state);
        drop(state);
        // Back ends are dropped without locks.
        let old = core::mem::replace(&mut *ports, Ports::new());
        drop(ports);
        drop(old);
    }

    /// Forgets the areas that a kernel has asked for which runs no more: their addresses mean
    /// something else now.
    pub(crate) fn forget_old_areas(&self, own: &mut PvVcpu) {
        let kernel = self.state.lock().kernel;
        if own.kernel != kernel {
            (own.run_state_area, own.time_area, own.kernel) = (None, None, kernel);
        }
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

    /// Virtual CPU `vcpu` was started, and is not off.
    pub fn is_up(&self, vcpu: usize) -> bool {
        self.state.lock().vcpus[vcpu].is_up
    }

    /// Virtual CPU `vcpu` starts, or waits to be started.
    pub fn set_up(&self, vcpu: usize, is_up: bool) {
        self.state.lock().vcpus[vcpu].is_up = is_up;
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

    /// Pages of RAM that the guest may have (`XENMEM_maximum_reservation`).
    pub fn max_pages(&self) -> u64 {
        self.max_pages.load(Ordering::Relaxed)
    }

    /// It may have so many, beside those that it has, which it keeps.
    pub fn set_max_pages(&self, pages: u64) {
        self.max_pages.store(pages, Ordering::Relaxed);
    }

    // Pages.

    /// True if the guest finds a page of the platform's at this page number.
    pub fn is_ours(&self, gfn: u64) -> bool {
        self.state.lock().pages.is_at(gfn)
    }

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

    /// Holds granted pages, so that the guest cannot end the grants, and tells `held` of each with
    /// its address. Each hold is followed by an end of it ([`PvPlatform::release_grants`]).
    ///
    /// # Errors
    /// [`NoGrant`], after those before it are held.
    pub fn hold_grants(
        &self,
        references: impl IntoIterator<Item = u32>,
        is_writable: bool,
        mut held: impl FnMut(u32, u64),
    ) -> Result<(), NoGrant> {
        let (mut grants, state) = (self.grants.lock(), self.state.lock());
        for reference in references {
            let (frame, offset) = grants::place(reference).ok_or(NoGrant)?;
            if frame >= state.grant_frames {
                return Err(NoGrant);
            }
            let frame = state.pages.at(&*self.machine, pages::GRANTS + frame);
            let gpa = grants.hold(frame, offset, reference, is_writable)?;
            if !self.machine.is_ram(gpa) {
                grants.release(frame, offset, reference, is_writable);
                return Err(NoGrant);
            }
            held(reference, gpa);
        }
        Ok(())
    }

    /// Ends holds of references, each for writing or not.
    pub fn release_grants(&self, held: impl IntoIterator<Item = (u32, bool)>) {
        let (mut grants, state) = (self.grants.lock(), self.state.lock());
        for (reference, is_writable) in held {
            let Some((frame, offset)) = grants::place(reference) else { continue };
            let frame = state.pages.at(&*self.machine, pages::GRANTS + frame);
            grants.release(frame, offset, reference, is_writable);
        }
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
        let old = Callback::decode(state.params.callback);
        state.params.set(index, value)?;
        if index == crate::params::CALLBACK_IRQ {
            if let Callback::Line(line) = old {
                self.machine.set_line(line, false);
            }
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
}

/// Pages of RAM that the guest can have.
fn all_pages(machine: &dyn Machine) -> u64 {
    let lengths = machine.ram_ranges().into_iter().map(|range| range.end - range.start);
    lengths.sum::<u64>() / pages::PAGE_BYTES
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
