//! An answer on its way out of the management port: text, or text around a picture that is made as
//! the port takes it.

use super::png::PngStream;
use super::port::send_some;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control::budget::Budget;
use control::host::{Host, SerialPort};

/// Bytes sent to the port at once.
const SEND_AT_ONCE: usize = 4096;
/// Bytes of a file that become whole characters of base64.
const BASE64_GROUP_BYTES: usize = 3;

/// A method's result, as JSON.
#[derive(Debug)]
pub enum Reply {
    /// This text.
    Text(String),
    /// A picture, its size beside it.
    Picture(Box<PngStream>),
}

/// An answer that was not sent whole yet.
#[derive(Debug, Default)]
pub struct Answer {
    text: VecDeque<u8>,
    picture: Option<Picture>,
    /// A part of it is gone.
    is_begun: bool,
    /// The heap that it may take, set aside until it is sent.
    _budgets: Vec<Budget>,
}

#[derive(Debug)]
struct Picture {
    stream: Box<PngStream>,
    /// Bytes of the file that are not yet text.
    file: Vec<u8>,
}

impl Answer {
    /// `start`, the reply and `end`, in one line, within `budgets`.
    pub fn new(start: String, reply: Reply, end: &str, budgets: Vec<Budget>) -> Self {
        let mut text = start;
        let picture = match reply {
            Reply::Text(result) => {
                text += &result;
                text += end;
                None
            }
            Reply::Picture(stream) => {
                let (width, height) = stream.size();
                text += &alloc::format!("{{\"width\":{width},\"height\":{height},\"png\":\"");
                Some(Picture { stream, file: Vec::new() })
            }
        };
        Self { text: text.into_bytes().into(), picture, is_begun: false, _budgets: budgets }
    }

    /// Nothing of it is left.
    pub fn is_sent(&self) -> bool {
        self.text.is_empty() && self.picture.is_none()
    }

    /// Sends as much as the port takes; true if something is left. The answer's heap goes back with
    /// its last byte.
    pub fn send(&mut self, host: &dyn Host, port: SerialPort) -> bool {
        if self.text.is_empty() {
            self.continue_picture();
        }
        let before = self.text.len();
        send_some(host, port, &mut self.text, SEND_AT_ONCE);
        self.is_begun |= self.text.len() < before;
        if self.is_sent() {
            *self = Self::default();
        }
        !self.is_sent()
    }

    /// Ends it where it is: with the end of its line, if that has begun.
    pub fn cut(&mut self) {
        // Until the line's end has gone, it can be cut once more.
        let is_begun = self.is_begun && !self.is_sent();
        let rest: &[u8] = if is_begun { b"\n" } else { b"" };
        *self = Self { text: rest.iter().copied().collect(), is_begun, ..Self::default() };
    }

    /// The next part of the picture becomes text, and after the last the line's end.
    fn continue_picture(&mut self) {
        const END: &[u8] = b"\"}}\n";
        let Some(Picture { stream, file }) = &mut self.picture else { return };
        let is_over = !stream.next(file);
        let whole = if is_over { file.len() } else { file.len() - file.len() % BASE64_GROUP_BYTES };
        let text = STANDARD.encode(&file[..whole]);
        file.drain(..whole);
        self.text.extend(text.as_bytes());
        if is_over {
            self.text.extend(END);
            self.picture = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::test_host::TestHost;

    #[test]
    fn half_a_line_is_ended_however_often_it_is_cut() {
        let (host, port) = (TestHost::leak(), SerialPort::Com2);
        for cuts in 0..4 {
            let mut answer = Answer::new("abc".into(), Reply::Text("def".into()), "\n", Vec::new());
            host.limit_serial(port, Some(2));
            assert!(answer.send(host, port));
            (0..cuts).for_each(|_| answer.cut());
            host.limit_serial(port, None);
            assert!(!answer.send(host, port) && answer.is_sent());
            let expected: &[u8] = if cuts == 0 { b"abcdef\n" } else { b"ab\n" };
            assert_eq!(host.take_sent(port), expected);
        }
    }
}
