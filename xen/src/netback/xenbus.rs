//! How a card and its front end find each other, by XenStore.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;

use devices::lock::Ranked;
use net::{Credit, Port, Receiver};

use super::delivery::{Abilities, Delivery};
use super::spec::{RxRequest, TxRequest};
use super::{Inner, Queue, Settings, Vif};
use crate::guest::Guest;
use crate::ring::Ring;
use crate::store::xenbus::{self, BackEndNodes, State};
use crate::store::{Error, Local, Store};

/// The class of the device.
pub const CLASS: &str = "vif";

impl Vif {
    /// A card whose nodes are in the store ([`tree`](crate::store::tree)), and which begins to look
    /// for its front end. `plug` plugs it into the switch.
    ///
    /// # Errors
    /// None, as the paths are valid.
    pub fn new(
        store: &mut Store,
        settings: Settings,
        guest: Arc<dyn Guest>,
        plug: impl FnOnce(Weak<dyn Receiver>) -> Port,
    ) -> Result<Arc<Self>, Error> {
        let nodes = BackEndNodes::new(store, settings.domain, CLASS, settings.id)?;
        let local = nodes.local();
        let vif = Arc::new_cyclic(|itself: &Weak<Self>| {
            let port = plug(itself.clone());
            let inner = Inner {
                nodes,
                queues: vec![],
                is_broken: false,
                first_queue: 0,
                abilities: Abilities::default(),
                tells_of_buffers: false,
                groups: None,
                credit: settings.rate.map(|rate| Credit::new(rate, port.now_ns())),
            };
            Self { settings, guest, port, local, inner: Ranked::new(inner) }
        });
        vif.offer(store, &mut vif.inner.lock())?;
        Ok(vif)
    }

    /// The device's number in the store.
    pub const fn id(&self) -> u32 {
        self.settings.id
    }

    /// Its name in the store: events for it are to be followed by [`Vif::attend`].
    pub const fn local(&self) -> Local {
        self.local
    }

    /// Follows the front end's state.
    ///
    /// # Errors
    /// None, as the paths are valid.
    pub fn attend(&self, store: &mut Store) -> Result<(), Error> {
        let inner = &mut self.inner.lock();
        let Some(front) = inner.nodes.front_state(store) else { return Ok(()) };
        if inner.is_broken {
            self.disconnect(inner);
            inner.nodes.give_up(store, "the ring's indices or requests are wrong")?;
        }
        match front {
            State::Initialising if inner.nodes.state() == State::InitWait => Ok(()),
            State::Initialising if inner.nodes.is_online(store) => {
                self.disconnect(inner);
                self.offer(store, inner)
            }
            State::Connected => match inner.nodes.state() {
                State::Initialising | State::InitWait | State::Closed
                    if inner.nodes.is_online(store) =>
                {
                    self.connect(store, inner)
                }
                _ => Ok(()),
            },
            State::Closing if inner.nodes.state() != State::Closed => {
                self.disconnect(inner);
                inner.nodes.set_state(store, State::Closing)
            }
            // In state 0 the front end's directory has been removed.
            State::Initialising | State::Closed | State::Unknown => {
                self.disconnect(inner);
                inner.nodes.set_state(store, State::Closed)
            }
            State::Initialised
            | State::Closing
            | State::InitWait
            | State::Reconfiguring
            | State::Reconfigured => Ok(()),
        }
    }

    /// Asks the front end to let the card go (`xl network-detach`).
    ///
    /// # Errors
    /// None, as the paths are valid.
    pub fn unplug(&self, store: &mut Store) -> Result<(), Error> {
        let inner = &mut self.inner.lock();
        inner.nodes.write(store, "online", 0)?;
        match inner.nodes.state() {
            State::Closed => Ok(()),
            // Without a front end there is none to ask.
            _ if inner.queues.is_empty() => inner.nodes.set_state(store, State::Closed),
            _ => inner.nodes.set_state(store, State::Closing),
        }
    }

    /// True after [`Vif::unplug`].
    pub fn is_leaving(&self, store: &Store) -> bool {
        !self.inner.lock().nodes.is_online(store)
    }

    /// True if the card was let go after [`Vif::unplug`], so that it and its nodes may be removed.
    pub fn is_unplugged(&self, store: &Store) -> bool {
        let nodes = &self.inner.lock().nodes;
        nodes.state() == State::Closed && !nodes.is_online(store)
    }

    /// Lets the guest's pages and its ports go at once, whatever it does: another kernel starts.
    /// The next [`Vif::attend`] waits for that one's front end.
    pub fn let_go(&self) {
        let inner = &mut self.inner.lock();
        self.disconnect(inner);
        inner.nodes.start_over();
    }

