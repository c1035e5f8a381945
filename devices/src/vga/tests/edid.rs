use alloc::vec::Vec;

use super::super::edid::edid;

/// The modes that a block offers.
fn modes(block: &[u8; 128]) -> Vec<(u16, u16)> {
    let mut modes = Vec::new();
    for (byte, bit, mode) in [(35, 5, (640, 480)), (35, 0, (800, 600)), (36, 3, (1024, 768))] {
        modes.extend((block[byte] >> bit & 1 != 0).then_some(mode));
    }
    for entry in block[38..54].chunks(2).filter(|entry| **entry != [1, 1]) {
        let width = (u16::from(entry[0]) + 31) * 8;
        let (across, down) = [(16, 10), (4, 3), (5, 4), (16, 9)][usize::from(entry[1] >> 6)];
        assert_eq!(entry[1] & 0x3f, 0, "60 Hz");
        modes.push((width, width * down / across));
    }
    modes
}

fn preferred(block: &[u8; 128]) -> (u16, u16) {
    let at = |low: usize, high: usize| u16::from(block[high] & 0xf0) << 4 | u16::from(block[low]);
    (at(56, 58), at(59, 61))
}

#[test]
fn the_monitor_prefers_1280_by_800_and_knows_what_the_card_does() {
    let block = edid(16 << 20);
    assert_eq!(block.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)), 0);
    assert_eq!(block[..8], [0, 255, 255, 255, 255, 255, 255, 0]);
    assert_eq!(block[18..20], [1, 4]);
    // Those that everybody knows by heart.
    assert_eq!(block[25..35], [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    assert_eq!(preferred(&block), (1280, 800));
    // 71 MHz, 1440 by 823: 59.9 Hz.
    let clock_hz = u32::from(u16::from_le_bytes([block[54], block[55]])) * 10_000;
    assert_eq!(clock_hz / ((1280 + u32::from(block[57])) * (800 + u32::from(block[60]))), 59);
    assert_eq!(modes(&block).len(), 11);
    assert!(modes(&block).contains(&(1920, 1200)));
    assert!(modes(&block).contains(&(1280, 800)));
    assert_eq!(block[126], 0, "no extension");
}

#[test]
fn a_card_with_less_memory_has_fewer_modes() {
    for (vram_bytes, expected) in
        [(4 << 20, (1280, 800)), (3 << 20, (1024, 768)), (1 << 18, (640, 480))]
    {
        let block = edid(vram_bytes);
        assert_eq!(preferred(&block), expected);
        for (width, height) in modes(&block) {
            assert!(usize::from(width) * usize::from(height) * 4 <= vram_bytes);
        }
        assert_eq!(block.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)), 0);
    }
    assert_eq!(modes(&edid(1 << 18)), []);
}
