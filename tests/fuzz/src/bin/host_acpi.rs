//! The machine's own ACPI tables.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| host_acpi::fuzzing::tables(data));
