//! Runs `tidewire_runtime::tls::fuzzing::tls_client`, which says what it promises.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewire_runtime::tls::fuzzing::tls_client(input));
