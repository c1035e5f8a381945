//! Which guest a request means, and requests to the machine for a new one.

use super::*;

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
        let answer = self.replied();
        let is_known = answer["result"] == expected || answer["error"]["message"] == expected;
        assert!(is_known, "{answer}");
    }
}

#[test]
fn a_guest_is_made_at_the_prompt() {
    let mut bench = Several::at_prompt(1);
    bench.host.type_at(SerialPort::Com1, "create two.cfg memory=64 vcpus=2\r");
    bench.attend();
    let (client, request) = bench.machine.take_request().unwrap();
    let settings = "memory=64\nvcpus=2\n".into();
    assert_eq!(request, Request::Create { module: "two.cfg".into(), settings });
    bench.machine.put_answer(client, Answer::Failed("two: memory: too much".into()));
    bench.run_ms(2);
    assert!(bench.shown().ends_with("two: memory: too much\r\nbulkhead> "));
}
