//! A controller's and a namespace's description of themselves.

use alloc::string::String;

use block::Geometry;

use crate::dma::PAGE_BYTES;
use crate::hardware::Fault;
use crate::names::printable;

/// The length of either.
pub const LENGTH_BYTES: usize = 4096;

fn number(data: &[u8; LENGTH_BYTES], at: usize, length_bytes: usize) -> u64 {
    let bytes = data.iter().skip(at).take(length_bytes);
    bytes.rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// A controller (base specification, figure 275).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerData {
    pub serial: String,
    pub model: String,
    /// The most pages of a command's data, in the exponent's unit of the smallest page; none if
    /// there is no bound.
    pub max_transfer_exponent: Option<u8>,
    pub has_discard: bool,
    pub has_zeroes: bool,
    pub has_cache: bool,
}

impl ControllerData {
    /// Reads it.
    pub fn new(data: &[u8; LENGTH_BYTES]) -> Self {
        let commands = number(data, 520, 2);
        let exponent = data[77];
        Self {
            serial: printable(&data[4..24]),
            model: printable(&data[24..64]),
            max_transfer_exponent: (exponent != 0).then_some(exponent),
            has_discard: commands & 1 << 2 != 0,
            has_zeroes: commands & 1 << 3 != 0,
            has_cache: data[525] & 1 != 0,
        }
    }
}

/// A namespace (command set specification, figure 97), as far as it is driven.
///
/// # Errors
/// It has a format that is not.
pub fn geometry(data: &[u8; LENGTH_BYTES], has_discard: bool) -> Result<Geometry, Fault> {
    const FORMATS_AT: usize = 128;
    const WRITE_PROTECTED: u8 = 1 << 0;
    let format = usize::from(data[26] & 0xf);
    let format = number(data, FORMATS_AT + 4 * format, 4);
    let (metadata_bytes, exponent) = (format & 0xffff, (format >> 16) as u8);
    if metadata_bytes != 0 {
        return Err(Fault("its blocks have metadata"));
    }
    if !(9..=PAGE_BYTES.ilog2() as u8).contains(&exponent) {
        return Err(Fault("its blocks have a size that is not supported"));
    }
    let sector_bytes = 1_u32 << exponent;
    let size_bytes = number(data, 0, 8).checked_mul(sector_bytes.into());
    // A block that was discarded must not show anything new but zeroes.
    let reads_zeroes = data[33] & 7 == 1;
    let is_read_only = data[99] & WRITE_PROTECTED != 0;
    Ok(Geometry {
        size_bytes: size_bytes.filter(|&bytes| bytes > 0).ok_or(Fault("it has no size"))?,
        sector_bytes,
        physical_sector_bytes: sector_bytes,
        is_read_only,
        has_discard: has_discard && reads_zeroes && !is_read_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_driven_are_refused() {
        let mut data = [0; LENGTH_BYTES];
        data[0] = 100;
        (data[26], data[128 + 4 + 2]) = (1, 12);
        let geometry_4096 = geometry(&data, true).unwrap();
        assert_eq!((geometry_4096.size_bytes, geometry_4096.sector_bytes), (409_600, 4096));
        data[99] = 1;
        assert!(geometry(&data, true).unwrap().is_read_only);
        (data[99], data[33]) = (0, 1);
        assert!(geometry(&data, true).unwrap().has_discard && !geometry_4096.has_discard);
        data[128 + 4] = 8;
        assert!(geometry(&data, true).is_err(), "metadata");
        (data[128 + 4], data[128 + 4 + 2]) = (0, 13);
        assert!(geometry(&data, true).is_err(), "blocks larger than a page");
        data[26] = 0;
        assert!(geometry(&data, true).is_err(), "a format that is none");
        (data[128 + 2], data[7]) = (9, 0xff);
        assert!(geometry(&data, true).is_err(), "a size beyond 64 bits");
    }
}
