use super::values::MAX_WARNINGS;
use super::*;
use crate::DiskKind;
use alloc::string::ToString;
use proptest::prelude::*;

fn parse(text: &str) -> (GuestConfig, Vec<String>) {
    let (config, warnings) = GuestConfig::parse("g.cfg", text.as_bytes());
    (config.unwrap(), warnings.iter().map(ToString::to_string).collect())
}

/// The error of a file that is right but for `text`, at line 2.
fn error(text: &str) -> String {
    whole_error(&alloc::format!("type='hvm'; name='g'; memory=64\n{text}"))
}

fn whole_error(text: &str) -> String {
    GuestConfig::parse("g.cfg", text.as_bytes()).0.unwrap_err().to_string()
}

#[test]
fn an_existing_file_is_read_unchanged() {
    // A file as Xen's own examples and installers' guides write it.
    let (config, warnings) = parse(
        r#"
# HVM guest
type = "hvm"
name = "debian"
uuid = "11223344-5566-7788-99aa-bbccddeeff00"
memory = 1024
maxmem = 2048
vcpus = 2
vif = [ 'mac=00:16:3e:01:02:03,bridge=xenbr0', '' ]
disk = [
    '/images/debian.img,raw,xvda,rw',
    'file:/isos/debian.iso,hdc:cdrom,r',
]
boot = "dc"
serial = 'pty'
vga = "stdvga"
videoram = 32
vnc = 1
vnclisten = '0.0.0.0'
vncdisplay = 3
sdl = 0
usbdevice = 'tablet'
on_poweroff = 'destroy'
on_reboot = "restart"
on_crash = 'preserve'
acpi=1; apic=1; pae="1"
"#,
    );
    assert_eq!(
        (config.name.as_str(), config.memory_mib, config.max_memory_mib),
        ("debian", 1024, 2048)
    );
    assert_eq!((config.vcpus, config.max_vcpus, config.boot.as_str()), (2, 2, "dc"));
    assert_eq!(config.uuid.unwrap()[..4], [0x11, 0x22, 0x33, 0x44]);
    assert_eq!(config.serial, [Serial::Console, Serial::None, Serial::None, Serial::None]);
    assert_eq!((config.vga, config.video_memory_mib), (Vga::Standard, 32));
    assert_eq!(config.on_crash, Action::Preserve);
    assert_eq!(config.vifs.len(), 2);
    assert_eq!(config.vnc.unwrap().display, Some(3));
    let [disk, cd] = &config.disks[..] else { panic!("{:?}", config.disks) };
    assert_eq!((disk.kind, disk.read_only, disk.device.index), (DiskKind::HardDisk, false, 0));
    assert_eq!((cd.kind, cd.read_only, cd.device.index), (DiskKind::CdRom, true, 2));
    assert_eq!(cd.target, "/isos/debian.iso");
    assert_eq!(
        warnings,
        [
            "g.cfg:18: vnc: has no effect yet: the machine's display shows the guest's screen, and \
             the management port sends it (screen.png)",
            "g.cfg:22: usbdevice: is not supported and ignored: the guest has a PS/2 keyboard and \
             mouse, and no USB",
            "g.cfg:25: on_crash: preserve is not supported yet, destroy is used",
        ]
    );
}

#[test]
fn defaults_are_those_of_xl() {
    let (config, warnings) = parse("type='hvm'; name='g'\nmemory='256'");
    assert_eq!(config, GuestConfig::new("g", 256, 1));
    assert_eq!(warnings, [""; 0]);
    assert!(config.xen_platform_pci);
    let (config, warnings) = parse("type='hvm'; name='g'; memory=8; xen_platform_pci=0");
    assert_eq!((config.xen_platform_pci, warnings), (false, vec![]));
    let (config, warnings) = parse("type='hvm'; name='g'\nmaxmem=512\nbios='ovmf'");
    assert_eq!(warnings, ["g.cfg:3: bios: has no effect yet"]);
    assert_eq!((config.memory_mib, config.max_memory_mib), (512, 512));
}

