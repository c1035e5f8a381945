//! The keys of xl.cfg(5), and those of xm's files: which have an effect, and what happens instead
//! of the others.

use alloc::vec::Vec;

/// The keys that are read.
pub const READ: &[&str] = &[
    "acpi",
    "apic",
    "autostart",
    "autostart_delay",
    "autostart_order",
    "bios",
    "boot",
    "builder",
    "cap",
    "cpu_weight",
    "cpus",
    "cpus_soft",
    "disk",
    "hpet",
    "localtime",
    "maxmem",
    "maxvcpus",
    "memory",
    "ms_vm_genid",
    "name",
    "nx",
    "on_crash",
    "on_poweroff",
    "on_reboot",
    "on_watchdog",
    "pae",
    "rtc_timeoffset",
    "serial",
    "stdvga",
    "type",
    "uuid",
    "vcpus",
    "vga",
    "videoram",
    "vif",
    "vnc",
    "vncdisplay",
    "vnclisten",
    "vncpasswd",
    "xen_platform_pci",
];

/// Where the guest's screen is seen.
pub const SCREEN: &str =
    "the machine's display shows the guest's screen, and the management port sends it (screen.png)";
const BOOT_LOADER: &str =
    "the guest's BIOS boots a disk or CD with the boot loader on it, which loads the kernel";
const KERNEL_COMMAND_LINE: &str =
    "the boot loader on the guest's disk has the kernel's command line";
const NO_PASSTHROUGH: &str = "the machine's devices cannot be given to a guest yet";
const NO_USB: &str = "the guest has a PS/2 keyboard and mouse, and no USB";
const OWN_DEVICES: &str = "the devices are the hypervisor's own, and no program beside it";
const ONE_POOL: &str =
    "guests run on all of the machine's CPUs, or those that cpus names, by one scheduler";
const NESTED_PAGING: &str = "guest memory is all there from the start, by nested paging";
const REAL_TIME: &str = "timers and TSC run as on a real PC";
const CPUID: &str = "the guest sees the machine's processor as docs/cpuid.md says";
const FIXED_XEN_INTERFACE: &str = "what a guest finds of Xen is fixed, see docs/xen.md";
const FIRMWARE: &str = "SeaBIOS is the firmware, with its own tables";
const OTHER_TYPES: &str = "it is for PV or ARM guests";

