//! Pages of a table: 4 KiB, each with a checksum of its own.
//!
//! ```text
//!  0  8  checksum of bytes 8..4096
//!  8  4  number of the page in its file
//! 12  2  how many entries or keys follow
//! 14  1  level: 0 leaf, else inner
//! 15  1  version 1
//! 16  …  leaf: up to 85 entries of 48 bytes, ascending by chunk
//!        inner: up to 1020 keys of 4 bytes, the first chunk of each child
//! ```
//!
//! The checksum is xxh3-64; its seed is made of the pair's key and of what names
//! the table, so that a page of another file is found out.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::entry::{ENTRY_BYTES, Entry};
use super::field::{Fields, Room};
use super::record::BLOCK;

/// Entries of a leaf.
pub(super) const LEAF_ENTRIES: usize = (BLOCK - HEADER_BYTES) / ENTRY_BYTES;
/// Children of an inner page.
pub(super) const INNER_KEYS: usize = (BLOCK - HEADER_BYTES) / KEY_BYTES;

const HEADER_BYTES: usize = 16;
const KEY_BYTES: usize = 4;
const VERSION: u8 = 1;

/// What a page says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// Its place in the file.
    pub number: u32,
    /// Entries or keys in it.
    pub count: u16,
    /// Zero for a leaf.
    pub level: u8,
}

/// Writes the header and the checksum of a page that holds its entries or keys.
pub(super) fn seal(page: &mut [u8], header: PageHeader, seed: u64) {
    let mut room = Room::new(page);
    room.u64(0);
    room.u32(header.number);
    room.u16(header.count);
    room.u8(header.level);
    room.u8(VERSION);
    let checksum = xxh3_64_with_seed(&page[8..], seed);
    Room::new(page).u64(checksum);
}

/// Puts an entry into a leaf.
pub(super) fn put_entry(page: &mut [u8], index: usize, entry: &Entry) {
    let start = HEADER_BYTES + index * ENTRY_BYTES;
    entry.encode(&mut page[start..start + ENTRY_BYTES]);
}

/// Puts a key into an inner page.
pub(super) fn put_key(page: &mut [u8], index: usize, chunk: u32) {
    let start = HEADER_BYTES + index * KEY_BYTES;
    page[start..start + KEY_BYTES].copy_from_slice(&chunk.to_le_bytes());
}

/// Checks a page; says what is wrong with it.
pub(super) fn check(page: &[u8], number: u32, level: u8, seed: u64) -> Result<PageHeader, &'static str> {
    let header = read_header(page, Some(seed))?;
    if header.number != number || header.level != level {
        return Err("it is another page");
    }
    Ok(header)
}

/// Reads a page's header, whichever page it is; without `seed` whatever its checksum.
pub(super) fn read_header(page: &[u8], seed: Option<u64>) -> Result<PageHeader, &'static str> {
    let short = "it is no page";
    let mut fields = Fields::new(page);
    let checksum = fields.u64().ok_or(short)?;
    if page.len() != BLOCK {
        return Err(short);
    }
    if seed.is_some_and(|seed| xxh3_64_with_seed(&page[8..], seed) != checksum) {
        return Err("its checksum does not fit");
    }
    let number = fields.u32().ok_or(short)?;
    let count = fields.u16().ok_or(short)?;
    let (level, version) = (fields.u8().ok_or(short)?, fields.u8().ok_or(short)?);
    if version != VERSION {
        return Err("it is of another version");
    }
    let most = if level == 0 { LEAF_ENTRIES } else { INNER_KEYS };
    if count == 0 || usize::from(count) > most {
        return Err("its count is impossible");
    }
    Ok(PageHeader { number, count, level })
}

/// The entries of a checked leaf; `None` where one is no entry.
pub(super) fn entries(page: &[u8]) -> impl Iterator<Item = Option<Entry>> + '_ {
    page[HEADER_BYTES..].chunks_exact(ENTRY_BYTES).take(count(page)).map(Entry::decode)
}

fn count(page: &[u8]) -> usize {
    page.get(12..14).map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
}

/// The last child of a checked inner page whose first chunk is not after `chunk`.
pub(super) fn child_of(page: &[u8], chunk: u32) -> usize {
    let keys = &page[HEADER_BYTES..].as_chunks::<KEY_BYTES>().0[..count(page).min(INNER_KEYS)];
    keys.partition_point(|key| u32::from_le_bytes(*key) <= chunk).saturating_sub(1)
}
