//! The network: what two hosts do with each other, and what they survive.
//!
//! ```text
//! away ── failback sync ──TLS──> home: failback serve ── exports
//!           │ or a raw peer       ▲ or a raw server
//!           └──> a wire that cuts ┘
//! ```

mod bounds;
mod chance;
mod copies;
mod corpora;
mod cursors;
mod cuts;
mod hostile_client;
mod hostile_server;
pub mod hosts;
mod interruptions;
mod lanes;
pub mod proxy;
mod rates;
mod raw;
mod refusals;
mod remote_kinds;
mod savings;
mod ssh;
mod ssh_interruptions;
mod strangers;
mod verification;
