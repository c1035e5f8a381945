//! Several guests.

use super::*;
use control::cards::{CardFacts, CardTraffic};
use control::disks::{DiskChange, DiskFacts};
use control::guest::PvDrivers;
use control::host::InputEvent;
use control::mailbox::{MAX_STORE_TEXT_BYTES, WatchRequest};
use control::output::OutputRing;
use control::scheduling::VcpuState;
use core::sync::atomic::{AtomicUsize, Ordering};
use devices::console::ByteSink;
use serde_json::{Value, json};
use std::sync::Mutex;

/// A machine, the consoles and guests called `one`, `two`, ...
pub struct Several {
    pub host: &'static TestHost,
    pub consoles: Consoles,
    pub guests: Vec<(TestGuest, Control)>,
    machine: Arc<Mailbox>,
}

const NAMES: [&str; 3] = ["one", "two", "three"];

impl Several {
    fn new(count: usize) -> Self {
        Self::on(TestHost::leak(), count)
    }

    pub fn on(host: &'static TestHost, count: usize) -> Self {
        let (options, _) = CommandLine::parse("console=com1 rpc=com2");
        let machine = Arc::new(Mailbox::of_machine());
        let consoles = Consoles::new(host, &options, machine.clone());
        let mut bench = Self { host, consoles, guests: Vec::new(), machine };
        (0..count).for_each(|_| bench.start());
        bench.attend();
        bench
    }

    /// The next guest begins, and its first life.
    fn start(&mut self) {
        let index = self.guests.len();
        let guest = TestGuest::called(index as u32 + 1, NAMES[index], 1 << 20);
        self.consoles.introduce(guest.mailbox.clone(), FACTS);
        self.guests.push((guest, Control::default()));
        self.attach(index);
    }

    pub fn attach(&mut self, index: usize) {
        self.consoles.attach(index as u32 + 1, self.guests[index].0.ports.clone());
    }

    pub fn end(&mut self, index: usize) {
        self.consoles.detach(index as u32 + 1);
        self.guests[index].0.mailbox.close();
    }

    fn attend(&mut self) {
        self.consoles.attend();
        for (guest, control) in &mut self.guests {
            control.answer_all(&mut self.consoles, &guest.mailbox);
            guest.scheduling.paused.store(control.paused, Ordering::Relaxed);
        }
        self.consoles.set_alarm(None);
    }

    pub fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.host.advance_ns(1_000_000);
            self.guests.iter().for_each(|(guest, _)| guest.clock.advance_ns(1_000_000));
            self.attend();
        }
    }

    fn prints(&self, index: usize, text: &str) {
        for byte in text.bytes() {
            self.guests[index].0.ports.uart.pio_write(Access::new(0, 1), byte.into());
        }
    }

    /// The bytes that the guest's COM1 received.
    fn reads(&mut self, index: usize) -> String {
        let mut text = String::new();
        loop {
            let guest = &self.guests[index].0;
            if guest.ports.uart.pio_read(Access::new(5, 1)) != Some(0x61) {
                return text;
            }
            text.push(guest.ports.uart.pio_read(Access::new(0, 1)).unwrap() as u8 as char);
            self.run_ms(2);
            self.guests[index].0.ports.uart.expired(self.guests[index].0.clock.now());
            self.attend();
        }
    }

    pub fn reads_keys(&mut self, index: usize) -> Vec<u8> {
        let mut keys = Vec::new();
        for _ in 0..100 {
            let read = |region| {
                let access = Access { region, offset: 0, size_bytes: 1 };
                self.guests[index].0.ports.i8042.pio_read(access).unwrap() as u8
            };
            if read(1) & 1 == 1 {
                keys.push(read(0));
            }
            self.run_ms(1);
        }
        keys
    }

    /// Types at the console, and returns what is shown.
    fn types(&mut self, text: impl AsRef<[u8]>) -> String {
        self.host.type_at(SerialPort::Com1, text);
        self.run_ms(200);
        self.shown()
    }

    fn shown(&self) -> String {
        String::from_utf8(self.host.take_sent(SerialPort::Com1)).unwrap()
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.host.type_at(SerialPort::Com2, format!("{request}\n"));
        self.run_ms(20);
        let sent = String::from_utf8(self.host.take_sent(SerialPort::Com2)).unwrap();
        let mut answer: Value = serde_json::from_str(&sent).unwrap();
        let result = answer["result"].take();
        if result.is_null() { answer["error"]["message"].take() } else { result }
    }
}

fn input_to(name: &str) -> String {
    format!("*** Serial input to {name} (type 'CTRL-a' three times to switch input)\r\n")
}

#[test]
fn the_input_goes_round() {
    let mut bench = Several::new(3);
    assert_eq!(bench.shown(), input_to("one"), "the others do not take it away");
    for name in ["two", "three", "Bulkhead", "one"] {
        let shown = bench.types(SWITCH);
        assert!(shown.contains(&input_to(name)), "{shown}");
        bench.types("x");
        for (index, other) in NAMES.into_iter().enumerate() {
            assert_eq!(bench.reads(index), if other == name { "x" } else { "" });
        }
    }
}

#[test]
fn the_output_of_one_is_shown_and_that_of_the_others_is_kept() {
    let mut bench = Several::new(2);
    bench.shown();
    bench.prints(0, "first\r\n");
    bench.prints(1, "second\r\n");
    bench.run_ms(10);
    assert_eq!(bench.shown(), "first\r\n");
    // It goes on being shown at the prompt, where the other is not.
    let to_two = bench.types(SWITCH);
    assert_eq!(to_two, format!("{}second\r\n", input_to("two")));
    bench.types(SWITCH);
    bench.prints(0, "aside\r\n");
    bench.prints(1, "\x1bc marked\r\n");
    bench.run_ms(10);
    assert_eq!(bench.shown(), "^[c marked\r\n");
    assert_eq!(bench.types(SWITCH), format!("{}aside\r\n", input_to("one")));
}

