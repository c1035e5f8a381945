//! The tree of a guest, as the guest finds it.

use super::*;
use crate::store::tree::{self, Channel, Device, Guest};

const UUID: &str = "e0f846bf-e571-4e15-bc9d-564537bbf4fb";

fn guest() -> Guest<'static> {
    Guest {
        domain: 1,
        name: "debian",
        uuid: UUID,
        static_max_kib: 524_288,
        target_kib: 516_096,
        videoram_kib: 8192,
        max_vcpus: 2,
        vcpus: 1,
        store: Channel { gfn: 0xf_effc, port: 1 },
        console: Channel { gfn: 0xf_efff, port: 2 },
        platform: &[("acpi", "1")],
    }
}

fn with_guest() -> Store {
    let mut store = Store::default();
    tree::begin(&mut store).unwrap();
    tree::create(&mut store, &guest()).unwrap();
    store
}

#[test]
fn the_guest_reads_what_it_needs_and_changes_nothing_of_it() {
    let mut store = with_guest();
    for (path, value) in [
        ("vm", "/vm/e0f846bf-e571-4e15-bc9d-564537bbf4fb"),
        ("name", "debian"),
        ("domid", "1"),
        ("memory/static-max", "524288"),
        ("memory/target", "516096"),
        ("memory/videoram", "8192"),
        ("cpu/0/availability", "online"),
        ("cpu/1/availability", "offline"),
        ("store/port", "1"),
        ("store/ring-ref", "1044476"),
        ("console/port", "2"),
        ("console/ring-ref", "1044479"),
        ("console/type", "xenconsoled"),
        ("console/limit", "1048576"),
        ("console/backend", "/local/domain/0/backend/console/1/0"),
        ("control/platform-feature-xs_reset_watches", "1"),
        ("platform/acpi", "1"),
        ("/vm/e0f846bf-e571-4e15-bc9d-564537bbf4fb/name", "debian"),
        ("/local/domain/0/backend/console/1/0/state", "1"),
    ] {
        let payload = format!("{path}\0");
        assert_eq!(ask(&mut store, 1, Kind::Read, payload.as_bytes()).ok(), value, "{path}");
        assert_eq!(ask(&mut store, 1, Kind::Write, payload.as_bytes()).error(), "EACCES", "{path}");
        assert_eq!(ask(&mut store, 1, Kind::Rm, payload.as_bytes()).error(), "EACCES", "{path}");
    }
    for path in ["control/new", "device/vbd/1", "new", "/local/domain/0/new", "/tool/new"] {
        let payload = format!("{path}\0");
        assert_eq!(ask(&mut store, 1, Kind::Mkdir, payload.as_bytes()).error(), "EACCES", "{path}");
    }
}

#[test]
fn the_guest_writes_where_agents_and_drivers_do() {
    let mut store = with_guest();
    for path in ["control/shutdown", "control/sysrq", "control/feature-poweroff"] {
        let payload = format!("{path}\0");
        assert_eq!(ask(&mut store, 1, Kind::Read, payload.as_bytes()).ok(), "", "{path}");
    }
    for path in [
        "control/shutdown",
        "control/feature-balloon",
        "device/suspend/event-channel",
        "data/updated",
        "attr/eth0/ip",
        "drivers/0",
        "feature/x",
        "error/device/vbd/51712/error",
    ] {
        let payload = format!("{path}\x001");
        assert_eq!(ask(&mut store, 1, Kind::Write, payload.as_bytes()).ok(), "OK\0", "{path}");
    }
}

