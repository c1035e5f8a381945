//! Link arguments of the guests.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.ld");
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-link-arg-bins=-T{manifest}/link.ld");
    for argument in ["--gc-sections", "-znoexecstack", "--build-id=none"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