#[test]
fn a_guest_that_is_not_shown_neither_waits_nor_fills_the_heap() {
    let mut bench = Several::new(2);
    bench.shown();
    let mut last = String::new();
    for round in 0..40 {
        last = format!("{round:09}").repeat(1000);
        bench.prints(1, &last);
        bench.run_ms(1);
        let status = bench.guests[1].0.ports.uart.pio_read(Access::new(5, 1));
        assert_eq!(status, Some(0x60), "its port is not busy");
    }
    assert_eq!(bench.host.reserved_heap_bytes(), 64 << 10);
    let shown = bench.types(SWITCH);
    let lost = 40 * 9000 - (64 << 10);
    let kept = shown.strip_prefix(&format!(
        "{}*** The oldest {lost} bytes of its output are lost\r\n",
        input_to("two")
    ));
    let kept = kept.unwrap_or_else(|| panic!("{shown:.200}"));
    assert!(kept.len() == 64 << 10 && kept.ends_with(&last));
    assert_eq!(bench.host.reserved_heap_bytes(), 0);
    bench.types(SWITCH);
    assert!(!bench.types(SWITCH).contains("lost"));
}

#[test]
fn without_heap_for_it_output_is_lost_and_said_to_be() {
    let mut bench = Several::new(2);
    bench.shown();
    bench.host.refuse_heap_after(0);
    bench.prints(1, "never seen");
    bench.run_ms(2);
    assert!(bench.host.grant_heap());
    bench.prints(1, "seen\r\n");
    bench.run_ms(2);
    let lost = "*** The oldest 10 bytes of its output are lost\r\n";
    assert_eq!(bench.types(SWITCH), format!("{}{lost}seen\r\n", input_to("two")));
}

#[test]
fn the_last_words_of_a_guest_that_is_not_shown_wait_until_it_is() {
    let mut bench = Several::new(2);
    bench.shown();
    bench.prints(1, "panic\r\n");
    bench.consoles.detach(2);
    bench.guests[1].0.ports.output[0] = Arc::new(OutputRing::new());
    bench.attach(1);
    assert_eq!(bench.types(SWITCH), format!("{}panic\r\n", input_to("two")));
}

#[test]
fn the_input_of_a_guest_that_ends_goes_to_the_prompt_and_from_there_to_the_next_life() {
    let mut bench = Several::new(2);
    bench.shown();
    bench.end(0);
    bench.run_ms(1);
    assert_eq!(bench.shown(), format!("{}bulkhead> ", input_to("Bulkhead")));
    bench.consoles.detach(2);
    bench.attach(1);
    bench.run_ms(1);
    assert!(bench.shown().contains(&input_to("two")));
    // From between two lives it goes on, and a person who chose the prompt keeps it.
    bench.consoles.detach(2);
    assert!(bench.types(SWITCH).contains(&input_to("Bulkhead")));
    bench.attach(1);
    bench.run_ms(1);
    assert_eq!(bench.shown(), "");
}

#[test]
fn methods_name_their_guest() {
    let mut bench = Several::new(2);
    let unclear = "several guests run, say which: one (1), two (2)";
    assert_eq!(bench.call("guest.stats", json!({})), unclear);
    for guest in [json!("two"), json!(2), json!("2")] {
        assert_eq!(bench.call("guest.reboot", json!({"guest": guest})), json!({}));
    }
    assert_eq!((bench.guests[0].1.resets, bench.guests[1].1.resets), (0, 3));
    for (guest, error) in [
        (json!("three"), "three is an invalid domain identifier (rc=-6)"),
        (json!(3), "Error: Domain '3' does not exist."),
        (json!(99_999_999_999_u64), "Error: Domain '99999999999' does not exist."),
        (json!([]), "guest must be a name or a number"),
    ] {
        assert_eq!(bench.call("guest.stats", json!({"guest": guest})), error);
    }
    bench.call("serial.write", json!({"guest": "two", "text": "to two"}));
    assert_eq!((bench.reads(0), bench.reads(1)), (String::new(), "to two".into()));
    bench.call("input.type", json!({"guest": 2, "text": "a"}));
    assert_eq!((bench.reads_keys(0), bench.reads_keys(1)), (vec![], vec![0x1c, 0xf0, 0x1c]));
    bench.end(0);
    bench.run_ms(1);
    assert_eq!(bench.call("guest.reboot", json!({})), json!({}), "the only one");
}

#[test]
fn the_machines_keyboard_is_the_first_guests_and_then_the_nexts() {
    let mut bench = Several::new(2);
    let press = |bench: &Several| {
        bench.host.input(InputEvent::KeyboardByte(0x1e));
        bench.host.input(InputEvent::KeyboardByte(0x9e));
    };
    press(&bench);
    assert_eq!((bench.reads_keys(0), bench.reads_keys(1)), (vec![0x1c, 0xf0, 0x1c], vec![]));
    bench.end(0);
    bench.run_ms(1);
    press(&bench);
    assert_eq!(bench.reads_keys(1), [0x1c, 0xf0, 0x1c]);
}

#[test]
fn the_machine_is_asked_for_a_guest() {
    let mut bench = Several::new(1);
    let params = json!({"config": "two.cfg", "settings": ["memory=64", "vcpus=2"]});
    bench.call_machine(params, Answer::Created { number: 2 }, json!({"number": 2}));
    bench.call_machine(
        json!({"config": "two.cfg"}),
        Answer::Failed("two: memory=64: only 3 MiB are free".into()),
        json!("two: memory=64: only 3 MiB are free"),
    );
    let wrong = bench.call("guest.create", json!({"config": "two.cfg", "settings": "memory=64"}));
    assert_eq!(wrong, "settings must be a list of strings");
}

#[test]
fn the_machine_is_asked_for_the_store() {
    let mut bench = Several::new(1);
    while !bench.types(SWITCH).contains(&input_to("Bulkhead")) {}
    bench.host.type_at(SerialPort::Com1, "xenstore-ls -f /vm\r");
    bench.attend();
    let (client, request) = bench.machine.take_request().unwrap();
    let words = vec!["-f".into(), "/vm".into()];
    assert_eq!(request, Request::Store { name: "ls".into(), words });
    assert!(bench.host.reserved_heap_bytes() > 16 * MAX_STORE_TEXT_BYTES as u64);
    bench.machine.put_answer(client, Answer::Text("/vm/1 = \"\"\n".into()));
    bench.run_ms(2);
    assert!(bench.shown().ends_with("/vm/1 = \"\"\r\nbulkhead> "));
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "store.command",
        "params": {"name": "read", "words": ["/none"]}});
    bench.host.type_at(SerialPort::Com2, format!("{request}\n"));
    bench.attend();
    let (client, request) = bench.machine.take_request().unwrap();
    assert_eq!(request, Request::Store { name: "read".into(), words: vec!["/none".into()] });
    let reason = "xenstore-read: couldn't read path /none";
    bench.machine.put_answer(client, Answer::Failed(reason.into()));
    bench.run_ms(2);
    let sent = String::from_utf8(bench.host.take_sent(SerialPort::Com2)).unwrap();
    let answer: Value = serde_json::from_str(&sent).unwrap();
    assert_eq!(answer["error"]["message"], reason);
    for words in [json!("/none"), json!([1])] {
        let wrong = bench.call("store.command", json!({"name": "read", "words": words}));
        assert_eq!(wrong, "words must be a list of strings");
    }
    assert_eq!(bench.host.reserved_heap_bytes(), 0);
}

