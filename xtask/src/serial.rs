//! The harness's end of a serial port: everything received is kept, as text too, and passed on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;

/// Where received bytes are passed on to.
pub type Tee = Box<dyn Write + Send>;

/// A connected serial port.
#[derive(Clone)]
pub struct Serial {
    shared: Arc<Shared>,
    stream: Arc<UnixStream>,
}

struct Shared {
    received: Mutex<Received>,
    changed: Condvar,
}

#[derive(Default)]
struct Received {
    text: PlainText,
    tees: Vec<Tee>,
    closed: bool,
}

impl Serial {
    /// Takes over `stream`; a thread reads it until its end.
    ///
    /// # Errors
    /// If the stream cannot be shared with the thread.
    pub fn new(stream: UnixStream, tees: Vec<Tee>) -> Result<Self> {
        let received = Received { tees, ..Received::default() };
        let shared = Arc::new(Shared { received: Mutex::new(received), changed: Condvar::new() });
        let (mut source, sink) = (stream.try_clone()?, Arc::clone(&shared));
        std::thread::spawn(move || receive(&mut source, &sink));
        Ok(Self { shared, stream: Arc::new(stream) })
    }

    /// Sends text to the other end.
    ///
    /// # Errors
    /// If the other end is gone.
    pub fn write(&self, text: &[u8]) -> Result<()> {
        Ok((&*self.stream).write_all(text)?)
    }

    /// Also passes what is received from now on to `tee`.
    pub fn add_tee(&self, tee: Tee) {
        self.lock().tees.push(tee);
    }

    /// The offset behind `needle` in the text received, if it stands there at or behind offset
    /// `from`.
    pub fn find(&self, needle: &str, from: usize) -> Option<usize> {
        let received = self.lock();
        let rest = received.text.text.get(from..)?;
        rest.find(needle).map(|at| from + at + needle.len())
    }

    /// Everything received, without terminal escape sequences.
    pub fn text(&self) -> String {
        self.lock().text.text.clone()
    }

    /// How long the text received is by now.
    pub fn received(&self) -> usize {
        self.lock().text.text.len()
    }

    /// Whether the other end has closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until something is received, but at most `patience`.
    pub fn wait_for_change(&self, patience: Duration) {
        let received = self.lock();
        let before = (received.text.text.len(), received.closed);
        let unchanged =
            |received: &mut Received| (received.text.text.len(), received.closed) == before;
        drop(self.shared.changed.wait_timeout_while(received, patience, unchanged));
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.shared.received.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn receive(source: &mut UnixStream, shared: &Shared) {
    let mut bytes = [0; 4096];
    loop {
        let count = source.read(&mut bytes).unwrap_or(0);
        let mut received = shared.received.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        received.text.push(&bytes[..count]);
        received.closed = count == 0;
        // A reader that went away is dropped; the others go on.
        received
            .tees
            .retain_mut(|tee| tee.write_all(&bytes[..count]).and_then(|()| tee.flush()).is_ok());
        shared.changed.notify_all();
        if count == 0 {
            return;
        }
    }
}

/// Text with the terminal's escape sequences taken out.
#[derive(Default)]
struct PlainText {
    text: String,
    escape: Escape,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    /// Behind `ESC [`, up to the final byte.
    Control,
    /// Behind `ESC (` and the like, which select a character set: one more byte.
    CharacterSet,
}

impl PlainText {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.escape = match (self.escape, byte) {
                (_, 0x1b) => Escape::Begun,
                (Escape::Begun, b'[') => Escape::Control,
                (Escape::Begun, b'(' | b')') => Escape::CharacterSet,
                (Escape::Control, 0x40..=0x7e) => {
                    // A cursor that jumps begins another piece of text.
                    if matches!(byte, b'H' | b'f') {
                        self.text.push('\n');
                    }
                    Escape::None
                }
                (Escape::Control, _) => Escape::Control,
                (Escape::Begun | Escape::CharacterSet, _) => Escape::None,
                (Escape::None, 0x20..=0x7e | 0x80.. | b'\n' | b'\t') => {
                    self.text.push(if byte.is_ascii() { char::from(byte) } else { '\u{fffd}' });
                    Escape::None
                }
                // Other controls: the text is printed on terminals.
                (Escape::None, _) => Escape::None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PlainText;

    #[test]
    fn escape_sequences_are_removed_even_when_split() {
        let mut plain = PlainText::default();
        plain.push(b"\x1b[1;31mred\x1b[0");
        plain.push(b"m\x07\r\n\x0enext\x1b(Bset\x1b[5;7Hthere\x1bcreset");
        assert_eq!(plain.text, "red\nnextset\nthere".to_owned() + "reset");
    }
}
