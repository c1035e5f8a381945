//! Texts that media hold: labels, and names made of them.

use alloc::string::String;
use core::fmt::Write;

/// The text without the blanks and zeroes that fill its field, and without control characters,
/// which a console would obey.
pub fn label(characters: impl Iterator<Item = char>) -> String {
    let characters = characters.take_while(|&character| character != '\0');
    let text: String = characters
        .map(|it| if it.is_control() { char::REPLACEMENT_CHARACTER } else { it })
        .collect();
    text.trim().into()
}

/// A label as udev writes it into the name of a link: what is no letter, digit or one of a few
/// marks as its bytes in hexadecimal, `EFI\x20System`.
pub fn link_name(label: &str) -> String {
    const MARKS: &str = "#+-.:=@_";
    let mut name = String::new();
    for character in label.chars() {
        match character.is_ascii()
            && !character.is_ascii_alphanumeric()
            && !MARKS.contains(character)
        {
            // Writing to a string does not fail.
            true => drop(write!(name, "\\x{:02x}", u32::from(character))),
            false => name.push(character),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_steer_a_console_or_leave_their_folder() {
        assert_eq!(label(" a b\u{1b}[2J  \0junk".chars()), "a b\u{fffd}[2J");
        assert_eq!(link_name("EFI System"), "EFI\\x20System");
        assert_eq!(link_name("../ä\\"), "..\\x2fä\\x5c");
    }
}