#[test]
fn permissions_are_those_of_libxl() {
    let mut store = with_guest();
    let device =
        Device { class: "vbd", id: 51712, front: &[("virtual-device", "51712")], back: &[] };
    tree::add_device(&mut store, 1, &device).unwrap();
    for (path, permissions) in [
        ("/vm/e0f846bf-e571-4e15-bc9d-564537bbf4fb/uuid", "n0 r1"),
        ("/local/domain/0/name", "n0"),
        ("/local/domain/1", "n0 r1"),
        ("/local/domain/1/memory/target", "n0 r1"),
        ("/local/domain/1/control", "n0 r1"),
        ("/local/domain/1/control/shutdown", "n1"),
        ("/local/domain/1/control/platform-feature-xs_reset_watches", "n0 r1"),
        ("/local/domain/1/device/suspend", "n0 r1"),
        ("/local/domain/1/device/suspend/event-channel", "n1"),
        ("/local/domain/1/data", "n1"),
        ("/local/domain/1/console/ring-ref", "n0 r1"),
        ("/local/domain/1/device/vbd", "n0 r1"),
        ("/local/domain/1/device/vbd/51712/state", "n1 r0"),
        ("/local/domain/0/backend/vbd", "n0"),
        ("/local/domain/0/backend/vbd/1", "n0"),
        ("/local/domain/0/backend/vbd/1/51712/state", "n0 r1"),
    ] {
        let entries: Vec<_> =
            store.permissions(path).unwrap().entries().map(|entry| entry.to_string()).collect();
        assert_eq!(entries.join(" "), permissions, "{path}");
    }
}

#[test]
fn another_guest_sees_nothing_of_it() {
    let mut store = with_guest();
    tree::create(&mut store, &Guest { domain: 2, uuid: "2", name: "second", ..guest() }).unwrap();
    for path in ["/local/domain/1", "/local/domain/1/name", "/local/domain/1/data", "/vm/2/none"] {
        let payload = format!("{path}\0");
        let other = if path.starts_with("/vm") { 1 } else { 2 };
        assert_eq!(ask(&mut store, other, Kind::Read, payload.as_bytes()).error(), "EACCES");
    }
}

#[test]
fn a_device_is_found_from_both_ends() {
    let mut store = with_guest();
    ask(&mut store, 1, Kind::Watch, b"device\0t\0").ok();
    events(&mut store, 1);
    let front = [("virtual-device", "51712"), ("device-type", "disk")];
    let back = [("dev", "xvda"), ("mode", "w")];
    let device = Device { class: "vbd", id: 51712, front: &front, back: &back };
    tree::add_device(&mut store, 1, &device).unwrap();
    let events = events(&mut store, 1);
    assert_eq!(events.last().unwrap(), "device/vbd/51712/state\0t\0");
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"device\0").ok(), "suspend\0vbd\0");
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"device/vbd\0").ok(), "51712\0");
    let names = "backend\0backend-id\0virtual-device\0device-type\0state\0";
    assert_eq!(ask(&mut store, 1, Kind::Directory, b"device/vbd/51712\0").ok(), names);
    let backend = ask(&mut store, 1, Kind::Read, b"device/vbd/51712/backend\0").ok();
    assert_eq!(backend, "/local/domain/0/backend/vbd/1/51712");
    let state = format!("{backend}/state\0");
    assert_eq!(ask(&mut store, 1, Kind::Read, state.as_bytes()).ok(), "1");
    assert_eq!(ask(&mut store, 1, Kind::Write, state.as_bytes()).error(), "EACCES");
    assert_eq!(ask(&mut store, 1, Kind::Write, b"device/vbd/51712/state\x003").ok(), "OK\0");
    assert_eq!(store.read(&format!("{backend}/frontend-id")).unwrap(), b"1");
    // The same again begins anew.
    tree::add_device(&mut store, 1, &device).unwrap();
    assert_eq!(ask(&mut store, 1, Kind::Read, b"device/vbd/51712/state\0").ok(), "1");
    tree::remove_device(&mut store, 1, "vbd", 51712).unwrap();
    assert_eq!(store.read(&backend), Err(Error::NotFound));
    assert_eq!(ask(&mut store, 1, Kind::Read, b"device/vbd/51712/state\0").error(), "ENOENT");
    tree::remove_device(&mut store, 1, "vbd", 51712).unwrap();
}

#[test]
fn a_removed_guest_leaves_nothing() {
    let mut store = with_guest();
    let before: Vec<_> = ["/local/domain", "/vm"].map(|path| store.list(path).unwrap()).into();
    tree::create(&mut store, &Guest { domain: 2, uuid: "2", name: "second", ..guest() }).unwrap();
    ask(&mut store, 2, Kind::Write, b"data/a\0v").ok();
    tree::set_error(&mut store, 1, "vbd", 51712, Some("of the other")).unwrap();
    tree::set_error(&mut store, 2, "vbd", 51712, Some("why not")).unwrap();
    tree::remove(&mut store, 2, "2").unwrap();
    let after: Vec<_> = ["/local/domain", "/vm"].map(|path| store.list(path).unwrap()).into();
    assert_eq!(after, before);
    assert_eq!(store.list("/local/domain/0/backend/console").unwrap(), ["1"]);
    assert_eq!(store.list("/local/domain/0/error/backend/vbd").unwrap(), ["1"]);
    assert_eq!(store.usage(2), Usage::default());
    assert!(!store.is_introduced(2));
}

