//! The self-describing oracle: what a point holds is judged by the sectors
//! themselves, without a word from what is tested.
//!
//! ```text
//! writer ── sectors that say run, write, place, time, checksum ──> disk ══> point
//!    └── history: when each write was submitted and completed        │
//!                              └──────────── judge <─────────────────┘
//! ```
//!
//! A point is exact if one moment within its cut explains all of it: each sector
//! holds everything completed before that moment and nothing submitted after it;
//! a write in flight is there or not, sector by sector.

mod history;
mod judge;
mod sector;
mod tests;
mod writer;

pub use history::{Clock, History};
pub use judge::{Verdict, Window, common, judge};
pub use writer::{Load, Way, Writer};
