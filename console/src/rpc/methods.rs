//! The methods of the management port. `docs/rpc.md` describes them.

use super::{Failure, Outcome};
use crate::answer;
use crate::command::{Begun, Command, Dom, MemoryBound, Pin, Refusal, Reply, Services};
use crate::guests::{Guest, Unclear};
use crate::host_disks;
use crate::keyboard::QueueFull;
use crate::listed::{Columns, Listed};
use crate::parse_value;
use crate::png::PngStream;
use crate::triggers::Trigger;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use config::cpus::CpuList;
use control::budget::Budget;
use control::cards::{CardChange, CardFacts, CardTraffic};
use control::disks::{DiskChange, DiskFacts};
use control::guest::{ConsoleKind, GuestPorts};
use control::host::Host;
use control::mailbox::{Client, MAX_STEPS, MAX_WATCH_EVENTS, Request, WatchRequest};
use control::scheduling::VcpuFacts;
use control::state::{GuestStats, Location};
use devices::i8042::Buttons;
use devices::keys::Key;
use devices::vga::TextScreen;
use serde_json::{Map, Value, json};

impl Services<'_> {
    /// Does what `method` says, or begins it.
    pub(super) fn call(
        &mut self,
        method: &str,
        params: &Value,
        budgets: &mut Vec<Budget>,
    ) -> Result<Outcome, Failure> {
        let result = match method {
            "screen.png" => {
                let vga = &self.ports(&dom(params)?)?.vga;
                budgets.push(Budget::reserve(self.host, PngStream::heap_bytes(&vga.frame()))?);
                let picture = Box::new(PngStream::new(vga));
                return Ok(Outcome::Known(Ok(answer::Reply::Picture(picture))));
            }
            "input.type" => input_type(self.guest(params)?, params),
            "input.key" => input_key(self.guest(params)?, params),
            "input.mouse" => input_mouse(self.guest(params)?, params),
            "serial.write" => serial_write(self.guest(params)?, params),
            _ => {
                let command = command(method, params)?;
                return Ok(match self.begin(command, Client::Management, budgets)? {
                    Begun::Replied(reply) => Outcome::Known(Ok(self.render(reply))),
                    Begun::Waiting(waiting) => Outcome::Waiting(waiting),
                });
            }
        };
        result.map(|()| Outcome::Known(Ok(answer::Reply::Text(done().to_string()))))
    }

    /// The guest that is meant.
    fn guest(&mut self, params: &Value) -> Result<&mut Guest, Failure> {
        let number = self.guests.find(dom(params)?.as_deref())?;
        self.guests.get_mut(number).ok_or_else(|| Unclear::NoGuest.into())
    }

    /// A method's result.
    pub(super) fn render(&self, reply: Reply) -> answer::Reply {
        let result = match reply {
            Reply::Done | Reply::Pressed | Reply::ShuttingDown(_) => done(),
            Reply::List(guests, columns) => match columns {
                Columns::Guests => guests.iter().map(listed).collect(),
                Columns::Uptime => guests.iter().map(uptime).collect(),
                Columns::Vcpus => guests.iter().flat_map(vcpus).collect(),
                Columns::Shares | Columns::Share | Columns::Pool => {
                    guests.iter().filter_map(share).collect()
                }
            },
            Reply::Watching(watch) => json!({"watch": watch}),
            Reply::Events(paths) => json!({"paths": paths}),
            Reply::Disks(disks) => disks.iter().map(disk).collect(),
            Reply::Cards(cards) => cards.iter().map(card).collect(),
            Reply::HostDisks(disks) => disks.iter().map(host_disks::json).collect(),
            Reply::Screen(screen) => screen.map_or(Value::Null, screen_text),
            Reply::Number(number) => json!({"number": number}),
            Reply::Name(name) => json!({"name": name}),
            Reply::Log(text) => json!({"text": String::from_utf8_lossy(&text)}),
            Reply::Stats(stats) => all_stats(&stats, self.host),
            Reply::Dump(text) => json!({"text": text}),
            Reply::Paused(next) => location(&next),
            Reply::Registers(registers, _) => {
                let hex = |(name, value): (&str, u64)| (name.into(), format!("{value:#x}").into());
                let mut all = Map::new();
                all.extend(registers.0.into_iter().map(hex));
                Value::Object(all)
            }
            Reply::Steps(steps) => {
                let done: Vec<Value> = steps.done.iter().map(location).collect();
                json!({"steps": done, "next": location(&steps.next), "end": steps.end})
            }
        };
        answer::Reply::Text(result.to_string())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoRegister(_) => Self::params(refusal.to_string()),
            _ => Self::new(Self::SERVER_ERROR, refusal.to_string()),
        }
    }
}

