//! The commands of the prompt and the list of guests.

use super::*;
use control::scheduling::VcpuState;

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
        (
            "host",
            "Usage: host log|reboot|poweroff\r\nUsage: host disks\r\nUsage: host hang\r\nUsage: host crash\r\n",
        ),
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
