//! A network card of a guest: one string of the list `vif`, in the syntax of
//! xl-network-configuration(5).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

/// The switch of a card that names none.
pub const DEFAULT_BRIDGE: &str = "xenbr0";
const DEFAULT_MTU: u16 = 1500;
/// The least of IPv4 (RFC 791), and the most that a frame holds.
const MTUS: core::ops::RangeInclusive<u16> = 68..=65_521;
/// The interval of a rate that has none, as libxl's.
const DEFAULT_INTERVAL_US: u64 = 50_000;
/// A switch's name, and a card's, is as long as one of Linux's interfaces.
const MAX_NAME_BYTES: usize = 15;

/// How much a guest may send: so many bytes in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VifRate {
    /// Bytes in an interval.
    pub interval_bytes: u64,
    /// The interval, in microseconds.
    pub interval_us: u32,
}

/// Addresses that a guest may send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VifNetwork {
    /// One of them.
    pub address: IpAddr,
    /// The bits that are alike.
    pub prefix_bits: u8,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vif {
    /// The MAC address; one is made up if `None`.
    pub mac: Option<[u8; 6]>,
    /// The switch that it is plugged into.
    pub bridge: String,
    /// Its name for readers of XenStore (`vifname`).
    pub name: Option<String>,
    /// The emulated card: `e1000`, `rtl8139`, ...
    pub model: Option<String>,
    /// `type=vif`: there is to be no emulated card.
    pub is_pv_alone: bool,
    /// How much the guest may send, if there is a limit.
    pub rate: Option<VifRate>,
    /// The addresses that it may send from, as they were written; any if there are none.
    pub ip: String,
    /// The same.
    pub networks: Vec<VifNetwork>,
    /// It may send from its own MAC address alone (`antispoof`, Bulkhead's own).
    pub is_own_mac_alone: bool,
    /// The most data of a frame.
    pub mtu: u16,
}

impl Default for Vif {
    fn default() -> Self {
        Self {
            mac: None,
            bridge: DEFAULT_BRIDGE.to_owned(),
            name: None,
            model: None,
            is_pv_alone: false,
            rate: None,
            ip: String::new(),
            networks: Vec::new(),
            is_own_mac_alone: false,
            mtu: DEFAULT_MTU,
        }
    }
}

/// Parses the string of a network card; returns it with what is wrong with it, which keeps no guest
/// from starting, but for filters and rates: with these wrong a guest could do more than it was
/// meant to.
///
/// # Errors
/// The fault of one of those.
pub fn parse(text: &str) -> Result<(Vif, Vec<String>), String> {
    let mut vif = Vif::default();
    let mut problems = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let Some((key, value)) = item.split_once('=') else {
            problems.push(format!("\"{item}\" is not key=value and ignored"));
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        match key {
            "mac" => {
                vif.mac = parse_mac(value);
                if vif.mac.is_none() {
                    problems.push(format!("\"{value}\" is not a MAC address, one is made up"));
                }
            }
            "bridge" | "vifname" if !is_name(value) => {
                problems.push(format!("\"{value}\" is no name of a {key} and ignored"));
            }
            "bridge" => vif.bridge = value.to_owned(),
            "vifname" => vif.name = Some(value.to_owned()),
            "model" => vif.model = Some(value.to_owned()),
            "type" => match value {
                "vif" => vif.is_pv_alone = true,
                "ioemu" => {}
                _ => problems.push(format!("type={value} is not supported and ignored")),
            },
            "rate" => vif.rate = Some(parse_rate(value)?),
            "ip" => (vif.ip, vif.networks) = (value.to_owned(), parse_networks(value)?),
            "antispoof" => match value {
                "0" => vif.is_own_mac_alone = false,
                "1" => vif.is_own_mac_alone = true,
                _ => return Err(format!("antispoof is 0 or 1, not \"{value}\"")),
            },
            "mtu" => match value.parse().ok().filter(|mtu| MTUS.contains(mtu)) {
                Some(mtu) => vif.mtu = mtu,
                None => problems.push(format!("\"{value}\" is no MTU and ignored")),
            },
            // There is no other place, and no script is run; devices are numbered as they come.
            "script" | "backend" | "devid" | "trusted" => {}
            _ => problems.push(format!("{key} is not supported and ignored")),
        }
    }
    Ok((vif, problems))
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts
            .next()
            .filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

fn is_name(text: &str) -> bool {
    let is_right = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_right)
}