#[test]
fn disks_are_listed_and_changed_as_xl_does() {
    let mut bench = Several::new(2);
    while !bench.types(SWITCH).contains(&input_to("Bulkhead")) {}
    let attach = |disk: &str| DiskChange::Attach { disk: disk.into() };
    let detach = |device: &str, is_forced| DiskChange::Detach { device: device.into(), is_forced };
    let insert = |device: &str, target: &str| DiskChange::Insert {
        device: device.into(),
        target: target.into(),
    };
    let long = "format=raw,vdev=xvdb,access=rw,target=more.img";
    for (line, guest, change) in [
        ("block-attach two more.img,,xvdb", 2, attach("more.img,,xvdb")),
        (&format!("block-attach two '{long}'"), 2, attach(long)),
        ("block-attach 1 phy:more.img xvdb w", 1, attach("phy:more.img,xvdb,w")),
        ("block-attach 1 'more.img, raw, xvdb'", 1, attach("more.img, raw, xvdb")),
        ("block-detach two xvdb", 2, detach("xvdb", false)),
        ("block-detach --force 1 51728", 1, detach("51728", true)),
        ("cd-insert two hdc b.iso", 2, insert("hdc", "b.iso")),
        ("cd-eject 1 5632", 1, insert("5632", "")),
    ] {
        bench.host.type_at(SerialPort::Com1, format!("{line}\r"));
        bench.attend();
        let (client, request) = bench.machine.take_request().expect(line);
        assert_eq!(request, Request::ChangeDisk { guest, change }, "{line}");
        bench.machine.put_answer(client, Answer::Done);
        bench.run_ms(2);
        assert!(bench.shown().ends_with(&format!("{line}\r\nbulkhead> ")));
    }
    for line in ["block-attach", "block-detach", "block-detach -x two xvdb", "cd-insert hdc"] {
        bench.host.type_at(SerialPort::Com1, format!("{line}\r"));
        bench.run_ms(2);
        assert_eq!(bench.machine.take_request(), None, "{line}");
        assert!(!bench.shown().is_empty());
    }
    bench.host.type_at(SerialPort::Com1, "block-list 1 two\r");
    bench.attend();
    let (client, request) = bench.machine.take_request().unwrap();
    assert_eq!(request, Request::ListDisks(vec![1, 2]));
    let disk = |guest, id: u32, link: Option<u32>| DiskFacts {
        guest,
        id,
        name: "hdc".into(),
        target: "a.iso".into(),
        state: 1,
        event_channel: link,
        ring_ref: link,
        back_end: format!("/local/domain/0/backend/vbd/{guest}/{id}"),
    };
    let disks = vec![disk(1, 5632, None), disk(2, 51712, Some(9))];
    bench.machine.put_answer(client, Answer::Disks(disks));
    bench.run_ms(2);
    // As xl 4.17 shows them.
    let list = "Vdev  BE  handle state evt-ch ring-ref BE-path                       \r\n\
                5632  0   1      1     -1     -1       /local/domain/0/backend/vbd/1/5632\r\n\
                51712 0   2      1     9      9        /local/domain/0/backend/vbd/2/51712\r\n\
                bulkhead> ";
    let shown = bench.shown();
    assert!(shown.ends_with(list), "{shown}");
}

#[test]
fn network_cards_are_listed() {
    let mut bench = Several::new(2);
    while !bench.types(SWITCH).contains(&input_to("Bulkhead")) {}
    bench.host.type_at(SerialPort::Com1, "network-list 1 two\r");
    bench.attend();
    let (client, request) = bench.machine.take_request().unwrap();
    assert_eq!(request, Request::ListCards(vec![1, 2]));
    let card = |guest, state, link: Option<u32>, frames| CardFacts {
        guest,
        id: 0,
        mac: "00:16:3e:01:02:03".into(),
        bridge: "xenbr0".into(),
        state,
        event_channel: link,
        tx_ring_ref: link.map(|link| 700 + link),
        rx_ring_ref: link.map(|link| 701 + link),
        back_end: format!("/local/domain/0/backend/vif/{guest}/0"),
        sent: CardTraffic { frames, bytes: 60 * frames, dropped: 0 },
        received: CardTraffic { frames: 2 * frames, bytes: 1000 * frames, dropped: 1 },
    };
    let cards = vec![card(1, 1, None, 0), card(2, 4, Some(14), 12)];
    bench.machine.put_answer(client, Answer::Cards(cards.clone()));
    bench.run_ms(2);
    // The first columns are as xl 4.17 shows them.
    let path = "BE-path                       ";
    let head = format!("Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref {path}");
    let list = [
        &format!("{head}     rx-bytes  rx-pkts rx-drop     tx-bytes  tx-pkts tx-drop"),
        "0   0  00:16:3e:01:02:03     0     1     -1    -1/-1          \
         /local/domain/0/backend/vif/1/0            0        0       1            0        0       0",
        "0   0  00:16:3e:01:02:03     0     4     14   714/715         \
         /local/domain/0/backend/vif/2/0        12000       24       1          720       12       0",
        "bulkhead> ",
    ];
    let shown = bench.shown();
    assert!(shown.ends_with(&list.join("\r\n")), "{shown}");
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"guest.cards","params":{"guest":"two"}}"#;
    bench.host.type_at(SerialPort::Com2, format!("{request}\n"));
    bench.attend();
    let (client, request) = bench.machine.take_request().unwrap();
    assert_eq!(request, Request::ListCards(vec![2]));
    bench.machine.put_answer(client, Answer::Cards(cards[1..].to_vec()));
    bench.run_ms(2);
    let answer = String::from_utf8(bench.host.take_sent(SerialPort::Com2)).unwrap();
    assert!(answer.contains("\"tx_ring_ref\":714") && answer.contains("\"frames\":24"), "{answer}");
}