    /// Lets the guest's pages and its ports go at once, whatever it does: its life ends.
    pub fn end(&self, store: &mut Store) {
        let inner = &mut self.inner.lock();
        inner.nodes.end(store);
        self.disconnect(inner);
    }

    /// Writes what the card can do, and waits for a front end.
    fn offer(&self, store: &mut Store, inner: &mut Inner) -> Result<(), Error> {
        for (name, value) in [
            ("feature-sg", 1),
            ("feature-gso-tcpv4", 1),
            ("feature-gso-tcpv6", 1),
            ("feature-ipv6-csum-offload", 1),
            ("feature-rx-copy", 1),
            ("feature-rx-flip", 0),
            ("feature-multicast-control", 1),
            ("feature-split-event-channels", 1),
            ("multi-queue-max-queues", self.settings.max_queues),
        ] {
            inner.nodes.write(store, name, value)?;
        }
        inner.nodes.set_state(store, State::InitWait)
    }

    fn connect(&self, store: &mut Store, inner: &mut Inner) -> Result<(), Error> {
        let front = inner.nodes.front();
        match self.queues(store, &front) {
            Ok(queues) => {
                let has = |name: &str| xenbus::number(store, &front, name).unwrap_or(0) != 0;
                inner.abilities = Abilities {
                    sg: has("feature-sg"),
                    gso_v4: has("feature-gso-tcpv4"),
                    gso_v6: has("feature-gso-tcpv6"),
                    blank_v4: !has("feature-no-csum-offload"),
                    blank_v6: has("feature-ipv6-csum-offload"),
                };
                inner.tells_of_buffers = has("feature-rx-notify");
                inner.groups = has("request-multicast-control").then(BTreeSet::new);
                self.port.set_queues(queues.len());
                self.port.set_groups(inner.groups.clone());
                inner.queues = queues;
                inner.nodes.connected(store)?;
                // Requests may be there already, whose signal came too early.
                self.guest.call_back(self.settings.id);
                Ok(())
            }
            Err(reason) => inner.nodes.give_up(store, reason),
        }
    }

    /// Maps the rings, and binds the ports, that the front end names.
    fn queues(&self, store: &Store, front: &str) -> Result<Vec<Queue>, &'static str> {
        if xenbus::number(store, front, "request-rx-copy").unwrap_or(0) == 0 {
            return Err("request-rx-copy is missing: pages are not flipped");
        }
        let directories: Vec<String> = match xenbus::number(store, front, "multi-queue-num-queues")
        {
            None | Some(1) => vec![front.into()],
            Some(queues) if (1..=self.settings.max_queues).contains(&queues) => {
                (0..queues).map(|queue| format!("{front}/queue-{queue}")).collect()
            }
            Some(_) => return Err("multi-queue-num-queues is out of range"),
        };
        directories.iter().map(|directory| self.queue(store, directory)).collect()
    }

    fn queue(&self, store: &Store, directory: &str) -> Result<Queue, &'static str> {
        let number = |name: &str| xenbus::number(store, directory, name);
        let map = |name: &str, stride_bytes| {
            let reference = number(name)?;
            Ring::new(Arc::clone(&self.guest), stride_bytes, &[reference]).ok()
        };
        let tx = map("tx-ring-ref", size_of::<TxRequest>());
        let tx = tx.ok_or("tx-ring-ref is missing, or cannot be mapped")?;
        let rx = map("rx-ring-ref", size_of::<RxRequest>());
        let rx = rx.ok_or("rx-ring-ref is missing, or cannot be mapped")?;
        let split = number("event-channel-tx").zip(number("event-channel-rx"));
        let ports = split.or_else(|| number("event-channel").map(|port| (port, port)));
        let (tx_port, rx_port) = ports.ok_or("event-channel is missing")?;
        let unbound = "event-channel cannot be bound";
        let bound = self.guest.bind(tx_port).ok_or(unbound)?;
        let delivery = Delivery::default();
        let guest = Arc::clone(&self.guest);
        let mut queue = Queue { guest, tx, rx, tx_port: bound, rx_port: bound, delivery };
        if rx_port != tx_port {
            queue.rx_port = self.guest.bind(rx_port).ok_or(unbound)?;
        }
        Ok(queue)
    }

    /// Lets the guest's pages and its ports go, with the frames that wait.
    fn disconnect(&self, inner: &mut Inner) {
        self.port.set_queues(0);
        inner.queues.clear();
        inner.is_broken = false;
    }
}
