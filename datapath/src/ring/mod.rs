//! The I/O engine: one io_uring for each lane.
//!
//! In: files, owned buffers, extents. Out: the same buffers, and what happened.
//! Invariants: a buffer belongs to the kernel while its operation runs and comes
//! back whatever happens; reads and writes are whole or an error; no operation
//! is cancelled by dropping its future, so whoever drops one must not reuse the
//! target. Never: knows what a disk is, retries, reorders.
//! Limits: `limits::RING_ENTRIES` operations in flight.
//!
//! The only room that names `tokio-uring`, which nobody maintains any more: an
//! engine of our own would replace this room alone.

mod file;
mod runtime;

pub use file::File;
pub use runtime::{Task, Unavailable, run, spawn};
