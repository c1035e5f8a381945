//! Dates, and how the clock's registers show them.

use super::spec::RegisterB;

const DAY_S: i64 = 86_400;

/// A moment of the calendar, in whatever zone the clock is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime {
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 1 to 7, Sunday is 1.
    pub weekday: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

/// The second of the day of a Unix time.
pub(super) fn second_of_day(unix_s: i64) -> i64 {
    unix_s.rem_euclid(DAY_S)
}

impl DateTime {
    /// The date of a Unix time. Years count from 1 March here, so that the leap day is the last of
    /// its year.
    pub(super) fn from_unix(unix_s: i64) -> Self {
        let days = unix_s.div_euclid(DAY_S);
        let second = second_of_day(unix_s);
        // Days since 1 March of year 0, which was the first day of a cycle of 400 years.
        let shifted = days + 719_468;
        let day_of_cycle = shifted.rem_euclid(146_097);
        let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524
            - day_of_cycle / 146_096)
            / 365;
        let day_of_year =
            day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: shifted.div_euclid(146_097) * 400 + year_of_cycle + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            weekday: (days + 4).rem_euclid(7) + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    /// The Unix time of a date; the weekday is not looked at, and days past the month's end run
    /// into the next.
    pub(super) fn to_unix(self) -> i64 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let march_month = (self.month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let year_of_cycle = year.rem_euclid(400);
        let day_of_cycle =
            365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
        let days = year.div_euclid(400) * 146_097 + day_of_cycle - 719_468;
        days * DAY_S + self.hour * 3600 + self.minute * 60 + self.second
    }
}

/// Register byte of a number from 0 to 99.
pub(super) fn encode(value: i64, mode: RegisterB) -> u8 {
    let value = value.rem_euclid(100) as u8;
    if mode.binary() { value } else { ((value / 10) << 4) | (value % 10) }
}

/// The number in a register byte.
pub(super) fn decode(byte: u8, mode: RegisterB) -> i64 {
    if mode.binary() { byte.into() } else { i64::from(byte >> 4) * 10 + i64::from(byte & 0xf) }
}

const PM: u8 = 0x80;

/// Register byte of an hour from 0 to 23.
pub(super) fn encode_hour(hour: i64, mode: RegisterB) -> u8 {
    if mode.hours_24() {
        return encode(hour, mode);
    }
    let of_twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    encode(of_twelve, mode) | if hour >= 12 { PM } else { 0 }
}

/// The hour in a register byte.
pub(super) fn decode_hour(byte: u8, mode: RegisterB) -> i64 {
    if mode.hours_24() {
        return decode(byte, mode);
    }
    decode(byte & !PM, mode) % 12 + if byte & PM != 0 { 12 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        for (unix_s, year, month, day, weekday) in [
            (0, 1970, 1, 1, 5),
            (951_782_400, 2000, 2, 29, 3),
            (4_107_542_400, 2100, 3, 1, 2),
            (1_767_225_600, 2026, 1, 1, 5),
            (-86_400, 1969, 12, 31, 4),
        ] {
            let date = DateTime::from_unix(unix_s);
            assert_eq!(
                (date.year, date.month, date.day, date.weekday),
                (year, month, day, weekday)
            );
        }
    }

    #[test]
    fn twelve_hour_clock() {
        let bcd = RegisterB::new();
        for (hour, byte) in [(0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)] {
            assert_eq!(encode_hour(hour, bcd), byte);
            assert_eq!(decode_hour(byte, bcd), hour);
        }
        assert_eq!(encode_hour(23, bcd.with_binary(true)), 0x8b);
        assert_eq!(encode_hour(23, bcd.with_hours_24(true)), 0x23);
    }

    proptest! {
        #[test]
        fn unix_times_come_back(unix_s in -1_000_000_000_000i64..1_000_000_000_000) {
            let date = DateTime::from_unix(unix_s);
            prop_assert_eq!(date.to_unix(), unix_s);
            prop_assert!((1..=12).contains(&date.month) && (1..=31).contains(&date.day));
            let next = DateTime::from_unix(unix_s + 86_400);
            prop_assert!(next.day == date.day + 1 || next.day == 1);
        }
    }
}
