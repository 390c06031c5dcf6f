//! What the journal takes, what it may take, and giving points up for it.

use super::entry::ENTRY_BYTES;
use super::table::bytes_for;
use super::{Error, Expired, Journal, Paused, RetentionPolicy, Space, Volume};
use crate::limits;
use crate::unit::{Epoch, to_u64};

impl<V: Volume> Journal<V> {
    /// How much space the journal takes, and what is free.
    ///
    /// # Errors
    /// Those of `statvfs(3)`.
    pub fn space(&self) -> Result<Space, Error> {
        let free = self.files.volume.free_bytes();
        Ok(Space {
            segment_bytes: self.log.bytes(),
            index_bytes: self.shelf.bytes() + self.open.run_bytes(),
            digest_bytes: self.digests.bytes(),
            tail_bytes: self.log.tail_bytes(),
            free_bytes: free.map_err(|source| Error::file("the volume", "measure", source))?,
        })
    }

    /// Whether before-images of `chunks` chunks fit if none of them shrinks, with
    /// their indexes, and leave `floor_bytes` free: what a rewind must know before
    /// it begins. What is put aside for it counts as taken.
    ///
    /// # Errors
    /// [`Error::Full`] says what is needed and what there is.
    pub fn ensure_room(&self, chunks: u64, floor_bytes: u64) -> Result<(), Error> {
        let missing = self.rewind_bytes(chunks).saturating_sub(self.files.reserve.bytes());
        if missing == 0 {
            return Ok(());
        }
        // The pair's file is written anew beside the old one.
        let pair = to_u64(self.pair.encode()?.len()).saturating_mul(2);
        let needed_bytes = missing.saturating_add(pair).saturating_add(floor_bytes);
        let free_bytes = self.space()?.free_bytes;
        if needed_bytes <= free_bytes { Ok(()) } else { Err(Error::Full { needed_bytes, free_bytes }) }
    }

    /// Puts that much room aside, so that nobody else on the volume can take it,
    /// until [`Self::release_room`].
    ///
    /// # Errors
    /// As [`Self::ensure_room`], and those of files; nothing is put aside then.
    pub fn reserve_room(&mut self, chunks: u64, floor_bytes: u64) -> Result<(), Error> {
        self.ensure_room(chunks, floor_bytes)?;
        self.files.put_aside(self.rewind_bytes(chunks), u64::from(self.pair.segment_bytes))
    }

    /// Gives back what was put aside and not needed.
    ///
    /// # Errors
    /// Those of files.
    pub fn release_room(&mut self) -> Result<(), Error> {
        self.files.release()
    }

    /// What before-images of `chunks` chunks take at most, with their indexes, in
    /// whole segments.
    fn rewind_bytes(&self, chunks: u64) -> u64 {
        if chunks == 0 {
            return 0;
        }
        let chunk = u64::from(self.pair.chunk_size.bytes());
        let per_batch = (to_u64(limits::BATCH_IMAGE_BYTES_MAX) / chunk).min(to_u64(limits::BATCH_CHUNKS_MAX));
        // A head, and two blocks that are not filled, a batch.
        let batches = chunks.div_ceil(per_batch.max(1));
        let heads =
            chunks.saturating_mul(to_u64(ENTRY_BYTES)).saturating_add(batches.saturating_mul(3 * 4096));
        let images = chunks.saturating_mul(chunk).saturating_add(heads);
        // Each segment may end with room for almost a batch.
        let segment = u64::from(self.pair.segment_bytes);
        let lost = to_u64(super::batch::BUFFER_BYTES).min(segment);
        let segments = images.div_ceil(segment.saturating_sub(lost).max(lost));
        let logged = segments.saturating_mul(segment.max(lost));
        // The epoch's index, and the runs it may be made of.
        let all = logged.saturating_add(bytes_for(chunks).saturating_mul(3));
        // And one for the records between batches, which may find the last one full.
        all.div_ceil(segment).saturating_add(1).saturating_mul(segment)
    }

