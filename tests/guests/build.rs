//! Link arguments of the guests, and the table of instruction forms.

use std::path::Path;

use forms::cases::Table;
use forms::output;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.ld");
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-link-arg-bins=-T{manifest}/link.ld");
    for argument in ["--gc-sections", "-znoexecstack", "--build-id=none"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    instruction_forms(Path::new(&std::env::var_os("OUT_DIR").unwrap_or_default()))
}

fn instruction_forms(folder: &Path) -> std::io::Result<()> {
    let cases_file = folder.join("forms.bin");
    let (source, cases) = output::write(&Table::new(), &cases_file.to_string_lossy());
    std::fs::write(&cases_file, cases)?;
    std::fs::write(folder.join("forms.rs"), source)
}
