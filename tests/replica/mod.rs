//! A replica on a real disk and a real directory, killed at random moments.
//!
//! ```text
//! test ──> stand-in: a process that lives epoch after epoch ──kill -9──┐
//!   ^                                                                  │
//!   └── opens loop device and journal, reads every point <─────────────┘
//! ```
//!
//! What a power cut may do is `crash`'s matter; here kernel, io_uring, direct I/O
//! and files are the real ones.

mod killed;
pub mod life;
pub mod place;