/// The command that `method` stands for.
fn command(method: &str, params: &Value) -> Result<Command, Failure> {
    let request = match method {
        "guest.list" => {
            return Ok(Command::List(dom(params)?.into_iter().collect(), Columns::Guests));
        }
        "guest.uptime" => {
            return Ok(Command::List(dom(params)?.into_iter().collect(), Columns::Uptime));
        }
        "guest.vcpus" => {
            return Ok(Command::List(dom(params)?.into_iter().collect(), Columns::Vcpus));
        }
        "guest.share" => {
            return Ok(Command::List(dom(params)?.into_iter().collect(), Columns::Shares));
        }
        "guest.set_share" => {
            let number = |name| match params.get(name) {
                None => Ok(None),
                Some(_) => integer(params, name, 0, u16::MAX.into()).map(|n| Some(n as u32)),
            };
            let (weight, cap_percent) = (number("weight")?, number("cap")?);
            return Ok(Command::SetShare { dom: dom(params)?, weight, cap_percent });
        }
        "guest.pin" => {
            let vcpu = match params.get("vcpu") {
                None => None,
                Some(_) => Some(integer(params, "vcpu", 0, u32::MAX.into())? as usize),
            };
            let (hard, soft) = (cpus(params, "hard")?, cpus(params, "soft")?);
            return Ok(Command::Pin(dom(params)?, Pin { vcpu, hard, soft }));
        }
        "guest.create" => {
            let (module, settings) = (text(params, "config")?.into(), settings(params)?);
            return Ok(Command::Create { module, settings });
        }
        "guest.disks" => return Ok(Command::ListDisks([dom(params)?].into())),
        "guest.cards" => return Ok(Command::ListCards([dom(params)?].into())),
        "guest.attach_disk" => {
            let disk = text(params, "disk")?.into();
            return Ok(Command::ChangeDisk(dom(params)?, DiskChange::Attach { disk }));
        }
        "guest.detach_disk" => {
            let device = text(params, "vdev")?.into();
            let is_forced = flag(params, "force", Some(false))?;
            let change = DiskChange::Detach { device, is_forced };
            return Ok(Command::ChangeDisk(dom(params)?, change));
        }
        "guest.attach_card" => {
            let card = match params.get("card") {
                None => String::new(),
                Some(_) => text(params, "card")?.into(),
            };
            return Ok(Command::ChangeCard(dom(params)?, CardChange::Attach { card }));
        }
        "guest.detach_card" => {
            let device = text(params, "device")?.into();
            return Ok(Command::ChangeCard(dom(params)?, CardChange::Detach { device }));
        }
        "guest.insert_cd" | "guest.eject_cd" => {
            let device = text(params, "vdev")?.into();
            let target = match method {
                "guest.insert_cd" => text(params, "target")?.into(),
                _ => String::new(),
            };
            return Ok(Command::ChangeDisk(dom(params)?, DiskChange::Insert { device, target }));
        }
        "store.watch" => {
            let paths = strings(params, "paths")?;
            return Ok(Command::Watch(WatchRequest::Begin { paths }));
        }
        "store.events" | "store.unwatch" => {
            let watch = integer(params, "watch", 0, u32::MAX.into())? as u32;
            let count = MAX_WATCH_EVENTS;
            return Ok(Command::Watch(match method {
                "store.events" => WatchRequest::Take { watch, count },
                _ => WatchRequest::End { watch },
            }));
        }
        "store.command" => {
            let (name, words) = (text(params, "name")?.into(), words(params)?);
            return Ok(Command::Store { name, words });
        }
        "guest.number" => return Ok(Command::NumberOf(text(params, "name")?.into())),
        "guest.name" => {
            let number = integer(params, "number", 0, u32::MAX.into())? as u32;
            return Ok(Command::NameOf(number));
        }
        "guest.trigger" => {
            let vcpu = integer_or(params, "vcpu", 0, 0, u32::MAX.into())? as usize;
            let trigger = Trigger::by_name(text(params, "trigger")?, vcpu);
            let trigger = trigger.ok_or_else(|| Failure::params("there is no such trigger"))?;
            return Ok(Command::Trigger(dom(params)?, trigger));
        }
        "guest.button_press" => {
            let button = Trigger::by_button(text(params, "button")?);
            let button = button.ok_or_else(|| Failure::params("there is no such button"))?;
            return Ok(Command::Press(dom(params)?, button));
        }
        "guest.set_vcpus" => {
            let count = integer(params, "count", 0, u32::MAX.into())? as u32;
            return Ok(Command::SetVcpus { dom: dom(params)?, count, ignore_host: true });
        }
        "guest.set_memory" | "guest.set_max_memory" => {
            let kib = integer(params, "kib", 0, i64::MAX)? as u64;
            let bound = match method {
                "guest.set_memory" => MemoryBound::Target,
                _ => MemoryBound::Max,
            };
            let size = format!("{kib}k");
            return Ok(Command::SetMemory { dom: dom(params)?, bound, kib, size });
        }
        "guest.shutdown" => {
            let (all, dom) = (flag(params, "all", Some(false))?, dom(params)?);
            let fallback = flag(params, "fallback", Some(false))?;
            return Ok(Command::Shutdown { all, dom, fallback });
        }
        "guest.console" => return Ok(Command::Console(dom(params)?, console(params)?)),
        "screen.text" => return Ok(Command::Screen(dom(params)?)),
        "host.disks" => return Ok(Command::ListHostDisks),
        "host.log" => return Ok(Command::Log),
        "host.poweroff" => return Ok(Command::PowerOff),
        "host.reboot" => return Ok(Command::Reboot),
        "host.crash" => return Ok(Command::Crash),
        "guest.stats" => Request::Stats,
        "guest.pause" => Request::Pause,
        "guest.unpause" => Request::Resume,
        "guest.destroy" => Request::Destroy,
        "guest.reboot" => Request::Reset,
        "guest.catch" => Request::CatchTables(flag(params, "tables", None)?),
        "guest.step" => Request::Step(integer_or(params, "count", 1, 1, MAX_STEPS.into())? as u32),
        "guest.dump" => Request::Dump,
        "guest.registers" => Request::Registers,
        "guest.set_register" => {
            let name = text(params, "name")?.into();
            let value = parse_value(text(params, "value")?)
                .ok_or_else(|| Failure::params("value must be hexadecimal digits"))?;
            Request::SetRegister { name, value }
        }
        _ => {
            let message = format!("there is no method {method}");
            return Err(Failure::new(Failure::METHOD_NOT_FOUND, message));
        }
    };
    Ok(Command::Ask(dom(params)?, request))
}

