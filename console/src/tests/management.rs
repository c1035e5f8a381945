//! The management port.

use super::*;
use control::test_host::TEST_HEAP_BYTES;
use serde_json::{Value, json};

fn call(bench: &mut Bench, method: &str, params: Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let mut answer = ask(bench, &request.to_string());
    assert_eq!(answer["jsonrpc"], "2.0");
    // A request that there was no memory to read has no number that is known.
    let is_known = !answer["error"]["message"].as_str().is_some_and(|text| text.contains("memory"));
    assert!(answer["id"] == 7 || !is_known && answer["id"].is_null(), "{answer}");
    let result = answer["result"].take();
    if result.is_null() { answer["error"].take() } else { result }
}

/// The one answer to one line.
fn ask(bench: &mut Bench, line: &str) -> Value {
    bench.host.type_at(SerialPort::Com2, format!("{line}\n"));
    let mut answer = String::new();
    for _ in 0..2000 {
        bench.run_ns(1_000_000);
        answer += &bench.sent(SerialPort::Com2);
        if answer.ends_with('\n') {
            break;
        }
    }
    assert_eq!(answer.matches('\n').count(), 1, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

fn bench() -> Bench {
    Bench::new("console=com1 rpc=com2")
}

#[test]
fn the_text_screen() {
    let mut bench = bench();
    assert_eq!(
        ask(&mut bench, r#"{"jsonrpc":"2.0","id":"x","method":"screen.text"}"#)["result"],
        Value::Null
    );
    bench.set_text_mode();
    bench.write_text(82, "Hello\u{1}");
    let screen = call(&mut bench, "screen.text", json!({}));
    let rows = screen["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 25);
    assert_eq!(rows[1].as_str().unwrap().trim(), "Hello☺");
    assert_eq!(screen["cursor"], json!([0, 0]));
}

#[test]
fn the_picture_decodes() {
    let mut bench = bench();
    bench.set_graphics_mode(640, 480);
    DeviceMemory::write(&*bench.vram, (3 * 640 + 2) * 4, &[0x30, 0x20, 0x10, 0]);
    let answer = call(&mut bench, "screen.png", json!({}));
    let (width, height, pixels) = decoded(&answer);
    assert_eq!((width, height), (640, 480));
    let lit: Vec<usize> = (0..pixels.len()).filter(|&at| pixels[at] != 0).collect();
    let first = (3 * 640 + 2) * 3;
    assert_eq!(lit, [first, first + 1, first + 2]);
    assert_eq!(pixels[first..first + 3], [0x10, 0x20, 0x30]);
}

/// The picture that a `screen.png` answered with: its size, and its dots as red, green and blue.
fn decoded(answer: &Value) -> (u32, u32, Vec<u8>) {
    use base64::Engine;
    let file =
        base64::engine::general_purpose::STANDARD.decode(answer["png"].as_str().unwrap()).unwrap();
    let mut reader = ::png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut dots = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut dots).unwrap();
    assert_eq!(frame.color_type, ::png::ColorType::Rgb);
    assert_eq!((&answer["width"], &answer["height"]), (&json!(frame.width), &json!(frame.height)));
    (frame.width, frame.height, dots)
}

/// Video memory with a screen of 32 bits a dot that does not compress.
fn noise(width: u32, height: u32) -> Vec<u8> {
    (0..width * height * 4).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn a_picture_of_noise_is_sent_without_being_held() {
    let mut bench = bench();
    bench.set_graphics_mode(1024, 768);
    let noise = noise(1024, 768);
    DeviceMemory::write(&*bench.vram, 0, &noise);
    bench.host.type_at(SerialPort::Com2, REQUEST_OF_A_PICTURE);
    let mut answer = String::new();
    let mut most_reserved = 0;
    while !answer.ends_with('\n') {
        bench.run_ns(1_000_000);
        let sent = bench.sent(SerialPort::Com2);
        assert!(sent.len() < 64 << 10, "{} bytes were held", sent.len());
        most_reserved = most_reserved.max(bench.host.reserved_heap_bytes());
        answer += &sent;
    }
    assert!((1..1 << 20).contains(&most_reserved), "{most_reserved}");
    assert_eq!(bench.host.reserved_heap_bytes(), 0);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let (width, height, dots) = decoded(&answer["result"]);
    assert_eq!((width, height), (1024, 768));
    let shown = dots
        .chunks(3)
        .zip(noise.chunks(4))
        .all(|(dot, bytes)| *dot == [bytes[2], bytes[1], bytes[0]]);
    assert!(shown);
}

const REQUEST_OF_A_PICTURE: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"screen.png\"}\n";

#[test]
fn a_picture_keeps_its_size_when_the_screen_changes_or_goes() {
    for is_gone in [false, true] {
        let mut bench = bench();
        bench.set_graphics_mode(640, 480);
        DeviceMemory::write(&*bench.vram, 0, &noise(640, 480));
        bench.host.limit_serial(SerialPort::Com2, Some(1000));
        bench.host.type_at(SerialPort::Com2, REQUEST_OF_A_PICTURE);
        bench.run_ns(100_000_000);
        let mut answer = bench.sent(SerialPort::Com2);
        bench.host.limit_serial(SerialPort::Com2, None);
        if is_gone {
            bench.end_guest();
            bench.guest.vga = TestGuest::new().ports.vga;
        } else {
            bench.set_graphics_mode(320, 200);
        }
        while !answer.ends_with('\n') {
            if is_gone {
                bench.attend_alone();
            } else {
                bench.run_ns(1_000_000);
            }
            answer += &bench.sent(SerialPort::Com2);
        }
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let (width, height, dots) = decoded(&answer["result"]);
        assert_eq!((width, height), (640, 480));
        assert!(dots[..640 * 3].iter().any(|&dot| dot != 0));
        let last_row = dots.len() - 640 * 3;
        assert!(dots[last_row + 320 * 3..].iter().all(|&dot| dot == 0));
    }
}

/// Every method that the documentation names, with parameters that it takes.
fn methods() -> Vec<(&'static str, Value)> {
    let page = include_str!("../../../docs/rpc.md");
    let names = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let methods: Vec<_> = names
        .map(|name| {
            let params = match name {
                "input.type" | "serial.write" => json!({"text": "a"}),
                "input.key" => json!({"code": 1, "pressed": true}),
                "guest.trigger" => json!({"trigger": "nmi"}),
                "guest.button_press" => json!({"button": "power"}),
                "guest.shutdown" => json!({"fallback": true}),
                "guest.set_vcpus" => json!({"count": 3}),
                "guest.catch" => json!({"tables": true}),
                "guest.create" => json!({"config": "x.cfg"}),
                "store.command" => json!({"name": "ls"}),
                "guest.number" => json!({"name": "linux"}),
                "guest.name" => json!({"number": 1}),
                "guest.set_register" => json!({"name": "rip", "value": "1000"}),
                _ => json!({}),
            };
            (name, params)
        })
        .collect();
    assert!(methods.len() > 10);
    methods
}

#[test]
fn the_largest_text_is_within_what_is_reserved_for_it() {
    let mut bench = bench();
    bench.set_largest_text_mode();
    bench.host.limit_serial(SerialPort::Com2, Some(1));
    request(&bench, json!(1), "screen.text", json!({}));
    bench.attend();
    let reserved = bench.host.reserved_heap_bytes();
    bench.host.limit_serial(SerialPort::Com2, None);
    // It goes out in pieces that end anywhere.
    bench.run_ns(500_000_000);
    let length = bench.host.take_sent(SerialPort::Com2).len() as u64;
    assert!(length > 3 * 256 * 1024, "{length} bytes");
    assert!(reserved > 4 * length, "{reserved} for {length} bytes");
    assert_eq!(bench.host.reserved_heap_bytes(), 0);
}

#[test]
fn each_refusal_of_heap_is_one_error_and_nothing_leaks() {
    // Those end the machine, or it is not there to answer, or the guest has no PV drivers.
    let others = [
        "guest.set_memory",
        "guest.set_max_memory",
        "guest.create",
        "guest.disks",
        "guest.cards",
        "guest.attach_card",
        "guest.detach_card",
        "guest.attach_disk",
        "guest.detach_disk",
        "guest.insert_cd",
        "guest.eject_cd",
        "store.command",
        "store.watch",
        "store.events",
        "store.unwatch",
        "host.disks",
        "host.reboot",
        "host.poweroff",
        "host.crash",
    ];
    for (method, params) in methods().into_iter().filter(|(name, _)| !others.contains(name)) {
        for grants in 0.. {
            let mut bench = bench();
            bench.set_graphics_mode(640, 480);
            call(&mut bench, "guest.pause", json!({}));
            bench.host.refuse_heap_after(grants);
            let answer = call(&mut bench, method, params.clone());
            let was_refused = bench.host.grant_heap() && answer["code"] == -32000;
            assert_eq!(bench.host.reserved_heap_bytes(), 0, "{method}");
            if !was_refused {
                assert!(grants > 0, "{method} reserves nothing: {answer}");
                assert!(answer["code"].is_null(), "{method}: {answer}");
                break;
            }
            assert!(answer["message"].as_str().unwrap().contains("too little memory"), "{answer}");
            assert_eq!(call(&mut bench, "guest.stats", json!({}))["total_exits"], 12);
        }
    }
}

#[test]
fn typed_text_becomes_keys_one_after_the_other() {
    let mut bench = bench();
    assert_eq!(call(&mut bench, "input.type", json!({"text": "aB"})), json!({}));
    let mut keys = bench.guest_reads_keys();
    for _ in 0..100 {
        bench.run_ns(1_000_000);
        keys.extend(bench.guest_reads_keys());
    }
    assert_eq!(keys, [0x1c, 0xf0, 0x1c, 0x12, 0x32, 0xf0, 0x32, 0xf0, 0x12]);
    let too_much = call(&mut bench, "input.type", json!({"text": "x".repeat(20_000)}));
    assert_eq!(too_much["code"], -32000);
    let unknown = call(&mut bench, "input.type", json!({"text": "é"}));
    assert_eq!(unknown, json!({"code": -32602, "message": "no key types 'é'"}));
}

#[test]
fn keys_wait_for_a_guest_that_does_not_read() {
    let mut bench = bench();
    let text = "abcdefghij".repeat(20);
    call(&mut bench, "input.type", json!({"text": text}));
    bench.run_ns(3_000_000_000);
    let mut presses = 0;
    let mut releasing = false;
    for _ in 0..6000 {
        for byte in bench.guest_reads_keys() {
            presses += u32::from(byte != 0xf0 && !releasing);
            releasing = byte == 0xf0;
        }
        bench.run_ns(1_000_000);
    }
    assert_eq!(presses, 200);
}

#[test]
fn single_keys_and_the_mouse() {
    let mut bench = bench();
    assert_eq!(
        call(&mut bench, "input.key", json!({"code": 0x48, "extended": true, "pressed": true})),
        json!({})
    );
    assert_eq!(call(&mut bench, "input.key", json!({"code": 0x1c, "pressed": true})), json!({}));
    let mut keys = bench.guest_reads_keys();
    for _ in 0..50 {
        bench.run_ns(1_000_000);
        keys.extend(bench.guest_reads_keys());
    }
    assert_eq!(keys, [0xe0, 0x75, 0x5a]);
    assert_eq!(
        call(&mut bench, "input.mouse", json!({"dx": 5, "dy": -3, "buttons": 1})),
        json!({})
    );
    for (params, name) in [(json!({"dx": 1e9}), "dx"), (json!({"buttons": 32}), "buttons")] {
        let error = call(&mut bench, "input.mouse", params);
        assert!(error["message"].as_str().unwrap().starts_with(name), "{error}");
    }
    assert_eq!(
        call(&mut bench, "input.key", json!({"code": 128, "pressed": true}))["code"],
        -32602
    );
    assert_eq!(call(&mut bench, "input.key", json!({"code": 1}))["code"], -32602);
}

#[test]
fn the_guest_and_the_host() {
    let mut bench = bench();
    bench.host.set_log("[    0.000000] \"hi\"\n");
    assert_eq!(call(&mut bench, "host.log", json!({})), json!({"text": "[    0.000000] \"hi\"\n"}));
    let stats = call(&mut bench, "guest.stats", json!({}));
    assert_eq!(stats["exits"], json!({"cpuid": 5, "hlt": 7}));
    assert_eq!((&stats["state"], &stats["total_exits"]), (&json!("running"), &json!(12)));
    assert_eq!(stats["host_free_bytes"], u64::MAX);
    assert_eq!(stats["host_heap_bytes"], TEST_HEAP_BYTES);
    assert_eq!(stats["guest_time_ns"], 93_784_000_000_034_u64);
    assert_eq!(stats["cpu_time_ns"], 1_250_000_000);
    call(&mut bench, "guest.reboot", json!({}));
    call(&mut bench, "guest.destroy", json!({}));
    assert_eq!((bench.control.resets, bench.control.destroyed), (1, 1));
    call(&mut bench, "serial.write", json!({"text": "uname\r"}));
    assert_eq!(bench.guest_reads(), "uname\r");
    bench.end_guest();
    bench
        .host
        .type_at(SerialPort::Com2, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"guest.stats\"}\n");
    bench.attend_alone();
    assert!(bench.sent(SerialPort::Com2).contains("no guest runs"));
}

#[test]
fn broken_requests_are_answered_with_errors_and_the_next_one_works() {
    let mut bench = bench();
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let long = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{}\"}}", "x".repeat(70_000));
    for (line, code) in [
        ("{", -32700),
        ("\u{1}\u{2}", -32700),
        ("[]", -32600),
        ("{\"id\":1}", -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":[1],\"method\":\"host.log\"}", -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"host.log\",\"params\":[1]}", -32602),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"guest.explode\"}", -32601),
        (deep.as_str(), -32600),
        (long.as_str(), -32600),
    ] {
        assert_eq!(ask(&mut bench, line)["error"]["code"], code, "{:.60}", line);
    }
    assert_eq!(call(&mut bench, "guest.stats", json!({}))["total_exits"], 12);
}

#[test]
fn several_requests_at_once_are_answered_in_order_and_notifications_are_not() {
    let mut bench = bench();
    for id in 0..5 {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "guest.stats"});
        bench.host.type_at(SerialPort::Com2, format!("{request}\r\n\n"));
        bench.host.type_at(SerialPort::Com2, "{\"jsonrpc\":\"2.0\",\"method\":\"guest.reboot\"}\n");
    }
    let ids = ids(&all_sent(&mut bench));
    assert_eq!(ids, [json!(0), json!(1), json!(2), json!(3), json!(4)]);
    assert_eq!(bench.control.resets, 5);
}

