//! The integration tests of failback: one crate, one binary, one process.
//!
//! `fixture` makes what a test stands on (scratch directories, loop devices,
//! servers) and takes it away again whatever happens. `house` holds the source
//! tree to its own rules.

#![allow(
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says why on its output"
)]

mod bench_command;
mod crash;
mod demo;
mod fixture;
mod house;
mod network;
mod protection;
mod protection_bench;
mod quiesce;
mod replica;
mod sync;
mod track;
