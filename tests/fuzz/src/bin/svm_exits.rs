//! Exits of AMD-V.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| svm::fuzzing::exits(data));
