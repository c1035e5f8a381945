//! The consoles under whatever comes in: at the management port, at the prompt, and from the guest.

mod picture;
#[cfg(test)]
mod tests;

use super::escapes::EscapeFilter;
use super::test_guest::{Control, FACTS, TestGuest};
use super::{Consoles, Running};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use config::CommandLine;
use config::command_line::Escapes;
use control::host::SerialPort;
use control::mailbox::{Answer, Mailbox, Request, WatchRequest};
use control::test_host::TestHost;
use devices::bus::{Access, PioDevice};
use devices::memory::DeviceMemory;
use emulator::fuzzing::Input;

pub use picture::png;

/// Requests and other events at the management port in one run, at most.
const MAX_STEPS: usize = 64;
/// A millisecond.
const STEP_NS: u64 = 1_000_000;

/// All methods, and one that there is not.
const METHODS: [&str; 49] = [
    "session.begin",
    "screen.text",
    "screen.png",
    "input.type",
    "input.key",
    "input.mouse",
    "serial.write",
    "guest.list",
    "guest.create",
    "guest.console",
    "guest.number",
    "guest.name",
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
    "guest.uptime",
    "guest.stats",
    "guest.pause",
    "guest.unpause",
    "guest.catch",
    "guest.step",
    "guest.dump",
    "guest.registers",
    "guest.set_register",
    "guest.destroy",
    "guest.reboot",
    "guest.trigger",
    "guest.button_press",
    "guest.shutdown",
    "guest.set_vcpus",
    "guest.set_memory",
    "guest.set_max_memory",
    "guest.vcpus",
    "guest.pin",
    "guest.share",
    "guest.set_share",
    "host.disks",
    "host.log",
    "nothing",
    "",
];
const IDS: [&str; 8] = [
    "",
    "\"id\":null,",
    "\"id\":1,",
    "\"id\":\"a/1\",",
    "\"id\":\"b/1\",",
    "\"id\":\"c/\",",
    "\"id\":\"/\",",
    "\"id\":[],",
];
const PARAMS: [&str; 26] = [
    "{}",
    "{\"guest\":1}",
    "{\"guest\":\"dos\",\"text\":\"b\"}",
    "{\"guest\":\"dos\",\"code\":28,\"pressed\":true}",
    "{\"guest\":2,\"count\":3}",
    "{\"guest\":2,\"tables\":true}",
    "{\"guest\":3}",
    "{\"config\":\"x\",\"settings\":[\"a=1\"],\"name\":\"dos\"}",
    "{\"guest\":1,\"name\":\"rip\",\"value\":\"1002\"}",
    "[]",
    "{\"alone\":true}",
    "{\"text\":\"aB\\u001b\"}",
    "{\"code\":28,\"pressed\":true}",
    "{\"dx\":1,\"buttons\":31}",
    "{\"tables\":true}",
    "{\"count\":3}",
    "{\"name\":\"rip\",\"value\":\"1002\"}",
    "{\"count\":-1}",
    "{\"guest\":2,\"kib\":4096}",
    "{\"guest\":1,\"disk\":\"x.img,,xvdb\"}",
    "{\"guest\":\"dos\",\"vdev\":\"hdc\",\"target\":\"x.iso\"}",
    "{\"guest\":1,\"type\":\"pv\",\"text\":\"a\"}",
    "{\"number\":2}",
    "{\"paths\":[\"/local\",\"/vm\"]}",
    "{\"watch\":1}",
    "{\"guest\":1,\"trigger\":\"nmi\",\"button\":\"power\",\"vcpu\":1,\"hard\":\"0-1\",\"weight\":2}",
];

/// A machine, its consoles and two guests.
struct Bench {
    host: &'static TestHost,
    consoles: Consoles,
    machine: Arc<Mailbox>,
    guests: [(TestGuest, Control); 2],
}

