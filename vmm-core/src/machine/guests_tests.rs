//! Several guests on a machine with one CPU: each test is the boot CPU's loop.

use super::attendant::Attendant;
use super::cpus::{CpuLoop, Cpus};
use super::fuzzing::BIOS;
use super::guests::Guests;
use super::host_disks::HostDisks;
use crate::backend::exit::Exit;
use crate::host::platform::{BootInputs, Module};
use crate::test_backend::{TestBackend, TestCpu};
use crate::test_platform::TestPlatform;
use crate::vm::Stop;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use config::cpus::VcpuCpus;
use config::{CommandLine, GuestConfig};
use control::host::{Host, SerialPort};
use control::mailbox::{Answer, Client, MAX_STORE_TEXT_BYTES, Request};

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

struct Bench {
    platform: &'static TestPlatform,
    cpus: &'static Cpus<TestBackend>,
    attendant: Attendant,
    guests: Guests<'static, TestBackend>,
    turns: CpuLoop<TestBackend>,
}

impl Bench {
    fn new() -> Self {
        Self::with_modules(&[])
    }

    fn with_modules(modules: &[Module]) -> Self {
        let platform = TestPlatform::leak();
        platform.advance_ns(5 * S);
        let (options, _) = CommandLine::parse("console=com1 rpc=com2");
        let cpus: &'static Cpus<TestBackend> = Box::leak(Box::new(Cpus::new(platform, &[])));
        let inputs = Box::leak(Box::new(BootInputs {
            bios: &BIOS,
            modules: modules.to_vec(),
            ..BootInputs::default()
        }));
        let attendant = Attendant::new(platform, &options);
        Self {
            platform,
            cpus,
            guests: Guests::new(platform, cpus, inputs, HostDisks::default(), &attendant),
            attendant,
            turns: CpuLoop::new(cpus),
        }
    }

    fn add(&mut self, config: GuestConfig) -> Result<u32, String> {
        self.guests.add(config, &mut self.attendant)
    }

    /// The boot CPU looks after the guests, whose virtual CPUs halt as soon as they run.
    fn attend(&mut self) -> Option<String> {
        self.guests.attend(&TestCpu::with_exit(Exit::Halt), &mut self.attendant)
    }

    /// The boot CPU's loop for `ms`.
    fn run(&mut self, ms: u64) {
        let end_tsc = self.platform.tsc() + ms * MS;
        while self.platform.tsc() < end_tsc {
            if self.cpus.take_call() {
                self.attend();
            }
            // One that is alone comes back then.
            self.cpus.call_boot_cpu_at(end_tsc);
            self.turns.turn(&TestCpu::default(), &mut self.attendant);
            self.platform.advance_ns(MS / 10);
        }
    }

    fn ask(&mut self, method: &str) {
        let call = alloc::format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\"}}\n");
        self.platform.type_at(SerialPort::Com2, call);
    }

    /// Asks with parameters, and returns the answer.
    fn call(&mut self, method: &str, params: &str) -> String {
        self.run(10);
        self.answers();
        let call = alloc::format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{params}}}\n"
        );
        self.platform.type_at(SerialPort::Com2, call);
        self.run(10);
        self.answers()
    }

    fn answers(&mut self) -> String {
        String::from_utf8(self.platform.take_sent(SerialPort::Com2)).unwrap()
    }
}

fn config(name: &str) -> GuestConfig {
    GuestConfig::new(name, 8, 1)
}

#[test]
fn a_guest_that_the_heap_has_no_room_for_is_one_line_and_leaves_nothing() {
    // One that may give pages back has lists of them.
    for (xen_platform_pci, kib) in [(false, 4096), (true, 4113)] {
        let mut bench = Bench::new();
        bench.add(GuestConfig { xen_platform_pci, ..config("g") }).unwrap();
        bench.platform.refuse_heap_after(0);
        let error = bench.attend().unwrap();
        let expected = alloc::format!("g: too little memory: {kib} KiB of");
        assert!(error.starts_with(&expected), "{error}");
        assert!(bench.guests.is_empty());
        assert!(bench.platform.grant_heap());
        let left = (bench.platform.allocated_bytes(), bench.platform.reserved_heap_bytes());
        assert_eq!(left, (0, 0));
    }
}

