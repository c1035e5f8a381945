//! Hardware task switches, which VT-x leaves to the hypervisor.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emulator::fuzzing::task_switch(data));