impl Several {
    /// The machine is asked this about a watch, and answers.
    fn answer_watch(&mut self, expected: &WatchRequest, answer: Answer) {
        let mut asked = None;
        for _ in 0..200 {
            self.run_ms(1);
            asked = asked.or_else(|| self.machine.take_request());
            if let Some((client, request)) = asked {
                assert_eq!(request, Request::Watch(expected.clone()));
                self.machine.put_answer(client, answer);
                self.run_ms(2);
                return;
            }
        }
        panic!("nothing was asked");
    }
}

#[test]
fn changes_of_the_store_are_shown_until_there_were_enough_or_a_line_is_typed() {
    let mut bench = Several::new(1);
    while !bench.types(SWITCH).contains(&input_to("Bulkhead")) {}
    let events = |paths: &[&str]| Answer::Events(paths.iter().map(|&it| it.into()).collect());
    let begin = |paths: &[&str]| WatchRequest::Begin {
        paths: paths.iter().map(|&path| path.into()).collect(),
    };
    let take = |watch, count| WatchRequest::Take { watch, count };
    for (end, echo) in [("\x03", "^C\r\n"), ("\r", "\r\n")] {
        bench.host.type_at(SerialPort::Com1, "xenstore-watch /a /b\r");
        bench.answer_watch(&begin(&["/a", "/b"]), Answer::Watching(3));
        bench.shown();
        bench.answer_watch(&take(3, 32), events(&["/a", "/a/c"]));
        assert_eq!(bench.shown(), "/a\r\n/a/c\r\n");
        assert!(bench.machine.take_request().is_none(), "not at once");
        bench.answer_watch(&take(3, 32), events(&[]));
        bench.host.type_at(SerialPort::Com1, end);
        bench.answer_watch(&WatchRequest::End { watch: 3 }, Answer::Done);
        assert_eq!(bench.shown(), format!("{echo}bulkhead> "));
    }
    bench.host.type_at(SerialPort::Com1, "xenstore-watch -n 3 /a\r");
    bench.answer_watch(&begin(&["/a"]), Answer::Watching(4));
    bench.answer_watch(&take(4, 3), events(&["/a"]));
    bench.shown();
    bench.answer_watch(&take(4, 2), events(&["/a", "/a"]));
    bench.answer_watch(&WatchRequest::End { watch: 4 }, Answer::Done);
    assert_eq!(bench.shown(), "/a\r\n/a\r\nbulkhead> ");
    bench.host.type_at(SerialPort::Com1, "xenstore-watch a\r");
    bench.answer_watch(&begin(&["a"]), Answer::Failed("no such watch".into()));
    assert!(bench.shown().ends_with("no such watch\r\nbulkhead> "));
    for wrong in ["", "-n 0 /a", "-n /a", "-x /a"] {
        let shown = bench.types(format!("xenstore-watch {wrong}\r"));
        assert!(shown.contains("Usage: xenstore-watch [-n COUNT] PATH..."), "{shown}");
    }
}

#[test]
fn changes_of_the_store_wait_while_a_port_is_behind_and_ctrl_c_is_heard() {
    let mut bench = Several::new(1);
    while !bench.types(SWITCH).contains(&input_to("Bulkhead")) {}
    bench.host.type_at(SerialPort::Com1, "xenstore-watch /a\r");
    let begin = WatchRequest::Begin { paths: vec!["/a".into()] };
    bench.answer_watch(&begin, Answer::Watching(3));
    let path = format!("/a/{}", "x".repeat(3000));
    let take = WatchRequest::Take { watch: 3, count: 32 };
    let events = || Answer::Events(vec![path.clone(); 32]);
    bench.shown();
    for end in ["", "\x03"] {
        bench.host.limit_serial(SerialPort::Com1, Some(16));
        bench.answer_watch(&take, events());
        bench.host.type_at(SerialPort::Com1, end);
        for _ in 0..1000 {
            bench.run_ms(1);
            assert!(bench.machine.take_request().is_none(), "they wait in the store");
            assert!(bench.consoles.alarm.due_ns() > host_ns(bench.host), "and do not keep it busy");
        }
        bench.host.limit_serial(SerialPort::Com1, None);
        bench.run_ms(300);
    }
    bench.answer_watch(&WatchRequest::End { watch: 3 }, Answer::Done);
    let shown = bench.shown();
    assert!(shown.ends_with(&format!("{path}\r\n^C\r\nbulkhead> ")));
    assert_eq!(shown.matches(&path).count(), 64);
}

#[test]
fn no_change_of_the_store_is_shown_behind_ctrl_c() {
    let mut bench = Several::new(1);
    while !bench.types(SWITCH).contains(&input_to("Bulkhead")) {}
    bench.host.type_at(SerialPort::Com1, "xenstore-watch /a\r");
    let begin = WatchRequest::Begin { paths: vec!["/a".into()] };
    bench.answer_watch(&begin, Answer::Watching(3));
    bench.shown();
    let (client, _) = bench.machine.take_request().expect("events are asked for");
    bench.host.type_at(SerialPort::Com1, "\x03");
    bench.run_ms(1);
    bench.machine.put_answer(client, Answer::Events(vec!["/a".into()]));
    bench.answer_watch(&WatchRequest::End { watch: 3 }, Answer::Done);
    assert_eq!(bench.shown(), "^C\r\nbulkhead> ");
}

impl Several {
    fn call_machine(&mut self, params: Value, answer: Answer, expected: Value) {
        let lines = params["settings"].as_array().map_or(0, Vec::len);
        let request =
            json!({"jsonrpc": "2.0", "id": 1, "method": "guest.create", "params": params});
        self.host.type_at(SerialPort::Com2, format!("{request}\n"));
        self.attend();
        let (client, request) = self.machine.take_request().unwrap();
        let Request::Create { module, settings } = request else { panic!("{request:?}") };
        assert_eq!((module.as_str(), settings.lines().count()), ("two.cfg", lines));
        self.machine.put_answer(client, answer);
        self.run_ms(2);
        let sent = String::from_utf8(self.host.take_sent(SerialPort::Com2)).unwrap();
        let answer: Value = serde_json::from_str(&sent).unwrap();
        let is_known = answer["result"] == expected || answer["error"]["message"] == expected;
        assert!(is_known, "{answer}");
    }
}

/// The prompt's answer to a command.
fn answers(bench: &mut Several, command: &str) -> String {
    let shown = bench.types(format!("{command}\r"));
    let answer = shown.strip_prefix(&format!("{command}\r\n")).unwrap_or_else(|| {
        panic!("{shown:?}");
    });
    answer.strip_suffix("bulkhead> ").unwrap_or(answer).to_owned()
}

