//! PV network cards of a guest.

use super::BackEnds;
use super::device::{Class, DeviceGuest};
use crate::events::BackEnd;
use crate::netback::{CLASS, Settings, Vif};
use crate::store::{DomId, Error, Store, tree, xenbus};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use net::{Counters, Mac, PortSettings, Rate, SourceFilter, Switch};

/// Pairs of rings of a card.
const MAX_QUEUES: usize = 4;

/// A network card of a guest's configuration.
#[derive(Clone)]
pub struct CardSettings {
    /// Its number in the store, from 0 on.
    pub id: u32,
    /// Its address.
    pub mac: Mac,
    /// The switch, and the bridge that it is plugged into.
    pub switch: Arc<Switch>,
    /// See `switch`.
    pub bridge: String,
    /// Its name for readers of the store, if it has one.
    pub name: Option<String>,
    /// How much the guest may send, if there is a limit.
    pub rate: Option<Rate>,
    /// The addresses that it may send from.
    pub filter: SourceFilter,
    /// Those of its networks, as they were written; empty if there are none.
    pub networks: String,
    /// The most data of a frame.
    pub mtu: u16,
}

impl CardSettings {
    /// Makes its nodes in the store.
    fn add(&self, store: &mut Store, domain: DomId) -> Result<(), Error> {
        let (id, mac, mtu) = (self.id.to_string(), self.mac.to_string(), self.mtu.to_string());
        let name = self.name.clone().unwrap_or_else(|| format!("vif{domain}.{id}"));
        let rate = self.rate.map(|rate| format!("{},{}", rate.interval_bytes, rate.interval_us));
        let mut back = Vec::from([("vifname", name.as_str()), ("mac", &mac), ("mtu", &mtu)]);
        if !self.networks.is_empty() {
            back.push(("ip", &self.networks));
        }
        back.extend(rate.as_deref().map(|rate| ("rate", rate)));
        back.extend([
            ("bridge", self.bridge.as_str()),
            ("handle", &id),
            ("type", "vif"),
            ("hotplug-status", "connected"),
        ]);
        let front = [("handle", id.as_str()), ("mac", &mac), ("mtu", &mtu)];
        let device = tree::Device { class: CLASS, id: self.id, front: &front, back: &back };
        tree::add_device(store, domain, &device)
    }
}

/// A network card of a guest.
#[derive(Clone)]
pub struct Card {
    settings: CardSettings,
    /// Its back end.
    pub vif: Arc<Vif>,
}

impl Card {
    /// A card with its nodes, which waits for a front end.
    ///
    /// # Errors
    /// [`Error`] if the store refuses a node.
    pub fn new(
        settings: CardSettings,
        store: &mut Store,
        guest: &Arc<BackEnds>,
    ) -> Result<Self, Error> {
        let domain = guest.platform.domain();
        settings.add(store, domain)?;
        let vif_settings = Settings {
            domain,
            id: settings.id,
            max_queues: guest.platform.vcpu_count().min(MAX_QUEUES) as u32,
            rate: settings.rate,
        };
        let reached = DeviceGuest::new(guest, Class::Card);
        let vif = Vif::new(store, vif_settings, reached.clone(), |receiver| {
            let (mac, filter) = (settings.mac, settings.filter.clone());
            let port = PortSettings { mac, filter, mtu: settings.mtu.into(), receiver };
            settings.switch.plug(&settings.bridge, port)
        })?;
        reached.connect(&vif);
        Ok(Self { settings, vif })
    }

    /// Makes its nodes anew, and waits for another front end.
    ///
    /// # Errors
    /// [`Error`] if the store refuses a node.
    pub fn start_over(&self, store: &mut Store, domain: DomId) -> Result<(), Error> {
        self.settings.add(store, domain)?;
        self.vif.let_go();
        self.vif.attend(store)
    }
}

