//! Several tables as one, in the order of chunks: of each chunk the earliest
//! before-image and the latest digest.

use std::collections::VecDeque;

use super::entry::Entry;
use super::files::Files;
use super::table::Table;
use super::{Error, Volume};

/// Leaves that a cursor reads at once: 64 KiB of a table.
const LEAVES_AHEAD: u32 = 16;

/// Walks through a table.
pub(super) struct Cursor<'a> {
    table: &'a Table,
    next_leaf: u32,
    ready: VecDeque<Entry>,
}

impl<'a> Cursor<'a> {
    pub const fn new(table: &'a Table) -> Self {
        Self { table, next_leaf: 0, ready: VecDeque::new() }
    }

    /// The next entry, and it stays the next.
    pub async fn peek<V: Volume>(&mut self, files: &Files<V>) -> Result<Option<Entry>, Error> {
        if self.ready.is_empty() {
            self.ready = self.table.read_leaves(files, self.next_leaf, LEAVES_AHEAD).await?.into();
            self.next_leaf = self.next_leaf.saturating_add(LEAVES_AHEAD);
        }
        Ok(self.ready.front().copied())
    }

    pub async fn next<V: Volume>(&mut self, files: &Files<V>) -> Result<Option<Entry>, Error> {
        self.peek(files).await?;
        Ok(self.ready.pop_front())
    }
}

/// What two entries of one chunk say together.
pub(super) const fn join(earlier: Entry, later: Entry) -> Entry {
    Entry { new: later.new, ..earlier }
}

/// Walks through several tables at once, the earliest first.
pub(super) struct Merge<'a> {
    cursors: Vec<Cursor<'a>>,
}

impl<'a> Merge<'a> {
    pub fn new(tables: impl IntoIterator<Item = &'a Table>) -> Self {
        Self { cursors: tables.into_iter().map(Cursor::new).collect() }
    }

    pub async fn next<V: Volume>(&mut self, files: &Files<V>) -> Result<Option<Entry>, Error> {
        let mut lowest = None;
        for cursor in &mut self.cursors {
            if let Some(entry) = cursor.peek(files).await? {
                lowest = Some(lowest.map_or(entry.chunk, |chunk: u32| chunk.min(entry.chunk)));
            }
        }
        let Some(chunk) = lowest else { return Ok(None) };
        let mut joined: Option<Entry> = None;
        for cursor in &mut self.cursors {
            if cursor.peek(files).await?.is_some_and(|entry| entry.chunk == chunk)
                && let Some(entry) = cursor.next(files).await?
            {
                joined = Some(joined.map_or(entry, |earlier| join(earlier, entry)));
            }
        }
        Ok(joined)
    }
}