/// Everything that is sent until nothing more is to be done.
fn all_sent(bench: &mut Bench) -> String {
    bench.attend();
    let mut text = bench.sent(SerialPort::Com2);
    while let Some(ns) = bench.alarm_in_ns() {
        bench.advance_ns(ns);
        bench.attend();
        text += &bench.sent(SerialPort::Com2);
    }
    text
}

fn request(bench: &Bench, id: Value, method: &str, params: Value) {
    let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    bench.host.type_at(SerialPort::Com2, format!("{request}\n"));
}

fn ids(text: &str) -> Vec<Value> {
    let answer = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].take();
    text.lines().map(answer).collect()
}

#[test]
fn a_client_does_not_wait_for_pictures_of_one_that_is_gone() {
    for alone in [false, true] {
        let mut bench = bench();
        bench.set_graphics_mode(640, 480);
        bench.host.limit_serial(SerialPort::Com2, Some(16));
        // Unless it is alone, it drops what its own name asked for only.
        let old = |number: u32| if alone { json!(number) } else { json!(format!("tool/{number}")) };
        for number in 0..10 {
            request(&bench, old(number), "screen.png", json!({}));
        }
        bench.run_ns(5_000_000);
        let begun = bench.sent(SerialPort::Com2);
        assert!(begun.starts_with("{\"jsonrpc\"") && !begun.contains('\n'), "{begun}");
        // A half request of the old client's is before it.
        bench.host.type_at(SerialPort::Com2, "{\"jsonrpc\":\n");
        request(&bench, json!("tool/a"), "session.begin", json!({"alone": alone}));
        request(&bench, json!("tool/b"), "guest.stats", json!({}));
        let text = all_sent(&mut bench);
        let (cut, answers) = text.split_once('\n').unwrap();
        assert!(serde_json::from_str::<Value>(&format!("{begun}{cut}")).is_err());
        let mut answered = ids(answers);
        // The half request is answered too, if it was not dropped.
        answered.retain(|id| !id.is_null());
        assert_eq!(answered, [json!("tool/a"), json!("tool/b")], "{answers:.300}");
    }
}

