//! Guests' output, made safe for the terminal of the person at the console.
//!
//! A terminal obeys all that is written to it: sequences set its title and clipboard, define its
//! keys, lock its keyboard, or make it type an answer. Passed are those that full-screen programs
//! draw by; everything that is not known to be harmless is dropped whole. Sequences are taken apart
//! as ECMA-48, 5.4 to 5.6, has them, in their 7-bit form; the 8-bit controls (C1) are dropped, by
//! themselves and in UTF-8.

use alloc::vec::Vec;

use config::command_line::Escapes;

const ESC: u8 = 0x1b;
const BEL: u8 = 7;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;

/// Longer control sequences are dropped.
const MAX_SEQUENCE_BYTES: usize = 64;
/// Numbers of more digits than this keep a terminal busy.
const MAX_DIGITS: usize = 4;
/// A string that is not ended within so many bytes hides no more.
const MAX_STRING_BYTES: u32 = 4096;

/// The private modes of DEC and xterm that programs may set, and whether they are on by default:
/// cursor keys, reverse video, origin, wrapping, blinking and visible cursor, the other screen,
/// mouse and focus reports, bracketed paste.
const MODES: [(&[u8], bool); 17] = [
    (b"1", false),
    (b"5", false),
    (b"6", false),
    (b"7", true),
    (b"12", false),
    (b"25", true),
    (b"47", false),
    (b"1000", false),
    (b"1002", false),
    (b"1003", false),
    (b"1004", false),
    (b"1005", false),
    (b"1006", false),
    (b"1015", false),
    (b"1047", false),
    (b"1049", false),
    (b"2004", false),
];

/// Where in a sequence the last byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In none.
    Ground,
    /// Behind ESC, and intermediate bytes.
    Escape,
    /// In a control sequence, which begins by ESC `[`.
    Control,
    /// In a control sequence that is too long.
    LongControl,
    /// In a string (OSC, DCS, SOS, PM, APC), so many bytes long.
    String(u32),
    /// Behind ESC in a string.
    StringEnd,
    /// In a character of UTF-8, of which so many bytes are to come.
    Utf8(u8),
}

/// Takes what a guest transmits.
#[derive(Debug)]
pub struct EscapeFilter {
    state: State,
    /// The sequence so far, or the first byte of a character that may be a control.
    held: Vec<u8>,
    /// Modes that differ from their default, a bit each.
    changed_modes: u32,
    /// Something else may differ: colours, character sets, margins.
    is_changed: bool,
}

impl Default for EscapeFilter {
    fn default() -> Self {
        Self { state: State::Ground, held: Vec::new(), changed_modes: 0, is_changed: false }
    }
}

impl EscapeFilter {
    /// Takes `bytes` and adds what the terminal shall get to `out`.
    pub fn take(&mut self, bytes: &[u8], escapes: Escapes, out: &mut Vec<u8>) {
        match escapes {
            Escapes::Pass => out.extend_from_slice(bytes),
            Escapes::Filter => bytes.iter().for_each(|&byte| self.take_byte(byte, out)),
            Escapes::Mark => bytes.iter().for_each(|&byte| self.mark_byte(byte, out)),
        }
    }

    /// Adds to `out` what gives the terminal back as it was: the guest no longer has it.
    pub fn restore(&mut self, out: &mut Vec<u8>) {
        for (bit, (mode, on)) in MODES.iter().enumerate() {
            if self.changed_modes & 1 << bit != 0 {
                out.extend_from_slice(b"\x1b[?");
                out.extend_from_slice(mode);
                out.push(if *on { b'h' } else { b'l' });
            }
        }
        if self.is_changed {
            // The cursor is saved, since margins move it: character set, insert mode, margins,
            // colours.
            out.extend_from_slice(b"\x0f\x1b(B\x1b7\x1b[4l\x1b[r\x1b8\x1b[m");
        }
        *self = Self::default();
    }

