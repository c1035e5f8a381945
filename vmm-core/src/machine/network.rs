//! The machine's virtual switch, and the cards by which guests are plugged into it.

use crate::host::platform::Platform;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use config::guest::MAX_VIFS;
use config::{GuestConfig, Vif};
use control::host::host_ns;
use net::{Clock, Mac, Network, Rate, SourceFilter, Switch};
use xen::backends::CardSettings;

/// The prefix of Xen's addresses.
const XEN: [u8; 3] = [0x00, 0x16, 0x3e];

/// The machine's time, which all guests' cards have in common.
struct HostClock(&'static dyn Platform);

impl Clock for HostClock {
    fn now_ns(&self) -> u64 {
        host_ns(self.0)
    }
}

/// The switch of a machine, without bridges yet.
pub fn switch(platform: &'static dyn Platform) -> Arc<Switch> {
    Arc::new(Switch::new(Arc::new(HostClock(platform))))
}

/// The cards of a domain, through all its lives.
pub struct Cards {
    switch: Arc<Switch>,
    list: Vec<(Vif, CardSettings)>,
}

impl Cards {
    /// Those of a configuration, if the guest has PV drivers' devices.
    pub fn new(config: &GuestConfig, switch: &Arc<Switch>) -> Self {
        let vifs = config.vifs.iter().filter(|_| config.xen_platform_pci);
        let card = |(id, vif): (u32, &Vif)| (vif.clone(), card(config, switch, id, vif));
        Self { switch: switch.clone(), list: (0..).zip(vifs).map(card).collect() }
    }

    /// As a configuration has them.
    pub fn configured(&self) -> Vec<Vif> {
        self.list.iter().map(|(vif, _)| vif.clone()).collect()
    }

    /// As PV drivers find them.
    pub fn iter(&self) -> impl Iterator<Item = &CardSettings> {
        self.list.iter().map(|(_, card)| card)
    }

    /// The number of the card that has this number, or this address.
    pub fn find(&self, device: &str) -> Option<u32> {
        let names = |card: &&CardSettings| {
            card.id.to_string() == device || card.mac.to_string().eq_ignore_ascii_case(device)
        };
        self.iter().find(names).map(|card| card.id)
    }

    /// One card more for the guest of `config`, by its text there.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn attach(&mut self, config: &GuestConfig, text: &str) -> Result<CardSettings, String> {
        if !config.xen_platform_pci {
            return Err("the guest has no PV network cards (xen_platform_pci=0)".into());
        }
        let (vif, problems) = config::parse_vif(text)?;
        if let Some(problem) = problems.into_iter().next() {
            return Err(problem);
        }
        if self.list.len() >= MAX_VIFS {
            return Err(format!("a guest has {MAX_VIFS} network cards at the most"));
        }
        // As libxl numbers them.
        let id = self.iter().map(|card| card.id + 1).max().unwrap_or(0);
        let settings = card(config, &self.switch, id, &vif);
        self.list.push((vif, settings.clone()));
        Ok(settings)
    }

    /// The card with this number is gone.
    pub fn remove(&mut self, id: u32) {
        self.list.retain(|(_, card)| card.id != id);
    }
}

fn card(config: &GuestConfig, switch: &Arc<Switch>, id: u32, vif: &Vif) -> CardSettings {
    let mac = vif.mac.map_or_else(|| made_up_mac(config, id), Mac);
    let networks = vif
        .networks
        .iter()
        .map(|network| Network { address: network.address, prefix_bits: network.prefix_bits });
    CardSettings {
        id,
        mac,
        switch: switch.clone(),
        bridge: vif.bridge.clone(),
        name: vif.name.clone(),
        rate: vif.rate.map(|rate| Rate {
            interval_bytes: rate.interval_bytes,
            interval_us: rate.interval_us,
        }),
        filter: SourceFilter {
            mac: vif.is_own_mac_alone.then_some(mac),
            networks: networks.collect(),
        },
        networks: vif.ip.clone(),
        mtu: vif.mtu,
    }
}

