//! The hypervisor's command line, in the style of Xen's: options separated by blanks, `name` or
//! `name=value`.
//!
//! The machine must come up whatever is written there, so nothing is an error: what is not
//! understood is named in a warning, and the default holds.

mod spec_ctrl;

pub use spec_ctrl::SpecCtrl;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::guest::{LEAST_MEMORY_MIB, MAX_MEMORY_MIB};
use log::LevelFilter;

/// A serial port of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComPort {
    /// The first one, 3F8h if nothing else is said.
    Com1,
    /// The second one, 2F8h.
    Com2,
}

/// Where the log and the console go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleDevice {
    /// A serial port.
    Serial(ComPort),
    /// The screen.
    Vga,
}

/// The treatment of escape sequences that a guest transmits to the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// Those that draw pass, the others are dropped; at the prompt all are marked.
    Filter,
    /// They are shown as `^[`.
    Mark,
    /// They pass.
    Pass,
}

/// A parity bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// No parity bit.
    None,
    /// It makes the number of ones odd.
    Odd,
    /// It makes the number of ones even.
    Even,
    /// Always one.
    Mark,
    /// Always zero.
    Space,
}

/// How a serial port is set: `com1=<baud>,<data bits><parity><stop bits>[,<I/O base>]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialSettings {
    /// Bits a second; `None` leaves what the firmware set (`auto`).
    pub baud: Option<u32>,
    /// 5 to 8.
    pub data_bits: u8,
    /// The parity bit.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
    /// First I/O port.
    pub base_port: u16,
}

impl SerialSettings {
    const fn new(base_port: u16) -> Self {
        Self { baud: Some(115_200), data_bits: 8, parity: Parity::None, stop_bits: 1, base_port }
    }
}

/// The command line's options.
///
/// ```
/// use config::command_line::{CommandLine, ComPort};
///
/// let (options, warnings) = CommandLine::parse("rpc=com2 guest_memory=512M fast");
/// assert_eq!((options.rpc, options.guest_memory_mib), (Some(ComPort::Com2), Some(512)));
/// assert_eq!(warnings, ["command line: \"fast\": unknown option, ignored"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Where the console is; empty for nowhere.
    pub console: Vec<ConsoleDevice>,
    /// The first serial port's settings.
    pub com1: SerialSettings,
    /// The second serial port's settings.
    pub com2: SerialSettings,
    /// The treatment of guests' escape sequences.
    pub escapes: Escapes,
    /// The least important messages that are logged.
    pub log_level: LevelFilter,
    /// True if a hypervisor panic stops the machine, rather than reboots it.
    pub no_reboot: bool,
    /// True if CPUs watch each other's loops.
    pub watchdog: bool,
    /// How long a CPU's loop may take for a turn; 0: as long as it likes.
    pub watchdog_timeout_s: u32,
    /// True if the machine stays on when no guest is left.
    pub stay_on: bool,
    /// True if guests' BIOSes read CDs through the boot ROM.
    pub boot_rom: bool,
    /// True if local APICs are in hardware where the processor can do it.
    pub apicv: bool,
    /// The defences against speculative execution.
    pub spec_ctrl: SpecCtrl,
    /// The port of the management interface.
    pub rpc: Option<ComPort>,
    /// The modules that are guest configurations, by name; if empty, they are found by their
    /// contents.
    pub guest_configs: Vec<String>,
    /// The module that is the ISO image of the one guest without a configuration.
    pub iso: Option<String>,
    /// The RAM of the one guest without a configuration, in MiB; the default depends on the
    /// machine.
    pub guest_memory_mib: Option<u64>,
    /// The vCPUs of the one guest without a configuration.
    pub guest_vcpus: u32,
}

impl Default for CommandLine {
    fn default() -> Self {
        Self {
            console: Vec::from([ConsoleDevice::Serial(ComPort::Com1), ConsoleDevice::Vga]),
            com1: SerialSettings::new(0x3f8),
            com2: SerialSettings::new(0x2f8),
            escapes: Escapes::Filter,
            log_level: LevelFilter::Info,
            no_reboot: false,
            watchdog: true,
            watchdog_timeout_s: 5,
            stay_on: false,
            boot_rom: true,
            apicv: true,
            spec_ctrl: SpecCtrl::default(),
            rpc: None,
            guest_configs: Vec::new(),
            iso: None,
            guest_memory_mib: None,
            guest_vcpus: 1,
        }
    }
}