#[test]
fn two_guests_live_beside_each_other_and_end_each_for_itself() {
    let mut bench = Bench::new();
    bench.add(config("a")).unwrap();
    bench.add(config("b")).unwrap();
    let error = bench.add(config("b")).unwrap_err();
    assert_eq!(error, "b: there is a guest of this name already");
    bench.run(20);
    let both = bench.platform.allocated_bytes();
    bench.guests.stop("a", Stop::PowerOff);
    bench.run(20);
    let one = bench.platform.allocated_bytes();
    assert!(one > 0 && one <= both / 2 + (1 << 20), "{both} and {one} bytes");
    assert!(bench.guests.has_running());
    bench.guests.stop("b", Stop::Crash);
    bench.run(20);
    assert!(bench.guests.is_empty());
    assert_eq!(bench.platform.allocated_bytes(), 0);
}

#[test]
fn a_guest_that_is_too_large_disturbs_no_other() {
    let mut bench = Bench::new();
    bench.platform.limit_free_bytes(100 << 20);
    bench.add(config("a")).unwrap();
    bench.add(GuestConfig::new("b", 1000, 1)).unwrap();
    let error = bench.attend().unwrap();
    assert!(error.starts_with("b: memory=1000: only"), "{error}");
    bench.run(5);
    assert!(bench.guests.has_running());
}

#[test]
fn a_guest_whose_cpus_the_machine_lacks_is_not_started() {
    let mut bench = Bench::new();
    let only = |text: &str| VcpuCpus::parse(&[text.into()], false).unwrap();
    bench.add(GuestConfig { cpus: only("1-3"), ..config("a") }).unwrap();
    bench.add(GuestConfig { cpus: only("0-3"), soft_cpus: only("9"), ..config("b") }).unwrap();
    let error = bench.attend().unwrap();
    assert_eq!(error, "a: cpus: none of the machine's CPUs is left for vCPU 0");
    assert!(bench.guests.has_running());
}

#[test]
fn a_short_life_is_followed_by_a_pause_in_which_management_answers() {
    let mut bench = Bench::new();
    bench.add(config("g")).unwrap();
    bench.run(10);
    bench.guests.stop("g", Stop::Reset);
    bench.run(10);
    assert!(!bench.guests.has_running());
    bench.ask("guest.stats");
    bench.run(10);
    let answer = bench.answers();
    assert!(answer.contains("\"restarting\""), "{answer}");
    bench.run(990);
    assert!(bench.guests.has_running());
}

#[test]
fn a_long_life_is_followed_at_once() {
    let mut bench = Bench::new();
    bench.add(config("g")).unwrap();
    bench.run(1_010);
    bench.guests.stop("g", Stop::Reset);
    bench.run(5);
    assert!(bench.guests.has_running());
}

#[test]
fn a_guest_that_restarts_for_ever_can_be_ended() {
    let mut bench = Bench::new();
    bench.add(config("g")).unwrap();
    bench.run(10);
    bench.guests.stop("g", Stop::Reset);
    bench.run(10);
    bench.ask("guest.destroy");
    bench.run(10);
    assert!(bench.guests.is_empty());
    assert_eq!(bench.platform.allocated_bytes(), 0);
}

#[test]
fn a_guest_starts_when_its_delay_is_over() {
    let mut bench = Bench::new();
    bench.add(GuestConfig { autostart_delay_s: 2, ..config("g") }).unwrap();
    bench.run(1_900);
    assert!(!bench.guests.has_running() && !bench.guests.is_empty());
    bench.run(200);
    assert!(bench.guests.has_running());
}

