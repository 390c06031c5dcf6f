//! The retention journal of a protected disk: what its target held before, so
//! that it can go back to any point.
//!
//! In: before-images and digests of what an epoch overwrites, point records.
//! Out: what any chunk held at any point; digests of the newest one.
//! Invariants: a batch is durable before a chunk of it is overwritten; a chunk's
//! first image of an epoch is the one that counts; a point that was told is in the
//! log, and what is made of it is made again at open; bytes that a later record
//! proves flushed are never taken for a torn tail.
//! Never: touches the target, trusts a length, loses a point to a clock.
//! Limits: `limits::OPEN_ENTRIES_MAX`, `limits::JOURNAL_PAGES_CACHED` and a bit for
//! each chunk in memory, whatever the disk; the retention volume, which pushes back.
//!
//! ```text
//! Batch ──append──> segment-00000001 … ──flush──> the target may be overwritten
//!                      │ (several on their way, one flush for those it finds)
//!                      │ close_epoch: point record, flushed
//!                      ├──> epoch-E.index ──merge──> merged-A-B.index   before-images, by chunk
//!                      └──> digests                                     newest point, by chunk
//! pair: whose journal it is, its state, its pins        lock: whoever writes
//! ```

mod appending;
mod aside;
mod batch;
mod clock;
mod close;
mod contents;
mod digests;
mod directory;
mod entry;
mod error;
mod field;
mod files;
mod handle;
mod image;
mod log;
pub mod loose;
mod lookup;
mod merge;
mod open_epoch;
mod packed_images;
mod page;
mod pair;
mod point;
mod record;
mod reserve;
mod retention;
mod scan;
mod shelf;
mod space;
mod table;
mod table_writer;
mod tail;
mod view;
mod volume;

#[cfg(test)]
mod tests;

pub use appending::Appending;
pub use aside::{Aside, AsideFile};
pub use batch::Batch;
pub use clock::{Believed, Clock, ClockWatch, Paused};
pub use directory::{Directory, DirectoryError, DirectoryFile};
pub use entry::{Before, Entry, Place};
pub use error::Error;
pub use handle::{Appended, Journal, Recovery};
pub use image::BeforeImage;
pub use packed_images::PackedImages;
pub use pair::{Pair, PairState, SecretKey};
pub use point::{PointKind, PointRecord};
pub use record::{Frame, LogPosition, RecordKind};
pub use retention::{Expired, RetentionPolicy, Space};
pub use scan::Record;
pub use table::{Level, TableHeader, TableKind};
pub use view::{Body, EntrySummary, PairSummary, PointSummary, RecordSummary, Summary, TableSummary, View};
pub use volume::{Volume, VolumeFile};
