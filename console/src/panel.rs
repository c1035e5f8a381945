//! The prompt on the machine's own screen: a text terminal of cells, typed at by the machine's
//! keyboard.

use super::prompt::Prompt;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use control::printable::Printable;
use core::fmt::Write;
use devices::keys::{Key, character_of};
use devices::vga::{TextScreen, code_page_437};

const COLUMNS: usize = 80;
const ROWS: usize = 25;
/// A space, grey on black.
const BLANK: u16 = 0x0720;
const TAB_COLUMNS: usize = 8;

/// Commands that wait at most; more are not taken.
const MAX_COMMANDS: usize = 16;

const GREETING: &str = "*** Screen and keyboard are Bulkhead's (Ctrl-Alt-] moves them round)\n";

const RIGHT_CTRL: Key = Key::extended(0x1d);
const RIGHT_SHIFT: Key = Key::plain(0x36);
const CAPS_LOCK: Key = Key::plain(0x3a);

/// The terminal.
#[derive(Debug)]
pub struct Panel {
    cells: Vec<u16>,
    column: usize,
    row: usize,
    prompt: Prompt,
    commands: VecDeque<String>,
    /// Left and right keys that are down.
    shift: [bool; 2],
    control: [bool; 2],
    has_capitals: bool,
}

impl Default for Panel {
    fn default() -> Self {
        let mut panel = Self {
            cells: vec![BLANK; COLUMNS * ROWS],
            column: 0,
            row: 0,
            prompt: Prompt::default(),
            commands: VecDeque::new(),
            shift: [false; 2],
            control: [false; 2],
            has_capitals: false,
        };
        panel.print(GREETING);
        panel.show_prompt();
        panel
    }
}

impl Panel {
    /// A picture of it.
    pub fn screen(&self) -> TextScreen {
        let cursor = Some((self.column.min(COLUMNS - 1), self.row));
        TextScreen { columns: COLUMNS, rows: ROWS, cells: self.cells.clone(), cursor }
    }

    /// A key went down or up.
    pub fn key(&mut self, key: Key, pressed: bool) {
        match key {
            Key::LEFT_SHIFT => self.shift[0] = pressed,
            RIGHT_SHIFT => self.shift[1] = pressed,
            Key::LEFT_CTRL => self.control[0] = pressed,
            RIGHT_CTRL => self.control[1] = pressed,
            CAPS_LOCK if pressed => self.has_capitals = !self.has_capitals,
            _ if pressed => {
                let typed = character_of(key, self.shift.contains(&true));
                typed.into_iter().for_each(|character| self.typed(character));
            }
            _ => {}
        }
    }

    fn typed(&mut self, character: u8) {
        let byte = match character {
            letter if self.control.contains(&true) => letter & 0x1f,
            letter if self.has_capitals && letter.is_ascii_alphabetic() => letter ^ 0x20,
            other => other,
        };
        if self.commands.len() == MAX_COMMANDS {
            return;
        }
        let mut echo = Vec::new();
        let command = self.prompt.typed(byte, &mut echo);
        echo.iter().for_each(|&byte| self.put(char::from(byte)));
        self.commands.extend(command);
    }

    /// The next command that was given.
    pub fn take_command(&mut self) -> Option<String> {
        self.commands.pop_front()
    }

    /// All keys are up: others have the keyboard now.
    pub fn release_keys(&mut self) {
        (self.shift, self.control) = ([false; 2], [false; 2]);
    }

    /// Shows text, on lines of its own.
    pub fn print(&mut self, text: &str) {
        if self.column != 0 {
            self.put('\n');
        }
        // Writing to the panel does not fail.
        let _ = Printable(self).write_str(text);
    }

    /// Shows the prompt, ready for a command.
    pub fn show_prompt(&mut self) {
        self.print(Prompt::TEXT);
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => self.end_line(),
            '\u{8}' => self.column = self.column.saturating_sub(1),
            '\t' => {
                let stop = (self.column / TAB_COLUMNS + 1) * TAB_COLUMNS;
                (self.column..stop).for_each(|_| self.put(' '));
            }
            _ => {
                if self.column == COLUMNS {
                    self.end_line();
                }
                let cell = BLANK & 0xff00 | u16::from(code_page_437(character));
                self.cells[self.row * COLUMNS + self.column] = cell;
                self.column += 1;
            }
        }
    }

    fn end_line(&mut self) {
        self.column = 0;
        if self.row + 1 < ROWS {
            self.row += 1;
            return;
        }
        self.cells.copy_within(COLUMNS.., 0);
        self.cells[(ROWS - 1) * COLUMNS..].fill(BLANK);
    }
}

impl Write for Panel {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.chars().for_each(|character| self.put(character));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use devices::keys::key_presses;

    fn type_text(panel: &mut Panel, text: &str) {
        for (key, pressed) in text.chars().flat_map(key_presses) {
            panel.key(key, pressed);
        }
    }

    fn rows(panel: &Panel) -> Vec<String> {
        panel.screen().to_string().lines().map(Into::into).collect()
    }

    #[test]
    fn lines_are_typed_edited_and_wrapped() {
        let mut panel = Panel::default();
        type_text(&mut panel, "list A\u{8}\u{8}\n");
        assert_eq!(panel.take_command().as_deref(), Some("list"));
        let shown = rows(&panel);
        assert_eq!((shown[0].as_str(), shown[1].as_str()), (GREETING.trim(), "bulkhead> list"));
        panel.print(&"x".repeat(100));
        assert_eq!(rows(&panel)[2..4], ["x".repeat(80), "x".repeat(20)]);
        assert_eq!(panel.screen().cursor, Some((20, 3)));
        panel.print("\tä\u{1b}[2J");
        assert_eq!(rows(&panel)[4], "        ä\\u{1b}[2J");
    }

    #[test]
    fn the_oldest_line_scrolls_away() {
        let mut panel = Panel::default();
        (0..100).for_each(|number| panel.print(&alloc::format!("{number}\n")));
        let expected: Vec<String> = (76..100).map(|number: u32| number.to_string()).collect();
        assert_eq!(rows(&panel)[..24], expected);
        assert_eq!(rows(&panel)[24], "");
    }

    #[test]
    fn modifiers_and_a_bound() {
        let mut panel = Panel::default();
        panel.key(CAPS_LOCK, true);
        type_text(&mut panel, "aB1\n");
        panel.key(CAPS_LOCK, true);
        type_text(&mut panel, "lost\u{15}kept\n");
        assert_eq!(panel.take_command().as_deref(), Some("Ab1"));
        assert_eq!(panel.take_command().as_deref(), Some("kept"));
        type_text(&mut panel, &"a\n".repeat(100));
        assert_eq!(core::iter::from_fn(|| panel.take_command()).count(), MAX_COMMANDS);
    }
}
