//! A batch on its way into the log.

use super::log::Placed;
use super::{Batch, Error, VolumeFile};

/// A batch that has its place in the log. From [`super::Journal::begin_append`].
pub struct Appending<F> {
    batch: Batch,
    placed: Placed<F>,
}

impl<F: VolumeFile> Appending<F> {
    pub(super) const fn new(batch: Batch, placed: Placed<F>) -> Self {
        Self { batch, placed }
    }

    /// Writes the batch and waits until it is durable: from then on its chunks may
    /// be overwritten. Whoever runs several of these at the same time shares
    /// flushes among them. The batch comes back empty, whatever happens.
    ///
    /// # Errors
    /// After one the journal is [`Error::Broken`].
    pub async fn finish(self) -> (Result<(), Error>, Batch) {
        let Self { mut batch, placed } = self;
        let (written, buffer) = placed.write().await;
        batch.give_buffer(buffer);
        batch.clear();
        let durable = match written {
            Ok(written) => written.durable().await,
            Err(error) => Err(error),
        };
        (durable, batch)
    }
}
