use super::*;
use crate::ide::Drive;
use crate::irq::LineProbe;
use crate::memory::TestMemory;
use block::{Error, Geometry, HeapDisk, Medium, SlowDisk};
use proptest::prelude::*;

const SECTOR: usize = CD_SECTOR_BYTES as usize;
const DISC_SECTORS: usize = 200;
const MEMORY_BYTES: usize = 0x11_0000;
const PACKET_GPA: u32 = 0x9_f000;
const WRITE: Access = Access::new(0, 4);
const READ: Access = Access::new(0, 1);
const USER: User = User { id: 1, weight: 256 };

/// A disc whose every sector is filled with its number.
fn disc(sectors: usize) -> Arc<dyn Medium> {
    let data = (0..sectors * SECTOR).map(|byte| (byte / SECTOR) as u8).collect();
    Arc::new(HeapDisk::new(data, true))
}

fn packet(sectors: u16, segment: u16, offset: u16, first_sector: u64) -> Packet {
    Packet {
        size_bytes: 16,
        reserved: 0,
        sectors: sectors.into(),
        buffer_offset: offset.into(),
        buffer_segment: segment.into(),
        first_sector: first_sector.into(),
    }
}

struct Bench {
    memory: Arc<TestMemory>,
    device: Arc<BootDisk>,
    ide: Arc<Ide>,
}

impl Bench {
    fn new(discs: Vec<Option<Arc<dyn Medium>>>) -> Self {
        let memory = TestMemory::new(MEMORY_BYTES);
        let places = (0..discs.len()).collect();
        let mut drives = [const { None }; 4];
        for (drive, disc) in drives.iter_mut().zip(discs) {
            *drive = Some(Drive::Cdrom(disc));
        }
        let irqs = [LineProbe::wired().1, LineProbe::wired().1];
        let ide = Arc::new(Ide::new(drives, irqs, memory.clone(), USER));
        Self { device: BootDisk::new(places, ide.clone(), memory.clone(), USER), ide, memory }
    }

    /// Begins as the boot ROM does.
    fn begin(&self, drive: u8, packet: &Packet) -> Option<u32> {
        GuestMemory::write(&*self.memory, PACKET_GPA.into(), packet.as_bytes()).unwrap();
        let request = Request::new().with_drive(drive).with_packet_gpa(PACKET_GPA);
        self.device.pio_write(WRITE, request.into_bits());
        self.device.pio_read(READ)
    }

    /// Reads from a disc that answers at once; true if the read was done.
    fn ask(&self, drive: u8, packet: &Packet) -> bool {
        self.begin(drive, packet) == Some(0)
    }

    fn bytes(&self, gpa: u64, length: usize) -> Vec<u8> {
        let mut bytes = alloc::vec![0; length];
        GuestMemory::read(&*self.memory, gpa, &mut bytes).unwrap();
        bytes
    }
}

#[test]
fn sectors_are_where_the_packet_says_and_nothing_beside_them_changes() {
    let bench = Bench::new(alloc::vec![Some(disc(DISC_SECTORS))]);
    assert!(bench.ask(0xe0, &packet(2, 0x1000, 0x10, 16)));
    let around = bench.bytes(0x1_000f, 2 * SECTOR + 2);
    assert_eq!((around[0], around[2 * SECTOR + 1]), (0, 0));
    assert!(around[1..=SECTOR].iter().all(|&byte| byte == 16));
    assert!(around[SECTOR + 1..=2 * SECTOR].iter().all(|&byte| byte == 17));
    // All sectors were read, so the packet stays as it is.
    let after = bench.bytes(PACKET_GPA.into(), Packet::SIZE_BYTES);
    assert_eq!(after, packet(2, 0x1000, 0x10, 16).as_bytes());
}

#[test]
fn the_longest_read_passes_several_chunks_and_64_kib_boundaries() {
    let bench = Bench::new(alloc::vec![Some(disc(DISC_SECTORS))]);
    let sectors = usize::from(Packet::MAX_SECTORS);
    assert!(bench.ask(0xe0, &packet(Packet::MAX_SECTORS, 0x2f00, 0xff00, 1)));
    let bytes = bench.bytes(0x3_ef00, sectors * SECTOR);
    assert!(
        bytes
            .chunks(SECTOR)
            .zip(1..)
            .all(|(sector, number)| sector.iter().all(|&byte| byte == number))
    );
}

