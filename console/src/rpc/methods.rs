//! The methods of the management port. `docs/rpc.md` describes them.

use super::{Failure, Outcome};
use crate::answer::Reply;
use crate::keyboard::{Keyboard, QueueFull};
use crate::png::PngStream;
use crate::terminal::Terminal;
use crate::{parse_value, text_heap_bytes};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use control::budget::Budget;
use control::guest::GuestPorts;
use control::host::Host;
use control::mailbox::{Answer, Client, MAX_STEPS, Mailbox, Request};
use control::state::{GuestStats, Location};
use devices::i8042::Buttons;
use devices::keys::Key;
use serde_json::{Value, json};

/// The most that an instruction of `guest.step` takes, as value and as text.
const HEAP_BYTES_PER_STEP: u64 = 3 << 10;
/// Copies of the log while it becomes an answer; a byte becomes six characters at the most.
const LOG_COPIES: u64 = 16;

/// The parties that the methods act upon.
pub struct Services<'a> {
    /// The machine.
    pub host: &'static dyn Host,
    /// The guest's devices.
    pub ports: Option<&'a GuestPorts>,
    /// The guest.
    pub guest: Option<&'a Arc<Mailbox>>,
    /// Types.
    pub keyboard: &'a mut Keyboard,
    /// Writes to COM1.
    pub terminal: &'a mut Terminal,
}

impl Services<'_> {
    pub(super) fn call(
        &mut self,
        method: &str,
        params: &Value,
        budgets: &mut Vec<Budget>,
    ) -> Result<Outcome, Failure> {
        let result = match method {
            "screen.png" => return self.screen_png(budgets).map(Reply::Picture).map(Outcome::from),
            "screen.text" => self.screen_text(budgets),
            "input.type" => self.input_type(params),
            "input.key" => self.input_key(params),
            "input.mouse" => self.input_mouse(params),
            "serial.write" => self.serial_write(params),
            "guest.stats" => return self.ask(Request::Stats),
            "guest.pause" => return self.ask(Request::Pause),
            "guest.resume" => return self.ask(Request::Resume),
            "guest.catch" => {
                return self.ask(Request::CatchTables(flag(params, "tables", None)?));
            }
            "guest.step" => return self.guest_step(params, budgets),
            "guest.dump" => return self.ask(Request::Dump),
            "guest.registers" => return self.ask(Request::Registers),
            "guest.set_register" => return self.guest_set_register(params),
            "guest.poweroff" => return self.ask(Request::PowerOff),
            "guest.reset" => return self.ask(Request::Reset),
            "host.log" => self.host_log(budgets),
            _ => {
                Err(Failure::new(Failure::METHOD_NOT_FOUND, format!("there is no method {method}")))
            }
        };
        result.map(|result| Reply::Text(result.to_string()).into())
    }

    /// Leaves a request in the guest's mailbox.
    fn ask(&self, request: Request) -> Result<Outcome, Failure> {
        let guest = self.guest.filter(|guest| guest.post(Client::Management, request));
        guest.cloned().map(Outcome::Asked).ok_or_else(no_guest)
    }

    /// A method's result, made of the guest's answer.
    pub(super) fn reply(&self, answer: Answer) -> Result<Reply, Failure> {
        let refused = |reason: &str| Err(Failure::new(Failure::SERVER_ERROR, reason));
        let result = match answer {
            Answer::Done => done(()),
            Answer::NoGuest => return Err(no_guest()),
            Answer::Runs => return refused("the guest is not paused"),
            Answer::Impossible => return refused("this processor cannot"),
            Answer::NoRegister(name) => {
                return Err(Failure::params(format!("no register {name} can be set")));
            }
            Answer::Stats(stats) => self.stats(&stats),
            Answer::Dump(text) => json!({"text": text}),
            Answer::Paused(next) => location(&next),
            Answer::Registers(registers, _) => {
                let hex = |(name, value): (&str, u64)| (name.into(), format!("{value:#x}").into());
                Value::Object(registers.0.into_iter().map(hex).collect())
            }
            Answer::Steps(steps) => {
                let done: Vec<Value> = steps.done.iter().map(location).collect();
                json!({"steps": done, "next": location(&steps.next), "end": steps.end})
            }
        };
        Ok(Reply::Text(result.to_string()))
    }

    /// Sets heap aside until the answer is sent.
    fn reserve(&self, bytes: u64, budgets: &mut Vec<Budget>) -> Result<(), Failure> {
        budgets.push(Budget::reserve(self.host, bytes)?);
        Ok(())
    }

    fn ports(&self) -> Result<&GuestPorts, Failure> {
        self.ports.ok_or_else(no_guest)
    }

    fn screen_text(&self, budgets: &mut Vec<Budget>) -> Result<Value, Failure> {
        let vga = &self.ports()?.vga;
        self.reserve(text_heap_bytes(vga), budgets)?;
        let Some(screen) = vga.text_screen() else { return Ok(Value::Null) };
        let rows: Vec<String> = (0..screen.rows).map(|row| screen.row(row).collect()).collect();
        Ok(json!({"rows": rows, "cursor": screen.cursor.map(|(column, row)| [column, row])}))
    }

    fn screen_png(&self, budgets: &mut Vec<Budget>) -> Result<Box<PngStream>, Failure> {
        let vga = &self.ports()?.vga;
        self.reserve(PngStream::heap_bytes(&vga.frame()), budgets)?;
        Ok(Box::new(PngStream::new(vga)))
    }

    fn host_log(&self, budgets: &mut Vec<Budget>) -> Result<Value, Failure> {
        self.reserve(self.host.log_bytes() * LOG_COPIES, budgets)?;
        Ok(json!({"text": String::from_utf8_lossy(&self.host.log_text())}))
    }

    fn input_type(&mut self, params: &Value) -> Result<Value, Failure> {
        self.ports()?;
        self.keyboard
            .type_text(text(params, "text")?)
            .map_err(|character| Failure::params(format!("no key types {character:?}")))??;
        Ok(done(()))
    }

    fn input_key(&mut self, params: &Value) -> Result<Value, Failure> {
        self.ports()?;
        let code = integer(params, "code", 1, 0x7f)? as u8;
        let key = Key { code, extended: flag(params, "extended", Some(false))? };
        self.keyboard.press(key, flag(params, "pressed", None)?)?;
        Ok(done(()))
    }

    fn input_mouse(&self, params: &Value) -> Result<Value, Failure> {
        const REACH: i64 = 4096;
        let distance =
            |name| integer_or(params, name, 0, -REACH, REACH).map(|counts| counts as i32);
        let (dx, dy, dz) = (distance("dx")?, distance("dy")?, distance("dz")?);
        let buttons = Buttons::from_bits(integer_or(params, "buttons", 0, 0, 0x1f)? as u8);
        self.ports()?.i8042.mouse_move(dx, dy, dz, buttons);
        Ok(done(()))
    }

    fn serial_write(&mut self, params: &Value) -> Result<Value, Failure> {
        self.ports()?;
        if !self.terminal.write_to_guest(text(params, "text")?.as_bytes()) {
            return Err(QueueFull.into());
        }
        Ok(done(()))
    }

    fn guest_step(&self, params: &Value, budgets: &mut Vec<Budget>) -> Result<Outcome, Failure> {
        let count = integer_or(params, "count", 1, 1, MAX_STEPS.into())? as u32;
        self.reserve(u64::from(count) * HEAP_BYTES_PER_STEP, budgets)?;
        self.ask(Request::Step(count))
    }

    fn guest_set_register(&self, params: &Value) -> Result<Outcome, Failure> {
        let name = text(params, "name")?.into();
        let value = parse_value(text(params, "value")?)
            .ok_or_else(|| Failure::params("value must be hexadecimal digits"))?;
        self.ask(Request::SetRegister { name, value })
    }

    fn stats(&self, stats: &GuestStats) -> Value {
        let exits: serde_json::Map<String, Value> =
            stats.exits.iter().map(|&(name, count)| (name.to_string(), count.into())).collect();
        json!({
            "state": stats.state,
            "total_exits": stats.total_exits,
            "exits": exits,
            "guest_time_ns": stats.guest_time_ns,
            "host_free_bytes": self.host.free_bytes(),
            "host_heap_bytes": self.host.heap_bytes(),
        })
    }
}

