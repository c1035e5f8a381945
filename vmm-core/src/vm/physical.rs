//! Guest-physical memory as the processor finds it: RAM, ROM, and devices where there is neither.
//! The local APICs, each of which only its own virtual CPU reaches, are not there. Only virtual
//! CPUs of the guest come here.

use crate::vm::Vm;
use crate::vm::memory::PAGE_BYTES;
use devices::memory::{GuestMemory, NotRam};

/// The largest piece of `length_bytes` at `gpa` that a device can be asked for.
const fn piece_bytes(gpa: u64, length_bytes: usize) -> usize {
    let room = (PAGE_BYTES - gpa % PAGE_BYTES) as usize;
    let most = if length_bytes < room { length_bytes } else { room };
    match most {
        8.. => 8,
        most => 1 << most.ilog2(),
    }
}

impl GuestMemory for Vm {
    #[inline]
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NotRam> {
        self.space.read_as_vcpu(gpa, data).or_else(|_| {
            self.read_in_pieces(gpa, data);
            Ok(())
        })
    }

    #[inline]
    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), NotRam> {
        self.space.write_as_vcpu(gpa, data).or_else(|_| {
            self.write_in_pieces(gpa, data);
            Ok(())
        })
    }

    fn compare_exchange_u8(&self, gpa: u64, expected: u8, new: u8) -> Result<bool, NotRam> {
        if self.space.is_memory(gpa) {
            return self.space.compare_exchange_as_vcpu(gpa, expected, new);
        }
        let is_equal = self.mmio.read(gpa, 1) as u8 == expected;
        if is_equal {
            self.mmio.write(gpa, 1, new.into());
        }
        Ok(is_equal)
    }
}

impl Vm {
    #[cold]
    fn read_in_pieces(&self, mut gpa: u64, mut data: &mut [u8]) {
        while !data.is_empty() {
            let (piece, rest) = data.split_at_mut(piece_bytes(gpa, data.len()));
            if self.space.read_as_vcpu(gpa, piece).is_err() {
                let value = self.mmio.read(gpa, piece.len() as u8).to_le_bytes();
                piece.copy_from_slice(&value[..piece.len()]);
            }
            gpa += piece.len() as u64;
            data = rest;
        }
    }

    #[cold]
    fn write_in_pieces(&self, mut gpa: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let (piece, rest) = data.split_at(piece_bytes(gpa, data.len()));
            if self.space.write_as_vcpu(gpa, piece).is_err() {
                let mut value = [0; 8];
                value[..piece.len()].copy_from_slice(piece);
                self.mmio.write(gpa, piece.len() as u8, u64::from_le_bytes(value));
            }
            gpa += piece.len() as u64;
            data = rest;
        }
    }
}
