//! The PS/2 keyboard controller with a keyboard and a mouse, at ports 60h and 64h.
//!
//! Bytes are ready at once, except that scan codes keep [`SCAN_CODE_GAP_NS`] between them:
//! interrupt handlers of DOS read the data port more than once and expect the same byte, as a
//! keyboard's serial line makes sure.

mod key_type;
mod keyboard;
mod mouse;
mod scancodes;
pub mod spec;

#[cfg(test)]
mod tests;

pub use mouse::Buttons;

use crate::bus::{Access, PioDevice, Region};
use crate::irq::IrqLine;
use crate::keys::Key;
use crate::lock::DeviceLock;
use crate::ring::Ring;
use crate::system_control::SystemControl;
use crate::time::{Alarm, Clock, GuestTime, Timed};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use keyboard::Keyboard;
use mouse::Mouse;
use spec::{CommandByte, OutputPort, Status, command, reply};

/// Time from the reading of a scan code to the arrival of the next one.
pub const SCAN_CODE_GAP_NS: u64 = 500_000;

/// After this time a byte that the guest has not read is taken for unseen: its interrupt came while
/// its input was masked.
const UNSEEN_NS: u64 = 10_000_000;

/// Where the byte in the output buffer came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Controller,
    /// A reply of the keyboard.
    Keyboard,
    /// A key of the keyboard.
    ScanCode,
    Auxiliary,
}

#[derive(Clone, Copy, Debug, Default)]
struct Output {
    byte: u8,
    source: Source,
}

/// An effect of a write outside the controller, for when its lock is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    None,
    SetA20(bool),
    Init,
}

#[derive(Clone, Debug)]
struct State {
    command_byte: CommandByte,
    memory: [u8; 32],
    /// The command whose parameter is the next byte at the data port.
    parameter_of: Option<u8>,
    last_write_was_command: bool,
    output: Option<Output>,
    /// When that came there.
    filled_at: GuestTime,
    /// The value of the data port while the output buffer is empty.
    last_output: u8,
    replies: Ring<Output, 16>,
    /// A scan code that a reply of the keyboard went before.
    overtaken: Option<Output>,
    /// The keyboard sent the prefix of a release, and translation is on.
    releasing: bool,
    keyboard: Keyboard,
    next_scan_code_at: GuestTime,
    mouse: Mouse,
}

impl State {
    fn new() -> Self {
        Self {
            command_byte: CommandByte::new()
                .with_keyboard_interrupt(true)
                .with_auxiliary_interrupt(true),
            memory: [0; 32],
            parameter_of: None,
            last_write_was_command: false,
            output: None,
            filled_at: GuestTime::ZERO,
            last_output: 0,
            replies: Ring::default(),
            overtaken: None,
            releasing: false,
            keyboard: Keyboard::new(),
            next_scan_code_at: GuestTime::ZERO,
            mouse: Mouse::new(),
        }
    }

    fn status(&self) -> Status {
        Status::new()
            .with_output_full(self.output.is_some())
            .with_system_flag(self.command_byte.system_flag())
            .with_command(self.last_write_was_command)
            .with_keylock_open(true)
            .with_auxiliary(self.output.is_some_and(|output| output.source == Source::Auxiliary))
    }

    fn output_port(&self, a20: bool) -> OutputPort {
        let from = |source| self.output.is_some_and(|output| output.source == source);
        OutputPort::new()
            .with_not_reset(true)
            .with_a20(a20)
            .with_keyboard_full(self.output.is_some() && !from(Source::Auxiliary))
            .with_auxiliary_full(from(Source::Auxiliary))
            .with_keyboard_clock(!self.command_byte.keyboard_disabled())
            .with_auxiliary_clock(!self.command_byte.auxiliary_disabled())
            .with_keyboard_data(true)
            .with_auxiliary_data(true)
    }

    fn answer(&mut self, byte: u8) {
        self.replies.push(Output { byte, source: Source::Controller });
    }

    /// Fills the output buffer if it is empty and somebody has a byte; true if it is filled now and
    /// was not.
    fn fill_output(&mut self, clock: &dyn Clock) -> bool {
        if self.output.is_some() {
            return false;
        }
        self.output = self.next_output(clock);
        self.filled_at = clock.now();
        self.output.is_some()
    }

    /// A byte goes to the keyboard, whose reply takes the place of what of the keyboard's is still
    /// in the output buffer: the controller waits for it whether or not the buffer was read. A
    /// reply is overwritten by it, as on the real one; a scan code comes after it, so that no
    /// key is lost.
    fn make_way_for_reply(&mut self) {
        match self.output {
            Some(Output { source: Source::Keyboard, .. }) => self.output = None,
            Some(Output { source: Source::ScanCode, .. }) => self.overtaken = self.output.take(),
            _ => {}
        }
    }

