//! The journal of one pair, opened to be written.

use std::collections::VecDeque;

use roaring::RoaringBitmap;

use super::contents::{Contents, write_pair};
use super::digests::{self, DigestFile};
use super::entry::Before;
use super::files::{Files, Identity};
use super::log::{Log, Placed as PlacedBatch};
use super::open_epoch::OpenEpoch;
use super::record::RecordKind;
use super::scan::{Placed, Record, Scan};
use super::shelf::Shelf;
use super::{Appending, Batch, Error, Pair, PairState, PointRecord, Volume};
use crate::delta::Manifest;
use crate::unit::{DeltaNumber, Epoch};

/// What opening a journal found of the epoch that was open.
#[derive(Debug)]
pub struct Recovery {
    /// The epoch that is open; it goes on.
    pub open_epoch: Epoch,
    /// Everything up to this delta of it is durable on the target.
    pub landed: DeltaNumber,
    /// Its manifest up to that delta.
    pub manifest: Manifest,
    /// Chunks that hold old bytes, new bytes, or some of each: their batches were
    /// durable, and whether they were overwritten is not known.
    pub suspect: RoaringBitmap,
    /// Bytes of a torn tail that were given up; no target byte depended on them.
    pub torn_bytes: u64,
    /// The digest file was lost and begins anew: most digests are unknown.
    pub digests_lost: bool,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Bytes that it takes in its segment.
    pub bytes: u64,
    /// Chunks that it was the first to touch in this epoch.
    pub first_touches: usize,
}

/// The journal of one pair, opened to be written.
///
/// All of it belongs to one thread and its ring. After an error that says
/// [`Error::Broken`], or a failed write or flush, open it anew.
pub struct Journal<V: Volume> {
    pub(super) files: Files<V>,
    pub(super) pair: Pair,
    pub(super) log: Log<V>,
    pub(super) shelf: Shelf,
    pub(super) open: OpenEpoch,
    pub(super) digests: DigestFile<V>,
}

impl<V: Volume> Journal<V> {
    /// Makes the journal of `pair` in a directory that has none.
    ///
    /// # Errors
    /// [`Error::AlreadyThere`], [`Error::Unfit`], [`Error::Full`] and those of files.
    /// What a failed attempt left is no journal; the next attempt replaces it.
    pub async fn create(volume: V, pair: Pair) -> Result<Self, Error> {
        pair.check()?;
        let names = volume.names().map_err(|source| Error::file("the directory", "read", source))?;
        if names.iter().any(|name| name == super::pair::FILE) {
            return Err(Error::AlreadyThere);
        }
        let identity = Identity { seed: pair.seed(), incarnation: pair.generation.incarnation };
        let files = Files::new(volume, identity);
        let ours = |name: &&String| {
            *name == digests::FILE
                || super::log::segment_number(name).is_some()
                || super::shelf::is_table(name)
        };
        for name in names.iter().filter(ours) {
            files.remove(name)?;
        }
        files.remove(digests::FILE)?;
        let digests = DigestFile::create(&files, pair.chunks()).await?;
        let log = Log::create(&files, pair.segment_bytes).await?;
        // Last of all, because it is what makes a directory a journal.
        write_pair(&files.volume, &pair).await?;
        let open = OpenEpoch::new(Epoch::FIRST);
        Ok(Self { files, pair, log, shelf: Shelf::default(), open, digests })
    }

