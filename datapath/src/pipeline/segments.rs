//! The plan of a run: segments handed to lanes, windows within a segment.

use crate::limits;
use crate::unit::Extent;

/// The segments of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    size_bytes: u64,
}

impl Segments {
    /// The segments of a disk of `size_bytes`.
    #[must_use]
    pub const fn new(size_bytes: u64) -> Self {
        Self { size_bytes }
    }

    /// Size of the disk in bytes.
    #[must_use]
    pub const fn size_bytes(self) -> u64 {
        self.size_bytes
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.size_bytes.div_ceil(limits::SEGMENT_BYTES)
    }

    /// Segment number `index`; empty past the end.
    #[must_use]
    pub const fn extent(self, index: u64) -> Extent {
        let start = index.saturating_mul(limits::SEGMENT_BYTES);
        let end = start.saturating_add(limits::SEGMENT_BYTES);
        Extent::between(start, if end < self.size_bytes { end } else { self.size_bytes })
    }

    /// The segment that `offset` lies in.
    #[must_use]
    pub const fn index_of(offset: u64) -> u64 {
        offset / limits::SEGMENT_BYTES
    }

    /// The windows of segment `index`, in order.
    pub fn windows(self, index: u64) -> impl Iterator<Item = Extent> {
        self.extent(index).split_at_multiples(u64::from(limits::WINDOW_BYTES))
    }

    /// The windows that lane `lane` of `lanes` walks: every `lanes`-th segment.
    /// Both ends of a connection count alike, so nothing is handed out by word.
    pub fn windows_of_lane(self, lane: u64, lanes: u64) -> impl Iterator<Item = Extent> {
        (0..)
            .map(move |turn: u64| turn.saturating_mul(lanes).saturating_add(lane))
            .take_while(move |index| *index < self.count())
            .flat_map(move |index| self.windows(index))
    }
}

/// Number of chunks that cover `extent`, which starts on a chunk.
#[must_use]
pub const fn chunk_count(extent: Extent) -> u64 {
    extent.length().div_ceil(limits::CHUNK_BYTES as u64)
}

/// The chunks of `extent`, in order; the last may be shorter.
pub fn chunk_extents(extent: Extent) -> impl Iterator<Item = Extent> {
    extent.split_at_multiples(u64::from(limits::CHUNK_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_cover_every_byte_once() {
        for size in [1, 511, 64 << 20, (64 << 20) + 1, (200 << 20) + 12_345] {
            for lanes in 1..=5 {
                let segments = Segments::new(size);
                let mut all: Vec<_> =
                    (0..lanes).flat_map(|lane| segments.windows_of_lane(lane, lanes)).collect();
                all.sort_unstable();
                let mut at = 0;
                for window in all {
                    assert_eq!(window.offset(), at);
                    assert!(window.length() <= u64::from(limits::WINDOW_BYTES) && !window.is_empty());
                    at = window.end();
                }
                assert_eq!(at, size);
            }
        }
    }
}
