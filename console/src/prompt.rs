//! The hypervisor's prompt: a line editor.

use alloc::string::String;
use alloc::vec::Vec;

/// Longer commands are cut off.
const MAX_COMMAND_BYTES: usize = 120;

const CTRL_C: u8 = 3;
const CTRL_U: u8 = 0x15;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 0x7f;

/// A command that is being typed.
#[derive(Debug, Default)]
pub struct Prompt {
    line: String,
    after_return: bool,
}

impl Prompt {
    /// The prompt's text, which asks for a command.
    pub const TEXT: &str = "bulkhead> ";

    /// Takes a byte and adds to `echo` what the terminal shall show; returns the command that it
    /// completes.
    pub fn typed(&mut self, byte: u8, echo: &mut Vec<u8>) -> Option<String> {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => {}
            b'\r' | b'\n' => {
                echo.extend_from_slice(b"\r\n");
                return Some(core::mem::take(&mut self.line));
            }
            BACKSPACE | DELETE => {
                let taken = self.line.pop();
                echo.extend_from_slice(taken.map_or(b"", |_| b"\x08 \x08"));
            }
            CTRL_C => {
                self.line.clear();
                echo.extend_from_slice(b"^C\r\n");
                return Some(String::new());
            }
            CTRL_U => {
                for _ in self.line.drain(..) {
                    echo.extend_from_slice(b"\x08 \x08");
                }
            }
            b' '..=b'~' if self.line.len() < MAX_COMMAND_BYTES => {
                self.line.push(char::from(byte));
                echo.push(byte);
            }
            _ => {}
        }
        None
    }
}
