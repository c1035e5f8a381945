//! The hypervisor's prompt, and what the guest writes beside it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| console::fuzzing::prompt(data));
