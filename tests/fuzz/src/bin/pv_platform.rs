//! Xen's guest ABI and its back ends under a guest that does anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xen::fuzzing::platform(data));
