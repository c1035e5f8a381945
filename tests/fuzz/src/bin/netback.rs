//! A PV network card under a front end that does anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xen::netback::fuzzing::netback(data));
