//! How the machine is told to sleep for good.

/// Finds the sleep types in the AML of `Name (_S5, Package { a, b, ... })` (ACPI 6.5, 20.2.5 and
/// 7.4.2).
pub fn find(aml: &[u8]) -> Option<[u8; 2]> {
    const PACKAGE: u8 = 0x12;
    aml.windows(5)
        .enumerate()
        .filter(|(_, window)| window[..4] == *b"_S5_" && window[4] == PACKAGE)
        .find_map(|(at, _)| {
            let after = &aml[at + 5..];
            // The length takes 1 to 4 bytes, the count of elements one.
            let length_bytes = 1 + usize::from(after.first()? >> 6);
            let mut elements = after.get(length_bytes + 1..)?.iter().copied();
            let a = integer(&mut elements)?;
            Some([a, integer(&mut elements).unwrap_or(a)])
        })
}

fn integer(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    match bytes.next()? {
        small @ 0..=1 => Some(small),
        0x0a => bytes.next(),
        0x0b => {
            let low = bytes.next();
            bytes.next();
            low
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn s5_is_found_in_every_encoding() {
        let qemu = b"..\x08_S3_\x12\x06\x04\x01\x01\x00\x00\x08_S5_\x12\x06\x04\x00\x00\x00\x00";
        assert_eq!(find(qemu), Some([0, 0]));
        assert_eq!(find(b"\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x07\x00\x00"), Some([5, 7]));
        assert_eq!(find(b"\x08_S5_\x12\x47\x01\x04\x0a\x05\x01"), Some([5, 1]));
        assert_eq!(find(b"\x08_S5_\x12\x0a\x04\x0b\x05\x00\x0b\x07\x00"), Some([5, 7]));
    }

    #[test]
    fn broken_aml_is_survived() {
        let whole = b"_S5_\x12\xc0\x04\x0a\x05\x0a\x07";
        for length in 0..whole.len() {
            find(&whole[..length]);
        }
        assert_eq!(find(b"_S5_\x12\x0a\x04\xff"), None);
        assert_eq!(find(b"S5_\x12\x06\x04\x00\x00"), None);
    }
}
