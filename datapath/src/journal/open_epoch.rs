//! The epoch that is open: which chunks it touched, and where their before-images are.
//!
//! In memory up to `limits::OPEN_ENTRIES_MAX` entries, or as few as the volume
//! says; then they go to the volume as a sorted run. Runs hold nothing that the
//! segments do not: after a crash they are removed and made again.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::entry::{Before, Entry};
use super::files::Files;
use super::merge::{Merge, join};
use super::record::LogPosition;
use super::table::{Table, TableKind, bytes_for};
use super::table_writer::{TableName, TableWriter};
use super::{Error, Volume};
use crate::delta::Manifest;
use crate::limits;
use crate::unit::{DeltaNumber, Epoch, to_u64, to_usize};

/// The beginning of the names of runs.
pub(super) const RUN_PREFIX: &str = "run-";

#[derive(Debug)]
struct Run {
    table: Table,
    /// How often its entries were merged.
    level: u32,
}

/// The open epoch.
#[derive(Debug)]
pub(super) struct OpenEpoch {
    /// The epoch after the newest point: lower than `number` where epochs were undone.
    pub first: Epoch,
    pub number: Epoch,
    /// The target is durable up to this delta.
    pub landed: DeltaNumber,
    /// Its manifest up to that delta.
    pub manifest: Manifest,
    /// The highest delta of any batch.
    pub appended: DeltaNumber,
    pub touched: RoaringBitmap,
    entries: BTreeMap<u32, Entry>,
    runs: Vec<Run>,
    runs_made: u64,
}

impl OpenEpoch {
    pub fn new(number: Epoch) -> Self {
        Self {
            first: number,
            number,
            landed: DeltaNumber::default(),
            manifest: Manifest::EMPTY,
            appended: DeltaNumber::default(),
            touched: RoaringBitmap::new(),
            entries: BTreeMap::new(),
            runs: Vec::new(),
            runs_made: 0,
        }
    }

    /// An epoch instead of this one, which was undone.
    pub fn instead(&self, number: Epoch) -> Self {
        Self { first: self.first, ..Self::new(number) }
    }

    /// Takes in the entries of a batch.
    pub fn publish(&mut self, entries: &[Entry]) {
        for entry in entries {
            let entry = match (self.entries.get(&entry.chunk), self.touched.contains(entry.chunk)) {
                (Some(known), _) => join(*known, *entry),
                (None, true) => Entry { before: Before::Told, ..*entry },
                (None, false) => *entry,
            };
            self.touched.insert(entry.chunk);
            self.entries.insert(entry.chunk, entry);
        }
    }

    /// Writes a run if memory holds as many entries as it may.
    pub async fn spill_if_full<V: Volume>(&mut self, files: &Files<V>) -> Result<(), Error> {
        if self.entries.len() < files.volume.open_entries_max() { Ok(()) } else { self.spill(files).await }
    }

