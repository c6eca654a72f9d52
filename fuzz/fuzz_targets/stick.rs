//! Runs `tidewire_edge::fuzzing::stick`, which says what it promises.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewire_edge::fuzzing::stick(input));