#[test]
fn drives_are_told_apart() {
    let bench = Bench::new(alloc::vec![Some(disc(1)), None, Some(disc(DISC_SECTORS))]);
    let second = packet(1, 0x1000, 0, 1);
    assert!(!bench.ask(0xe0, &second), "the first disc has one sector");
    assert!(!bench.ask(0xe1, &second), "no disc");
    assert!(bench.ask(0xe2, &second));
    for drive in [0, 0x80, 0xdf, 0xe3, 0xff] {
        assert!(!bench.ask(drive, &second));
    }
}

#[test]
fn what_the_firmware_does_better_is_left_to_it() {
    let bench = Bench::new(alloc::vec![Some(disc(DISC_SECTORS))]);
    let good = packet(4, 0x1000, 0, 0);
    let wrong = [
        Packet { size_bytes: 15, ..good },
        packet(0, 0x1000, 0, 0),
        packet(128, 0x1000, 0, 0),
        // The end of the disc.
        packet(1, 0x1000, 0, DISC_SECTORS as u64),
        packet(4, 0x1000, 0, DISC_SECTORS as u64 - 3),
        packet(1, 0x1000, 0, u64::MAX),
        packet(1, 0x1000, 0, u64::MAX / 2048 + 1),
        // A 64-bit address, and one behind the end of RAM.
        packet(1, 0xffff, 0xffff, 0),
        packet(4, 0xffff, 0xfff0, 0),
    ];
    for packet in wrong {
        assert!(!bench.ask(0xe0, &packet), "{packet:?}");
    }
    assert!(bench.ask(0xe0, &good));
    let last = packet(4, 0x1000, 0, DISC_SECTORS as u64 - 4);
    assert!(bench.ask(0xe0, &Packet { size_bytes: 24, ..last }));
}

#[test]
fn a_request_is_32_bits_wide_and_its_packet_in_ram() {
    let bench = Bench::new(alloc::vec![Some(disc(DISC_SECTORS))]);
    let good = packet(1, 0x1000, 0, 0);
    assert!(bench.ask(0xe0, &good));
    let request = Request::new().with_drive(0xe0).with_packet_gpa(PACKET_GPA).into_bits();
    for size_bytes in [1, 2] {
        bench.device.pio_write(Access::new(0, size_bytes), request);
        assert_eq!(bench.device.pio_read(READ), Some(1));
    }
    let behind = Request::new().with_drive(0xe0).with_packet_gpa(MEMORY_BYTES as u32 - 15);
    bench.device.pio_write(WRITE, behind.into_bits());
    assert_eq!(bench.device.pio_read(READ), Some(1));
    assert!(bench.ask(0xe0, &good));
}

const BUSY: Option<u32> = Some(super::BUSY as u32);

fn slow_disc() -> (Arc<SlowDisk>, Bench) {
    let content = (0..DISC_SECTORS * SECTOR).map(|byte| (byte / SECTOR) as u8).collect();
    let disc = SlowDisk::new(content, true);
    (disc.clone(), Bench::new(alloc::vec![Some(disc)]))
}

#[test]
fn a_disc_that_takes_its_time_is_waited_for() {
    let (disc, bench) = slow_disc();
    // 254 KiB: four chunks.
    assert_eq!(bench.begin(0xe0, &packet(127, 0x1000, 0, 5)), BUSY);
    for _ in 0..4 {
        assert_eq!(bench.device.pio_read(READ), BUSY);
        assert!(disc.complete(0, Ok(())));
    }
    assert_eq!((bench.device.pio_read(READ), disc.waiting().len()), (Some(0), 0));
    let bytes = bench.bytes(0x1_0000, 127 * SECTOR);
    assert!(bytes.iter().enumerate().all(|(at, &byte)| usize::from(byte) == 5 + at / SECTOR));
}

#[test]
fn a_disc_that_fails_is_left_to_the_bios() {
    for failing_chunk in 0..2 {
        let (disc, bench) = slow_disc();
        assert_eq!(bench.begin(0xe0, &packet(40, 0x1000, 0, 0)), BUSY);
        (0..failing_chunk).for_each(|_| assert!(disc.complete(0, Ok(()))));
        assert!(disc.complete(0, Err(Error::Io)));
        assert_eq!((bench.device.pio_read(READ), disc.waiting().len()), (Some(1), 0));
    }
}