/// The requests of Linux 6.1 from its start to its disk, in their order, with its answers.
#[test]
fn linux_starts() {
    let mut store = with_guest();
    let front = [("virtual-device", "51712"), ("device-type", "disk")];
    let device = Device { class: "vbd", id: 51712, front: &front, back: &[("mode", "w")] };
    tree::add_device(&mut store, 1, &device).unwrap();
    let back = "/local/domain/0/backend/vbd/1/51712";
    let mut request = |kind, payload: &str| ask(&mut store, 1, kind, payload.as_bytes());
    assert_eq!(request(Kind::Read, "control/platform-feature-xs_reset_watches\0").ok(), "1");
    assert_eq!(request(Kind::ResetWatches, "\0").ok(), "OK\0");
    assert_eq!(request(Kind::Directory, "device\0").ok(), "suspend\0vbd\0");
    assert_eq!(request(Kind::Directory, "device/suspend\0").ok(), "event-channel\0");
    assert_eq!(request(Kind::Directory, "device/vbd\0").ok(), "51712\0");
    assert_eq!(request(Kind::Read, "device/vbd/51712/state\0").ok(), "1");
    assert_eq!(request(Kind::Read, "device/vbd/51712/backend-id\0").ok(), "0");
    assert_eq!(request(Kind::Read, "device/vbd/51712/backend\0").ok(), back);
    let token = "ffff88800321c0a8";
    let state = format!("{back}/state\0{token}\0");
    let answer = request(Kind::Watch, &state);
    assert_eq!((answer.result, answer.events), (Ok("OK\0".into()), vec![state.clone()]));
    for path in ["device", "control/shutdown", "control/sysrq", "memory/target", "cpu"] {
        let watch = format!("{path}\0{token}\0");
        let answer = request(Kind::Watch, &watch);
        assert_eq!((answer.result, answer.events), (Ok("OK\0".into()), vec![watch]));
    }
    for feature in ["poweroff", "reboot", "suspend"] {
        assert_eq!(request(Kind::Write, &format!("control/feature-{feature}\x001")).ok(), "OK\0");
    }
    // The front end's keys, which go in at once; then both ends connect.
    let id = request(Kind::TransactionStart, "\0").ok().trim_end_matches('\0').parse().unwrap();
    let directory = "/local/domain/1/device/vbd/51712";
    for (name, value) in [("ring-ref", "8"), ("event-channel", "5"), ("protocol", "x86_64-abi")] {
        let payload = format!("{directory}/{name}\0{value}");
        assert_eq!(ask_in(&mut store, 1, id, Kind::Write, payload.as_bytes()).ok(), "OK\0");
    }
    assert_eq!(ask_in(&mut store, 1, id, Kind::TransactionEnd, b"T\0").ok(), "OK\0");
    store.write(&format!("{back}/state"), b"2").unwrap();
    assert_eq!(events(&mut store, 1), [state]);
    // Asked to shut down, it takes the word away in a transaction, as the toolstack waits for.
    store.write("/local/domain/1/control/shutdown", b"poweroff").unwrap();
    assert_eq!(events(&mut store, 1), [format!("control/shutdown\0{token}\0")]);
    let id = ask(&mut store, 1, Kind::TransactionStart, b"\0").ok();
    let id = id.trim_end_matches('\0').parse().unwrap();
    let word = ask_in(&mut store, 1, id, Kind::Read, b"control/shutdown\0").ok();
    assert_eq!(word, "poweroff");
    ask_in(&mut store, 1, id, Kind::Write, b"control/shutdown\0").ok();
    ask_in(&mut store, 1, id, Kind::TransactionEnd, b"T\0").ok();
    assert_eq!(store.read("/local/domain/1/control/shutdown").unwrap(), b"");
}
