//! The digest file: what each chunk of the target held at the newest point.
//!
//! ```text
//! page 0, page 1   "FBDIGEST", version (2), zero (6), chunks (8), applied up to
//!                  epoch (8), checksum of the 32 bytes before (8); zeroes.
//!                  Written in turn, so that one of them is always whole.
//! page 2…          checksum (8), number of the page (8), which digests are
//!                  known, a bit each (32), zero (16), 252 digests of 16 bytes
//! ```
//!
//! A page of zeroes knows nothing. A page whose checksum does not fit knows
//! nothing either: whoever needs a digest then reads the target, so a page that a
//! crash tore costs time, never truth.

use std::ops::Range;
use std::rc::Rc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::field::{Fields, Room};
use super::files::{Files, Lease};
use super::record::BLOCK;
use super::{Error, Volume, VolumeFile};
use crate::unit::{Digest, Epoch, to_u64, to_usize};

/// Its name.
pub(super) const FILE: &str = "digests";
const MAGIC: [u8; 8] = *b"FBDIGEST";
const VERSION: u16 = 1;
const PAGE_HEADER: usize = 64;
/// Digests of a page.
pub const PAGE_DIGESTS: u64 = ((BLOCK - PAGE_HEADER) / Digest::BYTES) as u64;
pub(super) const FIRST_PAGE: u64 = 2;
/// Pages that are read and changed at once: 64 KiB, so that scattered changes do
/// not read the file, and neighbours still share an operation.
const PAGES_AT_ONCE: u64 = 16;

/// A page of digests.
pub(super) struct DigestPage<'a>(pub(super) &'a mut [u8]);

impl<'a> DigestPage<'a> {
    /// A page as it was read; emptied where it is not the whole page `number`.
    pub fn open(bytes: &'a mut [u8], number: u64, seed: u64) -> Self {
        if !is_whole(bytes, number, seed) {
            bytes.fill(0);
        }
        Self(bytes)
    }

    pub fn get(&self, index: usize) -> Option<Digest> {
        let known = self.0[16 + index / 8] >> (index % 8) & 1 == 1;
        let digest = self.0.get(PAGE_HEADER + index * Digest::BYTES..)?.first_chunk()?;
        known.then_some(Digest(*digest))
    }

    pub fn set(&mut self, index: usize, digest: Option<Digest>) {
        let (byte, bit) = (16 + index / 8, 1 << (index % 8));
        let place = PAGE_HEADER + index * Digest::BYTES;
        let place = place..place + Digest::BYTES;
        if let Some(digest) = digest {
            self.0[byte] |= bit;
            self.0[place].copy_from_slice(&digest.0);
        } else {
            self.0[byte] &= !bit;
            self.0[place].fill(0);
        }
    }

    pub fn seal(self, number: u64, seed: u64) {
        let mut room = Room::new(self.0);
        room.u64(0);
        room.u64(number);
        let checksum = xxh3_64_with_seed(&self.0[8..], seed);
        Room::new(self.0).u64(checksum);
    }
}

pub(super) fn is_whole(bytes: &[u8], number: u64, seed: u64) -> bool {
    let mut fields = Fields::new(bytes);
    let (checksum, named) = (fields.u64(), fields.u64());
    bytes.len() == BLOCK && named == Some(number) && checksum == Some(xxh3_64_with_seed(&bytes[8..], seed))
}

/// Pages 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub chunks: u64,
    pub applied: Epoch,
}

impl Header {
    fn encode(self, into: &mut [u8], seed: u64) {
        into.fill(0);
        let mut room = Room::new(into);
        room.put(&MAGIC);
        room.u16(VERSION);
        room.put(&[0; 6]);
        room.u64(self.chunks);
        room.u64(self.applied.0);
        let checksum = xxh3_64_with_seed(&into[..32], seed);
        into[32..40].copy_from_slice(&checksum.to_le_bytes());
    }

    pub fn decode(bytes: &[u8], seed: u64) -> Option<Self> {
        let (header, checksum) = Self::decode_fields(bytes)?;
        (xxh3_64_with_seed(bytes.get(..32)?, seed) == checksum).then_some(header)
    }

    /// Reads it whatever its checksum, and that.
    pub fn decode_fields(bytes: &[u8]) -> Option<(Self, u64)> {
        let mut fields = Fields::new(bytes);
        if fields.array()? != MAGIC || fields.u16()? != VERSION {
            return None;
        }
        fields.bytes(6)?;
        let header = Self { chunks: fields.u64()?, applied: Epoch(fields.u64()?) };
        Some((header, fields.u64()?))
    }
}

