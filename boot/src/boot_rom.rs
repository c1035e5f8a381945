//! The option ROM by which a guest's BIOS reads CDs through [`devices::boot_disk`]: 16-bit code,
//! assembled with the image.

use core::slice;

core::arch::global_asm!(
    include_str!("boot_rom.s"),
    port = const devices::boot_disk::PORT,
    busy = const devices::boot_disk::BUSY,
);

// SAFETY: `boot_rom.s` defines them; only their addresses are used.
unsafe extern "C" {
    static boot_rom_start: u8;
    static boot_rom_end: u8;
}

/// The ROM, its last byte left for the checksum.
pub fn image() -> &'static [u8] {
    let (start, end) = (&raw const boot_rom_start, &raw const boot_rom_end);
    // SAFETY: the symbols bound one object of the image's read-only data, whose end is not before
    // its start; nobody ever writes to it.
    unsafe { slice::from_raw_parts(start, end as usize - start as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the expansion header's address stands.
    const EXPANSION_HEADER: usize = 0x1a;

    #[test]
    fn the_rom_is_one_that_a_bios_starts() {
        let rom = image();
        assert_eq!(rom[..2], [0x55, 0xaa]);
        assert_eq!(usize::from(rom[2]) * 512, rom.len());
        assert_eq!(rom[rom.len() - 1], 0);
        // A short jump to code behind the headers.
        assert_eq!(rom[3], 0xeb);
        let entry = 5 + usize::from(rom[4]);
        let header =
            usize::from(u16::from_le_bytes([rom[EXPANSION_HEADER], rom[EXPANSION_HEADER + 1]]));
        let length = usize::from(rom[header + 5]) * 16;
        assert!(entry >= header + length && entry < rom.len());
        assert_eq!(rom[header..header + 4], *b"$PnP");
        assert_eq!(
            rom[header..header + length].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
            0
        );
        // Neither boot connection vector nor bootstrap entry vector: nothing to boot from.
        assert_eq!(rom[header + 0x16..header + 0x1c], [0; 6]);
    }
}
