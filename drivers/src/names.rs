//! Names as Linux and udev give them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The printable part of a text field that a device fills: to its first NUL, without blanks at its
/// ends.
pub fn printable(field: &[u8]) -> String {
    let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
    let is_kept = |byte: &&u8| byte.is_ascii_graphic() || **byte == b' ';
    let text: String = text.iter().filter(is_kept).map(|&byte| char::from(byte)).collect();
    text.trim().into()
}

/// The letters of a disk by its number: a to z, aa, ab and so on (Linux's `sd_format_disk_name`).
pub fn letters(number: usize) -> String {
    const LETTERS: usize = 26;
    let mut letters = Vec::new();
    let mut rest = Some(number);
    while let Some(number) = rest {
        letters.push(char::from(b'a' + (number % LETTERS) as u8));
        rest = (number / LETTERS).checked_sub(1);
    }
    letters.iter().rev().collect()
}

/// The name below `/dev/disk/by-id` that udev makes of a bus and what the disk says of itself; none
/// if any of that is empty.
pub fn by_id(bus: &str, words: &[&str]) -> Vec<String> {
    if words.iter().any(|word| word.is_empty()) {
        return Vec::new();
    }
    let words: Vec<String> = words.iter().map(|word| replaced(word)).collect();
    [format!("{bus}-{}", words.join("_"))].into()
}

/// As udev does: blanks that stand together become one `_`, and so does each other character that a
/// name of a link may not have (`util_replace_chars`).
fn replaced(text: &str) -> String {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let is_kept = |letter: char| letter.is_ascii_alphanumeric() || "#+-.:=@_".contains(letter);
    words.join("_").chars().map(|letter| if is_kept(letter) { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_devices_become_printable() {
        assert_eq!(printable(b" abc def \0zzz"), "abc def");
        assert_eq!(printable(b"\xff\x1b[2Jx\n"), "[2Jx");
        assert_eq!(printable(&[0; 20]), "");
    }

    #[test]
    fn disks_are_lettered_as_by_linux() {
        let names = [(0, "a"), (25, "z"), (26, "aa"), (27, "ab"), (701, "zz"), (702, "aaa")];
        for (number, name) in names {
            assert_eq!(letters(number), name);
        }
    }

    #[test]
    fn links_are_named_as_by_udev() {
        assert_eq!(by_id("virtio", &["a/b  c"]), ["virtio-a_b_c"]);
        assert_eq!(by_id("nvme", &["QEMU NVMe Ctrl", "abc"]), ["nvme-QEMU_NVMe_Ctrl_abc"]);
        assert!(by_id("virtio", &[""]).is_empty());
    }
}
