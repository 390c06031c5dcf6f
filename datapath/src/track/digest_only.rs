//! Without tracking: everything may have changed.

use super::chunk_set::ChunkSet;
use super::doubt::Doubt;
use super::layout::Geometry;
use super::marks::Parity;
use super::source::{ChangeSource, Drained, Statistics};
use crate::unit::Extent;

/// Knows no changes: each epoch offers the whole disk once. What is written
/// behind its back during an epoch is seen in the next, so its points are exact
/// only where nothing writes while the epoch is read.
#[derive(Debug)]
pub struct DigestOnly {
    geometry: Geometry,
    pending: ChunkSet,
    in_transit: [ChunkSet; 2],
}

impl DigestOnly {
    /// For a disk of this size, whose bitmaps (three) it holds in memory.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        let empty = ChunkSet::empty(geometry.chunks());
        let pending = ChunkSet::full(geometry.chunks());
        Self { geometry, pending, in_transit: [empty.clone(), empty] }
    }

    fn transit(&mut self, parity: Parity) -> &mut ChunkSet {
        &mut self.in_transit[usize::from(parity == Parity::Odd)]
    }
}

impl ChangeSource for DigestOnly {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn knows_changes(&self) -> bool {
        false
    }

    fn drain(&mut self, parity: Parity, budget: u64, into: &mut ChunkSet) -> Result<Drained, Doubt> {
        let before = into.len();
        let mut taken = 0;
        while taken < budget
            && let Some(run) = self.pending.next_run(0, budget - taken)
        {
            taken += run.end - run.start;
            self.pending.remove_range(run.clone());
            into.insert_range(run.clone());
            self.transit(parity).insert_range(run);
        }
        Ok(Drained { chunks: into.len() - before, is_complete: self.pending.is_empty() })
    }

    fn give_back(&mut self, extents: &[Extent]) {
        for extent in extents {
            self.pending.insert_extent(*extent, self.geometry.chunk_size);
        }
    }

    fn confirmed(&mut self, parity: Parity) {
        self.transit(parity).clear();
        // The next epoch offers everything again.
        self.pending = ChunkSet::full(self.geometry.chunks());
    }

    fn restart(&mut self) -> ChunkSet {
        let [even, odd] = &mut self.in_transit;
        let mut returned = even.clone();
        returned.insert_all(odd);
        even.clear();
        odd.clear();
        self.pending.insert_all(&returned);
        returned
    }

    fn mark_all(&mut self) -> Result<(), Doubt> {
        *self = Self::new(self.geometry);
        Ok(())
    }

    fn check(&mut self) -> Result<(), Doubt> {
        Ok(())
    }

    fn dirty_chunks(&self) -> u64 {
        self.pending.len()
    }

    fn statistics(&self) -> Statistics {
        let in_transit_chunks = [self.in_transit[0].len(), self.in_transit[1].len()];
        Statistics { dirty_chunks: self.pending.len(), in_transit_chunks, ..Statistics::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::ChunkSize;

    #[test]
    fn each_epoch_offers_everything_once() {
        let geometry = Geometry { size_bytes: 100 * 4096 - 7, chunk_size: ChunkSize::MIN };
        let (mut source, mut set) = (DigestOnly::new(geometry), ChunkSet::empty(100));
        let first = source.drain(Parity::Odd, 30, &mut set);
        assert_eq!(first, Ok(Drained { chunks: 30, is_complete: false }));
        assert_eq!((source.dirty_chunks(), source.statistics().in_transit_chunks), (70, [0, 30]));
        assert_eq!(source.restart().len(), 30);
        assert!(source.drain(Parity::Odd, u64::MAX, &mut set).is_ok_and(|drained| drained.is_complete));
        assert_eq!((set.len(), source.dirty_chunks()), (100, 0));
        source.give_back(&[Extent::between(4096, 8193)]);
        assert_eq!(source.dirty_chunks(), 2);
        source.confirmed(Parity::Odd);
        assert_eq!((source.dirty_chunks(), source.knows_changes()), (100, false));
    }
}
