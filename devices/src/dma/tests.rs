use super::*;
use crate::memory::TestMemory;
use proptest::prelude::*;

struct Bench {
    dma: Dma,
    memory: Arc<TestMemory>,
}

impl Bench {
    fn new() -> Self {
        let memory = TestMemory::new(0x60_000);
        Self { dma: Dma::new(memory.clone()), memory }
    }

    fn access(port: u16) -> Access {
        let (region, base) = match port {
            0x00..0x10 => (PRIMARY, PRIMARY_BASE),
            0xc0..0xe0 => (SECONDARY, SECONDARY_BASE),
            _ => (PAGE, PAGE_BASE),
        };
        Access { region, offset: u64::from(port) - base, size_bytes: 1 }
    }

    fn write(&self, port: u16, value: u8) {
        self.dma.pio_write(Self::access(port), value.into());
    }

    fn read(&self, port: u16) -> u8 {
        self.dma.pio_read(Self::access(port)).unwrap() as u8
    }

    fn word(&self, port: u16) -> u16 {
        u16::from_le_bytes([self.read(port), self.read(port)])
    }

    fn write_word(&self, port: u16, value: u16) {
        for byte in value.to_le_bytes() {
            self.write(port, byte);
        }
    }

    /// The first and last bytes of memory that are all ones.
    fn filled(&self) -> Vec<(usize, usize)> {
        let mut bytes = alloc::vec![0; 0x60_000];
        GuestMemory::read(&*self.memory, 0, &mut bytes).unwrap();
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for at in (0..bytes.len()).filter(|&at| bytes[at] == 0xff) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == at => *last = at,
                _ => runs.push((at, at)),
            }
        }
        runs
    }
}

#[test]
fn registers_read_back_through_the_flip_flop() {
    let bench = Bench::new();
    for (base, stride) in [(0x00, 1), (0xc0, 2)] {
        bench.write(base + 0xc * stride, 0);
        for register in 0..8 {
            bench.write_word(base + register * stride, 0x1234 + 0x1111 * register);
        }
        for register in 0..8 {
            assert_eq!(bench.word(base + register * stride), 0x1234 + 0x1111 * register);
        }
        // One byte, then the flip-flop is cleared: the low byte once more.
        bench.write(base, 0xaa);
        bench.write(base + 0xc * stride, 0xff);
        assert_eq!(bench.word(base), 0x12aa);
        // Each access turns it, whatever the register.
        bench.read(base);
        bench.write(base + stride, 0x77);
        assert_eq!(bench.word(base + stride), 0x7745);
    }
    for port in 0x81..0x90 {
        bench.write(port, port as u8 ^ 0x5a);
    }
    for port in 0x81..0x90 {
        assert_eq!(bench.read(port), port as u8 ^ 0x5a);
    }
}

#[test]
fn masks_requests_and_master_clear() {
    let bench = Bench::new();
    let masks = || bench.read(0x0f) & 0xf;
    assert_eq!(masks(), 0xf, "masked after power-on");
    bench.write(0x0e, 0);
    assert_eq!(masks(), 0);
    bench.write(0x0a, 6);
    assert_eq!(masks(), 4);
    bench.write(0x0a, 2);
    bench.write(0x0f, 0xf9);
    assert_eq!(masks(), 9);
    // Requests that no transfer answers, since the mode is not block, show in the status.
    bench.write(0x09, 5);
    bench.write(0x09, 7);
    bench.write(0x09, 3);
    assert_eq!(bench.read(0x08), 0x20);
    bench.write_word(0x04, 0xabcd);
    bench.read(0x04);
    bench.write(0x0d, 0);
    assert_eq!((masks(), bench.read(0x08), bench.read(0x0d)), (0xf, 0, 0));
    assert_eq!(bench.word(0x04), 0xabcd, "the flip-flop is clear, the address is not");
    assert_eq!(bench.read(0xde) & 0xf, 0xf, "the other controller has masks of its own");
}

#[test]
fn software_requests_a_block() {
    let bench = Bench::new();
    // Channel 1, page 2, from FFF0h on, 32 bytes, device to memory: it wraps in its page.
    bench.write(0x83, 2);
    bench.write_word(0x02, 0xfff0);
    bench.write_word(0x03, 31);
    bench.write(0x0e, 0);
    bench.write(0x0b, 0x85);
    // A disabled controller waits.
    bench.write(0x08, 4);
    bench.write(0x09, 5);
    assert_eq!((bench.read(0x08), bench.filled()), (0x20, alloc::vec![]));
    bench.write(0x08, 0);
    assert_eq!(bench.filled(), [(0x2_0000, 0x2_000f), (0x2_fff0, 0x2_ffff)]);
    assert_eq!((bench.read(0x08), bench.read(0x08)), (0x02, 0), "terminal count, until it is read");
    assert_eq!((bench.word(0x02), bench.word(0x03), bench.read(0x0f) & 0xf), (0x10, 0xffff, 2));
    // Channel 5, words downwards, auto-initialised: base values come back, and the mask stays off.
    bench.write(0x8b, 5);
    bench.write_word(0xc4, 0x0101);
    bench.write_word(0xc6, 1);
    bench.write(0xdc, 0);
    bench.write(0xd6, 0xb5);
    bench.write(0xd2, 5);
    assert_eq!(bench.filled()[2..], [(0x4_0200, 0x4_0203)]);
    assert_eq!((bench.word(0xc4), bench.word(0xc6), bench.read(0xde) & 0xf), (0x0101, 1, 0));
    // A transfer from memory, and one that only counts, write nothing.
    let before = bench.filled();
    for mode in [0x88, 0x80] {
        bench.write(0x0b, mode);
        bench.write(0x09, 4);
        assert_eq!(bench.read(0x08), 1);
    }
    assert_eq!(bench.filled(), before);
}

#[test]
fn a_wide_access_is_split() {
    let bench = Bench::new();
    bench.dma.pio_write(Access { size_bytes: 4, ..Bench::access(0x82) }, 0x1122_3344);
    assert_eq!([bench.read(0x82), bench.read(0x85)], [0x44, 0x11]);
    assert_eq!(
        bench.dma.pio_read(Access { size_bytes: 2, ..Bench::access(0x8f) }),
        Some(0xffff_ff00)
    );
}

proptest! {
    #[test]
    fn any_access_ends(
        accesses in prop::collection::vec(
            (0u8..3, 0u64..40, any::<u32>(), any::<bool>()),
            0..60,
        ),
    ) {
        let bench = Bench::new();
        for (region, offset, value, write) in accesses {
            let access = Access { region, offset, size_bytes: 4 };
            if write {
                bench.dma.pio_write(access, value);
            } else {
                bench.dma.pio_read(access);
            }
        }
        bench.write(0x0d, 0);
        prop_assert_eq!(bench.read(0x0f), 0xff);
    }
}
