//! The guest's picture as a file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| console::fuzzing::png(data));
