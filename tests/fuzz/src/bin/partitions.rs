//! Partition tables and labels of a disk that holds anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| block::partitions::fuzzing::partitions(data));
