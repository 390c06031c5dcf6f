//! Cuts: an epoch becomes a recovery point.

use super::{Course, Error, Replica};
use crate::delta::Manifest;
use crate::disk::Blocks;
use crate::journal::{Clock, PairState, PointKind, PointRecord, Volume};
use crate::limits;
use crate::unit::{Chain, DeltaNumber, Epoch, Generation, MachineCut};

/// What a source says of the epoch that it has cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The state that the epoch belongs to.
    pub generation: Generation,
    /// The epoch.
    pub epoch: Epoch,
    /// How many deltas it has.
    pub deltas: DeltaNumber,
    /// Of all of them.
    pub manifest: Manifest,
    /// The head of the chain with this epoch.
    pub chain: Chain,
    /// What the point promises.
    pub kind: PointKind,
    /// Given by whoever asked for it; else empty.
    pub name: String,
    /// What it has in common with the cuts of the machine's other disks.
    pub machine_cut: Option<MachineCut>,
    /// Chunks that changed in it.
    pub chunks: u64,
    /// When it was cut, by the source's clock.
    pub cut_unix_ms: u64,
    /// For how long the source was frozen.
    pub freeze_ms: u32,
}

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// Closes the open epoch. When it returns the point is durable, and the
    /// source may forget what was in it. Asked again for a point that exists,
    /// because the answer was lost, it says the same.
    ///
    /// # Errors
    /// A cut that is not the sum of what landed is refused; the epoch goes on.
    pub async fn cut(&mut self, cut: &Cut) -> Result<PointRecord, Error> {
        self.step(async |replica| {
            replica.check_generation(cut.generation)?;
            if let Some(point) = replica.made_before(cut)? {
                return Ok(point);
            }
            replica.check_landing("a cut")?;
            replica.check_epoch(cut.generation, cut.epoch)?;
            replica.check_cut(cut)?;
            let point = replica.close(cut).await?;
            if replica.state() != PairState::Protected {
                replica.journal.update_pair(|pair| pair.state = PairState::Protected).await?;
            }
            Ok(point)
        })
        .await
    }

    fn made_before(&self, cut: &Cut) -> Result<Option<PointRecord>, Error> {
        if cut.epoch >= self.journal.open_epoch() {
            return Ok(None);
        }
        match self.journal.point(cut.epoch) {
            Ok(point) if point.chain == cut.chain => Ok(Some(point.clone())),
            Ok(_) => Err(Error::Cut { epoch: cut.epoch, what: "that epoch was closed otherwise" }),
            Err(error) => Err(error.into()),
        }
    }

    fn check_cut(&self, cut: &Cut) -> Result<(), Error> {
        let differs = |what| Err(Error::Cut { epoch: cut.epoch, what });
        if cut.deltas != self.course.landed {
            return differs("not all of them have landed, or more");
        }
        if cut.manifest != self.course.manifest {
            return differs("its manifest is another");
        }
        if matches!(cut.kind, PointKind::Rewind { .. }) {
            return differs("a source does not rewind");
        }
        if cut.cut_unix_ms > limits::CUT_UNIX_MS_MAX {
            return differs("its time is past the year 9999: set the clock of the source");
        }
        if cut.name.len() > limits::POINT_NAME_MAX || cut.name.contains(char::is_control) {
            return differs("its name is longer than a line, or no line of text");
        }
        let expected = self.chain_with(cut.manifest);
        if cut.chain != expected {
            return Err(Error::Chain { epoch: cut.epoch, given: cut.chain, expected });
        }
        Ok(())
    }

    /// The head of the chain once the open epoch is a point with this manifest.
    pub(super) fn chain_with(&self, manifest: Manifest) -> Chain {
        let generation = self.journal.pair().generation;
        Chain::next(self.chain(), generation, self.journal.open_epoch(), manifest)
    }

    /// The head of the chain at the newest point.
    pub fn chain(&self) -> Chain {
        self.journal.points().next_back().map_or(Chain::START, |point| point.chain)
    }

    /// Flushes the target and records the point.
    pub(super) async fn close(&mut self, cut: &Cut) -> Result<PointRecord, Error> {
        self.flush_target().await?;
        let point = PointRecord {
            generation: cut.generation,
            epoch: cut.epoch,
            kind: cut.kind,
            name: cut.name.clone(),
            machine_cut: cut.machine_cut,
            cut_unix_ms: cut.cut_unix_ms,
            closed_unix_ms: Clock::now().wall_unix_ms,
            freeze_ms: cut.freeze_ms,
            deltas: cut.deltas,
            chunks: cut.chunks,
            manifest: cut.manifest.0,
            chain: cut.chain,
        };
        self.journal.close_epoch(point.clone()).await?;
        self.course = Course::default();
        Ok(point)
    }
}
