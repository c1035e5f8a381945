//! A PV disk under a front end that does anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xen::blkback::fuzzing::blkback(data));
