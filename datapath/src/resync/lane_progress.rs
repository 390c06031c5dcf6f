//! How far a lane has come, as the frames of its source tell, which are in order.

use crate::limits;
use crate::pipeline::Segments;
use crate::unit::Extent;

/// The end of what a lane has dealt with.
#[derive(Debug, Default)]
pub(super) struct LaneProgress {
    until: u64,
}

impl LaneProgress {
    /// The bytes that are newly dealt with when a frame about `extent` is: those
    /// before it in its segment are too, or the source would have sent them.
    pub(super) fn reach(&mut self, extent: Extent) -> u64 {
        let from = self.until.max(Segments::index_of(extent.offset()) * limits::SEGMENT_BYTES);
        self.until = self.until.max(extent.end());
        extent.end().saturating_sub(from)
    }

    /// Whether `extent` lies behind all that came before.
    pub(super) const fn is_ahead(&self, extent: Extent) -> bool {
        extent.offset() >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SEGMENT_BYTES;

    #[test]
    fn a_lane_counts_each_byte_of_its_segments_once() {
        let mut progress = LaneProgress::default();
        let at = |begin, end| Extent::between(begin, end);
        assert_eq!(progress.reach(at(100, 200)), 200, "what is before it is equal");
        assert!(!progress.is_ahead(at(100, 200)) && progress.is_ahead(at(200, 201)));
        assert_eq!(progress.reach(at(200, 300)), 100);
        assert_eq!(progress.reach(at(0, SEGMENT_BYTES)), SEGMENT_BYTES - 300);
        // Its next segment is the third.
        let third = 2 * SEGMENT_BYTES;
        assert_eq!(progress.reach(at(third + 50, third + 60)), 60);
        assert_eq!(progress.reach(at(third, third + SEGMENT_BYTES)), SEGMENT_BYTES - 60);
    }
}