    /// Opens a journal, and brings what a crash left to an end: a point that
    /// has no index yet gets one, digests are taken in, a torn tail is given up.
    ///
    /// # Errors
    /// [`Error::Damaged`] where something is gone or rotten that was proven to be
    /// there, [`Error::Missing`], [`Error::Version`], and those of files.
    pub async fn open(volume: V) -> Result<(Self, Recovery), Error> {
        let contents = Contents::read(volume).await?;
        let start = contents.log_start();
        let Contents { files, pair, mut shelf, mut segments, leftovers } = contents;
        for name in &leftovers {
            files.remove(name)?;
        }
        Log::flush_tail(&files, &segments).await?;
        let number = shelf.newest().map_or(Epoch::FIRST, |table| table.header.last.next());
        let session = start.map_or(0, |start| start.session);
        let mut replay = Replay { open: OpenEpoch::new(number), uncertain: VecDeque::new(), session };
        let scan = Scan::new(&files, &segments, start);
        let tail = scan.run(async |placed| replay.take(&files, &mut shelf, placed).await).await?;
        if let Some(unborn) = tail.unborn {
            files.remove(&super::log::segment_name(unborn))?;
            segments.remove(&unborn);
            files.flush_names()?;
        }
        let at = super::LogPosition { session: tail.at.session + 1, ..tail.at };
        let log = Log::resume(&files, pair.segment_bytes, segments, at)?;
        let suspect = replay.suspect();
        let mut open = replay.open;
        open.doubt(&files, &suspect).await?;
        let (digests, digests_lost) = open_digests(&files, &pair, &shelf).await?;
        let recovery = Recovery {
            open_epoch: open.number,
            landed: open.landed,
            manifest: open.manifest,
            suspect,
            torn_bytes: tail.torn_bytes,
            digests_lost,
        };
        let mut journal = Self { files, pair, log, shelf, open, digests };
        journal.take_in_digests().await?;
        journal.drop_unneeded_segments()?;
        Ok((journal, recovery))
    }

    /// The pair.
    #[must_use]
    pub const fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Changes the pair's state, generation, pins or names, durably. What cannot
    /// change (size, chunks, key, incarnation) stays as it is.
    ///
    /// # Errors
    /// [`Error::Unfit`], [`Error::Full`] and those of files; the old pair stands then.
    pub async fn update_pair(&mut self, change: impl FnOnce(&mut Pair)) -> Result<(), Error> {
        let mut pair = self.pair.clone();
        change(&mut pair);
        pair.size_bytes = self.pair.size_bytes;
        pair.chunk_size = self.pair.chunk_size;
        pair.digest_algorithm = self.pair.digest_algorithm;
        pair.key = self.pair.key.clone();
        pair.generation.incarnation = self.pair.generation.incarnation;
        pair.check()?;
        write_pair(&self.files.volume, &pair).await?;
        self.pair = pair;
        Ok(())
    }

    /// Changes the pair's state, durably.
    ///
    /// # Errors
    /// As [`Self::update_pair`].
    pub async fn set_state(&mut self, state: PairState) -> Result<(), Error> {
        self.update_pair(|pair| pair.state = state).await
    }

