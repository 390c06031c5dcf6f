//! Live protection with real processes, and what it is watched by.
//!
//! ```text
//! source loop device ── agent run ══ TLS ══ master-target run ── target loop device
//!   ▲       ▲                                    └─ retention folder        │
//!   │       └── Probe: the time, ten times a second ──── when did it land? ─┘
//! fio, PostgreSQL
//! ```

pub mod cluster;
pub mod ends;
pub mod probe;

pub use cluster::Cluster;
pub use ends::{Ends, Settings};
pub use probe::Probe;
