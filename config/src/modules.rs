//! The purpose of each boot module: by its name, if that says it, else by its contents.

use alloc::string::String;
use alloc::vec::Vec;

use super::text;

/// The purpose of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// A guest's configuration, or meant as one.
    Config,
    /// The image of a CD.
    Iso,
    /// The image of a disk that a BIOS can boot.
    BootDisk,
    /// Anything else: a disk that a configuration names, or nothing.
    Data,
}

impl ModuleKind {
    /// Of a module with that command line and that content.
    pub fn of(command_line: &str, data: &[u8]) -> Self {
        if names(command_line).iter().any(|name| is_config_name(name)) {
            return Self::Config;
        }
        if is_iso(data) {
            return Self::Iso;
        }
        if data.get(510..512) == Some(&[0x55, 0xaa]) {
            return Self::BootDisk;
        }
        if text::looks_like_text(data) { Self::Config } else { Self::Data }
    }
}

/// How guests' configurations are called.
fn is_config_name(name: &str) -> bool {
    const SUFFIXES: [&str; 4] = [".cfg", ".conf", ".hvm", ".xl"];
    let name = name.to_ascii_lowercase();
    name == "config" || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// A volume descriptor of ISO 9660 (ECMA-119, 9.1) or of UDF (ECMA-167, 2/9.1) from sector 16 on.
fn is_iso(data: &[u8]) -> bool {
    const SECTOR_BYTES: usize = 2048;
    (16..20).any(|sector| {
        let start = sector * SECTOR_BYTES;
        matches!(data.get(start + 1..start + 6), Some(b"CD001" | b"BEA01"))
    })
}

/// The names by which a module can be meant: the first two words of its command line. QEMU and
/// older boot loaders put the path of the file first, GRUB 2 leaves it out.
pub fn names(command_line: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = command_line.trim_ascii_start();
    while !rest.is_empty() && names.len() < 2 {
        let (word, behind) = first_word(rest);
        names.push(word);
        rest = behind.trim_ascii_start();
    }
    names
}

/// The first name of a module, by which messages call it; empty if it has none.
pub fn name(command_line: &str) -> String {
    names(command_line).into_iter().next().unwrap_or_default()
}

/// True if `wanted` means the module: one of its names, or the file name at its end.
pub fn is_meant_by(command_line: &str, wanted: &str) -> bool {
    let is_path_to =
        |name: &String| name.strip_suffix(wanted).is_some_and(|path| path.ends_with('/'));
    !wanted.is_empty() && names(command_line).iter().any(|name| name == wanted || is_path_to(name))
}

/// A word, as GRUB quotes those with blanks (`"a b"`, `\"`, `\\`), and what follows it.
fn first_word(text: &str) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.clone().next() {
                Some((_, escaped @ ('"' | '\'' | '\\'))) => {
                    characters.next();
                    word.push(escaped);
                }
                _ => word.push('\\'),
            },
            _ if quote == Some(character) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(character),
            _ if quote.is_none() && character.is_ascii_whitespace() => return (word, &text[at..]),
            _ => word.push(character),
        }
    }
    (word, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn iso() -> Vec<u8> {
        let mut data = vec![0; 17 * 2048 + 6];
        data[17 * 2048 + 1..].copy_from_slice(b"CD001");
        // Hybrid images have a boot sector too.
        data[510..512].copy_from_slice(&[0x55, 0xaa]);
        data
    }

    #[test]
    fn names_say_what_a_module_is_meant_as() {
        for line in [
            "g.cfg",
            "/boot/G.CFG",
            "g.conf",
            "/etc/xen/g.hvm",
            "\"my guest.cfg\"",
            "/boot/g g.xl",
            "config",
        ] {
            for data in [&b""[..], &[0; 1024], &iso()] {
                assert_eq!(ModuleKind::of(line, data), ModuleKind::Config, "{line}");
            }
        }
    }

    #[test]
    fn contents_say_it_where_names_do_not() {
        let mut disk = vec![0; 512];
        disk[510..].copy_from_slice(&[0x55, 0xaa]);
        for name in ["", "x", "x.img"] {
            assert_eq!(ModuleKind::of(name, &iso()), ModuleKind::Iso);
            assert_eq!(ModuleKind::of(name, &disk), ModuleKind::BootDisk);
            assert_eq!(ModuleKind::of(name, &[0; 40_000]), ModuleKind::Data);
            assert_eq!(ModuleKind::of(name, b""), ModuleKind::Data);
            assert_eq!(ModuleKind::of(name, b"# Gr\xfc\xdfe\n"), ModuleKind::Config);
            assert_eq!(ModuleKind::of(name, b"\xff\xfen\0a\0"), ModuleKind::Config);
        }
    }

    #[test]
    fn modules_are_found_by_either_name() {
        let both = "/boot/debian.iso guest.iso more";
        for wanted in ["/boot/debian.iso", "debian.iso", "guest.iso"] {
            assert!(is_meant_by(both, wanted), "{wanted}");
        }
        for wanted in ["", "iso", "bian.iso", "more"] {
            assert!(!is_meant_by(both, wanted), "{wanted}");
        }
    }

    #[test]
    fn quotes_are_those_of_grub() {
        assert_eq!(names("\"d e\" f\\\"g h"), ["d e", "f\"g"]);
        assert_eq!(names(r"a\\b c\d"), [r"a\b", r"c\d"]);
        assert_eq!(names("'open"), ["open"]);
        assert_eq!(names("  "), [""; 0]);
    }
}
