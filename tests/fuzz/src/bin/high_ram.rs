//! RAM of any size, below the PCI hole and above 4 GiB.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm_core::fuzzing::high_ram(data));
