//! Keys typed at the keyboard and characters on the serial port come to the guest as they would on
//! a real machine.

use tests::{Backend, Guest, Result, Spec, on_both_backends, spec, start};

/// Keys in scan code set 3; and characters on a line, each with an interrupt of its own for a
/// handler that takes one at a time, though they were sent all at once. (Plain QEMU fills the FIFO
/// instead, and loses the interrupts.)
fn keys_come_in_set_3_and_characters_at_the_lines_pace(backend: Backend) -> Result<()> {
    let mut machine = start(&Spec { backend, ..spec(Guest::Input)? })?;
    machine.expect_serial("INPUT keys")?;
    machine.control().type_text("a;\u{1b}")?;
    machine.expect_serial("1c f0 1c 4c f0 4c 08 ")?;
    machine.expect_serial("INPUT serial")?;
    machine.serial().write(b"word")?;
    machine.expect_serial("word in 4 interrupts")
}

on_both_backends!(keys_come_in_set_3_and_characters_at_the_lines_pace);
