//! SeaBIOS: where its image lies when the guest's first CPU leaves reset.
//!
//! The whole image ends at 4 GiB, where the reset vector is; its last 128 KiB are also seen at
//! E0000h-FFFFFh, which the BIOS later makes writable through the host bridge's PAM registers
//! (82441FX datasheet, section 3.2.18).

use core::fmt;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The part of the BIOS that shows below 1 MiB.
pub const LOW_WINDOW_BYTES: usize = 128 * KIB;
/// Where that begins.
pub const LOW_WINDOW_GPA: u64 = 0xe_0000;

const FOUR_GIB: u64 = 1 << 32;
/// Above this, flash would run into the memory of the APICs.
const MAX_IMAGE_BYTES: usize = 8 * MIB;

/// A piece of an image, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement<'a> {
    /// Guest-physical address of the first byte.
    pub gpa: u64,
    /// The bytes there.
    pub data: &'a [u8],
}

/// Why an image cannot be a PC's BIOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Shorter than 128 KiB.
    TooSmall {
        /// The image's size.
        size_bytes: usize,
    },
    /// Longer than 8 MiB.
    TooLarge {
        /// The image's size.
        size_bytes: usize,
    },
    /// Not a multiple of 64 KiB: cut off, or not a BIOS image.
    Unaligned {
        /// The image's size.
        size_bytes: usize,
    },
    /// No far jump at the reset vector, 16 bytes before the end.
    NoResetVector,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { size_bytes } => {
                write!(f, "BIOS image of {size_bytes} bytes: less than 128 KiB")
            }
            Self::TooLarge { size_bytes } => {
                write!(f, "BIOS image of {size_bytes} bytes: more than 8 MiB")
            }
            Self::Unaligned { size_bytes } => {
                write!(f, "BIOS image of {size_bytes} bytes: not a multiple of 64 KiB")
            }
            Self::NoResetVector => write!(f, "BIOS image without a jump at the reset vector"),
        }
    }
}

/// Where the parts of `image` go: the whole of it below 4 GiB, and its end below 1 MiB.
///
/// # Errors
/// [`ImageError`] if the image cannot be a PC's BIOS.
pub fn placements(image: &[u8]) -> Result<[Placement<'_>; 2], ImageError> {
    const FAR_JUMP: u8 = 0xea;
    let size_bytes = image.len();
    if size_bytes < LOW_WINDOW_BYTES {
        return Err(ImageError::TooSmall { size_bytes });
    }
    if size_bytes > MAX_IMAGE_BYTES {
        return Err(ImageError::TooLarge { size_bytes });
    }
    if !size_bytes.is_multiple_of(64 * KIB) {
        return Err(ImageError::Unaligned { size_bytes });
    }
    if image[size_bytes - 16] != FAR_JUMP {
        return Err(ImageError::NoResetVector);
    }
    Ok([
        Placement { gpa: FOUR_GIB - size_bytes as u64, data: image },
        Placement { gpa: LOW_WINDOW_GPA, data: &image[size_bytes - LOW_WINDOW_BYTES..] },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn image(size_bytes: usize) -> alloc::vec::Vec<u8> {
        let mut image = vec![0; size_bytes];
        if let Some(byte) = size_bytes.checked_sub(16).and_then(|at| image.get_mut(at)) {
            *byte = 0xea;
        }
        image
    }

    #[test]
    fn the_image_ends_at_4_gib_and_its_end_at_1_mib() {
        let mut image = image(256 * KIB);
        image[128 * KIB] = 0x55;
        let [high, low] = placements(&image).unwrap();
        assert_eq!((high.gpa, high.data.len()), (0xfffc_0000, 256 * KIB));
        assert_eq!((low.gpa, low.data.len()), (0xe_0000, 128 * KIB));
        assert_eq!(low.data[0], 0x55);
    }

    #[test]
    fn wrong_images_are_named() {
        assert_eq!(
            placements(&image(64 * KIB)),
            Err(ImageError::TooSmall { size_bytes: 64 * KIB })
        );
        assert_eq!(placements(&[]), Err(ImageError::TooSmall { size_bytes: 0 }));
        assert_eq!(placements(&image(9 * MIB)), Err(ImageError::TooLarge { size_bytes: 9 * MIB }));
        assert_eq!(
            placements(&image(256 * KIB - 1)),
            Err(ImageError::Unaligned { size_bytes: 256 * KIB - 1 })
        );
        assert_eq!(placements(&vec![0; 256 * KIB]), Err(ImageError::NoResetVector));
    }
}
