//! The network cards of guests: `xl network-list`.

use super::Guests;
use crate::backend::Backend;
use alloc::string::ToString;
use alloc::vec::Vec;
use control::cards::{CardFacts, CardTraffic};
use control::mailbox::Answer;
use net::Traffic;
use xen::backends::CardLink;
use xen::store::DomId;

impl<B: Backend> Guests<'_, B> {
    /// The network cards of the guests with these numbers.
    pub(super) fn list_cards(&self, numbers: &[u32]) -> Answer {
        let mut all = Vec::new();
        for &number in numbers {
            let Some(index) = self.index_of(number) else { return Answer::NoGuest };
            let guest = &self.list[index];
            all.extend(guest.domain.cards().iter().map(|card| {
                let link = self.store.with(|store| CardLink::of(store, number as DomId, card.id));
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
}

const fn traffic(passed: Traffic) -> CardTraffic {
    CardTraffic { frames: passed.frames, bytes: passed.bytes, dropped: passed.dropped }
}
