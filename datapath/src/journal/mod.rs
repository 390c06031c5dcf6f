//! The retention journal of a protected disk: what its target held before, so
//! that it can go back to any point.
//!
//! In: before-images and digests of what an epoch overwrites, point records.
//! Out: the bytes of any point, digests of the newest one. Invariants: a
//! before-image is durable before its place on the target is overwritten.
//! Never: writes the target. Limits: those of the retention volume.
//!
//! ```text
//! Batch ──append──> segment ──close──> index of the epoch ──merge──> index of many
//! ```

mod batch;
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
mod page;
mod pair;
mod point;
mod record;
mod retention;
mod scan;
mod shelf;
mod space;
mod table;
mod table_writer;
mod view;
mod volume;

#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use directory::{Directory, DirectoryError, DirectoryFile};
pub use entry::{Before, Entry, Place};
pub use error::Error;
pub use handle::{Appended, Journal, Recovery};
pub use image::BeforeImage;
pub use pair::{Pair, PairState, SecretKey};
pub use point::{PointKind, PointRecord};
pub use record::{Frame, LogPosition, RecordKind};
pub use retention::{Clock, Expired, Paused, RetentionPolicy, Space};
pub use scan::Record;
pub use table::{Level, TableHeader, TableKind};
pub use view::{Body, EntrySummary, PairSummary, PointSummary, RecordSummary, Summary, TableSummary, View};
pub use volume::{Volume, VolumeFile};