    /// An empty batch: a buffer of 4 MiB. Use it again and again.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn batch(&self) -> Result<Batch, Error> {
        Ok(Batch::new(super::files::new_buffer(super::batch::BUFFER_BYTES)?))
    }

    /// Writes a batch with one write. It is durable after [`Self::flush`], and only
    /// then may its chunks be overwritten. The batch is empty afterwards; where there
    /// is no space it is as it was.
    ///
    /// A chunk that this epoch touched before keeps its first image, whatever
    /// the batch says.
    ///
    /// # Errors
    /// [`Error::Full`]: nothing has changed; make space and try again.
    /// [`Error::OutOfTurn`]: a chunk without a before-image that needs one.
    pub async fn append(&mut self, batch: &mut Batch) -> Result<Appended, Error> {
        let (placed, appended) = self.place(batch).await?;
        let (written, buffer) = placed.write().await;
        batch.give_buffer(buffer);
        batch.clear();
        written.map(|_| appended)
    }

    /// Gives a batch its place, and lets somebody else write it: several may be on
    /// their way, and what they hold is found by lookups at once. Nothing is
    /// written before [`Appending::finish`] runs.
    ///
    /// # Errors
    /// As [`Self::append`], but the batch is gone.
    pub async fn begin_append(&mut self, mut batch: Batch) -> Result<Appending<V::File>, Error> {
        let (placed, _) = self.place(&mut batch).await?;
        Ok(Appending::new(batch, placed))
    }

    async fn place(&mut self, batch: &mut Batch) -> Result<(PlacedBatch<V::File>, Appended), Error> {
        if self.log.is_broken() {
            return Err(Error::Broken);
        }
        let first_touches = self.settle_touches(batch)?;
        self.open.spill_if_full(&self.files).await?;
        let (entries, placed) = self.log.place_batch(&self.files, self.open.number, batch).await?;
        self.open.publish(&entries);
        self.open.appended = self.open.appended.max(batch.delta);
        let bytes = placed.bytes();
        Ok((placed, Appended { bytes, first_touches }))
    }

    /// Waits until every batch that has its place is there to be read.
    ///
    /// # Errors
    /// [`Error::Broken`] where one could not be written.
    pub async fn settle(&self) -> Result<(), Error> {
        self.log.settle().await
    }

    /// Says of each entry whether it is the first of its chunk.
    fn settle_touches(&self, batch: &mut Batch) -> Result<usize, Error> {
        let mut fresh = RoaringBitmap::new();
        for entry in &mut batch.entries {
            if u64::from(entry.chunk) >= self.pair.chunks() {
                let reason = format!("chunk {} of {}", entry.chunk, self.pair.chunks());
                return Err(Error::Unfit { what: "a chunk past the end of the disk", reason });
            }
            let known = self.open.touched.contains(entry.chunk) || !fresh.insert(entry.chunk);
            match entry.before {
                _ if known => entry.before = Before::Told,
                Before::Stored(_) | Before::Zero => {}
                Before::Unkept if self.shelf.epochs.is_empty() => {}
                Before::Unkept | Before::Told => {
                    let what = "overwriting a chunk whose before-image was not journaled";
                    return Err(Error::OutOfTurn { what, state: self.pair.state });
                }
            }
        }
        usize::try_from(fresh.len())
            .map_err(|_| Error::Unfit { what: "a batch", reason: "it is too large".to_owned() })
    }

    /// Makes everything appended durable: one `fdatasync`, or none where that was done.
    ///
    /// # Errors
    /// After one, the journal is [`Error::Broken`].
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.log.flush().await
    }

    /// Records durably that the target was flushed after everything up to
    /// `delta` was written to it. `manifest` is that of the epoch up to there: a
    /// source that lost it gets it back from here. In a first synchronization
    /// the open epoch is forgotten, but for its digests, when that is all that
    /// was appended.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn landed(&mut self, delta: DeltaNumber, manifest: Manifest) -> Result<(), Error> {
        if self.shelf.epochs.is_empty() && delta >= self.open.appended {
            self.take_in_first_digests().await?;
        }
        let body: Vec<u8> = delta.0.to_le_bytes().into_iter().chain(manifest.0).collect();
        self.log.append(&self.files, RecordKind::Landed, self.open.number, &body).await?;
        self.log.flush().await?;
        (self.open.landed, self.open.manifest) = (delta, manifest);
        self.drop_unneeded_segments()
    }

    /// In a first synchronization nobody needs what landed but for its digests.
    async fn take_in_first_digests(&mut self) -> Result<(), Error> {
        let mut update = self.digests.update(&self.files)?;
        self.open
            .drain(&self.files, async |entry| update.put(u64::from(entry.chunk), entry.new).await)
            .await?;
        update.end().await?;
        self.digests.flush().await
    }

    /// Forgets the open epoch, durably: the target was taken back to the newest
    /// point and flushed. Returns the epoch that is open now.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] where there is no point; else as [`Self::append`].
    pub async fn roll_back(&mut self) -> Result<Epoch, Error> {
        if self.shelf.epochs.is_empty() {
            return Err(Error::OutOfTurn { what: "going back to a point", state: self.pair.state });
        }
        self.log.append(&self.files, RecordKind::RolledBack, self.open.number, &[]).await?;
        self.log.flush().await?;
        self.open.remove_runs(&self.files)?;
        self.open = self.open.instead(self.open.number.next());
        Ok(self.open.number)
    }

    /// The epoch that is open.
    #[must_use]
    pub const fn open_epoch(&self) -> Epoch {
        self.open.number
    }

    /// The delta of the open epoch up to which the target is durable.
    #[must_use]
    pub const fn landed_delta(&self) -> DeltaNumber {
        self.open.landed
    }

    /// Whether the open epoch touched this chunk: its before-image is kept.
    #[must_use]
    pub fn touched(&self, chunk: u64) -> bool {
        u32::try_from(chunk).is_ok_and(|chunk| self.open.touched.contains(chunk))
    }

    /// The chunks that the open epoch touched.
    #[must_use]
    pub const fn touched_chunks(&self) -> &RoaringBitmap {
        &self.open.touched
    }

    /// All points, oldest first.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = &PointRecord> {
        self.shelf.points()
    }

    /// The newest point.
    #[must_use]
    pub fn newest_point(&self) -> Option<&PointRecord> {
        self.shelf.points().next_back()
    }

    /// One point.
    ///
    /// # Errors
    /// [`Error::NoSuchPoint`].
    pub fn point(&self, epoch: Epoch) -> Result<&PointRecord, Error> {
        self.shelf.point(epoch)
    }

    /// Whether a point reads back as it was cut, as far as is known.
    ///
    /// # Errors
    /// [`Error::NoSuchPoint`].
    pub fn is_exact(&self, epoch: Epoch) -> Result<bool, Error> {
        let find = |epoch| self.point(epoch).ok();
        Ok(self.pair.is_exact(self.point(epoch)?, find))
    }
}

