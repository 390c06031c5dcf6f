//! A before-image, found.

use super::entry::Before;
use crate::unit::Digest;

/// What a chunk held before its first change after a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeforeImage {
    /// The chunk.
    pub chunk: u64,
    /// Where that is.
    pub before: Before,
    /// Its digest.
    pub digest: Digest,
}