#[test]
fn a_guest_with_pv_drivers_finds_the_ram_that_it_may_have() {
    let text = "type='hvm'; name='g'; memory=256\nmaxmem=512\nxen_platform_pci=";
    let (config, warnings) = parse(&format!("{text}0"));
    assert_eq!(warnings, ["g.cfg:2: maxmem: has no effect without xen_platform_pci=1"]);
    assert_eq!(config.ram_mib(), 256);
    let (config, warnings) = parse(&format!("{text}1"));
    assert_eq!((config.memory_mib, config.ram_mib(), warnings.len()), (256, 512, 0));
}

#[test]
fn video_memory_has_a_size_that_a_card_can_have() {
    let mib = |number: i64| {
        let (config, warnings) =
            parse(&format!("type='hvm'; name='g'; memory=64\nvideoram={number}"));
        (config.video_memory_mib, warnings)
    };
    for number in [16, 32, 64, 128] {
        assert_eq!(mib(number), (number as u32, vec![]));
    }
    for (number, given) in
        [(0, 16), (4, 16), (8, 16), (17, 32), (100, 128), (129, 128), (1 << 31, 128)]
    {
        let warning = format!(
            "g.cfg:2: videoram: the card has a power of two from 16 to 128 MiB: {given} instead of \
             {number}"
        );
        assert_eq!(mib(number), (given, vec![warning]));
    }
}

#[test]
fn serial_ports_are_listed() {
    let (config, warnings) =
        parse("type='hvm'; name='g'; memory=2\nserial=['none',\n'tcp::4444', 'null']");
    assert_eq!(config.serial, [Serial::None, Serial::Console, Serial::Null, Serial::None]);
    assert_eq!(warnings, ["g.cfg:3: serial: \"tcp::4444\" is not supported, \"pty\" is used"]);
}

#[test]
fn actions_have_their_names() {
    let (config, warnings) = parse(
        "type='hvm'; name='g'; memory=2; on_poweroff='rename-restart'; \
         on_reboot='coredump-destroy'; on_crash='coredump-restart'; on_watchdog='restart'",
    );
    let actions = [config.on_poweroff, config.on_reboot, config.on_crash, config.on_watchdog];
    let [renamed, end, again] = [Action::RenameRestart, Action::Destroy, Action::Restart];
    assert_eq!(actions, [renamed, end, again, again]);
    assert_eq!(warnings.len(), 3);
}

#[test]
fn what_is_unsupported_is_named() {
    let (_, warnings) = parse(
        "type='hvm'; name='g'; \
         memory=2\nkernel='/vmlinuz'\nviridian=1\nacpi=0\nvga='cirrus'\nsdl=0\nlocaltime=1",
    );
    assert_eq!(
        warnings,
        [
            "g.cfg:2: kernel: is not supported and ignored: the guest's BIOS boots a disk or CD \
             with the boot loader on it, which loads the kernel",
            "g.cfg:3: viridian: is not supported and ignored: the guest sees the machine's \
             processor as docs/cpuid.md says",
            "g.cfg:4: acpi: cannot be turned off and stays on",
            "g.cfg:5: vga: cirrus is not supported, stdvga is used",
            "g.cfg:7: localtime: has no effect yet",
        ]
    );
    assert_eq!(
        parse("type='hvm'; name='g'; memory=2; vga='none'").1,
        ["g.cfg:1: vga: has no effect yet"]
    );
}

