//! Landing deltas: check, keep what was, overwrite.

use std::rc::Rc;

use super::reading::Reading;
use super::stroke::{Content, Gathering, Piece, Stroke};
use super::{Error, Replica};
use crate::delta::Opened;
use crate::disk::Blocks;
use crate::journal::{Batch, PairState, Volume};
use crate::limits;
use crate::unit::{ChunkSize, DeltaNumber, Extent, to_u64, to_usize};

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// Lands deltas that follow each other: all that there are at the moment, so
    /// that they share flushes. Returns when their last writes are in flight;
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
            for stroke in gathering.strokes() {
                replica.strike(&stroke).await?;
            }
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
        self.overwrites.settle().await?;
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

    /// Overwrites what a stroke says, once the journal durably has what was there.
    /// Returns with the writes in flight: the next stroke reads meanwhile.
    pub(super) async fn strike(&mut self, stroke: &Stroke<'_>) -> Result<(), Error> {
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => self.journal.batch()?,
        };
        self.keep(stroke, &mut batch).await?;
        self.journal.append(&mut batch).await?;
        self.batch = Some(batch);
        self.journal.flush().await?;
        self.overwrite(stroke).await
    }

    /// Fills the batch of a stroke: before-images of what the epoch touches first.
    async fn keep(&self, stroke: &Stroke<'_>, batch: &mut Batch) -> Result<(), Error> {
        let chunks = stroke.chunks(self.journal.pair(), &self.zeroes);
        batch.belongs_to(stroke.delta);
        let is_kept = self.state() != PairState::Initial;
        let pair = self.journal.pair();
        let fresh = chunks.iter().map(|(chunk, _)| *chunk);
        let fresh: Vec<u64> = fresh.filter(|chunk| is_kept && !self.journal.touched(*chunk)).collect();
        let plan = runs(fresh, pair.chunk_size, pair.size_bytes).into_iter();
        let mut reading = Reading::new(Rc::clone(&self.disk), self.windows.clone(), plan);
        let (digester, mut window) = (pair.digester(), None);
        for (chunk, new) in chunks {
            if !is_kept {
                batch.unkept(chunk, new)?;
                continue;
            }
            if self.journal.touched(chunk) {
                batch.again(chunk, new)?;
                continue;
            }
            let extent = pair.chunk_size.extent(chunk, pair.size_bytes);
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
        Ok(())
    }

    /// Puts the pieces of a stroke onto the target, neighbours together.
    pub(super) async fn overwrite(&mut self, stroke: &Stroke<'_>) -> Result<(), Error> {
        let mut pieces = stroke.pieces.as_slice();
        while let Some((first, rest)) = pieces.split_first() {
            self.mark_undurable(first.extent);
            let Content::Data { .. } = first.content else {
                self.overwrites.zero(first.extent).await?;
                pieces = rest;
                continue;
            };
            let (together, rest) = pieces.split_at(neighbours(pieces));
            let end = together.last().map_or(first.extent.end(), |last| last.extent.end());
            let whole = Extent::between(first.extent.offset(), end);
            self.mark_undurable(whole);
            self.overwrites.write(whole, |buffer| gather(together, buffer)).await?;
            pieces = rest;
        }
        Ok(())
    }

    fn mark_undurable(&mut self, extent: Extent) {
        let chunk = self.journal.pair().chunk_size;
        let first = chunk.index(extent.offset());
        let past = first + chunk.count(extent.length());
        self.undurable.insert_range(narrow(first)..narrow(past));
    }
}

/// A chunk's number as bitmaps count: `limits::PROTECTED_CHUNKS_MAX` fits.
pub(super) fn narrow(chunk: u64) -> u32 {
    u32::try_from(chunk).unwrap_or(u32::MAX)
}

/// How many of the first pieces are data, side by side, and no more than a window.
fn neighbours(pieces: &[Piece<'_>]) -> usize {
    let mut end = None;
    let mut bytes = 0;
    let mut follows = |piece: &&Piece<'_>| {
        let beside = end.is_none_or(|end| end == piece.extent.offset());
        bytes += piece.extent.length();
        end = Some(piece.extent.end());
        matches!(piece.content, Content::Data { .. }) && beside && bytes <= u64::from(limits::WINDOW_BYTES)
    };
    pieces.iter().take_while(|piece| follows(piece)).count().max(1)
}

fn gather(pieces: &[Piece<'_>], buffer: &mut [u8]) {
    let mut from = 0;
    for piece in pieces {
        if let Content::Data { bytes, .. } = piece.content {
            buffer[from..from + bytes.len()].copy_from_slice(bytes);
            from += bytes.len();
        }
    }
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

const _: () = assert!(to_u64(limits::BATCH_IMAGE_BYTES_MAX) >= ChunkSize::MAX.bytes() as u64);
