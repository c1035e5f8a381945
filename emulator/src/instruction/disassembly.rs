//! Instructions in words, for people who debug a guest.

use alloc::string::String;
use iced_x86::{Decoder, DecoderError, DecoderOptions, FastFormatter};

/// Length and text of the instruction at the start of `bytes`, which stand at `rip` in code of
/// `bitness` 16, 32 or 64; `None` if it is not whole or not valid.
pub fn disassemble(bytes: &[u8], bitness: u32, rip: u64) -> Option<(usize, String)> {
    let mut decoder = Decoder::try_with_ip(bitness, bytes, rip, DecoderOptions::NONE).ok()?;
    let instruction = decoder.decode();
    if decoder.last_error() != DecoderError::None {
        return None;
    }
    let mut text = String::new();
    FastFormatter::new().format(&instruction, &mut text);
    Some((instruction.len(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_in_words() {
        let text = |bytes: &[u8], bitness| disassemble(bytes, bitness, 0x1000);
        assert_eq!(text(&[0x0f, 0xa2, 0x90], 32), Some((2, "cpuid".into())));
        assert_eq!(text(&[0x8b, 0x47, 0x10], 64), Some((3, "mov eax,[rdi+10h]".into())));
        assert_eq!(text(&[0xeb, 0xfe], 16), Some((2, "jmp 1000h".into())));
        assert_eq!(text(&[0x0f], 64), None, "cut off");
        assert_eq!(text(&[0x06], 64), None, "none of 64-bit code");
    }
}
