//! Event channels (event_channel.h): ports by which virtual CPUs, back ends and timers tell a guest
//! that something is to be seen to. Two-level words in the shared info.

use crate::errno::Errno;
use crate::pages::Shared;
use crate::width::Width;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Ports of a guest, as xl's default for `max_event_channels` (1023) and port 0, which is none.
pub const MAX_PORTS: usize = 1024;
/// The domain of back ends.
pub const BACK_END_DOMAIN: u16 = 0;

/// A virtual CPU's timer.
pub const VIRQ_TIMER: u32 = 0;
const VIRQ_DEBUG: u32 = 1;
const VIRQ_XENOPROF: u32 = 7;
const VIRQ_XENPMU: u32 = 13;
const VIRQ_COUNT: u32 = 24;

/// Offsets in the shared info.
const PENDING: u64 = 2048;
/// Offsets in a virtual CPU's own part of it.
pub const UPCALL_PENDING: u64 = 0;

/// As many words as a word has bits.
const fn mask_offset(width: Width) -> u64 {
    PENDING + 8 * (width.long_bytes() * width.long_bytes()) as u64
}

const fn selector_offset(width: Width) -> u64 {
    width.long_bytes() as u64
}

/// A back end that hears of the guest's notifications. Called without locks of the platform's.
pub trait BackEnd: Send + Sync {
    /// The guest has sent an event.
    fn notified(&self);
}

/// The other end of a port.
#[derive(Clone, Default)]
enum Peer {
    #[default]
    Free,
    /// To nothing yet.
    Unbound { remote: u16 },
    /// To a back end: the number of its port.
    BackEnd(u32),
    /// From a virtual interrupt.
    Virq(u32),
    /// From the guest's other virtual CPUs.
    Ipi,
}

#[derive(Clone, Default)]
struct Port {
    peer: Peer,
    vcpu: usize,
}

/// A port of the back ends' domain.
struct FarPort {
    back_end: Arc<dyn BackEnd>,
    /// The guest's port that it is bound to.
    bound: Option<u32>,
}

/// The state of a port, as `EVTCHNOP_status` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortStatus {
    /// It is free.
    Closed,
    /// It waits for a domain.
    Unbound {
        /// The domain.
        domain: u16,
    },
    /// It leads to a port of another domain.
    Interdomain {
        /// The domain.
        domain: u16,
        /// The port there.
        port: u32,
    },
    /// A virtual interrupt comes by it.
    Virq(u32),
    /// Other virtual CPUs send by it.
    Ipi,
}

/// The work that is left after an event was sent.
pub enum Sent {
    /// Nothing more.
    Done,
    /// A back end is to be told, without locks.
    Tell(Arc<dyn BackEnd>),
}

/// Whether a virtual interrupt is none of a virtual CPU's, but of all.
const fn is_global(virq: u32) -> bool {
    !matches!(virq, VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU)
}

/// Whether a virtual interrupt may be bound at a virtual CPU, which is looked for later.
///
/// # Errors
/// [`Errno::Inval`] for one that there is not, or a global one at another virtual CPU than the
/// first.
pub const fn check_virq(virq: u32, vcpu: u32) -> Result<(), Errno> {
    if virq >= VIRQ_COUNT || is_global(virq) && vcpu != 0 {
        return Err(Errno::Inval);
    }
    Ok(())
}

/// Where the words of events are, and who is told of them.
pub struct Words<'a> {
    /// The layout.
    pub width: Width,
    /// The shared info.
    pub shared_info: Shared<'a>,
    /// The part of a virtual CPU, if it has one.
    pub vcpu_info: &'a dyn Fn(usize) -> Option<Shared<'a>>,
    /// A virtual CPU is to be told of its upcall.
    pub upcall: &'a dyn Fn(usize),
    /// An event has come for a virtual CPU, seen or not.
    pub arrived: &'a dyn Fn(usize, u32),
}

