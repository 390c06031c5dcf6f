//! One round: what was drained is read, and offered or sent.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outbox::Outbox;
use super::remainder::{Remainder, TooMuch};
use super::session::Session;
use super::status::{Count, Counters};
use super::target_digests::TargetDigests;
use crate::disk::RingDisk;
use crate::limits;
use crate::pipeline::{Load, Pool, ReadAhead, Window};
use crate::role::Error;
use crate::track::ChunkSet;
use crate::unit::{ChunkSize, Digest, Extent, to_usize};

/// The source of a lane, as it is read.
pub(super) struct Source {
    pub(super) disk: RingDisk,
    pub(super) pool: Pool,
    load: Load,
    /// The machine is frozen: it waits for the reads, which wait for nothing.
    pub(super) hurries: bool,
    /// Others are to come first: it is passed as a whole, again and again.
    pub(super) takes_turns: bool,
    /// How long limits have held it up.
    held_up: Cell<Duration>,
    counters: Arc<Counters>,
    /// Room for the last chunk, and zeroes for what is not stored.
    zeroes: Vec<u8>,
    pub(super) chunk: ChunkSize,
}

/// A window whose digests are on their way.
struct Offered {
    window: Window,
    digests: Vec<Digest>,
}

impl Source {
    pub(super) fn new(
        disk: RingDisk,
        load: Load,
        chunk: ChunkSize,
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        let pool = Pool::new(limits::QUEUE_DEPTH + limits::OFFERS_IN_FLIGHT).map_err(Error::Memory)?;
        let zeroes = vec![0; to_usize(u64::from(chunk.bytes()))];
        Ok(Self {
            disk,
            pool,
            load,
            hurries: false,
            takes_turns: false,
            held_up: Cell::default(),
            counters,
            zeroes,
            chunk,
        })
    }

    fn size_bytes(&self) -> u64 {
        self.disk.disk().size_bytes()
    }

    /// Runs of chunks as extents of at most a window.
    fn plan(&self, chunks: &ChunkSet) -> impl Iterator<Item = Extent> {
        let (chunk, size_bytes) = (self.chunk, self.size_bytes());
        chunks.runs(u64::from(limits::WINDOW_BYTES / chunk.bytes())).map(move |run| {
            let last = chunk.extent(run.end.saturating_sub(1), size_bytes);
            Extent::between(chunk.extent(run.start, size_bytes).offset(), last.end())
        })
    }

    fn read<'a>(&'a self, chunks: &'a ChunkSet) -> ReadAhead<impl Iterator<Item = Extent> + 'a> {
        ReadAhead::new(self.disk.clone(), self.plan(chunks), self.pool.clone(), limits::QUEUE_DEPTH)
    }

    /// The chunks of a window with their bytes; zeroes for what is not stored.
    fn chunks<'a>(&'a self, window: &'a Window) -> impl Iterator<Item = (Extent, &'a [u8])> {
        let start = window.extent.offset();
        window.extent.split_at_multiples(u64::from(self.chunk.bytes())).map(move |extent| {
            let length = to_usize(extent.length());
            let from = to_usize(extent.offset() - start);
            let bytes = match window.data() {
                Some(data) => &data[from..from + length],
                None => &self.zeroes[..length],
            };
            (extent, bytes)
        })
    }

    /// Sends `chunks`; those of `doubtful` are offered first, because the target
    /// may hold them already, unless they are `known` to be there. When it returns nothing of them is on its way but
    /// whole deltas, so that a later version can never be overtaken.
    pub(super) async fn send(
        &self,
        chunks: &ChunkSet,
        doubtful: &ChunkSet,
        known: Option<&mut TargetDigests>,
        outbox: &mut Outbox,
        session: &mut Session,
    ) -> Result<(), Error> {
        let mut known = known;
        let mut offers = VecDeque::new();
        let mut reading = self.read(chunks);
        while let Some(window) = reading.next().await? {
            self.count(&window);
            self.admit(&window).await;
            let first = self.chunk.index(window.extent.offset());
            let is_doubtful = doubtful
                .next_from(first)
                .is_some_and(|next| next <= self.chunk.index(window.extent.end() - 1));
            if is_doubtful {
                let digests: Vec<_> = self.chunks(&window).map(|(_, bytes)| outbox.digest(bytes)).collect();
                if let Some(known) = &mut known {
                    if known.holds(first, &digests) {
                        continue;
                    }
                    known.learn(first, &digests);
                }
                session.send_offer(window.extent, &digests).await?;
                offers.push_back(Offered { window, digests });
                if offers.len() >= limits::OFFERS_IN_FLIGHT {
                    self.settle(&mut offers, outbox, session).await?;
                }
                continue;
            }
            for (extent, bytes) in self.chunks(&window) {
                outbox.push(session, extent, Some((bytes, outbox.digest(bytes)))).await?;
            }
        }
        while !offers.is_empty() {
            self.settle(&mut offers, outbox, session).await?;
        }
        outbox.flush(session).await
    }

    /// Waits as long as limits want it.
    async fn admit(&self, window: &Window) {
        if !self.hurries {
            let begun = Instant::now();
            let bytes = window.extent.length();
            if self.takes_turns {
                self.load.admit_in_turns(bytes).await;
            } else {
                self.load.admit(bytes).await;
            }
            self.held_up.set(self.held_up.get() + begun.elapsed());
        }
    }

    /// How long limits have held it up since this was asked last.
    pub(super) fn held_up(&self) -> Duration {
        self.held_up.take()
    }

    fn count(&self, window: &Window) {
        self.counters.add(Count::Passed, window.extent.length());
        if window.data().is_some() {
            self.counters.add(Count::Read, window.extent.length());
        }
    }

    /// Sends what is wanted of the oldest offer, from the very bytes that were offered.
    async fn settle(
        &self,
        offers: &mut VecDeque<Offered>,
        outbox: &mut Outbox,
        session: &mut Session,
    ) -> Result<(), Error> {
        let Some(Offered { window, digests }) = offers.pop_front() else { return Ok(()) };
        let wanted = session.want(window.extent).await?;
        for (((extent, bytes), digest), wanted) in self.chunks(&window).zip(digests).zip(wanted) {
            if wanted {
                self.counters.add(Count::Wanted, extent.length());
                outbox.push(session, extent, Some((bytes, digest))).await?;
            }
        }
        Ok(())
    }

    /// Reads those of `chunks` that are `wanted` into memory that is there already.
    pub(super) async fn keep(
        &self,
        chunks: &ChunkSet,
        until: Instant,
        remainder: &mut Remainder,
        wanted: impl Fn(u64, &[u8], &Remainder) -> bool,
    ) -> Result<Result<(), TooMuch>, Error> {
        let mut reading = self.read(chunks);
        while let Some(window) = reading.next().await? {
            self.count(&window);
            if Instant::now() >= until {
                return Ok(Err(TooMuch));
            }
            for (extent, bytes) in self.chunks(&window) {
                let chunk = self.chunk.index(extent.offset());
                if wanted(chunk, bytes, remainder)
                    && let Err(too_much) = remainder.keep(chunk, bytes)
                {
                    return Ok(Err(too_much));
                }
            }
        }
        Ok(Ok(()))
    }
}
