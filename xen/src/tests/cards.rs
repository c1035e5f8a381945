//! Network cards that come and go while the guest runs.

use super::*;
use crate::backends::{CardLink, CardSettings, OwnedBackEnds, SharedStore};
use net::{Clock, Mac, SourceFilter, Switch};

/// The guest's grant table, and its rings with their grants.
const TABLE: u64 = 0x3_0000;
const RINGS: [(u64, u64); 2] = [(20, 0x4_0000), (21, 0x5_0000)];

struct Stopped;

impl Clock for Stopped {
    fn now_ns(&self) -> u64 {
        0
    }
}

struct Bench {
    guest: Guest,
    shared: Arc<SharedStore>,
    back_ends: OwnedBackEnds,
    switch: Arc<Switch>,
}

impl Bench {
    fn new() -> Self {
        let mut guest = Guest::new(Width::Bits64, 1);
        assert_eq!(guest.put(0, 0, 0x20), 0);
        assert_eq!(guest.put(1, 0, (TABLE / 4096) as u32), 0);
        let (shared, screen) = (SharedStore::new(), Arc::new(Screen::default()));
        let back_ends = guest.back_ends(&shared, &screen, vec![0; 512]);
        Self { guest, shared, back_ends, switch: Arc::new(Switch::new(Arc::new(Stopped))) }
    }

    fn plug(&self, id: u32) {
        let card = CardSettings {
            id,
            mac: Mac([0, 0x16, 0x3e, 0, 0, id as u8]),
            switch: self.switch.clone(),
            bridge: "xenbr0".into(),
            name: None,
            rate: None,
            filter: SourceFilter::default(),
            networks: String::new(),
            mtu: 1500,
        };
        self.back_ends.add_card(card).unwrap();
    }

    fn write(&self, id: u32, name: &str, value: &str) {
        let path = format!("/local/domain/{DOMAIN}/device/vif/{id}/{name}");
        self.shared.with(|store| store.write(&path, value.as_bytes())).unwrap();
    }

    fn link(&self, id: u32) -> CardLink {
        self.shared.with(|store| CardLink::of(store, DOMAIN, id))
    }

    fn back(&self, id: u32, name: &str) -> Option<String> {
        let path = format!("{}/{name}", self.link(id).back_end);
        self.shared.with(|store| store.read(&path)).ok().map(|it| String::from_utf8(it).unwrap())
    }

    /// As Linux: rings that it grants, a port, and state 4.
    fn connect(&mut self, id: u32) {
        for ((reference, gpa), name) in RINGS.into_iter().zip(["tx-ring-ref", "rx-ring-ref"]) {
            self.guest.poke(TABLE + 8 * reference + 4, &((gpa / 4096) as u32).to_le_bytes());
            self.guest.poke(TABLE + 8 * reference, &[1, 0, 0, 0]);
            self.write(id, name, &reference.to_string());
        }
        let port = self.guest.event(6, [u32::from(SELF), 0]).1[1];
        self.write(id, "event-channel", &port.to_string());
        self.write(id, "request-rx-copy", "1");
        self.write(id, "state", "4");
        assert_eq!(self.back(id, "state").as_deref(), Some("4"));
        assert_eq!(self.grants_in_use(), 2);
    }

    fn grants_in_use(&self) -> usize {
        let flags = RINGS.map(|(reference, _)| self.guest.u32_at(TABLE + 8 * reference));
        flags.iter().filter(|&&flags| flags & 0x18 != 0).count()
    }

    /// True if nothing is left of the card.
    fn is_gone(&self, id: u32) -> bool {
        let paths = [self.link(id).back_end, format!("/local/domain/{DOMAIN}/device/vif/{id}")];
        !self.back_ends.has_card(id)
            && self.grants_in_use() == 0
            && paths.iter().all(|path| self.shared.with(|store| store.list(path).is_err()))
    }
}

#[test]
fn a_card_goes_when_its_front_end_has_let_it_go() {
    let mut bench = Bench::new();
    for closes_first in [true, false] {
        bench.plug(3);
        assert_eq!(bench.back(3, "state").as_deref(), Some("2"));
        bench.connect(3);
        bench.back_ends.remove_card(3);
        assert_eq!(bench.back(3, "online").as_deref(), Some("0"));
        assert_eq!(bench.back(3, "state").as_deref(), Some("5"));
        assert!(bench.back_ends.has_card(3));
        if closes_first {
            bench.write(3, "state", "5");
            assert!(bench.back_ends.has_card(3));
        }
        bench.write(3, "state", "6");
        assert!(bench.is_gone(3));
    }
}

#[test]
fn a_card_without_a_front_end_goes_at_once() {
    let bench = Bench::new();
    bench.plug(0);
    bench.plug(1);
    bench.back_ends.remove_card(1);
    assert!(bench.is_gone(1) && bench.back_ends.has_card(0));
    bench.back_ends.remove_card(1);
    bench.plug(1);
    assert_eq!(bench.back(1, "online").as_deref(), Some("1"));
}

/// A kernel that is started by kexec finds the cards that are plugged in, but for those that the
/// one before was asked to let go.
#[test]
fn another_kernel_finds_the_cards_as_they_are_now() {
    let mut bench = Bench::new();
    bench.plug(0);
    bench.plug(1);
    bench.connect(1);
    bench.back_ends.remove_card(1);
    bench.back_ends.soft_reset();
    assert!(bench.is_gone(1) && bench.back_ends.has_card(0));
    assert_eq!(bench.back(0, "state").as_deref(), Some("2"));
}