/// `10Mb/s`, `250KB/s@20ms`: as libxl takes them (`xlu_vif_parse_rate`).
fn parse_rate(text: &str) -> Result<VifRate, String> {
    let wrong = || format!("\"{text}\" is no rate, as 10Mb/s or 250KB/s@20ms");
    let (rate, interval) = match text.split_once('@') {
        Some((rate, interval)) => (rate, Some(interval)),
        None => (text, None),
    };
    let rate = rate.strip_suffix("/s").ok_or_else(wrong)?;
    let (rate, bits) = match (rate.strip_suffix('b'), rate.strip_suffix('B')) {
        (Some(rate), _) => (rate, 8),
        (_, Some(rate)) => (rate, 1),
        _ => return Err(wrong()),
    };
    let (number, unit) = match rate.as_bytes().last() {
        Some(b'G') => (&rate[..rate.len() - 1], 1_000_000_000),
        Some(b'M') => (&rate[..rate.len() - 1], 1_000_000),
        Some(b'K') => (&rate[..rate.len() - 1], 1000),
        _ => (rate, 1),
    };
    let bytes_per_s = number_of(number).and_then(|number| number.checked_mul(unit));
    let bytes_per_s = bytes_per_s.ok_or_else(wrong)? / bits;
    let interval_us = match interval {
        Some(interval) => parse_interval_us(interval).ok_or_else(wrong)?,
        None => DEFAULT_INTERVAL_US,
    };
    let interval_bytes = u128::from(bytes_per_s) * u128::from(interval_us) / 1_000_000;
    let interval_bytes = u64::try_from(interval_bytes).ok().filter(|&bytes| bytes > 0);
    Ok(VifRate {
        interval_bytes: interval_bytes.ok_or_else(wrong)?,
        interval_us: u32::try_from(interval_us).map_err(|_| wrong())?,
    })
}

/// `20ms`, `500us`, `1s`, `1`.
fn parse_interval_us(text: &str) -> Option<u64> {
    let text = text.strip_suffix('s').unwrap_or(text);
    let (number, unit) = match (text.strip_suffix('u'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 1000),
        _ => (text, 1_000_000),
    };
    number_of(number)?.checked_mul(unit)
}

/// A number above zero, without a sign.
fn number_of(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|&number| is_number && number > 0)
}

