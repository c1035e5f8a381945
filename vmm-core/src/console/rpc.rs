//! The management port: JSON-RPC 2.0 over a serial port, one object a line.
//!
//! Requests are read while answers go out, so that a client that begins is heard at once, and
//! the requests of one that is gone are dropped instead of answered.

mod requests;

use super::answer::{Answer, Reply};
use super::keyboard::{Keyboard, QueueFull};
use super::png::PngStream;
use super::terminal::Terminal;
use super::{GuestControl, GuestPorts, text_heap_bytes};
use crate::vcpu::debug::{DebugTarget, Location, MAX_STEPS, parse_value, steps};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use control::budget::{Budget, OutOfHeap};
use control::host::{Host, SerialPort};
use devices::i8042::Buttons;
use devices::keys::Key;
use requests::{MAX_LINE_BYTES, Requests};
use serde_json::{Value, json};

/// Deepest nesting of a request: the parser recurses.
const MAX_DEPTH: usize = 16;
/// Bytes taken from the port at once.
const RECEIVE_AT_ONCE: usize = 4096;
/// Short answers that wait while a long one goes out; those of a client that sends more are lost.
const MAX_URGENT: usize = 16;
/// Longest text of a request's `id`: it is repeated in the answer.
const MAX_ID_BYTES: usize = 128;
/// The method by which a client begins.
const BEGIN: &str = "session.begin";

/// The most heap that a request and its answer take, but for what a method reserves itself.
const REQUEST_HEAP_BYTES: u64 = 512 << 10;
/// The most that a byte of a request becomes as a JSON value, with its copy while a list grows: two
/// bytes may be one number.
const HEAP_BYTES_PER_BYTE: u64 = 48;
/// The most that an instruction of `guest.step` takes, as value and as text.
const HEAP_BYTES_PER_STEP: u64 = 3 << 10;
/// Copies of the log while it becomes an answer; a byte becomes six characters at the most.
const LOG_COPIES: u64 = 16;

/// Why a request failed: JSON-RPC's code, and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: i32,
    message: String,
}

impl Failure {
    const PARSE_ERROR: i32 = -32700;
    const INVALID_REQUEST: i32 = -32600;
    const METHOD_NOT_FOUND: i32 = -32601;
    const INVALID_PARAMS: i32 = -32602;
    const SERVER_ERROR: i32 = -32000;

    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn params(message: impl Into<String>) -> Self {
        Self::new(Self::INVALID_PARAMS, message)
    }
}

impl From<OutOfHeap> for Failure {
    fn from(out_of_heap: OutOfHeap) -> Self {
        Self::new(Self::SERVER_ERROR, out_of_heap.to_string())
    }
}

impl From<QueueFull> for Failure {
    fn from(_: QueueFull) -> Self {
        Self::new(Self::SERVER_ERROR, "too much waits to be typed")
    }
}

/// What the methods act upon.
pub struct Services<'a> {
    /// The machine.
    pub platform: &'static dyn Host,
    /// The guest's devices.
    pub ports: Option<&'a GuestPorts>,
    /// The guest.
    pub guest: Option<&'a mut dyn GuestControl>,
    /// Types.
    pub keyboard: &'a mut Keyboard,
    /// Writes to COM1.
    pub terminal: &'a mut Terminal,
}

/// The port, a request that comes in, requests that wait, and answers that go out.
#[derive(Debug)]
pub struct RpcPort {
    port: SerialPort,
    line: Vec<u8>,
    too_long: bool,
    requests: Requests,
    /// The answer that goes out, and whose it is.
    answer: Answer,
    answered: String,
    /// Refusals, and answers to clients that begin.
    urgent: VecDeque<Answer>,
    /// More may have come in than was looked at.
    has_more: bool,
}

/// A request in the form that JSON-RPC demands.
struct Request {
    id: Option<Value>,
    method: String,
    params: Value,
}

impl RpcPort {
    /// On a serial port of the machine.
    pub fn new(port: SerialPort) -> Self {
        Self {
            port,
            line: Vec::new(),
            too_long: false,
            requests: Requests::default(),
            answer: Answer::default(),
            answered: String::new(),
            urgent: VecDeque::new(),
            has_more: false,
        }
    }

