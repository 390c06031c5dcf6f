//! Strokes that are falling, oldest first.

use roaring::RoaringBitmap;
use tokio::sync::watch;

use super::Error;
use super::in_flight::InFlight;
use crate::limits;

/// The strokes of one replica that are on their way into journal and target. They
/// fall side by side; of two on the same chunk the later waits for the earlier.
#[derive(Default)]
pub(super) struct InHand {
    strokes: InFlight<Held>,
}

struct Held {
    chunks: RoaringBitmap,
    has_fallen: watch::Receiver<()>,
}

impl InHand {
    /// Those that a stroke on `chunks` must wait for.
    pub fn meeting(&self, chunks: &RoaringBitmap) -> Vec<watch::Receiver<()>> {
        let meets = self.strokes.all().filter(|held| !held.chunks.is_disjoint(chunks));
        meets.map(|held| held.has_fallen.clone()).collect()
    }

    /// Lets a stroke on `chunks` fall; `has_fallen` hears its end.
    pub fn push(
        &mut self,
        chunks: RoaringBitmap,
        has_fallen: watch::Receiver<()>,
        fall: impl Future<Output = Result<(), Error>> + 'static,
    ) {
        self.strokes.push(Held { chunks, has_fallen }, fall);
    }

    /// Waits until there is room for one more.
    ///
    /// # Errors
    /// That of a stroke; the others may still be falling.
    pub async fn admit(&mut self) -> Result<(), Error> {
        self.strokes.admit(limits::STROKES_IN_HAND, |_| false).await
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// The first error, after all have ended.
    pub async fn settle(&mut self) -> Result<(), Error> {
        self.strokes.settle().await
    }
}
