//! Exits of VT-x.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmx::fuzzing::exits(data));
