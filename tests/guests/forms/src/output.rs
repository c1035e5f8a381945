//! The table as the guest includes it: Rust for the groups, bytes for the cases.

use std::fmt::Write;

use crate::cases::{BasePointer, Case, Table};
use crate::layout::*;
use crate::preparation::{Memory, RAX, RDX};

/// The extents are in units of that.
const UNIT: usize = 64;

/// The source, which names the file of the cases, and the cases.
pub fn write(table: &Table, cases_file: &str) -> (String, Vec<u8>) {
    let mut source = String::new();
    let mut cases = Vec::new();
    let constants = [
        ("WINDOW", u64::from(WINDOW)),
        ("CODE", CODE.into()),
        ("OPERAND", OPERAND),
        ("CODE16", CODE16.into()),
        ("CODE32", CODE32.into()),
        ("DATA16", DATA16.into()),
        ("LDT", LDT.into()),
        ("TASK", TASK.into()),
        ("RAX", RAX),
        ("RDX", RDX),
        ("UNIT", UNIT as u64),
    ];
    for (name, value) in constants {
        let _ = writeln!(source, "pub const {name}: u64 = {value:#x};");
    }
    let _ = writeln!(source, "pub static CASES: &[u8] = include_bytes!({cases_file:?});");
    let _ = writeln!(source, "pub static GROUPS: &[Group] = &[");
    for (name, group) in &table.groups {
        let _ = writeln!(
            source,
            "Group {{ name: {name:?}, bits: &{:?}, components: {}, mnemonics: {} }},",
            group.bits,
            group.components,
            group.cases.len()
        );
        for (mnemonic, of_mnemonic) in &group.cases {
            write_bytes(&mut cases, mnemonic.as_bytes());
            cases.extend((of_mnemonic.len() as u16).to_le_bytes());
            of_mnemonic.iter().for_each(|case| write_case(&mut cases, case));
        }
    }
    source.push_str("];\n");
    (source, cases)
}

fn write_case(output: &mut Vec<u8>, case: &Case) {
    let (kind, bytes): (u8, &[u8]) = match &case.memory {
        Memory::Pattern => (0, &[]),
        Memory::Operand(bytes) => (1, bytes),
        Memory::Stack(bytes) => (2, bytes),
        Memory::GlobalTable => (3, &[]),
        Memory::InterruptTable => (4, &[]),
        Memory::LegacyState => (5, &[]),
        Memory::ExtendedState => (6, &[]),
        Memory::CompactedState => (7, &[]),
    };
    let base_pointer = match case.base_pointer {
        BasePointer::Number => 0,
        BasePointer::Stack => 1,
        BasePointer::Two => 2,
    };
    let mode = case.mode.pick(0, 1, 2);
    output.push(
        mode | u8::from(case.stack) << 2
            | u8::from(case.pushes) << 3
            | base_pointer << 4
            | u8::from(case.has_second) << 6
            | u8::from(case.writes) << 7,
    );
    output.push(kind);
    output.extend(case.flags.to_le_bytes());
    output.extend([case.split as u8, (case.extent / UNIT) as u8]);
    write_bytes(output, &case.bytes);
    write_bytes(output, bytes);
}

fn write_bytes(output: &mut Vec<u8>, bytes: &[u8]) {
    output.push(bytes.len() as u8);
    output.extend(bytes);
}
