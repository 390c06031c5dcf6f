//! Landing deltas: check, keep what was, overwrite.

use std::rc::Rc;

use tokio::sync::watch;

use super::ahead::Ahead;
use super::fall::Fall;
use super::keep::{Keep, Told};
use super::stroke::Gathering;
use super::{Error, Replica};
use crate::delta::Opened;
use crate::disk::Blocks;
use crate::journal::{PairState, Volume};
use crate::limits;
use crate::unit::{ChunkSize, DeltaNumber, Digest, to_u64};

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// Lands deltas that follow each other: all that there are at the moment, so
    /// that they share flushes. Returns when the last of them is on its way;
    /// nothing of them is durable before a [`Self::checkpoint`].
    ///
    /// # Errors
    /// Whatever is refused changed nothing. Where the journal is full
    /// ([`Error::is_full`]) the same deltas may come again. After an error of
    /// target or journal the replica has stopped.
    pub async fn land(&mut self, deltas: &[Opened]) -> Result<(), Error> {
        self.step(async |replica| {
            replica.check_deltas(deltas)?;
            let mut gathering = Gathering::new(replica.journal.pair());
            deltas.iter().for_each(|delta| gathering.add(delta));
            let mut ahead = Ahead::default();
            for stroke in gathering.strokes() {
                let chunks = stroke.chunks(replica.journal.pair(), &replica.zeroes);
                let numbers = chunks.iter().map(|(chunk, _)| narrow(*chunk)).collect();
                let keep = replica.keep(stroke.delta, chunks, &ahead)?;
                ahead.push(numbers, std::future::ready(Ok(stroke)), Some(keep));
                if ahead.is_full() {
                    replica.strike(&mut ahead).await?;
                }
            }
            while replica.strike(&mut ahead).await?.is_some() {}
            for delta in deltas {
                let manifest = replica.course.manifest.with(delta.head());
                replica.course = super::Course { landed: delta.head().number(), manifest };
            }
            Ok(())
        })
        .await
    }

    /// Makes everything that has landed durable, and says up to which delta that is.
    ///
    /// # Errors
    /// A failed flush stops the replica: what was written since the last good one
    /// is unknown.
    pub async fn checkpoint(&mut self) -> Result<DeltaNumber, Error> {
        self.step(async |replica| {
            replica.make_durable().await?;
            Ok(replica.journal.landed_delta())
        })
        .await
    }

    pub(super) async fn make_durable(&mut self) -> Result<(), Error> {
        self.flush_target().await?;
        if self.journal.landed_delta() != self.course.landed {
            self.journal.landed(self.course.landed, self.course.manifest).await?;
        }
        Ok(())
    }

    pub(super) async fn flush_target(&mut self) -> Result<(), Error> {
        self.in_hand.settle().await?;
        if !self.undurable.is_empty() {
            self.disk.flush().await?;
            self.undurable.clear();
        }
        Ok(())
    }

    fn check_deltas(&self, deltas: &[Opened]) -> Result<(), Error> {
        self.check_landing("a delta")?;
        let pair = self.journal.pair();
        let mut expected = self.course.landed.next();
        for delta in deltas {
            let (place, shape) = (delta.head().place(), delta.header().shape);
            self.check_epoch(place.generation, place.epoch)?;
            if place.number != expected {
                return Err(Error::Number { given: place.number, expected, epoch: place.epoch });
            }
            let differs = |what| Err(Error::Shape { place, what });
            if shape.disk_bytes != pair.size_bytes {
                return differs("its size");
            }
            if shape.chunk != pair.chunk_size {
                return differs("its chunk size");
            }
            if shape.algorithm != pair.digest_algorithm {
                return differs("its digest algorithm");
            }
            expected = expected.next();
        }
        Ok(())
    }

    /// What preparing a stroke on these chunks takes: reading what they hold.
    pub(super) fn keep(
        &mut self,
        delta: DeltaNumber,
        chunks: Vec<(u64, Digest)>,
        ahead: &Ahead,
    ) -> Result<Keep<B>, Error> {
        let kept = self.batches.borrow_mut().pop();
        let mut batch = kept.map_or_else(|| self.journal.batch(), Ok)?;
        batch.belongs_to(delta);
        let is_kept = self.state() != PairState::Initial;
        let tell = |(chunk, new)| match chunk {
            _ if !is_kept => (chunk, new, Told::Unkept),
            known if self.journal.touched(known) || ahead.touches(narrow(known)) => (known, new, Told::Again),
            fresh => (fresh, new, Told::Whole),
        };
        let pair = self.journal.pair();
        Ok(Keep {
            disk: Rc::clone(&self.disk),
            windows: self.windows.clone(),
            batch,
            chunk: pair.chunk_size,
            disk_bytes: pair.size_bytes,
            digester: pair.digester(),
            chunks: chunks.into_iter().map(tell).collect(),
        })
    }

    /// Lets the oldest prepared stroke fall: its before-images get their place in
    /// the log, and it is on its way. Gives its delta; `None` where there is none.
    pub(super) async fn strike(&mut self, ahead: &mut Ahead) -> Result<Option<DeltaNumber>, Error> {
        let struck = self.strike_next(ahead).await;
        if struck.is_err() {
            // Nothing is left behind that still writes.
            drop(self.in_hand.settle().await);
        }
        struck
    }

    async fn strike_next(&mut self, ahead: &mut Ahead) -> Result<Option<DeltaNumber>, Error> {
        self.in_hand.admit().await?;
        let Some((chunks, (stroke, batch))) = ahead.next().await? else { return Ok(None) };
        let delta = stroke.delta;
        let appending = match batch {
            Some(batch) => Some(self.journal.begin_append(batch).await?),
            None => None,
        };
        let (falling, has_fallen) = watch::channel(());
        let fall = Fall {
            stroke,
            appending,
            after: self.in_hand.meeting(&chunks),
            falling,
            disk: Rc::clone(&self.disk),
            windows: self.writes.clone(),
            batches: Rc::clone(&self.batches),
        };
        self.undurable |= &chunks;
        self.in_hand.push(chunks, has_fallen, fall.run());
        Ok(Some(delta))
    }
}

/// A chunk's number as bitmaps count: `limits::PROTECTED_CHUNKS_MAX` fits.
pub(super) fn narrow(chunk: u64) -> u32 {
    u32::try_from(chunk).unwrap_or(u32::MAX)
}

const _: () = assert!(to_u64(limits::BATCH_IMAGE_BYTES_MAX) >= ChunkSize::MAX.bytes() as u64);