    /// True if there is something to do soon: not everything that came in was looked at or
    /// answered, or the port has not yet taken all answers.
    pub fn is_busy(&self) -> bool {
        self.has_more
            || !self.answer.is_sent()
            || !self.urgent.is_empty()
            || !self.requests.is_empty()
    }

    /// Takes what has come in, answers one request if the last answer has gone, and sends as much
    /// as the port takes.
    pub fn attend(&mut self, services: &mut Services<'_>) {
        self.has_more = self.receive(services.platform);
        if self.send(services.platform) {
            return;
        }
        let next = self.urgent.pop_front().or_else(|| self.answer_next(services));
        if let Some(answer) = next {
            self.answer = answer;
            self.send(services.platform);
        }
    }

    /// Sends as much as the port takes; true if something is left.
    pub fn send(&mut self, platform: &dyn Host) -> bool {
        self.answer.send(platform, self.port)
    }

    /// Takes what has come in; true if there may be more.
    fn receive(&mut self, platform: &'static dyn Host) -> bool {
        for _ in 0..RECEIVE_AT_ONCE {
            match platform.serial_read(self.port) {
                None => return false,
                Some(b'\n') => self.take_line(platform),
                Some(byte) if self.line.len() < MAX_LINE_BYTES => self.line.push(byte),
                Some(_) => self.too_long = true,
            }
        }
        true
    }

    fn take_line(&mut self, platform: &'static dyn Host) {
        let line = core::mem::take(&mut self.line);
        if core::mem::take(&mut self.too_long) {
            let message = format!("a request has at most {MAX_LINE_BYTES} bytes");
            self.refuse(&Value::Null, Failure::new(Failure::INVALID_REQUEST, message));
            return;
        }
        if line.trim_ascii().is_empty() {
            return;
        }
        let budget = match reserve(platform, &line) {
            Ok(budget) => budget,
            Err(out_of_heap) => return self.refuse(&Value::Null, out_of_heap.into()),
        };
        // A line that is no request is answered in its turn.
        let request = Request::parse(&line).ok();
        let id = request.as_ref().and_then(|request| request.id.clone());
        let client = client_name(id.as_ref());
        if let Some(request) = request.filter(|request| request.method == BEGIN) {
            self.begin(&client, request);
        } else {
            match self.requests.push(&client, line) {
                Ok(dropped) => dropped.iter().for_each(|line| self.refuse_dropped(platform, line)),
                Err(reason) => self.refuse_request(id, reason),
            }
        }
        drop(budget);
    }

    /// A client begins: the requests of one of its name from before, or all if it is alone, have no
    /// reader any more.
    fn begin(&mut self, client: &str, request: Request) {
        let result = flag(&request.params, "alone", Some(false));
        if let Ok(alone) = result {
            if alone {
                self.requests.clear();
                self.urgent.clear();
            } else {
                self.requests.drop_of(client);
            }
            if alone || self.answered == client {
                // Half a line is no answer.
                self.answer.cut();
            }
        }
        if let Some(id) = request.id {
            let reply = result.map(|_| Reply::Text(done(()).to_string()));
            self.answer_urgently(answer(&id, reply, Vec::new()));
        }
    }

    /// A request that has waited and will not be answered.
    fn refuse_dropped(&mut self, platform: &'static dyn Host, line: &[u8]) {
        if let (Ok(_budget), Ok(request)) = (reserve(platform, line), Request::parse(line)) {
            self.refuse_request(
                request.id,
                "other clients have asked since, and there are too many",
            );
        }
    }

    /// A notification is not answered, and so not refused aloud.
    fn refuse_request(&mut self, id: Option<Value>, reason: &str) {
        if let Some(id) = id {
            self.refuse(&id, Failure::new(Failure::SERVER_ERROR, reason));
        }
    }

    fn refuse(&mut self, id: &Value, failure: Failure) {
        self.answer_urgently(answer(id, Err(failure), Vec::new()));
    }

    fn answer_urgently(&mut self, answer: Answer) {
        if self.urgent.len() < MAX_URGENT {
            self.urgent.push_back(answer);
        }
    }