/// The parameter that names a guest.
fn dom(params: &Value) -> Result<Dom, Failure> {
    match params.get("guest") {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        Some(Value::Number(number)) if number.is_u64() => Ok(Some(number.to_string())),
        Some(_) => Err(Failure::params("guest must be a name or a number")),
    }
}

/// The parameter that names one of a guest's consoles.
fn console(params: &Value) -> Result<Option<ConsoleKind>, Failure> {
    let Some(name) = params.get("type") else { return Ok(None) };
    let console = name.as_str().and_then(ConsoleKind::by_name);
    console.map(Some).ok_or_else(|| Failure::params("type must be pv or serial"))
}

/// Lines for the end of a configuration.
fn settings(params: &Value) -> Result<String, Failure> {
    let wrong = || Failure::params("settings must be a list of strings");
    let mut text = String::new();
    let lines = match params.get("settings") {
        None => return Ok(text),
        Some(lines) => lines.as_array().ok_or_else(wrong)?,
    };
    for line in lines {
        text += line.as_str().ok_or_else(wrong)?;
        text.push('\n');
    }
    Ok(text)
}

/// Operands of a command.
fn words(params: &Value) -> Result<Vec<String>, Failure> {
    if params.get("words").is_none() { Ok(Vec::new()) } else { strings(params, "words") }
}

fn strings(params: &Value, name: &str) -> Result<Vec<String>, Failure> {
    let list = params.get(name).and_then(Value::as_array);
    let list = list.and_then(|list| list.iter().map(|it| it.as_str().map(String::from)).collect());
    list.ok_or_else(|| Failure::params(format!("{name} must be a list of strings")))
}

/// The devices of a guest.
fn ports(guest: &Guest) -> Result<&GuestPorts, Failure> {
    guest.ports.as_ref().ok_or_else(|| Unclear::NoGuest.into())
}

fn input_type(guest: &mut Guest, params: &Value) -> Result<(), Failure> {
    ports(guest)?;
    let unknown = |character| Failure::params(format!("no key types {character:?}"));
    guest.keyboard.type_text(text(params, "text")?).map_err(unknown)??;
    Ok(())
}

fn input_key(guest: &mut Guest, params: &Value) -> Result<(), Failure> {
    ports(guest)?;
    let code = integer(params, "code", 1, 0x7f)? as u8;
    let key = Key { code, extended: flag(params, "extended", Some(false))? };
    guest.keyboard.press(key, flag(params, "pressed", None)?)?;
    Ok(())
}

