//! Keys of a PC keyboard: their names and numbers, text as key presses, and the bytes of a host
//! keyboard as keys.

use arrayvec::ArrayVec;

/// A key, by its scan code set 1 make code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Make code, 01h to 7fh.
    pub code: u8,
    /// The code follows an E0h prefix.
    pub extended: bool,
}

#[allow(missing_docs)]
impl Key {
    pub const ESCAPE: Self = Self::plain(0x01);
    pub const BACKSPACE: Self = Self::plain(0x0e);
    pub const TAB: Self = Self::plain(0x0f);
    pub const ENTER: Self = Self::plain(0x1c);
    pub const LEFT_CTRL: Self = Self::plain(0x1d);
    pub const LEFT_SHIFT: Self = Self::plain(0x2a);
    pub const LEFT_ALT: Self = Self::plain(0x38);
    pub const SPACE: Self = Self::plain(0x39);
    pub const HOME: Self = Self::extended(0x47);
    pub const UP: Self = Self::extended(0x48);
    pub const PAGE_UP: Self = Self::extended(0x49);
    pub const LEFT: Self = Self::extended(0x4b);
    pub const RIGHT: Self = Self::extended(0x4d);
    pub const END: Self = Self::extended(0x4f);
    pub const DOWN: Self = Self::extended(0x50);
    pub const PAGE_DOWN: Self = Self::extended(0x51);
    pub const INSERT: Self = Self::extended(0x52);
    pub const DELETE: Self = Self::extended(0x53);
    pub const PRINT_SCREEN: Self = Self::extended(0x37);
    /// Its code stands for the sequence E1 1D 45; it has no release.
    pub const PAUSE: Self = Self { code: 0x45, extended: true };
}

impl Key {
    /// A key without prefix.
    pub const fn plain(code: u8) -> Self {
        Self { code, extended: false }
    }

    /// A key with the E0h prefix.
    pub const fn extended(code: u8) -> Self {
        Self { code, extended: true }
    }

    /// Function key F1 to F12.
    pub const fn function(number: u8) -> Option<Self> {
        match number {
            1..=10 => Some(Self::plain(0x3a + number)),
            11 | 12 => Some(Self::plain(0x4c + number)),
            _ => None,
        }
    }

    /// A key by its name in lower case: `esc`, `enter`, `up`, `f10`, `ctrl`, or a single character.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "esc" => Self::ESCAPE,
            "backspace" => Self::BACKSPACE,
            "tab" => Self::TAB,
            "enter" => Self::ENTER,
            "ctrl" => Self::LEFT_CTRL,
            "shift" => Self::LEFT_SHIFT,
            "alt" => Self::LEFT_ALT,
            "space" => Self::SPACE,
            "home" => Self::HOME,
            "up" => Self::UP,
            "pageup" => Self::PAGE_UP,
            "left" => Self::LEFT,
            "right" => Self::RIGHT,
            "end" => Self::END,
            "down" => Self::DOWN,
            "pagedown" => Self::PAGE_DOWN,
            "insert" => Self::INSERT,
            "delete" => Self::DELETE,
            "printscreen" => Self::PRINT_SCREEN,
            "pause" => Self::PAUSE,
            _ => {
                if let Some(number) = name.strip_prefix('f').and_then(|digits| digits.parse().ok())
                {
                    return Self::function(number);
                }
                let mut characters = name.chars();
                let character = characters.next()?;
                return if characters.next().is_none() {
                    key_of(character).map(|(key, _)| key)
                } else {
                    None
                };
            }
        })
    }
}

/// Characters of the keys of a row: alone, and with shift (US layout). Zero: nothing printable.
type Row = (&'static [u8], &'static [u8]);

/// By the make code of the row's first key.
const ROW_02: Row = (b"1234567890-=\x08\t", b"!@#$%^&*()_+\x08\t");
const ROW_10: Row = (b"qwertyuiop[]\n\0", b"QWERTYUIOP{}\n\0");
const ROW_1E: Row = (b"asdfghjkl;'`\0\\", b"ASDFGHJKL:\"~\0|");
const ROW_2C: Row = (b"zxcvbnm,./", b"ZXCVBNM<>?");
const ROWS: [(u8, Row); 4] = [(0x02, ROW_02), (0x10, ROW_10), (0x1e, ROW_1E), (0x2c, ROW_2C)];

