//! A network card of a guest: one string of the list `vif`, in the syntax of
//! xl-network-configuration(5).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vif {
    /// The MAC address; one is made up if `None`.
    pub mac: Option<[u8; 6]>,
    /// The switch that it is plugged into.
    pub bridge: Option<String>,
    /// The emulated card: `e1000`, `rtl8139`, ...
    pub model: Option<String>,
}

/// Parses the string of a network card; returns it with what is wrong with it, which keeps no guest
/// from starting. Other keys of the manual page are passed over.
pub fn parse(text: &str) -> (Vif, Vec<String>) {
    let mut vif = Vif::default();
    let mut problems = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let Some((key, value)) = item.split_once('=') else {
            problems.push(format!("\"{item}\" is not key=value and ignored"));
            continue;
        };
        let value = value.trim();
        match key.trim() {
            "mac" => {
                vif.mac = parse_mac(value);
                if vif.mac.is_none() {
                    problems.push(format!("\"{value}\" is not a MAC address, one is made up"));
                }
            }
            "bridge" => vif.bridge = Some(value.to_owned()),
            "model" => vif.model = Some(value.to_owned()),
            _ => {}
        }
    }
    (vif, problems)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_manual_page() {
        let (vif, problems) =
            parse("mac=00:16:3E:74:3d:76,model=rtl8139 , bridge=xenbr0, type=ioemu, ip=10.0.0.1");
        assert_eq!(vif.mac, Some([0, 0x16, 0x3e, 0x74, 0x3d, 0x76]));
        assert_eq!(
            (vif.bridge.as_deref(), vif.model.as_deref()),
            (Some("xenbr0"), Some("rtl8139"))
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!(parse(""), (Vif::default(), Vec::new()));
    }

    #[test]
    fn problems_are_named() {
        for mac in
            ["00:16:3e:74:3d", "00:16:3e:74:3d:76:00", "0:16:3e:74:3d:76", "+0:16:3e:74:3d:76", ""]
        {
            let problem = format!("\"{mac}\" is not a MAC address, one is made up");
            assert_eq!(parse(&format!("mac={mac}")), (Vif::default(), Vec::from([problem])));
        }
        assert_eq!(parse("bridge").1, ["\"bridge\" is not key=value and ignored"]);
    }
}
