//! docs/instruction-forms.md.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::cases::Table;
use crate::layout::Mode;

const INTRODUCTION: &str = "\
# Instruction forms on device memory

Every form of an instruction that has memory as an operand, named or implied, and that the tables of
`iced-x86` know. The conformance guest `forms` runs each on RAM and on device memory, and compares all that
it leaves: [testing.md](testing.md). This page is made by `tests/guests/forms` (`cargo run` there writes it),
whose unit tests fail if a form is neither covered nor left out with a reason, or if the page is old.

A case is a form in code of one size, with one of the prefixes, masks and broadcasts that it may have. A
group is what CPUID shows together; where the processor lacks it, its cases are not run.

";

/// The page.
pub fn page(table: &Table) -> String {
    let mut page = INTRODUCTION.to_owned();
    let _ = writeln!(
        page,
        "| group | forms | cases of 16 bits | of 32 bits | of 64 bits |\n|---|---|---|---|---|"
    );
    let mut sums = [0; 4];
    for (name, group) in &table.groups {
        let cases: Vec<_> = group.cases.values().flatten().collect();
        let forms: BTreeSet<_> = cases.iter().map(|case| case.code).collect();
        let count = |mode| cases.iter().filter(|case| case.mode == mode).count();
        let [bits16, bits32, bits64] = Mode::ALL.map(count);
        let row = [forms.len(), bits16, bits32, bits64];
        let _ = writeln!(page, "| {name} | {} | {bits16} | {bits32} | {bits64} |", forms.len());
        sums = std::array::from_fn(|index| sums[index] + row[index]);
    }
    let _ = writeln!(page, "| all | {} | {} | {} | {} |", sums[0], sums[1], sums[2], sums[3]);
    let _ = writeln!(page, "\n## Left out\n");
    for (reason, forms) in &table.left_out {
        let forms: Vec<&str> = forms.iter().map(String::as_str).collect();
        let _ = writeln!(page, "- {} forms are {reason}:{}", forms.len(), wrapped(&forms));
    }
    page
}

/// The names, in lines.
fn wrapped(names: &[&str]) -> String {
    let mut text = String::new();
    let mut column = 200;
    for (index, name) in names.iter().enumerate() {
        if column + name.len() > 100 {
            text.push_str("\n ");
            column = 2;
        }
        let end = if index + 1 == names.len() { "" } else { "," };
        let _ = write!(text, " {name}{end}");
        column += name.len() + 2;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_tables_give() {
        let committed = include_str!("../../../../docs/instruction-forms.md");
        assert!(
            committed == page(&Table::new()),
            "docs/instruction-forms.md is old: `cargo run` in tests/guests/forms writes it"
        );
    }
}