    fn take_byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Ground => self.begin(byte, out),
            State::Utf8(left) => self.continue_character(byte, left, out),
            State::String(length) => match byte {
                ESC => self.state = State::StringEnd,
                BEL | CANCEL | SUBSTITUTE => self.state = State::Ground,
                _ if length >= MAX_STRING_BYTES => self.state = State::Ground,
                _ => self.state = State::String(length + 1),
            },
            State::StringEnd if byte == b'\\' => self.state = State::Ground,
            // Another sequence ends a string too.
            State::StringEnd => {
                self.enter_escape();
                self.continue_escape(byte, out);
            }
            State::Escape | State::Control | State::LongControl if byte == ESC => {
                self.enter_escape()
            }
            State::Escape | State::Control | State::LongControl if byte < b' ' => {
                // Controls in a sequence work as if they came before it, but for those that end it.
                if matches!(byte, CANCEL | SUBSTITUTE) {
                    self.state = State::Ground;
                } else if is_harmless_control(byte) {
                    out.push(byte);
                }
            }
            State::Escape => self.continue_escape(byte, out),
            State::Control => self.continue_control(byte, out),
            State::LongControl if matches!(byte, b'@'..=b'~') => self.state = State::Ground,
            State::LongControl => {}
        }
    }

    fn begin(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            ESC => self.enter_escape(),
            b' '..=b'~' | 0xa0..=0xc1 | 0xf5..=0xff => out.push(byte),
            0xc2..=0xf4 => {
                self.held.clear();
                self.held.push(byte);
                self.state = State::Utf8(if byte < 0xe0 {
                    1
                } else if byte < 0xf0 {
                    2
                } else {
                    3
                });
            }
            _ if is_harmless_control(byte) => out.push(byte),
            _ => {}
        }
    }

    fn continue_character(&mut self, byte: u8, left: u8, out: &mut Vec<u8>) {
        if !matches!(byte, 0x80..=0xbf) {
            self.pass_bytes(out);
            self.state = State::Ground;
            self.begin(byte, out);
            return;
        }
        self.held.push(byte);
        self.state = if left > 1 { State::Utf8(left - 1) } else { State::Ground };
        if self.state == State::Ground {
            // Longer forms of a character than its own are no UTF-8.
            if core::str::from_utf8(&self.held).is_ok_and(|text| !text.contains(char::is_control)) {
                out.append(&mut self.held);
            } else {
                self.pass_bytes(out);
            }
        }
    }

    /// Passes the bytes that are held and are no character in UTF-8, as ISO 8859-1 has them:
    /// without C1.
    fn pass_bytes(&mut self, out: &mut Vec<u8>) {
        out.extend(self.held.drain(..).filter(|byte| !matches!(byte, 0x80..=0x9f)));
    }

    /// Shows every control but line ends and tabs.
    fn mark_byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let (State::Utf8(left), 0x80..=0xbf) = (self.state, byte) {
            self.continue_character(byte, left, out);
            return;
        }
        if matches!(self.state, State::Utf8(_)) {
            self.pass_bytes(out);
        }
        self.state = State::Ground;
        match byte {
            b'\n' | b'\r' | b'\t' => out.push(byte),
            // As terminals echo them: ^[ is ESC.
            0..=0x1f | 0x7f => out.extend_from_slice(&[b'^', byte ^ 0x40]),
            _ => self.begin(byte, out),
        }
    }

    fn enter_escape(&mut self) {
        self.held.clear();
        self.state = State::Escape;
    }

    fn continue_escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        match (&self.held[..], byte) {
            (b"", b'[') => self.state = State::Control,
            (b"", b']' | b'P' | b'X' | b'^' | b'_') => self.state = State::String(0),
            (_, b' '..=b'/') if self.held.len() < MAX_SEQUENCE_BYTES => self.held.push(byte),
            (intermediate, final_byte) => {
                let is_harmless = match intermediate {
                    b"" => b"78DEHMNO=>c".contains(&final_byte),
                    // Character sets: ASCII, United Kingdom, lines, Linux's code page 437.
                    b"(" | b")" | b"*" | b"+" => b"AB0U".contains(&final_byte),
                    // Double height and width, and the test pattern.
                    b"#" => b"34568".contains(&final_byte),
                    b"%" => final_byte == b'G',
                    _ => false,
                };
                if is_harmless {
                    self.pass(b"\x1b", final_byte, out);
                }
                self.state = State::Ground;
            }
        }
    }

    fn continue_control(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b' '..=b'?' if self.held.len() < MAX_SEQUENCE_BYTES => self.held.push(byte),
            b' '..=b'?' => self.state = State::LongControl,
            b'@'..=b'~' => {
                if self.is_harmless_control_sequence(byte) {
                    self.pass(b"\x1b[", byte, out);
                }
                self.state = State::Ground;
            }
            // No part of a sequence.
            _ => self.state = State::Ground,
        }
    }

    fn pass(&mut self, introducer: &[u8], final_byte: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(introducer);
        out.append(&mut self.held);
        out.push(final_byte);
        self.is_changed = true;
    }

    /// Decides about the control sequence that ends by `final_byte`, and notes the modes that it
    /// sets.
    fn is_harmless_control_sequence(&mut self, final_byte: u8) -> bool {
        let held = core::mem::take(&mut self.held);
        let is_harmless = self.judge(&held, final_byte);
        self.held = held;
        is_harmless
    }

    fn judge(&mut self, held: &[u8], final_byte: u8) -> bool {
        let is_number =
            |number: &[u8]| number.len() <= MAX_DIGITS && number.iter().all(u8::is_ascii_digit);
        match held {
            [b'?', modes @ ..] => match final_byte {
                b'h' | b'l' => {
                    modes.split(|&byte| byte == b';').all(|mode| self.set_mode(mode, final_byte))
                }
                // Selective erasure.
                b'J' | b'K' => modes.iter().all(u8::is_ascii_digit),
                _ => false,
            },
            // Soft reset, and the form of the cursor.
            b"!" => final_byte == b'p',
            [number @ .., b' '] => final_byte == b'q' && is_number(number),
            _ => {
                let mut numbers = held.split(|byte| b";:".contains(byte));
                numbers.clone().all(is_number)
                    && match final_byte {
                        // 3 erases what has scrolled off the screen.
                        b'J' => numbers.all(|number| number != b"3"),
                        // Insert mode and line feeds; others lock the keyboard.
                        b'h' | b'l' => numbers.all(|number| matches!(number, b"4" | b"20")),
                        _ => b"ABCDEFGHIZKLMPSTX@`abdefgmrsu".contains(&final_byte),
                    }
            }
        }
    }

    fn set_mode(&mut self, mode: &[u8], final_byte: u8) -> bool {
        let Some(bit) = MODES.iter().position(|(known, _)| *known == mode) else { return false };
        if MODES[bit].1 == (final_byte == b'h') {
            self.changed_modes &= !(1 << bit);
        } else {
            self.changed_modes |= 1 << bit;
        }
        true
    }
}

