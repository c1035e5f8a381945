//! XenStore under two guests with rings of their own.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xen::store::fuzzing::xenstore(data));
