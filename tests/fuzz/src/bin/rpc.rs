//! The management port.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| console::fuzzing::rpc(data));
