//! XenStore: its commands, and watches of it.

use super::*;
use control::mailbox::{MAX_STORE_TEXT_BYTES, WatchRequest};

#[test]
fn the_machine_is_asked_for_the_store() {
    let mut bench = Several::at_prompt(1);
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
    let answer = bench.replied();
    assert_eq!(answer["error"]["message"], reason);
    for words in [json!("/none"), json!([1])] {
        let wrong = bench.call("store.command", json!({"name": "read", "words": words}));
        assert_eq!(wrong, "words must be a list of strings");
    }
    assert_eq!(bench.host.reserved_heap_bytes(), 0);
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
    let mut bench = Several::at_prompt(1);
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
    let mut bench = Several::at_prompt(1);
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
    let mut bench = Several::at_prompt(1);
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