#[test]
fn commands_are_those_of_xl() {
    let mut bench = Several::new(2);
    (0..3).for_each(|_| _ = bench.types(SWITCH));
    bench.shown();
    bench.types(b"\x01\x01\x01\x01\x01\x01");
    let header = "Name                                        ID   Mem VCPUs\tState\tTime(s)\r\n";
    let one = "one                                          1   128     2     r-----       1.2\r\n";
    let two = "two                                          2   128     2     --p---       1.2\r\n";
    assert_eq!(answers(&mut bench, "pause two"), "0008:00001000  90                    nop\r\n");
    assert_eq!(answers(&mut bench, "list"), format!("{header}{one}{two}"));
    assert_eq!(answers(&mut bench, "list 2"), format!("{header}{two}"));
    assert_eq!(
        answers(&mut bench, "uptime one"),
        "Name                                ID Uptime\r\n\
         one                                  1 1 day,  2:03:04\r\n"
    );
    for (command, answer) in [
        ("domid two", "2\r\n"),
        ("domname 1", "one\r\n"),
        ("domid 1", "Can't get domid of domain name '1', maybe this domain does not exist.\r\n"),
        (
            "domname 7",
            "Can't get domain name of domain id '7', maybe this domain does not exist.\r\n",
        ),
        ("domname one", "Usage: domname NUMBER\r\n"),
        ("list three", "three is an invalid domain identifier (rc=-6)\r\n"),
        ("pause 3", "Error: Domain '3' does not exist.\r\n"),
        ("stats", "several guests run, say which: one (1), two (2)\r\n"),
        ("pause one two", "Usage: pause DOM\r\n"),
        ("unpa 2", ""),
        ("d one", "d: unknown command, try help\r\n"),
        ("create", "Usage: create FILE [KEY=VALUE...]\r\n"),
        ("create a.cfg memory", "Usage: create FILE [KEY=VALUE...]\r\n"),
        ("host", "Usage: host log|reboot|poweroff\r\nUsage: host hang\r\nUsage: host crash\r\n"),
        ("host poweroff", "this machine cannot be turned off\r\n"),
        ("reboot two", ""),
        ("step 1", "the guest runs: pause it first\r\n"),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
    }
    assert!(!bench.guests[1].1.paused);
    assert_eq!((bench.guests[0].1.resets, bench.guests[1].1.resets), (0, 1));
    answers(&mut bench, "pause two");
    assert!(answers(&mut bench, "step two 2").contains("> 0008:00001002"));
    assert!(answers(&mut bench, "step 2").contains("> 0008:00001003"), "a guest's number");
    answers(&mut bench, "set two rip 1001");
    answers(&mut bench, "catch two tables");
    assert_eq!((bench.guests[1].1.steps, bench.guests[1].1.catches_tables), (1, true));
    assert_eq!(answers(&mut bench, "console two"), input_to("two"));
    assert_eq!((bench.types("x"), bench.reads(1)), (String::new(), "x".into()));
}

#[test]
fn a_guest_is_made_at_the_prompt() {
    let mut bench = Several::new(1);
    bench.types(SWITCH);
    bench.host.type_at(SerialPort::Com1, "create two.cfg memory=64 vcpus=2\r");
    bench.attend();
    let (client, request) = bench.machine.take_request().unwrap();
    let settings = "memory=64\nvcpus=2\n".into();
    assert_eq!(request, Request::Create { module: "two.cfg".into(), settings });
    bench.machine.put_answer(client, Answer::Failed("two: memory: too much".into()));
    bench.run_ms(2);
    assert!(bench.shown().ends_with("two: memory: too much\r\nbulkhead> "));
}

/// PV drivers that keep what reaches them.
#[derive(Default)]
struct Drivers {
    typed: Mutex<Vec<u8>>,
    room: AtomicUsize,
    shut_down: AtomicUsize,
    /// Its target, and the most that it may have; it has what it is to have.
    memory_kib: Mutex<[u64; 2]>,
}

impl PvDrivers for Drivers {
    fn put(&self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room.load(Ordering::Relaxed));
        self.typed.lock().unwrap().extend(&bytes[..count]);
        count
    }

    fn ask_to_shut_down(&self) -> bool {
        self.shut_down.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn memory_kib(&self) -> Option<u64> {
        Some(self.memory_kib.lock().unwrap()[0])
    }

    fn set_memory_target(&self, kib: u64) -> bool {
        let may = kib <= 128 << 10;
        if may {
            *self.memory_kib.lock().unwrap() = [kib; 2];
        }
        may
    }

    fn set_max_memory(&self, kib: u64) -> bool {
        let memory = &mut *self.memory_kib.lock().unwrap();
        let may = kib >= memory[0];
        if may {
            memory[1] = kib;
        }
        may
    }
}

impl Drivers {
    fn take_typed(&self) -> String {
        String::from_utf8(core::mem::take(&mut self.typed.lock().unwrap())).unwrap()
    }
}

/// A guest with PV drivers, and the output of its PV console.
fn with_drivers() -> (Several, Arc<Drivers>, Arc<OutputRing>) {
    let mut bench = Several::new(2);
    let drivers = Arc::new(Drivers { room: AtomicUsize::new(100), ..Drivers::default() });
    let ports = &mut bench.guests[0].0.ports;
    ports.pv = Some(drivers.clone());
    let [_, hvc0] = ports.output.clone();
    bench.attach(0);
    bench.shown();
    (bench, drivers, hvc0)
}

fn write(ring: &OutputRing, text: &str) {
    assert!(text.bytes().all(|byte| ring.put(byte)));
}

#[test]
fn a_guest_with_pv_drivers_is_asked_by_them_to_shut_down() {
    let (mut bench, drivers, _) = with_drivers();
    bench.types(SWITCH);
    bench.types(SWITCH);
    answers(&mut bench, "shutdown one");
    assert_eq!(drivers.shut_down.load(Ordering::Relaxed), 1);
}

