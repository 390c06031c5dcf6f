//! A table: the entries of an epoch, of several, or of a spilled run, sorted by
//! chunk, with a tree of first chunks above, so that a lookup reads a page a level.
//!
//! Page 0 of the file:
//!
//! ```text
//!   0  8  "FBTABLE\0"
//!   8  1  version 1
//!   9  1  rank: how often its entries were merged; zero for one epoch
//!  10  1  kind: 1 epoch, 2 merged, 3 run
//!  11  1  levels, leaves included; zero where there are no entries
//!  12  4  bytes of the point record
//!  16  8  incarnation
//!  24  8  first epoch: the one after the point before     32  8  last epoch
//!  40  8  entries
//!  48 32  of each level: its first page (4), its pages (4); leaves first
//!  80 32  where the log goes on after the point: segment (4), position (4),
//!         sequence (8), previous checksum (8), session (8)
//! 112  8  checksum of the page, with this field zero
//! 120  …  point record, where the kind is 1
//! ```

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::entry::Entry;
use super::field::{Fields, Room};
use super::files::{Files, Identity, Page, RUN_BYTES, block_offset};
use super::page::{self, INNER_KEYS, LEAF_ENTRIES};
use super::record::{BLOCK, LogPosition};
use super::{Error, PointRecord, Volume};
use crate::unit::{Epoch, to_u64, to_usize};

const MAGIC: [u8; 8] = *b"FBTABLE\0";
const VERSION: u8 = 1;
/// Three levels hold 88 million entries, four every disk.
const LEVELS_MAX: usize = 4;
const FIXED_BYTES: usize = 120;
const CHECKSUM_AT: usize = 112;

/// What a table is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// One closed epoch.
    Epoch = 1,
    /// Several, of which it has the earliest before-image of each chunk.
    Merged = 2,
    /// A part of the open epoch; a run does not outlive its process.
    Run = 3,
}

/// Pages of one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Level {
    /// The first.
    pub start: u32,
    /// How many.
    pub pages: u32,
}

/// Page 0 of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableHeader {
    /// What it is of.
    pub kind: TableKind,
    /// How often its entries were merged.
    pub rank: u8,
    /// The first epoch.
    pub first: Epoch,
    /// The last.
    pub last: Epoch,
    /// Entries.
    pub entries: u64,
    /// Leaves first, the root last.
    pub levels: Vec<Level>,
    /// Where the log goes on.
    pub log: LogPosition,
    /// The point, for one epoch.
    pub point: Option<PointRecord>,
}

/// The levels of a table of so many entries.
pub(super) fn levels_for(entries: u64) -> Vec<Level> {
    let mut levels = Vec::new();
    let (mut start, mut pages) = (1, entries.div_ceil(to_u64(LEAF_ENTRIES)));
    while pages > 0 {
        // At most 2^28 chunks make 3.2 million leaves.
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        levels.push(Level { start: narrow(start), pages: narrow(pages) });
        start += pages;
        pages = if pages == 1 { 0 } else { pages.div_ceil(to_u64(INNER_KEYS)) };
    }
    levels
}

/// Bytes of a table of so many entries.
pub(super) fn bytes_for(entries: u64) -> u64 {
    levels_for(entries).last().map_or(1, |root| u64::from(root.start) + u64::from(root.pages)) * to_u64(BLOCK)
}

impl TableHeader {
    /// Page 0; `None` where the point's name is too long.
    pub(super) fn encode(&self, identity: Identity) -> Option<Vec<u8>> {
        let point = match &self.point {
            Some(point) => point.encode()?,
            None => Vec::new(),
        };
        let mut bytes = vec![0; BLOCK];
        let mut room = Room::new(&mut bytes);
        room.put(&MAGIC);
        room.u8(VERSION);
        room.u8(self.rank);
        room.u8(self.kind as u8);
        room.u8(u8::try_from(self.levels.len()).ok()?);
        room.u32(u32::try_from(point.len()).ok()?);
        room.u64(identity.incarnation);
        room.u64(self.first.0);
        room.u64(self.last.0);
        room.u64(self.entries);
        for index in 0..LEVELS_MAX {
            let level = self.levels.get(index).copied().unwrap_or_default();
            room.u32(level.start);
            room.u32(level.pages);
        }
        room.u32(self.log.segment);
        room.u32(self.log.position);
        room.u64(self.log.sequence);
        room.u64(self.log.previous);
        room.u64(self.log.session);
        room.u64(0);
        room.put(&point);
        let checksum = xxh3_64_with_seed(&bytes, identity.seed);
        bytes[CHECKSUM_AT..FIXED_BYTES].copy_from_slice(&checksum.to_le_bytes());
        Some(bytes)
    }