#[test]
fn the_store_is_read_and_written() {
    let mut bench = Bench::new();
    let mut ask = |line: &str| {
        let mut words = line.split(' ').map(String::from);
        let name = words.next().unwrap();
        let machine = bench.attendant.machine.clone();
        let request = Request::Store { name, words: words.collect() };
        assert!(machine.post(Client::Prompt, request));
        bench.run(2);
        machine.take_answer(Client::Prompt).unwrap()
    };
    let text = |text: &str| Answer::Text(text.into());
    assert_eq!(ask("ls /local/domain/0"), text("domid = \"0\"\nname = \"Domain-0\"\n"));
    assert_eq!(ask("write /a/b c"), text(""));
    assert_eq!(ask("read /a/b"), text("c\n"));
    let reason = "xenstore-read: couldn't read path /none";
    assert_eq!(ask("read /none"), Answer::Failed(reason.into()));
    // A listing that no console takes as a whole ends with a sign.
    let value = "x".repeat(1000);
    for number in 0..300 {
        assert_eq!(ask(&format!("write /a/{number} {value}")), text(""));
    }
    let Answer::Text(listing) = ask("ls -f /a") else { panic!("no text") };
    assert!(listing.len() <= MAX_STORE_TEXT_BYTES && listing.len() > MAX_STORE_TEXT_BYTES - 2000);
    assert!(listing.ends_with("\"\n...\n"));
}

#[test]
fn nodes_are_watched_by_several_clients_at_once() {
    let mut bench = Bench::new();
    bench.add(config("a")).unwrap();
    assert_eq!(bench.attend(), None);
    let reserved = bench.platform.reserved_heap_bytes();
    let write = |bench: &mut Bench, path: &str| {
        let words = alloc::format!("{{\"name\":\"write\",\"words\":[\"{path}\",\"x\"]}}");
        bench.call("store.command", &words);
    };
    let of = |bench: &mut Bench, method: &str, watch: u32| {
        bench.call(method, &alloc::format!("{{\"watch\":{watch}}}"))
    };
    for number in 1..=8 {
        let answer = bench.call("store.watch", "{\"paths\":[\"/a\",\"/b\"]}");
        assert!(answer.contains(&alloc::format!("{{\"watch\":{number}}}")), "{answer}");
    }
    // Each begins with the nodes themselves.
    assert!(of(&mut bench, "store.events", 1).contains("[\"/a\",\"/b\"]"));
    assert!(of(&mut bench, "store.events", 1).contains("\"paths\":[]"));
    write(&mut bench, "/a/c");
    write(&mut bench, "/other");
    assert!(of(&mut bench, "store.events", 1).contains("\"paths\":[\"/a/c\"]"));
    assert!(of(&mut bench, "store.events", 8).contains("[\"/a\",\"/b\",\"/a/c\"]"));
    // One more than there may be: the oldest makes room.
    bench.call("store.watch", "{\"paths\":[\"/a\"]}");
    assert!(of(&mut bench, "store.events", 1).contains("there is no watch 1 any more"));
    for watch in 2..=9 {
        assert!(of(&mut bench, "store.unwatch", watch).contains("\"result\":{}"));
    }
    assert!(of(&mut bench, "store.events", 9).contains("there is no watch 9 any more"));
    let wrong = bench.call("store.watch", "{\"paths\":[\"/a\",\"//\"]}");
    assert!(wrong.contains("xenstore-watch: Unable to add watch on //"), "{wrong}");
    for (count, part) in [(32, "\"watch\":"), (33, "xenstore-watch: at most 32 paths")] {
        let paths: Vec<_> = (0..count).map(|path| alloc::format!("\"/{path}\"")).collect();
        let params = alloc::format!("{{\"paths\":[{}]}}", paths.join(","));
        let answer = bench.call("store.watch", &params);
        assert!(answer.contains(part), "{answer}");
    }
    of(&mut bench, "store.unwatch", 10);
    assert_eq!(bench.platform.reserved_heap_bytes(), reserved);
}

