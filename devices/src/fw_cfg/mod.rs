//! QEMU's fw_cfg: how the firmware learns what machine it is on, and fetches the tables made for
//! it.
//!
//! Items are numbered; the well-known ones have fixed numbers, the files have names and are found
//! through a directory. The guest selects an item and reads it byte by byte through a port, or
//! hands over a DMA command. Everything is read-only to the guest.

pub mod spec;

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::bus::{Access, PioDevice, Region, read_element};
use crate::lock::DeviceLock;
use crate::memory::{GuestMemory, NotRam};
use spec::{DmaCommand, DmaControl, Interfaces, key};

const REGISTERS: u8 = 0;
const DMA: u8 = 1;

/// Zeroes that one DMA read may store after the end of an item. The specification has no limit, but
/// a guest could keep its CPU here for seconds; no firmware reads past the end by more than a
/// record.
const MAX_PADDING_BYTES: u32 = 1 << 20;
const CHUNK_BYTES: usize = 4096;

/// The machine's facts that the well-known items carry.
#[derive(Clone, Debug)]
pub struct MachineFacts {
    /// RAM in bytes.
    pub ram_bytes: u64,
    /// CPUs present at power-on.
    pub cpu_count: u16,
    /// One more than the highest APIC ID.
    pub max_cpus: u16,
    /// The UUID, in the order of its text form.
    pub uuid: [u8; 16],
    /// True if the firmware shall wait for the boot menu's key.
    pub boot_menu: bool,
}

/// A named file: its name, and what it holds.
pub type File = (String, Arc<[u8]>);

/// The fw_cfg device.
pub struct FwCfg {
    /// Sorted by number.
    items: Vec<(u16, Arc<[u8]>)>,
    memory: Arc<dyn GuestMemory>,
    state: DeviceLock<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    selector: u16,
    offset: usize,
    dma_address_high: u32,
}

impl FwCfg {
    /// A device that tells `facts` and offers `files`; its DMA goes to `memory`.
    ///
    /// # Panics
    /// If a file's name is empty or longer than 55 bytes, two have the same name, a file is 4 GiB
    /// long, or there are more than 16,352 files: none of this can come from a guest.
    pub fn new(facts: &MachineFacts, mut files: Vec<File>, memory: Arc<dyn GuestMemory>) -> Self {
        files.sort_unstable();
        assert!(
            files.windows(2).all(|pair| pair[0].0 != pair[1].0),
            "fw_cfg: two files of one name"
        );
        let mut items = facts_items(facts);
        items.push((key::FILE_DIRECTORY, directory(&files).into()));
        items.extend((key::FILE_FIRST..).zip(files).map(|(key, (_, data))| (key, data)));
        items.sort_unstable_by_key(|&(key, _)| key);
        Self { items, memory, state: DeviceLock::default() }
    }

    /// The contents of the item that `selector` selects; empty if there is none.
    fn item(&self, selector: u16) -> &[u8] {
        let number = selector & !spec::SELECTOR_WRITE_CHANNEL;
        match self.items.binary_search_by_key(&number, |&(key, _)| key) {
            Ok(index) => &self.items[index].1,
            Err(_) => &[],
        }
    }

    /// The unread rest of the selected item.
    fn rest(&self, state: &State) -> &[u8] {
        self.item(state.selector).get(state.offset..).unwrap_or_default()
    }

    /// The next bytes of the selected item; zeroes after its end.
    fn read_data(&self, data: &mut [u8]) {
        let mut state = self.state.lock();
        let rest = self.rest(&state);
        let length = rest.len().min(data.len());
        data[..length].copy_from_slice(&rest[..length]);
        data[length..].fill(0);
        state.offset += length;
    }

    fn run_command(&self, state: &mut State, command_gpa: u64) {
        let mut bytes = [0; spec::DMA_COMMAND_BYTES];
        let done = self.memory.read(command_gpa, &mut bytes).and_then(|()| {
            let command = DmaCommand::from_bytes(bytes);
            self.transfer(state, &command)
        });
        let answer = DmaControl::new().with_error(done.is_err());
        // If not even the answer can be stored, nobody is there to be told.
        let _ = self.memory.write(command_gpa, &answer.into_bits().to_be_bytes());
    }

    fn transfer(&self, state: &mut State, command: &DmaCommand) -> Result<(), NotRam> {
        if command.control.select() {
            state.selector = command.control.selector();
            state.offset = 0;
        }
        // As on QEMU, reading wins over writing, and writing over skipping.
        if !command.control.read() && command.control.write() {
            return Err(NotRam { gpa: command.address });
        }
        let rest = self.rest(state);
        let wanted = command.length_bytes as usize;
        let length = rest.len().min(wanted);
        if command.control.read() {
            self.memory.write(command.address, &rest[..length])?;
            self.store_padding(command.address, length, wanted)?;
        }
        if command.control.read() || command.control.skip() {
            state.offset += length;
        }
        Ok(())
    }

