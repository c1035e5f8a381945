//! Scan codes: keys in sets 1, 2 and 3, and the controller's translation from set 2 to set 1.

use crate::keys::Key;
use arrayvec::ArrayVec;

/// Set 2 codes 00h to 7fh in set 1. Codes 83h and 84h are exceptions, the rest above is not
/// translated.
const TO_SET_1: [u8; 128] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
];

/// Set 2 code of F7.
const SET_2_F7: u8 = 0x83;
/// Set 2 code of Alt with Print Screen.
const SET_2_SYSRQ: u8 = 0x84;

/// Set 1 codes 00h to 7fh in set 2; 0 where no key has the code.
const TO_SET_2: [u8; 128] = invert();

const fn invert() -> [u8; 128] {
    let mut table = [0; 128];
    let mut code = 1;
    while code < TO_SET_1.len() {
        table[TO_SET_1[code] as usize] = code as u8;
        code += 1;
    }
    table[0x41] = SET_2_F7;
    table[0x54] = SET_2_SYSRQ;
    table
}

/// The byte of set 1 for a byte of set 2, as the controller translates.
pub const fn to_set_1(byte: u8) -> u8 {
    match byte {
        0..=0x7f => TO_SET_1[byte as usize],
        SET_2_F7 => 0x41,
        SET_2_SYSRQ => 0x54,
        _ => byte,
    }
}

/// Set 1 codes 00h to 58h of keys without prefix in set 3; 0 where no key has the code.
const TO_SET_3: [u8; 0x59] = [
    0x00, 0x08, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x11, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5c, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7e, 0x19, 0x29, 0x14, 0x07, 0x0f, 0x17, 0x1f, 0x27,
    0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x76, 0x5f, 0x6c, 0x75, 0x7d, 0x84, 0x6b, 0x73, 0x74, 0x7c, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x57, 0x00, 0x13, 0x56, 0x5e,
];

/// The code of a key in set 3, in which every key has one of its own; none for a key that set 3 has
/// not.
pub fn set_3_code(key: Key) -> Option<u8> {
    let code = if key.extended {
        match key.code & 0x7f {
            0x1c => 0x79,
            0x1d => 0x58,
            0x35 => 0x77,
            0x37 => 0x57,
            0x38 => 0x39,
            0x45 => 0x62,
            0x47 => 0x6e,
            0x48 => 0x63,
            0x49 => 0x6f,
            0x4b => 0x61,
            0x4d => 0x6a,
            0x4f => 0x65,
            0x50 => 0x60,
            0x51 => 0x6d,
            0x52 => 0x67,
            0x53 => 0x64,
            0x5b => 0x8b,
            0x5c => 0x8c,
            0x5d => 0x8d,
            _ => 0,
        }
    } else {
        TO_SET_3.get(usize::from(key.code & 0x7f)).copied().unwrap_or(0)
    };
    (code != 0).then_some(code)
}

/// Prefix of a release in sets 2 and 3.
pub const BREAK_PREFIX: u8 = 0xf0;
const EXTENDED: u8 = 0xe0;

/// The bytes that a keyboard sends for one press or release.
pub type Sequence = ArrayVec<u8, 8>;

/// The bytes for a press or release in set 1.
pub fn set_1(key: Key, pressed: bool) -> Sequence {
    let mut bytes = Sequence::new();
    let code = key.code & 0x7f;
    match (key, pressed) {
        (Key::PAUSE, true) => bytes.extend([0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]),
        (Key::PAUSE, false) => {}
        (Key::PRINT_SCREEN, true) => bytes.extend([0xe0, 0x2a, 0xe0, 0x37]),
        (Key::PRINT_SCREEN, false) => bytes.extend([0xe0, 0xb7, 0xe0, 0xaa]),
        _ => {
            bytes.extend(key.extended.then_some(EXTENDED));
            bytes.push(if pressed { code } else { code | 0x80 });
        }
    }
    bytes
}

/// The bytes for a press or release in set 2; none for a key that set 2 has not.
pub fn set_2(key: Key, pressed: bool) -> Sequence {
    let mut bytes = Sequence::new();
    let code = TO_SET_2[usize::from(key.code & 0x7f)];
    match (key, pressed) {
        (Key::PAUSE, true) => bytes.extend([0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77]),
        (Key::PAUSE, false) => {}
        (Key::PRINT_SCREEN, true) => bytes.extend([0xe0, 0x12, 0xe0, 0x7c]),
        (Key::PRINT_SCREEN, false) => bytes.extend([0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12]),
        _ if code == 0 => {}
        _ => {
            bytes.extend(key.extended.then_some(EXTENDED));
            bytes.extend((!pressed).then_some(BREAK_PREFIX));
            bytes.push(code);
        }
    }
    bytes
}

/// The bytes for a press or release in set 3.
pub fn set_3(key: Key, pressed: bool) -> Sequence {
    let mut bytes = Sequence::new();
    if let Some(code) = set_3_code(key) {
        bytes.extend((!pressed).then_some(BREAK_PREFIX));
        bytes.push(code);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// As the controller does it.
    fn translate(bytes: &[u8]) -> Sequence {
        let mut out = Sequence::new();
        let mut release = 0;
        for byte in bytes {
            if *byte == BREAK_PREFIX {
                release = 0x80;
            } else {
                out.push(to_set_1(*byte) | core::mem::take(&mut release));
            }
        }
        out
    }

    #[test]
    fn translated_set_2_is_set_1() {
        for code in 1..0x59 {
            if matches!(code, 0x55 | 0x54) {
                continue;
            }
            for key in [Key::plain(code), Key::extended(code)] {
                for pressed in [true, false] {
                    assert_eq!(translate(&set_2(key, pressed)), set_1(key, pressed), "{key:?}");
                }
            }
        }
        assert_eq!(set_2(Key::plain(0x1e), false)[..], [0xf0, 0x1c]);
        assert_eq!(set_2(Key::UP, true)[..], [0xe0, 0x75]);
    }

    #[test]
    fn each_key_has_a_code_of_its_own_in_set_3() {
        let plain = (0..0x59).map(Key::plain);
        // SysRq is Print Screen with Alt, which set 3 leaves to the system.
        let keys = plain.filter(|key| key.code != 0x54).chain((0..0x5e).map(Key::extended));
        let mut codes: Vec<_> = keys.filter_map(set_3_code).collect();
        // The 102-key keyboard less the second backslash (53h), and three keys for windows.
        assert_eq!(codes.len(), 102 + 3);
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 102 + 3);
        assert_eq!(set_3(Key::UP, true)[..], [0x63]);
        assert_eq!(set_3(Key::PAUSE, false)[..], [0xf0, 0x62]);
        assert_eq!(set_3(Key::plain(0x7f), true)[..], []);
    }
}
