//! Indices that a processor cannot run past the end of a table with.

use core::hint::black_box;

/// The element at `index`, if there is one. A processor that takes the bounds check for passed
/// before it is gets at the first element at most: for tables of pointers that a guest's number
/// chooses from.
#[inline]
pub fn get<T>(table: &[T], index: usize) -> Option<&T> {
    if index < table.len() { table.get(clamp(index, table.len())) } else { None }
}

/// `index` if it is below `length`, else 0, by arithmetic alone.
#[inline]
fn clamp(index: usize, length: usize) -> usize {
    // The compiler must not make use of the bounds check before.
    let index = black_box(index);
    // The highest bit is clear if neither the index nor what is left behind it is negative.
    let outside = index | length.wrapping_sub(1).wrapping_sub(index);
    index & (!outside as isize >> (isize::BITS - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn an_index_stays_if_it_is_inside() {
        for length in [1, 2, 24, 128, isize::MAX as usize] {
            let inside = [0, 1, length / 2, length - 1];
            for index in inside.into_iter().filter(|&index| index < length) {
                assert_eq!(clamp(index, length), index);
            }
            for index in [length, length + 1, 1 << 31, 1 << 63, usize::MAX - 1, usize::MAX] {
                assert_eq!(clamp(index, length), if index < length { index } else { 0 });
            }
        }
        assert_eq!(clamp(0, 0), 0);
        assert_eq!(clamp(5, 0), 0);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_slice_finds(length in 0usize..300, index in 0usize..400) {
            let table: Vec<usize> = (0..length).collect();
            prop_assert_eq!(get(&table, index), table.get(index));
        }
    }
}