async fn open_digests<V: Volume>(
    files: &Files<V>,
    pair: &Pair,
    shelf: &Shelf,
) -> Result<(DigestFile<V>, bool), Error> {
    let opened = DigestFile::open(files, pair.chunks(), true).await;
    let missed = |applied: Epoch| shelf.oldest().is_some_and(|oldest| applied.next() < oldest.header.first);
    match opened {
        Ok(digests) if !missed(digests.applied) => return Ok((digests, false)),
        Ok(_) | Err(Error::Damaged { .. }) => {}
        Err(Error::File { source, .. })
            if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof) => {}
        Err(error) => return Err(error),
    }
    files.remove(digests::FILE)?;
    let digests = DigestFile::create(files, pair.chunks()).await?;
    files.flush_names()?;
    Ok((digests, true))
}

/// Makes the open epoch anew from the records of the log.
struct Replay {
    open: OpenEpoch,
    /// Chunks of batches that are not known to have landed, by delta.
    uncertain: VecDeque<(DeltaNumber, RoaringBitmap)>,
    session: u64,
}

impl Replay {
    /// All chunks that are not known to have landed.
    fn suspect(&self) -> RoaringBitmap {
        let mut suspect = RoaringBitmap::new();
        self.uncertain.iter().for_each(|(_, chunks)| suspect |= chunks);
        suspect
    }

    /// What an earlier session left uncertain stays so until it is touched
    /// again: a later `landed` says nothing of batches that it never wrote.
    async fn begin_session<V: Volume>(&mut self, files: &Files<V>, session: u64) -> Result<(), Error> {
        if session != self.session {
            self.session = session;
            let suspect = self.suspect();
            self.open.doubt(files, &suspect).await?;
        }
        Ok(())
    }

    async fn take<V: Volume>(
        &mut self,
        files: &Files<V>,
        shelf: &mut Shelf,
        placed: Placed,
    ) -> Result<(), Error> {
        self.begin_session(files, placed.frame.at.session).await?;
        match placed.record {
            Record::Segment { .. } => {}
            Record::Batch { delta, entries } => {
                self.open.spill_if_full(files).await?;
                self.open.publish(&entries);
                self.open.appended = self.open.appended.max(delta);
                let chunks = entries.iter().map(|entry| entry.chunk);
                match self.uncertain.back_mut().filter(|(last, _)| *last == delta) {
                    Some((_, known)) => known.extend(chunks),
                    None => self.uncertain.push_back((delta, chunks.collect())),
                }
            }
            Record::Landed(delta, manifest) => {
                (self.open.landed, self.open.manifest) = (delta, manifest);
                self.uncertain.retain(|(of, _)| *of > delta);
                if shelf.epochs.is_empty() && delta >= self.open.appended {
                    // Its digests were taken in before the record was written.
                    self.open.drain(files, async |_entry| Ok(())).await?;
                }
            }
            Record::Point(point) => {
                let following = OpenEpoch::new(point.epoch.next());
                let table =
                    super::close::write_index(files, &mut self.open, point, placed.next, None).await?;
                shelf.add(table);
                self.reset(files, following)?;
            }
            Record::RolledBack => {
                let following = self.open.instead(placed.frame.epoch.next());
                self.reset(files, following)?;
            }
        }
        Ok(())
    }

    fn reset<V: Volume>(&mut self, files: &Files<V>, next: OpenEpoch) -> Result<(), Error> {
        self.open.remove_runs(files)?;
        self.open = next;
        self.uncertain.clear();
        Ok(())
    }
}
