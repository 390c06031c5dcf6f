//! The unit in which a protected disk is tracked, sent and journaled.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Extent;

/// The chunk of a protected disk in bytes: a power of two, 4 KiB to 1 MiB. One
/// size for its change marks, its deltas, its before-images and its digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ChunkSize(u32);

impl ChunkSize {
    /// The smallest: a page, which nearly every filesystem writes at least.
    pub const MIN: Self = Self(4 << 10);
    /// The largest: one operation of the ring.
    pub const MAX: Self = Self(1 << 20);
    /// Marks of a disk as long as that keeps the chunk below [`Self::MAX`]: a
    /// bitmap of 2 MiB, of which the kernel holds three for each disk.
    const MARKS: u64 = 16 << 20;

    /// A chunk of `bytes`; `None` where it is no power of two from 4 KiB to 1 MiB.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= Self::MIN.0 && bytes <= Self::MAX.0 {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// What suits a disk of `size_bytes`: 16 KiB up to 256 GiB, so that scattered
    /// small writes do not send whole 64 KiB each; larger for larger disks, so
    /// that their bitmaps stay small.
    #[must_use]
    pub const fn for_disk(size_bytes: u64) -> Self {
        let mut size = Self(16 << 10);
        while size.0 < Self::MAX.0 && size.count(size_bytes) > Self::MARKS {
            size = Self(size.0 * 2);
        }
        size
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Chunks of a disk of `size_bytes`; the last one may be short.
    #[must_use]
    pub const fn count(self, size_bytes: u64) -> u64 {
        size_bytes.div_ceil(self.0 as u64)
    }

    /// The chunk that holds byte `offset`.
    #[must_use]
    pub const fn index(self, offset: u64) -> u64 {
        offset / self.0 as u64
    }

    /// Where chunk `index` of a disk of `size_bytes` lies; empty past its end.
    #[must_use]
    pub const fn extent(self, index: u64, size_bytes: u64) -> Extent {
        let offset = match index.checked_mul(self.0 as u64) {
            Some(offset) if offset < size_bytes => offset,
            _ => size_bytes,
        };
        let end = offset.saturating_add(self.0 as u64);
        Extent::between(offset, if end < size_bytes { end } else { size_bytes })
    }

    /// Whether `extent` is whole chunks of a disk of `size_bytes`.
    #[must_use]
    pub fn fits(self, extent: Extent, size_bytes: u64) -> bool {
        let whole = |at: u64| at.is_multiple_of(self.0 as u64);
        !extent.is_empty()
            && extent.end() <= size_bytes
            && whole(extent.offset())
            && (whole(extent.end()) || extent.end() == size_bytes)
    }
}

impl TryFrom<u32> for ChunkSize {
    type Error = InvalidChunkSize;

    fn try_from(bytes: u32) -> Result<Self, Self::Error> {
        Self::new(bytes).ok_or(InvalidChunkSize { bytes })
    }
}

impl From<ChunkSize> for u32 {
    fn from(size: ChunkSize) -> Self {
        size.0
    }
}

impl fmt::Display for ChunkSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.0 >> 10)
    }
}

/// A number that is no chunk size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes is no chunk size: it is a power of two from 4096 to 1048576")]
pub struct InvalidChunkSize {
    /// The number given.
    pub bytes: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_disks_have_larger_chunks() {
        let bytes = |size| ChunkSize::for_disk(size).bytes();
        assert_eq!(bytes(1), 16 << 10);
        assert_eq!(bytes(256 << 30), 16 << 10);
        assert_eq!(bytes((256 << 30) + 1), 32 << 10);
        assert_eq!(bytes(1 << 40), 64 << 10);
        assert_eq!(bytes(62 << 40), 1 << 20);
    }

    #[test]
    fn the_last_chunk_may_be_short() {
        let size = ChunkSize::MIN;
        assert_eq!(size.count(4097), 2);
        assert_eq!(size.extent(1, 4097), Extent::between(4096, 4097));
        assert!(size.extent(2, 4097).is_empty() && size.extent(u64::MAX, 4097).is_empty());
        assert!(size.fits(Extent::between(0, 4097), 4097) && size.fits(Extent::between(0, 4096), 4097));
        assert!(!size.fits(Extent::between(0, 4097), 9000) && !size.fits(Extent::between(1, 4096), 9000));
        assert!(!size.fits(Extent::between(0, 8192), 4097) && !size.fits(Extent::between(0, 0), 4097));
    }

    #[test]
    fn only_powers_of_two_in_range_are_chunk_sizes() {
        assert!(ChunkSize::new(0).is_none() && ChunkSize::new(2048).is_none());
        assert!(ChunkSize::new(5000).is_none() && ChunkSize::new(2 << 20).is_none());
        assert_eq!(ChunkSize::new(4096), Some(ChunkSize::MIN));
    }
}
