//! Text that others chose, made safe for a terminal.

use core::fmt::{self, Write};

/// Writes text to `0` without control characters but line feed and tab: the others, and with them
/// the beginnings of all escape sequences, are shown as Rust escapes them.
#[derive(Debug)]
pub struct Printable<W>(pub W);

impl<W: Write> Write for Printable<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        for part in text.split_inclusive(is_control) {
            match part.chars().next_back().filter(|last| is_control(*last)) {
                None => self.0.write_str(part)?,
                Some(control) => {
                    self.0.write_str(&part[..part.len() - control.len_utf8()])?;
                    write!(self.0, "{}", control.escape_default())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        let mut text = String::new();
        Printable(&mut text).write_str("a\tb\n\x1b]0;title\x07\u{9b}6n\r\u{7f}ä").unwrap();
        assert_eq!(text, "a\tb\n\\u{1b}]0;title\\u{7}\\u{9b}6n\\r\\u{7f}ä");
    }
}
