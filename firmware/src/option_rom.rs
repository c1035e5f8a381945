//! Option ROMs that the BIOS is offered as fw_cfg files (SeaBIOS, src/optionroms.c: all files in
//! `genroms/`).

use alloc::sync::Arc;
use alloc::vec::Vec;

const UNIT_BYTES: usize = 512;

/// `rom` with its last byte set so that the sum of all is zero, as the BIOS checks; `None` if it is
/// no option ROM: 55h, AAh, its length in units of 512 bytes.
pub fn with_checksum(rom: &[u8]) -> Option<Arc<[u8]>> {
    let [0x55, 0xaa, units, ..] = *rom else { return None };
    if units == 0 || rom.len() != usize::from(units) * UNIT_BYTES {
        return None;
    }
    let mut bytes = Vec::from(rom);
    let last = bytes.last_mut()?;
    *last = 0;
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    *bytes.last_mut()? = sum.wrapping_neg();
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn the_sum_is_zero_and_only_the_last_byte_changes() {
        let mut rom = vec![0x35; 2 * UNIT_BYTES];
        rom[..3].copy_from_slice(&[0x55, 0xaa, 2]);
        let signed = with_checksum(&rom).unwrap();
        assert_eq!(signed.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        assert_eq!(signed[..signed.len() - 1], rom[..rom.len() - 1]);
    }

    #[test]
    fn what_is_no_rom_is_refused() {
        let mut rom = vec![0; UNIT_BYTES];
        for start in [[0x55, 0xaa, 0], [0x55, 0xaa, 2], [0xaa, 0x55, 1]] {
            rom[..3].copy_from_slice(&start);
            assert_eq!(with_checksum(&rom), None);
        }
        assert_eq!(with_checksum(&[]), None);
    }
}