#[test]
fn a_request_that_is_given_up_changes_nothing_afterwards() {
    let (disc, bench) = slow_disc();
    assert_eq!(bench.begin(0xe0, &packet(1, 0x1000, 0, 9)), BUSY);
    // As the boot ROM gives up.
    bench.device.pio_write(WRITE, 0);
    assert_eq!((bench.device.pio_read(READ), disc.cancelled().len()), (Some(1), 1));
    assert!(disc.complete(0, Ok(())));
    assert_eq!((bench.device.pio_read(READ), bench.bytes(0x1_0000, 1)), (Some(1), alloc::vec![0]));
    // Another request in between, of which the answer comes first.
    assert_eq!(bench.begin(0xe0, &packet(1, 0x1000, 0, 9)), BUSY);
    assert_eq!(bench.begin(0xe0, &packet(1, 0x2000, 0, 7)), BUSY);
    assert!(disc.complete(1, Ok(())) && disc.complete(0, Ok(())));
    assert_eq!(bench.device.pio_read(READ), Some(0));
    assert_eq!(
        (bench.bytes(0x1_0000, 1), bench.bytes(0x2_0000, 1)),
        (alloc::vec![0], alloc::vec![7])
    );
}

#[test]
fn a_read_ends_on_the_disc_that_it_began_with() {
    let (slow, bench) = slow_disc();
    assert_eq!(bench.begin(0xe0, &packet(40, 0x1000, 0, 0)), BUSY);
    assert_eq!(bench.ide.change_disc(0, Some(disc(1))), Ok(()));
    slow.complete_all();
    assert_eq!(bench.device.pio_read(READ), Some(0));
    assert_eq!(bench.bytes(0x1_0000 + 39 * SECTOR as u64, 1), [39]);
}

/// A disc with a size that no memory has.
struct Huge(Arc<SlowDisk>);

impl Medium for Huge {
    fn geometry(&self) -> Geometry {
        Geometry { size_bytes: 1 << 40, ..self.0.geometry() }
    }

    fn open(self: Arc<Self>, client: Weak<dyn Client>, user: User) -> Arc<dyn Queue> {
        self.0.clone().open(client, user)
    }
}

#[test]
fn addresses_have_more_than_32_bits() {
    let slow = SlowDisk::new(alloc::vec![], true);
    let bench = Bench::new(alloc::vec![Some(Arc::new(Huge(slow.clone())))]);
    assert_eq!(bench.begin(0xe0, &packet(1, 0x1000, 0, 1 << 28)), BUSY);
    assert!(slow.complete(0, Ok(())));
    assert_eq!(bench.device.pio_read(READ), Some(1), "the content is shorter");
}

proptest! {
    /// The sum of what is read is bounded by the packet; whatever a read says is done is there.
    #[test]
    fn any_request_is_refused_or_done_whole(
        bytes in any::<[u8; Packet::SIZE_BYTES]>(),
        plausible in any::<bool>(),
        request in any::<u32>(),
    ) {
        let bench = Bench::new(alloc::vec![Some(disc(DISC_SECTORS))]);
        let mut packet = Packet::read_from_bytes(&bytes).unwrap();
        if plausible {
            packet.size_bytes |= 16;
            packet.sectors = (packet.sectors.get() % 130).into();
            packet.first_sector = (packet.first_sector.get() % DISC_SECTORS as u64).into();
        }
        bench.device.pio_write(WRITE, request);
        if bench.ask(0xe0, &packet) {
            let (sectors, first) = (usize::from(packet.sectors.get()), packet.first_sector.get() as usize);
            prop_assert!((1..=127).contains(&sectors) && first + sectors <= DISC_SECTORS);
            let gpa = packet.buffer_gpa().unwrap();
            let data = bench.bytes(gpa, sectors * SECTOR);
            let expected = |index: usize| (first + index / SECTOR) as u8;
            prop_assert!(data.iter().enumerate().all(|(index, &byte)| byte == expected(index)));
        }
    }
}

#[test]
fn the_disc_is_the_one_that_is_in_the_drive_now() {
    let bench = Bench::new(alloc::vec![None, Some(disc(20))]);
    let first = packet(1, 0x1000, 0, 1);
    assert!(!bench.ask(0xe0, &first) && bench.ask(0xe1, &first));
    assert_eq!(bench.ide.change_disc(0, Some(disc(30))), Ok(()));
    assert_eq!(bench.ide.change_disc(1, None), Ok(()));
    assert!(bench.ask(0xe0, &first) && !bench.ask(0xe1, &first));
}