    /// Keeps a point from being dropped, until [`Self::unpin`].
    ///
    /// # Errors
    /// [`Error::NoSuchPoint`], [`Error::TooManyPins`], and those of files.
    pub async fn pin(&mut self, epoch: Epoch) -> Result<(), Error> {
        self.point(epoch)?;
        if self.pair.pins.contains(&epoch) {
            return Ok(());
        }
        self.update_pair(|pair| {
            pair.pins.insert(epoch);
        })
        .await
    }

    /// Lets expiry have a point again.
    ///
    /// # Errors
    /// Those of files.
    pub async fn unpin(&mut self, epoch: Epoch) -> Result<(), Error> {
        if !self.pair.pins.contains(&epoch) {
            return Ok(());
        }
        self.update_pair(|pair| {
            pair.pins.remove(&epoch);
        })
        .await
    }

    /// Drops points, oldest first, that are too old or for which there is no
    /// space: never the newest, never a pinned one nor any after it. `time` is
    /// that of the wall clock in milliseconds of Unix time, or why it is not to be
    /// believed: then none is dropped for its age. For space they go on being
    /// dropped, by their order, which no clock decides.
    ///
    /// # Errors
    /// Those of files; what was dropped until then stays dropped.
    pub fn expire(&mut self, policy: &RetentionPolicy, time: Result<u64, Paused>) -> Result<Expired, Error> {
        let mut expired = Expired { paused: time.err(), ..Expired::default() };
        let oldest_kept = time.map_or(0, |now| now.saturating_sub(policy.keep_seconds.saturating_mul(1000)));
        loop {
            let too_old = self.points().next().is_some_and(|point| point.closed_unix_ms < oldest_kept);
            let short = self.is_short_of_space(policy)?;
            if !too_old && !short {
                break;
            }
            let Some(epoch) = self.drop_oldest()? else {
                expired.short_of_space = short;
                break;
            };
            expired.points.push(epoch);
        }
        self.flush_drops(&expired.points)?;
        Ok(expired)
    }

    /// Drops points, oldest first, until they gave back `bytes`, whatever a policy
    /// says: for what the volume refused. What it calls free is no measure of
    /// that, where a quota refuses or others take it. The newest point stays, and
    /// so do a pinned one and those after it. Says which went, and what they gave.
    ///
    /// # Errors
    /// Those of files; what was dropped until then stays dropped.
    pub fn give_up(&mut self, bytes: u64) -> Result<(Vec<Epoch>, u64), Error> {
        let used = |journal: &Self| Ok::<u64, Error>(journal.space()?.used_bytes());
        let (before, mut given, mut points) = (used(self)?, 0, Vec::new());
        while given < bytes
            && let Some(epoch) = self.drop_oldest()?
        {
            points.push(epoch);
            given = before.saturating_sub(used(self)?);
        }
        self.flush_drops(&points)?;
        Ok((points, given))
    }

    /// Drops the oldest point, where it may go.
    fn drop_oldest(&mut self) -> Result<Option<Epoch>, Error> {
        let Some(epoch) = self.droppable() else { return Ok(None) };
        self.shelf.drop_oldest(&self.files)?;
        self.drop_unneeded_segments()?;
        Ok(Some(epoch))
    }

    fn flush_drops(&self, dropped: &[Epoch]) -> Result<(), Error> {
        if dropped.is_empty() { Ok(()) } else { self.files.flush_names() }
    }

    /// Whether less is free than `policy` leaves on the volume, or more taken
    /// than it allows.
    ///
    /// # Errors
    /// Those of `statvfs(3)`.
    pub fn is_short_of_space(&self, policy: &RetentionPolicy) -> Result<bool, Error> {
        let space = self.space()?;
        let over = policy.used_bytes_max.is_some_and(|most| space.used_bytes() > most);
        Ok(over || space.free_bytes < policy.free_bytes_min)
    }

    /// The oldest point, where it may go.
    fn droppable(&self) -> Option<Epoch> {
        let mut points = self.points();
        let (oldest, _next) = (points.next()?.epoch, points.next()?);
        (!self.pair.pins.contains(&oldest)).then_some(oldest)
    }
}
