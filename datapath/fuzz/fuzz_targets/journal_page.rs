//! See `entry::journal_page`.
#![no_main]
#![allow(dead_code, reason = "each target has its own entry")]

#[path = "../src/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::journal_page(bytes));
