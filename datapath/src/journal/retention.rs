//! Which points are kept: by age, and by space.

use serde::{Deserialize, Serialize};

use super::Paused;
use crate::unit::Epoch;

/// For how long points are kept, and at which price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPolicy {
    /// A point older than this goes, unless it is the newest or pinned.
    pub keep_seconds: u64,
    /// Points go, oldest first, while less than this is free on the volume.
    pub free_bytes_min: u64,
    /// Points go, oldest first, while the journal takes more than this.
    pub used_bytes_max: Option<u64>,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self { keep_seconds: 24 * 3600, free_bytes_min: 0, used_bytes_max: None }
    }
}

/// What an expiry did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Points that are gone, oldest first.
    pub points: Vec<Epoch>,
    /// Why points were kept that age would have taken.
    pub paused: Option<Paused>,
    /// The volume is below its floor, and no point could be given up for it:
    /// what is left is the newest, or pinned from here on.
    pub short_of_space: bool,
}

/// How far a pair's journal has filled the retention volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Segments.
    pub segment_bytes: u64,
    /// Indexes.
    pub index_bytes: u64,
    /// Digest file.
    pub digest_bytes: u64,
    /// Left in the segment that is written.
    pub tail_bytes: u64,
    /// Free on the volume.
    pub free_bytes: u64,
}

impl Space {
    /// All that the journal takes.
    #[must_use]
    pub const fn used_bytes(&self) -> u64 {
        self.segment_bytes + self.index_bytes + self.digest_bytes
    }
}
