//! Numbers with their units as types: extents, chunk and sector sizes, digests,
//! generations and epochs.
//!
//! In: plain integers from ioctls, descriptors and frames. Out: values that
//! cannot be mixed up. Invariants: an [`Extent`] never ends past `u64::MAX`; a
//! [`SectorSize`] is a power of two from 512 to 65,536. Never: does I/O.

mod chunk;
mod lineage;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use chunk::{ChunkSize, InvalidChunkSize};
pub use lineage::{Chain, DeltaNumber, Epoch, Generation, MachineCut};

/// A byte range of a disk: `offset` and `length` in bytes.
///
/// The end never overflows: [`Extent::new`] is the only way to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    offset: u64,
    length: u64,
}

impl Extent {
    /// An extent of `length` bytes from `offset`; `None` where its end would
    /// not fit into 64 bits.
    #[must_use]
    pub const fn new(offset: u64, length: u64) -> Option<Self> {
        match offset.checked_add(length) {
            Some(_) => Some(Self { offset, length }),
            None => None,
        }
    }

    /// The extent from `start` up to, not including, `end`; empty where they cross.
    #[must_use]
    pub const fn between(start: u64, end: u64) -> Self {
        Self { offset: start, length: end.saturating_sub(start) }
    }

    /// First byte.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset
    }

    /// Number of bytes.
    #[must_use]
    pub const fn length(self) -> u64 {
        self.length
    }

    /// First byte after the extent.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.offset + self.length
    }

    /// Whether it holds no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }

    /// The bytes that both hold; `None` where they share none.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.offset.max(other.offset);
        let end = self.end().min(other.end());
        (start < end).then(|| Self::between(start, end))
    }

    /// Splits into pieces that end at multiples of `step` bytes (the last may
    /// end earlier). `step` must not be zero.
    pub fn split_at_multiples(self, step: u64) -> impl Iterator<Item = Self> {
        let mut at = self.offset;
        let end = self.end();
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let next = (at / step).checked_add(1).and_then(|n| n.checked_mul(step)).unwrap_or(end).min(end);
            let piece = Self::between(at, next);
            at = next;
            Some(piece)
        })
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}..{}", self.offset, self.end())
    }
}

/// The logical sector size of a disk in bytes: a power of two, 512 to 65,536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SectorSize(u32);

impl SectorSize {
    /// The sector of nearly every virtual disk.
    pub const BYTES_512: Self = Self(512);
    /// The sector of 4Kn disks.
    pub const BYTES_4096: Self = Self(4096);

    /// A sector size of `bytes`; `None` where no disk has it.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= 512 && bytes <= 65_536 { Some(Self(bytes)) } else { None }
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Whether `value` (bytes) lies on a sector boundary.
    #[must_use]
    pub const fn divides(self, value: u64) -> bool {
        value & (self.0 as u64 - 1) == 0
    }
}

impl TryFrom<u32> for SectorSize {
    type Error = InvalidSectorSize;

    fn try_from(bytes: u32) -> Result<Self, Self::Error> {
        Self::new(bytes).ok_or(InvalidSectorSize { bytes })
    }
}

impl From<SectorSize> for u32 {
    fn from(size: SectorSize) -> Self {
        size.0
    }
}

/// A number that is no sector size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes is no sector size: it is a power of two from 512 to 65536")]
pub struct InvalidSectorSize {
    /// The number given.
    pub bytes: u32,
}

/// The digest of one chunk, or of a list of digests: 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; Self::BYTES]);

impl Digest {
    /// Size of a digest on the wire.
    pub const BYTES: usize = 16;
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A 64-bit count as a `usize`: every target that failback builds for is 64-bit,
/// which the assertion beside it holds at compile time.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "usize is 64 bits wide, asserted below")]
pub const fn to_usize(value: u64) -> usize {
    value as usize
}

/// A `usize` as 64 bits, which it always fits.
#[must_use]
pub const fn to_u64(value: usize) -> u64 {
    value as u64
}

const _: () = assert!(usize::BITS == 64, "failback is built for 64-bit machines only");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_never_ends_past_the_last_number() {
        assert!(Extent::new(u64::MAX, 1).is_none());
        assert!(Extent::new(u64::MAX, 0).is_some());
    }

    #[test]
    fn split_covers_every_byte_once_and_ends_on_multiples() {
        let pieces: Vec<_> = Extent::between(5, 23).split_at_multiples(8).collect();
        assert_eq!(pieces, [Extent::between(5, 8), Extent::between(8, 16), Extent::between(16, 23)]);
        assert_eq!(Extent::between(u64::MAX - 3, u64::MAX).split_at_multiples(1 << 20).count(), 1);
        assert_eq!(Extent::between(7, 7).split_at_multiples(8).count(), 0);
    }

    #[test]
    fn intersection_is_empty_for_neighbours() {
        assert_eq!(Extent::between(0, 4).intersection(Extent::between(4, 8)), None);
        assert_eq!(Extent::between(0, 5).intersection(Extent::between(4, 8)), Some(Extent::between(4, 5)));
    }

    #[test]
    fn sector_sizes_are_powers_of_two_in_range() {
        assert!(
            SectorSize::new(0).is_none() && SectorSize::new(513).is_none() && SectorSize::new(256).is_none()
        );
        assert!(SectorSize::BYTES_4096.divides(8192) && !SectorSize::BYTES_4096.divides(512));
    }
}
