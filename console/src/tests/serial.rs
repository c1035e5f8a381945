//! The console's serial ports.

use super::*;
use control::output::OutputRing;
use devices::console::ByteSink;

const TO_LINUX: &str = "*** Serial input to linux (type 'CTRL-a' three times to switch input)\r\n";
const TO_BULKHEAD: &str =
    "*** Serial input to Bulkhead (type 'CTRL-a' three times to switch input)\r\nbulkhead> ";

fn bench() -> Bench {
    let mut bench = Bench::new("console=com1");
    bench.attend();
    assert_eq!(bench.sent(SerialPort::Com1), TO_LINUX);
    bench
}

#[test]
fn com1_is_joined_both_ways() {
    let mut bench = bench();
    bench.guest_prints("login: ");
    assert_eq!(bench.alarm_in_ns(), Some(2_000_000));
    bench.attend();
    assert_eq!(bench.sent(SerialPort::Com1), "login: ");
    bench.host.type_at(SerialPort::Com1, "a user with a long name\r");
    bench.attend();
    // The line takes sixteen characters, a UART without FIFO one; the rest is kept.
    assert!(bench.alarm_in_ns().unwrap() < 1_100_000);
    assert_eq!(bench.guest_reads(), "a user with a long name\r");
    bench.attend();
    assert_eq!(bench.alarm_in_ns(), None);
}

