//! The VMCS in words.

use crate::control_bits::{
    EntryControls, ExitControls, PinControls, PrimaryControls, SecondaryControls,
};
use crate::field::{Area, Field};
use crate::spec::{ExitReason, instruction_error, reason};
use core::fmt;

const AREAS: [(Area, &str); 4] = [
    (Area::ExitInformation, "exit"),
    (Area::Guest, "guest"),
    (Area::Control, "controls"),
    (Area::Host, "host"),
];
const FIELDS_A_LINE: usize = 4;

/// Prints every field that `read` has, exit reason first.
pub fn dump(read: impl Fn(Field) -> Option<u64>, f: &mut dyn fmt::Write) -> fmt::Result {
    let get = |field| read(field).unwrap_or(0);
    let exit = ExitReason::from(get(Field::ExitReason) as u32);
    writeln!(
        f,
        "exit reason {} ({}){}, instruction error: {}",
        exit.basic(),
        reason::name(exit.basic()),
        if exit.entry_failure() { " at entry" } else { "" },
        instruction_error(get(Field::InstructionError))
    )?;
    writeln!(f, "{:?}", PinControls::from_bits_retain(get(Field::PinControls) as u32))?;
    writeln!(f, "{:?}", PrimaryControls::from_bits_retain(get(Field::PrimaryControls) as u32))?;
    writeln!(f, "{:?}", SecondaryControls::from_bits_retain(get(Field::SecondaryControls) as u32))?;
    writeln!(f, "{:?}", ExitControls::from_bits_retain(get(Field::ExitControls) as u32))?;
    writeln!(f, "{:?}", EntryControls::from_bits_retain(get(Field::EntryControls) as u32))?;
    for (area, title) in AREAS {
        write!(f, "{title}:")?;
        let fields = Field::ALL.iter().filter(|field| field.area() == area);
        let values = fields.filter_map(|&field| read(field).map(|value| (field, value)));
        for (number, (field, value)) in values.enumerate() {
            let separator = if number % FIELDS_A_LINE == 0 { "\n  " } else { "  " };
            write!(f, "{separator}{field:?} {value:#x}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}