/// An address of Xen's for the guest's card `id`: the same each time, by the guest's UUID if it has
/// one of its own, else by its name (FNV-1a).
fn made_up_mac(config: &GuestConfig, id: u32) -> Mac {
    let name = config.name.as_bytes();
    let guest = config.uuid.as_ref().map_or(name, |uuid| &uuid[..]);
    let hash =
        guest.iter().chain(&id.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let [.., c, b, a] = (hash ^ hash >> 32).to_be_bytes();
    // As libxl makes them up.
    Mac([XEN[0], XEN[1], XEN[2], a & 0x7f, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_platform::TestPlatform;

    fn config_of(text: &str) -> GuestConfig {
        let text = format!("type='hvm'; memory=8; {text}");
        GuestConfig::parse("g.cfg", text.as_bytes()).0.unwrap()
    }

    fn cards_of(text: &str) -> Vec<CardSettings> {
        let cards = Cards::new(&config_of(text), &switch(TestPlatform::leak()));
        cards.iter().cloned().collect()
    }

    #[test]
    fn cards_have_what_the_configuration_says() {
        let pv = "xen_platform_pci=1; name='a'";
        let text =
            format!("{pv}; vif=['mac=02:00:00:00:00:01,bridge=lan,ip=10.0.0.1', 'antispoof=1']");
        let [first, second] = &cards_of(&text)[..] else { panic!() };
        assert_eq!(
            (first.id, first.mac, first.bridge.as_str()),
            (0, Mac([2, 0, 0, 0, 0, 1]), "lan")
        );
        assert_eq!((first.filter.mac, first.filter.networks.len()), (None, 1));
        assert_eq!((second.id, second.bridge.as_str(), second.mtu), (1, "xenbr0", 1500));
        assert_eq!(second.filter.mac, Some(second.mac));
        assert!(cards_of("name='a'; xen_platform_pci=0; vif=['']").is_empty());
    }

    #[test]
    fn cards_come_with_numbers_of_their_own_and_are_found_by_them_or_their_addresses() {
        let config = config_of("name='a'; xen_platform_pci=1; vif=['', '', '']");
        let mut cards = Cards::new(&config, &switch(TestPlatform::leak()));
        let third = cards.iter().last().unwrap().mac;
        cards.remove(1);
        assert_eq!(cards.attach(&config, "mac=02:00:00:00:00:AB,bridge=lan").unwrap().id, 3);
        assert_eq!([cards.find("0"), cards.find("1"), cards.find("3")], [Some(0), None, Some(3)]);
        assert_eq!(cards.find("02:00:00:00:00:ab"), Some(3));
        assert_eq!(cards.find(&third.to_string().to_uppercase()), Some(2));
        assert_eq!(cards.find(""), None);
        cards.remove(3);
        cards.remove(2);
        // The number comes again, and with it the address.
        let again = cards.attach(&config, "").unwrap().id;
        assert_eq!((again, cards.attach(&config, "").unwrap().mac), (1, third));
        for (text, reason) in [
            ("rate=fast", "is no rate"),
            ("mac=1:2", "is not a MAC address"),
            ("antispof=1", "is not supported"),
        ] {
            let refused = cards.attach(&config, text).err().unwrap();
            assert!(refused.contains(reason), "{refused}");
        }
        while cards.configured().len() < MAX_VIFS {
            cards.attach(&config, "").unwrap();
        }
        assert!(cards.attach(&config, "").err().unwrap().contains("at the most"));
        let none = config_of("name='a'; xen_platform_pci=0");
        assert!(cards.attach(&none, "").err().unwrap().contains("xen_platform_pci=0"));
    }

    #[test]
    fn addresses_that_are_made_up_are_the_same_each_time_and_differ() {
        let macs = |text: &str| {
            let cards = cards_of(&format!("xen_platform_pci=1; {text}; vif=['', '']"));
            [cards[0].mac, cards[1].mac]
        };
        let uuid = "uuid='11223344-5566-7788-99aa-bbccddeeff00'";
        let [a, b, c] = ["name='a'", "name='b'", &format!("name='a'; {uuid}")].map(macs);
        assert_eq!(c, macs(&format!("name='b'; {uuid}")));
        let mut all = [a, b, c].concat();
        assert!(all.iter().all(|mac| mac.0[..3] == XEN && mac.0[3] < 0x80));
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), macs("name='a'")), (6, a));
    }
}