fn no_guest() -> Failure {
    Failure::new(Failure::SERVER_ERROR, "no guest runs")
}

fn location(location: &Location) -> Value {
    json!({
        "cs": location.cs,
        "rip": format!("{:#x}", location.rip),
        "bytes": location.hex_bytes(),
        "text": location.text,
    })
}

/// The result of a method that has nothing to say.
pub(super) fn done((): ()) -> Value {
    json!({})
}

fn text<'a>(params: &'a Value, name: &str) -> Result<&'a str, Failure> {
    let value = params.get(name).and_then(Value::as_str);
    value.ok_or_else(|| Failure::params(format!("{name} must be a string")))
}

pub(super) fn flag(params: &Value, name: &str, default: Option<bool>) -> Result<bool, Failure> {
    let value = match params.get(name) {
        None => default,
        Some(value) => value.as_bool(),
    };
    value.ok_or_else(|| Failure::params(format!("{name} must be true or false")))
}

fn integer(params: &Value, name: &str, min: i64, max: i64) -> Result<i64, Failure> {
    let value =
        params.get(name).and_then(Value::as_i64).filter(|value| (min..=max).contains(value));
    value.ok_or_else(|| Failure::params(format!("{name} must be a number from {min} to {max}")))
}

fn integer_or(
    params: &Value,
    name: &str,
    default: i64,
    min: i64,
    max: i64,
) -> Result<i64, Failure> {
    if params.get(name).is_none() { Ok(default) } else { integer(params, name, min, max) }
}
