//! A guest's configuration: the meaning of an xl.cfg file (xl.cfg(5)).
//!
//! A setting that Bulkhead does not support is named in a warning and otherwise ignored, so that
//! existing files work unchanged. A setting of the wrong type or with an impossible value is an
//! error.

mod devices;
mod values;

pub use devices::{Bios, MAX_DISKS, MAX_VIFS, Serial, Vga, Vnc};

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::cpus::VcpuCpus;
use super::guest_type::GuestType;
use super::xl_cfg::{self, Setting, Value};
use super::{Diagnostic, Disk, Vif, keys, text};
use values::{Result, Values, is_off};

/// vCPUs that a guest can have: xl's limit for HVM guests.
pub const MAX_VCPUS: u32 = 128;
/// SeaBIOS keeps the ACPI and SMBIOS tables above 1 MiB, and does without where there is no RAM.
pub const LEAST_MEMORY_MIB: u64 = 2;
/// Far more than machines have.
pub const MAX_MEMORY_MIB: u64 = 1 << 24;

/// The action when a guest has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Free everything it had.
    Destroy,
    /// Start it again, from its configuration.
    Restart,
    /// Keep it, stopped, to be looked at.
    Preserve,
    /// Keep it under another name, and start it again.
    RenameRestart,
}

/// A guest as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestConfig {
    /// Its name.
    pub name: String,
    /// Its UUID, in the order of the text form; one is made up if `None`.
    pub uuid: Option<[u8; 16]>,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// The most that the RAM can grow to, in MiB.
    pub max_memory_mib: u64,
    /// vCPUs at power-on, 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// The most that vCPUs can grow to.
    pub max_vcpus: u32,
    /// Disks and CD-ROM drives, each at a drive of its own.
    pub disks: Vec<Disk>,
    /// Devices to boot from, in order: `a` floppy, `c` hard disk, `d` CD-ROM, `n` network.
    pub boot: String,
    /// COM1 to COM4.
    pub serial: [Serial; 4],
    /// When the guest has powered itself off.
    pub on_poweroff: Action,
    /// When it has reset itself.
    pub on_reboot: Action,
    /// When it has crashed.
    pub on_crash: Action,
    /// When it has not set its PV watchdog anew in time.
    pub on_watchdog: Action,
    /// The graphics card.
    pub vga: Vga,
    /// Video RAM in MiB.
    pub video_memory_mib: u32,
    /// The firmware.
    pub bios: Bios,
    /// True if there is an HPET.
    pub hpet: bool,
    /// True if the real-time clock shows local time, not UTC.
    pub local_time: bool,
    /// Seconds that the real-time clock is ahead.
    pub rtc_offset_s: i64,
    /// True if there is Xen's platform device for PV drivers.
    pub xen_platform_pci: bool,
    /// True if there is a VM generation ID.
    pub has_generation_id: bool,
    /// Network cards.
    pub vifs: Vec<Vif>,
    /// The VNC server, if there shall be one.
    pub vnc: Option<Vnc>,
    /// Share of CPU time among guests that want it.
    pub cpu_weight: u32,
    /// Most CPU time in percent of a CPU; 0 is no limit.
    pub cpu_cap_percent: u32,
    /// The machine's CPUs that its vCPUs may run on.
    pub cpus: VcpuCpus,
    /// Those of them that they had better run on.
    pub soft_cpus: VcpuCpus,
    /// True if it starts with the machine.
    pub autostart: bool,
    /// Guests with a lower number start first; those with the same in the order of their modules.
    pub autostart_order: i32,
    /// Seconds from the machine's start to the guest's.
    pub autostart_delay_s: u32,
}

