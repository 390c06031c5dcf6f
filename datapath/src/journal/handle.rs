//! The journal of one pair, opened to be written.

use std::ops::Range;

use roaring::RoaringBitmap;

use super::{Batch, BeforeImage, Clock, Error, Expired, Pair, PointRecord, RetentionPolicy, Space, Volume};
use crate::unit::{DeltaNumber, Digest, Epoch, Extent};

/// What opening a journal found of the epoch that was open.
#[derive(Debug)]
pub struct Recovery {
    /// The epoch that is open; it goes on.
    pub open_epoch: Epoch,
    /// Everything up to this delta of it is durable on the target.
    pub landed: DeltaNumber,
    /// Manifest of the open epoch up to that delta.
    pub manifest: crate::delta::Manifest,
    /// Chunks that hold old bytes, new bytes, or some of each: their batches were
    /// durable, and whether they were overwritten is not known.
    pub suspect: RoaringBitmap,
    /// Bytes of a torn tail that were given up.
    pub torn_bytes: u64,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Bytes that it takes in its segment.
    pub bytes: u64,
    /// Chunks that it was the first to touch in this epoch.
    pub first_touches: usize,
}

/// The journal of one pair, opened to be written.
pub struct Journal<V: Volume> {
    volume: V,
    pair: Pair,
}

impl<V: Volume> Journal<V> {
    /// Makes the journal of `pair` in an empty directory.
    pub async fn create(volume: V, pair: Pair) -> Result<Self, Error> {
        let _ = volume.names();
        Ok(Self { volume, pair })
    }
    /// Opens it.
    pub async fn open(volume: V) -> Result<(Self, Recovery), Error> {
        let _ = volume.names();
        Err(Error::Broken)
    }
    /// The pair.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }
    /// Changes state, generation, pins or path of the pair, durably.
    pub async fn update_pair(&mut self, change: impl FnOnce(&mut Pair)) -> Result<(), Error> {
        change(&mut self.pair);
        Ok(())
    }
    /// An empty batch.
    pub fn batch(&mut self) -> Result<Batch, Error> {
        Err(Error::Broken)
    }
    /// Writes a batch; durable after `flush`.
    pub async fn append(&mut self, _batch: Batch) -> Result<Appended, Error> {
        Err(Error::Broken)
    }
    /// Makes what was appended durable.
    pub async fn flush(&mut self) -> Result<(), Error> {
        Err(Error::Broken)
    }
    /// Records durably that the target was flushed after `delta` was written.
    pub async fn landed(&mut self, _delta: DeltaNumber, _manifest: [u8; 32]) -> Result<(), Error> {
        Err(Error::Broken)
    }
    /// Closes the open epoch. The target was flushed.
    pub async fn close_epoch(&mut self, _point: PointRecord) -> Result<(), Error> {
        Err(Error::Broken)
    }
    /// Forgets the open epoch: the target holds the newest point again, flushed.
    pub async fn roll_back(&mut self) -> Result<Epoch, Error> {
        Err(Error::Broken)
    }
    /// The open epoch.
    pub fn open_epoch(&self) -> Epoch {
        Epoch::FIRST
    }
    /// Delta of the open epoch up to which the target is durable.
    pub fn landed_delta(&self) -> DeltaNumber {
        DeltaNumber(0)
    }
    /// Whether the open epoch touched this chunk.
    pub fn touched(&self, _chunk: u64) -> bool {
        false
    }
    /// Chunks that the open epoch touched.
    pub fn touched_chunks(&self) -> &RoaringBitmap {
        unreachable!()
    }
    /// All points, oldest first.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = &PointRecord> {
        [].iter()
    }
    /// One point.
    pub fn point(&self, _epoch: Epoch) -> Result<&PointRecord, Error> {
        Err(Error::Broken)
    }
    /// What these chunks held at the point `since`, where they changed after it.
    pub async fn before_images(
        &self,
        _chunks: Range<u64>,
        _since: Epoch,
    ) -> Result<Vec<Option<BeforeImage>>, Error> {
        Err(Error::Broken)
    }
    /// Reads and verifies a before-image into `into`, which is the chunk's size.
    pub async fn read_image(&self, _image: &BeforeImage, _into: &mut [u8]) -> Result<(), Error> {
        Err(Error::Broken)
    }
    /// Turns `bytes`, read from the target at `extent` (whole chunks), into what it held at point `at`.
    pub async fn overlay(&self, _at: Epoch, _extent: Extent, _bytes: &mut [u8]) -> Result<(), Error> {
        Err(Error::Broken)
    }
    /// Chunks touched in epochs after `epoch`, the open one included.
    pub async fn chunks_since(&self, _epoch: Epoch) -> Result<RoaringBitmap, Error> {
        Err(Error::Broken)
    }
    /// Digests of what the target holds, where known.
    pub async fn digests(&self, _chunks: Range<u64>) -> Result<Vec<Option<Digest>>, Error> {
        Err(Error::Broken)
    }
    /// Pins a point.
    pub async fn pin(&mut self, _epoch: Epoch) -> Result<(), Error> {
        Err(Error::Broken)
    }
    /// Unpins it.
    pub async fn unpin(&mut self, _epoch: Epoch) -> Result<(), Error> {
        Err(Error::Broken)
    }
    /// Drops points.
    pub async fn expire(&mut self, _policy: &RetentionPolicy, _now: Clock) -> Result<Expired, Error> {
        Err(Error::Broken)
    }
    /// Merges indexes where due; call after each point, once it was answered.
    pub async fn merge(&mut self) -> Result<(), Error> {
        Err(Error::Broken)
    }
    /// How much space it takes.
    pub fn space(&self) -> Result<Space, Error> {
        Err(Error::Broken)
    }
    /// Whether an epoch that touches `chunks` chunks would fit in the worst case.
    pub fn ensure_room(&self, _chunks: u64) -> Result<(), Error> {
        Err(Error::Broken)
    }
}