#[test]
fn both_consoles_of_a_guest_are_shown_and_the_last_writer_reads_unless_one_is_chosen() {
    let (mut bench, drivers, hvc0) = with_drivers();
    bench.types("com");
    write(&hvc0, "hvc0 login: ");
    bench.run_ms(10);
    assert_eq!(bench.shown(), "hvc0 login: ");
    bench.types("pv");
    assert_eq!((bench.reads(0), drivers.take_typed()), ("com".into(), "pv".into()));
    bench.prints(0, "ttyS0 login: ");
    bench.run_ms(10);
    assert_eq!(bench.shown(), "ttyS0 login: ");
    bench.types("serial");
    assert_eq!((bench.reads(0), drivers.take_typed()), ("serial".into(), "".into()));
    // One is chosen: the other's output is kept until it is shown again.
    bench.types(SWITCH);
    bench.types(SWITCH);
    bench.types("console -t pv one\r");
    bench.prints(0, "kept\r\n");
    write(&hvc0, "shown\r\n");
    assert_eq!(bench.types("x"), "shown\r\n");
    assert_eq!((bench.reads(0), drivers.take_typed()), ("".into(), "x".into()));
    assert_eq!(bench.call("serial.write", json!({"guest": "one", "text": "r"})), json!({}));
    assert_eq!(drivers.take_typed(), "r");
    let write_serial = json!({"guest": "one", "text": "s", "type": "serial"});
    assert_eq!(bench.call("serial.write", write_serial), json!({}));
    assert_eq!((bench.reads(0), drivers.take_typed()), ("s".into(), "".into()));
    let result = bench.call("guest.console", json!({"guest": "one", "type": "serial"}));
    assert_eq!(result, json!({}));
    let at_com1 = input_to("one at COM1");
    assert_eq!(bench.shown(), format!("{at_com1}kept\r\n"));
    write(&hvc0, "aside\r\n");
    assert_eq!(bench.types("y"), "");
    assert_eq!(bench.reads(0), "y");
    assert_eq!(bench.call("guest.console", json!({"guest": "one"})), json!({}));
    assert_eq!(bench.shown(), format!("{}aside\r\n", input_to("one")));
    assert_eq!(
        bench.call("guest.console", json!({"guest": "two", "type": "pv"})),
        "the guest has no PV console"
    );
    assert_eq!(
        bench.call("serial.write", json!({"guest": "two", "type": "pv", "text": "x"})),
        "the guest has no PV console"
    );
    assert_eq!(
        bench.call("guest.console", json!({"guest": "one", "type": "vnc"})),
        "type must be pv or serial"
    );
}

#[test]
fn neither_console_of_a_guest_takes_the_whole_of_a_slow_port() {
    let (mut bench, _, hvc0) = with_drivers();
    bench.host.limit_serial(SerialPort::Com1, Some(16));
    bench.prints(0, &"a".repeat(20_000));
    write(&hvc0, &"b".repeat(20_000));
    bench.run_ms(1000);
    let shown = bench.shown();
    let [com1, pv] = ["a", "b"].map(|letter| shown.matches(letter).count());
    assert!(com1 > 4096 && com1.abs_diff(pv) <= 512, "{com1} bytes of COM1, {pv} of hvc0");
}

#[test]
fn the_last_words_of_both_consoles_are_shown_or_kept() {
    let (mut bench, _, hvc0) = with_drivers();
    bench.prints(0, "last of COM1\r\n");
    write(&hvc0, "last of hvc0\r\n");
    bench.consoles.detach(1);
    bench.run_ms(10);
    assert_eq!(bench.shown(), "last of COM1\r\nlast of hvc0\r\n");
    bench.attach(0);
    bench.call("guest.console", json!({"guest": "one", "type": "pv"}));
    bench.shown();
    bench.prints(0, "last of COM1\r\n");
    write(&hvc0, "last of hvc0\r\n");
    bench.consoles.detach(1);
    bench.run_ms(10);
    assert_eq!(bench.shown(), "last of hvc0\r\n");
    bench.call("guest.console", json!({"guest": "one"}));
    assert!(bench.types("").ends_with("last of COM1\r\n"));
}

#[test]
fn memory_is_set_with_the_sizes_and_messages_of_xl() {
    const NO_DRIVERS: &str = "Domain 1:Cannot get target memory info from \
        /local/domain/1/memory/target\r\n\
        cannot set domid 1 dynamic max memory to : 64\r\n";
    const TOO_MUCH: &str = "Domain 2:memory_dynamic_max must be less than or equal to \
        memory_static_max\r\ncannot set domid 2 dynamic max memory to : 131073K\r\n";
    const TOO_LITTLE: &str = "Domain 2:memory_static_max must be greater than or or equal to \
        memory_dynamic_max\r\ncannot set domid 2 static max memory to : 65535k\r\n";
    let mut bench = Several::new(2);
    let drivers = Arc::new(Drivers::default());
    let mut ports = bench.guests[1].0.ports.clone();
    ports.pv = Some(drivers.clone());
    bench.consoles.attach(2, ports);
    bench.types(SWITCH);
    bench.types(SWITCH);
    for (command, answer, memory_kib) in [
        ("mem-set two 128", "", [128 << 10; 2]),
        ("mem-set two 131073K", TOO_MUCH, [128 << 10; 2]),
        ("mem-set two 65536k", "", [64 << 10; 2]),
        ("mem-max two 65535k", TOO_LITTLE, [64 << 10; 2]),
        ("mem-max two 1g", "", [64 << 10, 1 << 20]),
        ("mem-max two 1T", "", [64 << 10, 1 << 30]),
        ("mem-set two 33554432b", "", [32 << 10; 2]),
        ("mem-set two 32M", "", [32 << 10; 2]),
        ("mem-set two 5x", "invalid memory size: 5x\r\n", [32 << 10; 2]),
        ("mem-set two 5mb", "invalid memory size: 5mb\r\n", [32 << 10; 2]),
        ("mem-max two -5", "invalid memory size: -5\r\n", [32 << 10; 2]),
        ("mem-max two 99999999999999t", "invalid memory size: 99999999999999t\r\n", [32 << 10; 2]),
        ("mem-set two", "invalid memory size: two\r\n", [32 << 10; 2]),
        ("mem-set", "Usage: mem-set DOM SIZE\r\n", [32 << 10; 2]),
        ("mem-set one 64", NO_DRIVERS, [32 << 10; 2]),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
        assert_eq!(*drivers.memory_kib.lock().unwrap(), memory_kib, "{command}");
    }
    assert_eq!(bench.call("guest.set_memory", json!({"guest": 2, "kib": 49152})), json!({}));
    assert_eq!(bench.call("guest.list", json!({"guest": 2}))[0]["memory_mib"], 48);
    assert_eq!(bench.call("guest.set_max_memory", json!({"guest": 2, "kib": 50000})), json!({}));
    assert_eq!(*drivers.memory_kib.lock().unwrap(), [49152, 50000]);
}

