//! The machine's clock (MC146818), read once at the start.

/// The registers as they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawTime {
    /// Seconds, minutes, hours, day, month, year, century (0: unknown).
    pub fields: [u8; 7],
    /// Register B.
    pub control: u8,
}

const CONTROL_BINARY: u8 = 1 << 2;
const CONTROL_24_HOURS: u8 = 1 << 1;
const AFTERNOON: u8 = 1 << 7;

impl RawTime {
    /// Seconds since 1970; `None` if the registers hold no date.
    pub fn unix_s(self) -> Option<u64> {
        let decode = |value: u8| {
            if self.control & CONTROL_BINARY != 0 {
                value
            } else {
                (value >> 4) * 10 + (value & 0xf)
            }
        };
        let [second, minute, _, day, month, year, century] =
            self.fields.map(|field| u64::from(decode(field)));
        let mut hour = u64::from(decode(self.fields[2] & !AFTERNOON));
        if self.control & CONTROL_24_HOURS == 0 {
            hour = hour % 12 + if self.fields[2] & AFTERNOON != 0 { 12 } else { 0 };
        }
        let year = match century {
            19..=22 => century * 100 + year,
            _ => 2000 + year,
        };
        let valid = second < 60
            && minute < 60
            && hour < 24
            && (1..=31).contains(&day)
            && (1..=12).contains(&month);
        (valid && year >= 1970).then(|| {
            days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
        })
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March, so that the leap day is the last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days - 719_468
}

#[cfg(target_os = "none")]
pub use bare::read_unix_s;

#[cfg(target_os = "none")]
mod bare {
    use super::RawTime;
    use x86::io::{inb, outb};

    const INDEX: u16 = 0x70;
    const DATA: u16 = 0x71;
    const NMI_DISABLE: u8 = 1 << 7;
    const STATUS_A: u8 = 0x0a;
    const STATUS_B: u8 = 0x0b;
    const UPDATE_IN_PROGRESS: u8 = 1 << 7;

    fn register(index: u8) -> u8 {
        // SAFETY: reads a CMOS register; NMIs are enabled again by `read_unix_s`'s last access.
        unsafe {
            outb(INDEX, index | NMI_DISABLE);
            inb(DATA)
        }
    }

    fn sample(century: Option<u8>) -> RawTime {
        // An update takes 2 ms at most; a broken clock must not hang the machine.
        for _ in 0..10_000 {
            if register(STATUS_A) & UPDATE_IN_PROGRESS == 0 {
                break;
            }
        }
        let fields = [0, 2, 4, 7, 8, 9].map(register);
        let century = century.map_or(0, register);
        let [second, minute, hour, day, month, year] = fields;
        RawTime {
            fields: [second, minute, hour, day, month, year, century],
            control: register(STATUS_B),
        }
    }

    /// The machine's clock, taken as UTC; 0 if it holds no date.
    pub fn read_unix_s(century: Option<u8>) -> u64 {
        let mut time = sample(century);
        for _ in 0..4 {
            let again = sample(century);
            if again == time {
                break;
            }
            time = again;
        }
        // SAFETY: selects a register that reading does not change, with NMIs enabled.
        unsafe {
            outb(INDEX, 0x0d);
            inb(DATA);
        }
        time.unix_s().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::RawTime;

    #[test]
    fn every_format_of_the_registers_is_understood() {
        let at = |fields, control| RawTime { fields, control }.unix_s();
        // 2026-02-28 23:59:58
        assert_eq!(at([0x58, 0x59, 0x23, 0x28, 0x02, 0x26, 0x20], 0b010), Some(1_772_323_198));
        assert_eq!(at([58, 59, 23, 28, 2, 26, 20], 0b110), Some(1_772_323_198));
        assert_eq!(at([0x58, 0x59, 0x91, 0x28, 0x02, 0x26, 0], 0b000), Some(1_772_323_198));
        // Midnight and noon on the 12-hour clock, on a leap day.
        assert_eq!(at([0, 0, 0x12, 0x29, 0x02, 0x24, 0x20], 0b000), Some(1_709_164_800));
        assert_eq!(at([0, 0, 0x92, 0x29, 0x02, 0x24, 0x20], 0b000), Some(1_709_208_000));
        assert_eq!(at([0, 0, 0, 1, 1, 70, 19], 0b110), Some(0));
        assert_eq!(at([0xff; 7], 0xff), None);
    }
}
