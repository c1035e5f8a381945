//! Several guests.

mod commands;
mod consoles;
mod disks_and_cards;
mod drivers;
mod requests;
mod resources;
mod store;
mod triggers;

use super::*;
use core::sync::atomic::Ordering;
use serde_json::{Value, json};

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

    /// With the prompt as the one that reads what is typed.
    fn at_prompt(count: usize) -> Self {
        let mut bench = Self::new(count);
        let mut shown = String::new();
        (0..count).for_each(|_| shown = bench.types(SWITCH));
        assert!(shown.contains(&input_to("Bulkhead")), "{shown}");
        bench
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

    /// The reply that the management port has sent.
    fn replied(&self) -> Value {
        let sent = self.host.take_sent(SerialPort::Com2);
        serde_json::from_slice(&sent).unwrap_or_else(|error| panic!("{error}: {sent:?}"))
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.host.type_at(SerialPort::Com2, format!("{request}\n"));
        self.run_ms(20);
        let mut answer = self.replied();
        let result = answer["result"].take();
        if result.is_null() { answer["error"]["message"].take() } else { result }
    }
}

fn input_to(name: &str) -> String {
    format!("*** Serial input to {name} (type 'CTRL-a' three times to switch input)\r\n")
}

/// The prompt's answer to a command.
fn answers(bench: &mut Several, command: &str) -> String {
    let shown = bench.types(format!("{command}\r"));
    let answer = shown.strip_prefix(&format!("{command}\r\n")).unwrap_or_else(|| {
        panic!("{shown:?}");
    });
    answer.strip_suffix("bulkhead> ").unwrap_or(answer).to_owned()
}
