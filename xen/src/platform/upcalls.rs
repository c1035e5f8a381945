//! How virtual CPUs are told of events.

use super::{LEGACY_VCPUS, Polling, PvPlatform, State, VCPU_INFO_BYTES};
use crate::errno::Errno;
use crate::events::{BackEnd, Ports, Sent, UPCALL_PENDING, Words};
use crate::pages::{self, PAGE_BYTES, Shared};
use crate::params::Callback;
use alloc::sync::Arc;
use devices::time::GuestTime;

impl PvPlatform {
    pub(super) fn vcpu_info<'a>(&'a self, state: &State, vcpu: usize) -> Option<Shared<'a>> {
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
        let ports = self.ports.lock();
        let mut state = self.state.lock();
        let alignment = state.width.long_bytes() as u64;
        if offset > PAGE_BYTES - VCPU_INFO_BYTES || offset % alignment != 0 {
            return Err(Errno::NxIo);
        }
        let gpa = gfn.checked_mul(PAGE_BYTES).ok_or(Errno::Inval)? + offset;
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

    /// A virtual CPU has a vector of its own for events from now on, instead of one that it had.
    ///
    /// # Errors
    /// [`Errno::Inval`] for a vector that no local APIC takes, [`Errno::NoEnt`] if there is no such
    /// virtual CPU.
    pub fn set_upcall_vector(&self, vcpu: u32, vector: u8) -> Result<(), Errno> {
        const FIRST_LEGAL: u8 = 16;
        if vector < FIRST_LEGAL {
            return Err(Errno::Inval);
        }
        let vcpu = self.vcpu(vcpu)?;
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

    pub(super) fn has_upcall(&self, state: &State, vcpu: usize) -> bool {
        self.vcpu_info(state, vcpu).is_some_and(|info| info.bit(UPCALL_PENDING, 0))
    }

    /// Tells a virtual CPU that an upcall is pending.
    pub(super) fn deliver(&self, state: &State, vcpu: usize) {
        let vcpu_state = &state.vcpus[vcpu];
        if vcpu_state.polling == Polling::Upcall {
            self.machine.look_for_events(vcpu);
        }
        if let Some(vector) = vcpu_state.upcall_vector {
            self.machine.interrupt(vcpu, vector);
            return;
        }
        match Callback::decode(state.params.callback) {
            Callback::Vector(_) => self.machine.look_for_events(vcpu),
            Callback::Line(line) if vcpu == 0 => {
                self.machine.set_line(line, true);
                // It looks when the guest has seen to it.
                self.machine.look_for_events(vcpu);
            }
            Callback::Line(_) | Callback::None => {}
        }
    }

    /// Runs `work` on the words of events. The ports are locked.
    pub(super) fn with_words<T>(&self, work: impl FnOnce(&Words<'_>) -> T) -> T {
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

    /// The line that tells of events falls if the guest has seen to them; true if it is still high.
    /// To be asked by the first virtual CPU after each exit, once it was told to look for events.
    pub fn holds_line(&self, vcpu: usize) -> bool {
        let state = self.state.lock();
        match Callback::decode(state.params.callback) {
            Callback::Line(line) if vcpu == 0 && state.vcpus[vcpu].upcall_vector.is_none() => {
                let is_high = self.has_upcall(&state, vcpu);
                self.machine.set_line(line, is_high);
                is_high
            }
            _ => false,
        }
    }

    /// Virtual CPU `vcpu` sleeps until it is told of an event; false if one waits already.
    pub(crate) fn begin_block(&self, vcpu: usize) -> bool {
        let mut state = self.state.lock();
        let waits = !self.has_upcall(&state, vcpu);
        if waits {
            state.vcpus[vcpu].polling = Polling::Upcall;
        }
        waits
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
}
