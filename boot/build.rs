//! Link arguments of the image, and the firmware binaries that it carries.

use std::path::{Path, PathBuf};
use std::{env, process};

/// The firmware binaries: the variable that names each, and where Debian's `seabios` package puts
/// it.
const FIRMWARE: [(&str, &str); 2] = [
    ("BULKHEAD_BIOS", "/usr/share/seabios/bios-256k.bin"),
    ("BULKHEAD_VGABIOS", "/usr/share/seabios/vgabios-stdvga.bin"),
];

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.ld");
    // The crate's logic is also compiled for the development host, to be tested there.
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-T{}", manifest.join("link.ld").display());
    for argument in ["--gc-sections", "-zmax-page-size=4096", "-znoexecstack", "--build-id=none"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for (variable, default) in FIRMWARE {
        println!("cargo:rerun-if-env-changed={variable}");
        let path = env::var(variable).unwrap_or_else(|_| default.to_string());
        if !Path::new(&path).is_file() {
            eprintln!(
                "error: {path} does not exist: install the package `seabios`, or set {variable} to the file"
            );
            process::exit(1);
        }
        println!("cargo:rerun-if-changed={path}");
        println!("cargo:rustc-env={variable}={path}");
    }
}