impl Words<'_> {
    /// Ports that the layout has words for.
    pub const fn port_count(width: Width) -> usize {
        let word_bits = 8 * width.long_bytes();
        let most = word_bits * word_bits;
        if most < MAX_PORTS { most } else { MAX_PORTS }
    }

    fn has(&self, port: u32) -> bool {
        (port as usize) < Self::port_count(self.width)
    }

    /// Makes a port pending at a virtual CPU.
    fn raise(&self, port: u32, vcpu: usize) {
        if !self.has(port) || self.shared_info.set_bit(PENDING, port) {
            return;
        }
        if !self.is_masked(port) {
            self.tell(port, vcpu);
        }
        (self.arrived)(vcpu, port);
    }

    fn is_masked(&self, port: u32) -> bool {
        self.shared_info.bit(mask_offset(self.width), port)
    }

    fn tell(&self, port: u32, vcpu: usize) {
        let Some(info) = (self.vcpu_info)(vcpu) else { return };
        let word = port / (8 * self.width.long_bytes() as u32);
        if info.set_bit(selector_offset(self.width), word) {
            return;
        }
        if !info.set_bit(UPCALL_PENDING, 0) {
            (self.upcall)(vcpu);
        }
    }

    /// True if an event of the port waits.
    pub fn is_pending(&self, port: u32) -> bool {
        self.has(port) && self.shared_info.bit(PENDING, port)
    }

    /// All that may be pending is to be looked for by virtual CPU `vcpu`: its part of the shared
    /// info has moved.
    pub fn look_at_all(&self, vcpu: usize) {
        let Some(info) = (self.vcpu_info)(vcpu) else { return };
        let length = self.width.long_bytes();
        let _ = info.write(selector_offset(self.width), &[0xff; 8][..length]);
        info.set_bit(UPCALL_PENDING, 0);
        (self.upcall)(vcpu);
    }
}

/// The ports of a guest.
#[derive(Default)]
pub struct Ports {
    ports: Vec<Port>,
    /// By their numbers, from 1.
    far: Vec<Option<FarPort>>,
}

impl Ports {
    /// None but port 0, which is never used.
    pub fn new() -> Self {
        Self { ports: alloc::vec![Port::default()], far: Vec::new() }
    }

    /// A free port that leads to `peer` and is told to virtual CPU `vcpu`.
    fn take(&mut self, words: &Words<'_>, peer: Peer, vcpu: usize) -> Result<u32, Errno> {
        let free = (1..self.ports.len()).find(|&at| matches!(self.ports[at].peer, Peer::Free));
        let port = match free {
            Some(port) => port,
            None if self.ports.len() < Words::port_count(words.width) => {
                self.ports.push(Port::default());
                self.ports.len() - 1
            }
            None => return Err(Errno::NoSpc),
        };
        self.ports[port] = Port { peer, vcpu };
        Ok(port as u32)
    }

    fn get(&self, port: u32) -> Option<&Port> {
        self.ports.get(port as usize).filter(|_| port != 0)
    }

    fn get_mut(&mut self, port: u32) -> Option<&mut Port> {
        self.ports.get_mut(port as usize).filter(|_| port != 0)
    }

    /// A port of the back ends' domain, bound to a new one of the guest's, which it returns.
    ///
    /// # Errors
    /// [`Errno::NoSpc`].
    pub fn connect_new(
        &mut self,
        words: &Words<'_>,
        back_end: Arc<dyn BackEnd>,
    ) -> Result<u32, Errno> {
        let far = self.far_port(back_end);
        let port = self.take(words, Peer::BackEnd(far), 0)?;
        self.bind_far(far, Some(port));
        Ok(port)
    }

    /// A back end is bound to a port that the guest has left open for it. It looks for what the
    /// guest has sent before.
    ///
    /// # Errors
    /// [`Errno::Inval`] if the port does not wait for one.
    pub fn connect(&mut self, port: u32, back_end: Arc<dyn BackEnd>) -> Result<(), Errno> {
        match self.get(port) {
            Some(Port { peer: Peer::Unbound { remote: BACK_END_DOMAIN }, .. }) => {}
            _ => return Err(Errno::Inval),
        }
        let far = self.far_port(back_end);
        self.bind_far(far, Some(port));
        self.ports[port as usize].peer = Peer::BackEnd(far);
        Ok(())
    }