impl CommandLine {
    /// Reads `text`; returns the options and the warnings. A first word that is a path, as some
    /// boot loaders put it there, is skipped.
    pub fn parse(text: &str) -> (Self, Vec<String>) {
        let mut options = Self::default();
        let mut warnings = Vec::new();
        for (index, word) in text.split_ascii_whitespace().enumerate() {
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            if index == 0 && value.is_none() && word.contains(['/', '.', '(']) {
                continue;
            }
            if let Err(problem) = options.apply(name, value) {
                warnings.push(format!("command line: \"{word}\": {problem}"));
            }
        }
        (options, warnings)
    }

    fn apply(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        let required = || {
            value.filter(|value| !value.is_empty()).ok_or_else(|| format!("{name} needs a value"))
        };
        match name {
            "console" => self.console = parse_console(required()?)?,
            "com1" => self.com1 = parse_serial(required()?, self.com1)?,
            "com2" => self.com2 = parse_serial(required()?, self.com2)?,
            "escapes" => self.escapes = parse_escapes(required()?)?,
            "loglvl" => self.log_level = parse_level(required()?)?,
            "noreboot" => self.no_reboot = parse_flag(value)?,
            "no-noreboot" => self.no_reboot = false,
            "watchdog" => self.watchdog = parse_flag(value)?,
            "no-watchdog" => self.watchdog = false,
            "watchdog_timeout" => self.watchdog_timeout_s = parse_seconds(required()?)?,
            "poweroff" => self.stay_on = parse_poweroff(required()?)?,
            "bootrom" => self.boot_rom = parse_flag(value)?,
            "apicv" => self.apicv = parse_flag(value)?,
            "spec-ctrl" => self.spec_ctrl.add(required()?)?,
            "rpc" => self.rpc = parse_rpc(required()?)?,
            "guest_cfg" => self.guest_configs.push(required()?.to_owned()),
            "iso" => self.iso = Some(required()?.to_owned()),
            "guest_memory" => self.guest_memory_mib = Some(parse_memory(required()?)?),
            "guest_vcpus" => self.guest_vcpus = parse_vcpus(required()?)?,
            _ => return Err("unknown option, ignored".to_owned()),
        }
        Ok(())
    }

    /// How long a CPU's loop may take for a turn, if that is watched.
    pub fn watchdog_s(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.watchdog_timeout_s).filter(|_| self.watchdog)
    }

    /// The settings of a serial port.
    pub const fn serial(&self, port: ComPort) -> SerialSettings {
        match port {
            ComPort::Com1 => self.com1,
            ComPort::Com2 => self.com2,
        }
    }
}

fn parse_com(name: &str) -> Option<ComPort> {
    match name {
        "com1" => Some(ComPort::Com1),
        "com2" => Some(ComPort::Com2),
        _ => None,
    }
}

fn parse_console(value: &str) -> Result<Vec<ConsoleDevice>, String> {
    let mut devices = Vec::new();
    for name in value.split(',') {
        let device = match (name, parse_com(name)) {
            ("vga", _) => ConsoleDevice::Vga,
            (_, Some(port)) => ConsoleDevice::Serial(port),
            ("none", _) => continue,
            _ => return Err(format!("{name} is none of com1, com2, vga, none")),
        };
        if !devices.contains(&device) {
            devices.push(device);
        }
    }
    Ok(devices)
}

fn parse_rpc(value: &str) -> Result<Option<ComPort>, String> {
    match parse_com(value) {
        None if value != "none" => Err(format!("{value} is none of com1, com2, none")),
        port => Ok(port),
    }
}

fn parse_serial(value: &str, mut settings: SerialSettings) -> Result<SerialSettings, String> {
    /// The UART's clock is 16 times that.
    const MAX_BAUD: u32 = 115_200;
    let mut fields = value.split(',');
    match fields.next() {
        None | Some("") => {}
        Some("auto") => settings.baud = None,
        Some(text) => {
            let baud =
                text.parse().ok().filter(|&baud: &u32| baud != 0 && MAX_BAUD.is_multiple_of(baud));
            settings.baud =
                Some(baud.ok_or_else(|| format!("{text} is not a speed that divides {MAX_BAUD}"))?);
        }
    }
    if let Some(format) = fields.next().filter(|format| !format.is_empty()) {
        parse_format(format, &mut settings).ok_or_else(|| {
            format!("{format} is not data bits, parity (n, o, e, m, s) and stop bits, as in 8n1")
        })?;
    }
    if let Some(base) = fields.next().filter(|base| !base.is_empty()) {
        let digits = base.strip_prefix("0x").unwrap_or(base);
        let port = u16::from_str_radix(digits, 16).ok().filter(|&port| port != 0);
        settings.base_port =
            port.ok_or_else(|| format!("{base} is not an I/O port, as in 0x3f8"))?;
    }
    match fields.next() {
        Some(more) => Err(format!("{more} is not supported")),
        None => Ok(settings),
    }
}

