//! See `entry::delta`.
#![no_main]
#![allow(dead_code, reason = "each target has its own entry")]

#[path = "../src/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::delta(bytes));
