//! The tables of a journal: one for each closed epoch, and merged ones above them.
//!
//! ```text
//! rank 2  |----------------------------- 1..=256 -----------------------------|
//! rank 1  |--- 1..=16 ---|--- 17..=32 ---| …                                   |--- 257..=272 ---|
//! rank 0  |1|2|3|…                                                                               |273|274|
//!
//! after point 30:  31, 32, then 33..=48 of rank 1, …, up to 273, 274 and the open epoch
//! ```

use std::collections::BTreeMap;

use super::files::Files;
use super::table::{Table, TableKind};
use super::{Error, PointRecord, Volume};
use crate::limits;
use crate::unit::{Epoch, to_usize};

/// The end of the name of a file that is being written.
pub(super) const UNFINISHED: &str = ".new";

const MERGED_PREFIX: &str = "merged-";

/// Closed epochs and what was merged of them.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// By last epoch, which is the point's.
    pub epochs: BTreeMap<Epoch, Table>,
    /// By first and last epoch.
    pub merged: BTreeMap<(Epoch, Epoch), Table>,
    /// Merged ones that are damaged: what they were made of is there, so they go.
    pub damaged: Vec<String>,
}

pub(super) fn epoch_file(epoch: Epoch) -> String {
    format!("epoch-{:012}.index", epoch.0)
}

pub(super) fn merged_file(first: Epoch, last: Epoch) -> String {
    format!("{MERGED_PREFIX}{:012}-{:012}.index", first.0, last.0)
}

/// Whether a file of this name is a table that outlives its process.
pub(super) fn is_table(name: &str) -> bool {
    name.ends_with(".index") && (name.starts_with("epoch-") || name.starts_with(MERGED_PREFIX))
}

impl Shelf {
    /// Opens the tables among `names`: a read each.
    pub async fn open<V: Volume>(files: &Files<V>, names: &[String]) -> Result<Self, Error> {
        let mut shelf = Self::default();
        for name in names.iter().filter(|name| is_table(name)) {
            let table = match Table::open(files, name).await {
                Err(Error::Damaged { .. }) if name.starts_with(MERGED_PREFIX) => {
                    shelf.damaged.push(name.clone());
                    continue;
                }
                opened => opened?,
            };
            let header = &table.header;
            let named = match header.kind {
                TableKind::Epoch => epoch_file(header.last),
                TableKind::Merged => merged_file(header.first, header.last),
                TableKind::Run => String::new(),
            };
            if named != *name {
                return Err(Error::damaged(name, 0, format!("it is {named}, under another name")));
            }
            shelf.add(table);
        }
        shelf.check()?;
        Ok(shelf)
    }

    pub fn add(&mut self, table: Table) {
        let (first, last) = (table.header.first, table.header.last);
        if table.header.kind == TableKind::Epoch {
            self.epochs.insert(last, table);
        } else {
            self.merged.insert((first, last), table);
        }
    }

    /// Every epoch begins where the one before ended, so that none is missing.
    fn check(&self) -> Result<(), Error> {
        let mut expected = None;
        for table in self.epochs.values() {
            let first = table.header.first;
            if let Some(expected) = expected.filter(|expected| *expected != first) {
                return Err(Error::damaged(&epoch_file(expected), 0, "it is missing"));
            }
            expected = Some(table.header.last.next());
        }
        Ok(())
    }

    pub fn newest(&self) -> Option<&Table> {
        self.epochs.last_key_value().map(|(_, table)| table)
    }

    pub fn oldest(&self) -> Option<&Table> {
        self.epochs.first_key_value().map(|(_, table)| table)
    }

    /// All points, oldest first.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = &PointRecord> {
        self.epochs.values().filter_map(|table| table.header.point.as_ref())
    }

    /// A point that can be gone back to.
    pub fn point(&self, epoch: Epoch) -> Result<&PointRecord, Error> {
        let found = self.epochs.get(&epoch).and_then(|table| table.header.point.as_ref());
        found.ok_or_else(|| {
            let edge = |table: Option<&Table>| table.map_or(Epoch(0), |table| table.header.last);
            Error::NoSuchPoint { epoch, oldest: edge(self.oldest()), newest: edge(self.newest()) }
        })
    }

    /// The fewest tables that hold all epochs after the point `since`, in order.
    pub fn after(&self, since: Epoch) -> Result<Vec<&Table>, Error> {
        self.point(since)?;
        let mut cover = Vec::new();
        let mut at = since;
        while let Some((_, epoch)) = self.epochs.range(at.next()..).next() {
            let first = epoch.header.first;
            let widest = self.merged.range((first, Epoch(0))..=(first, Epoch(u64::MAX))).next_back();
            let table = widest.map_or(epoch, |(_, merged)| merged);
            at = table.header.last;
            cover.push(table);
        }
        Ok(cover)
    }

    /// The oldest tables of one rank that are due to be merged, of the lowest
    /// rank that has as many as that takes.
    pub fn due(&self) -> Option<Vec<&Table>> {
        let fan = to_usize(limits::MERGE_FAN);
        let highest = self.merged.values().map(|table| table.header.rank).max().unwrap_or(0);
        (0..=highest).find_map(|rank| {
            let is_above = |table: &&Table| table.header.rank > rank;
            let done = self.merged.values().filter(is_above).map(|table| table.header.last).max();
            let after = |table: &&Table| done.is_none_or(|done| table.header.first > done);
            let tables = self.of_rank(rank).filter(after).take(fan).collect::<Vec<_>>();
            (tables.len() == fan).then_some(tables)
        })
    }

    fn of_rank(&self, rank: u8) -> Box<dyn Iterator<Item = &Table> + '_> {
        if rank == 0 {
            Box::new(self.epochs.values())
        } else {
            Box::new(self.merged.values().filter(move |table| table.header.rank == rank))
        }
    }

    /// Drops the oldest point and what only serves it.
    pub fn drop_oldest<V: Volume>(&mut self, files: &Files<V>) -> Result<u64, Error> {
        let Some(epoch) = self.oldest().map(|table| table.header.last) else { return Ok(0) };
        let mut freed = 0;
        let Some(next) = self.epochs.range(epoch.next()..).next().map(|(_, table)| table.header.last) else {
            return Ok(0);
        };
        // Going back to `next` needs only epochs after it.
        let stale = self.merged.keys().filter(|(first, _)| *first <= next).copied().collect::<Vec<_>>();
        for key in stale {
            if let Some(table) = self.merged.get(&key) {
                files.remove(&table.name)?;
                freed += table.bytes();
            }
            self.merged.remove(&key);
        }
        if let Some(table) = self.epochs.get(&epoch) {
            files.remove(&table.name)?;
            freed += table.bytes();
        }
        self.epochs.remove(&epoch);
        Ok(freed)
    }

    /// What all tables take.
    pub fn bytes(&self) -> u64 {
        self.epochs.values().chain(self.merged.values()).map(Table::bytes).sum()
    }
}
