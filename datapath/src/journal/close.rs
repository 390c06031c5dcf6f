//! Closing an epoch, and what follows from it: an index, digests, merged indexes.
//!
//! ```text
//! space for the index ──> point record, flushed ──> index, flushed, renamed ──> digests
//!         Full: nothing          the point exists       made again at open where missing
//! ```

use super::digests::{self, DigestFile};
use super::files::Files;
use super::merge::{Cursor, Merge};
use super::open_epoch::OpenEpoch;
use super::record::{LogPosition, RecordKind};
use super::shelf::{UNFINISHED, epoch_file, merged_file};
use super::table::{Table, TableKind, bytes_for};
use super::table_writer::{TableName, TableWriter};
use super::{Error, Journal, PointRecord, Volume};
use crate::unit::{Digest, Epoch};

/// Writes the index of the epoch that `point` closes; `file` is where space was
/// allocated for it, if it was.
pub(super) async fn write_index<V: Volume>(
    files: &Files<V>,
    open: &mut OpenEpoch,
    point: PointRecord,
    log: LogPosition,
    file: Option<std::rc::Rc<V::File>>,
) -> Result<Table, Error> {
    let final_name = epoch_file(point.epoch);
    let file_name = format!("{final_name}{UNFINISHED}");
    let file = match file {
        Some(file) => file,
        None => {
            files.remove(&file_name)?;
            files.create(&file_name, bytes_for(open.touched.len()))?
        }
    };
    let name = TableName {
        kind: TableKind::Epoch,
        rank: 0,
        first: open.first,
        last: point.epoch,
        log,
        point: Some(point),
    };
    let mut writer = TableWriter::new(files, file, &file_name, &name)?;
    open.write_into(files, &mut writer).await?;
    writer.finish(name, &final_name).await
}

impl<V: Volume> Journal<V> {
    /// Closes the open epoch with this point. The target was flushed after all of
    /// it was written. When this returns, the point is durable; the next epoch is open.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::WrongGeneration`] and [`Error::Unfit`]: nothing
    /// has changed. After any other, open the journal anew: the point may exist.
    pub async fn close_epoch(&mut self, point: PointRecord) -> Result<(), Error> {
        let unfit = |reason: String| Error::Unfit { what: "this point", reason };
        if point.generation != self.pair.generation {
            return Err(Error::WrongGeneration { held: self.pair.generation, given: point.generation });
        }
        if point.epoch < self.open.number {
            return Err(unfit(format!("it closes epoch {}, and {} is open", point.epoch, self.open.number)));
        }
        let body = point.encode().ok_or_else(|| unfit("its name is too long".to_owned()))?;
        let beside = format!("{}{UNFINISHED}", epoch_file(point.epoch));
        self.files.remove(&beside)?;
        let space = self.files.create(&beside, bytes_for(self.open.touched.len()))?;
        let appended = self.log.append(&self.files, RecordKind::Point, point.epoch, &body).await;
        if let Err(error) = appended {
            self.files.remove(&beside)?;
            return Err(error);
        }
        self.log.flush().await?;
        let settled = self.settle_point(point, space).await;
        if settled.is_err() {
            // The point exists, and this journal does not know it: only opening helps.
            self.log.give_up();
        }
        settled
    }

    async fn settle_point(&mut self, point: PointRecord, space: std::rc::Rc<V::File>) -> Result<(), Error> {
        let following = point.epoch.next();
        let table = write_index(&self.files, &mut self.open, point, self.log.at, Some(space)).await?;
        self.shelf.add(table);
        self.open.remove_runs(&self.files)?;
        self.open = OpenEpoch::new(following);
        self.take_in_digests().await?;
        self.drop_unneeded_segments()
    }

