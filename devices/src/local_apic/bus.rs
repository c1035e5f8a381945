//! The APIC bus: finds the local APICs that an interrupt message is meant for.

use super::inbox::{ApicInbox, Routing};
use super::spec::{DeliveryMode, MsiAddress, MsiData};
use crate::nospec;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Whom a message is for.
#[derive(Clone, Copy, Debug)]
pub enum Destination<'a> {
    /// The APIC with this physical ID.
    Physical(u32),
    /// The APICs that a logical destination means: 8 bits, or 32 bits between APICs in x2APIC mode.
    Logical(u32),
    /// Every APIC.
    All,
    /// This APIC.
    Only(&'a ApicInbox),
    /// Every APIC but this one.
    Others(&'a ApicInbox),
}

impl Destination<'_> {
    /// The destination of an 8-bit field: I/O APIC, MSI, or ICR in xAPIC mode.
    pub const fn from_u8(field: u8, logical: bool) -> Self {
        match (field, logical) {
            (0xff, false) => Self::All,
            (_, false) => Self::Physical(field as u32),
            (_, true) => Self::Logical(field as u32),
        }
    }

    /// The destination of the 32-bit field of the ICR in x2APIC mode.
    pub const fn from_u32(field: u32, logical: bool) -> Self {
        match (field, logical) {
            (u32::MAX, _) => Self::All,
            (_, false) => Self::Physical(field),
            (_, true) => Self::Logical(field),
        }
    }

    fn means(&self, inbox: &ApicInbox, routing: Routing) -> bool {
        match *self {
            Self::Physical(id) => routing.id() == id && routing.enabled(),
            Self::Logical(destination) => routing.matches_logical(destination),
            Self::All => routing.enabled(),
            Self::Only(sender) => routing.enabled() && core::ptr::eq(sender, inbox),
            Self::Others(sender) => routing.enabled() && !core::ptr::eq(sender, inbox),
        }
    }
}

/// An interrupt on its way to local APICs.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// For whom.
    pub destination: Destination<'a>,
    /// How.
    pub mode: DeliveryMode,
    /// Vector; start page of a start-up message.
    pub vector: u8,
    /// Level-triggered: the end of interrupt is told to the I/O APIC.
    pub level: bool,
}

/// Hears of the end of level-triggered interrupts: the I/O APIC.
pub trait EoiListener: Send + Sync {
    /// A local APIC has ended the level-triggered interrupt `vector`.
    fn eoi(&self, vector: u8);
}

/// All local APICs of a virtual machine. Lock-free.
pub struct ApicBus {
    inboxes: Box<[Arc<ApicInbox>]>,
    /// Where the search for a lowest-priority target starts: arbitration by turns.
    turn: AtomicUsize,
    io_apic: spin::Once<Weak<dyn EoiListener>>,
}

impl ApicBus {
    /// A bus with the inboxes of all vCPUs, best in the order of their APIC IDs.
    pub fn new(inboxes: Vec<Arc<ApicInbox>>) -> Arc<Self> {
        Arc::new(Self {
            inboxes: inboxes.into(),
            turn: AtomicUsize::new(0),
            io_apic: spin::Once::new(),
        })
    }

    /// Names the I/O APIC to tell of ends of interrupts; only the first call counts.
    pub fn connect_io_apic(&self, io_apic: Weak<dyn EoiListener>) {
        self.io_apic.call_once(|| io_apic);
    }

    /// Pulses INIT# of every processor, whether its local APIC is enabled or not.
    pub fn init_processors(&self) {
        for inbox in self.inboxes.iter().filter(|inbox| !inbox.routing().absent()) {
            inbox.post_init();
        }
    }

    /// The inbox of the vCPU with this number, whatever ID its guest has given it, if it is there.
    pub fn inbox(&self, vcpu: usize) -> Option<&ApicInbox> {
        let inbox = nospec::get(&self.inboxes, vcpu)?;
        (!inbox.routing().absent()).then_some(inbox)
    }

    /// The vCPUs that there may be.
    pub fn len(&self) -> usize {
        self.inboxes.len()
    }

    /// True if there can be no vCPU at all.
    pub fn is_empty(&self) -> bool {
        self.inboxes.is_empty()
    }

    /// The vCPU with this number is not there from now on: it begins anew, as after power-on, and
    /// no message reaches it.
    pub fn remove(&self, vcpu: usize) {
        if let Some(inbox) = nospec::get(&self.inboxes, vcpu) {
            inbox.remove();
        }
    }

    /// The vCPU with this number is there from now on, and waits for a start-up message.
    pub fn plug(&self, vcpu: usize) {
        if let Some(inbox) = nospec::get(&self.inboxes, vcpu) {
            inbox.plug();
        }
    }

    /// Tells the I/O APIC that a level-triggered interrupt ended.
    pub fn eoi(&self, vector: u8) {
        if let Some(io_apic) = self.io_apic.get().and_then(Weak::upgrade) {
            io_apic.eoi(vector);
        }
    }

    /// Delivers a message; true if at least one local APIC accepted it. SMI and ExtINT messages are
    /// dropped: there is no system management mode, and the 8259 pair reaches a vCPU by LINT0
    /// alone.
    pub fn deliver(&self, message: &Message<'_>) -> bool {
        if message.mode == DeliveryMode::LowestPriority {
            return self.deliver_to_one(message);
        }
        if let Destination::Only(inbox) = message.destination {
            return inbox.routing().enabled() && post(inbox, message);
        }
        // APIC IDs are the positions on the bus, unless the guest changed them.
        if let Destination::Physical(id) = message.destination
            && let Some(inbox) = nospec::get(&self.inboxes, id as usize)
            && inbox.routing().id() == id
        {
            return inbox.routing().enabled() && post(inbox, message);
        }
        let mut accepted = false;
        for inbox in &self.inboxes {
            if message.destination.means(inbox, inbox.routing()) {
                accepted |= post(inbox, message);
            }
        }
        accepted
    }

    fn deliver_to_one(&self, message: &Message<'_>) -> bool {
        let count = self.inboxes.len();
        let start = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) % count } else { 0 };
        let (head, tail) = self.inboxes.split_at(start);
        tail.iter().chain(head).any(|inbox| {
            let routing = inbox.routing();
            routing.software_enabled()
                && message.destination.means(inbox, routing)
                && inbox.post_vector(message.vector, message.level)
        })
    }

    /// Delivers a message-signalled interrupt; false if it is not one, or nobody accepts it.
    pub fn deliver_msi(&self, address: u64, data: u32) -> bool {
        let Ok(address) = u32::try_from(address).map(MsiAddress::from_bits) else { return false };
        if address.prefix() != MsiAddress::PREFIX {
            return false;
        }
        let data = MsiData::from_bits(data);
        self.deliver(&Message {
            destination: Destination::from_u8(address.destination(), address.logical()),
            mode: data.mode(),
            vector: data.vector(),
            // No device of a PC sends level-triggered messages, and nobody would hear of their end.
            level: false,
        })
    }
}

fn post(inbox: &ApicInbox, message: &Message<'_>) -> bool {
    match message.mode {
        DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
            return inbox.post_vector(message.vector, message.level);
        }
        DeliveryMode::Nmi => inbox.post_nmi(),
        DeliveryMode::Init => inbox.post_init(),
        DeliveryMode::StartUp => inbox.post_sipi(message.vector),
        DeliveryMode::Smi | DeliveryMode::ExtInt | DeliveryMode::Reserved => return false,
    }
    true
}

impl fmt::Debug for ApicBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApicBus").field("inboxes", &self.inboxes).finish_non_exhaustive()
    }
}