/// Keys that are known and ignored, by what happens instead.
const IGNORED: &[(&str, &[&str])] = &[
    (BOOT_LOADER, &["bootloader", "bootloader_args", "kernel", "ramdisk"]),
    (KERNEL_COMMAND_LINE, &["cmdline", "extra", "root"]),
    (
        "the guest's own kernel command line names its NFS root and addresses",
        &["nfs_server", "nfs_root", "ip", "netmask", "gateway", "hostname", "dhcp", "interface"],
    ),
    (
        SCREEN,
        &[
            "display",
            "gfx_passthru",
            "keymap",
            "nographic",
            "opengl",
            "sdl",
            "spice",
            "spiceagent_mouse",
            "spice_clipboard_sharing",
            "spicedisable_ticketing",
            "spice_image_compression",
            "spicehost",
            "spicepasswd",
            "spiceport",
            "spice_streaming_video",
            "spicetls_port",
            "spiceusbredirection",
            "spicevdagent",
            "vfb",
            "vncconsole",
            "vncunused",
            "vncviewer",
            "xauthority",
        ],
    ),
    (
        NO_PASSTHROUGH,
        &[
            "device_tree",
            "dtdev",
            "iomem",
            "ioports",
            "irqs",
            "passthrough",
            "pci",
            "pci_msitranslate",
            "pci_permissive",
            "pci_power_mgmt",
            "pci_seize",
            "rdm",
            "rdm_mem_boundary",
            "tpm",
            "vtpm",
        ],
    ),
    (NO_USB, &["usb", "usbctrl", "usbdev", "usbdevice", "usbversion", "vkb", "vkb_device"]),
    ("the guest has no sound", &["audio", "soundhw", "vsnd"]),
    (
        OWN_DEVICES,
        &[
            "device_model",
            "device_model_args",
            "device_model_args_hvm",
            "device_model_args_pv",
            "device_model_override",
            "device_model_stubdomain_override",
            "device_model_user",
            "device_model_version",
            "dm_restrict",
            "fda",
            "fdb",
            "hdtype",
            "parallel",
            "stubdomain_cmdline",
            "stubdomain_kernel",
            "stubdomain_memory",
            "stubdomain_ramdisk",
        ],
    ),
    (ONE_POOL, &["cpu", "pool", "sched", "vnuma"]),
    (
        NESTED_PAGING,
        &[
            "hap",
            "mmio_hole",
            "oos",
            "shadow_memory",
            "superpages",
            "suppress_spurious_page_faults",
            "vm_paging",
        ],
    ),
    (REAL_TIME, &["timer_mode", "tsc_mode", "vpt_align"]),
    (
        CPUID,
        &[
            "altp2m",
            "altp2mhvm",
            "cpuid",
            "monitor",
            "msr_relaxed",
            "nestedhvm",
            "viridian",
            "vmtrace_buf_kb",
            "vpmu",
        ],
    ),
    (
        FIXED_XEN_INTERFACE,
        &[
            "argo",
            "channel",
            "console",
            "device_model_stubdomain_seclabel",
            "driver_domain",
            "init_seclabel",
            "irq",
            "max_event_channels",
            "max_grant_frames",
            "max_grant_version",
            "max_maptrack_frames",
            "nomigrate",
            "p9",
            "pvcalls",
            "seclabel",
            "ssidref",
            "vdispl",
            "vif2",
            "virtio",
            "vscsi",
            "xend_suspend_evtchn_compat",
            "xen_platform_pci_bar_uc",
        ],
    ),
    (
        FIRMWARE,
        &[
            "acpi_firmware",
            "acpi_laptop_slate",
            "acpi_s3",
            "acpi_s4",
            "bios_path_override",
            "firmware",
            "firmware_override",
            "hvmloader",
            "loader",
            "smbios",
            "smbios_firmware",
            "system_firmware",
        ],
    ),
    (
        OTHER_TYPES,
        &[
            "e820_host",
            "features",
            "gic_version",
            "nr_spis",
            "pv",
            "pvh",
            "pvshim",
            "pvshim_cmdline",
            "pvshim_extra",
            "pvshim_path",
            "sve",
            "tee",
            "vuart",
        ],
    ),
];

/// The behaviour in place of the one that a known key asks for; `None` if there is no such key.
pub fn instead(key: &str) -> Option<&'static str> {
    let (advice, _) = IGNORED.iter().find(|(_, keys)| keys.contains(&key))?;
    Some(advice)
}

/// The known key that `key` most resembles, if a slip or two of the fingers lie between them.
pub fn nearest(key: &str) -> Option<&'static str> {
    const MAX_LENGTH: usize = 32;
    if key.len() > MAX_LENGTH {
        return None;
    }
    let known = READ.iter().chain(IGNORED.iter().flat_map(|(_, keys)| *keys));
    let (distance, nearest) =
        known.map(|known| (distance(key, known), *known)).min_by_key(|(distance, _)| *distance)?;
    // Of a short word, a letter or two are most of it.
    let most = (key.len() / 3).min(2);
    (distance <= most).then_some(nearest)
}

/// Letters to insert, delete, replace or swap with the next (the optimal string alignment
/// distance).
fn distance(from: &str, to: &str) -> usize {
    let (from, to) = (from.to_ascii_lowercase().into_bytes(), to.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut current = Vec::from([row + 1]);
        for (column, other) in to.iter().enumerate() {
            let replaced = above[column] + usize::from(letter != other);
            let mut least = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = core::mem::replace(&mut above, current);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_listed_once() {
        let mut keys: Vec<&str> =
            IGNORED.iter().flat_map(|(_, keys)| *keys).chain(READ).copied().collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn mistakes_are_told_from_other_words() {
        for (written, meant) in [
            ("memroy", Some("memory")),
            ("Memory", Some("memory")),
            ("vcpu", Some("vcpus")),
            ("on_poweof", Some("on_poweroff")),
            ("disks", Some("disk")),
            ("vnc_listen", Some("vnclisten")),
            ("frobnicate", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written), meant, "{written}");
        }
        assert_eq!(nearest(&"m".repeat(1000)), None);
    }

    #[test]
    fn distances_are_symmetric() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "acb", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected));
        }
    }
}