/// The digest file of a journal.
pub(super) struct DigestFile<V: Volume> {
    file: Rc<V::File>,
    chunks: u64,
    /// Everything up to this epoch is in it.
    pub applied: Epoch,
    /// Which of pages 0 and 1 was written last.
    copy: u64,
    /// Names its pages in memory.
    id: u64,
}

impl<V: Volume> DigestFile<V> {
    pub const fn bytes_for(chunks: u64) -> u64 {
        (FIRST_PAGE + chunks.div_ceil(PAGE_DIGESTS)) * to_u64(BLOCK)
    }

    /// A new file that knows nothing, durable but for its name.
    pub async fn create(files: &Files<V>, chunks: u64) -> Result<Self, Error> {
        let file = files.create(FILE, Self::bytes_for(chunks))?;
        let mut digests = Self { file, chunks, applied: Epoch(0), copy: 1, id: files.next_table() };
        digests.finish(files, Epoch(0)).await?;
        digests.flush().await?;
        Ok(digests)
    }

    /// Opens the file.
    pub async fn open(files: &Files<V>, chunks: u64, writable: bool) -> Result<Self, Error> {
        let opened = files.volume.open(FILE, writable);
        let file = Rc::new(opened.map_err(|source| Error::file(FILE, "open", source))?);
        let mut lease = files.lease()?;
        let read = lease.read(&*file, 0, 2 * BLOCK).await;
        read.map_err(|source| Error::file(FILE, "read", source))?;
        let header = |page: usize| Header::decode(&lease.bytes()[page * BLOCK..], files.identity.seed);
        let copies = [(0, header(0)), (1, header(1))];
        let whole = copies.into_iter().filter_map(|(copy, header)| Some((copy, header?)));
        let newest =
            whole.filter(|(_, header)| header.chunks == chunks).max_by_key(|(_, header)| header.applied);
        let Some((copy, Header { applied, .. })) = newest else {
            return Err(Error::damaged(FILE, 0, "neither of its headers is whole"));
        };
        Ok(Self { file, chunks, applied, copy, id: files.next_table() })
    }

    /// Digests of `first..first + count`, within the disk.
    pub async fn read(&self, files: &Files<V>, first: u64, count: u64) -> Result<Vec<Option<Digest>>, Error> {
        let mut found = Vec::with_capacity(to_usize(count));
        let (mut chunk, end) = (first, first.saturating_add(count).min(self.chunks));
        while chunk < end {
            let page = chunk / PAGE_DIGESTS;
            let stop = ((page + 1) * PAGE_DIGESTS).min(end);
            let mut bytes = self.page(files, page).await?;
            let page = DigestPage(&mut bytes);
            found.extend((chunk..stop).map(|chunk| page.get(to_usize(chunk % PAGE_DIGESTS))));
            chunk = stop;
        }
        Ok(found)
    }

    async fn page(&self, files: &Files<V>, number: u64) -> Result<Vec<u8>, Error> {
        let key = (self.id, u32::try_from(number).unwrap_or(u32::MAX));
        if let Some(page) = files.cached(key) {
            return Ok(page.to_vec());
        }
        let mut lease = files.lease()?;
        let read = lease.read(&*self.file, (FIRST_PAGE + number) * to_u64(BLOCK), BLOCK).await;
        read.map_err(|source| Error::file(FILE, "read", source))?;
        let bytes = &mut lease.bytes_mut()[..BLOCK];
        DigestPage::open(bytes, number, files.identity.seed);
        files.cache(key, &Rc::from(&*bytes));
        Ok(bytes.to_vec())
    }

    /// Takes in entries, ascending; [`Update::end`] writes the last of them.
    pub fn update<'a>(&'a self, files: &'a Files<V>) -> Result<Update<'a, V>, Error> {
        let (lease, spare) = (files.lease()?, files.lease()?);
        Ok(Update { digests: self, files, lease, spare, loaded: None, changed: None })
    }

