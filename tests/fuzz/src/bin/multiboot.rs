//! A boot loader's information, by multiboot 1 and 2.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| handover::fuzzing::multiboot(data));
