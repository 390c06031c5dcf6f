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
mod freezer;
mod lane;
mod machine;
mod order;
mod outbox;
mod remainder;
mod reserve;
mod round;
mod session;
mod status;
mod target_digests;

pub use cut::{CutPlan, Freezer, LeftOut, Outcome, cut_machine, kind_name};
pub use freezer::{FreezerSettings, Standstill};
pub use lane::{Lane, LaneEnding, LaneSettings, News, OnDoubt};
pub use machine::{
    CutStatus, DiskPoint, DiskSettings, DiskStatus, Event, How, Machine, MachineError, MachineHandle,
    MachineSettings, MachineStatus, PointSettings, Thaw, Tracking, Uninstall, is_name, uninstall,
};
pub use order::{CutLabel, LaneHandle, Order, Report};
pub use reserve::Reserve;
pub use status::{LaneStatus, NewestPoint, Passes, Traffic};