/// The modifier that a character needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Modifier {
    None,
    Shift,
    Control,
}

fn key_of(character: char) -> Option<(Key, Modifier)> {
    let byte = u8::try_from(character).ok().filter(u8::is_ascii)?;
    match byte {
        b' ' => return Some((Key::SPACE, Modifier::None)),
        b'\r' => return Some((Key::ENTER, Modifier::None)),
        0x1b => return Some((Key::ESCAPE, Modifier::None)),
        0x7f => return Some((Key::BACKSPACE, Modifier::None)),
        0 => return None,
        _ => {}
    }
    for (first, (alone, shifted)) in ROWS {
        let find = |row: &[u8]| row.iter().position(|candidate| *candidate == byte);
        if let Some(place) = find(alone) {
            return Some((Key::plain(first + place as u8), Modifier::None));
        }
        if let Some(place) = find(shifted) {
            return Some((Key::plain(first + place as u8), Modifier::Shift));
        }
    }
    if (1..=26).contains(&byte) {
        let (key, _) = key_of(char::from(b'a' + byte - 1))?;
        return Some((key, Modifier::Control));
    }
    None
}

/// The ASCII character that a key of a US keyboard types, alone or with shift; Enter types a line
/// feed.
pub fn character_of(key: Key, has_shift: bool) -> Option<u8> {
    const KEYPAD_ENTER: Key = Key::extended(0x1c);
    match key {
        Key::SPACE => return Some(b' '),
        Key::ESCAPE => return Some(0x1b),
        KEYPAD_ENTER => return Some(b'\n'),
        Key { extended: true, .. } => return None,
        _ => {}
    }
    let of_row = |(first, (alone, shifted)): (u8, Row)| {
        let row = if has_shift { shifted } else { alone };
        row.get(usize::from(key.code.checked_sub(first)?)).copied()
    };
    ROWS.into_iter().find_map(of_row).filter(|&character| character != 0)
}

/// The presses and releases (`true` is a press) that type a character on a US keyboard; empty for a
/// character that it has not. Control characters are typed with Ctrl, except backspace, tab, line
/// feed (Enter) and escape.
pub fn key_presses(character: char) -> ArrayVec<(Key, bool), 4> {
    let mut presses = ArrayVec::new();
    let Some((key, modifier)) = key_of(character) else { return presses };
    let held = match modifier {
        Modifier::None => None,
        Modifier::Shift => Some(Key::LEFT_SHIFT),
        Modifier::Control => Some(Key::LEFT_CTRL),
    };
    presses.extend(held.map(|held| (held, true)));
    presses.extend([(key, true), (key, false)]);
    presses.extend(held.map(|held| (held, false)));
    presses
}