    /// Reads page 0; says what is wrong with it.
    pub(super) fn decode(bytes: &[u8], identity: Identity) -> Result<Self, &'static str> {
        let short = "it is no table";
        if bytes.len() != BLOCK || bytes[..8] != MAGIC {
            return Err(short);
        }
        let mut unsigned = bytes.to_vec();
        unsigned[CHECKSUM_AT..FIXED_BYTES].fill(0);
        let checksum = xxh3_64_with_seed(&unsigned, identity.seed);
        if bytes[CHECKSUM_AT..FIXED_BYTES] != checksum.to_le_bytes() {
            return Err("the checksum of its header does not fit");
        }
        let header = Self::decode_fields(bytes, identity.incarnation).ok_or("its header is impossible")?;
        Ok(header)
    }

    /// Reads page 0 whatever its checksum.
    pub(super) fn decode_fields(bytes: &[u8], incarnation: u64) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        if bytes.len() != BLOCK || fields.array()? != MAGIC {
            return None;
        }
        if fields.u8()? != VERSION {
            return None;
        }
        let rank = fields.u8()?;
        let kind = match fields.u8()? {
            1 => TableKind::Epoch,
            2 => TableKind::Merged,
            3 => TableKind::Run,
            _ => return None,
        };
        let (levels, point_bytes) = (usize::from(fields.u8()?), to_usize(u64::from(fields.u32()?)));
        if fields.u64()? != incarnation {
            return None;
        }
        let (first, last, entries) = (Epoch(fields.u64()?), Epoch(fields.u64()?), fields.u64()?);
        let mut named = Vec::new();
        for index in 0..LEVELS_MAX {
            let level = Level { start: fields.u32()?, pages: fields.u32()? };
            if index < levels {
                named.push(level);
            }
        }
        let log = LogPosition {
            segment: fields.u32()?,
            position: fields.u32()?,
            sequence: fields.u64()?,
            previous: fields.u64()?,
            session: fields.u64()?,
        };
        fields.u64()?;
        let point = match kind {
            TableKind::Epoch => Some(PointRecord::decode(fields.bytes(point_bytes)?)?),
            TableKind::Merged | TableKind::Run => None,
        };
        let fits = named == levels_for(entries) && first <= last;
        fits.then_some(Self { kind, rank, first, last, entries, levels: named, log, point })
    }
}

/// A table on the volume.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub name: String,
    pub header: TableHeader,
    /// Of its pages' checksums.
    seed: u64,
    /// Names its pages in memory.
    id: u64,
}

/// The seed of the pages of a table.
pub(super) fn page_seed(kind: TableKind, first: Epoch, last: Epoch, identity: Identity) -> u64 {
    let mut name = [0; 24];
    let mut room = Room::new(&mut name);
    room.u64(kind as u64);
    room.u64(first.0);
    room.u64(last.0);
    xxh3_64_with_seed(&name, identity.seed)
}

impl Table {
    pub fn new<V: Volume>(files: &Files<V>, name: String, header: TableHeader) -> Self {
        let seed = page_seed(header.kind, header.first, header.last, files.identity);
        Self { name, header, seed, id: files.next_table() }
    }

    /// Opens the table in file `name`: one read.
    pub async fn open<V: Volume>(files: &Files<V>, name: &str) -> Result<Self, Error> {
        let lease = files.read(name, 0, BLOCK).await?;
        let header = TableHeader::decode(&lease.bytes()[..BLOCK], files.identity);
        let header = header.map_err(|reason| Error::damaged(name, 0, reason))?;
        Ok(Self::new(files, name.to_owned(), header))
    }

    /// What it takes on the volume.
    pub fn bytes(&self) -> u64 {
        bytes_for(self.header.entries)
    }

