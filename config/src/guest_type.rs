//! Which type of guest a file describes: xl's `type`, and the older `builder`.
//!
//! Without either, xl starts a PV guest, and most published files for those have neither. A file
//! that shows in no other way that it is meant for PV is taken for an HVM guest's.

use alloc::format;
use alloc::string::{String, ToString};

use super::xl_cfg::{Setting, Value};

/// Keys that PV guests boot by.
const PV_KEYS: [&str; 6] = ["bootloader", "kernel", "ramdisk", "root", "nfs_root", "nfs_server"];

/// A guest's type, as its file says it.
#[derive(Debug, PartialEq, Eq)]
pub enum GuestType<'a> {
    /// HVM.
    Hvm,
    /// Nothing: taken as HVM.
    Unsaid,
    /// Another type, that cannot run; the setting that shows it, and what is to be said.
    Other(&'a Setting, String),
}

impl<'a> GuestType<'a> {
    /// Looks for the settings that show it.
    pub fn of(settings: &'a [Setting]) -> Self {
        let find = |key: &str| settings.iter().find(|setting| setting.key == key);
        if let Some(setting) = find("type").or_else(|| find("builder")) {
            return match name(&setting.value) {
                "hvm" => Self::Hvm,
                // Settings of another kind are an error where they are read.
                "" => Self::Unsaid,
                "pvh" => Self::Other(setting, refusal("a PVH guest", setting)),
                "pv" | "linux" | "generic" => Self::Other(setting, refusal("a PV guest", setting)),
                other => Self::Other(setting, format!("\"{other}\" is none of hvm, pv, pvh")),
            };
        }
        match PV_KEYS
            .iter()
            .find_map(|key| find(key))
            .filter(|setting| !name(&setting.value).is_empty())
        {
            Some(setting) => {
                let what = format!("with {} and no type=\"hvm\" this is a PV guest", setting.key);
                Self::Other(setting, refusal(&what, setting))
            }
            None => Self::Unsaid,
        }
    }
}

fn name(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        Value::Number(_) | Value::List(_) => "",
    }
}

fn refusal(what: &str, setting: &Setting) -> String {
    let instead = match setting.key.as_str() {
        "type" | "builder" => "a disk or CD with a boot loader on it".to_string(),
        key => format!("a disk or CD with a boot loader on it instead of {key}"),
    };
    format!("{what}, and only HVM guests can run: write type=\"hvm\", and give it {instead}")
}
