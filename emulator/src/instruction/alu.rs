//! Results and flags of the integer instructions (Intel SDM volume 2; AMD APM volume 3). Pure
//! functions.
//!
//! Flags that the manuals leave undefined get a value of some CPU's.

use crate::registers::Rflags;

/// The width of an integer operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Width {
    Byte = 1,
    Word = 2,
    Dword = 4,
    Qword = 8,
}

impl Width {
    pub(super) const fn of_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            8 => Some(Self::Qword),
            _ => None,
        }
    }

    pub(super) const fn bytes(self) -> u8 {
        self as u8
    }

    pub(super) const fn bits(self) -> u32 {
        8 * self as u32
    }

    pub(super) const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    const fn sign_bit(self) -> u64 {
        1 << (self.bits() - 1)
    }

    const fn is_negative(self, value: u64) -> bool {
        value & self.sign_bit() != 0
    }

    /// The operand as a signed number.
    pub(super) const fn signed(self, value: u64) -> i64 {
        let unused = 64 - self.bits();
        ((value << unused) as i64) >> unused
    }
}

/// Operations on two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Adc,
    Sub,
    Sbb,
    And,
    Or,
    Xor,
}

/// Shifts and rotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar,
}

/// Operations on one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bit {
    Test,
    Set,
    Reset,
    Complement,
}

const fn with_result(flags: Rflags, width: Width, result: u64) -> Rflags {
    flags
        .with_zero(result == 0)
        .with_sign(width.is_negative(result))
        .with_parity((result as u8).count_ones().is_multiple_of(2))
}

/// `a op b`.
pub(super) const fn binary(
    op: Binary,
    width: Width,
    a: u64,
    b: u64,
    flags: Rflags,
) -> (u64, Rflags) {
    let (a, b) = (a & width.mask(), b & width.mask());
    let carry_in = flags.carry() as u64;
    let result = match op {
        Binary::Add => a.wrapping_add(b),
        Binary::Adc => a.wrapping_add(b).wrapping_add(carry_in),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Sbb => a.wrapping_sub(b).wrapping_sub(carry_in),
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Xor => a ^ b,
    } & width.mask();
    // Carries out of each bit position: the top one is CF, that of bit 3 is AF.
    let (carries, overflow) = match op {
        Binary::Add | Binary::Adc => ((a & b) | ((a | b) & !result), (a ^ result) & (b ^ result)),
        Binary::Sub | Binary::Sbb => ((!a & b) | ((!a | b) & result), (a ^ b) & (a ^ result)),
        Binary::And | Binary::Or | Binary::Xor => (0, 0),
    };
    let flags = flags
        .with_carry(width.is_negative(carries))
        .with_auxiliary(carries & 8 != 0)
        .with_overflow(width.is_negative(overflow));
    (result, with_result(flags, width, result))
}

/// INC (`Binary::Add`) or DEC (`Binary::Sub`), which keep CF.
pub(super) const fn step_by_one(op: Binary, width: Width, a: u64, flags: Rflags) -> (u64, Rflags) {
    let (result, new) = binary(op, width, a, 1, flags);
    (result, new.with_carry(flags.carry()))
}

/// NEG.
pub(super) const fn negate(width: Width, a: u64, flags: Rflags) -> (u64, Rflags) {
    binary(Binary::Sub, width, 0, a, flags)
}

/// Shifts `a` by `count`, of which the low 5 bits count (6 for 64-bit operands).
pub(super) const fn shift(
    op: Shift,
    width: Width,
    a: u64,
    count: u8,
    flags: Rflags,
) -> (u64, Rflags) {
    let bits = width.bits();
    let count = masked_count(width, count);
    if count == 0 {
        return (a & width.mask(), flags);
    }
    let a = a & width.mask();
    match op {
        Shift::Rol | Shift::Ror => rotate(op, width, a, count % bits, flags),
        Shift::Rcl => rotate_through_carry(width, a, count % (bits + 1), flags),
        Shift::Rcr => rotate_through_carry(width, a, bits + 1 - count % (bits + 1), flags),
        Shift::Shl => {
            let wide = (a as u128) << count;
            let result = wide as u64 & width.mask();
            let carry = (wide >> bits) & 1 != 0;
            shifted(width, result, carry, width.is_negative(result) != carry, flags)
        }
        Shift::Shr => {
            let carry = (a as u128 >> (count - 1)) & 1 != 0;
            shifted(width, (a as u128 >> count) as u64, carry, width.is_negative(a), flags)
        }
        Shift::Sar => {
            let signed = width.signed(a) as i128;
            let carry = (signed >> (count - 1)) & 1 != 0;
            shifted(width, (signed >> count) as u64 & width.mask(), carry, false, flags)
        }
    }
}

const fn masked_count(width: Width, count: u8) -> u32 {
    let mask = if matches!(width, Width::Qword) { 0x3f } else { 0x1f };
    (count & mask) as u32
}

const fn shifted(
    width: Width,
    result: u64,
    carry: bool,
    overflow: bool,
    flags: Rflags,
) -> (u64, Rflags) {
    let flags = flags.with_carry(carry).with_overflow(overflow).with_auxiliary(false);
    (result, with_result(flags, width, result))
}

/// ROL and ROR: `count` is less than the width and may be 0 for a whole turn.
const fn rotate(op: Shift, width: Width, a: u64, count: u32, flags: Rflags) -> (u64, Rflags) {
    let left = match op {
        Shift::Rol => count,
        _ => (width.bits() - count) % width.bits(),
    };
    let result = ((a as u128) << left | (a as u128) >> (width.bits() - left)) as u64 & width.mask();
    let top = width.is_negative(result);
    let below_top = width.is_negative(result << 1);
    let (carry, overflow) = match op {
        Shift::Rol => (result & 1 != 0, top != (result & 1 != 0)),
        _ => (top, top != below_top),
    };
    (result, flags.with_carry(carry).with_overflow(overflow))
}

