#![no_main]

#[path = "../src/takeover.rs"]
mod takeover;

libfuzzer_sys::fuzz_target!(|data: &[u8]| takeover::takeover(data));