    fn next_output(&mut self, clock: &dyn Clock) -> Option<Output> {
        if let Some(output) = self.replies.pop() {
            return Some(output);
        }
        if !self.command_byte.keyboard_disabled()
            && let Some(output) = self.next_keyboard_output(clock)
        {
            return Some(output);
        }
        if self.command_byte.auxiliary_disabled() {
            return None;
        }
        self.mouse.send().map(|byte| Output { byte, source: Source::Auxiliary })
    }

    fn next_keyboard_output(&mut self, clock: &dyn Clock) -> Option<Output> {
        loop {
            let source = if self.keyboard.has_reply() {
                Source::Keyboard
            } else if let Some(output) = self.overtaken.take() {
                return Some(output);
            } else if self.keyboard.has_scan_code() && clock.now() >= self.next_scan_code_at {
                Source::ScanCode
            } else {
                return None;
            };
            let byte = self.keyboard.send()?;
            if !self.command_byte.translate() {
                return Some(Output { byte, source });
            }
            if byte == scancodes::BREAK_PREFIX {
                self.releasing = true;
                continue;
            }
            let release = if core::mem::take(&mut self.releasing) { 0x80 } else { 0 };
            return Some(Output { byte: scancodes::to_set_1(byte) | release, source });
        }
    }

    fn read_data(&mut self, clock: &dyn Clock) -> u8 {
        let Some(output) = self.output.take() else { return self.last_output };
        self.last_output = output.byte;
        if output.source == Source::ScanCode {
            self.next_scan_code_at = clock.now() + SCAN_CODE_GAP_NS;
        }
        output.byte
    }

    fn write_command(&mut self, value: u8, a20: bool) -> Effect {
        self.parameter_of = None;
        match value {
            command::READ_MEMORY..=command::READ_MEMORY_LAST => {
                let byte = match value & 0x1f {
                    0 => self.command_byte.into_bits(),
                    at => self.memory[usize::from(at)],
                };
                self.answer(byte);
            }
            command::WRITE_MEMORY..=command::WRITE_MEMORY_LAST
            | command::WRITE_OUTPUT_PORT
            | command::WRITE_KEYBOARD_BUFFER
            | command::WRITE_AUXILIARY_BUFFER
            | command::WRITE_AUXILIARY => self.parameter_of = Some(value),
            command::PASSWORD_INSTALLED => self.answer(reply::NO_PASSWORD),
            command::DISABLE_AUXILIARY => self.command_byte.set_auxiliary_disabled(true),
            command::ENABLE_AUXILIARY => self.command_byte.set_auxiliary_disabled(false),
            command::SELF_TEST => {
                self.command_byte.set_system_flag(true);
                self.answer(reply::SELF_TEST_PASSED);
            }
            command::TEST_AUXILIARY | command::TEST_KEYBOARD => {
                self.answer(reply::PORT_TEST_PASSED)
            }
            command::DISABLE_KEYBOARD => self.command_byte.set_keyboard_disabled(true),
            command::ENABLE_KEYBOARD => self.command_byte.set_keyboard_disabled(false),
            command::READ_INPUT_PORT => self.answer(reply::INPUT_PORT),
            command::READ_OUTPUT_PORT => self.answer(self.output_port(a20).into_bits()),
            command::CLOSE_A20 => return Effect::SetA20(false),
            command::OPEN_A20 => return Effect::SetA20(true),
            command::READ_TEST_INPUTS => self.answer(0),
            command::PULSE.. if value & 1 == 0 => return Effect::Init,
            _ => {}
        }
        Effect::None
    }

    fn write_data(&mut self, value: u8) -> Effect {
        match self.parameter_of.take() {
            None => {
                // A byte for the keyboard switches its port on again.
                self.command_byte.set_keyboard_disabled(false);
                self.make_way_for_reply();
                self.keyboard.receive(value);
            }
            Some(command::WRITE_MEMORY) => self.command_byte = CommandByte::from_bits(value),
            Some(at @ command::WRITE_MEMORY..=command::WRITE_MEMORY_LAST) => {
                self.memory[usize::from(at & 0x1f)] = value;
            }
            Some(command::WRITE_OUTPUT_PORT) => {
                let port = OutputPort::from_bits(value);
                return if port.not_reset() { Effect::SetA20(port.a20()) } else { Effect::Init };
            }
            Some(command::WRITE_KEYBOARD_BUFFER) => {
                self.replies.push(Output { byte: value, source: Source::Keyboard });
            }
            Some(command::WRITE_AUXILIARY_BUFFER) => {
                self.replies.push(Output { byte: value, source: Source::Auxiliary });
            }
            Some(_) => {
                self.command_byte.set_auxiliary_disabled(false);
                self.mouse.receive(value);
            }
        }
        Effect::None
    }
}

/// The controller, its keyboard and its mouse.
pub struct I8042 {
    // Wiring.
    irq1: IrqLine,
    irq12: IrqLine,
    system: Arc<dyn SystemControl>,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    // Volatile state.
    state: DeviceLock<State>,
}