    /// A back end is gone: its port of the guest's waits for another.
    pub fn disconnect(&mut self, back_end: &Arc<dyn BackEnd>) {
        let Some(at) = self.place(back_end) else { return };
        if let Some(FarPort { bound: Some(port), .. }) = self.far[at].take() {
            self.ports[port as usize].peer = Peer::Unbound { remote: BACK_END_DOMAIN };
        }
    }

    /// The place of a back end's port.
    fn place(&self, back_end: &Arc<dyn BackEnd>) -> Option<usize> {
        let is_it = |far: &FarPort| Arc::ptr_eq(&far.back_end, back_end);
        self.far.iter().position(|far| far.as_ref().is_some_and(is_it))
    }

    /// The number of a back end's port, perhaps a new one.
    fn far_port(&mut self, back_end: Arc<dyn BackEnd>) -> u32 {
        let at = self.place(&back_end).unwrap_or_else(|| {
            let free = self.far.iter().position(Option::is_none);
            let at = free.unwrap_or_else(|| {
                self.far.push(None);
                self.far.len() - 1
            });
            self.far[at] = Some(FarPort { back_end, bound: None });
            at
        });
        at as u32 + 1
    }

    fn bind_far(&mut self, far: u32, port: Option<u32>) {
        if let Some(Some(far)) = self.far.get_mut(far as usize - 1) {
            far.bound = port;
        }
    }

    /// `EVTCHNOP_alloc_unbound`.
    ///
    /// # Errors
    /// [`Errno::NoSpc`].
    pub fn alloc_unbound(&mut self, words: &Words<'_>, remote: u16) -> Result<u32, Errno> {
        self.take(words, Peer::Unbound { remote }, 0)
    }

    /// `EVTCHNOP_bind_interdomain`, to a port of the back ends' domain that was bound before.
    ///
    /// # Errors
    /// [`Errno::Inval`] if it is no such port, or is bound.
    pub fn bind_interdomain(&mut self, words: &Words<'_>, remote_port: u32) -> Result<u32, Errno> {
        let at = (remote_port as usize).checked_sub(1).ok_or(Errno::Inval)?;
        let is_free = |far: &FarPort| far.bound.is_none();
        if !self.far.get(at).and_then(Option::as_ref).is_some_and(is_free) {
            return Err(Errno::Inval);
        }
        let port = self.take(words, Peer::BackEnd(remote_port), 0)?;
        self.bind_far(remote_port, Some(port));
        // An event may have been sent while it was not bound.
        words.raise(port, 0);
        Ok(port)
    }

    /// `EVTCHNOP_bind_virq`, after [`check_virq`].
    ///
    /// # Errors
    /// [`Errno::Exist`] if it is bound already.
    pub fn bind_virq(&mut self, words: &Words<'_>, virq: u32, vcpu: usize) -> Result<u32, Errno> {
        if self.port_of_virq(virq, vcpu).is_some() {
            return Err(Errno::Exist);
        }
        self.take(words, Peer::Virq(virq), vcpu)
    }

    fn port_of_virq(&self, virq: u32, vcpu: usize) -> Option<u32> {
        // A global one may be told to another virtual CPU than it was bound at.
        let is_it = |port: &Port| {
            matches!(port.peer, Peer::Virq(other) if other == virq)
                && (is_global(virq) || port.vcpu == vcpu)
        };
        self.ports.iter().position(is_it).map(|port| port as u32)
    }

    /// `EVTCHNOP_bind_ipi`.
    ///
    /// # Errors
    /// [`Errno::NoSpc`].
    pub fn bind_ipi(&mut self, words: &Words<'_>, vcpu: usize) -> Result<u32, Errno> {
        self.take(words, Peer::Ipi, vcpu)
    }

