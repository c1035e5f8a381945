//! A guest's configuration: the meaning of an xl.cfg file (xl.cfg(5)).
//!
//! A setting that Bulkhead does not support is named in a warning and otherwise ignored, so that
//! existing files work unchanged. A setting of the wrong type or with an impossible value is an
//! error.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::cpus::VcpuCpus;
use super::guest_type::GuestType;
use super::xl_cfg::{self, Element, Setting, Value};
use super::{Diagnostic, Disk, Vif, VirtualDevice, disk, keys, text, vif};

/// vCPUs that a guest can have: xl's limit for HVM guests.
pub const MAX_VCPUS: u32 = 128;
/// SeaBIOS keeps the ACPI and SMBIOS tables above 1 MiB, and does without where there is no RAM.
pub const LEAST_MEMORY_MIB: u64 = 2;
/// Far more than machines have.
pub const MAX_MEMORY_MIB: u64 = 1 << 24;
/// xl's least for the standard VGA, and default.
const LEAST_VIDEO_MEMORY_MIB: i64 = 16;
/// The pages of video memory are counted in 16 bits.
const MAX_VIDEO_MEMORY_MIB: i64 = 128;
/// Warnings about one file; the others are counted.
const MAX_WARNINGS: usize = 64;
/// Disks of a guest, those that are plugged in while it runs among them.
pub const MAX_DISKS: usize = 32;
/// Network cards of a guest, as QEMU has them.
const MAX_VIFS: usize = 8;

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

/// The far end of a serial port of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// There is no port.
    None,
    /// The hypervisor's console.
    Console,
    /// There is a port that leads nowhere.
    Null,
}

/// The graphics card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vga {
    /// There is none.
    None,
    /// The standard VGA with Bochs's extensions.
    Standard,
}

/// The firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bios {
    /// SeaBIOS.
    SeaBios,
    /// OVMF, for UEFI.
    Ovmf,
}

/// The VNC server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vnc {
    /// The address that it listens at.
    pub listen: Option<String>,
    /// The display's number.
    pub display: Option<u32>,
    /// The password.
    pub password: Option<String>,
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
            video_memory_mib: LEAST_VIDEO_MEMORY_MIB as u32,
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
        let mut reader =
            Reader { file, config, max_vcpus: None, warnings: Vec::new(), left_out_warnings: 0 };
        let read = reader.read(&settings);
        let result = match GuestType::of(&settings) {
            // A guest of this type cannot run, so that other errors do not matter.
            GuestType::Other(setting, message) => Err(reader.error(setting, message)),
            GuestType::Hvm => read,
            GuestType::Unsaid => {
                reader.warn_of_file(
                    "nothing says type=\"hvm\": an HVM guest is started; Xen would start a PV \
                     guest",
                );
                read
            }
        };
        let Reader { config, warnings, .. } = reader.with_warnings_counted();
        (result.map(|()| config), warnings)
    }
}

struct Reader<'a> {
    file: &'a str,
    config: GuestConfig,
    max_vcpus: Option<u32>,
    warnings: Vec<Diagnostic>,
    left_out_warnings: usize,
}

