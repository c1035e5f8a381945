//! The walk of the guest's page tables.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emulator::fuzzing::paging(data));