#[test]
fn guests_are_made_from_modules_as_they_are_asked_for() {
    let module = |name: &str, data: &'static [u8]| Module { command_line: name.into(), data };
    let mut bench = Bench::with_modules(&[
        module("a.cfg", b"type='hvm'; name='a'; memory=8; autostart_delay=60"),
        module("broken.cfg", b"name="),
        module("cd.iso", Vec::leak(vec![0; 1 << 20])),
    ]);
    bench.platform.limit_free_bytes(200 << 20);
    let mut ask = |module: &str, settings: &str| {
        let (module, settings) = (module.into(), settings.into());
        let machine = bench.attendant.machine.clone();
        assert!(machine.post(Client::Prompt, Request::Create { module, settings }));
        bench.run(2);
        machine.take_answer(Client::Prompt).unwrap()
    };
    let Answer::Created { number } = ask("a.cfg", "") else { panic!("not made") };
    let second = ask("a.cfg", "name='b'");
    // Other tests may count on at the same time.
    assert!(matches!(second, Answer::Created { number: second } if second > number), "{second:?}");
    for (name, settings, reason) in [
        ("a.cfg", "", "a: there is a guest of this name already"),
        ("broken.cfg", "", "broken.cfg:1:6: name: expected a value"),
        ("c.cfg", "", "create=c.cfg: there is no such boot module (there are [\"a.cfg\", "),
        ("a.cfg", "name='c'; memory=x", "a.cfg:2:"),
        (
            "cd.iso",
            "name='c'",
            "cd.iso:1:1: a configuration has at most 64 KiB, this file has 1024",
        ),
        ("a.cfg", "name='c'; memory=16777216", "c: memory=16777216: only "),
    ] {
        let Answer::Failed(line) = ask(name, settings) else { panic!("{name} was made") };
        assert!(line.starts_with(reason), "{line}");
    }
    assert!(bench.guests.has_running());
}

#[test]
fn virtual_cpus_and_shares_of_the_run_time_stay_through_the_next_life() {
    let mut bench = Bench::new();
    bench.add(GuestConfig { max_vcpus: 3, ..config("a") }).unwrap();
    assert_eq!(bench.attend(), None);
    let set = bench.call("guest.set_vcpus", "{\"count\":2}");
    assert!(set.contains("\"result\":{}"), "{set}");
    let set = bench.call("guest.set_share", "{\"weight\":512,\"cap\":50}");
    assert!(set.contains("\"result\":{}"), "{set}");
    for _ in 0..2 {
        let listed = bench.call("guest.list", "{}");
        assert!(
            listed.contains("\"state\":\"halted\"") && listed.contains("\"vcpus\":2"),
            "{listed}"
        );
        let share = bench.call("guest.share", "{}");
        assert!(share.contains("\"cap\":50") && share.contains("\"weight\":512"), "{share}");
        bench.guests.stop("a", Stop::Reset);
        bench.cpus.call_boot_cpu();
        bench.run(2000);
    }
}

