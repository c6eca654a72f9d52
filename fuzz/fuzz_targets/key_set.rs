//! Runs `tidewire_auth::fuzzing::key_set`, which says what it promises.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewire_auth::fuzzing::key_set(input));
