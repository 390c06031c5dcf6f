//! The frame of every record in a segment.
//!
//! A record is a head (this frame and a body), zeroes up to the next 4 KiB, and
//! for a batch its packed before-images, again up to the next 4 KiB:
//!
//! ```text
//!  0  8  "FBRECORD"
//!  8  1  version 1
//!  9  1  kind: 1 segment, 2 batch, 3 landed, 4 point, 5 rolled back
//! 10  2  zero
//! 12  4  bytes of the head, this frame included
//! 16  4  bytes of the payload
//! 20  4  number of the segment
//! 24  4  where the record begins in it
//! 28  4  everything in this segment before this byte was flushed when it was written
//! 32  8  sequence of records, from 1
//! 40  8  session: grows each time a journal is opened to be written
//! 48  8  incarnation
//! 56  8  epoch that was open
//! 64  8  checksum of the head of the record before
//! 72  8  checksum of the payload
//! 80  8  checksum of the head, with this field zero
//! 88  …  body
//! ```
//!
//! Checksums are xxh3-64 with a seed made of the pair's secret key: they cost a
//! twentieth of a memory copy, and no block of the protected disk can pass for a
//! record. Each record names the checksum of the one before, so that what a
//! crash left behind a record that was lost never continues a later one.

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::field::{Fields, Room};
use crate::limits;
use crate::unit::{Epoch, to_u64, to_usize};

/// Records and their payloads begin at multiples of this, which is what direct
/// I/O asks for on every device.
pub const BLOCK: usize = 4096;
/// The frame.
pub(super) const FRAME_BYTES: usize = 88;
/// The longest head: a batch's.
pub const HEAD_BYTES_MAX: usize =
    (FRAME_BYTES + 16 + limits::BATCH_CHUNKS_MAX * super::entry::ENTRY_BYTES).next_multiple_of(BLOCK);

/// What every record begins with.
pub const MAGIC: [u8; 8] = *b"FBRECORD";
/// Of records, and of nothing else.
pub(super) const VERSION: u8 = 1;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// A segment begins.
    Segment = 1,
    /// Before-images.
    Batch = 2,
    /// The target was flushed.
    Landed = 3,
    /// A recovery point.
    Point = 4,
    /// The open epoch was undone.
    RolledBack = 5,
}

impl RecordKind {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Segment),
            2 => Some(Self::Batch),
            3 => Some(Self::Landed),
            4 => Some(Self::Point),
            5 => Some(Self::RolledBack),
            _ => None,
        }
    }
}

/// Where the log goes on, and what its next record continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LogPosition {
    /// Number of the segment; from 1.
    pub segment: u32,
    /// Byte in it.
    pub position: u32,
    /// Sequence of the next record.
    pub sequence: u64,
    /// Checksum of the head of the last record.
    pub previous: u64,
    /// Session of the last record.
    pub session: u64,
}

/// The frame of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// What it says.
    pub kind: RecordKind,
    /// Bytes of frame and body.
    pub head_bytes: u32,
    /// Bytes of the packed images.
    pub payload_bytes: u32,
    /// Where it lies, and what it continues.
    #[serde(flatten)]
    pub at: LogPosition,
    /// What was flushed before it, in its segment.
    pub proven: u32,
    /// Of the journal.
    pub incarnation: u64,
    /// The open epoch.
    pub epoch: Epoch,
    /// Of the payload.
    pub payload_checksum: u64,
}

impl Frame {
    /// Bytes from the record's beginning to its payload.
    pub(super) const fn payload_offset(&self) -> u32 {
        self.head_bytes.next_multiple_of(4096)
    }

    /// Bytes of the whole record, padding included.
    #[must_use]
    pub const fn record_bytes(&self) -> u32 {
        self.payload_offset() + self.payload_bytes.next_multiple_of(4096)
    }

    /// Writes the frame before the body that `head` holds already, and returns
    /// the checksum of the head.
    pub(super) fn seal(&self, head: &mut [u8], seed: u64) -> u64 {
        self.put(head, 0);
        let checksum = xxh3_64_with_seed(head, seed);
        self.put(head, checksum);
        checksum
    }

    fn put(&self, head: &mut [u8], checksum: u64) {
        let mut room = Room::new(head);
        room.put(&MAGIC);
        room.u8(VERSION);
        room.u8(self.kind as u8);
        room.u16(0);
        room.u32(self.head_bytes);
        room.u32(self.payload_bytes);
        room.u32(self.at.segment);
        room.u32(self.at.position);
        room.u32(self.proven);
        room.u64(self.at.sequence);
        room.u64(self.at.session);
        room.u64(self.incarnation);
        room.u64(self.epoch.0);
        room.u64(self.at.previous);
        room.u64(self.payload_checksum);
        room.u64(checksum);
    }

    /// Reads the frame at the start of `bytes`, without its checksum: only its
    /// lengths are sound. `None` where there is none, or of another version.
    pub(super) fn peek(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        if fields.array()? != MAGIC || fields.u8()? != VERSION {
            return None;
        }
        let kind = RecordKind::from_number(fields.u8()?)?;
        if fields.u16()? != 0 {
            return None;
        }
        let (head_bytes, payload_bytes) = (fields.u32()?, fields.u32()?);
        let head_fits = (FRAME_BYTES..=HEAD_BYTES_MAX).contains(&to_usize(u64::from(head_bytes)));
        let payload_fits = u64::from(payload_bytes) <= to_u64(limits::BATCH_IMAGE_BYTES_MAX)
            && (payload_bytes == 0 || kind == RecordKind::Batch);
        if !head_fits || !payload_fits {
            return None;
        }
        let (segment, position, proven) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (sequence, session, incarnation) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (epoch, previous, payload_checksum) = (Epoch(fields.u64()?), fields.u64()?, fields.u64()?);
        fields.u64()?;
        let at = LogPosition { segment, position, sequence, previous, session };
        Some(Self { kind, head_bytes, payload_bytes, at, proven, incarnation, epoch, payload_checksum })
    }

    /// Reads a head: its frame, the checksum of the head, and its body. `None`
    /// where `head` is anything but the whole head of a record.
    pub(super) fn open(head: &[u8], seed: u64) -> Option<(Self, u64, &[u8])> {
        let frame = Self::peek(head)?;
        let head = head.get(..to_usize(u64::from(frame.head_bytes)))?;
        let (fixed, body) = head.split_at_checked(FRAME_BYTES)?;
        let (covered, stored) = fixed.split_last_chunk::<8>()?;
        let mut hasher = xxhash_rust::xxh3::Xxh3::with_seed(seed);
        hasher.update(covered);
        hasher.update(&[0; 8]);
        hasher.update(body);
        let checksum = u64::from_le_bytes(*stored);
        (hasher.digest() == checksum).then_some((frame, checksum, body))
    }
}

/// The checksum of a payload.
pub(super) fn payload_checksum(payload: &[u8], seed: u64) -> u64 {
    if payload.is_empty() { 0 } else { xxh3_64_with_seed(payload, seed) }
}
