//! A machine whose screen and keyboard the harness does not reach: a guest in Bochs without the
//! hypervisor.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use super::Control;
use crate::screen::TextScreen;

/// Fails whatever is asked of it.
pub struct NoControl;

const REASON: &str = "Bochs by itself has neither a screen nor a keyboard for the harness: there is the serial port only";

impl Control for NoControl {
    fn screen_text(&mut self) -> Result<Option<TextScreen>> {
        bail!(REASON)
    }

    fn screen_png(&mut self) -> Result<Vec<u8>> {
        bail!(REASON)
    }

    fn type_text(&mut self, _text: &str) -> Result<()> {
        bail!(REASON)
    }

    fn press_key(&mut self, _code: u8, _extended: bool) -> Result<()> {
        bail!(REASON)
    }

    fn call(&mut self, _method: &str, _params: Value, _patience: Duration) -> Result<Value> {
        bail!(REASON)
    }
}
