//! Writing a table: leaves as entries come, then the tree above, then page 0.

use std::rc::Rc;

use super::entry::Entry;
use super::files::{Files, Lease, RUN_BYTES, block_offset};
use super::page::{self, INNER_KEYS, LEAF_ENTRIES, PageHeader};
use super::record::{BLOCK, LogPosition};
use super::table::{Table, TableHeader, TableKind, levels_for, page_seed};
use super::{Error, PointRecord, Volume, VolumeFile};
use crate::unit::{Epoch, to_u64};

/// What is known of a table before its entries.
pub(super) struct TableName {
    pub kind: TableKind,
    pub rank: u8,
    pub first: Epoch,
    pub last: Epoch,
    pub log: LogPosition,
    pub point: Option<PointRecord>,
}

pub(super) struct TableWriter<'a, V: Volume> {
    files: &'a Files<V>,
    file: Rc<V::File>,
    file_name: String,
    seed: u64,
    lease: Lease<'a>,
    /// Bytes of `lease` that hold whole pages.
    filled: usize,
    /// Entries or keys in the page after them.
    in_page: usize,
    /// Number of that page.
    number: u32,
    /// The first chunk of each page of the level that is being written.
    firsts: Vec<u32>,
    entries: u64,
    last_chunk: Option<u32>,
}

impl<'a, V: Volume> TableWriter<'a, V> {
    /// Writes into the file `file`, which was made for it as `file_name`.
    pub fn new(
        files: &'a Files<V>,
        file: Rc<V::File>,
        file_name: &str,
        name: &TableName,
    ) -> Result<Self, Error> {
        Ok(Self {
            files,
            file,
            file_name: file_name.to_owned(),
            seed: page_seed(name.kind, name.first, name.last, files.identity),
            lease: files.lease()?,
            filled: 0,
            in_page: 0,
            number: 1,
            firsts: Vec::new(),
            entries: 0,
            last_chunk: None,
        })
    }

    /// Adds an entry; chunks come in ascending order, each once.
    pub async fn push(&mut self, entry: &Entry) -> Result<(), Error> {
        if self.last_chunk.is_some_and(|last| last >= entry.chunk) {
            let reason = format!("chunk {} is out of order", entry.chunk);
            return Err(Error::Unfit { what: "an entry of an index", reason });
        }
        self.last_chunk = Some(entry.chunk);
        self.entries += 1;
        if self.in_page == 0 {
            self.firsts.push(entry.chunk);
        }
        let (start, index) = (self.filled, self.in_page);
        page::put_entry(&mut self.lease.bytes_mut()[start..start + BLOCK], index, entry);
        self.in_page += 1;
        if self.in_page == LEAF_ENTRIES { self.end_page(0).await } else { Ok(()) }
    }

    async fn end_page(&mut self, level: u8) -> Result<(), Error> {
        let page = &mut self.lease.bytes_mut()[self.filled..self.filled + BLOCK];
        let used = if level == 0 { self.in_page * super::entry::ENTRY_BYTES } else { self.in_page * 4 };
        page[16 + used..].fill(0);
        let count = u16::try_from(self.in_page).unwrap_or(u16::MAX);
        page::seal(page, PageHeader { number: self.number, count, level }, self.seed);
        self.filled += BLOCK;
        self.in_page = 0;
        self.number += 1;
        if self.filled == RUN_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), Error> {
        let pages = u32::try_from(self.filled / BLOCK).unwrap_or(0);
        let position = block_offset(self.number - pages);
        let written = self.lease.write(&*self.file, position, 0..self.filled).await;
        self.filled = 0;
        written.map_err(|source| self.files.no_room(&self.file_name, "write", to_u64(RUN_BYTES), source))
    }

    /// Writes what is left and makes all of it durable, under the name that
    /// `final_name` says.
    pub async fn finish(mut self, name: TableName, final_name: &str) -> Result<Table, Error> {
        if self.in_page > 0 {
            self.end_page(0).await?;
        }
        let mut level = 1;
        while self.firsts.len() > 1 {
            let children = std::mem::take(&mut self.firsts);
            for keys in children.chunks(INNER_KEYS) {
                self.firsts.push(keys[0]);
                let start = self.filled;
                for (index, key) in keys.iter().enumerate() {
                    page::put_key(&mut self.lease.bytes_mut()[start..start + BLOCK], index, *key);
                }
                self.in_page = keys.len();
                self.end_page(level).await?;
            }
            level += 1;
        }
        self.write().await?;
        let header = TableHeader {
            kind: name.kind,
            rank: name.rank,
            first: name.first,
            last: name.last,
            entries: self.entries,
            levels: levels_for(self.entries),
            log: name.log,
            point: name.point,
        };
        let page = header.encode(self.files.identity);
        let page =
            page.ok_or_else(|| Error::Unfit { what: "this point", reason: "its name is too long".into() })?;
        self.lease.bytes_mut()[..BLOCK].copy_from_slice(&page);
        let written = self.lease.write(&*self.file, 0, 0..BLOCK).await;
        written.map_err(|source| self.files.no_room(&self.file_name, "write", to_u64(BLOCK), source))?;
        if header.kind != TableKind::Run {
            self.file.flush().await.map_err(|source| Error::file(&self.file_name, "flush", source))?;
        }
        self.settle(header, final_name)
    }

    fn settle(self, header: TableHeader, final_name: &str) -> Result<Table, Error> {
        if self.file_name != final_name {
            let renamed = self.files.volume.rename(&self.file_name, final_name);
            renamed.map_err(|source| Error::file(&self.file_name, "rename", source))?;
            self.files.forget(&self.file_name);
            self.files.forget(final_name);
            self.files.flush_names()?;
        }
        Ok(Table::new(self.files, final_name.to_owned(), header))
    }
}