#[test]
fn clients_of_different_names_take_turns() {
    let mut bench = bench();
    for id in ["a/1", "a/2", "a/3", "b/1", "c"] {
        request(&bench, json!(id), "guest.stats", json!({}));
    }
    request(&bench, json!(7), "guest.stats", json!({}));
    assert_eq!(
        ids(&all_sent(&mut bench)),
        ["a/1", "b/1", "c", "a/2", "7", "a/3"]
            .map(|id| { if id == "7" { json!(7) } else { json!(id) } })
    );
    // Another's beginning does not drop them.
    request(&bench, json!("a/1"), "guest.stats", json!({}));
    request(&bench, json!("b/1"), "session.begin", json!({}));
    request(&bench, json!("b/2"), "session.begin", json!({"alone": 1}));
    assert_eq!(ids(&all_sent(&mut bench)), [json!("b/1"), json!("b/2"), json!("a/1")]);
}

#[test]
fn clients_that_are_gone_delay_others_by_one_request_each() {
    const GONE: usize = 3;
    let mut bench = bench();
    bench.set_graphics_mode(64, 48);
    for number in 0..16 {
        for gone in 0..GONE {
            request(&bench, json!(format!("gone{gone}/{number}")), "screen.png", json!({}));
        }
    }
    bench.run_ns(1_000_000);
    bench.sent(SerialPort::Com2);
    for number in 0..4 {
        request(&bench, json!(format!("here/{number}")), "guest.stats", json!({}));
    }
    let text = all_sent(&mut bench);
    // The rest of an answer is before them.
    let answered: Vec<String> = text.lines().skip(1).map(|line| ids(line)[0].to_string()).collect();
    let places: Vec<usize> =
        (0..answered.len()).filter(|&place| answered[place].starts_with("\"here/")).collect();
    assert_eq!(places.len(), 4, "{answered:?}");
    assert!(places[0] <= GONE, "{answered:?}");
    assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= GONE + 1), "{answered:?}");
}