fn parse_format(format: &str, settings: &mut SerialSettings) -> Option<()> {
    let [data_bits @ b'5'..=b'8', parity, stop_bits @ b'1'..=b'2'] = *format.as_bytes() else {
        return None;
    };
    settings.parity = match parity {
        b'n' => Parity::None,
        b'o' => Parity::Odd,
        b'e' => Parity::Even,
        b'm' => Parity::Mark,
        b's' => Parity::Space,
        _ => return None,
    };
    settings.data_bits = data_bits - b'0';
    settings.stop_bits = stop_bits - b'0';
    Some(())
}

fn parse_escapes(value: &str) -> Result<Escapes, String> {
    match value {
        "filter" => Ok(Escapes::Filter),
        "mark" => Ok(Escapes::Mark),
        "pass" => Ok(Escapes::Pass),
        _ => Err(format!("{value} is none of filter, mark, pass")),
    }
}

fn parse_level(value: &str) -> Result<LevelFilter, String> {
    // Xen's second level, after a slash, is for messages that are limited in rate; there is no such
    // limit here.
    let level = value.split_once('/').map_or(value, |(level, _)| level);
    match level {
        "none" => Ok(LevelFilter::Off),
        "error" => Ok(LevelFilter::Error),
        "warning" | "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        "trace" | "all" => Ok(LevelFilter::Trace),
        _ => Err(format!("{level} is none of none, error, warn, info, debug, trace, all")),
    }
}

fn parse_flag(value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "yes" | "on" | "true" | "enable") => Ok(true),
        Some("0" | "no" | "off" | "false" | "disable") => Ok(false),
        Some(value) => Err(format!("{value} is neither yes nor no")),
    }
}

fn parse_poweroff(value: &str) -> Result<bool, String> {
    match value {
        "never" => Ok(true),
        "auto" => Ok(false),
        _ => Err(format!("{value} is neither auto nor never")),
    }
}

/// MiB, or with a suffix `M` or `G`.
fn parse_memory(value: &str) -> Result<u64, String> {
    const SIZES_MIB: core::ops::RangeInclusive<u64> = LEAST_MEMORY_MIB..=MAX_MEMORY_MIB;
    let (digits, unit_mib) = match value.as_bytes().last() {
        Some(b'G' | b'g') => (&value[..value.len() - 1], 1024),
        Some(b'M' | b'm') => (&value[..value.len() - 1], 1),
        _ => (value, 1),
    };
    let mib = digits.parse().ok().and_then(|number: u64| number.checked_mul(unit_mib));
    mib.filter(|mib| SIZES_MIB.contains(mib)).ok_or_else(|| {
        format!("{value} is not a size from {} to {} MiB", SIZES_MIB.start(), SIZES_MIB.end())
    })
}

fn parse_vcpus(value: &str) -> Result<u32, String> {
    let max = super::guest::MAX_VCPUS;
    let count = value.parse().ok().filter(|count| (1..=max).contains(count));
    count.ok_or_else(|| format!("{value} is not a number from 1 to {max}"))
}

