//! The machine as its consoles see it: ports, display, keyboard, log, heap and time. `boot`
//! implements it on bare metal.

use alloc::vec::Vec;

/// A host serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialPort {
    /// COM1, I/O port 3f8h.
    Com1,
    /// COM2, I/O port 2f8h.
    Com2,
}

/// Something that a person did at the machine's own keyboard or mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEvent {
    /// A byte of scan code set 1, as the host's keyboard controller translates it.
    KeyboardByte(u8),
    /// A mouse movement: counts to the right, up, wheel steps towards the user, and buttons (bit 0
    /// left, 1 right, 2 middle).
    Mouse {
        /// Counts to the right.
        dx: i16,
        /// Counts up.
        dy: i16,
        /// Wheel steps towards the user.
        dz: i8,
        /// Bit 0 left, bit 1 right, bit 2 middle.
        buttons: u8,
    },
}

/// The mode of the machine's own display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayMode {
    /// VGA text: cells of character and attribute.
    Text {
        /// Characters a row.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Pixels.
    Graphics {
        /// Pixels a row.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// The machine's own display.
pub trait Display: Send + Sync {
    /// Asks for a mode; returns the one that is in force afterwards, which may be another (a fixed
    /// framebuffer, or a card that cannot go back to text). Clears the screen if the mode
    /// changed. A picture that is smaller than a fixed framebuffer is shown in its middle, with
    /// black around it; the pixels' coordinates are the picture's.
    fn request_mode(&self, wanted: DisplayMode) -> DisplayMode;
    /// Text modes: writes cells (low byte character, high byte attribute) from a position on.
    /// Outside is ignored.
    fn write_cells(&self, column: u16, row: u16, cells: &[u16]);
    /// Text modes: moves the cursor, or hides it.
    fn set_cursor(&self, position: Option<(u16, u16)>);
    /// Graphics modes: writes 0x00RRGGBB pixels of one row from (`x`, `y`) on. Outside is ignored.
    fn write_pixels(&self, x: u16, y: u16, pixels: &[u32]);
}

/// The machine's consoles, and what serving them takes.
///
/// Methods may be called on any CPU, with interrupts off, and return at once.
pub trait Host: Send + Sync {
    /// The CPU's time stamp counter.
    fn tsc(&self) -> u64;
    /// Its rate in Hz.
    fn tsc_hz(&self) -> u64;

    /// Bytes that are free.
    fn free_bytes(&self) -> u64;
    /// Bytes of the hypervisor's own heap that are in use. The heap keeps the memory that it once
    /// took: what leaks into it shows here before it shows in [`Host::free_bytes`].
    fn heap_bytes(&self) -> u64;
    /// Sets `bytes` of that heap aside for a piece of work that allocates no more than that; false
    /// if the heap has not so much, and cannot get it, beside what is set aside already and
    /// what it keeps for the hypervisor itself. For [`Budget`](crate::budget::Budget).
    fn reserve_heap(&self, bytes: u64) -> bool;
    /// Ends what [`Host::reserve_heap`] began.
    fn return_heap(&self, bytes: u64);

    /// Drains the log ring to the console, as far as it takes it without waiting; true if something
    /// still waits.
    fn drain_log(&self) -> bool;
    /// Sends bytes; returns how many were taken without waiting.
    fn serial_write(&self, port: SerialPort, bytes: &[u8]) -> usize;
    /// Takes one received byte.
    fn serial_read(&self, port: SerialPort) -> Option<u8>;
    /// Takes one keyboard or mouse event.
    fn take_input(&self) -> Option<InputEvent>;
    /// The machine's display, if it has one that the hypervisor can drive.
    fn display(&self) -> Option<&dyn Display>;
    /// A copy of the log ring, oldest first.
    fn log_text(&self) -> Vec<u8>;
    /// The most that such a copy has.
    fn log_bytes(&self) -> u64;

    /// The consoles' alarm was brought forward: the CPU that attends to them looks at it.
    fn call_attendant(&self);

    /// Turns the machine off. Returns only if it cannot.
    fn power_off(&self);
    /// Resets the machine.
    fn reboot(&self) -> !;
}

/// Host time, in nanoseconds of the time stamp counter.
pub fn host_ns(host: &dyn Host) -> u64 {
    const NS_PER_S: u64 = 1_000_000_000;
    let (tsc, hz) = (host.tsc(), host.tsc_hz().max(1));
    (tsc / hz).wrapping_mul(NS_PER_S).wrapping_add((tsc % hz).wrapping_mul(NS_PER_S) / hz)
}
