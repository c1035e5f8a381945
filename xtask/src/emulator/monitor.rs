//! A plain guest's screen and keyboard through QEMU's monitor.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Control, keys};
use crate::rpc::Client;
use crate::screen::TextScreen;

const PATIENCE: Duration = Duration::from_secs(60);

/// The text mode that is taken to be set.
const COLUMNS: usize = 80;

/// Keys follow each other so slowly that a guest which polls its keyboard from a timer sees each.
const BETWEEN_KEYS: Duration = Duration::from_millis(60);

/// QMP, and QEMU's human monitor through it.
pub struct Monitor {
    client: Client,
    folder: PathBuf,
}

impl Monitor {
    /// Greets QEMU, whose pictures then go through files in `folder`.
    ///
    /// # Errors
    /// If QEMU does not answer.
    pub fn new(mut client: Client, folder: PathBuf) -> Result<Self> {
        client.call("qmp_capabilities", json!({}), PATIENCE)?;
        Ok(Self { client, folder })
    }

    fn human(&mut self, line: &str) -> Result<String> {
        let answer =
            self.client.call("human-monitor-command", json!({"command-line": line}), PATIENCE)?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Whether the display shows a text mode: QEMU draws those with characters of 9 columns and 400
    /// rows in all.
    fn shows_text(&mut self) -> Result<bool> {
        let file = self.folder.join("screen.ppm");
        self.client.call("screendump", json!({"filename": file}), PATIENCE)?;
        let picture = std::fs::read(&file).context("QEMU wrote no picture")?;
        let (width, height) = ppm_size(&picture).context("QEMU wrote no PPM")?;
        Ok(width % 9 == 0 && height == 400)
    }

    fn send_keys(&mut self, names: &[&str]) -> Result<()> {
        let keys: Vec<Value> =
            names.iter().map(|name| json!({"type": "qcode", "data": name})).collect();
        self.client.call("send-key", json!({"keys": keys, "hold-time": 20}), PATIENCE)?;
        std::thread::sleep(BETWEEN_KEYS);
        Ok(())
    }
}

impl Control for Monitor {
    fn screen_text(&mut self) -> Result<Option<TextScreen>> {
        if !self.shows_text()? {
            return Ok(None);
        }
        // A console scrolls by moving the screen through text memory, and where it is now cannot be
        // asked: all of it.
        let dump = self.human("xp /16384hx 0xb8000")?;
        let words = dump.lines().flat_map(|line| line.split_whitespace().skip(1));
        let words: Vec<u16> = words
            .filter_map(|word| u16::from_str_radix(word.strip_prefix("0x")?, 16).ok())
            .collect();
        Ok(Some(TextScreen::from_vga_words(&words, COLUMNS)))
    }

    fn screen_png(&mut self) -> Result<Vec<u8>> {
        let file = self.folder.join("screen.png");
        self.client.call("screendump", json!({"filename": file, "format": "png"}), PATIENCE)?;
        std::fs::read(&file).context("QEMU wrote no picture")
    }

    fn type_text(&mut self, text: &str) -> Result<()> {
        for character in text.chars() {
            let (name, shift) =
                keys::of(character).with_context(|| format!("no key for {character:?}"))?;
            self.send_keys(&["shift", name][usize::from(!shift)..])?;
        }
        Ok(())
    }

    fn press_key(&mut self, code: u8, extended: bool) -> Result<()> {
        let number = u32::from(code) | if extended { 0x80 } else { 0 };
        let key = json!([{"type": "number", "data": number}]);
        self.client.call("send-key", json!({"keys": key, "hold-time": 20}), PATIENCE)?;
        std::thread::sleep(BETWEEN_KEYS);
        Ok(())
    }

    fn call(&mut self, method: &str, params: Value, patience: Duration) -> Result<Value> {
        self.client.call(method, params, patience)
    }
}

/// The size of the picture that begins with `header`: "P6", width and height, between blanks.
fn ppm_size(header: &[u8]) -> Option<(usize, usize)> {
    let mut words = header.split(u8::is_ascii_whitespace).skip(1);
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_size_of_a_picture() {
        assert_eq!(super::ppm_size(b"P6\n720 400\n255\n\x00\xff"), Some((720, 400)));
        assert_eq!(super::ppm_size(b"P6"), None);
    }
}