impl Bench {
    fn new(command_line: &str) -> Self {
        std::thread_local! {
            static PLATFORM: &'static TestHost = TestHost::leak();
        }
        let host = PLATFORM.with(|host| *host);
        for port in [SerialPort::Com1, SerialPort::Com2] {
            host.limit_serial(port, None);
            host.take_sent(port);
        }
        let (options, _) = CommandLine::parse(command_line);
        let machine = Arc::new(Mailbox::of_machine());
        let mut consoles = Consoles::new(host, &options, machine.clone());
        let guests = [(1, "linux"), (2, "dos")].map(|(number, name)| {
            let guest = TestGuest::called(number, name, 1 << 20);
            consoles.introduce(guest.mailbox.clone(), FACTS);
            consoles.attach(number, guest.ports.clone());
            (guest, Control::default())
        });
        Self { host, consoles, machine, guests }
    }

    fn attend(&mut self) {
        self.host.advance_ns(STEP_NS);
        self.consoles.attend();
        for (guest, control) in &mut self.guests {
            guest.clock.advance_ns(STEP_NS);
            control.answer_all(&mut self.consoles, &guest.mailbox);
        }
        while let Some((client, request)) = self.machine.take_request() {
            self.machine.put_answer(client, answer_of_machine(&request));
            self.consoles.take_answers();
        }
        self.consoles.set_alarm(None);
    }

    /// A guest ends, and one of its number and name begins.
    fn renew(&mut self, index: usize) {
        let number = index as u32 + 1;
        let guest = TestGuest::called(number, self.guests[index].0.mailbox.name(), 1 << 20);
        self.consoles.detach(number);
        self.guests[index].0.mailbox.close();
        self.attend();
        self.consoles.introduce(guest.mailbox.clone(), FACTS);
        self.consoles.attach(number, guest.ports.clone());
        self.guests[index] = (guest, Control::default());
    }

    /// A command that was typed.
    fn receive(&mut self) -> Option<String> {
        let Consoles { terminal, guests, .. } = &mut self.consoles;
        terminal.receive(self.host, guests)
    }

    /// Until nothing is left to be done, which is soon.
    fn finish(&mut self) {
        self.host.limit_serial(SerialPort::Com2, None);
        for _ in 0..10_000 {
            if !self.consoles.rpc.as_ref().is_some_and(super::RpcPort::is_busy) {
                return;
            }
            self.attend();
        }
        panic!("the management port does not come to an end");
    }
}

/// Each look at a watch finds as much as it can.
fn answer_of_machine(request: &Request) -> Answer {
    match request {
        Request::Watch(WatchRequest::Begin { .. }) => Answer::Watching(1),
        Request::Watch(WatchRequest::Take { count, .. }) => {
            Answer::Events(vec!["/local/\x1b[2J".into(); *count as usize])
        }
        Request::Watch(WatchRequest::End { .. }) => Answer::Done,
        _ => Answer::Failed("there is no such module".into()),
    }
}

/// The management port: requests that are right, wrong, cut, of several clients, at a port that is
/// slow at times. Each line that goes out is an answer, but for those that clients that begin have
/// cut.
pub fn rpc(data: &[u8]) {
    let mut bench = Bench::new("console=none rpc=com2");
    let mut input = Input::new(data);
    let mut sessions = 0;
    for _ in 0..MAX_STEPS {
        let Some(choice) = input.u8() else { break };
        match choice % 8 {
            0 => bench.host.limit_serial(SerialPort::Com2, Some(usize::from(choice / 8))),
            1 => {
                bench.host.limit_serial(SerialPort::Com2, None);
                let pixels = input.rest(usize::from(choice));
                let guest = &bench.guests[usize::from(choice >> 3 & 1)].0;
                DeviceMemory::write(&*guest.odd_even, 0, pixels);
                DeviceMemory::write(&*guest.vram, 0, pixels);
            }
            2 if choice / 8 == 31 => bench.renew(1),
            2 => (0..choice / 8).for_each(|_| bench.attend()),
            3 => {
                let length = usize::from(input.u8().unwrap_or(0));
                // It cannot name the method that begins a session, but by an escape.
                let text: Vec<u8> = input
                    .rest(length)
                    .iter()
                    .map(|&byte| if byte == b'b' { b'c' } else { byte })
                    .collect();
                sessions += if text.contains(&b'\\') { text.len() } else { 0 };
                bench.host.type_at(SerialPort::Com2, text);
            }
            _ => {
                let (id, method) =
                    (input.pick(&IDS).unwrap_or(""), input.pick(&METHODS).unwrap_or(""));
                let params = input.pick(&PARAMS).unwrap_or("{}");
                let line = format!(
                    "\n{{\"jsonrpc\":\"2.0\",{id}\"method\":\"{method}\",\"params\":{params}}}\n"
                );
                bench.host.type_at(SerialPort::Com2, line);
                sessions += usize::from(method == METHODS[0]);
            }
        }
        bench.attend();
    }
    bench.host.type_at(SerialPort::Com2, "\n");
    bench.attend();
    bench.finish();
    let sent = String::from_utf8(bench.host.take_sent(SerialPort::Com2)).expect("text");
    let is_answer = |line: &&str| {
        serde_json::from_str::<serde_json::Value>(line)
            .is_ok_and(|answer| answer["jsonrpc"] == "2.0")
    };
    let others = sent.lines().filter(|line| !is_answer(line)).count();
    assert!(others <= sessions, "{others} lines are no answers, {sessions} clients began");
    assert!(sent.is_empty() || sent.ends_with('\n'));
}

