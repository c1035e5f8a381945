//! Key types of scan code set 3: whether a key repeats, and whether it tells of its release (IBM
//! PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)", scan code set 3).

/// A key's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyType {
    /// While it is held down, its code is sent again and again.
    pub repeats: bool,
    /// Its release is sent.
    pub breaks: bool,
}

impl KeyType {
    /// Sets 1 and 2 know only this type.
    pub const TYPEMATIC_MAKE_BREAK: Self = Self { repeats: true, breaks: true };
    const TYPEMATIC: Self = Self { repeats: true, breaks: false };
    const MAKE_BREAK: Self = Self { repeats: false, breaks: true };
    const MAKE: Self = Self { repeats: false, breaks: false };

    /// The type that commands F7h to FAh give to all keys, FBh to FDh to single ones.
    pub const fn of_command(command: u8) -> Option<Self> {
        Some(match command {
            0xf7 | 0xfb => Self::TYPEMATIC,
            0xf8 | 0xfc => Self::MAKE_BREAK,
            0xf9 | 0xfd => Self::MAKE,
            0xfa => Self::TYPEMATIC_MAKE_BREAK,
            _ => return None,
        })
    }

    /// The type of the key with a code of set 3 after power-on.
    const fn initial(code: u8) -> Self {
        match code {
            // Left Ctrl, both Shifts, Caps Lock, left Alt.
            0x11 | 0x12 | 0x59 | 0x14 | 0x19 => Self::MAKE_BREAK,
            // Escape and F1 to F12, Print Screen, Scroll Lock, Pause.
            0x07 | 0x08 | 0x0f | 0x17 | 0x1f | 0x27 | 0x2f | 0x37 | 0x3f | 0x47 | 0x4f | 0x56 | 0x57
            | 0x5e | 0x5f | 0x62
            // Right Alt and Ctrl, the windows keys, and the six keys above the arrows but Delete.
            | 0x39 | 0x58 | 0x8b..=0x8d | 0x65 | 0x67 | 0x6d..=0x6f
            // The keypad but plus.
            | 0x69 | 0x6b | 0x6c | 0x70..=0x77 | 0x79 | 0x7a | 0x7d | 0x7e | 0x84 => Self::MAKE,
            _ => Self::TYPEMATIC,
        }
    }
}

/// The types of all keys, by their codes of set 3.
#[derive(Clone, Debug)]
pub struct KeyTypes([KeyType; 256]);

impl KeyTypes {
    /// As after power-on.
    pub const fn new() -> Self {
        let mut types = [KeyType::TYPEMATIC; 256];
        let mut code = 0;
        while code < types.len() {
            types[code] = KeyType::initial(code as u8);
            code += 1;
        }
        Self(types)
    }

    /// The type of the key with a code.
    pub fn get(&self, code: u8) -> KeyType {
        self.0[usize::from(code)]
    }

    /// Sets the type of the key with a code.
    pub fn set(&mut self, code: u8, key_type: KeyType) {
        self.0[usize::from(code)] = key_type;
    }

    /// Sets the type of all keys.
    pub fn set_all(&mut self, key_type: KeyType) {
        self.0 = [key_type; 256];
    }
}
