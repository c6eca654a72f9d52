//! Runs `tidewire_hub::fuzzing::envelope`, which says what it promises.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewire_hub::fuzzing::envelope(input));
