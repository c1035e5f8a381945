use super::*;
use crate::memory::TestMemory;
use proptest::prelude::*;

const COMMAND_GPA: u64 = 0x100;

struct Machine {
    fw_cfg: FwCfg,
    memory: Arc<TestMemory>,
}

fn machine() -> Machine {
    let facts = MachineFacts {
        ram_bytes: 0x2000_0000,
        cpu_count: 2,
        max_cpus: 4,
        uuid: [7; 16],
        boot_menu: false,
    };
    let long: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    let files = Vec::from([
        (String::from("etc/long"), Arc::from(long)),
        (String::from("bootorder"), Arc::from(*b"/rom\0")),
    ]);
    let memory = TestMemory::new(0x10000);
    Machine { fw_cfg: FwCfg::new(&facts, files, memory.clone()), memory }
}

fn data(size_bytes: u8) -> Access {
    Access { region: REGISTERS, offset: 1, size_bytes }
}

impl Machine {
    fn select(&self, selector: u16) {
        self.fw_cfg
            .pio_write(Access { region: REGISTERS, offset: 0, size_bytes: 2 }, u32::from(selector));
    }

    fn read<const N: usize>(&self, selector: u16) -> [u8; N] {
        self.select(selector);
        core::array::from_fn(|_| self.fw_cfg.pio_read(data(1)).unwrap() as u8)
    }

    /// Starts a DMA command as SeaBIOS does: the low half of its address only. Returns the answer.
    fn dma(&self, control: DmaControl, length_bytes: u32, address: u64) -> u32 {
        let command = u128::from(control.into_bits()) << 96
            | u128::from(length_bytes) << 64
            | u128::from(address);
        GuestMemory::write(&*self.memory, COMMAND_GPA, &command.to_be_bytes()).unwrap();
        let low = (COMMAND_GPA as u32).swap_bytes();
        self.fw_cfg.pio_write(Access { region: DMA, offset: 4, size_bytes: 4 }, low);
        u32::from_be(GuestMemory::read_u32(&*self.memory, COMMAND_GPA).unwrap())
    }

    fn memory_at(&self, gpa: u64, length: usize) -> Vec<u8> {
        let mut bytes = alloc::vec![0; length];
        GuestMemory::read(&*self.memory, gpa, &mut bytes).unwrap();
        bytes
    }

    /// Number and size of the file `name`, found as a firmware finds it.
    fn find(&self, name: &str) -> Option<(u16, u32)> {
        let count = u32::from_be_bytes(self.read(key::FILE_DIRECTORY));
        (0..count).find_map(|_| {
            let mut record = [0; 64];
            assert_eq!(self.fw_cfg.pio_read_string(data(1), &mut record), 64);
            let found = record[8..].starts_with(name.as_bytes()) && record[8 + name.len()] == 0;
            let size = u32::from_be_bytes(record[..4].try_into().unwrap());
            found.then_some((u16::from_be_bytes([record[4], record[5]]), size))
        })
    }
}

#[test]
fn seabios_finds_the_device_its_facts_and_its_files() {
    let machine = machine();
    assert_eq!(&machine.read(key::SIGNATURE), b"QEMU");
    assert_eq!(machine.read(key::ID), [3, 0, 0, 0]);
    assert_eq!(u64::from_le_bytes(machine.read(key::RAM_SIZE)), 0x2000_0000);
    assert_eq!(machine.read(key::CPU_COUNT), [2, 0]);
    assert_eq!(machine.read(key::MAX_CPUS), [4, 0]);
    assert_eq!(machine.read(key::NUMA), [0; 8]);
    assert_eq!(machine.read(key::IRQ0_OVERRIDE), [1, 0, 0, 0]);
    let (number, size) = machine.find("bootorder").unwrap();
    assert_eq!((number, size), (0x20, 5));
    assert_eq!(&machine.read(number), b"/rom\0");
    assert_eq!(machine.find("boot"), None);
}

#[test]
fn reading_past_the_end_and_of_unknown_items_gives_zeroes() {
    let machine = machine();
    assert_eq!(machine.read(key::CPU_COUNT), [2, 0, 0, 0, 0]);
    assert_eq!(machine.read(0x3fff), [0; 4]);
    // The old write bit does not change what is selected.
    assert_eq!(&machine.read(key::SIGNATURE | 0x4000), b"QEMU");
}