impl GuestConfig {
    /// A guest of that name and size with everything else as xl's defaults say, but a serial port
    /// on the console.
    pub fn new(name: &str, memory_mib: u64, vcpus: u32) -> Self {
        Self {
            name: name.to_owned(),
            uuid: None,
            memory_mib,
            max_memory_mib: memory_mib,
            vcpus,
            max_vcpus: vcpus,
            disks: Vec::new(),
            boot: "cd".to_owned(),
            serial: [Serial::Console, Serial::None, Serial::None, Serial::None],
            on_poweroff: Action::Destroy,
            on_reboot: Action::Restart,
            on_crash: Action::Destroy,
            on_watchdog: Action::Destroy,
            vga: Vga::Standard,
            video_memory_mib: devices::LEAST_VIDEO_MEMORY_MIB as u32,
            bios: Bios::SeaBios,
            hpet: true,
            local_time: false,
            rtc_offset_s: 0,
            xen_platform_pci: true,
            has_generation_id: false,
            vifs: Vec::new(),
            vnc: None,
            cpu_weight: 256,
            cpu_cap_percent: 0,
            cpus: VcpuCpus::All,
            soft_cpus: VcpuCpus::All,
            autostart: true,
            autostart_order: 0,
            autostart_delay_s: 0,
        }
    }

    /// Reads the xl.cfg file `bytes`, called `file`: the guest, or the first thing that is wrong;
    /// and the warnings.
    pub fn parse(file: &str, bytes: &[u8]) -> (Result<Self>, Vec<Diagnostic>) {
        Self::parse_with(file, bytes, "")
    }

    /// The same with more `settings` in lines behind the file's, as `xl create` takes them.
    pub fn parse_with(file: &str, bytes: &[u8], settings: &str) -> (Result<Self>, Vec<Diagnostic>) {
        let parsed =
            text::decode(file, bytes)
                .map(|text| {
                    if settings.is_empty() {
                        text
                    } else {
                        Cow::Owned(format!("{text}\n{settings}"))
                    }
                })
                .and_then(|text| xl_cfg::parse(file, &text));
        let settings = match parsed {
            Ok(settings) => settings,
            Err(error) => return (Err(error), Vec::new()),
        };
        let config = Self::new("", 0, 1);
        let mut reader = Reader { values: Values::new(file), config, max_vcpus: None };
        let read = reader.read(&settings);
        let result = match GuestType::of(&settings) {
            // A guest of this type cannot run, so that other errors do not matter.
            GuestType::Other(setting, message) => Err(reader.values.error(setting, message)),
            GuestType::Hvm => read,
            GuestType::Unsaid => {
                reader.values.warn_of_file(
                    "nothing says type=\"hvm\": an HVM guest is started; Xen would start a PV \
                     guest",
                );
                read
            }
        };
        let Reader { values, config, .. } = reader;
        (result.map(|()| config), values.into_warnings())
    }
}

struct Reader<'a> {
    values: Values<'a>,
    config: GuestConfig,
    max_vcpus: Option<u32>,
}

