use super::*;
use iced_x86::{Decoder, DecoderError, DecoderOptions};

/// Every first three bytes that the fast path may know: it must agree with the decoder.
#[test]
fn the_fast_path_agrees_with_the_decoder() {
    let mut first_bytes: Vec<[u8; 3]> = (0..=255).map(|opcode| [opcode, 0x90, 0x90]).collect();
    first_bytes.extend((0..=255).map(|opcode| [0x0f, opcode, 0x90]));
    first_bytes.extend(
        (0..=255).flat_map(|byte| [[0x0f, 0x01, byte], [0x0f, 0x20, byte], [0x0f, 0x22, byte]]),
    );
    for bitness in [16, 32, 64] {
        for bytes in &first_bytes {
            let mut padded = [0; 15];
            padded[..3].copy_from_slice(bytes);
            let mut decoder = Decoder::new(bitness, &padded, DecoderOptions::NONE);
            let instruction = decoder.decode();
            if decoder.last_error() == DecoderError::None {
                assert_eq!(
                    instruction_length(&padded, bitness),
                    Some(instruction.len()),
                    "{bytes:02x?}"
                );
            }
        }
    }
}

/// Instructions that exit often must not take the decoder.
#[test]
fn the_usual_exits_take_the_fast_path() {
    for code in [
        &[0xf4][..],         // HLT
        &[0xec],             // IN AL, DX
        &[0xe6, 0x80],       // OUT 80h, AL
        &[0x0f, 0xa2],       // CPUID
        &[0x0f, 0x32],       // RDMSR
        &[0x0f, 0x01, 0xd9], // VMMCALL
        &[0x0f, 0x22, 0xc0], // MOV CR0, EAX
    ] {
        assert_eq!(simple_length(code), Some(code.len()), "{code:x?}");
    }
}

#[test]
fn prefixes_count_and_broken_instructions_have_no_length() {
    assert_eq!(instruction_length(&[0xf3, 0x66, 0x6d], 32), Some(3));
    assert_eq!(instruction_length(&[0x66, 0x0f, 0xa2], 64), Some(3));
    assert_eq!(instruction_length(&[0x8b], 64), None);
    assert_eq!(instruction_length(&[], 64), None);
}
