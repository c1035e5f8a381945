//! The file that tells the firmware where the guest's RAM lies.

use alloc::vec::Vec;
use devices::ram_layout::RamLayout;

/// The kind of an entry of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Ram = 1,
}

/// The file `etc/e820`: packed records of address, length (64 bits each) and kind (32 bits).
pub fn file(layout: &RamLayout) -> Vec<u8> {
    let mut bytes = Vec::new();
    for range in layout.ranges() {
        bytes.extend_from_slice(&range.start.to_le_bytes());
        bytes.extend_from_slice(&(range.end - range.start).to_le_bytes());
        bytes.extend_from_slice(&(Kind::Ram as u32).to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_file_has_a_record_for_each_range() {
        let one = file(&RamLayout::new(512 * MIB));
        assert_eq!(one.len(), 20);
        assert_eq!(one[8..], [0, 0, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0]);
        let two = file(&RamLayout::new(4096 * MIB));
        assert_eq!(two.len(), 40);
        assert_eq!(two[20..28], (4096 * MIB).to_le_bytes());
        assert_eq!(two[28..36], (1024 * MIB).to_le_bytes());
    }
}