#[test]
fn a_list_waits_for_no_guest_and_leaves_out_one_that_has_ended() {
    let mut bench = Several::new(2);
    bench.guests.iter_mut().for_each(|(_, control)| control.is_away = true);
    let shown = bench.types(b"\x01\x01\x01\x01\x01\x01list\r");
    assert!(shown.contains("one  ") && shown.contains("two  "), "{shown}");
    bench.end(1);
    bench.run_ms(2);
    let listed = bench.call("guest.list", json!({}));
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&json!("one"), &json!("running")));
    assert_eq!((&listed[0]["vcpus"], &listed[0]["memory_mib"]), (&json!(2), &json!(128)));
    bench.consoles.detach(1);
    assert_eq!(bench.call("guest.list", json!({}))[0]["state"], "restarting");
    assert_eq!(bench.call("guest.vcpus", json!({})), json!([]));
    assert_eq!(bench.host.reserved_heap_bytes(), 0);
}

#[test]
fn the_state_of_a_guest_is_that_of_all_its_virtual_cpus() {
    let mut bench = Several::new(1);
    let mut state_with = |states: [VcpuState; 2]| {
        for (vcpu, state) in bench.guests[0].0.scheduling.vcpus.lock().iter_mut().zip(states) {
            vcpu.state = state;
        }
        bench.call("guest.list", json!({}))[0]["state"].clone()
    };
    assert_eq!(state_with([VcpuState::Blocked, VcpuState::Running]), "running");
    assert_eq!(state_with([VcpuState::Blocked, VcpuState::Runnable]), "runnable");
    assert_eq!(state_with([VcpuState::Blocked, VcpuState::Blocked]), "halted");
}

#[test]
fn virtual_cpus_are_listed_and_pinned_as_xl_does() {
    const HEADER: &str = "Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)\r\n";
    let mut bench = Several::new(2);
    bench.types(SWITCH);
    bench.types(SWITCH);
    let rows = |first: &str, second: &str| {
        format!(
            "{HEADER}\
             two                                  2     0     0   r--       0.6  {first}\r\n\
             two                                  2     1     1   -b-       0.6  {second}\r\n\
             two                                  2     2     -   --p       0.0  all / all\r\n\
             two                                  2     3     -   --p       0.0  all / all\r\n"
        )
    };
    assert_eq!(answers(&mut bench, "vcpu-list two"), rows("all / all", "all / all"));
    assert_eq!(answers(&mut bench, "vcpu-list").lines().count(), 9);
    assert_eq!(answers(&mut bench, "vcpu-list two one"), answers(&mut bench, "vcpu-list 2 1"));
    let unknown = "three is an invalid domain identifier (rc=-6)\r\n";
    assert_eq!(answers(&mut bench, "vcpu-list one three"), unknown);
    for (command, answer) in [
        ("vcpu-pin two 1 0-1 2", ""),
        ("vcpu-pin two 0 - 1", ""),
        ("vcpu-pin two 1 -", ""),
        ("vcpu-pin two 4 1", "Could not set affinity for vcpu `4'.\r\n"),
        ("vcpu-pin two 1 7", "Could not set affinity for vcpu `1'.\r\n"),
        ("vcpu-pin two all 3-5", "Could not set affinity.\r\n"),
        ("vcpu-pin two x 1", "Error: Invalid argument x as VCPU.\r\n"),
        ("vcpu-pin two 1 1-", "Error: Invalid argument 1- as CPUs.\r\n"),
        ("vcpu-pin two 1", "Usage: vcpu-pin DOM VCPU|all HARD [SOFT]\r\n"),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
    }
    assert_eq!(answers(&mut bench, "vcpu-list two"), rows("all / 1", "0-1 / 2"));
    answers(&mut bench, "vcpu-pin two all all all");
    assert_eq!(answers(&mut bench, "vcpu-list two"), rows("all / all", "all / all"));
    let pinned = bench.call("guest.pin", json!({"guest": 2, "vcpu": 1, "hard": "0,2"}));
    assert_eq!(pinned, json!({}));
    let vcpus = bench.call("guest.vcpus", json!({"guest": 2}));
    assert_eq!((&vcpus[1]["hard"], &vcpus[1]["soft"]), (&json!([0, 2]), &json!([0, 1, 2])));
    assert_eq!((&vcpus[1]["state"], &vcpus[2]["state"]), (&json!("blocked"), &json!("offline")));
    let wrong = bench.call("guest.pin", json!({"guest": 2, "hard": "x"}));
    assert_eq!(wrong, "hard must be a list of CPUs");
}

#[test]
fn shares_are_shown_and_changed_as_xl_does() {
    const HEADER: &str = "Name                                ID Weight  Cap\r\n";
    let mut bench = Several::new(2);
    bench.types(SWITCH);
    bench.types(SWITCH);
    for (command, answer) in [
        ("sched-credit2 -d two -w 512", ""),
        ("sched-credit2 -d two -c 150", ""),
        ("sched-credit2 -s", "Cpupool Pool-0: ratelimit=1000us\r\n"),
        ("sched-credit2 -w 512", "Must specify a domain.\r\n"),
        (
            "sched-credit2 -d two -w 0",
            "Domain 2:Cpu weight out of range, valid values are within range from 1 to 65535\r\n\
             libxl_domain_sched_params_set failed.\r\n",
        ),
        (
            "sched-credit2 -d two -c 401",
            "Domain 2:Cpu cap out of range, valid range is from 0 to 400 for specified number of \
             vcpus\r\nlibxl_domain_sched_params_set failed.\r\n",
        ),
        (
            "sched-credit2 -d two -w x",
            "Usage: sched-credit2 [-s] [-d DOM [-w WEIGHT] [-c CAP]]\r\n",
        ),
        ("sched-credit2 -d", "Usage: sched-credit2 [-s] [-d DOM [-w WEIGHT] [-c CAP]]\r\n"),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
    }
    let (one, two) = (
        "one                                  1    256    0\r\n",
        "two                                  2    512  150\r\n",
    );
    assert_eq!(answers(&mut bench, "sched-credit2 -d two"), format!("{HEADER}{two}"));
    assert_eq!(
        answers(&mut bench, "sched-credit2"),
        format!("Cpupool Pool-0: ratelimit=1000us\r\n{HEADER}{one}{two}")
    );
    assert_eq!(bench.call("guest.set_share", json!({"guest": 1, "weight": 100})), json!({}));
    let shares = bench.call("guest.share", json!({}));
    assert_eq!((&shares[0]["weight"], &shares[1]["cap"]), (&json!(100), &json!(150)));
}

