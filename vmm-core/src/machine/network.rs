//! The machine's virtual switch, and the cards by which guests are plugged into it.

use crate::host::platform::Platform;
use alloc::sync::Arc;
use alloc::vec::Vec;
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

/// The cards of a guest, if it has PV drivers' devices.
pub fn cards(config: &GuestConfig, switch: &Arc<Switch>) -> Vec<CardSettings> {
    let vifs = config.vifs.iter().filter(|_| config.xen_platform_pci);
    (0..).zip(vifs).map(|(id, vif)| card(config, switch, id, vif)).collect()
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
    use alloc::format;

    fn cards_of(text: &str) -> Vec<CardSettings> {
        let text = format!("type='hvm'; memory=8; {text}");
        let config = GuestConfig::parse("g.cfg", text.as_bytes()).0.unwrap();
        cards(&config, &switch(TestPlatform::leak()))
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