    /// The entries of `first..=last`, ascending.
    pub async fn range<V: Volume>(
        &self,
        files: &Files<V>,
        first: u32,
        last: u32,
    ) -> Result<Vec<Entry>, Error> {
        let Some(leaves) = self.header.levels.first() else { return Ok(Vec::new()) };
        let from = self.leaf_of(files, first).await?;
        let to = self.leaf_of(files, last).await?.max(from);
        let mut found = Vec::new();
        for (number, page) in self.leaves(files, leaves.start + from..=leaves.start + to).await? {
            for entry in page::entries(&page) {
                let entry = entry.ok_or_else(|| self.damaged(number, "an entry is impossible"))?;
                if (first..=last).contains(&entry.chunk) {
                    found.push(entry);
                }
            }
        }
        Ok(found)
    }

    /// The leaf in which `chunk` would be, counted from the first leaf.
    async fn leaf_of<V: Volume>(&self, files: &Files<V>, chunk: u32) -> Result<u32, Error> {
        let mut child = 0;
        for (level, place) in self.header.levels.iter().enumerate().skip(1).rev() {
            // A page that a damaged one would lead to does not exist.
            let number = place.start + child.min(place.pages - 1);
            let page = self.page(files, number, u8::try_from(level).unwrap_or(u8::MAX)).await?;
            let within = u32::try_from(page::child_of(&page, chunk)).unwrap_or(0);
            child = child * u32::try_from(INNER_KEYS).unwrap_or(u32::MAX) + within;
        }
        let leaves = self.header.levels.first().map_or(0, |leaves| leaves.pages);
        Ok(child.min(leaves.saturating_sub(1)))
    }

    async fn page<V: Volume>(&self, files: &Files<V>, number: u32, level: u8) -> Result<Page, Error> {
        if let Some(page) = files.cached((self.id, number)) {
            return Ok(page);
        }
        let lease = files.read(&self.name, block_offset(number), BLOCK).await?;
        self.keep(files, number, level, &lease.bytes()[..BLOCK])
    }

    fn keep<V: Volume>(&self, files: &Files<V>, number: u32, level: u8, bytes: &[u8]) -> Result<Page, Error> {
        page::check(bytes, number, level, self.seed).map_err(|reason| self.damaged(number, reason))?;
        let page = Page::from(bytes);
        files.cache((self.id, number), &page);
        Ok(page)
    }

    fn damaged(&self, number: u32, reason: &str) -> Error {
        Error::damaged(&self.name, block_offset(number), reason)
    }

    /// Neighbouring leaves, those not in memory with as few reads as possible.
    async fn leaves<V: Volume>(
        &self,
        files: &Files<V>,
        numbers: std::ops::RangeInclusive<u32>,
    ) -> Result<Vec<(u32, Page)>, Error> {
        let (mut at, end) = (*numbers.start(), *numbers.end());
        let mut pages = Vec::new();
        while at <= end {
            if let Some(page) = files.cached((self.id, at)) {
                pages.push((at, page));
                at += 1;
                continue;
            }
            let most = u32::try_from(RUN_BYTES / BLOCK).unwrap_or(1);
            let missing = (at..=end).take_while(|number| files.cached((self.id, *number)).is_none());
            let missing = missing.take(to_usize(u64::from(most))).count();
            let lease = files.read(&self.name, block_offset(at), missing * BLOCK).await?;
            for bytes in lease.bytes()[..missing * BLOCK].chunks_exact(BLOCK) {
                pages.push((at, self.keep(files, at, 0, bytes)?));
                at += 1;
            }
        }
        Ok(pages)
    }

    /// The entries of some leaves, past the cache: for whoever reads all of them.
    /// `first` counts from the first leaf; empty past the last.
    pub async fn read_leaves<V: Volume>(
        &self,
        files: &Files<V>,
        first: u32,
        count: u32,
    ) -> Result<Vec<Entry>, Error> {
        let leaves = self.header.levels.first().copied().unwrap_or_default();
        let count = count.min(leaves.pages.saturating_sub(first));
        if count == 0 {
            return Ok(Vec::new());
        }
        let number = leaves.start + first;
        let length = to_usize(u64::from(count)) * BLOCK;
        let lease = files.read(&self.name, block_offset(number), length).await?;
        let mut found = Vec::with_capacity(to_usize(u64::from(count)) * LEAF_ENTRIES);
        for (number, bytes) in (number..).zip(lease.bytes()[..length].chunks_exact(BLOCK)) {
            page::check(bytes, number, 0, self.seed).map_err(|reason| self.damaged(number, reason))?;
            for entry in page::entries(bytes) {
                found.push(entry.ok_or_else(|| self.damaged(number, "an entry is impossible"))?);
            }
        }
        Ok(found)
    }
}