/// Bell, backspace, tab, line feeds, carriage return, and the two character sets.
fn is_harmless_control(byte: u8) -> bool {
    matches!(byte, BEL..=0x0f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn shown(text: &[u8], escapes: Escapes) -> String {
        let mut out = Vec::new();
        EscapeFilter::default().take(text, escapes, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn filtered(text: &[u8]) -> String {
        shown(text, Escapes::Filter)
    }

    #[test]
    fn what_programs_draw_by_passes() {
        for text in [
            "plain\r\n\ttext\x08\x07",
            "\x1b[2J\x1b[H\x1b[1;31mred\x1b[m\x1b[38;5;9m\x1b[38:2:1:2:3m",
            "\x1b7\x1b[5;10r\x1b[10;20H\x1b[K\x1b8\x1bM\x1bD",
            "\x1b(0lqqk\x1b(B\x0e\x0f\x1b)0\x1b%G",
            "\x1b[?1049h\x1b[?25l\x1b[?1;7h\x1b[?2004h\x1b[4h\x1b[4l",
            "\x1b[!p\x1b[2 q\x1b=\x1b>\x1bc\x1b#8",
            "gr\u{fc}n \u{2500}\u{1f600}",
        ] {
            assert_eq!(filtered(text.as_bytes()), text);
        }
        let latin_1 = b"gr\xfcn \xe9\xe8!";
        let mut out = Vec::new();
        EscapeFilter::default().take(latin_1, Escapes::Filter, &mut out);
        assert_eq!(out, latin_1);
    }

    #[test]
    fn what_reprograms_the_terminal_or_makes_it_answer_is_dropped() {
        for sequence in [
            // Titles, clipboard, colours, links; user-defined keys; messages to the terminal.
            &b"\x1b]0;title\x07"[..],
            b"\x1b]52;c;AAAA\x1b\\",
            b"\x1bP1;1|17/41\x1b\\",
            b"\x1bXx\x1b\\\x1b^x\x1b\\\x1b_x\x1b\\",
            // Reports: of the cursor, the terminal, parameters, modes, the window.
            b"\x1b[6n\x1b[5n\x1b[?6n\x1b[c\x1b[>c\x1b[=c\x1bZ\x1b[x\x1b[?1$p\x1b[14t\x1b[>q\x05",
            // Printer, keyboard lock, lights, keyboard protocols, window, erasure of what scrolled
            // off.
            b"\x1b[5i\x1b[2h\x1b[1q\x1b[>4;2m\x1b[>1u\x1b[8;1;1t\x1b[3J\x1b[?3h\x1b[?1;9999h",
            // Flow control, 8-bit controls by themselves; other character codes.
            b"\x13\x11\0\x7f\x9b6n\x1b F\x1b%@",
            // Numbers that keep a terminal busy.
            b"\x1b[99999b",
        ] {
            assert_eq!(
                filtered(&[b"a", sequence, b"b"].concat()).replace("6n", ""),
                "ab",
                "{sequence:?}"
            );
        }
    }

    #[test]
    fn sequences_that_are_not_ended_hide_little() {
        assert_eq!(filtered(b"\x1b[1\x18x\x1b]0;a\x1b[1mb"), "x\x1b[1mb");
        assert_eq!(filtered(b"\x1b[1\n2mx"), "\n\x1b[12mx");
        let long = [&b"\x1b["[..], &[b'1'; 100], b"mx"].concat();
        assert_eq!(filtered(&long), "x");
        let endless = [&b"\x1bP"[..], &[b'1'; 5000], b"x"].concat();
        assert!(filtered(&endless).len() < 1000);
    }

    #[test]
    fn controls_can_be_shown() {
        assert_eq!(
            shown(b"a\x1b[1m\x08\t\r\n\x7f\xc3\xbc\x9bz", Escapes::Mark),
            "a^[[1m^H\t\r\n^?\u{fc}z"
        );
        assert_eq!(shown(b"\x1b]0;t\x07", Escapes::Pass), "\x1b]0;t\x07");
    }

    #[test]
    fn the_terminal_is_given_back_as_it_was() {
        let restored = |text: &[u8]| {
            let (mut filter, mut out) = (EscapeFilter::default(), Vec::new());
            filter.take(text, Escapes::Filter, &mut out);
            out.clear();
            filter.restore(&mut out);
            String::from_utf8(out).unwrap()
        };
        const REST: &str = "\x0f\x1b(B\x1b7\x1b[4l\x1b[r\x1b8\x1b[m";
        assert_eq!(restored(b"plain \x1b[6n"), "");
        assert_eq!(restored(b"\x1b[1m"), REST);
        assert_eq!(
            restored(b"\x1b[?25l\x1b[?1049h\x1b[?7h\x1b[?1h\x1b[?1l"),
            alloc::format!("\x1b[?25h\x1b[?1049l{REST}")
        );
    }

    #[test]
    fn no_8_bit_control_passes_in_a_character() {
        for (sent, passes) in [
            (&b"\xc2\x9b6n"[..], &b"\xc26n"[..]),
            (b"\xe0\x82\x9b6n", b"\xe06n"),
            (b"\xe1\x9b6n", b"\xe16n"),
            (b"\xed\xa0\xa0", b"\xed\xa0\xa0"),
            (b"\xf0\x80\x82\x9b", b"\xf0"),
        ] {
            let mut out = Vec::new();
            EscapeFilter::default().take(sent, Escapes::Filter, &mut out);
            assert_eq!(out, passes, "{sent:x?}");
        }
    }

    #[test]
    fn characters_that_form_when_a_control_goes_are_no_controls() {
        let mut shown = Vec::new();
        EscapeFilter::default().take(b"\xed\x00\xa0\xa0 \xc2\x00\x9b", Escapes::Filter, &mut shown);
        assert_eq!(shown, b"\xed\xa0\xa0 \xc2");
    }

    proptest! {
        /// In whatever pieces it comes, what passes is the same, and passes again unchanged.
        #[test]
        fn what_passes_is_safe(
            pieces in prop::collection::vec(
                "(\x1b|\x1b\\[|\x1b\\]|\x1bP|[0-9;?$! >]{0,3}|[a-zA-Z@`\\\\]|\u{9b}|.){0,12}", 0..6),
            bytes in prop::collection::vec(any::<u8>(), 0..30),
        ) {
            let whole = [pieces.concat().into_bytes(), bytes].concat();
            for escapes in [Escapes::Filter, Escapes::Mark] {
                let (mut at_once, mut by_bytes, mut again) = (Vec::new(), Vec::new(), Vec::new());
                EscapeFilter::default().take(&whole, escapes, &mut at_once);
                let mut filter = EscapeFilter::default();
                whole.iter().for_each(|byte| filter.take(&[*byte], escapes, &mut by_bytes));
                prop_assert_eq!(&at_once, &by_bytes);
                EscapeFilter::default().take(&at_once, escapes, &mut again);
                // The last character or sequence may not be whole.
                prop_assert!(at_once.starts_with(&again));
                prop_assert!(at_once.len() - again.len() < 4);
                for report in [&b"n"[..], b"c", b"t", b"]", b"P", b"Z"] {
                    let ends_by_it = at_once.windows(2).any(|two| two[0] == ESC && two[1..] == *report);
                    prop_assert!(!ends_by_it || report == b"c");
                }
                prop_assert!(escapes == Escapes::Filter || !at_once.contains(&ESC));
            }
        }
    }
}