#[test]
fn clients_that_are_gone_do_not_keep_another_out() {
    let mut bench = bench();
    for gone in 0..4 {
        for number in 0..4 {
            request(&bench, json!(format!("gone{gone}/{number}")), "guest.stats", json!({}));
        }
    }
    request(&bench, json!("here/0"), "guest.stats", json!({}));
    let text = all_sent(&mut bench);
    let is_refused = |line: &&str| line.contains("-32000");
    let refused: Vec<Value> = text.lines().filter(is_refused).flat_map(ids).collect();
    let of_first: Vec<Value> = (0..4).map(|number| json!(format!("gone0/{number}"))).collect();
    assert_eq!(refused, of_first, "it has been silent for longest, and is told if it is there");
    let answered: Vec<Value> =
        text.lines().filter(|line| !is_refused(line)).flat_map(ids).collect();
    assert_eq!(answered.len(), 3 * 4 + 1);
    assert!(answered[..5].contains(&json!("here/0")), "{answered:?}");
}

#[test]
fn the_queue_of_a_client_is_bounded() {
    let mut bench = bench();
    for id in 0..20 {
        request(&bench, json!(id), "guest.stats", json!({}));
    }
    let text = all_sent(&mut bench);
    let refused: Vec<&str> =
        text.lines().filter(|line| line.contains("too many requests")).collect();
    assert_eq!((text.lines().count(), refused.len()), (20, 4));
    request(&bench, json!("x".repeat(200)), "guest.stats", json!({}));
    let answers = all_sent(&mut bench);
    assert_eq!(serde_json::from_str::<Value>(&answers).unwrap()["error"]["code"], -32600);
}

