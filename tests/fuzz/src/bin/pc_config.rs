//! Guests' configurations, built into their PCs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm_core::fuzzing::pc_config(data));
