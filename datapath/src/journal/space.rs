//! What the journal takes, what it may take, and giving points up for it.

use super::entry::ENTRY_BYTES;
use super::table::bytes_for;
use super::{Clock, Error, Expired, Journal, RetentionPolicy, Space, Volume};
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
    /// their indexes: what a rewind must know before it begins.
    ///
    /// # Errors
    /// [`Error::Full`] says what is needed and what there is.
    pub fn ensure_room(&self, chunks: u64) -> Result<(), Error> {
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
        let needed_bytes = logged.saturating_add(bytes_for(chunks).saturating_mul(3));
        let free_bytes = self.space()?.free_bytes;
        if needed_bytes <= free_bytes { Ok(()) } else { Err(Error::Full { needed_bytes, free_bytes }) }
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
    /// space: never the newest, never a pinned one nor any after it. While the
    /// clock is not to be believed, none is dropped for its age; for space
    /// they go on being dropped, by their order, which no clock decides.
    ///
    /// # Errors
    /// Those of files; what was dropped until then stays dropped.
    pub fn expire(&mut self, policy: &RetentionPolicy, now: Clock) -> Result<Expired, Error> {
        let mut expired = Expired::default();
        let newest = self.newest_point().map_or(0, |point| point.closed_unix_ms);
        expired.paused = self.watch.look(now, newest).err();
        let oldest_kept = now.wall_unix_ms.saturating_sub(policy.keep_seconds.saturating_mul(1000));
        loop {
            let too_old = expired.paused.is_none()
                && self.points().next().is_some_and(|point| point.closed_unix_ms < oldest_kept);
            let short = self.is_short_of_space(policy)?;
            if !too_old && !short {
                break;
            }
            let Some(epoch) = self.droppable() else {
                expired.short_of_space = short;
                break;
            };
            self.shelf.drop_oldest(&self.files)?;
            self.drop_unneeded_segments()?;
            expired.points.push(epoch);
        }
        if !expired.points.is_empty() {
            self.files.flush_names()?;
        }
        Ok(expired)
    }

    /// Believes the wall clock again after it jumped: whoever looked says it is right.
    pub const fn accept_clock(&mut self, now: Clock) {
        self.watch.accept(now);
    }

    /// Takes over what an earlier look found of the clocks, by this process and
    /// at whatever journal: a journal that is opened anew has seen no jump.
    pub const fn watch_clock_from(&mut self, agreed: Option<Clock>) {
        if let Some(agreed) = agreed {
            self.watch.accept(agreed);
        }
    }

    /// The last moment at which the wall clock was believed.
    #[must_use]
    pub const fn clock_agreed(&self) -> Option<Clock> {
        self.watch.agreed()
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