    /// Takes the digests of closed epochs into the digest file, where they are not yet.
    pub(super) async fn take_in_digests(&mut self) -> Result<(), Error> {
        let applied = self.digests.applied;
        for (epoch, table) in self.shelf.epochs.range(applied.next()..) {
            let mut update = self.digests.update(&self.files)?;
            let mut cursor = Cursor::new(table);
            while let Some(entry) = cursor.next(&self.files).await? {
                update.put(u64::from(entry.chunk), entry.new).await?;
            }
            update.end().await?;
            self.digests.finish(&self.files, *epoch).await?;
        }
        Ok(())
    }

    /// Knows no digest any more, durably: somebody else may have written the target,
    /// so that it must be read before it is compared with anything. A crash
    /// before the end may bring some of them back.
    ///
    /// # Errors
    /// [`Error::Full`] and those of files.
    pub async fn forget_digests(&mut self) -> Result<(), Error> {
        let applied = self.newest_point().map_or(Epoch(0), |point| point.epoch);
        self.files.remove(digests::FILE)?;
        let mut digests = DigestFile::create(&self.files, self.pair.chunks()).await?;
        // What closed epochs know of it is as old.
        digests.finish(&self.files, applied).await?;
        digests.flush().await?;
        self.files.flush_names()?;
        self.digests = digests;
        Ok(())
    }

    /// Takes in digests that were made by reading the target, of chunks that
    /// nothing was known of. They are durable with the next point.
    ///
    /// # Errors
    /// Those of files.
    pub async fn learn_digests(&self, found: impl IntoIterator<Item = (u64, Digest)>) -> Result<(), Error> {
        // What the open epoch wrote is not of the newest point.
        let mut found = found.into_iter().filter(|(chunk, _)| !self.touched(*chunk)).peekable();
        if found.peek().is_none() {
            return Ok(());
        }
        let mut update = self.digests.update(&self.files)?;
        for (chunk, digest) in found {
            update.put(chunk, Some(digest)).await?;
        }
        update.end().await
    }

    /// Drops segments that no point needs: those before the oldest point, and
    /// before the first point those of which everything has landed.
    pub(super) fn drop_unneeded_segments(&mut self) -> Result<(), Error> {
        let needed = match self.shelf.oldest() {
            Some(oldest) => oldest.header.log.segment,
            None if self.open.touched.is_empty() => self.log.at.segment,
            None => return Ok(()),
        };
        self.log.drop_before(&self.files, needed).map(drop)
    }

    /// Merges indexes, where enough have gathered; says whether it did. Call it
    /// after each point, when the point was answered, until it says no: lookups
    /// are right without, but probe more files.
    ///
    /// # Errors
    /// [`Error::Full`]: nothing is lost, lookups stay as they are. Others as reading.
    pub async fn merge(&mut self) -> Result<bool, Error> {
        let Some(tables) = self.shelf.due() else { return Ok(false) };
        let (Some(first), Some(last)) = (tables.first(), tables.last()) else { return Ok(false) };
        let (first, last) = (&first.header, &last.header);
        let final_name = merged_file(first.first, last.last);
        let beside = format!("{final_name}{UNFINISHED}");
        let name = TableName {
            kind: TableKind::Merged,
            rank: first.rank + 1,
            first: first.first,
            last: last.last,
            log: last.log,
            point: None,
        };
        self.files.remove(&beside)?;
        let written = write_merged(&self.files, &tables, name, &beside, &final_name).await;
        match written {
            Ok(table) => {
                self.shelf.add(table);
                Ok(true)
            }
            Err(error) => {
                self.files.remove(&beside)?;
                Err(error)
            }
        }
    }
}

async fn write_merged<V: Volume>(
    files: &Files<V>,
    tables: &[&Table],
    name: TableName,
    beside: &str,
    final_name: &str,
) -> Result<Table, Error> {
    // How many chunks they have in common is not known: the file grows.
    let file = files.create(beside, 0)?;
    let mut writer = TableWriter::new(files, file, beside, &name)?;
    let mut merge = Merge::new(tables.iter().copied());
    while let Some(entry) = merge.next(files).await? {
        writer.push(&entry).await?;
    }
    writer.finish(name, final_name).await
}