#[test]
fn disks_are_plugged_in_and_let_go_and_the_next_life_has_what_is_left() {
    let module = |name: &str, data: &'static [u8]| Module { command_line: name.into(), data };
    let mut bench = Bench::with_modules(&[
        module("root.img", &[1; 4096]),
        module("more.img", &[2; 8192]),
        module("cd.iso", &[3; 2048]),
    ]);
    let text = "type='hvm'; name='a'; memory=8; xen_platform_pci=1; disk=['root.img,,xvda']";
    let config = GuestConfig::parse("a.cfg", text.as_bytes()).0.unwrap();
    let number = bench.add(config).unwrap();
    assert_eq!(bench.attend(), None);
    let path = |id| alloc::format!("/local/domain/0/backend/vbd/{number}/{id}");
    let listed = |bench: &mut Bench| bench.call("guest.disks", "{}");
    let reserved = bench.platform.reserved_heap_bytes();
    let attach = |bench: &mut Bench, disk: &str| {
        bench.call("guest.attach_disk", &alloc::format!("{{\"disk\":\"{disk}\"}}"))
    };
    assert!(attach(&mut bench, "more.img,,xvdb").contains("\"result\":{}"));
    assert!(bench.platform.reserved_heap_bytes() > reserved);
    let list = listed(&mut bench);
    assert!(list.contains(&path(51728)) && list.contains("\"target\":\"more.img\""), "{list}");
    assert!(list.contains("\"state\":1") && list.contains("\"ring_ref\":null"), "{list}");
    for (disk, reason) in [
        ("more.img,,xvdb", "device already exists in xenstore"),
        ("more.img,,hda", "device already exists in xenstore"),
        ("none.img,,xvdc", "there is no boot module called"),
        ("more.img,,xvd", "is not a vdev"),
        ("more.img,qcow2,xvdc", "format qcow2 is not supported"),
    ] {
        let refused = attach(&mut bench, disk);
        let end = "libxl_device_disk_add failed.";
        assert!(refused.contains(reason) && refused.contains(end), "{disk}: {refused}");
    }
    bench.platform.refuse_heap_after(2);
    let refused = attach(&mut bench, "cd.iso,,xvde,cdrom");
    assert!(refused.contains("too little memory"), "{refused}");
    bench.platform.grant_heap();
    assert!(!listed(&mut bench).contains(&path(51776)), "nothing is left of it");
    let detach = |bench: &mut Bench, params: &str| bench.call("guest.detach_disk", params);
    assert!(attach(&mut bench, "cd.iso,,xvde,cdrom").contains("\"result\":{}"));
    let refused = detach(&mut bench, "{\"vdev\":\"xvdz\"}");
    assert!(refused.contains("Error: Device xvdz not connected."), "{refused}");
    // By its number. No front end is there to be asked.
    assert!(detach(&mut bench, "{\"vdev\":\"51712\"}").contains("\"result\":{}"));
    assert!(!listed(&mut bench).contains("root.img"));
    bench.guests.stop("a", Stop::Reset);
    bench.cpus.call_boot_cpu();
    bench.run(2000);
    let list = listed(&mut bench);
    assert!(list.contains(&path(51728)) && list.contains(&path(51776)), "{list}");
    assert!(!list.contains(&path(51712)), "{list}");
    assert!(detach(&mut bench, "{\"vdev\":\"xvdb\",\"force\":true}").contains("\"result\":{}"));
    assert!(!listed(&mut bench).contains("more.img"));
}

#[test]
fn cards_are_plugged_in_and_let_go_and_the_next_life_has_what_is_left() {
    let mut bench = Bench::with_modules(&[]);
    let text = "type='hvm'; name='a'; memory=8; xen_platform_pci=1; vif=['bridge=lan']";
    let config = GuestConfig::parse("a.cfg", text.as_bytes()).0.unwrap();
    let number = bench.add(config).unwrap();
    assert_eq!(bench.attend(), None);
    let path = |id| alloc::format!("/local/domain/0/backend/vif/{number}/{id}");
    let listed = |bench: &mut Bench| bench.call("guest.cards", "{}");
    let reserved = bench.platform.reserved_heap_bytes();
    let attach = |bench: &mut Bench, card: &str| {
        bench.call("guest.attach_card", &alloc::format!("{{\"card\":\"{card}\"}}"))
    };
    assert!(attach(&mut bench, "mac=02:00:00:00:00:01,bridge=wan").contains("\"result\":{}"));
    assert!(bench.platform.reserved_heap_bytes() > reserved);
    let list = listed(&mut bench);
    assert!(list.contains(&path(1)) && list.contains("\"bridge\":\"wan\""), "{list}");
    let refused = attach(&mut bench, "rate=fast");
    let words =
        "Domain 1:\\\"fast\\\" is no rate, as 10Mb/s or 250KB/s@20ms\\nlibxl_device_nic_add";
    assert!(
        refused.contains(&words.replace("Domain 1", &alloc::format!("Domain {number}"))),
        "{refused}"
    );
    bench.platform.refuse_heap_after(2);
    let refused = attach(&mut bench, "");
    assert!(refused.contains("too little memory"), "{refused}");
    bench.platform.grant_heap();
    assert!(!listed(&mut bench).contains(&path(2)), "nothing is left of it");
    let detach = |bench: &mut Bench, device: &str| {
        bench.call("guest.detach_card", &alloc::format!("{{\"device\":\"{device}\"}}"))
    };
    let refused = detach(&mut bench, "7");
    assert!(refused.contains("Unknown device 7."), "{refused}");
    // No front end is there to be asked.
    assert!(detach(&mut bench, "0").contains("\"result\":{}"));
    assert!(!listed(&mut bench).contains(&path(0)));
    bench.guests.stop("a", Stop::Reset);
    bench.cpus.call_boot_cpu();
    bench.run(2000);
    let list = listed(&mut bench);
    assert!(list.contains(&path(1)) && !list.contains(&path(0)), "{list}");
    assert!(detach(&mut bench, "02:00:00:00:00:01").contains("\"result\":{}"));
    assert!(listed(&mut bench).contains("\"result\":[]"));
    assert!(attach(&mut bench, "").contains("\"result\":{}"));
    assert!(listed(&mut bench).contains(&path(0)));
}

