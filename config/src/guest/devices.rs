//! The settings of a guest's devices.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::values::{Result, Values};
use crate::xl_cfg::Setting;
use crate::{Diagnostic, Disk, Vif, VirtualDevice, disk, vif};

/// xl's least for the standard VGA, and default.
pub const LEAST_VIDEO_MEMORY_MIB: i64 = 16;
/// The pages of video memory are counted in 16 bits.
const MAX_VIDEO_MEMORY_MIB: i64 = 128;
/// Disks of a guest, those that are plugged in while it runs among them.
pub const MAX_DISKS: usize = 32;
/// Network cards of a guest, as QEMU has them, those that are plugged in among them.
pub const MAX_VIFS: usize = 8;

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

/// Base address registers know powers of two only; QEMU rounds up too.
pub fn video_memory_mib(values: &mut Values, setting: &Setting) -> Result<u32> {
    let wanted = values.number(setting, 0, u32::MAX.into())?;
    let mib = wanted.clamp(LEAST_VIDEO_MEMORY_MIB, MAX_VIDEO_MEMORY_MIB) as u32;
    let mib = mib.next_power_of_two();
    if i64::from(mib) != wanted {
        let limits = "a power of two from 16 to 128 MiB";
        values.warn(setting, format!("the card has {limits}: {mib} instead of {wanted}"));
    }
    Ok(mib)
}

/// The ports, by the names that xl has for what they lead to.
pub fn serial(values: &mut Values, setting: &Setting) -> Result<[Serial; 4]> {
    let mut ports = [Serial::None; 4];
    let names = values.strings(setting)?;
    if names.len() > ports.len() {
        return Err(values.error(setting, "there are at most four serial ports"));
    }
    for (port, (line, name)) in ports.iter_mut().zip(&names) {
        *port = match name.as_str() {
            "none" => Serial::None,
            "null" => Serial::Null,
            "pty" | "stdio" | "vc" => Serial::Console,
            _ => {
                let warning =
                    values.error(setting, format!("\"{name}\" is not supported, \"pty\" is used"));
                values.add_warning(Diagnostic { line: *line, ..warning });
                Serial::Console
            }
        };
    }
    Ok(ports)
}

/// The card, or the one that takes its place.
pub fn vga(values: &mut Values, setting: &Setting) -> Result<Vga> {
    match values.text(setting)? {
        "none" => Ok(Vga::None),
        "stdvga" => Ok(Vga::Standard),
        card @ ("cirrus" | "qxl") => {
            values.warn(setting, format!("{card} is not supported, stdvga is used"));
            Ok(Vga::Standard)
        }
        card => {
            Err(values.error(setting, format!("\"{card}\" is none of none, stdvga, cirrus, qxl")))
        }
    }
}

/// The firmware, or the one that takes its place.
pub fn bios(values: &mut Values, setting: &Setting) -> Result<Bios> {
    match values.text(setting)? {
        "seabios" => Ok(Bios::SeaBios),
        "ovmf" => Ok(Bios::Ovmf),
        "rombios" => {
            values.warn(setting, "rombios is not supported, seabios is used");
            Ok(Bios::SeaBios)
        }
        bios => Err(values.error(setting, format!("\"{bios}\" is none of seabios, ovmf, rombios"))),
    }
}

/// The disks and CD-ROM drives: no more than there can be.
pub fn disks(values: &mut Values, setting: &Setting) -> Result<Vec<Disk>> {
    let mut disks = Vec::new();
    let strings = values.strings(setting)?;
    if strings.len() > MAX_DISKS {
        return Err(values.error(setting, format!("a guest has {MAX_DISKS} disks at the most")));
    }
    for (line, text) in strings {
        let at_line = |diagnostic: Diagnostic| Diagnostic { line, ..diagnostic };
        let (disk, warnings) =
            disk::parse(&text).map_err(|error| at_line(values.error(setting, error)))?;
        disks.extend(disk);
        for warning in warnings {
            values.add_warning(at_line(values.error(setting, warning)));
        }
    }
    Ok(disks)
}

/// No drive may have two of the `disks`.
pub fn check_drives(values: &Values, settings: &[Setting], disks: &[Disk]) -> Result<()> {
    let Some(setting) = settings.iter().find(|setting| setting.key == "disk") else {
        return Ok(());
    };
    let mut taken = BTreeSet::new();
    for Disk { device, .. } in disks {
        if !taken.insert(device.index) {
            // `xvda` is the drive `hda`, too.
            let ide_only = device.ide_only || device.ide_position().is_some();
            let name = VirtualDevice { ide_only, ..*device }.name();
            return Err(values.error(setting, format!("two disks are the drive {name}")));
        }
    }
    Ok(())
}

/// The network cards: the first ones, if there are too many.
pub fn vifs(values: &mut Values, setting: &Setting) -> Result<Vec<Vif>> {
    let mut vifs = Vec::new();
    let strings = values.strings(setting)?;
    if strings.len() > MAX_VIFS {
        values.warn(setting, format!("a guest has at most {MAX_VIFS} network cards"));
    }
    for (line, text) in strings.into_iter().take(MAX_VIFS) {
        let parsed = vif::parse(&text);
        let (vif, problems) =
            parsed.map_err(|problem| Diagnostic { line, ..values.error(setting, problem) })?;
        vifs.push(vif);
        for problem in problems {
            values.add_warning(Diagnostic { line, ..values.error(setting, problem) });
        }
    }
    Ok(vifs)
}

/// Names the cards that are asked for, and that there cannot be.
pub fn warn_of_cards(values: &mut Values, setting: &Setting, vifs: &[Vif], has_platform: bool) {
    let model = vifs.iter().filter(|vif| !vif.is_pv_alone).find_map(|vif| vif.model.clone());
    if !has_platform && !vifs.is_empty() {
        let lack = "has no effect: without xen_platform_pci the guest has no network card";
        values.warn(setting, lack);
    } else if let Some(model) = model {
        let lack = format!("there is no {model}: the guest needs PV drivers for its card");
        values.warn(setting, lack);
    }
}

/// The server that several settings describe, if one of them asks for it.
pub fn vnc(values: &Values, settings: &[Setting]) -> Result<Option<Vnc>> {
    let mut vnc = Vnc::default();
    let mut wanted = false;
    for setting in settings {
        match setting.key.as_str() {
            "vnc" => wanted = values.flag(setting)?,
            "vnclisten" => vnc.listen = Some(values.text(setting)?.to_owned()),
            "vncdisplay" => vnc.display = Some(values.number(setting, 0, 59_635)? as u32),
            "vncpasswd" => vnc.password = Some(values.text(setting)?.to_owned()),
            _ => {}
        }
    }
    Ok(wanted.then_some(vnc))
}
