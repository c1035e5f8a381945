//! The bytes of a configuration file as text.
//!
//! xl reads files byte by byte and gives bytes above 7Fh no meaning, so that any 8-bit encoding
//! will do. Text that is not UTF-8 is taken as ISO 8859-1 here, in which every byte is a character.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use super::Diagnostic;

/// A configuration is text and small.
pub const MAX_BYTES: usize = 64 << 10;

/// The text of the file called `file`.
///
/// # Errors
/// If it is empty, too long, or in an encoding of more than a byte a character that is not UTF-8.
pub fn decode<'a>(file: &str, bytes: &'a [u8]) -> Result<Cow<'a, str>, Diagnostic> {
    let error = |message| Diagnostic::at(file, 1, 1, message);
    if bytes.is_empty() {
        return Err(error("the file is empty, so no configuration".into()));
    }
    if bytes.len() > MAX_BYTES {
        let (kib, most_kib) = (bytes.len().div_ceil(1 << 10), MAX_BYTES >> 10);
        return Err(error(format!(
            "a configuration has at most {most_kib} KiB, this file has {kib}"
        )));
    }
    if let Some(encoding) = wide_encoding(bytes) {
        return Err(error(format!(
            "the file is in {encoding}: save it as UTF-8 or in an 8-bit encoding"
        )));
    }
    Ok(match core::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect::<String>()),
    })
}

/// The name of an encoding with several bytes for each letter (The Unicode Standard, 23.8: byte
/// order mark).
fn wide_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [1..=255, 0, 0, 0, 1..=255, ..] | [0, 0, 0, 1..=255, 0, ..] => {
            Some("UTF-32 without a byte order mark")
        }
        [1..=255, 0, 1..=255, 0, ..] | [0, 1..=255, 0, 1..=255, ..] => {
            Some("UTF-16 without a byte order mark")
        }
        _ => None,
    }
}

/// True if the file begins as text does, in whatever encoding.
pub fn looks_like_text(bytes: &[u8]) -> bool {
    /// So much tells text from data.
    const SAMPLE_BYTES: usize = 512;
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    let is_text = |byte: &u8| *byte >= b' ' && *byte != 0x7f || byte.is_ascii_whitespace();
    let has_letters = sample.iter().any(|byte| byte.is_ascii_alphanumeric() || *byte == b'#');
    wide_encoding(bytes).is_some() || has_letters && sample.iter().all(is_text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;
    use alloc::vec::Vec;

    fn utf_16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn eight_bit_text_is_read() {
        assert_eq!(decode("t", "# Gr\u{fc}\u{df}e".as_bytes()).unwrap(), "# Gr\u{fc}\u{df}e");
        assert_eq!(decode("t", b"# Gr\xfc\xdfe").unwrap(), "# Gr\u{fc}\u{df}e");
        assert_eq!(decode("t", b"\xef\xbb\xbfa=1").unwrap(), "a=1");
        let every: Vec<u8> = (0..=255).collect();
        assert_eq!(decode("t", &[&b"#  "[..], &every].concat()).unwrap().chars().count(), 3 + 256);
    }

    #[test]
    fn wide_encodings_are_named() {
        let text = "name='g'";
        let (le, be) = (utf_16(text, u16::to_le_bytes), utf_16(text, u16::to_be_bytes));
        let marked = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
        let utf_32: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        for (bytes, encoding) in [
            (marked(&[0xff, 0xfe], &le), "UTF-16"),
            (marked(&[0xfe, 0xff], &be), "UTF-16"),
            (le, "UTF-16 without a byte order mark"),
            (be, "UTF-16 without a byte order mark"),
            (marked(&[0xff, 0xfe, 0, 0], &utf_32), "UTF-32"),
            (utf_32, "UTF-32 without a byte order mark"),
        ] {
            let message = format!(
                "t:1:1: the file is in {encoding}: save it as UTF-8 or in an 8-bit encoding"
            );
            assert_eq!(decode("t", &bytes).unwrap_err().to_string(), message);
            assert!(looks_like_text(&bytes));
        }
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(
            decode("t", b"").unwrap_err().to_string(),
            "t:1:1: the file is empty, so no configuration"
        );
        assert!(decode("t", &vec![b'#'; MAX_BYTES]).is_ok());
        assert_eq!(
            decode("t", &vec![b'#'; 650 << 10]).unwrap_err().to_string(),
            "t:1:1: a configuration has at most 64 KiB, this file has 650"
        );
    }

    #[test]
    fn text_is_told_from_data() {
        assert!(looks_like_text(b"name='g'\r\n\tmemory=1") && looks_like_text(b"# Gr\xfc\xdfe"));
        let boot_sector = [&[0xeb, 0x3c, 0x90][..], &b"MSDOS5.0"[..], &[0; 501]].concat();
        for data in [
            &b""[..],
            &[0; 600],
            &boot_sector,
            b"\x7fELF\x02",
            b"\x1f\x8b\x08",
            b"QFI\xfb\0\0\0\x03",
        ] {
            assert!(!looks_like_text(data), "{data:?}");
        }
    }
}
