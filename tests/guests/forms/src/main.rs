//! Writes docs/instruction-forms.md.

use forms::cases::Table;
use forms::page::page;

fn main() -> std::io::Result<()> {
    std::fs::write(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/instruction-forms.md"),
        page(&Table::new()),
    )
}
