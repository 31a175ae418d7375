#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arctos_fuzz::tls(bytes));