    /// The answer to the next request that wants one.
    fn answer_next(&mut self, services: &mut Services<'_>) -> Option<Answer> {
        while let Some((client, line)) = self.requests.pop() {
            let mut budgets = Vec::new();
            let answered = match reserve(services.platform, &line) {
                Ok(budget) => {
                    budgets.push(budget);
                    handle(&line, services, &mut budgets)
                }
                Err(out_of_heap) => Some((Value::Null, Err(out_of_heap.into()))),
            };
            if let Some((id, result)) = answered {
                self.answered = client;
                return Some(answer(&id, result, budgets));
            }
        }
        None
    }
}

/// Sets aside what reading a request and answering it take.
fn reserve(platform: &'static dyn Host, line: &[u8]) -> Result<Budget, OutOfHeap> {
    Budget::reserve(platform, REQUEST_HEAP_BYTES + HEAP_BYTES_PER_BYTE * line.len() as u64)
}

/// An answer, as it goes out.
fn answer(id: &Value, result: Result<Reply, Failure>, budgets: Vec<Budget>) -> Answer {
    let start = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},");
    match result {
        Ok(reply) => Answer::new(start + "\"result\":", reply, "}\n", budgets),
        Err(Failure { code, message }) => {
            let error = json!({"code": code, "message": message}).to_string();
            Answer::new(start + "\"error\":", Reply::Text(error), "}\n", budgets)
        }
    }
}

/// The name before the first slash of a request's `id`; empty for all that have none.
fn client_name(id: Option<&Value>) -> String {
    let name = id.and_then(Value::as_str).and_then(|id| id.split_once('/'));
    name.map_or_else(String::new, |(name, _)| name.into())
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    /// Why it is no request, with the `id` as far as there is one.
    fn parse(line: &[u8]) -> Result<Self, (Value, Failure)> {
        let mut request = parse(line).map_err(|failure| (Value::Null, failure))?;
        let id = request.get_mut("id").map(Value::take);
        let is_valid_id = match &id {
            None | Some(Value::Null | Value::Number(_)) => true,
            Some(Value::String(text)) => text.len() <= MAX_ID_BYTES,
            Some(_) => false,
        };
        let method = request.get("method").and_then(Value::as_str);
        let (Some(method), true, Some("2.0")) =
            (method, is_valid_id, request.get("jsonrpc").and_then(Value::as_str))
        else {
            let failure = Failure::new(Failure::INVALID_REQUEST, "this is no JSON-RPC 2.0 request");
            return Err((id.filter(|_| is_valid_id).unwrap_or(Value::Null), failure));
        };
        let method = method.to_string();
        let params = request.get_mut("params").map_or(Value::Null, Value::take);
        Ok(Self { id, method, params })
    }
}

/// Answers one line: the request's `id`, and the result. `None` for a notification. What a method
/// reserves of the heap beside the request's own part is added to `budgets`.
fn handle(
    line: &[u8],
    services: &mut Services<'_>,
    budgets: &mut Vec<Budget>,
) -> Option<(Value, Result<Reply, Failure>)> {
    let Request { id, method, params } = match Request::parse(line) {
        Ok(request) => request,
        Err((id, failure)) => return Some((id, Err(failure))),
    };
    let result = match params {
        Value::Null | Value::Object(_) => services.call(&method, &params, budgets),
        _ => Err(Failure::params("parameters are passed by name, in an object")),
    };
    id.map(|id| (id, result))
}

fn parse(line: &[u8]) -> Result<Value, Failure> {
    if depth(line) > MAX_DEPTH {
        return Err(Failure::new(Failure::INVALID_REQUEST, "nested too deeply"));
    }
    serde_json::from_slice(line)
        .map_err(|error| Failure::new(Failure::PARSE_ERROR, error.to_string()))
}

