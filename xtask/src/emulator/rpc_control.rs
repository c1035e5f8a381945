//! The guest's screen and keyboard through the hypervisor's management port.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Control;
use crate::rpc::Client;
use crate::screen::TextScreen;

/// The screen is looked at again soon.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// A machine on a busy host is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A PNG is long, the emulated port is slow.
const PNG_PATIENCE: Duration = Duration::from_secs(240);

/// Bulkhead's `screen.*` and `input.*` methods.
pub struct RpcControl {
    client: Client,
}

impl RpcControl {
    /// On the management port.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Control for RpcControl {
    fn screen_text(&mut self) -> Result<Option<TextScreen>> {
        let answer = self.client.call("screen.text", json!({}), LOOK_PATIENCE)?;
        let row = |row: &Value| row.as_str().unwrap_or_default().trim_end().to_owned();
        Ok(answer["rows"]
            .as_array()
            .map(|rows| TextScreen { rows: rows.iter().map(row).collect() }))
    }

    fn screen_png(&mut self) -> Result<Vec<u8>> {
        let answer = self.client.call("screen.png", json!({}), PNG_PATIENCE)?;
        let text = answer["png"].as_str().context("screen.png: no picture in the answer")?;
        STANDARD.decode(text).context("screen.png: not base64")
    }

    fn type_text(&mut self, text: &str) -> Result<()> {
        self.client.call("input.type", json!({"text": text}), PATIENCE).map(drop)
    }

    fn press_key(&mut self, code: u8, extended: bool) -> Result<()> {
        for pressed in [true, false] {
            let key = json!({"code": code, "extended": extended, "pressed": pressed});
            self.client.call("input.key", key, PATIENCE)?;
        }
        Ok(())
    }

    fn call(&mut self, method: &str, params: Value, patience: Duration) -> Result<Value> {
        self.client.call(method, params, patience)
    }
}
