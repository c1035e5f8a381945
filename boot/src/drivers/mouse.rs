//! PS/2 mouse packets put together from bytes.

/// A movement as the mouse reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movement {
    /// Counts to the right.
    pub dx: i16,
    /// Counts up.
    pub dy: i16,
    /// Wheel steps towards the user.
    pub dz: i8,
    /// Bit 0 left, bit 1 right, bit 2 middle.
    pub buttons: u8,
}

/// The bytes of the packet that is being received.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    bytes: [u8; 4],
    length: usize,
}

const ALWAYS_ONE: u8 = 1 << 3;
const NEGATIVE_X: u8 = 1 << 4;
const NEGATIVE_Y: u8 = 1 << 5;

impl Packet {
    /// Nothing received yet.
    pub const fn new() -> Self {
        Self { bytes: [0; 4], length: 0 }
    }

    /// Adds a byte; gives the movement when the packet is whole. `wheel`: packets have four bytes,
    /// not three.
    pub fn add(&mut self, byte: u8, wheel: bool) -> Option<Movement> {
        // A first byte without its fixed bit: a byte was lost before it.
        if self.length == 0 && byte & ALWAYS_ONE == 0 {
            return None;
        }
        self.bytes[self.length] = byte;
        self.length += 1;
        if self.length < if wheel { 4 } else { 3 } {
            return None;
        }
        self.length = 0;
        let [flags, x, y, z] = self.bytes;
        let signed = |value: u8, negative: u8| {
            i16::from(value) - if flags & negative != 0 { 256 } else { 0 }
        };
        Some(Movement {
            dx: signed(x, NEGATIVE_X),
            dy: signed(y, NEGATIVE_Y),
            dz: if wheel { (z << 4) as i8 >> 4 } else { 0 },
            buttons: flags & 0b111,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Movement, Packet};

    fn feed(bytes: &[u8], wheel: bool) -> Option<Movement> {
        let mut packet = Packet::new();
        bytes.iter().filter_map(|&byte| packet.add(byte, wheel)).last()
    }

    #[test]
    fn packets_carry_sign_wheel_and_buttons() {
        assert_eq!(feed(&[0x09, 5, 7], false), Some(Movement { dx: 5, dy: 7, dz: 0, buttons: 1 }));
        assert_eq!(
            feed(&[0x3a, 0xff, 0xfe, 0x0f], true),
            Some(Movement { dx: -1, dy: -2, dz: -1, buttons: 2 })
        );
        assert_eq!(
            feed(&[0x0c, 0, 0, 0x01], true),
            Some(Movement { dx: 0, dy: 0, dz: 1, buttons: 4 })
        );
    }

    #[test]
    fn a_lost_byte_costs_one_packet() {
        let movement = Movement { dx: 3, dy: 0, dz: 0, buttons: 0 };
        assert_eq!(feed(&[0x00, 0x00, 0x08, 3, 0], false), Some(movement));
    }
}
