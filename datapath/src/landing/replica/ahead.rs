//! Strokes that are prepared: what they overwrite is read, and what they bring.

use std::collections::VecDeque;

use roaring::RoaringBitmap;

use super::Error;
use super::keep::Keep;
use super::stroke::Stroke;
use crate::disk::Blocks;
use crate::journal::Batch;
use crate::limits;
use crate::ring::{self, Task};

/// A stroke, and its batch where what it overwrites is kept.
type Prepared = (Stroke, Option<Batch>);

/// Strokes whose reads run ahead, in the order in which they are to fall. Nothing
/// was changed for them yet.
#[derive(Default)]
pub(super) struct Ahead {
    strokes: VecDeque<Preparing>,
}

struct Preparing {
    chunks: RoaringBitmap,
    task: Task<Result<Prepared, Error>>,
}

impl Ahead {
    /// Whether one of them is on this chunk.
    pub fn touches(&self, chunk: u32) -> bool {
        self.strokes.iter().any(|preparing| preparing.chunks.contains(chunk))
    }

    /// Begins to prepare a stroke on `chunks`.
    pub fn push<B: Blocks + 'static>(
        &mut self,
        chunks: RoaringBitmap,
        stroke: impl Future<Output = Result<Stroke, Error>> + 'static,
        keep: Option<Keep<B>>,
    ) {
        let keep = async {
            match keep {
                Some(keep) => keep.run().await.map(Some),
                None => Ok(None),
            }
        };
        let task = ring::spawn(async { tokio::try_join!(stroke, keep) });
        self.strokes.push_back(Preparing { chunks, task });
    }

    /// Whether the oldest must be taken before another is prepared.
    pub fn is_full(&self) -> bool {
        self.strokes.len() >= limits::STROKES_AHEAD
    }

    /// The oldest, once it is prepared, with its chunks; `None` where there are none.
    pub async fn next(&mut self) -> Result<Option<(RoaringBitmap, Prepared)>, Error> {
        let Some(preparing) = self.strokes.front_mut() else { return Ok(None) };
        let prepared = preparing.task.join().await;
        let Some(Preparing { chunks, .. }) = self.strokes.pop_front() else { return Ok(None) };
        let prepared = prepared.map_err(|source| Error::Memory { source })??;
        Ok(Some((chunks, prepared)))
    }
}