    /// Zeroes what a read wants beyond the end of the item: bytes `from..to` after `gpa`.
    fn store_padding(&self, gpa: u64, from: usize, to: usize) -> Result<(), NotRam> {
        let at = |offset: usize| gpa.checked_add(offset as u64).ok_or(NotRam { gpa });
        if to - from > MAX_PADDING_BYTES as usize {
            return Err(NotRam { gpa: at(from)? });
        }
        for start in (from..to).step_by(CHUNK_BYTES) {
            let length = CHUNK_BYTES.min(to - start);
            self.memory.write(at(start)?, &[0; CHUNK_BYTES][..length])?;
        }
        Ok(())
    }

    fn write_dma_address(&self, access: Access, value: u32) {
        if access.size_bytes != 4 {
            return;
        }
        let half = u32::from_be_bytes(value.to_le_bytes());
        let mut state = self.state.lock();
        match access.offset {
            0 => state.dma_address_high = half,
            4 => {
                let high = core::mem::take(&mut state.dma_address_high);
                self.run_command(&mut state, u64::from(high) << 32 | u64::from(half));
            }
            _ => {}
        }
    }
}

fn facts_items(facts: &MachineFacts) -> Vec<(u16, Arc<[u8]>)> {
    let interfaces = Interfaces::new().with_traditional(true).with_dma(true).into_bits();
    let none_u16 = 0u16.to_le_bytes();
    Vec::from([
        (key::SIGNATURE, Arc::from(*b"QEMU")),
        (key::ID, Arc::from(interfaces.to_le_bytes())),
        (key::UUID, Arc::from(facts.uuid)),
        (key::RAM_SIZE, Arc::from(facts.ram_bytes.to_le_bytes())),
        (key::NO_GRAPHIC, Arc::from(none_u16)),
        (key::CPU_COUNT, Arc::from(facts.cpu_count.to_le_bytes())),
        (key::NUMA, Arc::from(0u64.to_le_bytes())),
        (key::BOOT_MENU, Arc::from(u16::from(facts.boot_menu).to_le_bytes())),
        (key::MAX_CPUS, Arc::from(facts.max_cpus.to_le_bytes())),
        (key::ACPI_TABLES, Arc::from(none_u16)),
        (key::SMBIOS_ENTRIES, Arc::from(none_u16)),
        (key::IRQ0_OVERRIDE, Arc::from(1u32.to_le_bytes())),
    ])
}

/// The directory: a count, then a record for each file; numbers are big-endian.
fn directory(files: &[File]) -> Vec<u8> {
    assert!(files.len() <= usize::from(0x4000 - key::FILE_FIRST), "fw_cfg: too many files");
    let mut bytes = Vec::from((files.len() as u32).to_be_bytes());
    for (number, (name, data)) in (key::FILE_FIRST..).zip(files) {
        assert!(
            !name.is_empty() && name.len() < spec::FILE_NAME_BYTES,
            "fw_cfg: bad file name {name}"
        );
        let length = u32::try_from(data.len());
        assert!(length.is_ok(), "fw_cfg: {name} is too long");
        bytes.extend_from_slice(&length.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&[0; 2]);
        let mut field = [0; spec::FILE_NAME_BYTES];
        field[..name.len()].copy_from_slice(name.as_bytes());
        bytes.extend_from_slice(&field);
    }
    bytes
}

impl PioDevice for FwCfg {
    fn ports(&self) -> Vec<Region> {
        Vec::from([
            Region::new(REGISTERS, u64::from(spec::SELECTOR_PORT), 2),
            Region::new(DMA, u64::from(spec::DMA_PORT), spec::DMA_SIGNATURE.len() as u64),
        ])
    }

    fn pio_read(&self, access: Access) -> Option<u32> {
        if access.region == REGISTERS {
            if access.size_bytes != 1 {
                return None;
            }
            let mut byte = [0];
            self.read_data(&mut byte);
            return Some(u32::from(byte[0]));
        }
        let start = usize::try_from(access.offset).ok()?;
        let end = start.checked_add(usize::from(access.size_bytes))?;
        let mut value = [0; 4];
        let bytes = spec::DMA_SIGNATURE.get(start..end)?;
        value.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(u32::from_le_bytes(value))
    }

    fn pio_write(&self, access: Access, value: u32) {
        if access.region == DMA {
            return self.write_dma_address(access, value);
        }
        if access.offset == 0 && access.size_bytes == 2 {
            let mut state = self.state.lock();
            state.selector = value as u16;
            state.offset = 0;
        }
    }

    fn pio_read_string(&self, access: Access, data: &mut [u8]) -> usize {
        if access.region == REGISTERS && access.size_bytes == 1 {
            self.read_data(data);
            return data.len();
        }
        read_element(self, access, data)
    }
}