/// Turns the bytes of a keyboard that sends scan code set 1 into keys.
#[derive(Clone, Debug, Default)]
pub struct Set1Decoder {
    prefix: Prefix,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Prefix {
    #[default]
    None,
    Extended,
    /// After E1h: 1D and 45 follow, or 9D and C5.
    Pause,
    PauseControl,
}

impl Set1Decoder {
    /// Takes a byte; gives the key that it completes, and whether it was pressed.
    pub fn feed(&mut self, byte: u8) -> Option<(Key, bool)> {
        let prefix = core::mem::take(&mut self.prefix);
        match (prefix, byte) {
            (_, 0xe0) => self.prefix = Prefix::Extended,
            (_, 0xe1) => self.prefix = Prefix::Pause,
            (Prefix::Pause, 0x1d | 0x9d) => self.prefix = Prefix::PauseControl,
            (Prefix::PauseControl, 0x45) => return Some((Key::PAUSE, true)),
            (Prefix::PauseControl, 0xc5) => return Some((Key::PAUSE, false)),
            // Shifts that the keyboard adds to undo others are not keys.
            (Prefix::Extended, 0x2a | 0xaa | 0x36 | 0xb6) => {}
            // Replies and errors of the keyboard are not keys.
            (_, 0x00 | 0x80 | 0xf1..=0xff) => {}
            _ => {
                let key = Key { code: byte & 0x7f, extended: prefix == Prefix::Extended };
                return Some((key, byte & 0x80 == 0));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn keys_type_the_characters_that_they_are_pressed_for() {
        for byte in (b' '..=b'~').chain([b'\n', b'\t', 8, 0x1b]) {
            let presses = key_presses(char::from(byte));
            let has_shift = presses[0].0 == Key::LEFT_SHIFT;
            let (key, _) = presses[usize::from(has_shift)];
            assert_eq!(character_of(key, has_shift), Some(byte));
        }
        for key in [Key::LEFT_SHIFT, Key::LEFT_CTRL, Key::UP, Key::PAUSE, Key::plain(0x44)] {
            assert_eq!(character_of(key, false), None, "{key:?}");
        }
    }

    #[test]
    fn types_text() {
        assert_eq!(key_presses('a')[..], [(Key::plain(0x1e), true), (Key::plain(0x1e), false)]);
        let shifted = key_presses('A');
        assert_eq!(shifted[0], (Key::LEFT_SHIFT, true));
        assert_eq!(shifted[1], (Key::plain(0x1e), true));
        assert_eq!(shifted[3], (Key::LEFT_SHIFT, false));
        assert_eq!(key_presses('\x03')[0], (Key::LEFT_CTRL, true));
        assert_eq!(key_presses('\x03')[1].0.code, 0x2e);
        assert_eq!(key_presses('\n')[0].0, Key::ENTER);
        assert_eq!(key_presses('|')[1].0.code, 0x2b);
        assert!(key_presses('é').is_empty());
        for character in (0x20u8..0x7f).map(char::from) {
            assert!(!key_presses(character).is_empty(), "{character}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(Key::from_name("f1"), Some(Key::plain(0x3b)));
        assert_eq!(Key::from_name("f12"), Some(Key::plain(0x58)));
        assert_eq!(Key::from_name("f"), Some(Key::plain(0x21)));
        assert_eq!(Key::from_name("down"), Some(Key::DOWN));
        assert_eq!(Key::from_name("f13"), None);
        // By the codes of set 1, those after E0h from 100h on.
        for (name, code) in [
            ("esc", 0x01),
            ("backspace", 0x0e),
            ("tab", 0x0f),
            ("enter", 0x1c),
            ("ctrl", 0x1d),
            ("shift", 0x2a),
            ("alt", 0x38),
            ("space", 0x39),
            ("home", 0x147),
            ("up", 0x148),
            ("pageup", 0x149),
            ("left", 0x14b),
            ("right", 0x14d),
            ("end", 0x14f),
            ("down", 0x150),
            ("pagedown", 0x151),
            ("insert", 0x152),
            ("delete", 0x153),
            ("printscreen", 0x137),
            ("pause", 0x145),
            ("f10", 0x44),
            ("f11", 0x57),
            ("a", 0x1e),
            ("/", 0x35),
        ] {
            let found =
                Key::from_name(name).map(|key| u16::from(key.extended) << 8 | u16::from(key.code));
            assert_eq!(found, Some(code), "{name}");
        }
        assert_eq!(Key::from_name("nonsense"), None);
    }

    #[test]
    fn decodes_prefixes_pause_and_fake_shifts() {
        let mut decoder = Set1Decoder::default();
        let bytes = [
            0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5, 0xe0, 0x2a,
            0xe0, 0x37, 0xfa,
        ];
        let keys: Vec<_> = bytes.into_iter().filter_map(|byte| decoder.feed(byte)).collect();
        assert_eq!(
            keys,
            [
                (Key::plain(0x1e), true),
                (Key::plain(0x1e), false),
                (Key::UP, true),
                (Key::UP, false),
                (Key::PAUSE, true),
                (Key::PAUSE, false),
                (Key::PRINT_SCREEN, true),
            ]
        );
    }
}
