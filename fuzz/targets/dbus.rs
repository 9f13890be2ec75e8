#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dlmgmtd::fuzzing::dbus(bytes));
