//! Memory type range registers (SDM volume 3, 12.11). They are kept for the guest to read back;
//! caching is decided by the second-level page tables and the guest's PAT.

use emulator::registers::Fault;

/// Variable ranges.
const VARIABLE_RANGES: u32 = 8;
/// IA32_MTRRCAP: eight variable ranges, fixed ranges, write-combining.
const CAPABILITIES: u64 = VARIABLE_RANGES as u64 | 1 << 8 | 1 << 10;

const CAP: u32 = 0xfe;
const VARIABLE_FIRST: u32 = 0x200;
const VARIABLE_LAST: u32 = VARIABLE_FIRST + 2 * VARIABLE_RANGES - 1;
const FIXED_64K: u32 = 0x250;
const FIXED_16K_LAST: u32 = 0x259;
const FIXED_4K: u32 = 0x268;
const FIXED_4K_LAST: u32 = 0x26f;
const DEFAULT_TYPE: u32 = 0x2ff;
const DEFAULT_TYPE_BITS: u64 = 0xcff;

/// The registers of one virtual CPU.
#[derive(Clone, Debug, Default)]
pub struct Mtrrs {
    variable: [u64; 2 * VARIABLE_RANGES as usize],
    fixed: [u64; 11],
    default_type: u64,
}

/// Position of a fixed-range register.
const fn fixed_index(msr: u32) -> Option<usize> {
    match msr {
        FIXED_64K => Some(0),
        0x258..=FIXED_16K_LAST => Some((msr - 0x258) as usize + 1),
        FIXED_4K..=FIXED_4K_LAST => Some((msr - FIXED_4K) as usize + 3),
        _ => None,
    }
}

/// Uncached, write-combining, write-through, write-protected, write-back.
const fn is_memory_type(value: u64) -> bool {
    matches!(value, 0 | 1 | 4 | 5 | 6)
}

impl Mtrrs {
    /// True if `msr` is one of these registers.
    pub const fn has(msr: u32) -> bool {
        matches!(msr, CAP | VARIABLE_FIRST..=VARIABLE_LAST | DEFAULT_TYPE)
            || fixed_index(msr).is_some()
    }

    /// RDMSR.
    ///
    /// # Errors
    /// #GP for other registers.
    pub fn read(&self, msr: u32) -> Result<u64, Fault> {
        match msr {
            CAP => Ok(CAPABILITIES),
            VARIABLE_FIRST..=VARIABLE_LAST => Ok(self.variable[(msr - VARIABLE_FIRST) as usize]),
            DEFAULT_TYPE => Ok(self.default_type),
            _ => fixed_index(msr).map(|index| self.fixed[index]).ok_or(Fault::PROTECTION),
        }
    }

    /// WRMSR.
    ///
    /// # Errors
    /// #GP for reserved bits and memory types, and for other registers.
    pub fn write(&mut self, msr: u32, value: u64, physical_address_bits: u8) -> Result<(), Fault> {
        match msr {
            VARIABLE_FIRST..=VARIABLE_LAST => {
                let is_base = msr.is_multiple_of(2);
                let bits = value & 0xfff;
                let legal = if is_base { is_memory_type(bits) } else { bits & !(1 << 11) == 0 };
                if !legal || value >> physical_address_bits != 0 {
                    return Err(Fault::PROTECTION);
                }
                self.variable[(msr - VARIABLE_FIRST) as usize] = value;
            }
            DEFAULT_TYPE if value & !DEFAULT_TYPE_BITS == 0 && is_memory_type(value & 0xff) => {
                self.default_type = value
            }
            _ => {
                let index = fixed_index(msr).ok_or(Fault::PROTECTION)?;
                if !value.to_le_bytes().iter().all(|&byte| is_memory_type(byte.into())) {
                    return Err(Fault::PROTECTION);
                }
                self.fixed[index] = value;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nonsense_faults() {
        let mut mtrrs = Mtrrs::default();
        for msr in [0x200, 0x250, 0x258, 0x259, 0x268, 0x26f, 0x2ff] {
            assert!(Mtrrs::has(msr));
            mtrrs.write(msr, 6, 48).unwrap();
            assert_eq!(mtrrs.read(msr), Ok(6));
            assert_eq!(
                mtrrs.write(msr, 2, 48),
                Err(Fault::PROTECTION),
                "memory type 2 is reserved"
            );
        }
        assert_eq!(mtrrs.write(CAP, 0, 48), Err(Fault::PROTECTION));
        assert_eq!(mtrrs.write(0x201, 1 << 11, 48), Ok(()));
        assert_eq!(mtrrs.write(0x201, 1 << 10, 48), Err(Fault::PROTECTION));
        assert_eq!(mtrrs.write(0x200, 1 << 47, 48), Ok(()));
        assert_eq!(
            mtrrs.write(0x200, 1 << 48, 48),
            Err(Fault::PROTECTION),
            "beyond the address width"
        );
        assert!(!Mtrrs::has(0x210) && !Mtrrs::has(0x251) && !Mtrrs::has(0x277));
    }
}
