//! The port of the boot ROM, which reads sectors of a CD for the BIOS.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use block::{HeapDisk, Medium, User};
use devices::boot_disk::BootDisk;
use devices::bus::{Access, PioDevice};
use devices::ide::{Drive, Ide};
use devices::irq::LineProbe;
use devices::memory::{GuestMemory, TestMemory};
use emulator::fuzzing::Input;

const MEMORY_BYTES: usize = 0x3_0000;
const SECTOR_BYTES: u64 = 2048;
/// The second disc ends within a sector; the third drive is empty.
const DISC_BYTES: [usize; 2] = [160 << 10, 3 * SECTOR_BYTES as usize + 100];
const MAX_REQUESTS: usize = 16;
const PACKET_BYTES: usize = 16;
const USER: User = User { id: 1, weight: 256 };

/// The device, and guest memory as it must be.
struct Bench {
    device: Arc<BootDisk>,
    memory: Arc<TestMemory>,
    expected: Vec<u8>,
    discs: [Vec<u8>; 2],
}

/// For any value written to the port: sectors arrive where the packet says if the disc has them,
/// and are told to have arrived; all other memory stays as it was.
pub fn boot_disk(data: &[u8]) {
    let discs = DISC_BYTES
        .map(|length| (0..length).map(|at| (at * 7 + at / 2048) as u8).collect::<Vec<_>>());
    let drive = |disc: &Vec<u8>| {
        let disc: Arc<dyn Medium> = Arc::new(HeapDisk::new(disc.clone(), true));
        Some(Drive::Cdrom(Some(disc)))
    };
    let memory = TestMemory::new(MEMORY_BYTES);
    let drives = [drive(&discs[0]), drive(&discs[1]), Some(Drive::Cdrom(None)), None];
    let irqs = [LineProbe::wired().1, LineProbe::wired().1];
    let ide = Arc::new(Ide::new(drives, irqs, memory.clone(), USER));
    let device = BootDisk::new(vec![0, 1, 2], ide, memory.clone(), USER);
    let mut bench = Bench { device, memory, expected: vec![0; MEMORY_BYTES], discs };
    let mut input = Input::new(data);
    for _ in 0..MAX_REQUESTS {
        if bench.request(&mut input).is_none() {
            return;
        }
    }
}

impl Bench {
    fn request(&mut self, input: &mut Input<'_>) -> Option<()> {
        let choice = input.u8()?;
        let drive = if choice & 3 == 0 { input.u8()? } else { 0xe0 + (choice >> 2) % 4 };
        let packet_gpa =
            if choice & 0x30 == 0 { input.u32()? & 0xff_ffff } else { input.u16()?.into() };
        let size_bytes = if choice & 0xc0 == 0 { input.u8()? } else { 16 };
        let count = if choice & 0xc0 == 0x40 { input.u16()? } else { u16::from(input.u8()?) % 130 };
        let first = match input.u8()? {
            0..0x10 => input.u64()?,
            near => u64::from(near) % 90,
        };
        let (offset, segment) = (input.u16()?, input.u16()?);
        let segment = if choice & 0x80 == 0 { segment } else { segment % 0x3000 };
        let packet = [
            &[size_bytes, 0][..],
            &count.to_le_bytes(),
            &offset.to_le_bytes(),
            &segment.to_le_bytes(),
            &first.to_le_bytes(),
        ]
        .concat();
        let has_packet = GuestMemory::write(&*self.memory, packet_gpa.into(), &packet).is_ok();
        if has_packet {
            self.expected[packet_gpa as usize..][..PACKET_BYTES].copy_from_slice(&packet);
        }
        let width = input.pick(&[4, 4, 4, 1, 2])?;
        self.device.pio_write(Access::new(0, width), u32::from(drive) << 24 | packet_gpa);
        let is_done = self.device.pio_read(Access::new(0, 1)) == Some(0);

        // EDD 3.0, 4.3 and 5.2: what has to be in a packet, and what of it is left to the BIOS.
        let is_sane = width == 4
            && has_packet
            && usize::from(size_bytes) >= PACKET_BYTES
            && (1..=127).contains(&count)
            && (segment, offset) != (u16::MAX, u16::MAX);
        let sectors = is_sane.then(|| self.sectors(drive, first, count)).flatten();
        let buffer = usize::from(segment) * 16 + usize::from(offset);
        let fits = sectors.as_ref().is_some_and(|sectors| buffer + sectors.len() <= MEMORY_BYTES);
        assert_eq!(is_done, fits, "drive {drive:#x}, {count} sectors from {first}, to {buffer:#x}");
        self.check(buffer, sectors, fits);
        Some(())
    }

    /// The bytes of the disc that are asked for, if it has all of them.
    fn sectors(&self, drive: u8, first: u64, count: u16) -> Option<Vec<u8>> {
        let disc = self.discs.get(usize::from(drive.checked_sub(0xe0)?))?;
        let start = first.checked_mul(SECTOR_BYTES)?;
        let end = start.checked_add(u64::from(count) * SECTOR_BYTES)?;
        Some(disc.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?.to_vec())
    }

    fn check(&mut self, buffer: usize, sectors: Option<Vec<u8>>, fits: bool) {
        let mut found = vec![0; MEMORY_BYTES];
        assert!(GuestMemory::read(&*self.memory, 0, &mut found).is_ok());
        if let Some(sectors) = sectors {
            let place = buffer.min(MEMORY_BYTES)..(buffer + sectors.len()).min(MEMORY_BYTES);
            // A buffer that passes the end of memory may hold a part of them, or nothing.
            let held = if fits { &sectors } else { &found[place.clone()] };
            self.expected[place].copy_from_slice(held);
        }
        assert!(
            found == self.expected,
            "the sectors are not in the buffer, or other memory has changed"
        );
    }
}