#[test]
fn a_client_that_begins_is_answered_whatever_was_refused_before() {
    let mut bench = bench();
    for number in 0..50 {
        request(&bench, json!(format!("many/{number}")), "guest.stats", json!({}));
    }
    request(&bench, json!("new/0"), "session.begin", json!({}));
    let answered = ids(&all_sent(&mut bench));
    assert!(answered.contains(&json!("new/0")), "{answered:?}");
    assert!(answered.len() < 50, "of the refusals not all wait");
}

#[test]
fn a_port_for_management_is_no_console() {
    let mut bench = Bench::new("console=com1,com2 rpc=com2");
    bench.guest_prints("hello");
    bench.run_ns(10_000_000);
    assert!(bench.sent(SerialPort::Com1).ends_with("hello"));
    assert_eq!(bench.sent(SerialPort::Com2), "");
}

proptest::proptest! {
    #[test]
    fn no_line_harms(lines in proptest::collection::vec(".{0,80}|\\{\"jsonrpc\":\"2.0\",\"id\":[0-9\"\\[]{1,3},\"method\":\"(input|screen|guest|serial)\\.[a-z]{3,5}\",\"params\":\\{\"(text|dx|code)\":[-0-9\"a-z]{1,12}\\}\\}", 1..8)) {
        let mut bench = bench();
        for line in &lines {
            bench.host.type_at(SerialPort::Com2, format!("{line}\n"));
        }
        bench.run_ns(50_000_000);
        let text = bench.sent(SerialPort::Com2);
        proptest::prop_assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|answer| answer["jsonrpc"] == "2.0")));
        proptest::prop_assert!(text.is_empty() || text.ends_with('\n'));
    }
}

