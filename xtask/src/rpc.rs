//! JSON, one object a line: the hypervisor's management port (JSON-RPC 2.0) and QEMU's (QMP).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::paths;

/// The folder, under `build`, of the machine that runs on a terminal.
pub const RUNNING: &str = "run";

/// The management port in a machine's folder.
pub const MANAGEMENT_SOCKET: &str = "com2.sock";

/// The time that an answer of a hypervisor on a terminal may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which requests and answers the other end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"jsonrpc":"2.0","id":N,"method":...,"params":...}`, answered by `result` or `error`.
    JsonRpc,
    /// `{"execute":...,"arguments":...,"id":N}`, answered by `return` or `error`.
    Qmp,
}

/// A client.
pub struct Client {
    dialect: Dialect,
    stream: UnixStream,
    answers: Receiver<Value>,
    next_id: u64,
}

impl Client {
    /// Speaks `dialect` over `stream`; a thread receives.
    ///
    /// # Errors
    /// If the stream cannot be shared with the thread.
    pub fn new(stream: UnixStream, dialect: Dialect) -> Result<Self> {
        let source = BufReader::new(stream.try_clone()?);
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            // Lines that are no JSON (a log that shares the port, noise at start) are passed over.
            let lines = source.split(b'\n').map_while(Result::ok);
            for value in lines.filter_map(|line| serde_json::from_slice::<Value>(&line).ok()) {
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Ok(Self { dialect, stream, answers, next_id: 1 })
    }

    /// Begins a session with the hypervisor as the only client of its port: what others asked for
    /// before is not answered.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn begin_alone(&mut self, patience: Duration) -> Result<()> {
        // One that is gone may have left half a request.
        self.stream.write_all(b"\n").context("the port is closed")?;
        self.call("session.begin", json!({"alone": true}), patience).map(drop)
    }

    /// Calls `method` and waits for its result.
    ///
    /// # Errors
    /// If the other end is gone, answers with an error, or does not answer within `patience`.
    pub fn call(&mut self, method: &str, params: Value, patience: Duration) -> Result<Value> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = match self.dialect {
            Dialect::JsonRpc => {
                json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
            }
            Dialect::Qmp => json!({"execute": method, "id": id, "arguments": params}),
        }
        .to_string();
        line.push('\n');
        self.stream
            .write_all(line.as_bytes())
            .with_context(|| format!("{method}: the port is closed"))?;
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut answer = self
                .answers
                .recv_timeout(left)
                .map_err(|reason| anyhow!("{method}: no answer ({reason})"))?;
            // Events, and answers that came too late for their call, have another id or none.
            if answer["id"] != json!(id) {
                continue;
            }
            if let Some(error) = answer.get("error") {
                bail!("{method}: {error}");
            }
            let key = if self.dialect == Dialect::Qmp { "return" } else { "result" };
            return Ok(answer[key].take());
        }
    }
}

/// Calls a method of the hypervisor that runs on a terminal.
///
/// # Errors
/// If none runs, or the call fails.
pub fn call_running(method: &str, params: Value) -> Result<Value> {
    // By its short name, since a socket's path must be short.
    std::env::set_current_dir(paths::build_folder(RUNNING))?;
    let stream = UnixStream::connect(MANAGEMENT_SOCKET)
        .context("no hypervisor runs on a terminal: start one by `cargo xtask run`")?;
    let mut client = Client::new(stream, Dialect::JsonRpc)?;
    // The emulator connects one client at a time to the port.
    client.begin_alone(PATIENCE)?;
    client.call(method, params, PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(answers: &'static str, dialect: Dialect) -> (Client, UnixStream) {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(answers.as_bytes()).unwrap();
        (Client::new(here, dialect).unwrap(), there)
    }

    #[test]
    fn late_answers_and_noise_are_passed_over() {
        let text =
            "noise\n{\"id\":7,\"result\":0}\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":5}}\n";
        let (mut client, _port) = served(text, Dialect::JsonRpc);
        assert_eq!(client.call("x", json!({}), Duration::from_secs(5)).unwrap()["a"], 5);
    }

    #[test]
    fn errors_are_reported() {
        let (mut client, _port) = served("{\"id\":1,\"error\":{\"desc\":\"bad\"}}\n", Dialect::Qmp);
        let error = client.call("x", json!({}), Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("bad"), "{error}");
    }

    #[test]
    fn a_session_begins_on_a_line_of_its_own() {
        let (mut client, port) =
            served("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n", Dialect::JsonRpc);
        client.begin_alone(Duration::from_secs(5)).unwrap();
        let lines: Vec<String> = BufReader::new(port).lines().take(2).map(Result::unwrap).collect();
        assert_eq!(lines[0], "");
        let request: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(
            (&request["method"], &request["params"]),
            (&json!("session.begin"), &json!({"alone": true}))
        );
    }

    #[test]
    fn silence_ends() {
        let (mut client, _port) = served("", Dialect::JsonRpc);
        assert!(client.call("x", json!({}), Duration::from_millis(10)).is_err());
    }
}