#[test]
fn errors_name_file_line_and_key() {
    for (text, expected) in [
        ("vcpus='many'", "g.cfg:2: vcpus: must be a number"),
        ("vcpus=0", "g.cfg:2: vcpus: must be from 1 to 128, not 0"),
        ("maxvcpus=2; vcpus=4", "g.cfg: maxvcpus is less than vcpus"),
        ("maxmem=32", "g.cfg: maxmem is less than memory"),
        ("memory=-1", "g.cfg:2: memory: must be from 1 to 16777216, not -1"),
        ("memory=1", "g.cfg:2: memory: must be at least 2, not 1: the firmware needs that much"),
        ("maxmem=1", "g.cfg:2: maxmem: must be at least 2, not 1: the firmware needs that much"),
        ("name=7", "g.cfg:2: name: must be a string in quotes, not a number"),
        ("name='a/b'", "g.cfg:2: name: must not be empty, nor contain \"/\" or control characters"),
        ("type='xen'", "g.cfg:2: type: \"xen\" is none of hvm, pv, pvh"),
        ("type=1", "g.cfg:2: type: must be a string in quotes, not a number"),
        ("boot='x'", "g.cfg:2: boot: \"x\" is none of a, c, d, n"),
        ("hpet=2", "g.cfg:2: hpet: must be 0 or 1"),
        ("uuid='12'", "g.cfg:2: uuid: \"12\" is not a UUID"),
        ("ms_vm_genid='new'", "g.cfg:2: ms_vm_genid: must be \"generate\" or \"none\""),
        ("disk=[\n'x,raw,hd7q']", "g.cfg:3: disk: \"hd7q\" is not a vdev (such as hda)"),
        ("disk=[\n3]", "g.cfg:3: disk: must be a list of strings in quotes"),
        ("disk=['x,,hda',\n'y,,xvda']", "g.cfg:2: disk: two disks are the drive hda"),
        ("disk=['x,,xvde',\n'y,,xvde']", "g.cfg:2: disk: two disks are the drive xvde"),
        ("disk=['x,,xvdad',\n'y,,d29']", "g.cfg:2: disk: two disks are the drive xvdad"),
        ("vga='voodoo'", "g.cfg:2: vga: \"voodoo\" is none of none, stdvga, cirrus, qxl"),
        (
            "serial=['none','none','none','none','none']",
            "g.cfg:2: serial: there are at most four serial ports",
        ),
        ("vnc=1\nvncdisplay='x'", "g.cfg:3: vncdisplay: must be a number"),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    assert_eq!(whole_error("memory=2"), "g.cfg: no name is given: add name=\"...\"");
    assert_eq!(whole_error("name='g'"), "g.cfg: no memory is given: add memory=MIB");
}

#[test]
fn a_guest_has_no_more_disks_than_can_be_plugged_in() {
    let disks = |count: u32| {
        let disks: Vec<String> = (0..count).map(|place| alloc::format!("'x,,d{place}'")).collect();
        alloc::format!("name='g'\nmemory=8\ndisk=[{}]", disks.join(","))
    };
    assert_eq!(parse(&disks(32)).0.disks.len(), 32);
    assert_eq!(whole_error(&disks(33)), "g.cfg:3: disk: a guest has 32 disks at the most");
}

#[test]
fn mistakes_are_told_from_known_keys() {
    let (_, warnings) = parse("type='hvm'; name='g'; memory=2\nvcpu=2\nfrobnicate=1\nsoundhw=''");
    assert_eq!(
        warnings,
        [
            "g.cfg:2: vcpu: is not supported and ignored: xl has no such key; is vcpus meant?",
            "g.cfg:3: frobnicate: is not supported and ignored: xl has no such key",
        ]
    );
    for key in keys::READ {
        let (_, warnings) = GuestConfig::parse("g.cfg", alloc::format!("{key}=1").as_bytes());
        let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert!(!lines.concat().contains("is not supported and ignored"), "{lines:?}");
    }
}

#[test]
fn warnings_are_bounded() {
    let text: String = (0..1000).map(|number| alloc::format!("k{number}='\\n\x1b['\n")).collect();
    let (_, warnings) = parse(&alloc::format!("type='hvm'; name='g'; memory=2\n{text}"));
    assert_eq!(warnings.len(), MAX_WARNINGS + 1);
    assert_eq!(
        warnings[MAX_WARNINGS],
        alloc::format!("g.cfg: {} more warnings are left out", 1000 - MAX_WARNINGS)
    );
    // One of another kind has no more room.
    let full: Vec<&str> = text.lines().take(MAX_WARNINGS).chain(["viridian=1"]).collect();
    let (_, warnings) =
        parse(&alloc::format!("type='hvm'; name='g'; memory=2\n{}", full.join("\n")));
    assert_eq!(warnings.len(), MAX_WARNINGS + 1);
    assert_eq!(warnings[MAX_WARNINGS], "g.cfg: 1 more warnings are left out");
    let (result, _) = GuestConfig::parse("g.cfg", &alloc::vec![b'a'; 70_000]);
    assert_eq!(
        result.unwrap_err().to_string(),
        "g.cfg:1:1: a configuration has at most 64 KiB, this file has 69"
    );
    let long = alloc::format!("a=\n{}", "b".repeat(60_000));
    assert!(error(&alloc::format!("boot='\x1b{}'", "a".repeat(50_000))).len() < 1000);
    assert!(whole_error(&long).len() < 1000);
}

proptest! {
    /// For any values, parsing ends in a sane guest or in an error that names its line.
    #[test]
    fn random_values_give_a_sane_guest_or_an_error(
        settings in prop::collection::vec(
            (
                prop::sample::select(keys::READ),
                "'[a-z0-9,=:/ -]{0,20}'|-?[0-9]{1,12}|\
                 \\['[a-z,=:]{0,12}'(, 'x,raw,hd[a-f],ro')?\\]",
            ),
            0..10,
        ),
    ) {
        let lines: Vec<String> =
            settings.iter().map(|(key, value)| alloc::format!("{key}={value}")).collect();
        match GuestConfig::parse("g.cfg", lines.join("\n").as_bytes()).0 {
            Ok(config) => {
                prop_assert!(!config.name.is_empty());
                let memory_mib = LEAST_MEMORY_MIB..=config.max_memory_mib;
                prop_assert!(memory_mib.contains(&config.memory_mib));
                prop_assert!((1..=MAX_VCPUS).contains(&config.vcpus));
                prop_assert!(config.disks.iter().all(|disk| disk.device.ide_position().is_some()));
            }
            Err(error) => {
                prop_assert!(error.line as usize <= lines.len().max(1));
                prop_assert!(!error.message.is_empty());
            }
        }
    }
}

#[test]
fn cards_are_for_pv_drivers() {
    let file = |pci: u8, vif: &str| {
        format!("type='hvm'; name='g'; memory=8; xen_platform_pci={pci}\nvif=[{vif}]")
    };
    let (config, warnings) = parse(&file(1, "'bridge=lan', 'model=e1000,type=vif'"));
    let bridges: Vec<_> = config.vifs.iter().map(|vif| vif.bridge.as_str()).collect();
    assert_eq!((bridges.as_slice(), warnings.as_slice()), (&["lan", "xenbr0"][..], &[][..]));
    let lack = "g.cfg:2: vif: there is no e1000: the guest needs PV drivers for its card";
    assert_eq!(parse(&file(1, "'', 'model=e1000'")).1, [lack]);
    let lack =
        "g.cfg:2: vif: has no effect: without xen_platform_pci the guest has no network card";
    assert_eq!(parse(&file(0, "'model=e1000'")).1, [lack]);
    assert_eq!(parse(&file(0, "")).1, [""; 0]);
    let (config, warnings) = parse(&file(1, "'', '', '', '', '', '', '', '', ''"));
    assert_eq!((config.vifs.len(), warnings.len()), (8, 1));
    assert_eq!(warnings, ["g.cfg:2: vif: a guest has at most 8 network cards"]);
    // A filter that is not understood would let all through.
    let (config, _) = GuestConfig::parse("g.cfg", file(1, "'ip=10.0.0'").as_bytes());
    let error = config.unwrap_err().to_string();
    assert_eq!(error, "g.cfg:2: vif: \"10.0.0\" is no address, as 10.0.0.1 or 10.0.0.0/24");
}