/// Addresses with spaces between, each with its network's bits or alone.
fn parse_networks(text: &str) -> Result<Vec<VifNetwork>, String> {
    let parse = |word: &str| {
        let wrong = || format!("\"{word}\" is no address, as 10.0.0.1 or 10.0.0.0/24");
        let (address, bits) = match word.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (word, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            Some(bits) => {
                let is_number = bits.bytes().all(|c| c.is_ascii_digit());
                bits.parse().ok().filter(|&bits| is_number && bits <= most).ok_or_else(wrong)?
            }
            None => most,
        };
        Ok(VifNetwork { address, prefix_bits })
    };
    let networks: Vec<_> = text.split_whitespace().map(parse).collect::<Result<_, String>>()?;
    if networks.is_empty() { Err("ip has no address".into()) } else { Ok(networks) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound(text: &str) -> Vif {
        let (vif, problems) = parse(text).unwrap();
        assert_eq!(problems, [""; 0], "{text}");
        vif
    }

    #[test]
    fn the_forms_of_the_manual_page() {
        let vif =
            sound("mac=00:16:3E:74:3d:76,model=rtl8139 , bridge=br-lan, type=ioemu, mtu=9000");
        assert_eq!(vif.mac, Some([0, 0x16, 0x3e, 0x74, 0x3d, 0x76]));
        assert_eq!((vif.bridge.as_str(), vif.model.as_deref()), ("br-lan", Some("rtl8139")));
        assert_eq!((vif.mtu, vif.is_pv_alone), (9000, false));
        assert_eq!(sound(""), Vif::default());
        assert_eq!(Vif::default().bridge, "xenbr0");
        assert!(sound("type=vif").is_pv_alone);
        assert_eq!(sound("vifname=web0,script=vif-bridge").name.as_deref(), Some("web0"));
    }

    #[test]
    fn rates_are_bytes_in_an_interval() {
        for (text, interval_bytes, interval_us) in [
            ("10Mb/s", 62_500, 50_000),
            ("250KB/s", 12_500, 50_000),
            ("1MB/s@20ms", 20_000, 20_000),
            ("1GB/s@500us", 500_000, 500),
            ("800b/s@2s", 200, 2_000_000),
            ("100B/s@1", 100, 1_000_000),
        ] {
            let rate = VifRate { interval_bytes, interval_us };
            assert_eq!(sound(&format!("rate={text}")).rate, Some(rate), "{text}");
        }
        for text in [
            "",
            "10",
            "10Mb",
            "Mb/s",
            "0b/s",
            "-1b/s",
            "+1b/s",
            "1Tb/s",
            "10 Mb/s",
            "1b/s",
            "10Mb/s@",
            "10Mb/s@0",
            "10Mb/s@1h",
            "10Mb/s@5000s",
            "99999999999999999999b/s",
            "18446744073709551615GB/s",
        ] {
            assert!(parse(&format!("rate={text}")).unwrap_err().contains("is no rate"), "{text}");
        }
    }

    #[test]
    fn addresses_are_alone_or_networks() {
        let vif = sound("ip=10.0.0.1 192.168.4.0/22  fd00::/8, antispoof=1");
        assert_eq!(vif.ip, "10.0.0.1 192.168.4.0/22  fd00::/8");
        let network = |address: &str, prefix_bits| VifNetwork {
            address: address.parse().unwrap(),
            prefix_bits,
        };
        let networks = [network("10.0.0.1", 32), network("192.168.4.0", 22), network("fd00::", 8)];
        assert_eq!((vif.networks.as_slice(), vif.is_own_mac_alone), (&networks[..], true));
        for text in ["10.0.0", "10.0.0.1/33", "10.0.0.1/+8", "10.0.0.1/", "fd00::/129", "any"] {
            assert!(parse(&format!("ip={text}")).unwrap_err().contains("is no address"), "{text}");
        }
        assert_eq!(parse("ip=").unwrap_err(), "ip has no address");
        assert_eq!(parse("antispoof=yes").unwrap_err(), "antispoof is 0 or 1, not \"yes\"");
    }

    #[test]
    fn problems_are_named() {
        for mac in
            ["00:16:3e:74:3d", "00:16:3e:74:3d:76:00", "0:16:3e:74:3d:76", "+0:16:3e:74:3d:76", ""]
        {
            let problem = format!("\"{mac}\" is not a MAC address, one is made up");
            assert_eq!(parse(&format!("mac={mac}")), Ok((Vif::default(), Vec::from([problem]))));
        }
        for (text, problem) in [
            ("bridge", "\"bridge\" is not key=value and ignored"),
            ("bridge=a/b", "\"a/b\" is no name of a bridge and ignored"),
            (
                "vifname=a-name-that-is-long",
                "\"a-name-that-is-long\" is no name of a vifname and ignored",
            ),
            ("mtu=67", "\"67\" is no MTU and ignored"),
            ("type=netfront", "type=netfront is not supported and ignored"),
            ("gatewaydev=eth0", "gatewaydev is not supported and ignored"),
        ] {
            assert_eq!(parse(text), Ok((Vif::default(), Vec::from([problem.into()]))));
        }
    }
}
