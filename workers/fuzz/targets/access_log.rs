#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arctos_fuzz::access_log(bytes));