impl Reader<'_> {
    fn read(&mut self, settings: &[Setting]) -> Result<()> {
        // Other settings have an effect by this one.
        for setting in settings.iter().filter(|setting| setting.key == "xen_platform_pci") {
            self.apply(setting)?;
        }
        for setting in settings {
            self.apply(setting)?;
            self.warn_without_effect(setting);
        }
        self.finish(settings)
    }

    fn apply(&mut self, setting: &Setting) -> Result<()> {
        let Self { values, config, max_vcpus } = self;
        match setting.key.as_str() {
            "name" => config.name = name(values, setting)?,
            "uuid" => config.uuid = Some(uuid(values, setting)?),
            "memory" => config.memory_mib = memory_mib(values, setting)?,
            "maxmem" => config.max_memory_mib = memory_mib(values, setting)?,
            "vcpus" => config.vcpus = values.number(setting, 1, MAX_VCPUS.into())? as u32,
            "maxvcpus" => *max_vcpus = Some(values.number(setting, 1, MAX_VCPUS.into())? as u32),
            "cpu_weight" => config.cpu_weight = values.number(setting, 1, 65_535)? as u32,
            "cap" => {
                config.cpu_cap_percent =
                    values.number(setting, 0, 100 * i64::from(MAX_VCPUS))? as u32
            }
            "cpus" => config.cpus = vcpu_cpus(values, setting)?,
            "cpus_soft" => config.soft_cpus = vcpu_cpus(values, setting)?,
            "autostart" => config.autostart = values.flag(setting)?,
            "autostart_order" => {
                config.autostart_order = values.number(setting, -1_000, 1_000)? as i32
            }
            "autostart_delay" => {
                config.autostart_delay_s = values.number(setting, 0, 86_400)? as u32
            }
            "disk" => config.disks = devices::disks(values, setting)?,
            "boot" => config.boot = boot(values, setting)?,
            "serial" => config.serial = devices::serial(values, setting)?,
            "on_poweroff" => config.on_poweroff = action(values, setting)?,
            "on_reboot" => config.on_reboot = action(values, setting)?,
            "on_crash" => config.on_crash = action(values, setting)?,
            "on_watchdog" => config.on_watchdog = action(values, setting)?,
            "vga" => config.vga = devices::vga(values, setting)?,
            "videoram" => config.video_memory_mib = devices::video_memory_mib(values, setting)?,
            "bios" => config.bios = devices::bios(values, setting)?,
            "hpet" => config.hpet = values.flag(setting)?,
            "ms_vm_genid" => config.has_generation_id = generation_id(values, setting)?,
            "localtime" => config.local_time = values.flag(setting)?,
            "rtc_timeoffset" => {
                config.rtc_offset_s = values.number(setting, -(1 << 40), 1 << 40)?
            }
            "xen_platform_pci" => config.xen_platform_pci = values.flag(setting)?,
            "vif" => config.vifs = devices::vifs(values, setting)?,
            "vnc" | "vnclisten" | "vncdisplay" | "vncpasswd" => {}
            // `GuestType` knows what they mean.
            "type" | "builder" => _ = values.text(setting)?,
            "stdvga" => _ = values.flag(setting)?,
            "acpi" | "apic" | "pae" | "nx" => always_on(values, setting)?,
            _ => ignore(values, setting),
        }
        Ok(())
    }

    /// Names what is read, checked and kept for what is to come, but does nothing yet.
    fn warn_without_effect(&mut self, setting: &Setting) {
        let Self { values, config, .. } = self;
        let effective = match setting.key.as_str() {
            "vif" => {
                devices::warn_of_cards(values, setting, &config.vifs, config.xen_platform_pci);
                true
            }
            "vnc" => {
                if !is_off(setting) {
                    values.warn(setting, format!("has no effect yet: {}", keys::SCREEN));
                }
                true
            }
            "localtime" => is_off(setting),
            "vga" => config.vga == Vga::Standard,
            "bios" => config.bios == Bios::SeaBios,
            _ => true,
        };
        if !effective {
            values.warn(setting, "has no effect yet");
        }
    }

    fn finish(&mut self, settings: &[Setting]) -> Result<()> {
        let Self { values, config, max_vcpus } = self;
        if config.name.is_empty() {
            return Err(values.error_of_file("no name is given: add name=\"...\""));
        }
        // As xl: either one of the two gives the other.
        let (memory, max) = (config.memory_mib, config.max_memory_mib);
        match (memory, max) {
            (0, 0) => return Err(values.error_of_file("no memory is given: add memory=MIB")),
            (0, max) => config.memory_mib = max,
            (memory, 0) => config.max_memory_mib = memory,
            (memory, max) if max < memory => {
                return Err(values.error_of_file("maxmem is less than memory"));
            }
            _ => {}
        }
        if !config.xen_platform_pci && config.max_memory_mib > config.memory_mib {
            let without = "has no effect without xen_platform_pci=1";
            settings.iter().filter(|it| it.key == "maxmem").for_each(|it| values.warn(it, without));
        }
        config.max_vcpus = max_vcpus.unwrap_or(config.vcpus);
        if config.max_vcpus < config.vcpus {
            return Err(values.error_of_file("maxvcpus is less than vcpus"));
        }
        config.vnc = devices::vnc(values, settings)?;
        devices::check_drives(values, settings, &config.disks)
    }
}