#[test]
fn a_slow_port_holds_the_guest_up_and_loses_nothing() {
    let mut bench = bench();
    bench.host.limit_serial(SerialPort::Com1, Some(16));
    let text: String = (0..100_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let mut rest = text.as_str();
    let mut shown = String::new();
    while shown.len() < text.len() {
        while !rest.is_empty() && bench.guest.uart.pio_read(Access::new(5, 1)) == Some(0x60) {
            bench.guest_prints(&rest[..1]);
            rest = &rest[1..];
        }
        bench.attend();
        assert!(bench.consoles.terminal.is_behind() == (bench.alarm_in_ns() == Some(1_000_000)));
        let sent = bench.sent(SerialPort::Com1);
        // The queue may be in two pieces.
        assert!(sent.len() <= 32);
        shown += &sent;
        bench.advance_ns(1_000_000);
    }
    assert_eq!(shown, text);
}

#[test]
fn ctrl_a_three_times_moves_the_input() {
    let mut bench = bench();
    bench.host.type_at(SerialPort::Com1, SWITCH);
    bench.attend();
    assert_eq!(bench.sent(SerialPort::Com1), TO_BULKHEAD);
    bench.host.type_at(SerialPort::Com1, "dumpx\x7f\r");
    bench.attend();
    assert_eq!(bench.sent(SerialPort::Com1), "dumpx\x08 \x08\r\nrip 00001234\r\nbulkhead> ");
    bench.host.type_at(SerialPort::Com1, SWITCH);
    bench.attend();
    assert_eq!(bench.sent(SerialPort::Com1), format!("\r\n{TO_LINUX}"));
    bench.host.type_at(SerialPort::Com1, "\x01\x01a");
    bench.attend();
    assert_eq!(bench.guest_reads(), "\x01\x01a");
}

#[test]
fn the_prompt_steps_a_guest_that_is_paused() {
    let mut bench = bench();
    let mut answers = |commands: &str| {
        bench.host.type_at(SerialPort::Com1, commands);
        bench.attend();
        bench.sent(SerialPort::Com1)
    };
    answers(core::str::from_utf8(SWITCH).unwrap());
    assert!(answers("step\r").contains("the guest runs: pause it first\r\n"));
    assert!(answers("pause\r").contains("\r\n0008:00001000  90                    nop\r\n"));
    let steps = answers("step 2\r");
    let at = |address: u64| format!("0008:{address:08x}  90                    nop\r\n");
    assert!(
        steps.contains(&format!("\r\n  {}  {}> {}bulk", at(0x1000), at(0x1001), at(0x1002))),
        "{steps}"
    );
    assert!(answers("step 7\r").contains("\r\nafter 2 steps: halted\r\n"));
    for wrong in ["step 0\r", "step 1001\r", "step linux 0\r", "step linux 1 1\r"] {
        let usage = "Usage: step DOM [N]\r\nN is from 1 to 1000\r\n";
        assert!(answers(wrong).contains(usage), "{wrong}");
    }
    assert!(answers("step x\r").contains("x is an invalid domain identifier (rc=-6)\r\n"));
    assert!(answers("registers\r").contains("rax 0000000000000012     rip 0000000000001004"));
    answers("set rip 1002\r");
    assert!(answers("registers\r").contains("rip 0000000000001002"));
    assert!(answers("set rip\r").contains("Usage: set DOM REGISTER VALUE\r\n"));
    assert!(answers("set nothing 1000\r").contains("no register nothing can be set\r\n"));
    assert!(!answers("catch tables\r").contains("cannot"));
    assert!(answers("catch all\r").contains("Usage: catch DOM tables|off\r\n"));
    answers("unpause\r");
    assert!(answers("set rip 1000\r").contains("the guest runs: pause it first\r\n"));
    assert!(!bench.control.paused && bench.control.catches_tables);
    bench.host.type_at(SerialPort::Com1, "catch off\r");
    bench.attend();
    assert!(!bench.sent(SerialPort::Com1).contains("cannot") && !bench.control.catches_tables);
    bench.control.cannot_catch = true;
    bench.host.type_at(SerialPort::Com1, "catch off\r");
    bench.attend();
    assert!(bench.sent(SerialPort::Com1).contains("this processor cannot\r\n"));
}

#[test]
fn the_prompt_controls_the_guest() {
    let mut bench = bench();
    bench.host.type_at(SerialPort::Com1, SWITCH);
    bench.host.type_at(SerialPort::Com1, "stats\rreboot\rdestroy\rnonsense\r");
    bench.set_text_mode();
    bench.write_text(80, "hello");
    bench.host.type_at(SerialPort::Com1, "screen\r");
    bench.host.set_log("a line\n");
    bench.host.type_at(SerialPort::Com1, "dmesg\rhost log\r");
    bench.attend();
    bench.run_ns(100_000_000);
    let text = bench.sent(SerialPort::Com1);
    assert_eq!((bench.control.resets, bench.control.destroyed), (1, 1));
    for part in [
        "cpuid                           5",
        "nonsense: unknown",
        "\r\nhello\r\n",
        "dmesg\r\na line\r\n",
        "host log\r\na line\r\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn a_command_that_the_heap_has_no_room_for_is_one_line() {
    for command in
        ["help", "list", "stats", "dump", "registers", "step", "screen", "dmesg", "destroy"]
    {
        let mut bench = bench();
        bench.host.type_at(SerialPort::Com1, SWITCH);
        bench.attend();
        bench.sent(SerialPort::Com1);
        bench.host.refuse_heap_after(0);
        bench.host.type_at(SerialPort::Com1, format!("{command}\r"));
        bench.attend();
        let shown = bench.sent(SerialPort::Com1);
        let refusal = "too little memory: 512 KiB of the hypervisor's heap are not free";
        assert_eq!(shown, format!("{command}\r\n{refusal}\r\nbulkhead> "));
        assert_eq!(bench.control.destroyed, 0);
        bench.host.grant_heap();
        bench.host.type_at(SerialPort::Com1, "help\r");
        bench.attend();
        assert!(bench.sent(SerialPort::Com1).contains("this list"));
        assert_eq!(bench.host.reserved_heap_bytes(), 0);
    }
}

#[test]
fn the_largest_text_is_shown_if_the_heap_has_room_for_it() {
    let mut bench = bench();
    bench.set_largest_text_mode();
    bench.host.type_at(SerialPort::Com1, SWITCH);
    bench.attend();
    bench.sent(SerialPort::Com1);
    bench.host.refuse_heap_after(1);
    bench.host.type_at(SerialPort::Com1, "screen\r");
    bench.attend();
    let shown = bench.sent(SerialPort::Com1);
    assert!(shown.contains("too little memory: 4096 KiB"), "{shown}");
    bench.host.grant_heap();
    bench.host.type_at(SerialPort::Com1, "screen\r");
    bench.run_ns(2_000_000_000);
    assert_eq!(
        bench.sent(SerialPort::Com1).lines().filter(|line| line.len() == 3 * 256).count(),
        1024
    );
}

#[test]
fn commands_wait_for_a_port_that_is_behind() {
    const COMMANDS: usize = 20;
    let mut bench = bench();
    bench.host.type_at(SerialPort::Com1, SWITCH);
    bench.attend();
    bench.sent(SerialPort::Com1);
    let text = "a line\n".repeat(10_000);
    bench.host.set_log(&text);
    bench.host.limit_serial(SerialPort::Com1, Some(16));
    bench.host.type_at(SerialPort::Com1, "dmesg\r".repeat(COMMANDS));
    bench.run_ns(10_000_000);
    bench.sent(SerialPort::Com1);
    bench.host.limit_serial(SerialPort::Com1, None);
    bench.consoles.terminal.send(bench.host);
    let mut shown = String::new();
    while bench.consoles.terminal.is_behind() {
        bench.consoles.terminal.send(bench.host);
        shown += &bench.sent(SerialPort::Com1);
    }
    assert!(shown.len() < 2 * text.len(), "{} bytes waited", shown.len());
    // None is lost.
    bench.run_ns(200_000_000 * COMMANDS as u64);
    assert_eq!(bench.sent(SerialPort::Com1).matches("dmesg\r\n").count(), COMMANDS - 1);
}

#[test]
fn a_restarted_guest_is_not_announced_again_and_a_person_stays_at_the_prompt() {
    let mut bench = bench();
    bench.guest_prints("bye");
    bench.consoles.detach(1);
    assert_eq!(bench.sent(SerialPort::Com1), "bye");
    bench.consoles.attach(1, bench.guest.clone());
    bench.attend();
    assert_eq!(bench.sent(SerialPort::Com1), "");
    bench.host.type_at(SerialPort::Com1, SWITCH);
    bench.attend();
    bench.consoles.detach(1);
    bench.consoles.attach(1, bench.guest.clone());
    bench.host.type_at(SerialPort::Com1, "help\r");
    bench.attend();
    assert!(bench.sent(SerialPort::Com1).contains("this list"));
}

#[test]
fn the_last_words_are_sent_before_the_machine_is_turned_off() {
    let mut bench = bench();
    bench.host.limit_serial(SerialPort::Com1, Some(16));
    bench.guest_prints(&"bye ".repeat(5000));
    bench.consoles.detach(1);
    bench.consoles.flush();
    assert_eq!(bench.sent(SerialPort::Com1), "bye ".repeat(5000));
}

#[test]
fn without_a_guest_there_is_the_prompt() {
    let mut bench = bench();
    bench.end_guest();
    assert_eq!(bench.attend_alone(), u64::MAX);
    bench.host.type_at(SerialPort::Com1, "stats\r");
    bench.attend_alone();
    assert_eq!(
        bench.sent(SerialPort::Com1),
        format!("{TO_BULKHEAD}stats\r\nno guest runs\r\nbulkhead> ")
    );
}

#[test]
fn with_no_console_the_guest_prints_for_itself() {
    let mut bench = Bench::new("console=none");
    for _ in 0..3 {
        bench.guest_prints(&"x".repeat(20_000));
        bench.run_ns(100_000_000);
    }
    assert_eq!(bench.guest.uart.pio_read(Access::new(5, 1)), Some(0x60));
    assert_eq!(bench.sent(SerialPort::Com1), "");
}

#[test]
fn the_machines_keyboard_and_mouse_are_the_guests() {
    let mut bench = bench();
    for byte in [0x1e, 0x9e, 0xe0, 0x48] {
        bench.host.input(control::host::InputEvent::KeyboardByte(byte));
    }
    let mut keys = Vec::new();
    for _ in 0..20 {
        bench.run_ns(1_000_000);
        keys.extend(bench.guest_reads_keys());
    }
    // Set 2: the controller does not translate before a guest asks it to.
    assert_eq!(keys, [0x1c, 0xf0, 0x1c, 0xe0, 0x75]);
}

#[test]
fn a_guest_that_restarts_for_ever_does_not_fill_the_hosts_memory() {
    let mut bench = bench();
    bench.host.limit_serial(SerialPort::Com1, Some(16));
    for _ in 0..50 {
        // Each life fills the ring; the port takes next to nothing meanwhile.
        while bench.guest.output[0].put(b'x') {}
        bench.consoles.detach(1);
        bench.guest.output[0] = Arc::new(OutputRing::new());
        bench.consoles.attach(1, bench.guest.clone());
    }
    bench.host.limit_serial(SerialPort::Com1, None);
    let mut waited = 0;
    while bench.consoles.terminal.is_behind() {
        bench.attend();
        waited += bench.sent(SerialPort::Com1).len();
        bench.advance_ns(1_000_000);
    }
    assert!((64 << 10..66 << 10).contains(&waited), "{waited} bytes waited");
}

#[test]
fn a_guest_draws_but_does_not_rule_the_terminal() {
    let mut bench = bench();
    let shown = |bench: &mut Bench, text: &str| {
        bench.guest_prints(text);
        bench.attend();
        bench.sent(SerialPort::Com1)
    };
    let hostile = "\x1b[?25l\x1b[6n\x1b]0;title\x07\x1b[2J~ # ";
    assert_eq!(shown(&mut bench, hostile), "\x1b[?25l\x1b[2J~ # ");
    // The prompt's terminal is as it was before the guest had it.
    bench.host.type_at(SerialPort::Com1, SWITCH);
    bench.attend();
    let restored = "\x1b[?25h\x0f\x1b(B\x1b7\x1b[4l\x1b[r\x1b8\x1b[m";
    assert_eq!(bench.sent(SerialPort::Com1), format!("{restored}\r\n{TO_BULKHEAD}"));
    assert_eq!(shown(&mut bench, "\x1b[1;1H\x08x"), "^[[1;1H^Hx");
    let mut bench = Bench::new("console=com1 escapes=pass");
    bench.attend();
    bench.sent(SerialPort::Com1);
    assert_eq!(shown(&mut bench, hostile), hostile);
}

#[test]
fn commands_wait_for_a_guest_on_another_cpu() {
    let mut bench = bench();
    bench.control.is_away = true;
    bench.host.type_at(SerialPort::Com1, SWITCH);
    bench.host.type_at(SerialPort::Com1, "dump\rhelp\r");
    bench.run_ns(5_000_000);
    assert_eq!(bench.sent(SerialPort::Com1), format!("{TO_BULKHEAD}dump\r\n"));
    bench.control.is_away = false;
    bench.run_ns(1_000_000);
    let shown = bench.sent(SerialPort::Com1);
    assert!(shown.starts_with("rip 00001234\r\nbulkhead> help\r\nhelp "), "{shown}");
}