fn parse_seconds(value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("{value} is not a number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> CommandLine {
        let (options, warnings) = CommandLine::parse(text);
        assert_eq!(warnings, [""; 0], "{text}");
        options
    }

    #[test]
    fn nothing_means_the_defaults() {
        let options = parse("");
        assert_eq!(options, CommandLine::default());
        assert_eq!(options.serial(ComPort::Com2).base_port, 0x2f8);
        assert_eq!(parse("/boot/bulkhead.elf"), options);
        assert_eq!(parse("(hd0,1)/bulkhead noreboot"), CommandLine { no_reboot: true, ..options });
    }

    #[test]
    fn every_option_is_read() {
        let options = parse(
            "console=com2,vga com1=auto com2=57600,7e2,0x3e8 loglvl=debug/all noreboot \
             poweroff=never rpc=com1 guest_cfg=a.cfg guest_cfg=b.cfg iso=debian.iso \
             guest_memory=2G guest_vcpus=4",
        );
        assert_eq!(options.console, [ConsoleDevice::Serial(ComPort::Com2), ConsoleDevice::Vga]);
        assert_eq!(options.com1.baud, None);
        let com2 = SerialSettings {
            baud: Some(57_600),
            data_bits: 7,
            parity: Parity::Even,
            stop_bits: 2,
            base_port: 0x3e8,
        };
        assert_eq!(options.com2, com2);
        assert_eq!((options.log_level, options.rpc), (LevelFilter::Debug, Some(ComPort::Com1)));
        assert!(options.no_reboot && options.stay_on);
        assert_eq!(options.guest_configs, ["a.cfg", "b.cfg"]);
        assert_eq!(options.iso.as_deref(), Some("debian.iso"));
        assert_eq!((options.guest_memory_mib, options.guest_vcpus), (Some(2048), 4));
        assert_eq!(parse("console=none").console, []);
        assert_eq!(parse("escapes=mark").escapes, Escapes::Mark);
        assert_eq!(parse("escapes=pass").escapes, Escapes::Pass);
        assert_eq!(parse("escapes=pass escapes=filter").escapes, Escapes::Filter);
        assert!(!parse("noreboot=no").no_reboot);
        assert_eq!(parse("").watchdog_s(), NonZeroU32::new(5));
        assert_eq!(parse("watchdog_timeout=30").watchdog_s(), NonZeroU32::new(30));
        for off in ["watchdog=off", "no-watchdog", "watchdog_timeout=0"] {
            assert_eq!(parse(off).watchdog_s(), None, "{off}");
        }
        assert_eq!(parse("rpc=com1 rpc=none").rpc, None);
        assert!(!parse("poweroff=never poweroff=auto").stay_on);
        assert!(!parse("bootrom=off").boot_rom && parse("bootrom=on").boot_rom);
        assert!(!parse("apicv=off").apicv && parse("apicv=off apicv").apicv);
        let choices = parse("spec-ctrl=no-rsb spec-ctrl=ssbd").spec_ctrl;
        assert_eq!((choices.rsb, choices.ssbd), (Some(false), Some(true)));
    }

    #[test]
    fn each_parity_has_its_letter() {
        for (letter, parity) in [
            ("n", Parity::None),
            ("o", Parity::Odd),
            ("e", Parity::Even),
            ("m", Parity::Mark),
            ("s", Parity::Space),
        ] {
            assert_eq!(parse(&format!("com1=9600,8{letter}1")).com1.parity, parity, "{letter}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named_and_the_default_holds() {
        for (word, problem) in [
            ("dom0_mem=4G", "unknown option, ignored"),
            ("console=lpt1", "lpt1 is none of com1, com2, vga, none"),
            ("console", "console needs a value"),
            ("com1=9601", "9601 is not a speed that divides 115200"),
            (
                "com1=9600,9n1",
                "9n1 is not data bits, parity (n, o, e, m, s) and stop bits, as in 8n1",
            ),
            ("com1=9600,8n1,pci", "pci is not an I/O port, as in 0x3f8"),
            ("com1=9600,8n1,3f8,4", "4 is not supported"),
            ("escapes=some", "some is none of filter, mark, pass"),
            ("loglvl=loud", "loud is none of none, error, warn, info, debug, trace, all"),
            ("noreboot=maybe", "maybe is neither yes nor no"),
            ("watchdog=maybe", "maybe is neither yes nor no"),
            ("watchdog_timeout=5s", "5s is not a number of seconds"),
            ("poweroff=later", "later is neither auto nor never"),
            ("rpc=vga", "vga is none of com1, com2, none"),
            ("guest_memory=99999999G", "99999999G is not a size from 2 to 16777216 MiB"),
            ("guest_memory=1", "1 is not a size from 2 to 16777216 MiB"),
            ("spec-ctrl", "spec-ctrl needs a value"),
            ("spec-ctrl=pv=no", "pv=no is not a defence that can be chosen"),
            ("guest_vcpus=129", "129 is not a number from 1 to 128"),
        ] {
            let (options, warnings) = CommandLine::parse(word);
            assert_eq!(options, CommandLine::default());
            assert_eq!(warnings, [format!("command line: \"{word}\": {problem}")]);
        }
    }

    proptest! {
        #[test]
        fn every_word_is_understood_or_named(
            words in prop::collection::vec(
                "(console|com1|loglvl|guest_memory|[a-z]{1,4})(=[a-z0-9,]{0,9})?|.{0,9}",
                0..6,
            ),
        ) {
            let text = words.join(" ");
            let (options, warnings) = CommandLine::parse(&text);
            prop_assert!(warnings.len() <= text.split_ascii_whitespace().count());
            prop_assert!(options.guest_memory_mib.is_none_or(|mib| mib >= 1));
            if warnings.len() == text.split_ascii_whitespace().count() {
                prop_assert_eq!(options, CommandLine::default());
            }
        }
    }
}
