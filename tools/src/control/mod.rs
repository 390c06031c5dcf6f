//! How commands talk to the process that runs: an agent or a master target.
//!
//! One request for each connection to a unix socket that only its owner (and
//! root) can use, a line of JSON each way:
//!
//! ```text
//! {"do":"cut","name":"before-upgrade"}  ──>
//!                                       <──  {"ok":{"epoch":17}}
//!                                       <──  {"error":{"code":"refused","message":"…"}}
//! ```
//!
//! `code` is the [`Exit`] that the command ends with. A request is at most
//! [`REQUEST_BYTES_MAX`] long and is there within [`REQUEST_WITHIN`]; at most
//! [`REQUESTS_MAX`] are answered at once, the next is told so.

mod client;
mod line;
mod server;
mod socket;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::exit::Exit;

pub use client::ask;
pub use server::{Client, Server, serve};

/// How a command ends that did not do what it was asked.
pub type Failed = (Exit, String);

/// A request in bytes, with its end of line: names and options, never data.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// An answer in bytes: the status of thousands of disks.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Requests that are answered at once: each has a thread, and some wait for a cut.
const REQUESTS_MAX: usize = 16;

/// A client that does not say what it wants within this time is let go.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// How long a server that ends waits for the answers that are being made.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// How often a server looks whether it is to end.
const LOOKS_EVERY: Duration = Duration::from_millis(100);
