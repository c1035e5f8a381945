//! Disks and network cards.

use super::*;
use control::cards::{CardChange, CardFacts, CardTraffic};
use control::disks::{DiskChange, DiskFacts, HostDiskFacts, VolumeFacts};

#[test]
fn disks_are_listed_and_changed_as_xl_does() {
    let mut bench = Several::at_prompt(2);
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
fn network_cards_are_changed_as_xl_does() {
    let mut bench = Several::at_prompt(2);
    let attach = |card: &str| CardChange::Attach { card: card.into() };
    let detach = |device: &str| CardChange::Detach { device: device.into() };
    for (line, guest, change) in [
        ("network-attach two", 2, attach("")),
        (
            "network-attach 1 mac=02:00:00:00:00:01 bridge=lan",
            1,
            attach("mac=02:00:00:00:00:01,bridge=lan"),
        ),
        (
            "network-attach 1 'ip=10.0.0.1 10.0.0.2' bridge=lan",
            1,
            attach("ip=10.0.0.1 10.0.0.2,bridge=lan"),
        ),
        ("network-attach two rate=1Mb/s,antispoof=1", 2, attach("rate=1Mb/s,antispoof=1")),
        ("network-detach 1 0", 1, detach("0")),
        ("network-detach two 02:00:00:00:00:01", 2, detach("02:00:00:00:00:01")),
    ] {
        bench.host.type_at(SerialPort::Com1, format!("{line}\r"));
        bench.attend();
        let (client, request) = bench.machine.take_request().expect(line);
        assert_eq!(request, Request::ChangeCard { guest, change }, "{line}");
        bench.machine.put_answer(client, Answer::Done);
        bench.run_ms(2);
        assert!(bench.shown().ends_with(&format!("{line}\r\nbulkhead> ")));
    }
    for line in ["network-attach two lan", "network-detach", "network-detach 1 0 0"] {
        bench.host.type_at(SerialPort::Com1, format!("{line}\r"));
        bench.run_ms(2);
        assert_eq!(bench.machine.take_request(), None, "{line}");
        assert!(bench.shown().contains("Usage: network-"), "{line}");
    }
    bench.host.type_at(SerialPort::Com1, "network-detach two 3\r");
    bench.attend();
    let (client, _) = bench.machine.take_request().unwrap();
    bench.machine.put_answer(client, Answer::Failed("Unknown device 3.".into()));
    bench.run_ms(2);
    assert!(bench.shown().ends_with("Unknown device 3.\r\nbulkhead> "));
    for (method, params, change) in [
        ("attach", r#"{"guest":1,"card":"bridge=lan"}"#, attach("bridge=lan")),
        ("attach", r#"{"guest":1}"#, attach("")),
        ("detach", r#"{"guest":1,"device":"0"}"#, detach("0")),
    ] {
        let head = r#"{"jsonrpc":"2.0","id":1"#;
        let request = format!(r#"{head},"method":"guest.{method}_card","params":{params}}}"#);
        bench.host.type_at(SerialPort::Com2, format!("{request}\n"));
        bench.attend();
        let (client, request) = bench.machine.take_request().unwrap();
        assert_eq!(request, Request::ChangeCard { guest: 1, change });
        bench.machine.put_answer(client, Answer::Done);
        bench.run_ms(2);
        let answer = String::from_utf8(bench.host.take_sent(SerialPort::Com2)).unwrap();
        assert!(answer.contains("\"result\":{}"), "{answer}");
    }
}

#[test]
fn network_cards_are_listed() {
    let mut bench = Several::at_prompt(2);
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

#[test]
fn the_machines_disks_are_listed() {
    let mut bench = Several::at_prompt(1);
    let disks = vec![HostDiskFacts {
        volume: VolumeFacts {
            name: "vda".into(),
            links: Vec::new(),
            size_bytes: 64 << 20,
            file_system: None,
            users: Vec::new(),
        },
        model: String::new(),
        serial: String::new(),
        sector_bytes: 512,
        physical_sector_bytes: 512,
        is_read_only: false,
        partitions: Vec::new(),
    }];
    let mut ask = |port, line: &str| {
        bench.host.type_at(port, line);
        bench.attend();
        let (client, request) = bench.machine.take_request().unwrap();
        assert_eq!(request, Request::ListHostDisks);
        bench.machine.put_answer(client, Answer::HostDisks(disks.clone()));
        bench.run_ms(2);
    };
    ask(SerialPort::Com1, "host disks\r");
    ask(SerialPort::Com2, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"host.disks\"}\n");
    let shown = bench.shown();
    let line = "vda              64 MiB  sectors of 512 bytes\r\nbulkhead> ";
    assert!(shown.ends_with(line), "{shown}");
    let answer = String::from_utf8(bench.host.take_sent(SerialPort::Com2)).unwrap();
    assert!(answer.contains(r#""name":"vda""#), "{answer}");
}
