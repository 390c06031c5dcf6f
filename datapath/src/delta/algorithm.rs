//! How the chunks of a delta are digested.

use serde::{Deserialize, Serialize};

/// How chunks are digested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DigestAlgorithm {
    /// xxh3-128 with a seed for each run: 16–22 GB/s a core. Not for blocks
    /// that an adversary crafts to collide.
    #[default]
    Xxh3 = 0,
    /// BLAKE3 keyed for each run, cut to 128 bits: about 4 GB/s a core.
    Blake3 = 1,
}

impl DigestAlgorithm {
    /// The algorithm of this number in records; `None` for a number of none.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Xxh3),
            1 => Some(Self::Blake3),
            _ => None,
        }
    }
}
