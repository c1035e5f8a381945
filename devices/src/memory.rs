//! Guest memory as devices see it, for DMA.

/// The range is not, or not wholly, guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRam {
    /// The first guest-physical address that is not RAM.
    pub gpa: u64,
}

/// Checked access to guest RAM. The guest may change it at any moment, so values are copied, never
/// borrowed.
pub trait GuestMemory: Send + Sync {
    /// Copies from guest-physical `gpa`.
    ///
    /// # Errors
    /// [`NotRam`] if some byte is not RAM; what `data` then holds is unspecified.
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NotRam>;

    /// Copies to guest-physical `gpa`.
    ///
    /// # Errors
    /// [`NotRam`] if some byte is not RAM; a part may have been written.
    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), NotRam>;

    /// Reads a little-endian 32-bit value.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    fn read_u32(&self, gpa: u64) -> Result<u32, NotRam> {
        let mut bytes = [0; 4];
        self.read(gpa, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a little-endian 64-bit value.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    fn read_u64(&self, gpa: u64) -> Result<u64, NotRam> {
        let mut bytes = [0; 8];
        self.read(gpa, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Replaces the byte at `gpa` by `new` if it is still `expected`, and says whether it was. The
    /// page walk sets accessed and dirty bits with it, so memory that several CPUs share must
    /// do it atomically; this default does not.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    fn compare_exchange_u8(&self, gpa: u64, expected: u8, new: u8) -> Result<bool, NotRam> {
        let mut byte = [0];
        self.read(gpa, &mut byte)?;
        if byte[0] != expected {
            return Ok(false);
        }
        self.write(gpa, &[new])?;
        Ok(true)
    }

    /// Sets bits of the byte at `gpa`, and returns it as it was; in one piece where several CPUs
    /// share the memory, which this default does not.
    ///
    /// # Errors
    /// As [`GuestMemory::write`].
    fn fetch_or_u8(&self, gpa: u64, bits: u8) -> Result<u8, NotRam> {
        let mut byte = [0];
        self.read(gpa, &mut byte)?;
        self.write(gpa, &[byte[0] | bits])?;
        Ok(byte[0])
    }

    /// Keeps only `bits` of the byte at `gpa`: the counterpart of [`GuestMemory::fetch_or_u8`].
    ///
    /// # Errors
    /// As [`GuestMemory::write`].
    fn fetch_and_u8(&self, gpa: u64, bits: u8) -> Result<u8, NotRam> {
        let mut byte = [0];
        self.read(gpa, &mut byte)?;
        self.write(gpa, &[byte[0] & bits])?;
        Ok(byte[0])
    }
}

/// Memory that a device owns and the guest can have mapped: video RAM. Offsets wrap nowhere: an
/// access outside is ignored, a read outside gives 0xff bytes.
pub trait DeviceMemory: Send + Sync {
    /// Length in bytes, a multiple of 64 KiB.
    fn length_bytes(&self) -> usize;
    /// Copies out.
    fn read(&self, offset: usize, data: &mut [u8]);
    /// Copies in.
    fn write(&self, offset: usize, data: &[u8]);
    /// Reads the aligned little-endian 32-bit value at `offset`.
    fn read_u32(&self, offset: usize) -> u32;
    /// Writes the aligned little-endian 32-bit value at `offset`.
    fn write_u32(&self, offset: usize, value: u32);

    /// Looks what of a range was written, by whomever, and returns the number of this look; numbers
    /// go up. To be called while the guest does not run.
    fn look_for_writes(&self, _offset: usize, _length_bytes: usize) -> u64 {
        0
    }

    /// False if what looks after number `look` found written touches no page of the range: whoever
    /// looked at the whole range now, and read it after look number `look`, need not read it
    /// again. Memory that cannot tell says true.
    fn written_since(&self, _offset: usize, _length_bytes: usize, _look: u64) -> bool {
        true
    }
}

/// Guest RAM and device memory for tests: a plain vector from address 0.
#[derive(Debug)]
pub struct TestMemory(spin::Mutex<alloc::vec::Vec<u8>>);

impl TestMemory {
    /// `length_bytes` of zeroes.
    pub fn new(length_bytes: usize) -> alloc::sync::Arc<Self> {
        alloc::sync::Arc::new(Self(spin::Mutex::new(alloc::vec![0; length_bytes])))
    }
}

impl GuestMemory for TestMemory {
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NotRam> {
        let memory = self.0.lock();
        let start = usize::try_from(gpa).map_err(|_| NotRam { gpa })?;
        let end = start.checked_add(data.len()).ok_or(NotRam { gpa })?;
        data.copy_from_slice(memory.get(start..end).ok_or(NotRam { gpa })?);
        Ok(())
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), NotRam> {
        let mut memory = self.0.lock();
        let start = usize::try_from(gpa).map_err(|_| NotRam { gpa })?;
        let end = start.checked_add(data.len()).ok_or(NotRam { gpa })?;
        memory.get_mut(start..end).ok_or(NotRam { gpa })?.copy_from_slice(data);
        Ok(())
    }
}

impl DeviceMemory for TestMemory {
    fn length_bytes(&self) -> usize {
        self.0.lock().len()
    }

    fn read(&self, offset: usize, data: &mut [u8]) {
        if GuestMemory::read(self, offset as u64, data).is_err() {
            data.fill(0xff);
        }
    }

    fn write(&self, offset: usize, data: &[u8]) {
        // Outside is ignored, as the trait says.
        let _ = GuestMemory::write(self, offset as u64, data);
    }

    fn read_u32(&self, offset: usize) -> u32 {
        let mut bytes = [0xff; 4];
        DeviceMemory::read(self, offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write_u32(&self, offset: usize, value: u32) {
        DeviceMemory::write(self, offset, &value.to_le_bytes());
    }
}
