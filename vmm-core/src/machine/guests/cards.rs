//! The network cards of guests, plugged in and unplugged while they run: `xl network-list`,
//! `network-attach` and `network-detach`.

use super::{Guest, Guests, State};
use crate::backend::Backend;
use crate::machine::life::Device;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use control::cards::{CardChange, CardFacts, CardTraffic};
use control::mailbox::{Answer, Client};
use net::Traffic;
use xen::backends::CardLink;
use xen::store::DomId;

impl<B: Backend> Guests<'_, B> {
    /// The network cards of the guests with these numbers.
    pub(super) fn list_cards(&mut self, numbers: &[u32]) -> Answer {
        let mut all = Vec::new();
        for &number in numbers {
            let Some(index) = self.index_of(number) else { return Answer::NoGuest };
            self.list[index].forget_devices();
            let guest = &self.list[index];
            all.extend(guest.domain.cards().iter().map(|card| {
                let link =
                    self.shared.store.with(|store| CardLink::of(store, number as DomId, card.id));
                let counters = guest.back_ends().and_then(|it| it.card_counters(card.id));
                let counters = counters.unwrap_or_default();
                CardFacts {
                    guest: number,
                    id: card.id,
                    mac: card.mac.to_string(),
                    bridge: card.bridge.clone(),
                    state: link.state,
                    event_channel: link.event_channel,
                    tx_ring_ref: link.tx_ring_ref,
                    rx_ring_ref: link.rx_ring_ref,
                    back_end: link.back_end,
                    sent: traffic(counters.sent),
                    received: traffic(counters.received),
                }
            }));
        }
        Answer::Cards(all)
    }

    /// Changes the network cards of the guest with this number; `None` if the answer has to wait
    /// for the guest.
    pub(super) fn change_card(
        &mut self,
        client: Client,
        number: u32,
        change: &CardChange,
    ) -> Option<Answer> {
        let Some(index) = self.index_of(number) else { return Some(Answer::NoGuest) };
        let guest = &mut self.list[index];
        guest.forget_devices();
        match change {
            CardChange::Attach { card } => Some(match guest.attach_card(card) {
                Ok(()) => Answer::Done,
                Err(reason) => Answer::Failed(format!(
                    "Domain {number}:{reason}\nlibxl_device_nic_add failed."
                )),
            }),
            CardChange::Detach { device } => {
                let Some(card) = guest.domain.cards().find(device) else {
                    return Some(Answer::Failed(format!("Unknown device {device}.")));
                };
                if let Some(back_ends) = guest.back_ends() {
                    back_ends.remove_card(card);
                }
                self.wait_for(index, client, Device::Card(card));
                None
            }
        }
    }
}

impl<B: Backend> Guest<'_, B> {
    fn attach_card(&mut self, text: &str) -> Result<(), String> {
        let settings = self.domain.attach_card(text)?;
        let id = settings.id;
        let plugged = match &mut self.state {
            State::Lives(life) => life.plug_card(self.domain.platform(), settings),
            // It finds the card when it starts.
            State::Waits { .. } | State::Ended => Ok(()),
        };
        plugged.inspect_err(|_| self.domain.remove_card(id))
    }
}

const fn traffic(passed: Traffic) -> CardTraffic {
    CardTraffic { frames: passed.frames, bytes: passed.bytes, dropped: passed.dropped }
}
