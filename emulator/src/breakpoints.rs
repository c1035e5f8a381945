//! The guest's hardware breakpoints on what the hypervisor carries out in the processor's place:
//! ports, and the memory that emulated instructions touch (SDM volume 3, 17.2.4 and 17.2.5). The
//! processor itself sees to all others.

/// DR7: L0 to G3.
pub const ENABLES: u64 = 0xff;

/// R/W of a breakpoint in DR7.
const WRITE: u64 = 1;
const PORT: u64 = 2;
const ACCESS: u64 = 3;
/// By LEN in DR7.
const LENGTH_BYTES: [u64; 4] = [1, 2, 8, 4];

/// Breakpoints of which one at least is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breakpoints {
    /// DR7.
    pub control: u64,
    /// DR0 to DR3.
    pub addresses: [u64; 4],
    /// CR4.DE, without which there are none on ports.
    pub debugging_extensions: bool,
}

impl Breakpoints {
    /// DR6's bits for those that an access to a port meets.
    pub fn on_port(&self, port: u16, size_bytes: u8) -> u64 {
        self.met(port.into(), size_bytes.into(), |kind| kind == PORT && self.debugging_extensions)
    }

    /// DR6's bits for those that an access to memory at a linear address meets.
    pub fn on_data(&self, linear: u64, size_bytes: u64, write: bool) -> u64 {
        self.met(linear, size_bytes, |kind| kind == ACCESS || write && kind == WRITE)
    }

    fn met(&self, first: u64, size_bytes: u64, is_of_kind: impl Fn(u64) -> bool) -> u64 {
        let mut causes = 0;
        for (number, address) in self.addresses.into_iter().enumerate() {
            let is_enabled = self.control >> (2 * number) & 3 != 0;
            let settings = self.control >> (16 + 4 * number);
            let length = LENGTH_BYTES[(settings >> 2 & 3) as usize];
            let start = address & !(length - 1);
            let overlaps =
                start.wrapping_sub(first) < size_bytes || first.wrapping_sub(start) < length;
            if is_enabled && overlaps && is_of_kind(settings & 3) {
                causes |= 1 << number;
            }
        }
        causes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breakpoint 1 at `address`, of a kind and with LEN.
    fn breakpoint(address: u64, kind: u64, len: u64) -> Breakpoints {
        let control = 0x400 | 1 << 2 | kind << 20 | len << 22;
        Breakpoints { control, addresses: [0, address, 0, 0], debugging_extensions: true }
    }

    #[test]
    fn ports_are_met_where_the_ranges_overlap() {
        // LEN 1: two bytes, from an even address on.
        let at = breakpoint(0x61, PORT, 1);
        let met = [(0x5f, 1), (0x60, 1), (0x61, 1), (0x62, 1), (0x5e, 4), (0x5c, 4)]
            .map(|(port, size_bytes)| at.on_port(port, size_bytes));
        assert_eq!(met, [0, 2, 2, 0, 2, 0]);
        assert_eq!(Breakpoints { debugging_extensions: false, ..at }.on_port(0x60, 1), 0);
        assert_eq!(Breakpoints { control: at.control & !ENABLES, ..at }.on_port(0x60, 1), 0);
        assert_eq!(at.on_data(0x60, 1, true), 0, "that is memory");
    }

    #[test]
    fn data_is_met_by_its_kind() {
        let (write, access) = (breakpoint(0x1004, WRITE, 3), breakpoint(0x1004, ACCESS, 3));
        assert_eq!((write.on_data(0x1006, 1, true), write.on_data(0x1006, 1, false)), (2, 0));
        assert_eq!((access.on_data(0x1000, 8, true), access.on_data(0x1000, 8, false)), (2, 2));
        assert_eq!(access.on_data(0x1000, 4, false), 0);
        assert_eq!(access.on_port(0x1004, 4), 0);
        let last = breakpoint(u64::MAX, ACCESS, 2);
        assert_eq!(last.on_data(u64::MAX - 7, 1, false), 2);
        assert_eq!(last.on_data(0, 1, false), 0);
    }
}