type Result<T, E = Diagnostic> = core::result::Result<T, E>;

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
        match setting.key.as_str() {
            "name" => self.config.name = self.name(setting)?,
            "uuid" => self.config.uuid = Some(self.uuid(setting)?),
            "memory" => self.config.memory_mib = self.memory_mib(setting)?,
            "maxmem" => self.config.max_memory_mib = self.memory_mib(setting)?,
            "vcpus" => self.config.vcpus = self.number(setting, 1, MAX_VCPUS.into())? as u32,
            "maxvcpus" => self.max_vcpus = Some(self.number(setting, 1, MAX_VCPUS.into())? as u32),
            "cpu_weight" => self.config.cpu_weight = self.number(setting, 1, 65_535)? as u32,
            "cap" => {
                self.config.cpu_cap_percent =
                    self.number(setting, 0, 100 * i64::from(MAX_VCPUS))? as u32
            }
            "cpus" => self.config.cpus = self.vcpu_cpus(setting)?,
            "cpus_soft" => self.config.soft_cpus = self.vcpu_cpus(setting)?,
            "autostart" => self.config.autostart = self.flag(setting)?,
            "autostart_order" => {
                self.config.autostart_order = self.number(setting, -1_000, 1_000)? as i32
            }
            "autostart_delay" => {
                self.config.autostart_delay_s = self.number(setting, 0, 86_400)? as u32
            }
            "disk" => self.config.disks = self.disks(setting)?,
            "boot" => self.config.boot = self.boot(setting)?,
            "serial" => self.config.serial = self.serial(setting)?,
            "on_poweroff" => self.config.on_poweroff = self.action(setting)?,
            "on_reboot" => self.config.on_reboot = self.action(setting)?,
            "on_crash" => self.config.on_crash = self.action(setting)?,
            "on_watchdog" => self.config.on_watchdog = self.action(setting)?,
            "vga" => self.config.vga = self.vga(setting)?,
            "videoram" => self.config.video_memory_mib = self.video_memory_mib(setting)?,
            "bios" => self.config.bios = self.bios(setting)?,
            "hpet" => self.config.hpet = self.flag(setting)?,
            "ms_vm_genid" => self.config.has_generation_id = self.generation_id(setting)?,
            "localtime" => self.config.local_time = self.flag(setting)?,
            "rtc_timeoffset" => {
                self.config.rtc_offset_s = self.number(setting, -(1 << 40), 1 << 40)?
            }
            "xen_platform_pci" => self.config.xen_platform_pci = self.flag(setting)?,
            "vif" => self.config.vifs = self.vifs(setting)?,
            "vnc" | "vnclisten" | "vncdisplay" | "vncpasswd" => {}
            // `GuestType` knows what they mean.
            "type" | "builder" => _ = self.text(setting)?,
            "stdvga" => _ = self.flag(setting)?,
            "acpi" | "apic" | "pae" | "nx" => self.always_on(setting)?,
            key => self.ignore(setting, key),
        }
        Ok(())
    }

    /// Names a setting that is not supported, and what happens instead, or what may have been
    /// meant.
    fn ignore(&mut self, setting: &Setting, key: &str) {
        const IGNORED: &str = "is not supported and ignored";
        match keys::instead(key) {
            Some(_) if is_off(setting) => {}
            Some(instead) => self.warn(setting, format!("{IGNORED}: {instead}")),
            // Names are compared only for as many as are shown.
            None if self.warnings.len() < MAX_WARNINGS => match keys::nearest(key) {
                Some(near) => {
                    self.warn(setting, format!("{IGNORED}: xl has no such key; is {near} meant?"))
                }
                None => self.warn(setting, format!("{IGNORED}: xl has no such key")),
            },
            None => self.left_out_warnings += 1,
        }
    }

    /// Names what is read, checked and kept for what is to come, but does nothing yet.
    fn warn_without_effect(&mut self, setting: &Setting) {
        let effective = match setting.key.as_str() {
            "vif" => {
                self.warn_of_cards(setting);
                true
            }
            "vnc" => {
                if !is_off(setting) {
                    self.warn(setting, format!("has no effect yet: {}", keys::SCREEN));
                }
                true
            }
            "localtime" => is_off(setting),
            "vga" => self.config.vga == Vga::Standard,
            "bios" => self.config.bios == Bios::SeaBios,
            _ => true,
        };
        if !effective {
            self.warn(setting, "has no effect yet");
        }
    }

    fn finish(&mut self, settings: &[Setting]) -> Result<()> {
        let file_error = |message: &str| Diagnostic::at(self.file, 0, 0, message.to_owned());
        if self.config.name.is_empty() {
            return Err(file_error("no name is given: add name=\"...\""));
        }
        // As xl: either one of the two gives the other.
        let (memory, max) = (self.config.memory_mib, self.config.max_memory_mib);
        match (memory, max) {
            (0, 0) => return Err(file_error("no memory is given: add memory=MIB")),
            (0, max) => self.config.memory_mib = max,
            (memory, 0) => self.config.max_memory_mib = memory,
            (memory, max) if max < memory => return Err(file_error("maxmem is less than memory")),
            _ => {}
        }
        if !self.config.xen_platform_pci && self.config.max_memory_mib > self.config.memory_mib {
            let without = "has no effect without xen_platform_pci=1";
            settings.iter().filter(|it| it.key == "maxmem").for_each(|it| self.warn(it, without));
        }
        self.config.max_vcpus = self.max_vcpus.unwrap_or(self.config.vcpus);
        if self.config.max_vcpus < self.config.vcpus {
            return Err(file_error("maxvcpus is less than vcpus"));
        }
        self.vnc(settings)?;
        self.check_drives(settings)
    }

    fn error(&self, setting: &Setting, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.file, setting.line, 0, message.into()).of(&setting.key)
    }

    fn warn(&mut self, setting: &Setting, message: impl Into<String>) {
        self.add_warning(self.error(setting, message));
    }

    fn warn_of_file(&mut self, message: &str) {
        self.add_warning(Diagnostic::at(self.file, 0, 0, message.to_owned()));
    }

    fn add_warning(&mut self, warning: Diagnostic) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        } else {
            self.left_out_warnings += 1;
        }
    }

    fn with_warnings_counted(mut self) -> Self {
        if self.left_out_warnings > 0 {
            let message = format!("{} more warnings are left out", self.left_out_warnings);
            self.warnings.push(Diagnostic::at(self.file, 0, 0, message));
        }
        self
    }

    fn text<'s>(&self, setting: &'s Setting) -> Result<&'s str> {
        match &setting.value {
            Value::Text(text) => Ok(text),
            Value::Number(_) => {
                Err(self.error(setting, "must be a string in quotes, not a number"))
            }
            Value::List(_) => Err(self.error(setting, "must be a string in quotes, not a list")),
        }
    }

    /// A number, which may also be written in quotes.
    fn number(&self, setting: &Setting, min: i64, max: i64) -> Result<i64> {
        let number = match &setting.value {
            Value::Number(number) => Some(*number),
            Value::Text(text) => xl_cfg::parse_number(text.trim()),
            Value::List(_) => None,
        };
        let number = number.ok_or_else(|| self.error(setting, "must be a number"))?;
        if (min..=max).contains(&number) {
            return Ok(number);
        }
        Err(self.error(setting, format!("must be from {min} to {max}, not {number}")))
    }

    /// CPUs for all vCPUs, or a list with those of each.
    fn vcpu_cpus(&self, setting: &Setting) -> Result<VcpuCpus> {
        let texts = match &setting.value {
            Value::Number(number) => Vec::from([number.to_string()]),
            _ => self.strings(setting)?.into_iter().map(|(_, text)| text).collect(),
        };
        let is_list = matches!(setting.value, Value::List(_));
        VcpuCpus::parse(&texts, is_list).map_err(|text| {
            let example = "CPUs are listed as in \"0-3,5,^1\", or \"all\"";
            self.error(setting, format!("\"{text}\": {example}"))
        })
    }

    fn memory_mib(&self, setting: &Setting) -> Result<u64> {
        let mib = self.number(setting, 1, MAX_MEMORY_MIB as i64)? as u64;
        if mib < LEAST_MEMORY_MIB {
            let message = format!(
                "must be at least {LEAST_MEMORY_MIB}, not {mib}: the firmware needs that much"
            );
            return Err(self.error(setting, message));
        }
        Ok(mib)
    }

    /// Base address registers know powers of two only; QEMU rounds up too.
    fn video_memory_mib(&mut self, setting: &Setting) -> Result<u32> {
        let wanted = self.number(setting, 0, u32::MAX.into())?;
        let mib = wanted.clamp(LEAST_VIDEO_MEMORY_MIB, MAX_VIDEO_MEMORY_MIB) as u32;
        let mib = mib.next_power_of_two();
        if i64::from(mib) != wanted {
            let limits = "a power of two from 16 to 128 MiB";
            self.warn(setting, format!("the card has {limits}: {mib} instead of {wanted}"));
        }
        Ok(mib)
    }

    fn flag(&self, setting: &Setting) -> Result<bool> {
        self.number(setting, 0, 1)
            .map(|number| number == 1)
            .map_err(|_| self.error(setting, "must be 0 or 1"))
    }

    /// The strings of a list, each with its line; a single string stands for a list of it.
    fn strings(&self, setting: &Setting) -> Result<Vec<(u32, String)>> {
        let of_element = |element: &Element| match &element.value {
            Value::Text(text) => Ok((element.line, text.clone())),
            _ => {
                let error = self.error(setting, "must be a list of strings in quotes");
                Err(Diagnostic { line: element.line, ..error })
            }
        };
        match &setting.value {
            Value::List(list) => list.iter().map(of_element).collect(),
            Value::Text(text) => Ok(Vec::from([(setting.line, text.clone())])),
            Value::Number(_) => Err(self.error(setting, "must be a list of strings in quotes")),
        }
    }

    fn name(&self, setting: &Setting) -> Result<String> {
        let name = self.text(setting)?;
        if name.is_empty() || name.contains(|c: char| c.is_control() || c == '/') {
            return Err(
                self.error(setting, "must not be empty, nor contain \"/\" or control characters")
            );
        }
        Ok(name.to_owned())
    }

    fn uuid(&self, setting: &Setting) -> Result<[u8; 16]> {
        let text = self.text(setting)?;
        parse_uuid(text).ok_or_else(|| self.error(setting, format!("\"{text}\" is not a UUID")))
    }

    fn boot(&mut self, setting: &Setting) -> Result<String> {
        let letters = self.text(setting)?;
        if let Some(wrong) = letters.chars().find(|letter| !"acdn".contains(*letter)) {
            return Err(self.error(setting, format!("\"{wrong}\" is none of a, c, d, n")));
        }
        Ok(letters.to_owned())
    }

    fn generation_id(&mut self, setting: &Setting) -> Result<bool> {
        match self.text(setting)? {
            "generate" => Ok(true),
            "none" => Ok(false),
            _ => Err(self.error(setting, "must be \"generate\" or \"none\"")),
        }
    }

    fn action(&mut self, setting: &Setting) -> Result<Action> {
        let name = self.text(setting)?;
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
                return Err(self.error(setting, message));
            }
        };
        match name {
            "preserve" => self.warn(setting, "preserve is not supported yet, destroy is used"),
            "rename-restart" => {
                self.warn(setting, "rename-restart is not supported yet, restart is used")
            }
            "coredump-destroy" | "coredump-restart" => {
                self.warn(
                    setting,
                    "no core is dumped: a guest's state is written to the log when it crashes",
                );
            }
            _ => {}
        }
        Ok(action)
    }

    fn serial(&mut self, setting: &Setting) -> Result<[Serial; 4]> {
        let mut ports = [Serial::None; 4];
        let names = self.strings(setting)?;
        if names.len() > ports.len() {
            return Err(self.error(setting, "there are at most four serial ports"));
        }
        for (port, (line, name)) in ports.iter_mut().zip(&names) {
            *port = match name.as_str() {
                "none" => Serial::None,
                "null" => Serial::Null,
                "pty" | "stdio" | "vc" => Serial::Console,
                _ => {
                    let warning = self
                        .error(setting, format!("\"{name}\" is not supported, \"pty\" is used"));
                    self.add_warning(Diagnostic { line: *line, ..warning });
                    Serial::Console
                }
            };
        }
        Ok(ports)
    }

    fn vga(&mut self, setting: &Setting) -> Result<Vga> {
        match self.text(setting)? {
            "none" => Ok(Vga::None),
            "stdvga" => Ok(Vga::Standard),
            card @ ("cirrus" | "qxl") => {
                self.warn(setting, format!("{card} is not supported, stdvga is used"));
                Ok(Vga::Standard)
            }
            card => {
                Err(self.error(setting, format!("\"{card}\" is none of none, stdvga, cirrus, qxl")))
            }
        }
    }

    fn bios(&mut self, setting: &Setting) -> Result<Bios> {
        match self.text(setting)? {
            "seabios" => Ok(Bios::SeaBios),
            "ovmf" => Ok(Bios::Ovmf),
            "rombios" => {
                self.warn(setting, "rombios is not supported, seabios is used");
                Ok(Bios::SeaBios)
            }
            bios => {
                Err(self.error(setting, format!("\"{bios}\" is none of seabios, ovmf, rombios")))
            }
        }
    }

    /// A part of the PC that cannot be left out.
    fn always_on(&mut self, setting: &Setting) -> Result<()> {
        if !self.flag(setting)? {
            self.warn(setting, "cannot be turned off and stays on");
        }
        Ok(())
    }

    fn disks(&mut self, setting: &Setting) -> Result<Vec<Disk>> {
        let mut disks = Vec::new();
        let strings = self.strings(setting)?;
        if strings.len() > MAX_DISKS {
            return Err(self.error(setting, format!("a guest has {MAX_DISKS} disks at the most")));
        }
        for (line, text) in strings {
            let at_line = |diagnostic: Diagnostic| Diagnostic { line, ..diagnostic };
            let (disk, warnings) =
                disk::parse(&text).map_err(|error| at_line(self.error(setting, error)))?;
            disks.extend(disk);
            for warning in warnings {
                self.add_warning(at_line(self.error(setting, warning)));
            }
        }
        Ok(disks)
    }

    fn check_drives(&self, settings: &[Setting]) -> Result<()> {
        let Some(setting) = settings.iter().find(|setting| setting.key == "disk") else {
            return Ok(());
        };
        let mut taken = BTreeSet::new();
        for Disk { device, .. } in &self.config.disks {
            if !taken.insert(device.index) {
                // `xvda` is the drive `hda`, too.
                let ide_only = device.ide_only || device.ide_position().is_some();
                let name = VirtualDevice { ide_only, ..*device }.name();
                return Err(self.error(setting, format!("two disks are the drive {name}")));
            }
        }
        Ok(())
    }

    fn vifs(&mut self, setting: &Setting) -> Result<Vec<Vif>> {
        let mut vifs = Vec::new();
        let strings = self.strings(setting)?;
        if strings.len() > MAX_VIFS {
            self.warn(setting, format!("a guest has at most {MAX_VIFS} network cards"));
        }
        for (line, text) in strings.into_iter().take(MAX_VIFS) {
            let parsed = vif::parse(&text);
            let (vif, problems) =
                parsed.map_err(|problem| Diagnostic { line, ..self.error(setting, problem) })?;
            vifs.push(vif);
            for problem in problems {
                self.add_warning(Diagnostic { line, ..self.error(setting, problem) });
            }
        }
        Ok(vifs)
    }

    /// Names the cards that are asked for, and that there cannot be.
    fn warn_of_cards(&mut self, setting: &Setting) {
        let vifs = &self.config.vifs;
        let model = vifs.iter().filter(|vif| !vif.is_pv_alone).find_map(|vif| vif.model.clone());
        if !self.config.xen_platform_pci && !vifs.is_empty() {
            let lack = "has no effect: without xen_platform_pci the guest has no network card";
            self.warn(setting, lack);
        } else if let Some(model) = model {
            let lack = format!("there is no {model}: the guest needs PV drivers for its card");
            self.warn(setting, lack);
        }
    }

    fn vnc(&mut self, settings: &[Setting]) -> Result<()> {
        let mut vnc = Vnc::default();
        let mut wanted = false;
        for setting in settings {
            match setting.key.as_str() {
                "vnc" => wanted = self.flag(setting)?,
                "vnclisten" => vnc.listen = Some(self.text(setting)?.to_owned()),
                "vncdisplay" => vnc.display = Some(self.number(setting, 0, 59_635)? as u32),
                "vncpasswd" => vnc.password = Some(self.text(setting)?.to_owned()),
                _ => {}
            }
        }
        self.config.vnc = wanted.then_some(vnc);
        Ok(())
    }
}

/// True for a flag that is turned off.
fn is_off(setting: &Setting) -> bool {
    match &setting.value {
        Value::Number(number) => *number == 0,
        Value::Text(text) => matches!(text.as_str(), "" | "0"),
        Value::List(list) => list.is_empty(),
    }
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
