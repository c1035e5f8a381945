//! A network card of a guest: one string of the list `vif`, in the syntax of xl-network-configuration(5).

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

/// Parses the string of a network card; returns it with the keys that are not supported.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<(Vif, Vec<String>), String> {
    let mut vif = Vif::default();
    let mut ignored = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (key, value) = item.split_once('=').ok_or_else(|| format!("\"{item}\" is not key=value"))?;
        let value = value.trim();
        match key.trim() {
            "mac" => {
                vif.mac = Some(parse_mac(value).ok_or_else(|| format!("\"{value}\" is not a MAC address"))?)
            }
            "bridge" => vif.bridge = Some(value.to_owned()),
            "model" => vif.model = Some(value.to_owned()),
            "type" if matches!(value, "ioemu" | "vif") => {}
            "type" => return Err(format!("type is \"ioemu\" or \"vif\", not \"{value}\"")),
            key => ignored.push(key.to_owned()),
        }
    }
    Ok((vif, ignored))
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part =
            parts.next().filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_manual_page() {
        let (vif, ignored) =
            parse("mac=00:16:3E:74:3d:76,model=rtl8139 , bridge=xenbr0, type=ioemu, ip=10.0.0.1").unwrap();
        assert_eq!(vif.mac, Some([0, 0x16, 0x3e, 0x74, 0x3d, 0x76]));
        assert_eq!((vif.bridge.as_deref(), vif.model.as_deref()), (Some("xenbr0"), Some("rtl8139")));
        assert_eq!(ignored, ["ip"]);
        assert_eq!(parse(""), Ok((Vif::default(), Vec::new())));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for mac in ["00:16:3e:74:3d", "00:16:3e:74:3d:76:00", "0:16:3e:74:3d:76", "+0:16:3e:74:3d:76", ""] {
            assert_eq!(parse(&format!("mac={mac}")), Err(format!("\"{mac}\" is not a MAC address")));
        }
        assert_eq!(parse("bridge"), Err("\"bridge\" is not key=value".into()));
    }
}
