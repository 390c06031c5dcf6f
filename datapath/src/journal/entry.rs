//! What is known of one chunk in one epoch: 48 bytes, in batches and indexes alike.
//!
//! ```text
//!  0  4  chunk
//!  4  4  segment of its before-image, else zero
//!  8  4  where the image begins in that segment, else zero
//! 12  4  bytes of the packed image (24 bits), kind (7 bits), new digest unknown (1 bit)
//! 16 16  digest of what was overwritten, else zero
//! 32 16  digest of what it holds now, else zero
//! ```
//!
//! Kinds: 1 raw, 2 lz4, 3 zeroes, 4 touched before in this epoch, 5 not kept. In a
//! batch the image's place counts from the record's payload, and its segment is zero.

use serde::Serialize;

use super::field::{Fields, Room};
use crate::pipeline::Codec;
use crate::unit::Digest;

/// Size of an entry.
pub(super) const ENTRY_BYTES: usize = 48;

const UNKNOWN: u32 = 1 << 31;
const LENGTH_MASK: u32 = (1 << 24) - 1;

/// Where a packed before-image lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Number of the segment.
    pub segment: u32,
    /// Its first byte there.
    pub position: u32,
    /// Bytes, packed.
    pub length: u32,
    /// Whether they are an lz4 block or the chunk itself.
    pub packed: bool,
}

impl Place {
    pub(super) const fn codec(self) -> Codec {
        if self.packed { Codec::Lz4 } else { Codec::Raw }
    }
}

/// What a chunk held before its first change in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Before {
    /// The image that lies there.
    Stored(Place),
    /// Zeroes.
    Zero,
    /// An earlier entry of this epoch says it.
    Told,
    /// Nobody kept it: there was no point to go back to.
    Unkept,
}

/// One chunk in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The chunk's number.
    pub chunk: u32,
    /// What it held.
    pub before: Before,
    /// Digest of that; zero where it is not kept.
    pub old: Digest,
    /// Digest of what it holds now; `None` where a crash left that open.
    pub new: Option<Digest>,
}

impl Entry {
    pub(super) fn encode(&self, into: &mut [u8]) {
        let (kind, segment, position, length) = match self.before {
            Before::Stored(place) => {
                (if place.packed { 2 } else { 1 }, place.segment, place.position, place.length & LENGTH_MASK)
            }
            Before::Zero => (3, 0, 0, 0),
            Before::Told => (4, 0, 0, 0),
            Before::Unkept => (5, 0, 0, 0),
        };
        let unknown = if self.new.is_none() { UNKNOWN } else { 0 };
        let mut room = Room::new(into);
        room.u32(self.chunk);
        room.u32(segment);
        room.u32(position);
        room.u32(length | kind << 24 | unknown);
        room.put(&self.old.0);
        room.put(&self.new.map_or([0; Digest::BYTES], |digest| digest.0));
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let (chunk, segment, position) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let shape = fields.u32()?;
        let length = shape & LENGTH_MASK;
        let before = match (shape & !UNKNOWN) >> 24 {
            kind @ (1 | 2) => Before::Stored(Place { segment, position, length, packed: kind == 2 }),
            _ if segment != 0 || position != 0 || length != 0 => return None,
            3 => Before::Zero,
            4 => Before::Told,
            5 => Before::Unkept,
            _ => return None,
        };
        let old = Digest(fields.array()?);
        let new = Digest(fields.array()?);
        Some(Self { chunk, before, old, new: (shape & UNKNOWN == 0).then_some(new) })
    }
}
