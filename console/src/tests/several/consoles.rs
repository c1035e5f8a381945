//! Input and output of several guests, and of the two consoles of one.

use super::drivers::with_drivers;
use super::*;
use control::host::InputEvent;
use control::output::OutputRing;
use devices::console::ByteSink;

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

fn write(ring: &OutputRing, text: &str) {
    assert!(text.bytes().all(|byte| ring.put(byte)));
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
