#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| epmd_fuzz::histories(data));
