//! The management port: JSON-RPC 2.0 over a serial port, one object a line.
//!
//! Requests are read while answers go out, so that a client that begins is heard at once, and
//! the requests of one that is gone are dropped instead of answered.

mod methods;
mod requests;

use super::answer::{Answer, Reply};
use super::command::{Services, Waiting};
use super::guests::Unclear;
use super::keyboard::QueueFull;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use control::budget::{Budget, OutOfHeap};
use control::host::{Host, SerialPort};
use control::mailbox::Client;
use methods::{done, flag};
use requests::{MAX_LINE_BYTES, Requests};
use serde_json::{Value, json};

/// Deepest nesting of a request: the parser recurses.
const MAX_DEPTH: usize = 16;
/// Bytes taken from the port at once.
const RECEIVE_AT_ONCE: usize = 4096;
/// Short answers that wait while a long one goes out; of more the oldest are lost, which are
/// refusals but for a client that begins again and again.
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

impl From<Unclear> for Failure {
    fn from(unclear: Unclear) -> Self {
        Self::new(Self::SERVER_ERROR, unclear.to_string())
    }
}

impl From<QueueFull> for Failure {
    fn from(_: QueueFull) -> Self {
        Self::new(Self::SERVER_ERROR, "too much waits to be typed")
    }
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
    /// A request that was begun and has no answer yet.
    question: Option<Question>,
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

/// A request that is being answered.
#[derive(Debug)]
struct Question {
    client: String,
    /// `None` for a notification: it has no answer.
    id: Option<Value>,
    outcome: Outcome,
    /// The heap that it takes, and its answer.
    budgets: Vec<Budget>,
}

/// The outcome of a request.
#[derive(Debug)]
enum Outcome {
    /// Its answer is known.
    Known(Result<Reply, Failure>),
    /// It is owed.
    Waiting(Waiting),
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
            question: None,
            urgent: VecDeque::new(),
            has_more: false,
        }
    }

    /// True if there is something to do soon: not everything that came in was looked at or
    /// answered, or the port has not yet taken all answers.
    pub fn is_busy(&self) -> bool {
        self.has_more
            || self.question.is_some()
            || !self.answer.is_sent()
            || !self.urgent.is_empty()
            || !self.requests.is_empty()
    }

    /// Takes what has come in, answers one request if the last answer has gone, and sends as much
    /// as the port takes. A request to the guest is answered when the guest has answered
    /// ([`RpcPort::take_answers`]).
    pub fn attend(&mut self, services: &mut Services<'_>) {
        self.has_more = self.receive(services.host);
        if self.send(services.host) {
            return;
        }
        let next = self.urgent.pop_front().or_else(|| self.next_answer(services));
        self.begin_answer(next, services.host);
    }

    /// Goes on with a request that the guest has answered.
    pub fn take_answers(&mut self, services: &mut Services<'_>) {
        if self.question.is_some() && self.answer.is_sent() {
            let next = self.next_answer(services);
            self.begin_answer(next, services.host);
        }
    }

    fn begin_answer(&mut self, answer: Option<Answer>, host: &dyn Host) {
        if let Some(answer) = answer {
            self.answer = answer;
            self.send(host);
        }
    }

    /// Sends as much as the port takes; true if something is left.
    pub fn send(&mut self, host: &dyn Host) -> bool {
        self.answer.send(host, self.port)
    }

    /// Takes what has come in; true if there may be more.
    fn receive(&mut self, host: &'static dyn Host) -> bool {
        for _ in 0..RECEIVE_AT_ONCE {
            match host.serial_read(self.port) {
                None => return false,
                Some(b'\n') => self.take_line(host),
                Some(byte) if self.line.len() < MAX_LINE_BYTES => self.line.push(byte),
                Some(_) => self.too_long = true,
            }
        }
        true
    }

    fn take_line(&mut self, host: &'static dyn Host) {
        let line = core::mem::take(&mut self.line);
        if core::mem::take(&mut self.too_long) {
            let message = format!("a request has at most {MAX_LINE_BYTES} bytes");
            self.refuse(&Value::Null, Failure::new(Failure::INVALID_REQUEST, message));
            return;
        }
        if line.trim_ascii().is_empty() {
            return;
        }
        let budget = match reserve(host, &line) {
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
                Ok(dropped) => dropped.iter().for_each(|line| self.refuse_dropped(host, line)),
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
            if let Some(question) = &mut self.question
                && (alone || question.client == client)
            {
                question.id = None;
            }
            if alone || self.answered == client {
                // Half a line is no answer.
                self.answer.cut();
            }
        }
        if let Some(id) = request.id {
            let reply = result.map(|_| Reply::Text(done().to_string()));
            self.answer_urgently(answer(&id, reply, Vec::new()));
        }
    }

    /// A request that has waited and will not be answered.
    fn refuse_dropped(&mut self, host: &'static dyn Host, line: &[u8]) {
        if let (Ok(_budget), Ok(request)) = (reserve(host, line), Request::parse(line)) {
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
        if self.urgent.len() >= MAX_URGENT {
            self.urgent.pop_front();
        }
        self.urgent.push_back(answer);
    }

    /// The answer to the next request that wants one, unless the guest owes it.
    fn next_answer(&mut self, services: &mut Services<'_>) -> Option<Answer> {
        loop {
            let question = match self.question.take() {
                Some(question) => question,
                None => self.next_question(services)?,
            };
            let Question { client, id, outcome, budgets } = question;
            let result = match outcome {
                Outcome::Known(result) => result,
                Outcome::Waiting(waiting) => match waiting.take_reply(Client::Management) {
                    Some(Ok(reply)) => Ok(services.render(reply)),
                    Some(Err(refusal)) => Err(refusal.into()),
                    None => {
                        let outcome = Outcome::Waiting(waiting);
                        self.question = Some(Question { client, id, outcome, budgets });
                        return None;
                    }
                },
            };
            if let Some(id) = id {
                self.answered = client;
                return Some(answer(&id, result, budgets));
            }
        }
    }

    /// Begins the next request.
    fn next_question(&mut self, services: &mut Services<'_>) -> Option<Question> {
        let (client, line) = self.requests.pop()?;
        let mut budgets = Vec::new();
        let (id, outcome) = match reserve(services.host, &line) {
            Ok(budget) => {
                budgets.push(budget);
                handle(&line, services, &mut budgets)
            }
            Err(out_of_heap) => (Some(Value::Null), Outcome::Known(Err(out_of_heap.into()))),
        };
        Some(Question { client, id, outcome, budgets })
    }
}

/// Sets aside what reading a request and answering it take.
fn reserve(host: &'static dyn Host, line: &[u8]) -> Result<Budget, OutOfHeap> {
    Budget::reserve(host, REQUEST_HEAP_BYTES + HEAP_BYTES_PER_BYTE * line.len() as u64)
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

/// Begins one line's request: its `id`, `None` for a notification, and what comes of it. A method's
/// reservation of the heap beside the request's own part is added to `budgets`.
fn handle(
    line: &[u8],
    services: &mut Services<'_>,
    budgets: &mut Vec<Budget>,
) -> (Option<Value>, Outcome) {
    let Request { id, method, params } = match Request::parse(line) {
        Ok(request) => request,
        Err((id, failure)) => return (Some(id), Outcome::Known(Err(failure))),
    };
    let outcome = match params {
        Value::Null | Value::Object(_) => services.call(&method, &params, budgets),
        _ => Err(Failure::params("parameters are passed by name, in an object")),
    };
    (id, outcome.unwrap_or_else(|failure| Outcome::Known(Err(failure))))
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