fn input_mouse(guest: &Guest, params: &Value) -> Result<(), Failure> {
    const REACH: i64 = 4096;
    let distance = |name| integer_or(params, name, 0, -REACH, REACH).map(|counts| counts as i32);
    let (dx, dy, dz) = (distance("dx")?, distance("dy")?, distance("dz")?);
    let buttons = Buttons::from_bits(integer_or(params, "buttons", 0, 0, 0x1f)? as u8);
    ports(guest)?.i8042.mouse_move(dx, dy, dz, buttons);
    Ok(())
}

fn serial_write(guest: &mut Guest, params: &Value) -> Result<(), Failure> {
    ports(guest)?;
    let console = console(params)?;
    if console == Some(ConsoleKind::Pv) && ports(guest)?.pv.is_none() {
        return Err(Refusal::Failed("the guest has no PV console".into()).into());
    }
    if !guest.type_at(console, text(params, "text")?.as_bytes()) {
        return Err(QueueFull.into());
    }
    Ok(())
}

fn listed(guest: &Listed) -> Value {
    json!({
        "number": guest.number,
        "name": guest.name,
        "state": guest.state.word(),
        "memory_mib": guest.facts.memory_mib,
        "vcpus": guest.facts.vcpus,
        "cpu_time_ns": guest.cpu_time_ns(),
    })
}

fn uptime(guest: &Listed) -> Value {
    json!({
        "number": guest.number,
        "name": guest.name,
        "guest_time_ns": guest.guest_time_ns(),
    })
}

fn vcpus(guest: &Listed) -> Vec<Value> {
    let vcpu = |(vcpu, facts): (usize, &VcpuFacts)| {
        json!({
            "number": guest.number,
            "name": guest.name,
            "vcpu": vcpu,
            "cpu": facts.cpu,
            "state": facts.state.word(),
            "time_ns": facts.time_ns,
            "hard": facts.hard,
            "soft": facts.soft,
        })
    };
    guest.vcpus().enumerate().map(vcpu).collect()
}

fn share(guest: &Listed) -> Option<Value> {
    let share = guest.running.as_ref()?.share;
    Some(json!({
        "number": guest.number,
        "name": guest.name,
        "weight": share.weight,
        "cap": share.cap_percent,
    }))
}

fn disk(disk: &DiskFacts) -> Value {
    json!({
        "number": disk.guest,
        "vdev": disk.name,
        "id": disk.id,
        "target": disk.target,
        "state": disk.state,
        "event_channel": disk.event_channel,
        "ring_ref": disk.ring_ref,
        "back_end": disk.back_end,
    })
}

fn card(card: &CardFacts) -> Value {
    let traffic =
        |it: CardTraffic| json!({"frames": it.frames, "bytes": it.bytes, "dropped": it.dropped});
    json!({
        "number": card.guest,
        "id": card.id,
        "mac": card.mac,
        "bridge": card.bridge,
        "state": card.state,
        "event_channel": card.event_channel,
        "tx_ring_ref": card.tx_ring_ref,
        "rx_ring_ref": card.rx_ring_ref,
        "back_end": card.back_end,
        "sent": traffic(card.sent),
        "received": traffic(card.received),
    })
}

/// A list of CPUs, as a configuration has it.
fn cpus(params: &Value, name: &str) -> Result<Option<CpuList>, Failure> {
    if params.get(name).is_none() {
        return Ok(None);
    }
    let list = CpuList::parse(text(params, name)?);
    list.map(Some).ok_or_else(|| Failure::params(format!("{name} must be a list of CPUs")))
}

fn screen_text(screen: TextScreen) -> Value {
    let rows: Vec<String> = (0..screen.rows).map(|row| screen.row(row).collect()).collect();
    json!({"rows": rows, "cursor": screen.cursor.map(|(column, row)| [column, row])})
}

fn all_stats(stats: &GuestStats, host: &dyn Host) -> Value {
    let mut exits = Map::new();
    exits.extend(stats.exits.iter().map(|&(name, count)| (name.to_string(), count.into())));
    json!({
        "state": stats.state.word(),
        "total_exits": stats.total_exits,
        "exits": exits,
        "guest_time_ns": stats.guest_time_ns,
        "cpu_time_ns": stats.cpu_time_ns,
        "host_free_bytes": host.free_bytes(),
        "host_heap_bytes": host.heap_bytes(),
    })
}

/// The result of a method that has nothing to say.
pub(super) fn done() -> Value {
    json!({})
}

fn location(location: &Location) -> Value {
    json!({
        "cs": location.cs,
        "rip": format!("{:#x}", location.rip),
        "bytes": location.hex_bytes(),
        "text": location.text,
    })
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
