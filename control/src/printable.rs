//! Text that others chose, made safe for a terminal.

use core::fmt::{self, Write};

/// Writes text to `0` without control characters but line feed and tab: the others, and with them
/// the beginnings of all escape sequences, are shown as Rust escapes them. So are the characters
/// that change the direction of writing (UAX #9, section 2): by them a line reads as another.
#[derive(Debug)]
pub struct Printable<W>(pub W);

impl<W: Write> Write for Printable<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(is_escaped) {
            match part.chars().next_back().filter(|last| is_escaped(*last)) {
                None => self.0.write_str(part)?,
                Some(escaped) => {
                    self.0.write_str(&part[..part.len() - escaped.len_utf8()])?;
                    write!(self.0, "{}", escaped.escape_default())?;
                }
            }
        }
        Ok(())
    }
}

fn is_escaped(c: char) -> bool {
    let is_control = c.is_control() && !matches!(c, '\n' | '\t');
    let is_mark = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}');
    is_control || is_mark || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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

    #[test]
    fn characters_that_turn_the_text_around_are_shown() {
        let mut text = String::new();
        Printable(&mut text).write_str("a\u{202e}b\u{2069}c\u{200f}").unwrap();
        assert_eq!(text, "a\\u{202e}b\\u{2069}c\\u{200f}");
    }
}
