//! A whole PC through its guest's exits: ports, memory, MSRs, DMA, time.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm_core::fuzzing::devices(data));
