//! The methods of the management port. `docs/rpc.md` describes them.

use super::{Failure, Outcome};
use crate::answer::Reply;
use crate::guests::{Guest, Guests, Unclear};
use crate::keyboard::QueueFull;
use crate::png::PngStream;
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
    /// Its mailbox.
    pub machine: &'a Arc<Mailbox>,
    /// The guests.
    pub guests: &'a mut Guests,
}

impl Services<'_> {
    pub(super) fn call(
        &mut self,
        method: &str,
        params: &Value,
        budgets: &mut Vec<Budget>,
    ) -> Result<Outcome, Failure> {
        let result = match method {
            "host.log" => self.host_log(budgets),
            "guest.list" => Ok(self.guest_list()),
            "guest.create" => return self.guest_create(params),
            _ => return self.call_guest(method, params, budgets),
        };
        result.map(|result| Reply::Text(result.to_string()).into())
    }

    /// The methods that act upon one guest.
    fn call_guest(
        &mut self,
        method: &str,
        params: &Value,
        budgets: &mut Vec<Budget>,
    ) -> Result<Outcome, Failure> {
        let host = self.host;
        let guest = || guest_name(params);
        let result = match method {
            "screen.png" => {
                let picture = screen_png(host, self.guest(guest()?)?, budgets)?;
                return Ok(Reply::Picture(picture).into());
            }
            "screen.text" => screen_text(host, self.guest(guest()?)?, budgets),
            "input.type" => input_type(self.guest(guest()?)?, params),
            "input.key" => input_key(self.guest(guest()?)?, params),
            "input.mouse" => input_mouse(self.guest(guest()?)?, params),
            "serial.write" => serial_write(self.guest(guest()?)?, params),
            _ => {
                let request = request(host, method, params, budgets)?;
                return ask(&self.guest(guest()?)?.mailbox, request);
            }
        };
        result.map(|result| Reply::Text(result.to_string()).into())
    }

    /// The guest that is meant.
    fn guest(&mut self, name: Option<String>) -> Result<&mut Guest, Failure> {
        let number = self.guests.find(name.as_deref())?;
        self.guests.get_mut(number).ok_or_else(|| Unclear::NoGuest.into())
    }

    fn guest_list(&self) -> Value {
        let describe = |guest: &Guest| {
            json!({
                "number": guest.number(),
                "name": guest.name(),
                "memory_mib": guest.facts.memory_mib,
                "vcpus": guest.facts.vcpus,
            })
        };
        self.guests.iter().map(describe).collect()
    }

    fn guest_create(&self, params: &Value) -> Result<Outcome, Failure> {
        let module = text(params, "config")?.into();
        let mut settings = String::new();
        match params.get("settings") {
            None => {}
            Some(Value::Array(lines)) if lines.iter().all(Value::is_string) => {
                for line in lines.iter().filter_map(Value::as_str) {
                    settings += line;
                    settings.push('\n');
                }
            }
            Some(_) => return Err(Failure::params("settings must be a list of strings")),
        }
        ask(self.machine, Request::Create { module, settings })
    }

    /// A method's result, made of the guest's answer.
    pub(super) fn reply(&self, answer: Answer) -> Result<Reply, Failure> {
        let refused = |reason: &str| Err(Failure::new(Failure::SERVER_ERROR, reason));
        let result = match answer {
            Answer::Done => done(()),
            Answer::NoGuest => return Err(Unclear::NoGuest.into()),
            Answer::Runs => return refused("the guest is not paused"),
            Answer::Impossible => return refused("this processor cannot"),
            Answer::NoRegister(name) => {
                return Err(Failure::params(format!("no register {name} can be set")));
            }
            Answer::Stats(stats) => self.stats(&stats),
            Answer::Created { number } => json!({"number": number}),
            Answer::Failed(reason) => return refused(&reason),
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

    fn host_log(&self, budgets: &mut Vec<Budget>) -> Result<Value, Failure> {
        budgets.push(Budget::reserve(self.host, self.host.log_bytes() * LOG_COPIES)?);
        Ok(json!({"text": String::from_utf8_lossy(&self.host.log_text())}))
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

/// Leaves a request in a mailbox.
fn ask(mailbox: &Arc<Mailbox>, request: Request) -> Result<Outcome, Failure> {
    if mailbox.post(Client::Management, request) {
        Ok(Outcome::Asked(mailbox.clone()))
    } else {
        Err(Unclear::NoGuest.into())
    }
}

/// The request to a guest that `method` stands for. The heap that its answer takes is set aside.
fn request(
    host: &'static dyn Host,
    method: &str,
    params: &Value,
    budgets: &mut Vec<Budget>,
) -> Result<Request, Failure> {
    Ok(match method {
        "guest.stats" => Request::Stats,
        "guest.pause" => Request::Pause,
        "guest.resume" => Request::Resume,
        "guest.catch" => Request::CatchTables(flag(params, "tables", None)?),
        "guest.step" => {
            let count = integer_or(params, "count", 1, 1, MAX_STEPS.into())? as u32;
            budgets.push(Budget::reserve(host, u64::from(count) * HEAP_BYTES_PER_STEP)?);
            Request::Step(count)
        }
        "guest.dump" => Request::Dump,
        "guest.registers" => Request::Registers,
        "guest.set_register" => {
            let name = text(params, "name")?.into();
            let value = parse_value(text(params, "value")?)
                .ok_or_else(|| Failure::params("value must be hexadecimal digits"))?;
            Request::SetRegister { name, value }
        }
        "guest.poweroff" => Request::PowerOff,
        "guest.reset" => Request::Reset,
        _ => {
            let message = format!("there is no method {method}");
            return Err(Failure::new(Failure::METHOD_NOT_FOUND, message));
        }
    })
}

/// The devices of a guest.
fn ports(guest: &Guest) -> Result<&GuestPorts, Failure> {
    guest.ports.as_ref().ok_or_else(|| Unclear::NoGuest.into())
}

fn screen_text(
    host: &'static dyn Host,
    guest: &Guest,
    budgets: &mut Vec<Budget>,
) -> Result<Value, Failure> {
    let vga = &ports(guest)?.vga;
    budgets.push(Budget::reserve(host, text_heap_bytes(vga))?);
    let Some(screen) = vga.text_screen() else { return Ok(Value::Null) };
    let rows: Vec<String> = (0..screen.rows).map(|row| screen.row(row).collect()).collect();
    Ok(json!({"rows": rows, "cursor": screen.cursor.map(|(column, row)| [column, row])}))
}

fn screen_png(
    host: &'static dyn Host,
    guest: &Guest,
    budgets: &mut Vec<Budget>,
) -> Result<Box<PngStream>, Failure> {
    let vga = &ports(guest)?.vga;
    budgets.push(Budget::reserve(host, PngStream::heap_bytes(&vga.frame()))?);
    Ok(Box::new(PngStream::new(vga)))
}

fn input_type(guest: &mut Guest, params: &Value) -> Result<Value, Failure> {
    ports(guest)?;
    guest
        .keyboard
        .type_text(text(params, "text")?)
        .map_err(|character| Failure::params(format!("no key types {character:?}")))??;
    Ok(done(()))
}

fn input_key(guest: &mut Guest, params: &Value) -> Result<Value, Failure> {
    ports(guest)?;
    let code = integer(params, "code", 1, 0x7f)? as u8;
    let key = Key { code, extended: flag(params, "extended", Some(false))? };
    guest.keyboard.press(key, flag(params, "pressed", None)?)?;
    Ok(done(()))
}

fn input_mouse(guest: &Guest, params: &Value) -> Result<Value, Failure> {
    const REACH: i64 = 4096;
    let distance = |name| integer_or(params, name, 0, -REACH, REACH).map(|counts| counts as i32);
    let (dx, dy, dz) = (distance("dx")?, distance("dy")?, distance("dz")?);
    let buttons = Buttons::from_bits(integer_or(params, "buttons", 0, 0, 0x1f)? as u8);
    ports(guest)?.i8042.mouse_move(dx, dy, dz, buttons);
    Ok(done(()))
}

fn serial_write(guest: &mut Guest, params: &Value) -> Result<Value, Failure> {
    ports(guest)?;
    if !guest.serial.write(text(params, "text")?.as_bytes()) {
        return Err(QueueFull.into());
    }
    Ok(done(()))
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

/// The parameter that names a guest, by its name or number.
fn guest_name(params: &Value) -> Result<Option<String>, Failure> {
    match params.get("guest") {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        Some(Value::Number(number)) if number.is_u64() => Ok(Some(number.to_string())),
        Some(_) => Err(Failure::params("guest must be a name or a number")),
    }
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
