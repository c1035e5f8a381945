//! Results and flags of all operands of eight bits, against numbers that do not wrap.

use crate::instruction::alu::*;
use crate::registers::Rflags;

const BYTE: Width = Width::Byte;

fn with_carry(carry: bool) -> Rflags {
    Rflags::new().with_carry(carry)
}

/// Every pair of operands, with CF clear and set.
fn for_all(mut test: impl FnMut(u8, u8, bool)) {
    for a in 0..=u8::MAX {
        for b in 0..=u8::MAX {
            test(a, b, false);
            test(a, b, true);
        }
    }
}

/// The flags that a result sets by itself, beside the three that depend on how it came about.
fn flags(result: u8, carry: bool, auxiliary: bool, overflow: bool) -> Rflags {
    Rflags::new()
        .with_carry(carry)
        .with_auxiliary(auxiliary)
        .with_overflow(overflow)
        .with_zero(result == 0)
        .with_sign(result > 127)
        .with_parity(result.count_ones().is_multiple_of(2))
}

#[test]
fn sums_and_differences() {
    for_all(|a, b, carry| {
        for (op, sign, carry_in) in
            [(Binary::Add, 1, 0), (Binary::Adc, 1, 1), (Binary::Sub, -1, 0), (Binary::Sbb, -1, 1)]
        {
            let carry_in = carry_in * i32::from(carry);
            let combine = |a: i32, b: i32| a + sign * (b + carry_in);
            let whole = combine(i32::from(a), i32::from(b));
            let nibble = combine(i32::from(a & 15), i32::from(b & 15));
            let signed = combine(i32::from(a as i8), i32::from(b as i8));
            let result = whole as u8;
            let expected = flags(
                result,
                !(0..256).contains(&whole),
                !(0..16).contains(&nibble),
                !(-128..128).contains(&signed),
            );
            let found = binary(op, BYTE, u64::from(a), u64::from(b), with_carry(carry));
            assert_eq!(found, (u64::from(result), expected), "{op:?} {a} {b} {carry}");
        }
    });
}

#[test]
fn bitwise_operations_clear_carry_and_overflow() {
    for_all(|a, b, carry| {
        for (op, result) in [(Binary::And, a & b), (Binary::Or, a | b), (Binary::Xor, a ^ b)] {
            let before = with_carry(carry).with_overflow(carry);
            let found = binary(op, BYTE, u64::from(a), u64::from(b), before);
            assert_eq!(found, (u64::from(result), flags(result, false, false, false)));
        }
    });
}

/// A shift or rotation by one place: result and CF.
fn by_one(op: Shift, a: u8, carry: bool) -> (u8, bool) {
    let (top, bottom) = (a & 0x80 != 0, a & 1 != 0);
    let (left, right) = (a << 1, a >> 1);
    match op {
        Shift::Rol => (left | u8::from(top), top),
        Shift::Ror => (right | u8::from(bottom) << 7, bottom),
        Shift::Rcl => (left | u8::from(carry), top),
        Shift::Rcr => (right | u8::from(carry) << 7, bottom),
        Shift::Shl => (left, top),
        Shift::Shr => (right, bottom),
        Shift::Sar => (right | u8::from(top) << 7, bottom),
    }
}

/// Every operand with every count to beyond a whole turn, with CF clear and set.
fn for_counts(most: u8, mut test: impl FnMut(u8, u8, bool)) {
    for a in 0..=u8::MAX {
        for count in 0..=most {
            test(a, count, false);
            test(a, count, true);
        }
    }
}

