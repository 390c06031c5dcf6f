//! Strokes that are falling, oldest first.

use std::collections::VecDeque;

use roaring::RoaringBitmap;
use tokio::sync::watch;

use super::Error;
use crate::limits;
use crate::ring::{self, Task};

/// The strokes of one replica that are on their way into journal and target. They
/// fall side by side; of two on the same chunk the later waits for the earlier.
#[derive(Default)]
pub(super) struct InHand {
    strokes: VecDeque<Held>,
}

struct Held {
    chunks: RoaringBitmap,
    has_fallen: watch::Receiver<()>,
    task: Task<Result<(), Error>>,
}

impl InHand {
    /// Those that a stroke on `chunks` must wait for.
    pub fn meeting(&self, chunks: &RoaringBitmap) -> Vec<watch::Receiver<()>> {
        let meets = self.strokes.iter().filter(|held| !held.chunks.is_disjoint(chunks));
        meets.map(|held| held.has_fallen.clone()).collect()
    }

    /// Lets a stroke on `chunks` fall; `has_fallen` hears its end.
    pub fn push(
        &mut self,
        chunks: RoaringBitmap,
        has_fallen: watch::Receiver<()>,
        fall: impl Future<Output = Result<(), Error>> + 'static,
    ) {
        self.strokes.push_back(Held { chunks, has_fallen, task: ring::spawn(fall) });
    }

    /// Waits until there is room for one more.
    ///
    /// # Errors
    /// That of a stroke; the others may still be falling.
    pub async fn admit(&mut self) -> Result<(), Error> {
        while self.strokes.len() >= limits::STROKES_IN_HAND
            || self.strokes.front().is_some_and(|held| held.task.is_finished())
        {
            self.end_oldest().await?;
        }
        Ok(())
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// The first error, after all have ended.
    pub async fn settle(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        while !self.strokes.is_empty() {
            result = result.and(self.end_oldest().await);
        }
        result
    }

    async fn end_oldest(&mut self) -> Result<(), Error> {
        let Some(held) = self.strokes.front_mut() else { return Ok(()) };
        let ended = held.task.join().await;
        self.strokes.pop_front();
        ended.map_err(|source| Error::Memory { source })?
    }
}
