//! Runs `tidewire_wire::fuzzing::proxy_header`, which says what it promises.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewire_wire::fuzzing::proxy_header(input));
