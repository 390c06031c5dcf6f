//! A replica as a session's landing.

use super::{Landing, Standing};
use crate::delta::{Opened, Shape};
use crate::disk::Blocks;
use crate::error::{Remediable, Remedy};
use crate::journal::{PairState, PointKind, Volume};
use crate::landing::replica::{self, Cut as ReplicaCut, Error, Replica};
use crate::role::LandingError;
use crate::unit::{Chain, DeltaNumber, Digest, Epoch, Extent};
use crate::wire::{self, CutKind};

impl From<Error> for LandingError {
    fn from(error: Error) -> Self {
        match error.remedy() {
            _ if error.is_full() => Self::Full(error.into()),
            Remedy::Retry | Remedy::Stop => Self::Failed(error.into()),
            Remedy::Reconnect | Remedy::Resync | Remedy::Refused => Self::Unfit(error.into()),
        }
    }
}

impl<B: Blocks + 'static, V: Volume> Landing for Replica<B, V> {
    fn standing(&self) -> Standing {
        let replica::Position { generation, epoch, landed, manifest, .. } = self.position();
        let pair = self.journal().pair();
        Standing {
            position: wire::Position { generation, epoch, landed },
            manifest,
            chain: self.chain(),
            newest: self.journal().points().next_back().map(|point| point.epoch),
            shape: Shape {
                disk_bytes: pair.size_bytes,
                chunk: pair.chunk_size,
                algorithm: pair.digest_algorithm,
            },
            key: pair.key.0,
        }
    }

    async fn begin_synchronization(&mut self) -> Result<(), LandingError> {
        // A first one goes on where it was, and so does one that was begun.
        if self.position().state == PairState::Protected {
            self.begin_synchronization().await?;
        }
        Ok(())
    }

    async fn want(&mut self, window: Extent, digests: &[Digest]) -> Result<Vec<bool>, LandingError> {
        let pair = self.journal().pair();
        let (generation, first) = (pair.generation, pair.chunk_size.index(window.offset()));
        let wanted = self.want(generation, window, digests).await?;
        let is_wanted = |chunk: u64| u32::try_from(chunk).is_ok_and(|chunk| wanted.contains(chunk));
        Ok((first..).take(digests.len()).map(is_wanted).collect())
    }

    async fn land(&mut self, deltas: &[Opened]) -> Result<(), LandingError> {
        Ok(self.land(deltas).await?)
    }

    async fn checkpoint(&mut self) -> Result<DeltaNumber, LandingError> {
        Ok(self.checkpoint().await?)
    }

    async fn cut(&mut self, cut: &wire::Cut) -> Result<Chain, LandingError> {
        let position = self.position();
        let chunks = match position.state {
            // A first synchronization keeps no account of the chunks it wrote.
            PairState::Initial => self.journal().pair().chunks(),
            _ => self.journal().touched_chunks().len(),
        };
        let cut = ReplicaCut {
            generation: position.generation,
            epoch: cut.epoch,
            deltas: cut.deltas,
            manifest: cut.manifest,
            chain: cut.chain,
            kind: match cut.kind {
                CutKind::Crash => PointKind::Crash,
                CutKind::App => PointKind::App,
                CutKind::Final => PointKind::Final,
            },
            name: cut.name.clone(),
            chunks,
            cut_unix_ms: cut.cut_unix_ms,
            freeze_ms: cut.freeze_ms,
        };
        Ok(self.cut(&cut).await?.chain)
    }

    async fn fence(&mut self, epoch: Epoch) -> Result<(), LandingError> {
        let newest = self.journal().points().next_back();
        if !newest.is_some_and(|point| point.epoch == epoch && point.kind == PointKind::Final) {
            let reason = format!("epoch {epoch} is not the newest point, or not a final one");
            return Err(LandingError::Unfit(reason.into()));
        }
        Ok(self.fence().await?)
    }
}