/// Cards that come and go while the guest runs.
impl BackEnds {
    /// Gives the guest one more card (`xl network-attach`).
    ///
    /// # Errors
    /// [`Error`] if the store refuses a node; nothing is left of the card then.
    pub fn add_card(self: &Arc<Self>, card: CardSettings) -> Result<(), Error> {
        let id = card.id;
        self.shared.with(|store| match Card::new(card, store, self) {
            Ok(card) => {
                self.cards.lock().push(card);
                Ok(())
            }
            Err(error) => {
                // Its path is valid.
                let _ = tree::remove_device(store, self.platform.domain(), CLASS, id);
                Err(error)
            }
        })
    }

    /// True if the guest has the card with this number.
    pub fn has_card(&self, id: u32) -> bool {
        self.card(id).is_some()
    }

    /// Asks the front end to let a card go, which is removed when it has been, at once if there is
    /// no front end (`xl network-detach`).
    pub fn remove_card(&self, id: u32) {
        let Some(card) = self.card(id) else { return };
        self.shared.with(|store| {
            // Its paths are valid.
            let _ = card.unplug(store);
            self.drop_card_if_unplugged(store, &card);
        });
    }

    /// Removes the cards that a front end was asked to let go which is gone now: another kernel
    /// starts.
    pub(super) fn drop_leaving_cards(&self, store: &mut Store) {
        let cards = self.cards.lock().clone();
        for card in cards {
            if card.vif.is_leaving(store) {
                self.drop_card(store, &card.vif);
            }
        }
    }

    fn drop_card_if_unplugged(&self, store: &mut Store, card: &Vif) {
        if card.is_unplugged(store) {
            self.drop_card(store, card);
        }
    }

    fn drop_card(&self, store: &mut Store, card: &Vif) {
        card.end(store);
        // Its path is valid.
        let _ = tree::remove_device(store, self.platform.domain(), CLASS, card.id());
        self.cards.lock().retain(|other| other.vif.id() != card.id());
    }

    /// A card looks what has become of its front end.
    pub(super) fn attend_card(&self, card: &Vif) {
        let store = &mut self.shared.store.lock();
        // Its paths are valid.
        let _ = card.attend(store);
        self.drop_card_if_unplugged(store, card);
    }

    /// The frames that have passed the card with this number, if there is one.
    pub fn card_counters(&self, id: u32) -> Option<Counters> {
        self.card(id).map(|vif| vif.counters())
    }

    pub(super) fn card(&self, id: u32) -> Option<Arc<Vif>> {
        let cards = self.cards.lock();
        cards.iter().find(|card| card.vif.id() == id).map(|card| card.vif.clone())
    }

    pub(super) fn work_on_card(&self, id: u32) {
        if let Some(card) = self.card(id) {
            self.attend_card(&card);
            card.serve();
        }
    }
}

impl BackEnd for Vif {
    fn notified(&self) {
        self.serve();
    }
}

/// The way in which a card and its front end are connected, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardLink {
    /// The front end's state.
    pub state: u32,
    /// Its event channel, that of what it sends if it has two.
    pub event_channel: Option<u32>,
    /// The grant of the ring of what it sends, if it has one queue.
    pub tx_ring_ref: Option<u32>,
    /// And of what it receives.
    pub rx_ring_ref: Option<u32>,
    /// The back end's directory.
    pub back_end: String,
}

impl CardLink {
    /// The link of the card with this number, whether there is one or not.
    pub fn of(store: &Store, domain: DomId, id: u32) -> Self {
        let front = tree::front_path(domain, CLASS, id);
        let number = |name| xenbus::number(store, &front, name);
        Self {
            state: xenbus::state(store, &front) as u32,
            event_channel: number("event-channel").or_else(|| number("event-channel-tx")),
            tx_ring_ref: number("tx-ring-ref"),
            rx_ring_ref: number("rx-ring-ref"),
            back_end: tree::back_path(domain, CLASS, id),
        }
    }
}