/// Commands of the prompt that name a guest, and their other operands.
const COMMANDS: [(&str, &str); 20] = [
    ("list", ""),
    ("pause", ""),
    ("unpause", ""),
    ("step", ""),
    ("stats", ""),
    ("screen", ""),
    ("console", ""),
    ("create", ""),
    ("uptime", ""),
    ("mem-set", " 64"),
    ("mem-max", " 64"),
    ("block-list", ""),
    ("network-list", ""),
    ("network-attach", " bridge=lan"),
    ("network-detach", " 0"),
    ("block-attach", " x.img,,xvdb"),
    ("block-detach", " xvdb"),
    ("cd-insert", " hdc x.iso"),
    ("cd-eject", " hdc"),
    ("xenstore-watch", " /local"),
];

/// The prompt and the serial console: what is typed, and what the guests transmit. Nothing that
/// rules a terminal goes out.
pub fn prompt(data: &[u8]) {
    let mut bench = Bench::new("console=com1");
    let mut input = Input::new(data);
    while let Some(choice) = input.u8() {
        let length = usize::from(choice / 8);
        match choice % 8 {
            0 => bench.host.type_at(SerialPort::Com1, b"\x01\x01\x01"),
            1 | 2 => bench.host.type_at(SerialPort::Com1, input.rest(length)),
            number @ 3..=5 => {
                let uart = &bench.guests[usize::from(number == 5)].0.ports.uart;
                for byte in input.rest(length) {
                    uart.pio_write(Access::new(0, 1), (*byte).into());
                }
            }
            6 if length == 31 => bench.renew(0),
            6 if length == 30 => bench.renew(1),
            6 => {
                let (name, rest) = input.pick(&COMMANDS).unwrap_or(("", ""));
                let operand = ["", " 1", " dos", " 3"][length % 4];
                bench.host.type_at(SerialPort::Com1, format!("\r{name}{operand}{rest}\r"));
            }
            _ => bench.host.type_at(SerialPort::Com1, b"\r"),
        }
        while let Some(command) = bench.receive() {
            if let Some((Running::Watch(watch), _)) = &mut bench.consoles.commands[0] {
                watch.end();
                bench.attend();
            // The commands of the machine end it.
            } else if !command.trim().starts_with("ho") {
                bench.consoles.begin_command(0, &command);
                bench.attend();
            }
        }
        bench.attend();
    }
    for index in 0..bench.guests.len() {
        bench.consoles.detach(index as u32 + 1);
        bench.guests[index].0.mailbox.close();
    }
    for _ in 0..500 {
        bench.consoles.attend();
    }
    let sent = bench.host.take_sent(SerialPort::Com1);
    let mut filtered = Vec::new();
    EscapeFilter::default().take(&sent, Escapes::Filter, &mut filtered);
    // The last sequence may not have gone out whole.
    assert!(
        sent.starts_with(&filtered) && sent.len() - filtered.len() < 16,
        "not all that went out is harmless: {sent:x?}"
    );
}