#[test]
fn a_guest_has_so_many_disks_and_one_without_pv_devices_gets_no_more() {
    let module = Module { command_line: "more.img".into(), data: &[2; 512] };
    let mut bench = Bench::with_modules(&[module]);
    let add = |bench: &mut Bench, name: &str, has_pv: bool| {
        bench.add(GuestConfig { xen_platform_pci: has_pv, ..config(name) }).unwrap();
        assert_eq!(bench.attend(), None);
    };
    add(&mut bench, "a", true);
    for disk in 0..33 {
        let params = alloc::format!("{{\"disk\":\"more.img,,d{disk},ro\"}}");
        let answer = bench.call("guest.attach_disk", &params);
        match disk {
            0..32 => assert!(answer.contains("\"result\":{}"), "{disk}: {answer}"),
            _ => assert!(answer.contains("a guest has 32 disks at the most"), "{answer}"),
        }
    }
    add(&mut bench, "b", false);
    let params = "{\"guest\":\"b\",\"disk\":\"more.img,,xvdb\"}";
    let refused = bench.call("guest.attach_disk", params);
    assert!(refused.contains("xen_platform_pci=0"), "{refused}");
}

#[test]
fn discs_are_changed_in_every_drive_and_stay_through_the_next_life() {
    let module = |name: &str, data: &'static [u8]| Module { command_line: name.into(), data };
    let mut bench = Bench::with_modules(&[
        module("a.iso", &[1; 4096]),
        module("b.iso", &[2; 10240]),
        module("disk.img", &[3; 512]),
    ]);
    for (name, has_pv) in [("pv", 1), ("ide", 0)] {
        let text = alloc::format!(
            "type='hvm'; name='{name}'; memory=8; xen_platform_pci={has_pv}\n\
             disk=['a.iso,,hdc:cdrom', ',,hdd:cdrom', 'disk.img,,hda']"
        );
        let config = GuestConfig::parse("a.cfg", text.as_bytes()).0.unwrap();
        let number = bench.add(config).unwrap();
        assert_eq!(bench.attend(), None);
        let change = |bench: &mut Bench, method: &str, params: &str| {
            let params = alloc::format!("{{\"guest\":\"{name}\",{params}}}");
            bench.call(method, &params)
        };
        let read = |bench: &mut Bench, id: u32, node: &str| {
            let back = alloc::format!("/local/domain/0/backend/vbd/{number}/{id}");
            let words = alloc::format!("\"name\":\"read\",\"words\":[\"{back}/{node}\"]");
            bench.call("store.command", &alloc::format!("{{{words}}}"))
        };
        for (device, target) in [("hdc", "b.iso"), ("5696", "a.iso")] {
            let params = alloc::format!("\"vdev\":\"{device}\",\"target\":\"{target}\"");
            let answer = change(&mut bench, "guest.insert_cd", &params);
            assert!(answer.contains("\"result\":{}"), "{answer}");
        }
        for life in 0..2 {
            let list = change(&mut bench, "guest.disks", "\"x\":0");
            assert!(list.contains("\"target\":\"b.iso\",\"vdev\":\"hdc\""), "{list}");
            assert!(list.contains("\"target\":\"a.iso\",\"vdev\":\"hdd\""), "{list}");
            if has_pv == 1 {
                assert!(read(&mut bench, 5632, "params").contains("b.iso"), "{life}");
                assert!(read(&mut bench, 5632, "sectors").contains("\"20\\n\""), "{life}");
                assert!(read(&mut bench, 5696, "state").contains("\"2\\n\""), "{life}");
            }
            bench.guests.stop(name, Stop::Reset);
            bench.cpus.call_boot_cpu();
            bench.run(2000);
        }
        let answer = change(&mut bench, "guest.eject_cd", "\"vdev\":\"hdc\"");
        assert!(answer.contains("\"result\":{}"), "{answer}");
        if has_pv == 1 {
            assert!(read(&mut bench, 5632, "state").contains("\"1\\n\""), "no disc, no offer");
        }
        for (params, reason) in [
            ("\"vdev\":\"hda\",\"target\":\"b.iso\"", "Virtual device not found"),
            ("\"vdev\":\"xvdf\",\"target\":\"b.iso\"", "Virtual device not found"),
            ("\"vdev\":\"hdc\",\"target\":\"c.iso\"", "there is no boot module called"),
        ] {
            let answer = change(&mut bench, "guest.insert_cd", params);
            assert!(answer.contains(reason), "{answer}");
        }
    }
}

