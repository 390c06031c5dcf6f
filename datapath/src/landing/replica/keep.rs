//! Keeping what a stroke will overwrite: read it, and pack it into a batch.

use std::rc::Rc;

use super::Error;
use super::reading::Reading;
use crate::disk::Blocks;
use crate::journal::{Batch, Pair};
use crate::limits;
use crate::pipeline::{Digester, Pool};
use crate::unit::{ChunkSize, Digest, Extent, to_usize};

/// What the journal is to be told of a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// What it held: this epoch touches it for the first time.
    Whole,
    /// That it is overwritten again.
    Again,
    /// That it is overwritten: there is no point to go back to.
    Unkept,
}

/// A batch to be filled. It borrows nothing, so that the target is read for one
/// stroke while another is packed.
pub(super) struct Keep<B> {
    pub disk: Rc<B>,
    pub windows: Pool,
    pub batch: Batch,
    pub chunk: ChunkSize,
    pub disk_bytes: u64,
    pub digester: Digester,
    /// Each with the digest of what it will hold.
    pub chunks: Vec<(u64, Digest, Told)>,
}

impl<B: Blocks + 'static> Keep<B> {
    /// Fills it.
    pub async fn run(self) -> Result<Batch, Error> {
        let Self { disk, windows, mut batch, chunk: size, disk_bytes, digester, chunks } = self;
        let fresh = chunks.iter().filter(|(_, _, told)| *told == Told::Whole).map(|(chunk, ..)| *chunk);
        let plan = runs(fresh, size, disk_bytes).into_iter();
        let mut reading = Reading::new(disk, windows, plan);
        let mut window = None;
        for (chunk, new, told) in chunks {
            match told {
                Told::Unkept => batch.unkept(chunk, new)?,
                Told::Again => batch.again(chunk, new)?,
                Told::Whole => {
                    let extent = size.extent(chunk, disk_bytes);
                    let holds = |(read, _): &(Extent, _)| read.intersection(extent).is_some();
                    if !window.as_ref().is_some_and(holds) {
                        // The buffer goes back before the next is asked for.
                        drop(window.take());
                        window = reading.next().await?;
                    }
                    let Some((read, buffer)) = &window else {
                        return Err(Error::Unaligned { extent });
                    };
                    let from = to_usize(extent.offset() - read.offset());
                    let old = &buffer.bytes()[from..from + to_usize(extent.length())];
                    batch.keep(chunk, old, digester.digest(old), new)?;
                }
            }
        }
        Ok(batch)
    }
}

/// How many chunks one stroke takes.
pub(super) fn chunks_of_a_stroke(pair: &Pair) -> usize {
    let images = limits::BATCH_IMAGE_BYTES_MAX / to_usize(u64::from(pair.chunk_size.bytes()));
    images.clamp(1, limits::BATCH_CHUNKS_MAX)
}

/// Ascending or not, neighbours among `chunks` as extents of at most a window.
pub(super) fn runs(chunks: impl IntoIterator<Item = u64>, chunk: ChunkSize, disk_bytes: u64) -> Vec<Extent> {
    let mut runs: Vec<Extent> = Vec::new();
    for index in chunks {
        let extent = chunk.extent(index, disk_bytes);
        match runs.last_mut() {
            Some(last)
                if last.end() == extent.offset()
                    && last.length() + extent.length() <= u64::from(limits::WINDOW_BYTES) =>
            {
                *last = Extent::between(last.offset(), extent.end());
            }
            _ => runs.push(extent),
        }
    }
    runs
}