#[test]
fn wide_reads_of_the_data_port_are_not_decoded() {
    let machine = machine();
    machine.select(key::SIGNATURE);
    assert_eq!(machine.fw_cfg.pio_read(data(2)), None);
    assert_eq!(machine.fw_cfg.pio_read(data(1)), Some(u32::from(b'Q')));
}

#[test]
fn the_dma_register_reads_its_signature() {
    let fw_cfg = machine().fw_cfg;
    let read = |offset| fw_cfg.pio_read(Access { region: DMA, offset, size_bytes: 4 });
    assert_eq!(read(0), Some(u32::from_le_bytes(*b"QEMU")));
    assert_eq!(read(4), Some(u32::from_le_bytes(*b" CFG")));
    assert_eq!(read(6), None);
}

#[test]
fn dma_selects_skips_and_reads_on() {
    let machine = machine();
    let (number, size) = machine.find("etc/long").unwrap();
    assert_eq!(size, 10_000);
    let select = DmaControl::new().with_select(true).with_selector(number);
    assert_eq!(machine.dma(select.with_skip(true), 5000, 0), 0);
    assert_eq!(machine.dma(DmaControl::new().with_read(true), 10, 0x1000), 0);
    assert_eq!(machine.memory_at(0x1000, 3), [5000u32 as u8, 5001u32 as u8, 5002u32 as u8]);
    // The port continues where DMA stopped.
    assert_eq!(machine.fw_cfg.pio_read(data(1)), Some(u32::from(5010u32 as u8)));
}

#[test]
fn dma_reads_pad_with_zeroes() {
    let machine = machine();
    GuestMemory::write(&*machine.memory, 0x2000, &[0xff; 12]).unwrap();
    let select = DmaControl::new().with_select(true).with_selector(key::SIGNATURE);
    assert_eq!(machine.dma(select.with_read(true), 8, 0x2000), 0);
    assert_eq!(machine.memory_at(0x2000, 10), *b"QEMU\0\0\0\0\xff\xff");
}

#[test]
fn dma_answers_errors() {
    let machine = machine();
    let select = DmaControl::new().with_select(true).with_selector(key::SIGNATURE);
    assert_eq!(machine.dma(select.with_read(true), 4, 0xfffe), 1, "target outside RAM");
    assert_eq!(machine.dma(select.with_read(true), u32::MAX, 0x2000), 1, "hostile length");
    assert_eq!(machine.dma(select.with_read(true), 4, u64::MAX), 1, "wrapping address");
    assert_eq!(machine.dma(select.with_write(true), 4, 0x2000), 1, "items are read-only");
    assert_eq!(machine.dma(select.with_skip(true), u32::MAX, 0x2000), 0, "skipping costs nothing");
}

proptest! {
    /// No access makes the device panic or store outside the DMA target.
    #[test]
    fn random_accesses_store_nothing_elsewhere(
        accesses in prop::collection::vec((0u8..2, 0u64..10, prop::sample::select(&[1u8, 2, 4][..]), any::<u32>(), any::<bool>()), 1..60),
        control in any::<u32>(), length in prop_oneof![0u32..9000, any::<u32>()],
    ) {
        let machine = machine();
        for (region, offset, size_bytes, value, write) in accesses {
            let access = Access { region, offset, size_bytes };
            if !write {
                machine.fw_cfg.pio_read(access);
                let mut string = [0; 64];
                // The data register answers all bytes at once, the others one element.
                let answered = if (region, size_bytes) == (REGISTERS, 1) { 64 } else { size_bytes.into() };
                prop_assert_eq!(machine.fw_cfg.pio_read_string(access, &mut string), answered);
            } else if region == REGISTERS {
                machine.fw_cfg.pio_write(access, value);
            }
        }
        let control = DmaControl::from_bits(control);
        let answer = machine.dma(control, length, 0x4000);
        prop_assert!(answer <= 1);
        if answer == 0 && control.read() {
            prop_assert!(length <= MAX_PADDING_BYTES + 10_000);
            let end = (0x4000 + u64::from(length)).min(0x10000);
            prop_assert!(machine.memory_at(end, (0x10000 - end) as usize).iter().all(|&byte| byte == 0));
        }
        prop_assert!(machine.memory_at(COMMAND_GPA + 16, 0x3e00).iter().all(|&byte| byte == 0));
    }
}