/// Names a setting that is not supported, and what happens instead, or what may have been meant.
fn ignore(values: &mut Values, setting: &Setting) {
    const IGNORED: &str = "is not supported and ignored";
    let key = setting.key.as_str();
    match keys::instead(key) {
        Some(_) if is_off(setting) => {}
        Some(instead) => values.warn(setting, format!("{IGNORED}: {instead}")),
        // Names are compared only for as many as are shown.
        None if !values.are_warnings_full() => match keys::nearest(key) {
            Some(near) => {
                values.warn(setting, format!("{IGNORED}: xl has no such key; is {near} meant?"))
            }
            None => values.warn(setting, format!("{IGNORED}: xl has no such key")),
        },
        None => values.leave_out_warning(),
    }
}

/// CPUs for all vCPUs, or a list with those of each.
fn vcpu_cpus(values: &Values, setting: &Setting) -> Result<VcpuCpus> {
    let texts = match &setting.value {
        Value::Number(number) => Vec::from([number.to_string()]),
        _ => values.strings(setting)?.into_iter().map(|(_, text)| text).collect(),
    };
    let is_list = matches!(setting.value, Value::List(_));
    VcpuCpus::parse(&texts, is_list).map_err(|text| {
        let example = "CPUs are listed as in \"0-3,5,^1\", or \"all\"";
        values.error(setting, format!("\"{text}\": {example}"))
    })
}

fn memory_mib(values: &Values, setting: &Setting) -> Result<u64> {
    let mib = values.number(setting, 1, MAX_MEMORY_MIB as i64)? as u64;
    if mib < LEAST_MEMORY_MIB {
        let message =
            format!("must be at least {LEAST_MEMORY_MIB}, not {mib}: the firmware needs that much");
        return Err(values.error(setting, message));
    }
    Ok(mib)
}

fn name(values: &Values, setting: &Setting) -> Result<String> {
    let name = values.text(setting)?;
    if name.is_empty() || name.contains(|c: char| c.is_control() || c == '/') {
        return Err(
            values.error(setting, "must not be empty, nor contain \"/\" or control characters")
        );
    }
    Ok(name.to_owned())
}

fn uuid(values: &Values, setting: &Setting) -> Result<[u8; 16]> {
    let text = values.text(setting)?;
    parse_uuid(text).ok_or_else(|| values.error(setting, format!("\"{text}\" is not a UUID")))
}

fn boot(values: &mut Values, setting: &Setting) -> Result<String> {
    let letters = values.text(setting)?;
    if let Some(wrong) = letters.chars().find(|letter| !"acdn".contains(*letter)) {
        return Err(values.error(setting, format!("\"{wrong}\" is none of a, c, d, n")));
    }
    Ok(letters.to_owned())
}

fn generation_id(values: &mut Values, setting: &Setting) -> Result<bool> {
    match values.text(setting)? {
        "generate" => Ok(true),
        "none" => Ok(false),
        _ => Err(values.error(setting, "must be \"generate\" or \"none\"")),
    }
}

fn action(values: &mut Values, setting: &Setting) -> Result<Action> {
    let name = values.text(setting)?;
    let action = match name.strip_prefix("coredump-").unwrap_or(name) {
        "destroy" => Action::Destroy,
        "restart" => Action::Restart,
        "preserve" if name == "preserve" => Action::Preserve,
        "rename-restart" if name == "rename-restart" => Action::RenameRestart,
        _ => {
            let message = format!(
                "\"{name}\" is none of destroy, restart, preserve, rename-restart, \
                 coredump-destroy, coredump-restart"
            );
            return Err(values.error(setting, message));
        }
    };
    match name {
        "preserve" => values.warn(setting, "preserve is not supported yet, destroy is used"),
        "rename-restart" => {
            values.warn(setting, "rename-restart is not supported yet, restart is used")
        }
        "coredump-destroy" | "coredump-restart" => {
            values.warn(
                setting,
                "no core is dumped: a guest's state is written to the log when it crashes",
            );
        }
        _ => {}
    }
    Ok(action)
}

/// A part of the PC that cannot be left out.
fn always_on(values: &mut Values, setting: &Setting) -> Result<()> {
    if !values.flag(setting)? {
        values.warn(setting, "cannot be turned off and stays on");
    }
    Ok(())
}

/// Thirty-two hexadecimal digits; dashes between bytes do not count.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 32 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod published;
#[cfg(test)]
mod tests;