#[test]
fn shifts_are_as_many_shifts_by_one() {
    use Shift::{Rcl, Rcr, Rol, Ror, Sar, Shl, Shr};
    for_counts(33, |a, count, carry| {
        for op in [Rol, Ror, Rcl, Rcr, Shl, Shr, Sar] {
            let (mut result, mut carried) = (a, carry);
            for _ in 0..count & 31 {
                (result, carried) = by_one(op, result, carried);
            }
            let (found, after) = shift(op, BYTE, u64::from(a), count, with_carry(carry));
            assert_eq!(found, u64::from(result), "{op:?} {a:#x} by {count}");
            assert_eq!(after.carry(), carried, "{op:?} {a:#x} by {count}");
            // OF is defined for one place only: whether the sign changed, but for SAR.
            if count & 31 == 1 {
                let overflow = op != Sar && (a ^ result) & 0x80 != 0;
                assert_eq!(after.overflow(), overflow, "{op:?} {a:#x}");
            }
            let of_result = |flags: Rflags| (flags.zero(), flags.sign(), flags.parity());
            if matches!(op, Shl | Shr | Sar) && count & 31 != 0 {
                assert_eq!(of_result(after), of_result(flags(result, false, false, false)));
            } else {
                assert_eq!(
                    of_result(after),
                    (false, false, false),
                    "{op:?} changes CF and OF only"
                );
            }
        }
    });
}

#[test]
fn double_shifts_take_bits_of_the_other_operand() {
    // 16 bits are the least that SHLD and SHRD take.
    for_counts(16, |byte, count, carry| {
        let (a, before) = (u16::from(byte) * 0x0101, with_carry(carry));
        for b in [0x0000_u16, 0xffff, 0xa5c3, 0x7ffe] {
            let (mut left, mut left_carry) = (u32::from(a) << 16 | u32::from(b), carry);
            let (mut right, mut right_carry) = (u32::from(b) << 16 | u32::from(a), carry);
            for _ in 0..count {
                (left_carry, left) = (left >> 31 != 0, left << 1);
                (right_carry, right) = (right & 1 != 0, right >> 1);
            }
            let [wide_a, wide_b] = [u64::from(a), u64::from(b)];
            let (found, after) = shift_left_double(Width::Word, wide_a, wide_b, count, before);
            assert_eq!((found, after.carry()), (u64::from(left >> 16), left_carry));
            let overflow = |result: u64| (u64::from(a) ^ result) & 0x8000 != 0;
            assert!(count != 1 || after.overflow() == overflow(found), "SHLD {a:#x}, {b:#x}");
            let (found, after) = shift_right_double(Width::Word, wide_a, wide_b, count, before);
            assert_eq!((found, after.carry()), (u64::from(right as u16), right_carry));
            assert!(count != 1 || after.overflow() == overflow(found), "SHRD {a:#x}, {b:#x}");
        }
    });
}

#[test]
fn products_and_quotients() {
    for_all(|a, b, carry| {
        let [wide_a, wide_b] = [u64::from(a), u64::from(b)];
        let unsigned = u16::from(a) * u16::from(b);
        let signed = i16::from(a as i8) * i16::from(b as i8);
        for (is_signed, product, significant) in [
            (false, unsigned, unsigned > 255),
            (true, signed as u16, !(-128..128).contains(&signed)),
        ] {
            let (low, high, after) = multiply(is_signed, BYTE, wide_a, wide_b, with_carry(carry));
            assert_eq!((low, high), (u64::from(product & 255), u64::from(product >> 8)));
            assert_eq!((after.carry(), after.overflow()), (significant, significant));
        }
        // AX is `a`, in its upper half too or not at all.
        let high = if carry { a } else { 0 };
        let dividend = u16::from(high) << 8 | u16::from(a);
        let quotient = dividend.checked_div(u16::from(b)).filter(|quotient| *quotient < 256);
        let expected =
            quotient.map(|quotient| (u64::from(quotient), u64::from(dividend % u16::from(b))));
        assert_eq!(divide(false, BYTE, u64::from(high), wide_a, wide_b), expected);
        let (dividend, divisor) = (i32::from(dividend as i16), i32::from(b as i8));
        let quotient =
            dividend.checked_div(divisor).filter(|quotient| (-128..128).contains(quotient));
        let expected = quotient.map(|quotient| (quotient as u8, (dividend % divisor) as u8));
        let found = divide(true, BYTE, u64::from(high), wide_a, wide_b);
        assert_eq!(found.map(|(quotient, rest)| (quotient as u8, rest as u8)), expected);
    });
}