/// How deep brackets are nested, at most.
fn depth(line: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for &byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

impl Services<'_> {
    fn call(
        &mut self,
        method: &str,
        params: &Value,
        budgets: &mut Vec<Budget>,
    ) -> Result<Reply, Failure> {
        if method == "screen.png" {
            return self.screen_png(budgets).map(Reply::Picture);
        }
        let result = match method {
            "screen.text" => self.screen_text(budgets),
            "input.type" => self.input_type(params),
            "input.key" => self.input_key(params),
            "input.mouse" => self.input_mouse(params),
            "serial.write" => self.serial_write(params),
            "guest.stats" => self.guest_stats(),
            "guest.pause" => self.target().map(|target| {
                target.pause();
                location(&target.location())
            }),
            "guest.resume" => self.target().map(|target| target.resume()).map(done),
            "guest.catch" => self.guest_catch(params),
            "guest.step" => self.guest_step(params, budgets),
            "guest.registers" => self.guest_registers(),
            "guest.set_register" => self.guest_set_register(params),
            "guest.poweroff" => self.guest().map(|guest| guest.power_off()).map(done),
            "guest.reset" => self.guest().map(|guest| guest.reset()).map(done),
            "host.log" => self.host_log(budgets),
            _ => {
                Err(Failure::new(Failure::METHOD_NOT_FOUND, format!("there is no method {method}")))
            }
        };
        result.map(|result| Reply::Text(result.to_string()))
    }

    /// Sets heap aside until the answer is sent.
    fn reserve(&self, bytes: u64, budgets: &mut Vec<Budget>) -> Result<(), Failure> {
        budgets.push(Budget::reserve(self.platform, bytes)?);
        Ok(())
    }

    fn guest(&self) -> Result<&dyn GuestControl, Failure> {
        self.guest.as_deref().ok_or_else(no_guest)
    }

    fn target(&mut self) -> Result<&mut dyn DebugTarget, Failure> {
        self.guest.as_deref_mut().and_then(|guest| guest.debug_target()).ok_or_else(no_guest)
    }

    fn paused_target(&mut self) -> Result<&mut dyn DebugTarget, Failure> {
        let target = self.target()?;
        if target.is_paused() {
            Ok(target)
        } else {
            Err(Failure::new(Failure::SERVER_ERROR, "the guest is not paused"))
        }
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
        self.reserve(self.platform.log_bytes() * LOG_COPIES, budgets)?;
        Ok(json!({"text": String::from_utf8_lossy(&self.platform.log_text())}))
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

    fn guest_step(&mut self, params: &Value, budgets: &mut Vec<Budget>) -> Result<Value, Failure> {
        let count = integer_or(params, "count", 1, 1, MAX_STEPS.into())? as u32;
        self.reserve(u64::from(count) * HEAP_BYTES_PER_STEP, budgets)?;
        let target = self.paused_target()?;
        let steps = steps(target, count);
        let done: Vec<Value> = steps.done.iter().map(location).collect();
        Ok(json!({"steps": done, "next": location(&target.location()), "end": steps.end}))
    }

    fn guest_catch(&mut self, params: &Value) -> Result<Value, Failure> {
        let tables = flag(params, "tables", None)?;
        if !self.target()?.catch_tables(tables) {
            return Err(Failure::new(Failure::SERVER_ERROR, "this processor cannot"));
        }
        Ok(done(()))
    }

    fn guest_set_register(&mut self, params: &Value) -> Result<Value, Failure> {
        let name = text(params, "name")?;
        let value = parse_value(text(params, "value")?)
            .ok_or_else(|| Failure::params("value must be hexadecimal digits"))?;
        if !self.paused_target()?.set_register(name, value) {
            return Err(Failure::params(format!("no register {name} can be set")));
        }
        Ok(done(()))
    }

    fn guest_registers(&mut self) -> Result<Value, Failure> {
        let registers = self.target()?.registers();
        let fields = registers
            .0
            .into_iter()
            .map(|(name, value)| (name.into(), format!("{value:#x}").into()));
        Ok(Value::Object(fields.collect()))
    }

    fn guest_stats(&self) -> Result<Value, Failure> {
        let stats = self.guest()?.stats();
        let exits: serde_json::Map<String, Value> =
            stats.exits.iter().map(|&(name, count)| (name.to_string(), count.into())).collect();
        Ok(json!({
            "state": stats.state,
            "total_exits": stats.total_exits,
            "exits": exits,
            "guest_time_ns": stats.guest_time_ns,
            "host_free_bytes": self.platform.free_bytes(),
            "host_heap_bytes": self.platform.heap_bytes(),
        }))
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
fn done((): ()) -> Value {
    json!({})
}

fn text<'a>(params: &'a Value, name: &str) -> Result<&'a str, Failure> {
    let value = params.get(name).and_then(Value::as_str);
    value.ok_or_else(|| Failure::params(format!("{name} must be a string")))
}

fn flag(params: &Value, name: &str, default: Option<bool>) -> Result<bool, Failure> {
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