    /// `EVTCHNOP_close`.
    ///
    /// # Errors
    /// [`Errno::Inval`] if it is none, or free.
    pub fn close(&mut self, words: &Words<'_>, port: u32) -> Result<(), Errno> {
        let entry = self.get_mut(port).ok_or(Errno::Inval)?;
        let peer = core::mem::take(&mut entry.peer);
        *entry = Port::default();
        match peer {
            Peer::Free => return Err(Errno::Inval),
            Peer::BackEnd(far) => self.bind_far(far, None),
            _ => {}
        }
        if words.has(port) {
            words.shared_info.clear_bit(PENDING, port);
        }
        Ok(())
    }

    /// `EVTCHNOP_reset`: all are closed.
    pub fn reset(&mut self, words: &Words<'_>) {
        for port in 1..self.ports.len() as u32 {
            // A free one is closed already.
            let _ = self.close(words, port);
        }
    }

    /// `EVTCHNOP_send`.
    ///
    /// # Errors
    /// [`Errno::Inval`] if the guest cannot send by it.
    pub fn send(&self, words: &Words<'_>, port: u32) -> Result<Sent, Errno> {
        let entry = self.get(port).ok_or(Errno::Inval)?;
        match entry.peer {
            Peer::BackEnd(far) => {
                let there = self.far.get(far as usize - 1).and_then(Option::as_ref);
                return Ok(match there {
                    Some(there) => Sent::Tell(there.back_end.clone()),
                    None => Sent::Done,
                });
            }
            Peer::Ipi => words.raise(port, entry.vcpu),
            Peer::Unbound { .. } => {}
            Peer::Virq(_) | Peer::Free => return Err(Errno::Inval),
        }
        Ok(Sent::Done)
    }

    /// `EVTCHNOP_status`.
    ///
    /// # Errors
    /// [`Errno::Inval`] if there is no such port.
    pub fn status(&self, port: u32) -> Result<(PortStatus, usize), Errno> {
        let entry = self.ports.get(port as usize).ok_or(Errno::Inval)?;
        let status = match entry.peer {
            Peer::Free => PortStatus::Closed,
            Peer::Unbound { remote } => PortStatus::Unbound { domain: remote },
            Peer::BackEnd(port) => PortStatus::Interdomain { domain: BACK_END_DOMAIN, port },
            Peer::Virq(virq) => PortStatus::Virq(virq),
            Peer::Ipi => PortStatus::Ipi,
        };
        Ok((status, entry.vcpu))
    }

    /// `EVTCHNOP_bind_vcpu`.
    ///
    /// # Errors
    /// [`Errno::Inval`] if the port belongs to one virtual CPU for good.
    pub fn bind_vcpu(&mut self, port: u32, vcpu: usize) -> Result<(), Errno> {
        let entry = self.get_mut(port).ok_or(Errno::Inval)?;
        match entry.peer {
            Peer::Unbound { .. } | Peer::BackEnd(_) => {}
            Peer::Virq(virq) if is_global(virq) => {}
            _ => return Err(Errno::Inval),
        }
        entry.vcpu = vcpu;
        Ok(())
    }

    /// `EVTCHNOP_unmask`.
    ///
    /// # Errors
    /// [`Errno::Inval`] if there is no such port.
    pub fn unmask(&self, words: &Words<'_>, port: u32) -> Result<(), Errno> {
        let entry = self.get(port).ok_or(Errno::Inval)?;
        if words.has(port)
            && words.shared_info.clear_bit(mask_offset(words.width), port)
            && words.is_pending(port)
        {
            words.tell(port, entry.vcpu);
        }
        Ok(())
    }

    /// A back end sends to the guest.
    pub fn notify(&self, words: &Words<'_>, back_end: &Arc<dyn BackEnd>) {
        let far = self.place(back_end).and_then(|at| self.far[at].as_ref());
        if let Some(port) = far.and_then(|far| far.bound)
            && let Some(entry) = self.get(port)
        {
            words.raise(port, entry.vcpu);
        }
    }

    /// A virtual interrupt of a virtual CPU's.
    pub fn raise_virq(&self, words: &Words<'_>, virq: u32, vcpu: usize) {
        if let Some(port) = self.port_of_virq(virq, vcpu) {
            words.raise(port, vcpu);
        }
    }
}