    /// Makes what was taken in durable, and says up to which epoch it goes.
    pub async fn finish(&mut self, files: &Files<V>, applied: Epoch) -> Result<(), Error> {
        self.flush().await?;
        let mut lease = files.lease()?;
        Header { chunks: self.chunks, applied }.encode(&mut lease.bytes_mut()[..BLOCK], files.identity.seed);
        // In turn, so that a crash never has both in hand. It becomes durable with the
        // next flush: until then the epoch would only be taken in once more.
        self.copy = 1 - self.copy;
        let written = lease.write(&*self.file, self.copy * to_u64(BLOCK), 0..BLOCK).await;
        written.map_err(|source| Error::file(FILE, "write", source))?;
        self.applied = applied;
        Ok(())
    }

    /// Makes what was taken in durable.
    pub async fn flush(&self) -> Result<(), Error> {
        self.file.flush().await.map_err(|source| Error::file(FILE, "flush", source))
    }

    /// What it takes.
    pub const fn bytes(&self) -> u64 {
        Self::bytes_for(self.chunks)
    }
}

/// Changes to the digest file, in the order of chunks.
pub(super) struct Update<'a, V: Volume> {
    digests: &'a DigestFile<V>,
    files: &'a Files<V>,
    lease: Lease<'a>,
    /// The pages before those in hand, while they are written.
    spare: Lease<'a>,
    /// The pages in hand: the first, and how many.
    loaded: Option<(u64, u64)>,
    /// The first and the last of them that were changed.
    changed: Option<(u64, u64)>,
}

impl<V: Volume> Update<'_, V> {
    /// `chunk` holds what has this digest, if that is known.
    pub async fn put(&mut self, chunk: u64, digest: Option<Digest>) -> Result<(), Error> {
        if chunk >= self.digests.chunks {
            return Err(Error::Unfit { what: "a digest", reason: format!("chunk {chunk} is past the disk") });
        }
        let page = chunk / PAGE_DIGESTS;
        let first = match self.loaded {
            Some((first, count)) if (first..first + count).contains(&page) => first,
            _ => self.load(page).await?,
        };
        self.changed = Some((self.changed.map_or(page, |(first, _)| first), page));
        let start = to_usize(page - first) * BLOCK;
        let mut page = DigestPage(&mut self.lease.bytes_mut()[start..start + BLOCK]);
        page.set(to_usize(chunk % PAGE_DIGESTS), digest);
        Ok(())
    }

    /// Reads the pages around `page`, while those that were in hand are written.
    async fn load(&mut self, page: u64) -> Result<u64, Error> {
        let first = page / PAGES_AT_ONCE * PAGES_AT_ONCE;
        let count = (self.digests.chunks.div_ceil(PAGE_DIGESTS) - first).min(PAGES_AT_ONCE);
        let length = to_usize(count) * BLOCK;
        let (position, range) = self.seal();
        std::mem::swap(&mut self.lease, &mut self.spare);
        let file = &*self.digests.file;
        let write =
            async { if range.is_empty() { Ok(()) } else { self.spare.write(file, position, range).await } };
        let read = self.lease.read(file, (FIRST_PAGE + first) * to_u64(BLOCK), length);
        let (written, read) = tokio::join!(write, read);
        written.map_err(|source| Error::file(FILE, "write", source))?;
        read.map_err(|source| Error::file(FILE, "read", source))?;
        for (number, bytes) in (first..).zip(self.lease.bytes_mut()[..length].chunks_exact_mut(BLOCK)) {
            DigestPage::open(bytes, number, self.files.identity.seed);
        }
        self.loaded = Some((first, count));
        Ok(first)
    }

    /// Puts the pages in hand away: where those that changed are to be written,
    /// and which bytes of the buffer they are.
    fn seal(&mut self) -> (u64, Range<usize>) {
        let Some(((loaded, _), (first, last))) = self.loaded.take().zip(self.changed.take()) else {
            return (0, 0..0);
        };
        let range = to_usize(first - loaded) * BLOCK..to_usize(last + 1 - loaded) * BLOCK;
        let pages = self.lease.bytes_mut()[range.clone()].chunks_exact_mut(BLOCK);
        for (number, bytes) in (first..).zip(pages) {
            DigestPage(bytes).seal(number, self.files.identity.seed);
            self.files.uncache((self.digests.id, u32::try_from(number).unwrap_or(u32::MAX)));
        }
        ((FIRST_PAGE + first) * to_u64(BLOCK), range)
    }

    /// Writes the last pages.
    pub async fn end(mut self) -> Result<(), Error> {
        let (position, range) = self.seal();
        if range.is_empty() {
            return Ok(());
        }
        let written = self.lease.write(&*self.digests.file, position, range).await;
        written.map_err(|source| Error::file(FILE, "write", source))
    }
}