#[test]
fn network_cards_are_listed_through_all_lives() {
    let mut bench = Bench::new();
    let text = "type='hvm'; name='a'; memory=8; xen_platform_pci=1\n\
                vif=['mac=00:16:3e:01:02:03,bridge=lan', '']";
    let config = GuestConfig::parse("a.cfg", text.as_bytes()).0.unwrap();
    let number = bench.add(config).unwrap();
    assert_eq!(bench.attend(), None);
    let first = bench.call("guest.cards", "{}");
    for part in [
        "\"mac\":\"00:16:3e:01:02:03\"",
        "\"bridge\":\"lan\"",
        "\"bridge\":\"xenbr0\"",
        "\"state\":1",
        "\"event_channel\":null",
        "\"received\":{\"bytes\":0,\"dropped\":0,\"frames\":0}",
        &alloc::format!("/local/domain/0/backend/vif/{number}/1"),
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    bench.guests.stop("a", Stop::Reset);
    bench.cpus.call_boot_cpu();
    bench.run(2000);
    assert_eq!(bench.call("guest.cards", "{}"), first);
}

#[test]
fn a_disk_that_is_let_go_late_is_gone_as_well() {
    let module = Module { command_line: "more.img".into(), data: &[2; 512] };
    let mut bench = Bench::with_modules(&[module]);
    let text = "type='hvm'; name='a'; memory=8; xen_platform_pci=1\n\
                disk=['more.img,,xvda', 'more.img,,xvdb', 'more.img,,xvdc']";
    let config = GuestConfig::parse("a.cfg", text.as_bytes()).0.unwrap();
    bench.add(config).unwrap();
    assert_eq!(bench.attend(), None);
    let names = |bench: &mut Bench| {
        let list = bench.call("guest.disks", "{}");
        ["xvda", "xvdb", "xvdc"].map(|name| list.contains(name))
    };
    bench.guests.let_disk_go("a", 51712);
    assert_eq!(names(&mut bench), [false, true, true]);
    bench.guests.let_disk_go("a", 51728);
    bench.guests.stop("a", Stop::Reset);
    bench.cpus.call_boot_cpu();
    bench.run(2000);
    assert_eq!(names(&mut bench), [false, false, true]);
}
