//! Single records and pages, read out of their files: for looking at what is left
//! of a damaged journal, and for fuzzing.
//!
//! With `seed` their checksums are verified; without, what they seem to say is
//! read as far as it makes sense.

use super::digests::{DigestPage, FIRST_PAGE, Header, is_whole};
use super::files::Identity;
use super::page;
use super::record::{FRAME_BYTES, Frame};
use super::scan::{Placed, Record};
use super::table::{TableHeader, page_seed};
use super::view::{EntrySummary, RecordSummary};
use super::{LogPosition, Pair};
use crate::unit::{Digest, Epoch, to_usize};

pub use super::digests::PAGE_DIGESTS;
pub use super::record::{BLOCK, HEAD_BYTES_MAX, MAGIC as RECORD_MAGIC};

/// Pages before the first one of digests.
pub const DIGEST_HEADERS: u64 = FIRST_PAGE;

/// The seed of a pair's checksums.
#[must_use]
pub fn seed(pair: &Pair) -> u64 {
    pair.seed()
}

/// The record at the start of `bytes`.
#[must_use]
pub fn record(bytes: &[u8], seed: Option<u64>) -> Option<RecordSummary> {
    let (frame, previous, body) = match seed {
        Some(seed) => Frame::open(bytes, seed)?,
        None => {
            let frame = Frame::peek(bytes)?;
            let body = bytes.get(FRAME_BYTES..to_usize(u64::from(frame.head_bytes)))?;
            (frame, 0, body)
        }
    };
    let record = Record::decode(&frame, body)?;
    let next = LogPosition { previous, ..frame.at };
    Some(Placed { frame, record, next }.into())
}

/// The entries of a leaf of an index.
///
/// # Errors
/// What is wrong with it, in words.
pub fn leaf(bytes: &[u8], seed: Option<u64>) -> Result<Vec<EntrySummary>, &'static str> {
    let header = page::read_header(bytes, seed)?;
    if header.level != 0 {
        return Err("it is an inner page");
    }
    let entries = page::entries(bytes).map(|entry| entry.as_ref().map(EntrySummary::from));
    entries.collect::<Option<_>>().ok_or("an entry is impossible")
}

/// Page 0 of an index.
///
/// # Errors
/// What is wrong with it, in words.
pub fn table_header(bytes: &[u8], seed: Option<u64>, incarnation: u64) -> Result<TableHeader, &'static str> {
    match seed {
        Some(seed) => TableHeader::decode(bytes, Identity { seed, incarnation }),
        None => TableHeader::decode_fields(bytes, incarnation).ok_or("its header is impossible"),
    }
}

/// The incarnation that page 0 of an index names.
#[must_use]
pub fn incarnation(bytes: &[u8]) -> Option<u64> {
    bytes.get(16..24)?.try_into().ok().map(u64::from_le_bytes)
}

/// The seed of the pages of an index.
#[must_use]
pub fn leaf_seed(pair: &Pair, header: &TableHeader) -> u64 {
    let identity = Identity { seed: pair.seed(), incarnation: pair.generation.incarnation };
    page_seed(header.kind, header.first, header.last, identity)
}

/// As [`leaf`], of the page `number` of its file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn leaf_at(bytes: &[u8], number: u32, seed: Option<u64>) -> Result<Vec<EntrySummary>, &'static str> {
    if page::read_header(bytes, seed)?.number != number {
        return Err("it is another page");
    }
    leaf(bytes, seed)
}

/// Page 0 or 1 of the digest file: the chunks that it has room for, and the epoch
/// up to which it is right.
#[must_use]
pub fn digest_header(bytes: &[u8], seed: Option<u64>) -> Option<(u64, Epoch)> {
    let header = match seed {
        Some(seed) => Header::decode(bytes, seed),
        None => Header::decode_fields(bytes).map(|(header, _)| header),
    };
    header.map(|header| (header.chunks, header.applied))
}

/// Page `number` of the digests, counted from the first one of digests; `None`
/// where it is not whole.
#[must_use]
pub fn digest_page(bytes: &[u8], number: u64, seed: Option<u64>) -> Option<Vec<Option<Digest>>> {
    let is_empty = bytes.iter().all(|byte| *byte == 0);
    let is_good = bytes.len() == BLOCK && seed.is_none_or(|seed| is_empty || is_whole(bytes, number, seed));
    let mut page = bytes.to_vec();
    let page = is_good.then_some(DigestPage(&mut page))?;
    Some((0..to_usize(PAGE_DIGESTS)).map(|index| page.get(index)).collect())
}
