//! Single records and pages, read out of their files: for looking at what is left
//! of a damaged journal, and for fuzzing.
//!
//! With `seed` their checksums are verified; without, what they seem to say is
//! read as far as it makes sense.

use super::files::Identity;
use super::page;
use super::record::{FRAME_BYTES, Frame};
use super::scan::{Placed, Record};
use super::table::TableHeader;
use super::view::{EntrySummary, RecordSummary};
use super::{LogPosition, Pair};
use crate::unit::to_usize;

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