/// Rotates CF and the operand together to the left, `count` being at most one more than the width;
/// a rotation to the right is one to the left by the rest of the turn.
const fn rotate_through_carry(width: Width, a: u64, count: u32, flags: Rflags) -> (u64, Rflags) {
    let turn = width.bits() + 1;
    let count = count % turn;
    if count == 0 {
        return (a, flags);
    }
    let with_carry = (flags.carry() as u128) << width.bits() | a as u128;
    let rotated = with_carry << count | with_carry >> (turn - count);
    let result = rotated as u64 & width.mask();
    let carry = (rotated >> width.bits()) & 1 != 0;
    // A turn to the left by one: top bit against CF. To the right by one: the two top bits.
    let other = if count == turn - 1 { width.is_negative(result << 1) } else { carry };
    (result, flags.with_carry(carry).with_overflow(width.is_negative(result) != other))
}

/// SHLD: shifts bits of `b` into `a` from the right.
pub(super) const fn shift_left_double(
    width: Width,
    a: u64,
    b: u64,
    count: u8,
    flags: Rflags,
) -> (u64, Rflags) {
    let count = masked_count(width, count);
    let (a, b) = (a & width.mask(), b & width.mask());
    if count == 0 {
        return (a, flags);
    }
    let bits = width.bits();
    let pair = (a as u128) << bits | b as u128;
    // Beyond the width (16-bit operands only) the result is undefined.
    let count = if count > bits { count - bits } else { count };
    let result = ((pair << count) >> bits) as u64 & width.mask();
    let carry = (a >> (bits - count)) & 1 != 0;
    shifted(width, result, carry, width.is_negative(a ^ result), flags)
}

/// SHRD: shifts bits of `b` into `a` from the left.
pub(super) const fn shift_right_double(
    width: Width,
    a: u64,
    b: u64,
    count: u8,
    flags: Rflags,
) -> (u64, Rflags) {
    let count = masked_count(width, count);
    let (a, b) = (a & width.mask(), b & width.mask());
    if count == 0 {
        return (a, flags);
    }
    let bits = width.bits();
    let pair = (b as u128) << bits | a as u128;
    let count = if count > bits { count - bits } else { count };
    let result = (pair >> count) as u64 & width.mask();
    let carry = (a >> (count - 1)) & 1 != 0;
    shifted(width, result, carry, width.is_negative(a ^ result), flags)
}

/// BT and its like on bit `index`, which is less than the width: CF is the bit's old value.
pub(super) const fn bit(op: Bit, a: u64, index: u32, flags: Rflags) -> (u64, Rflags) {
    let mask = 1 << (index & 63);
    let result = match op {
        Bit::Test => a,
        Bit::Set => a | mask,
        Bit::Reset => a & !mask,
        Bit::Complement => a ^ mask,
    };
    (result, flags.with_carry(a & mask != 0))
}

/// MUL or IMUL: the low and the high half of the product; CF and OF say that the high half matters.
pub(super) const fn multiply(
    signed: bool,
    width: Width,
    a: u64,
    b: u64,
    flags: Rflags,
) -> (u64, u64, Rflags) {
    let product = if signed {
        (width.signed(a) as i128 * width.signed(b) as i128) as u128
    } else {
        (a & width.mask()) as u128 * (b & width.mask()) as u128
    };
    let low = product as u64 & width.mask();
    let high = (product >> width.bits()) as u64 & width.mask();
    let significant = if signed { width.signed(low) as i128 as u128 != product } else { high != 0 };
    let flags = flags.with_carry(significant).with_overflow(significant);
    (low, high, with_result(flags, width, low).with_zero(flags.zero()))
}

/// DIV or IDIV of `high`:`low` by `divisor`: quotient and remainder; `None` is #DE.
pub(super) const fn divide(
    signed: bool,
    width: Width,
    high: u64,
    low: u64,
    divisor: u64,
) -> Option<(u64, u64)> {
    let bits = width.bits();
    let dividend = ((high & width.mask()) as u128) << bits | (low & width.mask()) as u128;
    if signed {
        let unused = 128 - 2 * bits;
        let dividend = ((dividend << unused) as i128) >> unused;
        let divisor = width.signed(divisor) as i128;
        let (Some(quotient), Some(remainder)) =
            (dividend.checked_div(divisor), dividend.checked_rem(divisor))
        else {
            return None;
        };
        let truncated = width.signed(quotient as u64) as i128;
        return if truncated == quotient {
            Some((quotient as u64, remainder as u64))
        } else {
            None
        };
    }
    let divisor = (divisor & width.mask()) as u128;
    let (Some(quotient), Some(remainder)) =
        (dividend.checked_div(divisor), dividend.checked_rem(divisor))
    else {
        return None;
    };
    if quotient > width.mask() as u128 { None } else { Some((quotient as u64, remainder as u64)) }
}

/// A condition as SETcc, CMOVcc and Jcc encode it: 0 (O) to 15 (G).
pub(super) const fn condition(code: u8, flags: Rflags) -> bool {
    let holds = match code >> 1 {
        0 => flags.overflow(),
        1 => flags.carry(),
        2 => flags.zero(),
        3 => flags.carry() || flags.zero(),
        4 => flags.sign(),
        5 => flags.parity(),
        6 => flags.sign() != flags.overflow(),
        _ => flags.zero() || flags.sign() != flags.overflow(),
    };
    holds != (code & 1 != 0)
}
