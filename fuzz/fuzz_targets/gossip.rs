//! Runs `tidewire_auth::fuzzing::gossip`, which says what it promises.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewire_auth::fuzzing::gossip(input));
