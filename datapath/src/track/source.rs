//! What an agent asks of whatever knows which chunks changed.

use super::chunk_set::ChunkSet;
use super::doubt::Doubt;
use super::layout::Geometry;
use super::marks::Parity;
use crate::unit::Extent;

/// Knows which chunks of one disk changed.
///
/// A round: [`drain`](Self::drain) into an epoch's bitmap, read what was drained
/// (`O_DIRECT`: a buffered read may be older than the mark), send it; give back
/// what was not sent. When the point of the epoch exists, its bitmap is
/// [`confirmed`](Self::confirmed). Until then nothing is forgotten.
pub trait ChangeSource {
    /// The disk and its chunks.
    fn geometry(&self) -> Geometry;

    /// Whether the chunks that it drains have changed for certain (and are sent),
    /// or may be equal (and are offered by their digests).
    fn knows_changes(&self) -> bool;

    /// Moves marks to the bitmap of `parity` and puts them into `into`: about
    /// `budget` chunks (up to 63 more), going on where the last call stopped.
    /// Then looks for doubts, so that whatever completed before the call is
    /// either drained or doubted.
    ///
    /// # Errors
    /// A [`Doubt`]: from then on every call says so, until
    /// [`mark_all`](Self::mark_all) or a new installation.
    fn drain(&mut self, parity: Parity, budget: u64, into: &mut ChunkSet) -> Result<Drained, Doubt>;

    /// Marks what these extents (bytes) touch again.
    fn give_back(&mut self, extents: &[Extent]);

    /// The point of the epoch exists: forgets what is in transit in its bitmap.
    fn confirmed(&mut self, parity: Parity);

    /// After a restart, or when a cut is void: marks again what is in transit,
    /// and says what that was (it may have arrived, so it is offered).
    fn restart(&mut self) -> ChunkSet;

    /// Marks the whole disk, for a first synchronization or a resynchronization.
    /// What was doubted until now is made good by it.
    ///
    /// # Errors
    /// A [`Doubt`] that marking cannot make good: another disk, another size.
    fn mark_all(&mut self) -> Result<(), Doubt>;

    /// Looks for doubts.
    ///
    /// # Errors
    /// The first [`Doubt`].
    fn check(&mut self) -> Result<(), Doubt>;

    /// Sees that marks outlive this agent, also where somebody took away what
    /// holds them.
    ///
    /// # Errors
    /// Why they may not, for people.
    fn keep(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Chunks that are marked now.
    fn dirty_chunks(&self) -> u64;

    /// Figures for people.
    fn statistics(&self) -> Statistics;
}

/// What a drain did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Chunks that were put into the set and were not in it.
    pub chunks: u64,
    /// Whether it came to the end of the disk; otherwise the next call goes on.
    pub is_complete: bool,
}

/// Figures of a change source. Counts are since it was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Chunks marked.
    pub dirty_chunks: u64,
    /// Chunks in transit, even and odd epochs.
    pub in_transit_chunks: [u64; 2],
    /// Write requests issued.
    pub issued: u64,
    /// Write requests completed.
    pub completed: u64,
    /// Sectors of 512 bytes written.
    pub written_sectors: u64,
    /// Sectors of 512 bytes discarded.
    pub discarded_sectors: u64,
    /// Events that passed the programs by.
    pub misses: u64,
    /// Runs of both programs while the kernel measured, other disks' events included.
    pub measured_runs: u64,
    /// Time in them in nanoseconds.
    pub measured_ns: u64,
}