    async fn spill<V: Volume>(&mut self, files: &Files<V>) -> Result<(), Error> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let (mut writer, name, file_name) = self.new_run(files, to_u64(self.entries.len()))?;
        for entry in self.entries.values() {
            writer.push(entry).await?;
        }
        let table = writer.finish(name, &file_name).await?;
        self.entries.clear();
        self.runs.push(Run { table, level: 0 });
        self.merge_runs(files).await
    }

    /// Merges the last runs where there are as many of one level as may be, so
    /// that a lookup probes a bounded number however long the epoch gets.
    async fn merge_runs<V: Volume>(&mut self, files: &Files<V>) -> Result<(), Error> {
        let fan = to_usize(limits::MERGE_FAN);
        loop {
            let Some(level) = self.runs.last().map(|run| run.level) else { return Ok(()) };
            let same = self.runs.iter().rev().take_while(|run| run.level == level).count();
            if same < fan {
                return Ok(());
            }
            let first = self.runs.len() - same;
            let most: u64 = self.runs[first..].iter().map(|run| run.table.header.entries).sum();
            let (mut writer, name, file_name) = self.new_run(files, most)?;
            let mut merge = Merge::new(self.runs[first..].iter().map(|run| &run.table));
            while let Some(entry) = merge.next(files).await? {
                writer.push(&entry).await?;
            }
            let table = writer.finish(name, &file_name).await?;
            for run in self.runs.drain(first..) {
                files.remove(&run.table.name)?;
            }
            self.runs.push(Run { table, level: level + 1 });
        }
    }

    fn new_run<'a, V: Volume>(
        &mut self,
        files: &'a Files<V>,
        entries: u64,
    ) -> Result<(TableWriter<'a, V>, TableName, String), Error> {
        self.runs_made += 1;
        let file_name = format!("{RUN_PREFIX}{:08}", self.runs_made);
        let name = TableName {
            kind: TableKind::Run,
            rank: 0,
            first: self.number,
            last: self.number,
            log: LogPosition { segment: 0, position: 0, sequence: 0, previous: 0, session: 0 },
            point: None,
        };
        let file = files.create(&file_name, bytes_for(entries))?;
        let writer = TableWriter::new(files, file, &file_name, &name)?;
        Ok((writer, name, file_name))
    }

    /// What is known of the chunks of `first..=last`, ascending.
    pub async fn range<V: Volume>(
        &self,
        files: &Files<V>,
        first: u32,
        last: u32,
    ) -> Result<Vec<Entry>, Error> {
        if self.touched.range_cardinality(first..=last) == 0 {
            return Ok(Vec::new());
        }
        let mut found: BTreeMap<u32, Entry> = BTreeMap::new();
        let mut add = |entry: Entry| {
            let known = found.get(&entry.chunk).map_or(entry, |known| join(*known, entry));
            found.insert(entry.chunk, known);
        };
        for run in &self.runs {
            run.table.range(files, first, last).await?.into_iter().for_each(&mut add);
        }
        self.entries.range(first..=last).for_each(|(_, entry)| add(*entry));
        Ok(found.into_values().collect())
    }

    /// Writes everything into `writer`.
    pub async fn write_into<V: Volume>(
        &mut self,
        files: &Files<V>,
        writer: &mut TableWriter<'_, V>,
    ) -> Result<(), Error> {
        if self.runs.is_empty() {
            for entry in self.entries.values() {
                writer.push(entry).await?;
            }
            return Ok(());
        }
        self.spill(files).await?;
        let mut merge = Merge::new(self.runs.iter().map(|run| &run.table));
        while let Some(entry) = merge.next(files).await? {
            writer.push(&entry).await?;
        }
        Ok(())
    }

    /// Hands all entries to `take`, ascending, and forgets them: a first
    /// synchronization needs them only until they have landed.
    pub async fn drain<V: Volume>(
        &mut self,
        files: &Files<V>,
        mut take: impl AsyncFnMut(Entry) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.runs.is_empty() {
            for entry in self.entries.values() {
                take(*entry).await?;
            }
        } else {
            self.spill(files).await?;
            let mut merge = Merge::new(self.runs.iter().map(|run| &run.table));
            while let Some(entry) = merge.next(files).await? {
                take(entry).await?;
            }
        }
        self.remove_runs(files)?;
        self.entries.clear();
        self.touched.clear();
        Ok(())
    }

    /// Removes its runs from the volume.
    pub fn remove_runs<V: Volume>(&mut self, files: &Files<V>) -> Result<(), Error> {
        for run in self.runs.drain(..) {
            files.remove(&run.table.name)?;
        }
        Ok(())
    }

    /// Leaves open what the chunks of `suspect` hold now.
    pub async fn doubt<V: Volume>(&mut self, files: &Files<V>, suspect: &RoaringBitmap) -> Result<(), Error> {
        for chunk in suspect {
            let known = self.range(files, chunk, chunk).await?.pop();
            if let Some(entry) = known {
                self.entries.insert(chunk, Entry { new: None, ..entry });
                self.spill_if_full(files).await?;
            }
        }
        Ok(())
    }

    /// What runs take on the volume.
    pub fn run_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.table.bytes()).sum()
    }
}
