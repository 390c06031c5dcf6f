//! The agent: protects the disks of the machine it runs on.
//!
//! In: changes of each disk, orders, the clock. Out: deltas, cuts, points of the
//! machine. Invariants: a chunk in transit is forgotten only when its epoch is a
//! point; a chunk has one version in flight; after any doubt or loss what was in
//! transit is offered again before it is trusted. Never: writes a protected disk,
//! sends anything on a machine that it is not bound to.
//! Limits: `limits::OFFERS_IN_FLIGHT`, `limits::DELTAS_IN_FLIGHT`,
//! `limits::REMAINDER_BYTES_MAX`, `limits::RECONNECT_AFTER_MAX`.
//!
//! ```text
//! coordinator (a thread) ── Order ──> lane (a thread and a ring for each disk)
//!       ▲                                 │ drain, read, digest, offer, send
//!       └───────────── Report ────────────┘
//! ```

mod cut;
mod lane;
mod order;
mod outbox;
mod remainder;
mod round;
mod session;

pub use cut::{Freezer, Hooks, Outcome, cut_machine};
pub use lane::{Lane, LaneSettings};
pub use order::{CutLabel, LaneHandle, Order, Report};
