//! QEMU's names of the keys that make ASCII characters on a US keyboard.

const LETTERS_AND_DIGITS: [&str; 36] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
    "t", "u", "v", "w", "x", "y", "z", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9",
];

/// Plain character, shifted character, name.
const OTHERS: [(char, char, &str); 12] = [
    ('-', '_', "minus"),
    ('=', '+', "equal"),
    ('[', '{', "bracket_left"),
    (']', '}', "bracket_right"),
    ('\\', '|', "backslash"),
    (';', ':', "semicolon"),
    ('\'', '"', "apostrophe"),
    ('`', '~', "grave_accent"),
    (',', '<', "comma"),
    ('.', '>', "dot"),
    ('/', '?', "slash"),
    (' ', ' ', "spc"),
];

/// The key's name, and whether shift is held.
pub fn of(character: char) -> Option<(&'static str, bool)> {
    let named = |name: char| LETTERS_AND_DIGITS.into_iter().find(|key| key.starts_with(name));
    match character {
        '\n' => return Some(("ret", false)),
        '\t' => return Some(("tab", false)),
        '\u{1b}' => return Some(("esc", false)),
        '\u{8}' | '\u{7f}' => return Some(("backspace", false)),
        'A'..='Z' => return Some((named(character.to_ascii_lowercase())?, true)),
        _ => {}
    }
    if let Some(digit) = ")!@#$%^&*(".find(character) {
        return Some((LETTERS_AND_DIGITS[26 + digit], true));
    }
    if let Some(&(plain, _, name)) =
        OTHERS.iter().find(|(plain, shifted, _)| [*plain, *shifted].contains(&character))
    {
        return Some((name, character != plain));
    }
    Some((named(character)?, false))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_printable_character_has_its_own_key() {
        let keys: std::collections::BTreeSet<_> = (' '..='~').filter_map(super::of).collect();
        assert_eq!(keys.len(), 95);
        assert_eq!(super::of('?'), Some(("slash", true)));
        assert_eq!(super::of('é'), None);
    }
}
