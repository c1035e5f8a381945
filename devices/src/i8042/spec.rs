//! Registers and commands of the PS/2 keyboard controller (IBM PS/2 Hardware Interface Technical
//! Reference, "Keyboard and Auxiliary Device Controller").

use bitfield_struct::bitfield;

/// The data port.
pub const DATA_PORT: u64 = 0x60;
/// The status (read) and command (write) port.
pub const COMMAND_PORT: u64 = 0x64;

/// Status register.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Status {
    pub output_full: bool,
    pub input_full: bool,
    pub system_flag: bool,
    /// The last write went to the command port.
    pub command: bool,
    pub keylock_open: bool,
    /// The byte in the output buffer is the auxiliary device's.
    pub auxiliary: bool,
    pub timeout: bool,
    pub parity_error: bool,
}

/// Command byte: byte 0 of the controller's memory.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct CommandByte {
    pub keyboard_interrupt: bool,
    pub auxiliary_interrupt: bool,
    pub system_flag: bool,
    __: bool,
    pub keyboard_disabled: bool,
    pub auxiliary_disabled: bool,
    /// Scan codes are translated from set 2 to set 1.
    pub translate: bool,
    __: bool,
}

/// Output port.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct OutputPort {
    /// Low resets the processor.
    pub not_reset: bool,
    pub a20: bool,
    pub auxiliary_data: bool,
    pub auxiliary_clock: bool,
    pub keyboard_full: bool,
    pub auxiliary_full: bool,
    pub keyboard_clock: bool,
    pub keyboard_data: bool,
}

/// Commands written to port 64h.
pub mod command {
    #![allow(missing_docs)]
    pub const READ_MEMORY: u8 = 0x20;
    pub const READ_MEMORY_LAST: u8 = 0x3f;
    pub const WRITE_MEMORY: u8 = 0x60;
    pub const WRITE_MEMORY_LAST: u8 = 0x7f;
    pub const PASSWORD_INSTALLED: u8 = 0xa4;
    pub const DISABLE_AUXILIARY: u8 = 0xa7;
    pub const ENABLE_AUXILIARY: u8 = 0xa8;
    pub const TEST_AUXILIARY: u8 = 0xa9;
    pub const SELF_TEST: u8 = 0xaa;
    pub const TEST_KEYBOARD: u8 = 0xab;
    pub const DISABLE_KEYBOARD: u8 = 0xad;
    pub const ENABLE_KEYBOARD: u8 = 0xae;
    pub const READ_INPUT_PORT: u8 = 0xc0;
    pub const READ_OUTPUT_PORT: u8 = 0xd0;
    pub const WRITE_OUTPUT_PORT: u8 = 0xd1;
    pub const WRITE_KEYBOARD_BUFFER: u8 = 0xd2;
    pub const WRITE_AUXILIARY_BUFFER: u8 = 0xd3;
    pub const WRITE_AUXILIARY: u8 = 0xd4;
    pub const CLOSE_A20: u8 = 0xdd;
    pub const OPEN_A20: u8 = 0xdf;
    pub const READ_TEST_INPUTS: u8 = 0xe0;
    /// F0h to FFh pulse the low four bits of the output port that are 0 in the command; bit 0 is
    /// the reset.
    pub const PULSE: u8 = 0xf0;
}

/// Replies of the controller.
pub mod reply {
    #![allow(missing_docs)]
    pub const SELF_TEST_PASSED: u8 = 0x55;
    pub const PORT_TEST_PASSED: u8 = 0x00;
    pub const NO_PASSWORD: u8 = 0xf1;
    /// Keyboard not locked, and the manufacturing jumper absent.
    pub const INPUT_PORT: u8 = 0xb0;
}

/// Bytes that keyboard and mouse share.
pub mod device {
    #![allow(missing_docs)]
    pub const ACK: u8 = 0xfa;
    pub const RESEND: u8 = 0xfe;
    pub const SELF_TEST_PASSED: u8 = 0xaa;
}
