//! Runs `tidewire_wire::fuzzing::said`, which says what it promises.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewire_wire::fuzzing::said(input));