#[test]
fn a_guest_that_is_paused_makes_steps() {
    let mut bench = bench();
    assert_eq!(call(&mut bench, "guest.step", json!({}))["code"], -32000, "it runs");
    let nop = |rip: &str| json!({"cs": 8, "rip": rip, "bytes": "90", "text": "nop"});
    assert_eq!(call(&mut bench, "guest.pause", json!({})), nop("0x1000"));
    let expected = json!({"steps": [nop("0x1000")], "next": nop("0x1001"), "end": null});
    assert_eq!(call(&mut bench, "guest.step", json!({})), expected);
    let steps = call(&mut bench, "guest.step", json!({"count": 5}));
    assert_eq!((steps["steps"].as_array().unwrap().len(), &steps["end"]), (3, &json!("halted")));
    assert_eq!(call(&mut bench, "guest.step", json!({"count": 1001}))["code"], -32602);
    assert_eq!(call(&mut bench, "guest.dump", json!({})), json!({"text": "rip 00001234\n"}));
    assert_eq!(call(&mut bench, "guest.registers", json!({}))["rip"], "0x1004");
    let set = |name: &str, value: &str| json!({"name": name, "value": value});
    assert_eq!(call(&mut bench, "guest.set_register", set("rip", "0x1001")), json!({}));
    assert_eq!(call(&mut bench, "guest.registers", json!({}))["rip"], "0x1001");
    for wrong in [set("rip", "x"), set("nothing", "1000"), json!({"name": "rip"})] {
        assert_eq!(call(&mut bench, "guest.set_register", wrong)["code"], -32602);
    }
    assert_eq!(call(&mut bench, "guest.catch", json!({"tables": true})), json!({}));
    assert_eq!(call(&mut bench, "guest.catch", json!({}))["code"], -32602);
    assert_eq!(call(&mut bench, "guest.unpause", json!({})), json!({}));
    assert!(!bench.control.paused && bench.control.catches_tables);
    bench.control.cannot_catch = true;
    assert_eq!(call(&mut bench, "guest.catch", json!({"tables": false}))["code"], -32000);
    assert_eq!(
        call(&mut bench, "guest.set_register", set("rip", "1000"))["code"],
        -32000,
        "it runs"
    );
}

#[test]
fn a_guest_on_another_cpu_may_answer_later_and_in_order() {
    let mut bench = bench();
    bench.control.is_away = true;
    request(&bench, json!(1), "guest.stats", json!({}));
    request(&bench, json!(2), "host.log", json!({}));
    bench.run_ns(5_000_000);
    assert_eq!(bench.sent(SerialPort::Com2), "");
    assert_eq!(bench.alarm_in_ns(), Some(1_000_000), "the answer is looked for");
    // A client that begins is heard meanwhile.
    request(&bench, json!("b/1"), "session.begin", json!({}));
    bench.run_ns(1_000_000);
    assert_eq!(ids(&bench.sent(SerialPort::Com2)), [json!("b/1")]);
    bench.control.is_away = false;
    assert_eq!(ids(&all_sent(&mut bench)), [json!(1), json!(2)]);
    assert_eq!(bench.host.reserved_heap_bytes(), 0);
}

#[test]
fn a_request_that_a_guest_has_not_answered_ends_with_it_or_with_its_client() {
    let mut bench = bench();
    bench.control.is_away = true;
    request(&bench, json!("a/1"), "guest.pause", json!({}));
    bench.run_ns(1_000_000);
    request(&bench, json!("a/2"), "session.begin", json!({}));
    bench.run_ns(1_000_000);
    bench.control.is_away = false;
    assert_eq!(ids(&all_sent(&mut bench)), [json!("a/2")]);
    assert!(bench.control.paused, "it was asked all the same");
    bench.control.is_away = true;
    request(&bench, json!("a/3"), "guest.unpause", json!({}));
    bench.run_ns(1_000_000);
    bench.mailbox.close();
    assert!(all_sent(&mut bench).contains("no guest runs"));
    assert_eq!(bench.host.reserved_heap_bytes(), 0);
}