/// The buttons in the status register of PM1.
fn pm1_status(bench: &Several, index: usize) -> u32 {
    let access = Access { region: 0, offset: 0, size_bytes: 2 };
    bench.guests[index].0.ports.power.pio_read(access).unwrap() & 0x300
}

#[test]
fn buttons_are_pressed_and_signals_sent_as_xl_does() {
    const NO_DRIVER: &str = "Shutting down domain 2\r\n\
        PV control interface not available: external graceful shutdown not possible.\r\n\
        Use \"-F\" to fallback to ACPI power event.\r\n\
        shutdown failed (rc=-10)\r\n";
    const BY_BUTTON: &str = "Shutting down domain 2\r\n\
        PV control interface not available: sending ACPI power button event.\r\n";
    const USAGE: &str = "Usage: trigger DOM TRIGGER [VCPU]\r\n";
    let mut bench = Several::new(2);
    bench.types(SWITCH);
    bench.types(SWITCH);
    for (command, answer) in [
        ("trigger two nmi 1", ""),
        ("trigger two nmi 2", "Domain 2:Send trigger 'nmi' failed: Invalid argument\r\n"),
        ("trigger two nmi x", USAGE),
        ("trigger", USAGE),
        ("trigger two s3resume", ""),
        ("trigger two reset", ""),
        ("trigger two off", "Invalid trigger \"off\"\r\n"),
        ("trigger power", "several guests run, say which: one (1), two (2)\r\n"),
        ("trigger three power", "three is an invalid domain identifier (rc=-6)\r\n"),
        ("button-press two reset", "reset is an invalid button identifier\r\n"),
        ("shutdown two", NO_DRIVER),
        ("shutdown -a two", "Usage: shutdown [-F] -a|DOM\r\n"),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
    }
    assert_eq!((pm1_status(&bench, 0), pm1_status(&bench, 1)), (0, 0));
    let has_nmi = |bench: &Several, index: usize| {
        let processors = &bench.guests[index].0.ports.processors;
        [0, 1].map(|vcpu| processors.inbox(vcpu).unwrap().has_pending())
    };
    assert_eq!((has_nmi(&bench, 0), has_nmi(&bench, 1)), ([false; 2], [false, true]));
    assert_eq!((bench.guests[0].1.resets, bench.guests[1].1.resets), (0, 1));
    let warning = "WARNING: \"button-press\" is deprecated. Please use \"trigger\"\r\n";
    assert_eq!(answers(&mut bench, "button-press two sleep"), warning);
    assert_eq!(pm1_status(&bench, 1), 0x200);
    assert_eq!(answers(&mut bench, "shutdown -F two"), BY_BUTTON);
    assert_eq!((pm1_status(&bench, 0), pm1_status(&bench, 1)), (0, 0x300));
    assert_eq!(answers(&mut bench, "shutdown -aF").lines().count(), 4);
    assert_eq!(pm1_status(&bench, 0), 0x100);
    bench.end(1);
    bench.run_ms(2);
    answers(&mut bench, "trigger nmi 1");
    assert_eq!(has_nmi(&bench, 0), [false, true], "the only guest need not be named");
}

#[test]
fn virtual_cpus_are_plugged_in_and_asked_back() {
    let mut bench = Several::new(2);
    bench.types(SWITCH);
    bench.types(SWITCH);
    for (command, answer) in [
        (
            "vcpu-set two 4",
            "You are overcommmitting! You have 3 physical CPUs and want 4 vCPUs! Aborting, use --ignore-host to continue\r\n",
        ),
        ("vcpu-set two 3", ""),
        ("vcpu-set 3", "several guests run, say which: one (1), two (2)\r\n"),
        ("vcpu-set two x", "Error: Invalid argument.\r\n"),
        ("vcpu-set", "Usage: vcpu-set [-i] DOM N\r\n"),
        (
            "vcpu-set -i two 5",
            "Domain 2:Requested 5 VCPUs, however maxcpus is 4!\r\n\
             libxl_set_vcpuonline failed domid=2 max_vcpus=5, rc: -3\r\n",
        ),
        (
            "vcpu-set two 0",
            "Domain 2:Requested 0 VCPUs!\r\n\
             libxl_set_vcpuonline failed domid=2 max_vcpus=0, rc: -3\r\n",
        ),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
    }
    let counts = |bench: &mut Several| {
        let listed = bench.call("guest.list", json!({}));
        [0, 1].map(|index| listed[index]["vcpus"].as_u64().unwrap())
    };
    assert_eq!(counts(&mut bench), [2, 3]);
    assert_eq!(bench.call("guest.set_vcpus", json!({"guest": "two", "count": 1})), json!({}));
    assert_eq!(counts(&mut bench), [2, 3], "the guest has not let them go");
    assert_eq!(bench.guests[1].0.ports.sockets.wanted(), 1);
}

#[test]
fn triggers_are_sent_by_the_management_port() {
    let mut bench = Several::new(2);
    let two = |more: Value| {
        let mut params = json!({"guest": 2});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let wrong = bench.call("guest.trigger", two(json!({"trigger": "off"})));
    assert_eq!(wrong, "there is no such trigger");
    let wrong = bench.call("guest.trigger", two(json!({"trigger": "init", "vcpu": 2})));
    assert_eq!(wrong, "Domain 2:Send trigger 'init' failed: Invalid argument");
    let wrong = bench.call("guest.shutdown", two(json!({})));
    assert!(wrong.as_str().unwrap().ends_with("shutdown failed (rc=-10)"), "{wrong}");
    assert_eq!(pm1_status(&bench, 1), 0);
    assert_eq!(bench.call("guest.trigger", two(json!({"trigger": "power"}))), json!({}));
    assert_eq!(bench.call("guest.button_press", two(json!({"button": "sleep"}))), json!({}));
    assert_eq!((pm1_status(&bench, 0), pm1_status(&bench, 1)), (0, 0x300));
    assert_eq!(bench.call("guest.shutdown", json!({"all": true, "fallback": true})), json!({}));
    assert_eq!(pm1_status(&bench, 0), 0x100);
}