impl I8042 {
    /// A controller whose keyboard interrupts by `irq1` and whose mouse by `irq12`.
    pub fn new(
        irq1: IrqLine,
        irq12: IrqLine,
        system: Arc<dyn SystemControl>,
        clock: Arc<dyn Clock>,
        alarm: Alarm,
    ) -> Self {
        Self { irq1, irq12, system, clock, alarm, state: DeviceLock::new(State::new()) }
    }

    /// A key is pressed or released; false if the keyboard has no room for it now, then the caller
    /// keeps it. The keyboard repeats a key by itself until it is released.
    pub fn key(&self, key: Key, pressed: bool) -> bool {
        let mut state = self.state.lock();
        let taken = state.keyboard.key(key, pressed, self.clock.now());
        self.remind(&state);
        self.settle(&mut state);
        taken
    }

    /// The mouse moved right by `dx` and down by `dy` counts, its wheel by `dz` steps towards the
    /// user, and `buttons` are down now.
    pub fn mouse_move(&self, dx: i32, dy: i32, dz: i32, buttons: Buttons) {
        let mut state = self.state.lock();
        state.mouse.moved(dx, dy, dz, buttons);
        self.remind(&state);
        self.settle(&mut state);
    }

    /// The keyboard's lights. Bit 0: Scroll Lock, bit 1: Num Lock, bit 2: Caps Lock.
    pub fn leds(&self) -> u8 {
        self.state.lock().keyboard.leds()
    }

    /// More has come, behind a byte that the guest has left unread for long: the line falls for a
    /// moment, so that the byte's interrupt comes again. QEMU asserts a line that is high again
    /// for each further byte, and systems that clear no buffer before they unmask the input
    /// rely on it.
    fn remind(&self, state: &State) {
        if state.output.is_some() && self.clock.now().since(state.filled_at) >= UNSEEN_NS {
            self.irq1.set(false);
            self.irq12.set(false);
        }
    }

    /// Fills the output buffer and brings the lines up to date with it.
    fn settle(&self, state: &mut State) {
        if state.fill_output(&*self.clock) {
            // A line that was high falls for a moment: the interrupt controller must see an edge
            // for each byte.
            self.irq1.set(false);
            self.irq12.set(false);
        }
        let source = state.output.map(|output| output.source);
        let enabled = state.command_byte;
        let auxiliary = source == Some(Source::Auxiliary);
        self.irq12.set(auxiliary && enabled.auxiliary_interrupt());
        self.irq1.set(
            source.is_some()
                && !auxiliary
                && enabled.keyboard_interrupt()
                && !enabled.keyboard_disabled(),
        );
        let waits =
            source.is_none() && !enabled.keyboard_disabled() && state.keyboard.has_scan_code();
        let next_code = waits.then_some(state.next_scan_code_at);
        self.alarm.set(next_code.into_iter().chain(state.keyboard.repeats_at()).min());
    }

    fn read_data(&self) -> u8 {
        let mut state = self.state.lock();
        let byte = state.read_data(&*self.clock);
        self.settle(&mut state);
        byte
    }

    fn read_status(&self) -> u8 {
        let mut state = self.state.lock();
        if state.output.is_none() && state.keyboard.has_scan_code() {
            // A guest that polls sees a scan code that is due even before the alarm rings.
            self.settle(&mut state);
        }
        state.status().into_bits()
    }

    fn write(&self, to_command_port: bool, value: u8) {
        let a20 = self.system.a20();
        let effect = {
            let mut state = self.state.lock();
            state.last_write_was_command = to_command_port;
            let effect = if to_command_port {
                state.write_command(value, a20)
            } else {
                state.write_data(value)
            };
            self.settle(&mut state);
            effect
        };
        match effect {
            Effect::None => {}
            Effect::SetA20(enabled) => self.system.set_a20(enabled),
            Effect::Init => self.system.init(),
        }
    }
}

const DATA: u8 = 0;
const COMMAND: u8 = 1;

impl PioDevice for I8042 {
    fn ports(&self) -> Vec<Region> {
        alloc::vec![
            Region::new(DATA, spec::DATA_PORT, 1),
            Region::new(COMMAND, spec::COMMAND_PORT, 1)
        ]
    }

    fn pio_read(&self, access: Access) -> Option<u32> {
        let byte = if access.region == COMMAND { self.read_status() } else { self.read_data() };
        Some(byte.into())
    }

    fn pio_write(&self, access: Access, value: u32) {
        self.write(access.region == COMMAND, value as u8);
    }
}

impl Timed for I8042 {
    fn expired(&self, now: GuestTime) {
        let mut state = self.state.lock();
        let ready = state.output.is_none() && !state.command_byte.keyboard_disabled();
        state.keyboard.repeat(now, ready);
        self.settle(&mut state);
    }
}

impl fmt::Debug for I8042 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("I8042")
            .field("irq1", &self.irq1)
            .field("irq12", &self.irq12)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
