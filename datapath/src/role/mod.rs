//! What an agent and a master target do next, and the drivers that do it.
//!
//! In: events (a message, a drain, a freeze, a lost connection, an order). Out:
//! actions, in order. Invariants: a table is pure: it does no I/O, reads no
//! clock, and gives each state an answer to each event; a driver decides nothing
//! that a table decides. Never: forgets a change before its epoch is a point.
//! Limits: `limits::DELTAS_IN_FLIGHT` deltas that a target has not taken in,
//! `limits::OFFERS_IN_FLIGHT` windows offered, `limits::REMAINDER_BYTES_MAX` that
//! a frozen machine's disks may still have to read.
//!
//! ```text
//!  agent                                              master target
//!  Disk  ── one for each protected disk ── wire ──>  Pair ── one for each
//!   ▲ │
//!   │ ▼
//!  MachineCut ── one for the machine: all its disks at one moment
//! ```

pub mod agent;
mod disk;
mod error;
mod machine_cut;
pub mod master_target;
mod pair;
mod table;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskAction, DiskEvent, Reason};
pub use error::{Error, LandingError};
pub use machine_cut::{CutAction, CutEvent, Ending, MachineCut};
pub use pair::{Pair, PairAction, PairEvent};
pub use table::{Step, Table, diagram, listing};
